//! The decision whether a principal may do something.

use std::fmt;

use ledger_domain::access::{Grant, GrantId, Pattern, Verb, VerbSet};
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, Principal, ServiceName, TenantName};

/// Part of a ledger that an action concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'n> {
    /// None: the action concerns nothing of the kind, such as a build, which is in no environment.
    Nothing,
    /// One.
    Named(&'n str),
    /// All, or any: the action is not limited to one.
    All,
}

impl Scope<'_> {
    /// Returns true if one of the patterns covers the whole scope.
    fn is_covered_by(self, patterns: &[Pattern]) -> bool {
        match self {
            Self::Nothing => true,
            Self::Named(name) => patterns.iter().any(|pattern| pattern.matches(name)),
            Self::All => patterns.iter().any(Pattern::matches_all),
        }
    }
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Named(name) => f.write_str(name),
            Self::All => f.write_str("all"),
        }
    }
}

/// Action that a principal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'n> {
    /// Action.
    pub verb: Verb,
    /// Tenant.
    pub tenant: &'n TenantName,
    /// Environment.
    pub environment: Scope<'n>,
    /// Service.
    pub service: Scope<'n>,
}

impl<'n> Question<'n> {
    /// Returns the question of an action on everything of a tenant.
    #[must_use]
    pub const fn everything(verb: Verb, tenant: &'n TenantName) -> Self {
        Self { verb, tenant, environment: Scope::All, service: Scope::All }
    }

    /// Returns the question of an action on an environment, and on one of its services if one is given.
    #[must_use]
    pub fn environment(
        verb: Verb,
        tenant: &'n TenantName,
        environment: &'n EnvironmentName,
        service: Option<&'n ServiceName>,
    ) -> Self {
        let service = service.map_or(Scope::All, |service| Scope::Named(service.as_str()));
        Self { verb, tenant, environment: Scope::Named(environment.as_str()), service }
    }

    /// Returns the question whether an event may be sent.
    ///
    /// A build is in no environment, and neither is an activity that names none. A revocation of an artifact concerns all of them. An event that names an
    /// environment and no service concerns all services.
    #[must_use]
    pub fn event(tenant: &'n TenantName, payload: &'n Payload) -> Self {
        let verb = Verb::of_event(payload);
        let elsewhere = match payload {
            Payload::ArtifactBuilt(_) => Scope::Nothing,
            Payload::ActivityReported(activity) if activity.environment.is_none() => Scope::Nothing,
            _ => Scope::All,
        };
        let environment =
            payload.environment().map_or(elsewhere, |environment| Scope::Named(environment.as_str()));
        let service = payload.service().map_or(elsewhere, |service| Scope::Named(service.as_str()));
        Self { verb, tenant, environment, service }
    }
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.verb, self.tenant)?;
        if self.environment != Scope::Nothing {
            write!(f, ", environment {}", self.environment)?;
        }
        if self.service != Scope::Nothing {
            write!(f, ", service {}", self.service)?;
        }
        Ok(())
    }
}

/// Reason for which a grant does not allow an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Another principal has it.
    Grantee,
    /// It is for another tenant.
    Tenant,
    /// It does not contain the verb.
    Verb,
    /// It does not cover the environment, or not all of them.
    Environment,
    /// It does not cover the service, or not all of them.
    Service,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grantee => "another principal has it",
            Self::Tenant => "it is for another tenant",
            Self::Verb => "it does not contain the verb",
            Self::Environment => "it does not cover the environment",
            Self::Service => "it does not cover the service",
        })
    }
}

/// No grant allows an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// True if the principal has some grant for the tenant, so that it may know that the tenant exists.
    pub knows_tenant: bool,
}

/// Returns the first reason for which a grant does not allow an action; `None` if it allows it.
fn mismatch(grant: &Grant, principal: &Principal, question: &Question<'_>) -> Option<Mismatch> {
    if !grant.grantee.is(principal) {
        Some(Mismatch::Grantee)
    } else if !grant.tenant.matches(question.tenant.as_str()) {
        Some(Mismatch::Tenant)
    } else if !grant.verbs.iter().any(|verbs: &VerbSet| verbs.contains(question.verb)) {
        Some(Mismatch::Verb)
    } else if !question.environment.is_covered_by(&grant.environments) {
        Some(Mismatch::Environment)
    } else if !question.service.is_covered_by(&grant.services) {
        Some(Mismatch::Service)
    } else {
        None
    }
}

/// Decides whether a principal may do something. Returns the first grant that allows it.
///
/// # Errors
/// No grant allows it.
pub fn decide<'g>(
    grants: impl IntoIterator<Item = &'g Grant>,
    principal: &Principal,
    question: &Question<'_>,
) -> Result<&'g Grant, Denial> {
    let mut knows_tenant = false;
    for grant in grants {
        match mismatch(grant, principal, question) {
            None => return Ok(grant),
            Some(Mismatch::Grantee | Mismatch::Tenant) => {}
            Some(Mismatch::Verb | Mismatch::Environment | Mismatch::Service) => knows_tenant = true,
        }
    }
    Err(Denial { knows_tenant })
}

/// Returns each grant of a principal, with the reason for which it does not allow an action; `None`: it allows it.
pub fn explain<'g>(
    grants: impl IntoIterator<Item = &'g Grant>,
    principal: &Principal,
    question: &Question<'_>,
) -> Vec<(&'g GrantId, Option<Mismatch>)> {
    let reasons = grants.into_iter().map(|grant| (&grant.id, mismatch(grant, principal, question)));
    reasons.filter(|(_, mismatch)| *mismatch != Some(Mismatch::Grantee)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger_domain::access::Grantee;
    use ledger_domain::{PrincipalKind, ShortText};
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> ShortText {
        ShortText::parse(text).expect("a text")
    }

    fn principal(subject: &str) -> Principal {
        Principal {
            kind: PrincipalKind::Workload,
            issuer: text("https://ci.example"),
            subject: text(subject),
            name: text("ci"),
            claims: BTreeMap::new(),
        }
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
    }

    fn grant(tenant: &str, environments: &[&str], services: &[&str], verbs: &[&str]) -> Grant {
        Grant {
            id: text("g"),
            grantee: Grantee::Subject { issuer: text("https://ci.example"), subject: text("one") },
            tenant: Pattern::parse(tenant).expect("a pattern"),
            environments: patterns(environments),
            services: patterns(services),
            verbs: verbs.iter().map(|verb| VerbSet::parse(verb).expect("a verb")).collect(),
        }
    }

    fn tenant(name: &str) -> TenantName {
        TenantName::parse(name).expect("a name")
    }

    fn allows(grant: &Grant, question: &Question<'_>) -> bool {
        decide([grant], &principal("one"), question).is_ok()
    }

    #[test]
    fn without_a_grant_nothing_is_allowed() {
        let tenant = tenant("shop");
        for verb in Verb::ALL {
            let question = Question::everything(verb, &tenant);
            assert_eq!(decide([], &principal("one"), &question), Err(Denial { knows_tenant: false }));
        }
    }

    #[test]
    fn a_question_about_all_environments_needs_a_grant_for_all() {
        let tenant = tenant("shop");
        let all = Question::everything(Verb::Read, &tenant);
        assert!(!allows(&grant("shop", &["staging", "production"], &["*"], &["read"]), &all));
        assert!(!allows(&grant("shop", &["*"], &["web"], &["read"]), &all));
        assert!(allows(&grant("shop", &["staging", "*"], &["*"], &["read"]), &all));
    }

    #[test]
    fn what_is_in_no_environment_needs_none() {
        let tenant = tenant("shop");
        let build = Question {
            verb: Verb::EmitArtifact,
            tenant: &tenant,
            environment: Scope::Nothing,
            service: Scope::Nothing,
        };
        assert!(allows(&grant("shop", &["staging"], &["web"], &["emit"]), &build));
        assert!(!allows(&grant("shop", &["staging"], &["web"], &["emit:deploy"]), &build));
    }

    #[test]
    fn a_denial_says_whether_the_principal_may_know_the_tenant() {
        let tenant = tenant("shop");
        let question = Question::everything(Verb::Freeze, &tenant);
        let knows = |grant: &Grant, subject: &str| {
            decide([grant], &principal(subject), &question).expect_err("denied").knows_tenant
        };
        assert!(knows(&grant("shop", &["*"], &["*"], &["read"]), "one"));
        assert!(knows(&grant("*", &["staging"], &["*"], &["freeze"]), "one"));
        assert!(!knows(&grant("shop", &["*"], &["*"], &["*"]), "two"));
        assert!(!knows(&grant("other", &["*"], &["*"], &["*"]), "one"));
    }

    #[test]
    fn an_explanation_names_the_first_part_that_differs_and_leaves_out_grants_of_others() {
        let tenant = tenant("shop");
        let production = EnvironmentName::parse("production").expect("a name");
        let question = Question::environment(Verb::Freeze, &tenant, &production, None);
        let reason = |grant: &Grant| {
            let found = explain([grant], &principal("one"), &question);
            found.into_iter().next().expect("listed").1
        };
        assert_eq!(reason(&grant("other", &["*"], &["*"], &["*"])), Some(Mismatch::Tenant));
        assert_eq!(reason(&grant("shop", &["*"], &["*"], &["read"])), Some(Mismatch::Verb));
        assert_eq!(reason(&grant("shop", &["staging"], &["*"], &["*"])), Some(Mismatch::Environment));
        assert_eq!(reason(&grant("shop", &["prod*"], &["web"], &["*"])), Some(Mismatch::Service));
        assert_eq!(reason(&grant("shop", &["prod*"], &["*"], &["freeze"])), None);
        assert!(explain([&grant("*", &["*"], &["*"], &["*"])], &principal("two"), &question).is_empty());
    }

    fn grants() -> impl Strategy<Value = Grant> {
        let names = || prop::sample::subsequence(vec!["*", "a", "b", "a*"], 0..3);
        let verbs = prop::sample::subsequence(vec!["read", "emit", "emit:deploy", "gate", "*"], 0..3);
        (prop::sample::select(vec!["*", "shop", "s*"]), names(), names(), verbs).prop_map(
            |(tenant, environments, services, verbs)| grant(tenant, &environments, &services, &verbs),
        )
    }

    fn scopes() -> impl Strategy<Value = Scope<'static>> {
        prop::sample::select(vec![
            Scope::Nothing,
            Scope::All,
            Scope::Named("a"),
            Scope::Named("ab"),
            Scope::Named("c"),
        ])
    }

    proptest! {
        #[test]
        fn more_grants_never_take_a_permission_away(
            some in prop::collection::vec(grants(), 0..4),
            more in prop::collection::vec(grants(), 0..4),
            verb in prop::sample::select(Verb::ALL.to_vec()),
            environment in scopes(),
            service in scopes(),
        ) {
            let tenant = tenant("shop");
            let question = Question { verb, tenant: &tenant, environment, service };
            let before = decide(&some, &principal("one"), &question).is_ok();
            let after = decide(some.iter().chain(&more), &principal("one"), &question).is_ok();
            prop_assert!(!before || after);
            prop_assert!(decide(some.iter().chain(&more), &principal("two"), &question).is_err());
        }

        #[test]
        fn who_may_act_on_all_may_act_on_each(
            grants in prop::collection::vec(grants(), 0..4),
            verb in prop::sample::select(Verb::ALL.to_vec()),
            environment in scopes(),
            service in scopes(),
        ) {
            let tenant = tenant("shop");
            let all = Question::everything(verb, &tenant);
            let one = Question { verb, tenant: &tenant, environment, service };
            if decide(&grants, &principal("one"), &all).is_ok() {
                prop_assert!(decide(&grants, &principal("one"), &one).is_ok());
            }
        }
    }
}
