//! Random histories that follow from a seed. Names are few, so that events meet each other often.
//!
//! A history is a list of items. An item is an event, or stands for one that only the service can complete: the
//! request of a rollback with its plan, a step of that plan, or a later deploy of what a step restored. `~` in a text stands for the tag of a run, by which
//! the histories in one ledger are kept apart.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::entry::micros;
use ledger_tests::Random;

pub(crate) const ENVIRONMENTS: [&str; 2] = ["staging~", "production~"];
pub(crate) const SERVICES: [&str; 3] = ["web~", "api~", "db~"];
pub(crate) const VERSIONS: [&str; 3] = ["v1~", "v2~", "v3~"];
const CHECKS: [&str; 2] = ["smoke", "e2e"];
const TARGETS: [&str; 2] = ["eu", "us"];

/// The kinds of items that only the service can complete: the request of a rollback, a step of its plan, and a deploy of
/// what that step restored, outside the rollback.
pub(crate) const COMPLETED: [&str; 3] = ["rollback", "step", "again"];

/// An item of a history.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its number in the history, from 1 on; other items refer to it.
    pub(crate) number: u64,
    /// When it occurs, in minutes.
    pub(crate) minutes: i64,
    /// A kind of event, or one of [`COMPLETED`].
    pub(crate) kind: String,
    /// The event's members. `{"item": N}` stands for the position of an item.
    pub(crate) data: Value,
}

impl Item {
    /// One line of JSON.
    pub(crate) fn line(&self) -> String {
        json!({"item": self.number, "time": time(self.minutes), "kind": self.kind, "data": self.data})
            .to_string()
    }
}

/// A time of a history.
pub(crate) fn time(minutes: i64) -> String {
    let micros = micros("2026-05-01T10:00:00Z") + minutes * 60_000_000;
    let time = DateTime::from_timestamp_micros(micros).expect("a time");
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The same JSON with the tag in its texts.
pub(crate) fn tagged(value: &Value, tag: &str) -> Value {
    serde_json::from_str(&value.to_string().replace('~', tag)).expect("JSON")
}

/// One of the spellings of a build of a version of a service.
pub(crate) fn artifact(service: usize, version: usize, build: u64, spelling: u64) -> String {
    let name = SERVICES[service];
    let digest = format!("{:056x}~", 1 + service as u64 * 100 + version as u64 * 10 + build);
    match spelling {
        0 => format!("pkg:oci/{name}@sha256:{digest}"),
        1 => format!("registry.example/{name}@sha256:{digest}"),
        2 => format!("sha256:{digest}"),
        3 => format!("pkg:oci/{name}@sha256%3A{digest}?repository_url=staging.example"),
        _ => format!("staging.example/{name}@sha256:{digest}"),
    }
}

/// What is usual for a service in a history.
struct Habit {
    /// The targets that reports name; none: they name no target.
    targets: Vec<&'static str>,
    /// Times in a hundred that a report leaves its target out.
    unnamed: u64,
    /// Times in a hundred that a deploy is to a slot.
    slots: u64,
    /// Times in a hundred that a release states its artifact.
    artifacts: u64,
}

struct Author {
    random: Random,
    items: Vec<Item>,
    /// What is to come later, in order.
    later: Vec<(&'static str, Value)>,
    habits: Vec<Habit>,
    services: usize,
    clock: i64,
}

/// The history of a seed with a number.
pub(crate) fn history(seed: u64, number: u64) -> Vec<Item> {
    let mut random = Random::of(seed, &[number]);
    let services = random.within(2, 3) as usize;
    let habits = (0..services).map(|_| habit(&mut random)).collect();
    let length = random.within(20, 60);
    let mut author = Author { random, items: Vec::new(), later: Vec::new(), habits, services, clock: 0 };
    if author.random.percent(60) {
        author.declare("production~");
    }
    while (author.items.len() as u64) < length {
        author.clock += author.random.pick(&[0, 0, 1, 1, 2, 3]);
        if !author.later.is_empty() && author.random.percent(60) {
            let (kind, data) = author.later.remove(0);
            author.push(author.clock, kind, data);
        } else {
            author.next();
        }
    }
    author.items
}

fn habit(random: &mut Random) -> Habit {
    let targets = match random.below(4) {
        0 | 1 => vec![],
        2 => vec!["eu"],
        _ => TARGETS.to_vec(),
    };
    let unnamed = if targets.is_empty() { 100 } else { 20 };
    Habit { targets, unnamed, slots: random.pick(&[0, 0, 50, 100]), artifacts: random.pick(&[0, 40, 90]) }
}

impl Author {
    fn push(&mut self, minutes: i64, kind: &str, data: Value) {
        let number = self.items.len() as u64 + 1;
        self.items.push(Item { number, minutes, kind: kind.to_owned(), data });
    }

    fn next(&mut self) {
        match self.random.below(100) {
            0..24 => self.deploy("deploy.succeeded"),
            24..27 => self.replace_during_a_check(),
            27..30 => self.deploy("deploy.started"),
            30..33 => self.deploy("deploy.failed"),
            33..39 => self.remove(),
            39..51 => self.switch(),
            51..57 => self.check("validation.started"),
            57..66 => self.check("validation.passed"),
            66..71 => self.check("validation.failed"),
            71..74 => self.build(),
            74..76 => {
                let environment = self.environment();
                self.declare(environment);
            }
            76..80 => self.mark(),
            80..82 => self.freeze(),
            82..87 => self.approve(),
            87..89 => self.revoke(),
            89 => self.retire(),
            90..96 => self.roll_back(),
            _ => self.correct(),
        }
    }

    fn environment(&mut self) -> &'static str {
        if self.random.percent(70) { "production~" } else { "staging~" }
    }

    fn service(&mut self) -> usize {
        self.random.below(self.services as u64) as usize
    }

    /// The time of a report: now, late, or that of an earlier item.
    fn report_time(&mut self) -> i64 {
        match self.random.below(100) {
            0..15 => self.clock - self.random.within(1, 8) as i64,
            15..25 if !self.items.is_empty() => {
                let index = self.random.below(self.items.len() as u64) as usize;
                self.items[index].minutes
            }
            _ => self.clock,
        }
    }

    /// An environment and a service, with a target where one is named.
    fn lane(&mut self) -> (usize, Value) {
        let service = self.service();
        let mut lane = json!({"environment": self.environment(), "service": SERVICES[service]});
        let habit = &self.habits[service];
        if !habit.targets.is_empty() && !self.random.percent(habit.unnamed) {
            lane["target"] = self.random.pick(&habit.targets).into();
        }
        (service, lane)
    }

    fn release(&mut self, service: usize) -> Value {
        let version = self.random.below(VERSIONS.len() as u64) as usize;
        let mut release = json!({"version": VERSIONS[version]});
        if self.random.percent(self.habits[service].artifacts) {
            release["artifact"] = self.artifact(service, version).into();
        }
        if self.random.percent(6) {
            release["config"] = format!("sha256:{:064x}", self.random.within(1, 2)).into();
        }
        if self.random.percent(6) {
            release["commit"] = self.random.pick(&["c1", "c2"]).into();
        }
        release
    }

    fn artifact(&mut self, service: usize, version: usize) -> String {
        let build = if self.random.percent(80) { 1 } else { 2 };
        let spelling = self.random.below(8).saturating_sub(3);
        artifact(service, version, build, spelling)
    }

    fn slot(&mut self) -> &'static str {
        self.random.pick(&["blue", "green"])
    }

    fn deploy(&mut self, kind: &str) {
        let (service, mut data) = self.lane();
        data["release"] = self.release(service);
        if self.random.percent(self.habits[service].slots) {
            data["slot"] = self.slot().into();
        }
        if self.random.percent(25) {
            data["deployment"] = self.random.pick(&["d1~", "d2~", "d3~"]).into();
        }
        // A start that says so is paired with its end by the service, in ways that the model does not follow.
        if self.random.percent(5) && kind != "deploy.started" {
            data["reversible"] = false.into();
        }
        let minutes = self.report_time();
        self.push(minutes, kind, data);
    }

    fn remove(&mut self) {
        let (service, mut data) = self.lane();
        if self.random.percent(self.habits[service].slots / 2) {
            data["slot"] = self.slot().into();
        }
        let minutes = self.report_time();
        self.push(minutes, "deploy.removed", data);
    }

    fn switch(&mut self) {
        let (service, mut data) = self.lane();
        if self.habits[service].slots == 0 && self.random.percent(90) {
            return self.deploy("deploy.succeeded");
        }
        data["slot"] = self.slot().into();
        let minutes = self.report_time();
        self.push(minutes, "traffic.switched", data);
    }

    fn check(&mut self, kind: &str) {
        let begun: Vec<Value> = self
            .items
            .iter()
            .filter(|item| item.kind == "validation.started")
            .map(|item| item.data.clone())
            .collect();
        let mut data = if kind != "validation.started" && !begun.is_empty() && self.random.percent(50) {
            self.random.pick(&begun)
        } else {
            self.subject()
        };
        if kind != "validation.started" && self.random.percent(15) {
            let counts = [json!({"passed": 3}), json!({"passed": 3, "failed": 1}), json!({"skipped": 2})];
            data["counts"] = self.random.pick(&counts);
        }
        let minutes = self.report_time();
        self.push(minutes, kind, data);
    }

    /// A check that passes although, while it ran, another release replaced the one that it examined; in half of the
    /// cases that one comes back before the check ends.
    fn replace_during_a_check(&mut self) {
        let (service, lane) = self.lane();
        let deployed = |release: &Value| {
            let mut data = lane.clone();
            data["release"] = release.clone();
            data
        };
        let (examined, other) = (self.release(service), self.release(service));
        let mut check = if self.random.percent(50) { deployed(&examined) } else { lane.clone() };
        check["check"] = self.random.pick(&CHECKS).into();
        self.push(self.clock, "deploy.succeeded", deployed(&examined));
        self.later.push(("validation.started", check.clone()));
        self.later.push(("deploy.succeeded", deployed(&other)));
        if self.random.percent(50) {
            self.later.push(("deploy.succeeded", deployed(&examined)));
        }
        self.later.push(("validation.passed", check));
    }

    fn subject(&mut self) -> Value {
        let (service, lane) = self.lane();
        let mut data = match self.random.below(100) {
            0..30 => json!({"environment": lane["environment"]}),
            30..48 => lane,
            48..76 => {
                let mut data = lane;
                data["release"] = self.release(service);
                data
            }
            76..86 => {
                let mut data = lane;
                data["deployment"] = self.random.pick(&["d1~", "d2~", "d3~"]).into();
                data
            }
            _ => {
                let version = self.random.below(VERSIONS.len() as u64) as usize;
                json!({"artifact": self.artifact(service, version)})
            }
        };
        data["check"] = self.random.pick(&CHECKS).into();
        if self.random.percent(20) {
            data["run"] = self.random.pick(&["run1~", "run2~"]).into();
        }
        data
    }

    fn build(&mut self) {
        let service = self.service();
        let version = self.random.below(VERSIONS.len() as u64) as usize;
        let artifact = self.artifact(service, version);
        let minutes = self.report_time();
        self.push(minutes, "artifact.built", json!({"artifact": artifact, "version": VERSIONS[version]}));
    }

    fn declare(&mut self, environment: &str) {
        let required = self.random.pick(&[&[][..], &["smoke"], &["e2e"], &["smoke", "e2e"]]);
        let mut policy = json!({"required_validations": required});
        if self.random.percent(30) {
            policy["soak_seconds"] = self.random.pick(&[60, 180, 600]).into();
        }
        if environment == "production~" && self.random.percent(50) {
            policy["promotion"] = json!({"from": ["staging~"]});
            if self.random.percent(30) {
                policy["promotion"]["targets"] = "any".into();
            }
        }
        if self.random.percent(30) {
            policy["approvals"] = self.random.within(1, 2).into();
        }
        self.push(self.clock, "environment.declared", json!({"environment": environment, "policy": policy}));
    }

    /// An earlier item of the environment.
    fn earlier(&mut self, environment: &str) -> Option<Value> {
        let numbers: Vec<u64> = self
            .items
            .iter()
            .filter(|item| item.data["environment"] == environment && !COMPLETED.contains(&&*item.kind))
            .map(|item| item.number)
            .collect();
        (!numbers.is_empty()).then(|| json!({"item": self.random.pick(&numbers)}))
    }

    fn mark(&mut self) {
        let environment = self.environment();
        let Some(position) = self.earlier(environment) else { return };
        let mut data = json!({"environment": environment, "position": position, "reason": "Seen."});
        data["actor"] = self.actor();
        let marked: Vec<Value> = self
            .items
            .iter()
            .filter(|item| item.kind == "release_point.marked" && item.data["environment"] == environment)
            .map(|item| item.data["position"].clone())
            .collect();
        let kind = if !marked.is_empty() && self.random.percent(40) {
            if self.random.percent(80) {
                data["position"] = self.random.pick(&marked);
            }
            "release_point.revoked"
        } else {
            data["status"] = self.random.pick(&["known_good", "bad"]).into();
            "release_point.marked"
        };
        self.push(self.clock, kind, data);
    }

    fn freeze(&mut self) {
        let environment = self.environment();
        let mut data = json!({"environment": environment, "freeze_id": self.random.pick(&["f1~", "f2~"])});
        if self.random.percent(30) {
            data["until"] = time(self.clock + self.random.within(1, 6) as i64).into();
        }
        let lift = json!({"environment": environment, "freeze_id": data["freeze_id"]});
        if self.random.percent(80) {
            self.later.push(("freeze.lifted", lift));
        }
        self.push(self.clock, "freeze.started", data);
    }

    fn actor(&mut self) -> Value {
        let people = [
            ("person", "mira"),
            ("person", "Mira"),
            ("person", "noa"),
            ("person", "tom"),
            ("workload", "ci"),
        ];
        let (kind, name) = self.random.pick(&people);
        json!({"type": kind, "name": name})
    }

    fn approve(&mut self) {
        let (service, mut data) = self.lane();
        data["release"] = self.release(service);
        data["actor"] = self.actor();
        if self.random.percent(20) {
            data["expires_at"] = self.random.pick(&["2026-05-01T10:20:00Z", "2199-01-01T00:00:00Z"]).into();
        }
        let kind = if self.random.percent(75) { "approval.granted" } else { "approval.rejected" };
        self.push(self.clock, kind, data);
    }

    fn revoke(&mut self) {
        let service = self.service();
        let version = self.random.below(VERSIONS.len() as u64) as usize;
        let spelling = |random: &mut Random| random.below(5);
        let revoked = artifact(service, version, 1, spelling(&mut self.random));
        if self.random.percent(50) {
            let spelled = artifact(service, version, 1, spelling(&mut self.random));
            self.later.push(("artifact.reinstated", json!({"artifact": spelled})));
        }
        self.push(self.clock, "artifact.revoked", json!({"artifact": revoked, "reason": "It leaks."}));
    }

    fn retire(&mut self) {
        let environment = self.environment();
        if self.random.percent(70) {
            self.later.push(("environment.declared", json!({"environment": environment, "policy": {}})));
        }
        self.push(self.clock, "environment.retired", json!({"environment": environment}));
    }

    fn roll_back(&mut self) {
        let environment = self.environment();
        let Some(earlier) = self.earlier(environment) else { return };
        let to = self.random.pick(&[earlier.clone(), earlier, "-1".into(), "last-known-good".into()]);
        let number = self.items.len() as u64 + 1;
        let id = format!("r{number}~");
        let mut actor = self.actor();
        if self.random.percent(70) {
            actor = json!({"type": "person", "name": "mira"});
        }
        self.push(
            self.clock,
            "rollback",
            json!({"environment": environment, "to": to, "rollback_id": id, "initiated_by": actor}),
        );
        let of = json!({"environment": environment, "rollback_id": id, "of": number});
        let mut with_actor = of.clone();
        with_actor["actor"] = json!({"type": "person", "name": "noa"});
        if self.random.percent(60) {
            self.later.push(("approval.granted", with_actor));
        }
        let mut started = of.clone();
        if self.random.percent(25) {
            started["acknowledge"] = "all".into();
        }
        self.later.push(("rollback.started", started));
        for index in 0..self.random.within(1, 4) {
            let claims = self.random.percent(40);
            self.later.push((
                "step",
                json!({"environment": environment, "of": number, "index": index, "claims": claims}),
            ));
        }
        let end = self.random.pick(&[
            "rollback.succeeded",
            "rollback.succeeded",
            "rollback.failed",
            "rollback.cancelled",
        ]);
        self.later.push((end, of.clone()));
        if self.random.percent(40) {
            self.later.push(("again", json!({"environment": environment, "of": number, "index": 0})));
        }
    }

    fn correct(&mut self) {
        let correctable = |item: &&Item| {
            item.kind.starts_with("deploy.")
                || item.kind.starts_with("validation.")
                || item.kind == "traffic.switched"
                || (item.kind == "artifact.built" && item.number.is_multiple_of(4))
        };
        let items: Vec<Item> = self.items.iter().filter(correctable).cloned().collect();
        if items.is_empty() {
            return;
        }
        let item = self.random.pick(&items);
        let id = if self.random.percent(8) { "unknown~".to_owned() } else { id(item.number) };
        let before = self.items.len();
        match &*item.kind {
            "deploy.succeeded" | "deploy.removed" if self.random.percent(50) => {
                // The same, with a target or a time of its own.
                let mut data = item.data.clone();
                if self.random.percent(40) {
                    data["target"] = self.random.pick(&TARGETS).into();
                }
                let minutes = if self.random.percent(50) { item.minutes } else { self.report_time() };
                self.push(minutes, &item.kind, data);
            }
            "deploy.succeeded" | "deploy.started" | "deploy.failed" => self.deploy("deploy.succeeded"),
            "deploy.removed" => self.remove(),
            "traffic.switched" => self.switch(),
            "validation.passed" => self.check("validation.failed"),
            _ => self.check("validation.passed"),
        }
        if self.items.len() > before {
            let source = crate::driver::SOURCE;
            self.items[before].data["corrects"] = json!({"source": source, "id": id});
        }
    }
}

/// The CloudEvents id of an item.
pub(crate) fn id(number: u64) -> String {
    format!("e{number}~")
}
