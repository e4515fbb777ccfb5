//! Conditions on the entries of a history, as flags.

use chrono::{DateTime, Utc};
use ledger_domain::TargetName;
use reqwest::Url;

use crate::point_arg::{parse_moment, time_text};
use crate::query::with_param;

/// Conditions on entries; all of them must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only entries of these types, separated by commas: `deploy.succeeded`, or `deploy` for all types of a family
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only entries whose type ends in this word: `succeeded`, `failed`, `started`; several separated by commas
    #[arg(long, value_name = "WORD")]
    status: Option<String>,
    /// Only entries of this target
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// Only entries of the actor with this name
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only entries that name a commit that begins with these characters
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Only entries that name this artifact: a package URL, an OCI reference by digest, or a digest
    #[arg(long, value_name = "ARTIFACT")]
    artifact: Option<String>,
    /// Only entries with this correlationid, such as those of one run of a pipeline
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Only entries with this causationid: those that the event with this id led to
    #[arg(long, value_name = "ID")]
    causation: Option<String>,
    /// Only events that occurred at this time or later: a time, a date, `yesterday`, or a time ago such as 24h
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<DateTime<Utc>>,
    /// Only events that occurred before this time, in the same notation
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
}

impl FilterArgs {
    /// Adds the conditions to a URL of events.
    pub(crate) fn apply(&self, url: Url) -> Url {
        let url = with_param(url, "type", self.kind.as_deref());
        let url = with_param(url, "status", self.status.as_deref());
        let url = with_param(url, "target", self.target.as_ref());
        let url = with_param(url, "actor", self.actor.as_deref());
        let url = with_param(url, "commit", self.commit.as_deref());
        let url = with_param(url, "artifact", self.artifact.as_deref());
        let url = with_param(url, "correlation", self.correlation.as_deref());
        let url = with_param(url, "causation", self.causation.as_deref());
        let url = with_param(url, "since", self.since.map(time_text));
        with_param(url, "until", self.until.map(time_text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conditions_are_those_that_are_given() {
        let url = || Url::parse("http://h/v1/events").expect("a URL");
        assert_eq!(FilterArgs::default().apply(url()).as_str(), "http://h/v1/events");
        let filter = FilterArgs {
            actor: Some("ada".into()),
            since: Some("2026-03-01T00:00:00Z".parse().expect("a time")),
            ..FilterArgs::default()
        };
        let expected = "http://h/v1/events?actor=ada&since=2026-03-01T00%3A00%3A00Z";
        assert_eq!(filter.apply(url()).as_str(), expected);
    }
}
