//! The context of a translation: the webhook with its settings, and the time.

use chrono::{DateTime, Utc};
use ledger_domain::event::CLOCK_TOLERANCE;
use ledger_domain::{EnvironmentName, ServiceName, TargetName};

use super::json::Node;
use super::time;
use super::webhook::Webhook;
use crate::translation::{NotUnderstood, Translation};

/// The context of a translation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'c> {
    /// The webhook with its settings.
    pub webhook: &'c Webhook,
    /// The time of this service's clock.
    pub now: DateTime<Utc>,
}

impl Context<'_> {
    /// Returns the source of events: that of the settings, else that of the message.
    pub(super) fn source(&self, natural: &str) -> String {
        self.webhook.source.as_deref().unwrap_or(natural).to_owned()
    }

    /// Returns the environment that a member names, or the default.
    pub(super) fn environment(&self, node: &Node<'_>, name: &str) -> Result<EnvironmentName, NotUnderstood> {
        let foreign = node.optional_text(name)?;
        self.webhook.names.environment(foreign).map_err(|error| node.fault_in(name, error.to_string()))
    }

    /// Returns the environment that a member names, if it has a name that the ledger accepts: for activities.
    pub(super) fn known_environment(&self, foreign: Option<&str>) -> Option<EnvironmentName> {
        foreign.and_then(|name| self.webhook.names.environment(Some(name)).ok())
    }

    /// Returns the service that a member names, or the default.
    pub(super) fn service(&self, node: &Node<'_>, name: &str) -> Result<ServiceName, NotUnderstood> {
        let foreign = node.optional_text(name)?;
        self.webhook.names.service(foreign).map_err(|error| node.fault_in(name, error.to_string()))
    }

    /// Returns the target that a member names, or the default.
    pub(super) fn target(&self, node: &Node<'_>, name: &str) -> Result<Option<TargetName>, NotUnderstood> {
        let foreign = node.optional_text(name)?;
        self.webhook.names.target(foreign).map_err(|error| node.fault_in(name, error.to_string()))
    }

    /// Returns the default target.
    pub(super) fn default_target(&self) -> Option<TargetName> {
        self.webhook.names.target(None).ok().flatten()
    }

    /// Returns a required time.
    pub(super) fn time(&self, node: &Node<'_>, name: &str) -> Result<DateTime<Utc>, NotUnderstood> {
        self.optional_time(node, name)?
            .ok_or_else(|| node.fault_in(name, format!("is required, and {}", time::SYNTAX)))
    }

    /// Returns a time that may be absent.
    pub(super) fn optional_time(
        &self,
        node: &Node<'_>,
        name: &str,
    ) -> Result<Option<DateTime<Utc>>, NotUnderstood> {
        let Some(text) = node.optional_text(name)? else { return Ok(None) };
        self.parse_time(text).map_err(|fault| node.fault_in(name, fault))
    }

    /// Parses a time that is not in the future; `None` if the text says that there is none.
    pub(super) fn parse_time(&self, text: &str) -> Result<Option<DateTime<Utc>>, String> {
        match time::parse(text)? {
            Some(time) if time - self.now > CLOCK_TOLERANCE => Err(
                "is more than five minutes ahead of this service's clock: retry it when that time has come"
                    .to_owned(),
            ),
            time => Ok(time),
        }
    }

    /// Returns the name by which an environment is ignored, if it is: the foreign name, or that of the ledger to which it,
    /// or its absence, is mapped.
    pub(super) fn ignored_environment(&self, foreign: Option<&str>) -> Option<String> {
        let mapped = self.webhook.names.optional_environment(foreign).ok().flatten();
        let names = [foreign.map(str::to_owned), mapped.map(|name| name.to_string())];
        names.into_iter().flatten().find(|name| self.webhook.ignores(name))
    }

    /// Returns the reason to ignore a message about a foreign environment, if there is one.
    pub(super) fn ignored(&self, foreign: Option<&str>) -> Option<Translation> {
        let name = self.ignored_environment(foreign)?;
        Some(Translation::Ignored(format!("the environment {name:?} is one of ignored_environments")))
    }
}
