//! Observations of the clients: every event that was sent, and every response to it.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::Value;

use crate::report::Report;

/// A service's response about one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Recorded at this position.
    Recorded(u64),
    /// A duplicate of the entry at this position.
    Duplicate(u64),
    /// Another event has its identity.
    Conflict,
    /// Rejected for good, with this problem.
    Rejected(String),
    /// Unknown, for this reason: the event may have been recorded, and may be sent again.
    Unknown(String),
}

impl Outcome {
    /// Parses the response about one event of a batch.
    pub(crate) fn from_line(line: &Value) -> Self {
        let position = line["position"].as_u64();
        match (line["status"].as_str().unwrap_or_default(), position) {
            ("recorded", Some(position)) => Self::Recorded(position),
            ("duplicate", Some(position)) => Self::Duplicate(position),
            ("conflict", _) => Self::Conflict,
            ("invalid" | "rejected", _) => Self::Rejected(problem(&line["problem"])),
            ("refused", _) => Self::Unknown(problem(&line["problem"])),
            _ => Self::Rejected(format!("malformed response: {line}")),
        }
    }

    /// Parses the response about a single event.
    pub(crate) fn from_response(response: &ledger_tests::Response) -> Self {
        match response.status {
            201 => Self::from_line(&response.body),
            409 if response.problem() == "identity-conflict" => Self::Conflict,
            500.. => Self::Unknown(problem(&response.body)),
            _ => Self::Rejected(problem(&response.body)),
        }
    }

    /// Returns true if the event must not be sent again.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// Returns the slug of a problem; `no problem` if the body has none.
pub(crate) fn problem(body: &Value) -> String {
    let kind = body["type"].as_str().unwrap_or("no problem");
    kind.strip_prefix("urn:release-ledger:problem:").unwrap_or(kind).to_owned()
}

/// A final outcome for an identity.
#[derive(Debug, Clone)]
pub(crate) struct FinalOutcome {
    /// Index of the content that was sent.
    pub(crate) content: usize,
    pub(crate) outcome: Outcome,
}

/// Everything about one identity.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    /// The distinct contents that were sent under it.
    pub(crate) contents: Vec<String>,
    pub(crate) final_outcomes: Vec<FinalOutcome>,
    /// True if an outcome was unknown.
    pub(crate) was_unknown: bool,
}

/// All requests and responses of a stint.
pub(crate) struct Observations {
    sent: HashMap<String, Sent>,
    /// Positions of the rollbacks that were recorded according to the response, by name.
    pub(crate) rollbacks: BTreeMap<String, Vec<u64>>,
    /// Events with an unknown outcome, each with the position of the next recorded event of its request.
    pub(crate) preceding: Vec<(String, u64)>,
    violations: Vec<String>,
    last_acknowledged: Instant,
    head: u64,
}

impl Observations {
    pub(crate) fn new() -> Self {
        Self {
            sent: HashMap::new(),
            rollbacks: BTreeMap::new(),
            preceding: Vec::new(),
            violations: Vec::new(),
            last_acknowledged: Instant::now(),
            head: 0,
        }
    }

    /// Registers an event before it is sent. Returns the index of its content among those of its identity.
    pub(crate) fn register(&mut self, id: &str, bytes: &str) -> usize {
        let sent = self.sent.entry(id.to_owned()).or_default();
        sent.contents.iter().position(|content| content == bytes).unwrap_or_else(|| {
            sent.contents.push(bytes.to_owned());
            sent.contents.len() - 1
        })
    }

    /// Adds the outcome of a request.
    pub(crate) fn add_outcome(&mut self, id: &str, content: usize, outcome: &Outcome) {
        let sent = self.sent.entry(id.to_owned()).or_default();
        if !outcome.is_final() {
            sent.was_unknown = true;
            return;
        }
        sent.final_outcomes.push(FinalOutcome { content, outcome: outcome.clone() });
        if *outcome == Outcome::Conflict && sent.contents.len() == 1 {
            self.violations.push(format!("{id}: response is a conflict, but only one content was sent"));
        }
        if let Outcome::Recorded(position) | Outcome::Duplicate(position) = outcome {
            self.acknowledged(*position);
        }
    }

    /// Requires that an event is not recorded after this position.
    pub(crate) fn require_before(&mut self, id: &str, position: u64) {
        self.preceding.push((id.to_owned(), position));
    }

    /// Notes that an entry at this position was acknowledged.
    pub(crate) fn acknowledged(&mut self, position: u64) {
        self.last_acknowledged = Instant::now();
        self.head = self.head.max(position);
    }

    /// Restarts the measurement of silence, when the load begins.
    pub(crate) fn reset_silence(&mut self) {
        self.last_acknowledged = Instant::now();
    }

    /// Returns the time of the last acknowledgement.
    pub(crate) fn last_acknowledged(&self) -> Instant {
        self.last_acknowledged
    }

    /// Returns the greatest acknowledged position.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Adds a violation.
    pub(crate) fn violation(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// Returns the violations so far.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Adds the numbers of events and outcomes to the report.
    pub(crate) fn tally(&self, report: &Report) {
        let has = |sent: &Sent, matches: fn(&Outcome) -> bool| {
            sent.final_outcomes.iter().any(|found| matches(&found.outcome))
        };
        let acknowledged =
            |outcome: &Outcome| matches!(outcome, Outcome::Recorded(_) | Outcome::Duplicate(_));
        for sent in self.sent.values() {
            let is_acknowledged = has(sent, acknowledged);
            report.count("events acknowledged", is_acknowledged.into());
            report.count(
                "events acknowledged after an unknown outcome",
                (is_acknowledged && sent.was_unknown).into(),
            );
            for FinalOutcome { outcome, .. } in &sent.final_outcomes {
                match outcome {
                    Outcome::Duplicate(_) => report.count("responses: duplicate", 1),
                    Outcome::Conflict => report.count("responses: conflict", 1),
                    Outcome::Rejected(_) => report.count("responses: rejected", 1),
                    Outcome::Recorded(_) | Outcome::Unknown(_) => {}
                }
            }
        }
    }

    /// Returns everything that was sent, by the event's id.
    pub(crate) fn sent(&self) -> &HashMap<String, Sent> {
        &self.sent
    }
}
