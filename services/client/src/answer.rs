//! The service's bodies, as far as the commands read them.

use std::fmt;

use chrono::{DateTime, Utc};
use ledger_domain::{Artifact, ConfigDigest, Release, ShortText};
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// What became of one event.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EventResult {
    pub(super) status: EventStatus,
    pub(super) position: Option<u64>,
    pub(super) problem: Option<Problem>,
    #[serde(flatten)]
    pub(super) marks: Marks,
}

/// Entries, as far as the ledger says something of them.
#[derive(Debug, Deserialize)]
pub(super) struct RecordedBody {
    pub(super) events: Vec<RecordedEntry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordedEntry {
    #[serde(flatten)]
    pub(super) marks: Marks,
}

/// What the ledger says of an event that it recorded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Marks {
    anomalies: Vec<String>,
    new: Vec<String>,
    went_live: Option<String>,
    targets: Vec<String>,
}

impl Marks {
    /// Returns what a person should know of it, one sentence each; nothing where all is as usual.
    pub(super) fn notes(&self) -> Vec<String> {
        let anomaly = |word: &String| match word.as_str() {
            "ambiguous_target" => format!(
                "it changed nothing: it names no target, and the service has several; say --target: {}",
                self.targets.join(", ")
            ),
            "corrects_nothing" => {
                "it corrects an event that the ledger does not know, or that cannot be corrected".to_owned()
            }
            "environment_retired" => {
                "it changed nothing: the environment is retired; declare it first".to_owned()
            }
            "removed_nothing" => "it removed nothing: nothing ran there".to_owned(),
            "switched_to_empty_slot" => "it changed nothing: the slot is empty".to_owned(),
            "switch_pending" => "it waits until the deploy to the slot is reported".to_owned(),
            "late" => "it is late: a report that occurred later may hide it".to_owned(),
            "straddles_change" => "it counts neither way: what was checked changed meanwhile".to_owned(),
            "counts_contradict" => "it makes nothing good: its counts contradict that it passed".to_owned(),
            "during_freeze" => "it occurred during a freeze".to_owned(),
            other => format!("it is marked {other}"),
        };
        let mut notes: Vec<String> = self.anomalies.iter().map(anomaly).collect();
        if !self.new.is_empty() {
            notes.push(format!(
                "it is the first event of this {}; if that is a surprise, look for a spelling mistake",
                self.new.join(", ")
            ));
        }
        notes
    }

    /// Returns the version that the lane runs from the event on, where the event changed that.
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
    /// The ledger's rules do not let it follow what is recorded.
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
            (EventStatus::Conflict, None) => write!(f, "in conflict with position {position}"),
            (EventStatus::Invalid, None) => f.write_str("not an event"),
            (EventStatus::Rejected, None) => f.write_str("rejected"),
            (EventStatus::Refused, None) => f.write_str("refused, for now"),
        }
    }
}

impl EventResult {
    /// Returns true if it has what a ledger says with every result. A gateway may answer `{"status":"rejected"}`, too.
    fn is_a_ledgers(&self) -> bool {
        if self.status.is_recorded() {
            self.position.is_some()
        } else {
            self.problem.as_ref().is_some_and(Problem::is_a_ledgers)
        }
    }
}

/// The results of several events, one a line.
///
/// # Errors
/// They are not those of a ledger.
pub(super) fn results(lines: &[u8]) -> Result<Vec<EventResult>, String> {
    let results: Result<Vec<EventResult>, _> =
        serde_json::Deserializer::from_slice(lines).into_iter().collect();
    let results = results.map_err(|error| error.to_string())?;
    if !results.iter().all(EventResult::is_a_ledgers) {
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
    /// The release, parsed.
    pub(super) fn release(&self) -> anyhow::Result<Release> {
        let line = |text: &Option<String>| text.as_deref().map(ShortText::parse).transpose();
        Ok(Release {
            version: ShortText::parse(&self.version)?,
            artifact: self.artifact.as_deref().map(Artifact::parse).transpose()?,
            config: self.config.as_deref().map(ConfigDigest::parse).transpose()?,
            infrastructure: line(&self.infrastructure)?,
            commit: line(&self.commit)?,
        })
    }
}

/// The version of what runs; `-` where nothing does.
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

/// The target that lanes have if nobody says otherwise.
pub(super) const DEFAULT_TARGET: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_only_looks_like_one_is_not_a_ledgers() {
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
