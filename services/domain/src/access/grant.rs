//! Grants: what a principal may do, and where.

use std::collections::BTreeMap;
use std::fmt;

use super::pattern::Pattern;
use super::token::TokenId;
use super::verb::VerbSet;
use crate::{Principal, ShortText};

/// Identifier of a grant: the text that its creator chose, or `settings:<number>` for one of the settings file.
pub type GrantId = ShortText;

/// Holder of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// The owner of an API token.
    Token(TokenId),
    /// One subject of an issuer.
    Subject {
        /// URL of the issuer, or [`Principal::PROXY`].
        issuer: ShortText,
        /// Subject.
        subject: ShortText,
    },
    /// Every principal of an issuer with these claims.
    Claims {
        /// URL of the issuer.
        issuer: ShortText,
        /// Patterns of claims, by name. Each has to match.
        claims: BTreeMap<Box<str>, Pattern>,
    },
}

impl Grantee {
    /// Returns true if a principal is the grantee.
    #[must_use]
    pub fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Token(id) => {
                principal.issuer.as_str() == Principal::TOKENS && principal.subject.as_str() == id.as_str()
            }
            Self::Subject { issuer, subject } => principal.issuer == *issuer && principal.subject == *subject,
            Self::Claims { issuer, claims } => {
                let claim = |name: &str| principal.claims.get(name).map(ShortText::as_str);
                principal.issuer == *issuer
                    && !claims.is_empty()
                    && claims
                        .iter()
                        .all(|(name, pattern)| claim(name).is_some_and(|value| pattern.matches(value)))
            }
        }
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "token {id}"),
            Self::Subject { issuer, subject } => write!(f, "{subject} of {issuer}"),
            Self::Claims { issuer, claims } => {
                let claims: Vec<_> = claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "{} of {issuer}", claims.join(", "))
            }
        }
    }
}

/// Permission of a grantee to do something in some environments of some tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Identifier.
    pub id: GrantId,
    /// Who has it.
    pub grantee: Grantee,
    /// Pattern of tenants.
    pub tenant: Pattern,
    /// Patterns of environments: one has to match.
    pub environments: Vec<Pattern>,
    /// Patterns of services: one has to match.
    pub services: Vec<Pattern>,
    /// Verbs.
    pub verbs: Vec<VerbSet>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrincipalKind;

    fn text(text: &str) -> ShortText {
        ShortText::parse(text).expect("a text")
    }

    fn principal(issuer: &str, subject: &str, claims: &[(&str, &str)]) -> Principal {
        Principal {
            kind: PrincipalKind::Workload,
            issuer: text(issuer),
            subject: text(subject),
            name: text("ci"),
            claims: claims.iter().map(|(name, value)| ((*name).into(), text(value))).collect(),
        }
    }

    #[test]
    fn a_token_of_the_ledger_is_not_a_subject_of_that_name_elsewhere() {
        let token = TokenId::parse("00112233aabbccdd").expect("an id");
        let grantee = Grantee::Token(token.clone());
        assert!(grantee.is(&principal(Principal::TOKENS, token.as_str(), &[])));
        assert!(!grantee.is(&principal("https://issuer.example", token.as_str(), &[])));
    }

    #[test]
    fn every_claim_of_a_grantee_has_to_match() {
        let claims = |claims: &[(&str, &str)]| Grantee::Claims {
            issuer: text("https://ci.example"),
            claims: claims
                .iter()
                .map(|(name, value)| ((*name).into(), Pattern::parse(value).expect("a pattern")))
                .collect(),
        };
        let workload =
            principal("https://ci.example", "s", &[("repository_id", "7"), ("ref", "refs/heads/main")]);
        assert!(claims(&[("repository_id", "7")]).is(&workload));
        assert!(claims(&[("repository_id", "7"), ("ref", "refs/heads/*")]).is(&workload));
        for other in [
            claims(&[]),
            claims(&[("repository_id", "70")]),
            claims(&[("repository_id", "7"), ("ref", "refs/tags/*")]),
            claims(&[("repository_id", "7"), ("environment", "*")]),
        ] {
            assert!(!other.is(&workload), "{other}");
        }
        assert!(!claims(&[("repository_id", "7")]).is(&principal(
            "https://other.example",
            "s",
            &[("repository_id", "7")]
        )));
    }
}
