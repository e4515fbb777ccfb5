//! What is known from outside: every event that was sent, and every answer to it.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::Value;

use crate::report::Report;

/// What a service answered about one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is the entry at this position.
    Recorded(u64),
    /// It was the entry at this position already.
    Duplicate(u64),
    /// Another event has its identity.
    Conflict,
    /// It will not be recorded as it is.
    Rejected(String),
    /// It may be sent again: the problem. It may have been recorded.
    Later(String),
}

impl Outcome {
    /// Reads what was answered to one event of several.
    pub(crate) fn of_line(line: &Value) -> Self {
        let position = line["position"].as_u64();
        match (line["status"].as_str().unwrap_or_default(), position) {
            ("recorded", Some(position)) => Self::Recorded(position),
            ("duplicate", Some(position)) => Self::Duplicate(position),
            ("conflict", _) => Self::Conflict,
            ("invalid" | "rejected", _) => Self::Rejected(problem(&line["problem"])),
            ("refused", _) => Self::Later(problem(&line["problem"])),
            _ => Self::Rejected(format!("an answer that nobody understands: {line}")),
        }
    }

    /// Reads the answer to one event.
    pub(crate) fn of_answer(answer: &ledger_tests::Answer) -> Self {
        match answer.status {
            201 => Self::of_line(&answer.body),
            409 if answer.problem() == "identity-conflict" => Self::Conflict,
            500.. => Self::Later(problem(&answer.body)),
            _ => Self::Rejected(problem(&answer.body)),
        }
    }

    /// Whether nothing more has to be done about the event.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Later(_))
    }
}

/// The problem's word.
pub(crate) fn problem(body: &Value) -> String {
    let kind = body["type"].as_str().unwrap_or("no problem");
    kind.strip_prefix("urn:release-ledger:problem:").unwrap_or(kind).to_owned()
}

/// What a service said of an identity.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Which of the identity's contents was sent.
    pub(crate) content: usize,
    /// The answer.
    pub(crate) outcome: Outcome,
}

/// All about one identity.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    /// What was sent under it; the same content stands once.
    pub(crate) contents: Vec<String>,
    /// The answers that are final.
    pub(crate) said: Vec<Said>,
    /// Whether an answer was lost, or said that nobody knows, before one came.
    pub(crate) was_unknown: bool,
}

/// Everything that was sent and answered in a stint.
pub(crate) struct Model {
    sent: HashMap<String, Sent>,
    /// Rollbacks that were answered as recorded, by name: their positions.
    pub(crate) rollbacks: BTreeMap<String, Vec<u64>>,
    /// Events that were to be sent again, and the position of what was recorded after them in their request.
    pub(crate) preceding: Vec<(String, u64)>,
    violations: Vec<String>,
    last_acknowledged: Instant,
    head: u64,
}

impl Model {
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

    /// An event is about to be sent; answers which of its identity's contents it is.
    pub(crate) fn sends(&mut self, id: &str, bytes: &str) -> usize {
        let sent = self.sent.entry(id.to_owned()).or_default();
        sent.contents.iter().position(|content| content == bytes).unwrap_or_else(|| {
            sent.contents.push(bytes.to_owned());
            sent.contents.len() - 1
        })
    }

    /// An answer came, or none did.
    pub(crate) fn hears(&mut self, id: &str, content: usize, outcome: &Outcome) {
        let sent = self.sent.entry(id.to_owned()).or_default();
        if !outcome.is_final() {
            sent.was_unknown = true;
            return;
        }
        sent.said.push(Said { content, outcome: outcome.clone() });
        if *outcome == Outcome::Conflict && sent.contents.len() == 1 {
            self.violations.push(format!("{id}: answered as a conflict, and only one content was ever sent"));
        }
        if let Outcome::Recorded(position) | Outcome::Duplicate(position) = outcome {
            self.acknowledged(*position);
        }
    }

    /// An event must not be recorded after this position.
    pub(crate) fn precedes(&mut self, id: &str, position: u64) {
        self.preceding.push((id.to_owned(), position));
    }

    /// Something is the entry at a position.
    pub(crate) fn acknowledged(&mut self, position: u64) {
        self.last_acknowledged = Instant::now();
        self.head = self.head.max(position);
    }

    /// Load begins: what was before is no silence.
    pub(crate) fn begins(&mut self) {
        self.last_acknowledged = Instant::now();
    }

    /// When an event was acknowledged last.
    pub(crate) fn last_acknowledged(&self) -> Instant {
        self.last_acknowledged
    }

    /// The greatest position that was acknowledged.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// A promise was broken.
    pub(crate) fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The promises that were broken so far.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Counts what was sent and answered.
    pub(crate) fn tally(&self, report: &Report) {
        let has =
            |sent: &Sent, which: fn(&Outcome) -> bool| sent.said.iter().any(|said| which(&said.outcome));
        let acknowledged =
            |outcome: &Outcome| matches!(outcome, Outcome::Recorded(_) | Outcome::Duplicate(_));
        for sent in self.sent.values() {
            let is_there = has(sent, acknowledged);
            report.count("events acknowledged", is_there.into());
            report.count(
                "events unknown at first, and then acknowledged",
                (is_there && sent.was_unknown).into(),
            );
            for said in &sent.said {
                match &said.outcome {
                    Outcome::Duplicate(_) => report.count("answers: duplicate", 1),
                    Outcome::Conflict => report.count("answers: conflict", 1),
                    Outcome::Rejected(_) => report.count("answers: refused for good", 1),
                    Outcome::Recorded(_) | Outcome::Later(_) => {}
                }
            }
        }
    }

    /// Everything that was sent, by the event's id.
    pub(crate) fn sent(&self) -> &HashMap<String, Sent> {
        &self.sent
    }
}
