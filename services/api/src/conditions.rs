//! Conditions that select entries of the history, in queries and streams alike.

use ledger_domain::{Artifact, EnvironmentName, Kind as EventKind, ServiceName, ShortText, TargetName};
use ledger_projections::{EventDetails, EventFilter};

use crate::parameters::parse_optional;
use crate::problem::Problem;

/// Conditions of a request, as its query parameters state them. An entry has to meet all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions<'q> {
    pub(crate) environment: Option<&'q str>,
    pub(crate) service: Option<&'q str>,
    /// Types and families of types, separated by commas.
    pub(crate) kinds: Option<&'q str>,
    /// Last words of types, separated by commas.
    pub(crate) status: Option<&'q str>,
    pub(crate) target: Option<&'q str>,
    pub(crate) actor: Option<&'q str>,
    pub(crate) commit: Option<&'q str>,
    pub(crate) artifact: Option<&'q str>,
    pub(crate) correlation: Option<&'q str>,
    pub(crate) causation: Option<&'q str>,
}

impl Conditions<'_> {
    pub(crate) fn filter(&self) -> Result<EventFilter, Problem> {
        let kinds = parse_optional("type", self.kinds, parse_kinds)?.unwrap_or_default();
        Ok(EventFilter {
            environment: parse_optional("environment", self.environment, EnvironmentName::parse)?,
            service: parse_optional("service", self.service, ServiceName::parse)?,
            kinds: self.with_status(kinds)?,
            correlation: parse_optional("correlation", self.correlation, ShortText::stored)?,
            causation: parse_optional("causation", self.causation, ShortText::stored)?,
            details: EventDetails {
                target: parse_optional("target", self.target, TargetName::parse)?,
                actor: parse_optional("actor", self.actor, ShortText::stored)?,
                commit: parse_optional("commit", self.commit, ShortText::stored)?,
                artifact: parse_optional("artifact", self.artifact, Artifact::stored)?,
                ..EventDetails::default()
            },
            ..EventFilter::default()
        })
    }

    /// Returns those of the given kinds that have the status asked for. No kinds: any kind.
    fn with_status(&self, kinds: Vec<EventKind>) -> Result<Vec<EventKind>, Problem> {
        let Some(status) = self.status else { return Ok(kinds) };
        let words: Vec<&str> = status.split(',').collect();
        let has_status =
            |kind: &EventKind| kind.name().rsplit('.').next().is_some_and(|word| words.contains(&word));
        let kinds = if kinds.is_empty() { EventKind::ALL.to_vec() } else { kinds };
        let kinds: Vec<EventKind> = kinds.into_iter().filter(has_status).collect();
        match kinds.is_empty() {
            true => Err(Problem::parameter("status", "is the last word of no type that is asked for")),
            false => Ok(kinds),
        }
    }
}

/// Parses types, separated by commas. Each type is listed once; the name of a family stands for all its types.
fn parse_kinds(text: &str) -> Result<Vec<EventKind>, String> {
    let mut kinds = Vec::new();
    for name in text.split(',') {
        let mut named = EventKind::selected_by(name).map_err(|error| error.to_string())?;
        named.retain(|kind| !kinds.contains(kind));
        kinds.extend(named);
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_types_are_separated_by_commas() {
        let kinds = |text| Conditions { kinds: Some(text), ..Conditions::default() }.filter();

        let two =
            kinds("deploy.failed,io.releaseledger.deploy.succeeded.v1,deploy.failed").expect("a filter");

        let switches = kinds("traffic,traffic.switched").expect("a filter");
        assert_eq!(two.kinds, [EventKind::DeployFailed, EventKind::DeploySucceeded]);
        assert_eq!(switches.kinds, [EventKind::TrafficSwitched]);
        for wrong in ["", "deploy.failed,", "deploy.failed, deploy.succeeded", "deplo"] {
            assert_eq!(kinds(wrong).expect_err("a problem").into_body().status, 400, "{wrong}");
        }
    }
}
