//! Where entries are filed: `ledger.<tenant>.<environment>.<service>.<family>.<verb>`.
//!
//! One function writes subjects and one writes the filters that must match them. A name's dots are
//! written `%2E`; what has no environment or no service has `_` there, which no name starts with.

use std::fmt;

use ledger_domain::{Payload, TenantName};

use crate::SubjectFilter;

const NONE: &str = "_";

/// A subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    /// The subject under which a fact is filed.
    #[must_use]
    pub fn of(tenant: &TenantName, payload: &Payload) -> Self {
        Self(format!(
            "ledger.{}.{}.{}.{}",
            token(tenant.as_str()),
            token(payload.environment().map_or(NONE, |name| name.as_str())),
            token(payload.service().map_or(NONE, |name| name.as_str())),
            payload.kind().name(),
        ))
    }

    /// Where stands for a while what is then deleted, so that its position is a gap.
    pub(crate) fn of_gap(tenant: &TenantName) -> Self {
        Self(format!("ledger.{}.{NONE}.{NONE}.gap.restored", token(tenant.as_str())))
    }

    /// The filter that matches every subject of a scope.
    #[must_use]
    pub fn filter(tenant: &TenantName, scope: &SubjectFilter) -> Self {
        let tenant = token(tenant.as_str());
        Self(match scope {
            SubjectFilter::All => format!("ledger.{tenant}.>"),
            SubjectFilter::Environment(environment) => {
                format!("ledger.{tenant}.{}.>", token(environment.as_str()))
            }
            SubjectFilter::Service(environment, service) => {
                format!("ledger.{tenant}.{}.{}.>", token(environment.as_str()), token(service.as_str()))
            }
        })
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a filter matches this subject.
    pub(crate) fn is_in(&self, filter: &Self) -> bool {
        filter.0.strip_suffix('>').is_some_and(|prefix| self.0.starts_with(prefix))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn token(name: &str) -> String {
    name.replace('.', "%2E")
}

#[cfg(test)]
mod tests {
    use ledger_domain::{EnvironmentName, ServiceName};

    use super::*;

    fn retired(environment: &str) -> Payload {
        Payload::EnvironmentRetired(EnvironmentName::parse(environment).expect("a name"))
    }

    #[test]
    fn a_subject_has_six_tokens_whatever_the_names() {
        let subject = Subject::of(&TenantName::default(), &retired("prod.eu"));
        assert_eq!(subject.as_str(), "ledger.default.prod%2Eeu._.environment.retired");
    }

    #[test]
    fn a_filter_matches_its_own_environment_and_no_other() {
        let tenant = TenantName::default();
        let scope = SubjectFilter::Environment(EnvironmentName::parse("prod").expect("a name"));
        let filter = Subject::filter(&tenant, &scope);
        assert!(Subject::of(&tenant, &retired("prod")).is_in(&filter));
        assert!(!Subject::of(&tenant, &retired("prod.eu")).is_in(&filter));
        assert!(!Subject::of(&tenant, &retired("production")).is_in(&filter));
        let service = ServiceName::parse("web").expect("a name");
        let lane = SubjectFilter::Service(EnvironmentName::parse("prod").expect("a name"), service);
        assert_eq!(Subject::filter(&tenant, &lane).as_str(), "ledger.default.prod.web.>");
    }
}
