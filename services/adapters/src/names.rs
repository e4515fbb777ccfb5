//! The names of environments and services in the ledger for those in foreign messages.

use std::collections::BTreeMap;

use ledger_domain::{EnvironmentName, ServiceName, TargetName};
use serde::Deserialize;

/// Rules by which foreign names become names of the ledger: first by the maps, then unchanged if they are valid names, then
/// the defaults where a message has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Names {
    /// Environments of the ledger by foreign name.
    pub environments: BTreeMap<String, String>,
    /// Services of the ledger by foreign name, such as that of a repository.
    pub services: BTreeMap<String, String>,
    /// Targets of the ledger by foreign name, such as that of a cluster.
    pub targets: BTreeMap<String, String>,
    /// Environment of messages that name none.
    pub default_environment: Option<String>,
    /// Service of messages that name none.
    pub default_service: Option<String>,
    /// Target of messages that name none.
    pub default_target: Option<String>,
}

/// The error for a foreign name that is no name of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnmappedName {
    /// The message has no name, and there is no default.
    #[error("the message names no {0}: set names.default_{0} (in an import --default-{0})")]
    Missing(&'static str),
    /// The name is not one that the ledger accepts.
    #[error(
        "{name:?} is not a valid {part} ({reason}): map it in names.{part}s (in an import by --map-{part})"
    )]
    Invalid {
        /// `environment`, `service` or `target`.
        part: &'static str,
        /// The foreign name, shortened.
        name: String,
        /// The reason for which it is not valid.
        reason: String,
    },
}

impl Names {
    /// Returns the environment of the ledger for a foreign one.
    ///
    /// # Errors
    /// See [`UnmappedName`].
    pub fn environment(&self, foreign: Option<&str>) -> Result<EnvironmentName, UnmappedName> {
        self.optional_environment(foreign)?.ok_or(UnmappedName::Missing("environment"))
    }

    /// Returns the environment of the ledger for a foreign one; `None` if neither the message nor a default names one.
    ///
    /// # Errors
    /// The name is not valid and not in the map.
    pub fn optional_environment(
        &self,
        foreign: Option<&str>,
    ) -> Result<Option<EnvironmentName>, UnmappedName> {
        let name = chosen(&self.environments, foreign, self.default_environment.as_deref());
        name.map(|name| name.parse().map_err(|reason| invalid("environment", name, &reason))).transpose()
    }

    /// Returns the service of the ledger for a foreign one.
    ///
    /// # Errors
    /// See [`UnmappedName`].
    pub fn service(&self, foreign: Option<&str>) -> Result<ServiceName, UnmappedName> {
        self.optional_service(foreign)?.ok_or(UnmappedName::Missing("service"))
    }

    /// Returns the service of the ledger for a foreign one; `None` if neither the message nor a default names one.
    ///
    /// # Errors
    /// The name is not valid and not in the map.
    pub fn optional_service(&self, foreign: Option<&str>) -> Result<Option<ServiceName>, UnmappedName> {
        let name = chosen(&self.services, foreign, self.default_service.as_deref());
        name.map(|name| name.parse().map_err(|reason| invalid("service", name, &reason))).transpose()
    }

    /// Returns the target of the ledger for a foreign one; `None` if neither the message nor a default names one.
    ///
    /// # Errors
    /// The name is not valid and not in the map.
    pub fn target(&self, foreign: Option<&str>) -> Result<Option<TargetName>, UnmappedName> {
        let name = chosen(&self.targets, foreign, self.default_target.as_deref());
        name.map(|name| name.parse().map_err(|reason| invalid("target", name, &reason))).transpose()
    }
}

/// Returns the mapped name, the foreign name, or the default. An empty foreign name is none.
fn chosen<'a>(
    map: &'a BTreeMap<String, String>,
    foreign: Option<&'a str>,
    default: Option<&'a str>,
) -> Option<&'a str> {
    match foreign.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => Some(map.get(name).map_or(name, String::as_str)),
        None => default,
    }
}

fn invalid(part: &'static str, name: &str, reason: &impl ToString) -> UnmappedName {
    UnmappedName::Invalid { part, name: name.chars().take(128).collect(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            environments: BTreeMap::from([("prod / EU".to_owned(), "production".to_owned())]),
            default_environment: Some("staging".to_owned()),
            ..Names::default()
        }
    }

    #[test]
    fn a_foreign_name_is_mapped_kept_or_replaced_by_the_default() {
        let environment = |foreign| names().environment(foreign).map(|name| name.to_string());
        assert_eq!(environment(Some("prod / EU")).as_deref(), Ok("production"));
        assert_eq!(environment(Some("qa")).as_deref(), Ok("qa"));
        assert_eq!(environment(None).as_deref(), Ok("staging"));
        assert_eq!(environment(Some(" ")).as_deref(), Ok("staging"));
    }

    #[test]
    fn a_name_that_cannot_be_used_says_what_to_map() {
        let error = names().environment(Some("prod / US")).expect_err("not a name");
        assert!(error.to_string().contains("map it in names.environments"), "{error}");
        let error = names().service(None).expect_err("no name");
        assert_eq!(
            error.to_string(),
            "the message names no service: set names.default_service (in an import --default-service)"
        );
    }
}
