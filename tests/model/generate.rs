//! Random histories, generated from a seed. There are few names, so that events often affect the same lanes.
//!
//! A history is a list of items. An item is an event, or a placeholder that is completed with the service's responses:
//! the request of a rollback with its plan, a step of that plan, or a later deploy of the release that a step restored.
//! `~` in a text stands for the tag of a run, which separates the histories in one ledger.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::entry::micros;
use ledger_tests::Random;

pub(crate) const ENVIRONMENTS: [&str; 2] = ["staging~", "production~"];
pub(crate) const SERVICES: [&str; 3] = ["web~", "api~", "db~"];
pub(crate) const VERSIONS: [&str; 3] = ["v1~", "v2~", "v3~"];
const CHECKS: [&str; 2] = ["smoke", "e2e"];
const TARGETS: [&str; 2] = ["eu", "us"];

/// Kinds of items that are completed with the service's responses: the request of a rollback, a step of its plan, and a
/// deploy, outside the rollback, of the release that a step restored.
pub(crate) const SERVICE_COMPLETED: [&str; 3] = ["rollback", "step", "redeploy"];

/// An item of a history.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Number in the history, from 1; other items refer to it.
    pub(crate) number: u64,
    /// Time of occurrence, in minutes after the start of the history.
    pub(crate) minutes: i64,
    /// Kind of event, or one of [`SERVICE_COMPLETED`].
    pub(crate) kind: String,
    /// Members of the event. `{"item": N}` stands for the position of an item.
    pub(crate) data: Value,
}

impl Item {
    /// Formats the item as a line of JSON.
    pub(crate) fn line(&self) -> String {
        json!({"item": self.number, "time": time(self.minutes), "kind": self.kind, "data": self.data})
            .to_string()
    }
}

/// Returns the time at this minute of a history.
pub(crate) fn time(minutes: i64) -> String {
    let micros = micros("2026-05-01T10:00:00Z") + minutes * 60_000_000;
    let time = DateTime::from_timestamp_micros(micros).expect("the time is valid");
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Replaces `~` by the tag in all texts.
pub(crate) fn with_tag(value: &Value, tag: &str) -> Value {
    serde_json::from_str(&value.to_string().replace('~', tag)).expect("the tag keeps the JSON valid")
}

/// Returns one of five spellings of the artifact of a build.
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

/// Probabilities for the events of a service in one history.
struct ServiceProfile {
    /// Targets that reports name; if empty, they name none.
    targets: Vec<&'static str>,
    /// Percentage of reports that name no target.
    without_target: u64,
    /// Percentage of deploys to a slot.
    to_slot: u64,
    /// Percentage of releases that state an artifact.
    with_artifact: u64,
}

struct Generator {
    random: Random,
    items: Vec<Item>,
    /// Events to add later, in order.
    pending: Vec<(&'static str, Value)>,
    profiles: Vec<ServiceProfile>,
    services: usize,
    clock: i64,
}

/// Generates the history of a seed with this number.
pub(crate) fn history(seed: u64, number: u64) -> Vec<Item> {
    let mut random = Random::of(seed, &[number]);
    let services = random.within(2, 3) as usize;
    let profiles = (0..services).map(|_| profile(&mut random)).collect();
    let length = random.within(20, 60);
    let mut generator =
        Generator { random, items: Vec::new(), pending: Vec::new(), profiles, services, clock: 0 };
    if generator.random.percent(60) {
        generator.declare("production~");
    }
    while (generator.items.len() as u64) < length {
        generator.clock += generator.random.pick(&[0, 0, 1, 1, 2, 3]);
        if !generator.pending.is_empty() && generator.random.percent(60) {
            let (kind, data) = generator.pending.remove(0);
            generator.push(generator.clock, kind, data);
        } else {
            generator.next();
        }
    }
    generator.items
}

fn profile(random: &mut Random) -> ServiceProfile {
    let targets = match random.below(4) {
        0 | 1 => vec![],
        2 => vec!["eu"],
        _ => TARGETS.to_vec(),
    };
    let without_target = if targets.is_empty() { 100 } else { 20 };
    ServiceProfile {
        targets,
        without_target,
        to_slot: random.pick(&[0, 0, 50, 100]),
        with_artifact: random.pick(&[0, 40, 90]),
    }
}

impl Generator {
    fn push(&mut self, minutes: i64, kind: &str, data: Value) {
        let number = self.items.len() as u64 + 1;
        self.items.push(Item { number, minutes, kind: kind.to_owned(), data });
    }

    fn next(&mut self) {
        match self.random.below(100) {
            0..21 => self.deploy("deploy.succeeded"),
            21..24 => self.check_a_build(),
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

    /// Returns the time of a report: the present, a late one, or that of an earlier item.
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

    /// Returns a service and its lane, with a target if the report names one.
    fn lane(&mut self) -> (usize, Value) {
        let service = self.service();
        let mut lane = json!({"environment": self.environment(), "service": SERVICES[service]});
        let profile = &self.profiles[service];
        if !profile.targets.is_empty() && !self.random.percent(profile.without_target) {
            lane["target"] = self.random.pick(&profile.targets).into();
        }
        (service, lane)
    }

    fn release(&mut self, service: usize) -> Value {
        let version = self.random.below(VERSIONS.len() as u64) as usize;
        let mut release = json!({"version": VERSIONS[version]});
        if self.random.percent(self.profiles[service].with_artifact) {
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
        if self.random.percent(self.profiles[service].to_slot) {
            data["slot"] = self.slot().into();
        }
        if self.random.percent(25) {
            data["deployment"] = self.random.pick(&["d1~", "d2~", "d3~"]).into();
        }
        // Not on a start: the service pairs a start with its end, which the model does not implement.
        if self.random.percent(5) && kind != "deploy.started" {
            data["reversible"] = false.into();
        }
        let minutes = self.report_time();
        self.push(minutes, kind, data);
    }

    fn remove(&mut self) {
        let (service, mut data) = self.lane();
        if self.random.percent(self.profiles[service].to_slot / 2) {
            data["slot"] = self.slot().into();
        }
        let minutes = self.report_time();
        self.push(minutes, "deploy.removed", data);
    }

    fn switch(&mut self) {
        let (service, mut data) = self.lane();
        if self.profiles[service].to_slot == 0 && self.random.percent(90) {
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

    /// Adds a check that passes although another release replaced the checked one in the meantime; in half of the cases
    /// the checked release returns before the check ends.
    fn replace_during_a_check(&mut self) {
        let (service, lane) = self.lane();
        let deployed = |release: &Value| {
            let mut data = lane.clone();
            data["release"] = release.clone();
            data
        };
        let (checked, other) = (self.release(service), self.release(service));
        let mut check = if self.random.percent(50) { deployed(&checked) } else { lane.clone() };
        check["check"] = self.random.pick(&CHECKS).into();
        self.push(self.clock, "deploy.succeeded", deployed(&checked));
        self.pending.push(("validation.started", check.clone()));
        self.pending.push(("deploy.succeeded", deployed(&other)));
        if self.random.percent(50) {
            self.pending.push(("deploy.succeeded", deployed(&checked)));
        }
        self.pending.push(("validation.passed", check));
    }

    /// Adds a deploy that states only its version, checks of the artifact that was built for it, and the build, which is
    /// recorded last in half of the cases.
    fn check_a_build(&mut self) {
        let (service, lane) = self.lane();
        let version = self.random.below(VERSIONS.len() as u64) as usize;
        let mut deploy = lane.clone();
        deploy["release"] = json!({"version": VERSIONS[version]});
        let artifact = self.artifact(service, version);
        let build = ("artifact.built", json!({"artifact": artifact, "version": VERSIONS[version]}));
        let mut of_artifact = json!({"artifact": self.artifact(service, version)});
        of_artifact["check"] = self.random.pick(&CHECKS).into();
        let mut of_release = lane;
        of_release["release"] = json!({"version": VERSIONS[version], "artifact": artifact});
        of_release["check"] = self.random.pick(&CHECKS).into();
        let ends = ["validation.passed", "validation.failed"];
        let is_late = self.random.percent(50);
        if !is_late {
            self.pending.push(build.clone());
        }
        self.pending.push(("deploy.succeeded", deploy));
        self.pending.push((self.random.pick(&ends), of_release));
        self.pending.push((self.random.pick(&ends), of_artifact));
        if is_late {
            self.pending.push(build);
        }
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

    /// Returns a reference to an earlier item of the environment.
    fn earlier(&mut self, environment: &str) -> Option<Value> {
        let numbers: Vec<u64> = self
            .items
            .iter()
            .filter(|item| {
                item.data["environment"] == environment && !SERVICE_COMPLETED.contains(&&*item.kind)
            })
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
            self.pending.push(("freeze.lifted", lift));
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
            self.pending.push(("artifact.reinstated", json!({"artifact": spelled})));
        }
        self.push(self.clock, "artifact.revoked", json!({"artifact": revoked, "reason": "It leaks."}));
    }

    fn retire(&mut self) {
        let environment = self.environment();
        if self.random.percent(70) {
            self.pending.push(("environment.declared", json!({"environment": environment, "policy": {}})));
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
            self.pending.push(("approval.granted", with_actor));
        }
        let mut started = of.clone();
        if self.random.percent(25) {
            started["acknowledge"] = "all".into();
        }
        self.pending.push(("rollback.started", started));
        for index in 0..self.random.within(1, 4) {
            let claims = self.random.percent(40);
            self.pending.push((
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
        self.pending.push((end, of.clone()));
        if self.random.percent(40) {
            self.pending.push(("redeploy", json!({"environment": environment, "of": number, "index": 0})));
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
                // The same event, with another target or another time.
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

/// Returns the CloudEvents id of an item.
pub(crate) fn id(number: u64) -> String {
    format!("e{number}~")
}
