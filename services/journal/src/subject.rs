//! Subjects of entries: `ledger.<tenant>.<environment>.<service>.<family>.<verb>`.
//!
//! One function writes the subjects and one the filters, which must match. A dot in a name is written `%2E`. An
//! event without an environment or a service has `_` in its place, with which no name starts.

use std::fmt;

use ledger_domain::{Payload, TenantName};

use crate::SubjectFilter;

const NO_NAME: &str = "_";

/// A NATS subject, or a filter that matches subjects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    /// Returns the subject of an event with this payload.
    #[must_use]
    pub fn of(tenant: &TenantName, payload: &Payload) -> Self {
        Self(format!(
            "ledger.{}.{}.{}.{}",
            token(tenant.as_str()),
            token(payload.environment().map_or(NO_NAME, |name| name.as_str())),
            token(payload.service().map_or(NO_NAME, |name| name.as_str())),
            payload.kind().name(),
        ))
    }

    /// Returns the subject under which a restore stores a foreign entry: one that is no event of a ledger. The copy
    /// does not have its first subject, and a foreign entry belongs to no environment.
    #[must_use]
    pub fn foreign(tenant: &TenantName) -> Self {
        Self(format!("ledger.{}.{NO_NAME}.{NO_NAME}.foreign.restored", token(tenant.as_str())))
    }

    /// Returns the subject of a message that a restore deletes later, so that its position becomes a gap.
    pub(crate) fn gap_placeholder(tenant: &TenantName) -> Self {
        Self(format!("ledger.{}.{NO_NAME}.{NO_NAME}.gap.restored", token(tenant.as_str())))
    }

    /// Returns the subject wildcard that matches the entries of a filter.
    #[must_use]
    pub fn filter(tenant: &TenantName, filter: &SubjectFilter) -> Self {
        let tenant = token(tenant.as_str());
        Self(match filter {
            SubjectFilter::All => format!("ledger.{tenant}.>"),
            SubjectFilter::Environment(environment) => {
                format!("ledger.{tenant}.{}.>", token(environment.as_str()))
            }
            SubjectFilter::Service(environment, service) => {
                format!("ledger.{tenant}.{}.{}.>", token(environment.as_str()), token(service.as_str()))
            }
        })
    }

    /// Returns the subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if a filter matches this subject.
    pub(crate) fn matches(&self, filter: &Self) -> bool {
        filter.0.strip_suffix('>').is_some_and(|prefix| self.0.starts_with(prefix))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn token(name: &str) -> String {
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
    fn a_subject_has_six_tokens_for_any_names() {
        let subject = Subject::of(&TenantName::default(), &retired("prod.eu"));
        assert_eq!(subject.as_str(), "ledger.default.prod%2Eeu._.environment.retired");
    }

    #[test]
    fn a_filter_matches_its_own_environment_and_no_other() {
        let tenant = TenantName::default();
        let environment = SubjectFilter::Environment(EnvironmentName::parse("prod").expect("a name"));
        let filter = Subject::filter(&tenant, &environment);
        assert!(Subject::of(&tenant, &retired("prod")).matches(&filter));
        assert!(!Subject::of(&tenant, &retired("prod.eu")).matches(&filter));
        assert!(!Subject::of(&tenant, &retired("production")).matches(&filter));
        let service = ServiceName::parse("web").expect("a name");
        let service = SubjectFilter::Service(EnvironmentName::parse("prod").expect("a name"), service);
        assert_eq!(Subject::filter(&tenant, &service).as_str(), "ledger.default.prod.web.>");
    }
}
