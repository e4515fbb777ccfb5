//! What a sender sends: event after event, made from the seed alone, whatever is answered.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use ledger_tests::Random;

/// Environments of the load.
pub(crate) const ENVIRONMENTS: [&str; 3] = ["production", "staging", "lab"];
/// The environment whose policy has the ledger roll back by itself.
pub(crate) const AUTOMATIC: &str = "lab";
const SERVICES: [&str; 4] = ["web", "api", "search", "mail"];
const TARGETS: [&str; 2] = ["default", "eu-west-1"];
const SLOTS: [&str; 2] = ["blue", "green"];
/// Events in one request, at most.
const BULK: u64 = 60;
/// How far back something is that is sent again soon.
const SOON: usize = 40;

/// What is to become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// It is recorded, or was.
    Recorded,
    /// Another event has its identity.
    Conflict,
    /// It is refused for good: it occurred in the future.
    Refused,
    /// It is judged: recorded or rejected.
    Judged,
}

/// An event as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its id.
    pub(crate) id: String,
    /// Its bytes, which are canonical.
    pub(crate) bytes: String,
    /// What is to become of it.
    pub(crate) aim: Aim,
}

/// Events that are sent together.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    /// The events, in order.
    pub(crate) events: Vec<Event>,
    /// The service that they go to first.
    pub(crate) service: usize,
    /// Whether both services get them at the same time.
    pub(crate) twice: bool,
    /// What is odd about them.
    pub(crate) odd: Vec<&'static str>,
}

/// Writes the events of one sender.
pub(crate) struct Author {
    random: Random,
    name: String,
    bulk: bool,
    start: DateTime<Utc>,
    /// The sender's clock is so far from the right one.
    clock: TimeDelta,
    number: u64,
    written: Vec<Event>,
    odd: Vec<&'static str>,
}

impl Author {
    /// An author with a name that no other of the run has. Times are told from `start` on.
    pub(crate) fn new(random: Random, name: String, bulk: bool, start: DateTime<Utc>) -> Self {
        Self {
            random,
            name,
            bulk,
            start,
            clock: TimeDelta::zero(),
            number: 0,
            written: Vec::new(),
            odd: Vec::new(),
        }
    }

    /// What is sent next.
    pub(crate) fn next(&mut self) -> Sending {
        let count = if self.bulk { self.random.within(2, BULK) } else { 1 };
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..count {
            let event = self.event();
            // In one request an identity stands with one content: which of two came first, nobody could say.
            if events.iter().all(|other| other.id != event.id || other.bytes == event.bytes) {
                events.push(event);
            }
        }
        if self.random.percent(10) {
            // Sent in another order than they occurred in.
            for index in (1..events.len()).rev() {
                events.swap(index, self.random.below(index as u64 + 1) as usize);
            }
            if events.len() > 1 {
                self.odd.push("many sent in another order than they occurred in");
            }
        }
        let (service, twice) = (self.random.below(2) as usize, self.random.percent(4));
        if twice {
            self.odd.push("sent to both services at once");
        }
        Sending { events, service, twice, odd: std::mem::take(&mut self.odd) }
    }

    fn event(&mut self) -> Event {
        if self.random.percent(3) {
            // The clock is set, back and forth, as far as is taken.
            let seconds = self.random.pick(&[-7_200, -60, -1, 0, 1, 60, 180]);
            self.clock = TimeDelta::seconds(seconds);
            self.odd.push("a sender's clock set");
        }
        match self.random.below(100) {
            0..=5 => self.again(SOON, "sent again soon"),
            6..=9 => self.again(usize::MAX, "sent again at some time"),
            10..=12 => self.contradiction(),
            13 => {
                self.odd.push("from the future");
                let time = self.start + TimeDelta::days(1 + self.random.below(300) as i64);
                self.fresh(time, Aim::Refused)
            }
            14..=19 => {
                self.odd.push("late by up to a month");
                let time = self.time() - TimeDelta::seconds(self.random.below(2_592_000) as i64);
                self.fresh(time, Aim::Recorded)
            }
            _ => {
                let time = self.time();
                self.fresh(time, Aim::Recorded)
            }
        }
    }

    fn time(&self) -> DateTime<Utc> {
        // A minute's worth, over and over: some are later than what came after them.
        self.start + self.clock + TimeDelta::milliseconds((self.number % 3_000) as i64 * 20)
    }

    fn earlier(&mut self, within: usize) -> Option<Event> {
        let from = self.written.len().saturating_sub(within);
        let candidates = &self.written[from..];
        if candidates.is_empty() { None } else { Some(self.random.pick(candidates)) }
    }

    /// The same event once more.
    fn again(&mut self, within: usize, odd: &'static str) -> Event {
        self.odd.push(odd);
        let time = self.time();
        self.earlier(within).unwrap_or_else(|| self.fresh(time, Aim::Recorded))
    }

    /// The identity of an earlier event, and another content.
    fn contradiction(&mut self) -> Event {
        let time = self.time();
        self.odd.push("another content for an identity");
        let Some(earlier) = self.earlier(usize::MAX) else { return self.fresh(time, Aim::Recorded) };
        let mut event: Value = serde_json::from_str(&earlier.bytes).expect("it was written as JSON");
        event["data"]["reason"] = "another content".into();
        Event { id: earlier.id, bytes: event.to_string(), aim: Aim::Conflict }
    }

    fn fresh(&mut self, time: DateTime<Utc>, aim: Aim) -> Event {
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
        let event = Event { bytes: envelope(&id, kind, time, data), id, aim };
        if aim == Aim::Recorded {
            self.written.push(event.clone());
        }
        event
    }
}

/// An event's canonical bytes: its names are ASCII, and `Value` sorts them.
pub(crate) fn envelope(id: &str, kind: &str, time: DateTime<Utc>, data: Value) -> String {
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    ledger_tests::event(id, kind, &time, data).to_string()
}
