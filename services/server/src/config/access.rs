//! Settings of access: who may use the service.

use std::collections::BTreeMap;

use axum::http::HeaderName;
use chrono::{DateTime, Utc};
use ledger_access::Directory;
use ledger_api::{Authentication, Authenticator, ProxySettings};
use ledger_domain::access::{Grant, Grantee, Pattern, SecretHash, TokenId, VerbSet};
use ledger_domain::{PrincipalKind, ShortText};
use serde::Deserialize;
use serde::de::Error as _;

/// Settings of access.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Whether clients need credentials.
    pub authentication: AuthenticationMode,
    #[serde(default)]
    administrators: Vec<Administrator>,
    #[serde(default)]
    grants: Vec<GrantSetting>,
    proxy: Option<Proxy>,
}

/// Whether clients need credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticationMode {
    /// Every request needs credentials, except those about health and documentation.
    Required,
    /// No request needs credentials: whoever reaches the port may do everything.
    Off,
}

impl AuthenticationMode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

/// Owner of an API token who may do everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Administrator {
    name: Parsed<ShortText>,
    kind: Parsed<PrincipalKind>,
    token: Parsed<TokenId>,
    hash: Parsed<SecretHash>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantSetting {
    grantee: GranteeSetting,
    tenant: Parsed<Pattern>,
    environments: Vec<Parsed<Pattern>>,
    services: Vec<Parsed<Pattern>>,
    verbs: Vec<Parsed<VerbSet>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum GranteeSetting {
    Token { token: Parsed<TokenId> },
    Subject { issuer: Parsed<ShortText>, subject: Parsed<ShortText> },
    Claims { issuer: Parsed<ShortText>, claims: BTreeMap<Box<str>, Parsed<Pattern>> },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proxy {
    secret_header: Parsed<HeaderName>,
    secret_hash: Parsed<SecretHash>,
    user_header: Parsed<HeaderName>,
}

/// A value that is parsed from text.
#[derive(Debug, Clone)]
struct Parsed<T>(T);

trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

impl<'de, T: FromText> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text).map(Self).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

macro_rules! from_text {
    ($($type:ty = $parse:expr;)+) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<Self, _> = $parse;
                parse(text).map_err(|error| error.to_string())
            }
        }
    )+};
}

from_text! {
    ShortText = ShortText::parse;
    TokenId = TokenId::parse;
    SecretHash = SecretHash::parse;
    Pattern = Pattern::parse;
    VerbSet = VerbSet::parse;
    HeaderName = |text| HeaderName::try_from(text);
    PrincipalKind = |text| PrincipalKind::named(text).ok_or("must be person, workload or local");
}

impl Access {
    /// Returns true if no client could be authenticated.
    pub(super) fn accepts_no_one(&self) -> bool {
        self.administrators.is_empty() && self.proxy.is_none()
    }

    /// Returns how the service authenticates its clients.
    #[must_use]
    pub fn authentication(&self, clock: fn() -> DateTime<Utc>) -> Authentication {
        if self.authentication == AuthenticationMode::Off {
            return Authentication::Off;
        }
        let mut directory = Directory::default();
        for Administrator { name, kind, token, hash } in &self.administrators {
            directory.add_administrator(token.0.clone(), hash.0, kind.0, name.0.clone());
        }
        for grant in &self.grants {
            directory.add_grant(grant.grant());
        }
        let proxy = self.proxy.as_ref().map(|proxy| ProxySettings {
            secret_header: proxy.secret_header.0.clone(),
            secret_hash: proxy.secret_hash.0,
            user_header: proxy.user_header.0.clone(),
        });
        Authentication::Required(Box::new(Authenticator::new(directory, None, proxy, clock)))
    }
}

impl GrantSetting {
    fn grant(&self) -> Grant {
        let patterns =
            |patterns: &[Parsed<Pattern>]| patterns.iter().map(|pattern| pattern.0.clone()).collect();
        Grant {
            // The directory numbers the grants of the settings.
            id: ShortText::parse("settings").expect("a word is a valid text"),
            grantee: match &self.grantee {
                GranteeSetting::Token { token } => Grantee::Token(token.0.clone()),
                GranteeSetting::Subject { issuer, subject } => {
                    Grantee::Subject { issuer: issuer.0.clone(), subject: subject.0.clone() }
                }
                GranteeSetting::Claims { issuer, claims } => Grantee::Claims {
                    issuer: issuer.0.clone(),
                    claims: claims.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
                },
            },
            tenant: self.tenant.0.clone(),
            environments: patterns(&self.environments),
            services: patterns(&self.services),
            verbs: self.verbs.iter().map(|verb| verb.0).collect(),
        }
    }
}
