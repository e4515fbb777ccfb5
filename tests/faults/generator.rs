//! Events of a sender, generated from the seed alone, independent of all responses.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use ledger_tests::Random;

/// Environments of the load.
pub(crate) const ENVIRONMENTS: [&str; 3] = ["production", "staging", "lab"];
/// Environment with a policy for automatic rollbacks.
pub(crate) const AUTOMATIC: &str = "lab";
const SERVICES: [&str; 4] = ["web", "api", "search", "mail"];
const TARGETS: [&str; 2] = ["default", "eu-west-1"];
const SLOTS: [&str; 2] = ["blue", "green"];
/// Maximum number of events in one request.
const MAX_BATCH_EVENTS: u64 = 60;
/// Number of the latest events from which a prompt repetition is chosen.
const RECENT_EVENTS: usize = 40;

/// The final response that an event must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Recorded, or a duplicate of a recorded one.
    Recorded,
    /// A conflict: another event has its identity.
    Conflict,
    /// Rejected: it occurred in the future.
    Rejected,
    /// Recorded or rejected: the ledger decides.
    Decided,
}

/// An event as sent.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    /// Canonical bytes.
    pub(crate) bytes: String,
    pub(crate) expected: Expected,
}

/// Events that are sent in one request.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The events, in order.
    pub(crate) events: Vec<Event>,
    /// Index of the service to send them to.
    pub(crate) service: usize,
    /// True if both services get them at the same time.
    pub(crate) to_both: bool,
    /// Irregularities, for the report.
    pub(crate) irregularities: Vec<&'static str>,
}

/// Generates the events of one sender.
pub(crate) struct Generator {
    random: Random,
    name: String,
    bulk: bool,
    start: DateTime<Utc>,
    /// Error of the sender's clock.
    clock_error: TimeDelta,
    number: u64,
    generated: Vec<Event>,
    irregularities: Vec<&'static str>,
}

impl Generator {
    /// Creates a generator. Its name must be unique in the run; event times begin at `start`.
    pub(crate) fn new(random: Random, name: String, bulk: bool, start: DateTime<Utc>) -> Self {
        Self {
            random,
            name,
            bulk,
            start,
            clock_error: TimeDelta::zero(),
            number: 0,
            generated: Vec::new(),
            irregularities: Vec::new(),
        }
    }

    /// Returns the next events to send.
    pub(crate) fn next(&mut self) -> Batch {
        let count = if self.bulk { self.random.within(2, MAX_BATCH_EVENTS) } else { 1 };
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..count {
            let event = self.event();
            // One content per identity and request: which of two contents is the first would be undefined.
            if events.iter().all(|other| other.id != event.id || other.bytes == event.bytes) {
                events.push(event);
            }
        }
        if self.random.percent(10) {
            // Shuffle, so that the order of sending is not that of occurrence.
            for index in (1..events.len()).rev() {
                events.swap(index, self.random.below(index as u64 + 1) as usize);
            }
            if events.len() > 1 {
                self.irregularities.push("batch out of order of occurrence");
            }
        }
        let (service, to_both) = (self.random.below(2) as usize, self.random.percent(4));
        if to_both {
            self.irregularities.push("sent to both services at once");
        }
        Batch { events, service, to_both, irregularities: std::mem::take(&mut self.irregularities) }
    }

    fn event(&mut self) -> Event {
        if self.random.percent(3) {
            // Set the clock back or forward, within what the service accepts.
            let seconds = self.random.pick(&[-7_200, -60, -1, 0, 1, 60, 180]);
            self.clock_error = TimeDelta::seconds(seconds);
            self.irregularities.push("clock of the sender set");
        }
        match self.random.below(100) {
            0..=5 => self.repeat(RECENT_EVENTS, "recent event sent again"),
            6..=9 => self.repeat(usize::MAX, "any earlier event sent again"),
            10..=12 => self.conflict(),
            13 => {
                self.irregularities.push("event in the future");
                let time = self.start + TimeDelta::days(1 + self.random.below(300) as i64);
                self.create(time, Expected::Rejected)
            }
            14..=19 => {
                self.irregularities.push("event late by up to a month");
                let time = self.time() - TimeDelta::seconds(self.random.below(2_592_000) as i64);
                self.create(time, Expected::Recorded)
            }
            _ => {
                let time = self.time();
                self.create(time, Expected::Recorded)
            }
        }
    }

    fn time(&self) -> DateTime<Utc> {
        // Wraps around after a minute, so some events are later than events that are sent after them.
        self.start + self.clock_error + TimeDelta::milliseconds((self.number % 3_000) as i64 * 20)
    }

    /// Returns one of the latest `count` events.
    fn earlier(&mut self, count: usize) -> Option<Event> {
        let from = self.generated.len().saturating_sub(count);
        let candidates = &self.generated[from..];
        if candidates.is_empty() { None } else { Some(self.random.pick(candidates)) }
    }

    /// Repeats one of the latest `count` events.
    fn repeat(&mut self, count: usize, irregularity: &'static str) -> Event {
        self.irregularities.push(irregularity);
        let time = self.time();
        self.earlier(count).unwrap_or_else(|| self.create(time, Expected::Recorded))
    }

    /// Creates an event with the identity of an earlier one and another content.
    fn conflict(&mut self) -> Event {
        let time = self.time();
        self.irregularities.push("another content for an identity");
        let Some(earlier) = self.earlier(usize::MAX) else { return self.create(time, Expected::Recorded) };
        let mut event: Value = serde_json::from_str(&earlier.bytes).expect("parse generated JSON");
        event["data"]["reason"] = "another content".into();
        Event { id: earlier.id, bytes: event.to_string(), expected: Expected::Conflict }
    }

    fn create(&mut self, time: DateTime<Utc>, expected: Expected) -> Event {
        self.number += 1;
        let random = &mut self.random;
        let environment = random.pick(&ENVIRONMENTS);
        let (service, target) = (random.pick(&SERVICES), random.pick(&TARGETS));
        let version = format!("v{}", random.within(1, 30));
        let mut data = json!({"environment": environment, "service": service, "target": target});
        let kind = match random.below(100) {
            0..=54 => {
                data["release"] = json!({"version": version});
                "deploy.succeeded"
            }
            55..=66 => {
                data["release"] = json!({"version": version});
                data["slot"] = random.pick(&SLOTS).into();
                "deploy.succeeded"
            }
            67..=72 => {
                data["slot"] = random.pick(&SLOTS).into();
                "traffic.switched"
            }
            73..=76 => "deploy.removed",
            77..=79 => {
                data["slot"] = random.pick(&SLOTS).into();
                "deploy.removed"
            }
            80..=83 => {
                data["release"] = json!({"version": version});
                "deploy.failed"
            }
            84..=98 => {
                data["release"] = json!({"version": version});
                data["check"] = "smoke".into();
                "validation.passed"
            }
            _ => {
                data["release"] = json!({"version": version});
                data["check"] = "canary".into();
                "validation.failed"
            }
        };
        let id = format!("{}-{}", self.name, self.number);
        let event = Event { bytes: envelope(&id, kind, time, data), id, expected };
        if expected == Expected::Recorded {
            self.generated.push(event.clone());
        }
        event
    }
}

/// Returns an event's canonical bytes: its names are ASCII, and `Value` sorts them.
pub(crate) fn envelope(id: &str, kind: &str, time: DateTime<Utc>, data: Value) -> String {
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    ledger_tests::event(id, kind, &time, data).to_string()
}
