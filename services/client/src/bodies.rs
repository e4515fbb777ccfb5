//! Response bodies of the service, limited to the members that the commands read.

use std::fmt;

use chrono::{DateTime, Utc};
use ledger_domain::{Artifact, ConfigDigest, Release, ShortText};
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// The result of recording one event.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EventResult {
    pub(super) status: EventStatus,
    pub(super) position: Option<u64>,
    pub(super) problem: Option<Problem>,
    #[serde(flatten)]
    pub(super) annotations: Annotations,
}

/// Entries, limited to their annotations.
#[derive(Debug, Deserialize)]
pub(super) struct RecordedBody {
    pub(super) events: Vec<RecordedEntry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordedEntry {
    #[serde(flatten)]
    pub(super) annotations: Annotations,
}

/// Annotations of the ledger on a recorded event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    anomalies: Vec<String>,
    new: Vec<String>,
    went_live: Option<String>,
    targets: Vec<String>,
}

impl Annotations {
    /// Returns one sentence for each annotation that a person should read; none if the event is ordinary.
    pub(super) fn notes(&self) -> Vec<String> {
        let describe = |anomaly: &String| match anomaly.as_str() {
            "ambiguous_target" => format!(
                "it changed nothing: it names no target and the service has several; set --target: {}",
                self.targets.join(", ")
            ),
            "corrects_nothing" => "it corrects an event that is unknown or cannot be corrected".to_owned(),
            "environment_retired" => {
                "it changed nothing: the environment is retired; declare it first".to_owned()
            }
            "removed_nothing" => "it removed nothing: nothing ran there".to_owned(),
            "switched_to_empty_slot" => "it changed nothing: the slot is empty".to_owned(),
            "switch_pending" => "it takes effect when the deploy to the slot is reported".to_owned(),
            "late" => "it is late: an event that occurred later may supersede it".to_owned(),
            "straddles_change" => "it does not count: the release changed during the check".to_owned(),
            "counts_contradict" => "it does not count as passed: its counts contradict the result".to_owned(),
            "during_freeze" => "it occurred during a freeze".to_owned(),
            other => format!("it has the anomaly {other}"),
        };
        let mut notes: Vec<String> = self.anomalies.iter().map(describe).collect();
        if !self.new.is_empty() {
            notes.push(format!(
                "it is the first event of this {}; if that is unexpected, check the spelling",
                self.new.join(", ")
            ));
        }
        notes
    }

    /// Returns the version that the lane runs from this event on, if the event changed it.
    pub(super) fn went_live(&self) -> Option<&str> {
        self.went_live.as_deref()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventStatus {
    Recorded,
    Duplicate,
    Conflict,
    Invalid,
    /// The rules of the ledger forbid the event in the current state.
    Rejected,
    Refused,
}

impl EventStatus {
    pub(super) const fn is_recorded(self) -> bool {
        matches!(self, Self::Recorded | Self::Duplicate)
    }
}

impl fmt::Display for EventResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position.unwrap_or_default();
        match (self.status, &self.problem) {
            (EventStatus::Recorded, _) => write!(f, "recorded at position {position}"),
            (EventStatus::Duplicate, _) => write!(f, "duplicate of position {position}"),
            (_, Some(problem)) => problem.fmt(f),
            (EventStatus::Conflict, None) => write!(f, "conflict with position {position}"),
            (EventStatus::Invalid, None) => f.write_str("invalid event"),
            (EventStatus::Rejected, None) => f.write_str("rejected"),
            (EventStatus::Refused, None) => f.write_str("refused for now"),
        }
    }
}

impl EventResult {
    /// Returns true if the result has the members that a ledger always sends. A gateway may answer
    /// `{"status":"rejected"}`, too.
    fn is_from_ledger(&self) -> bool {
        if self.status.is_recorded() {
            self.position.is_some()
        } else {
            self.problem.as_ref().is_some_and(Problem::is_from_ledger)
        }
    }
}

/// Parses the results of several events, one per line.
///
/// # Errors
/// A line is not the result of a ledger.
pub(super) fn results(lines: &[u8]) -> Result<Vec<EventResult>, String> {
    let results: Result<Vec<EventResult>, _> =
        serde_json::Deserializer::from_slice(lines).into_iter().collect();
    let results = results.map_err(|error| error.to_string())?;
    if !results.iter().all(EventResult::is_from_ledger) {
        return Err("a result without a position, or without a problem of a release ledger".to_owned());
    }
    Ok(results)
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct ReleaseBody {
    pub(super) version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) infrastructure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<String>,
}

impl ReleaseBody {
    /// Parses the release.
    pub(super) fn release(&self) -> anyhow::Result<Release> {
        let text = |text: &Option<String>| text.as_deref().map(ShortText::parse).transpose();
        Ok(Release {
            version: ShortText::parse(&self.version)?,
            artifact: self.artifact.as_deref().map(Artifact::parse).transpose()?,
            config: self.config.as_deref().map(ConfigDigest::parse).transpose()?,
            infrastructure: text(&self.infrastructure)?,
            commit: text(&self.commit)?,
        })
    }
}

/// Returns the version of the release, or `-` if there is none.
pub(super) fn version(release: Option<&ReleaseBody>) -> String {
    release.map_or_else(|| "-".to_owned(), |release| release.version.clone())
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ActorBody {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct SinceBody {
    pub(super) position: u64,
    pub(super) occurred_at: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LaneBody {
    pub(super) service: String,
    pub(super) target: String,
    pub(super) slot: Option<String>,
    pub(super) release: ReleaseBody,
    pub(super) since: SinceBody,
}

#[derive(Debug, Deserialize)]
pub(super) struct PositionBody {
    pub(super) position: u64,
    pub(super) head: u64,
    pub(super) root: String,
}

/// The target of lanes for which none is named.
pub(super) const DEFAULT_TARGET: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_without_the_members_of_a_ledger_is_rejected() {
        let problem =
            |kind: &str| format!(r#"{{"status":"rejected","problem":{{"type":"{kind}","title":"No"}}}}"#);
        let accepted = |line: &str| results(line.as_bytes()).map(|results| results.len());

        assert_eq!(accepted(r#"{"status":"recorded","position":1}"#), Ok(1));
        assert_eq!(accepted(&problem("urn:release-ledger:problem:freeze-mismatch")), Ok(1));
        for foreign in
            [r#"{"status":"recorded"}"#, r#"{"status":"rejected"}"#, &problem("about:blank"), "<html>"]
        {
            assert!(accepted(foreign).is_err(), "{foreign}");
        }
    }
}
