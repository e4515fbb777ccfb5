//! Random histories that end with a failed check, with an executor that carries out every plan: afterwards the
//! environment never runs less than it should, and never nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures::StreamExt;
use ledger_tests::{Client, Random, Servers, Service, event, text};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Number of random histories, each in its own environment, unless `LEDGER_RANDOM_FAILURES` names another number.
const HISTORIES: u64 = 200;
/// Number of concurrent histories.
const CONCURRENCY: usize = 8;
const SEED: u64 = 1;

/// A lane: service and target.
type LaneName = (String, String);

/// The outcome of a history.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    RolledBack { steps: usize, removals: usize },
    Declined,
}

struct History<'c> {
    client: &'c Client,
    environment: String,
    random: Random,
    start: DateTime<Utc>,
    minutes: i64,
    events: u64,
    /// The position of the last entry.
    last: u64,
}

/// Returns the live version of each lane in a state.
fn lanes(state: &Value) -> BTreeMap<LaneName, String> {
    let lanes = state["lanes"].as_array().expect("lanes").iter();
    lanes
        .map(|lane| ((text(&lane["service"]), text(&lane["target"])), text(&lane["release"]["version"])))
        .collect()
}

impl History<'_> {
    async fn record(&mut self, kind: &str, late: i64, mut data: Value) -> u64 {
        self.events += 1;
        data["environment"] = self.environment.as_str().into();
        let id = format!("{}-{}", self.environment, self.events);
        let time = self.start + TimeDelta::minutes(self.minutes - late);
        let time = time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let event = event(&id, kind, &time, data);
        let answer = Client::until_decided(|| self.client.record(&event)).await.ok();
        self.last = answer["position"].as_u64().expect("a position");
        self.last
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(&format!("/v1/environments/{}/{path}", self.environment)).await.ok()
    }

    async fn running(&self, at: &str) -> BTreeMap<LaneName, String> {
        lanes(&self.get(&format!("state?at={at}")).await)
    }

    /// Returns a random lane; most often without a target.
    fn lane(&mut self) -> Value {
        let service = self.random.pick(&["api", "job", "web"]);
        match self.random.percent(70) {
            true => json!({"service": service}),
            false => json!({"service": service, "target": self.random.pick(&["eu", "us"])}),
        }
    }

    /// Records one random event: a deploy, a switch, a removal or a check, on time or late.
    async fn record_random_event(&mut self) {
        self.minutes += self.random.pick(&[0, 1, 2, 5]);
        let late = self.random.pick(&[0, 0, 0, 1, 7]);
        let mut data = self.lane();
        let slot = self.random.pick(&["blue", "green"]);
        let release = json!({"version": format!("v{}", self.random.within(1, 4))});
        match self.random.below(100) {
            0..40 => {
                data["release"] = release;
                if data["service"] == "web" && self.random.percent(50) {
                    data["slot"] = slot.into();
                }
                self.record("deploy.succeeded", late, data).await;
            }
            40..50 => {
                data["slot"] = slot.into();
                self.record("traffic.switched", late, data).await;
            }
            50..62 => {
                self.record("deploy.removed", late, data).await;
            }
            62..85 => {
                // A canary fails only at the end: until then the controller has nothing to decide.
                let (check, kind) = self.random.pick(&[
                    ("canary", "validation.passed"),
                    ("smoke", "validation.passed"),
                    ("smoke", "validation.failed"),
                ]);
                data["check"] = check.into();
                if self.random.percent(50) {
                    data["release"] = release;
                }
                self.record(kind, late, data).await;
            }
            _ => {
                self.record("validation.passed", late, json!({"check": "smoke"})).await;
            }
        }
    }

    /// Waits for the controller's decision about a failed check.
    async fn wait_for_decision(&self, cause: u64) -> Value {
        let found = async {
            let mut after = cause;
            loop {
                let page = self.client.get(&format!("/v1/events?after={after}&limit=1000")).await.ok();
                for entry in page["events"].as_array().expect("events") {
                    after = after.max(entry["position"].as_u64().expect("a position"));
                    let data = &entry["event"]["data"];
                    if data["cause"] == cause && data["environment"] == self.environment.as_str() {
                        return entry["event"].clone();
                    }
                }
                // Wait until the projections have the next entry, or query again.
                self.client.get(&format!("/v1/position?wait_for={}&wait_ms=200", after + 1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.expect("the controller decides")
    }

    /// Executes each step of a plan.
    async fn execute(&mut self, id: &str, steps: &[Value]) {
        let of = |more: Value| {
            let mut data = json!({"rollback_id": id});
            data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            data
        };
        self.minutes += 1;
        self.record("rollback.started", 0, of(json!({}))).await;
        for step in steps {
            self.minutes += 1;
            let mut data = of(json!({"service": step["service"]}));
            if step["target"].is_string() {
                data["target"] = step["target"].clone();
            }
            let action = text(&step["action"]);
            if action == "remove" {
                self.record("deploy.removed", 0, data).await;
                continue;
            }
            let slot = step["slot"].is_string();
            if slot {
                data["slot"] = step["slot"].clone();
            }
            if action != "switch" {
                let mut deploy = data.clone();
                deploy["release"] = step["to"].clone();
                self.record("deploy.started", 0, deploy.clone()).await;
                self.record("deploy.succeeded", 0, deploy).await;
            }
            if slot {
                self.record("traffic.switched", 0, data).await;
            }
        }
        self.record("rollback.succeeded", 0, of(json!({}))).await;
    }

    async fn run(mut self) -> Outcome {
        let scope = self.random.pick(&["service", "environment"]);
        let required = self.random.pick(&[json!([]), json!(["smoke"])]);
        let policy = json!({
            "required_validations": required,
            "automatic_rollback": {
                "checks": ["canary"], "scope": scope, "at_most_steps": self.random.within(1, 8),
                "cool_down_seconds": 0, "at_most_a_day": 100,
            },
        });
        self.record("environment.declared", 0, json!({"policy": policy})).await;
        for _ in 0..self.random.within(8, 25) {
            self.record_random_event().await;
        }
        // Deploy a release that can fail.
        self.minutes += 10;
        let mut data = json!({"service": "web", "release": {"version": "v9"}});
        let targets: BTreeSet<String> = self.running("latest").await.into_keys().map(|lane| lane.1).collect();
        data["target"] = targets.first().map_or("default", String::as_str).into();
        self.record("deploy.succeeded", 0, data.clone()).await;
        self.minutes += 1;
        data["check"] = "canary".into();
        let subject = if self.random.percent(25) { json!({"check": "canary"}) } else { data };
        let failed = self.record("validation.failed", 0, subject).await;

        let decision = self.wait_for_decision(failed).await;
        let (kind, request) = (text(&decision["type"]), &decision["data"]);
        let before = self.running("latest").await;
        if kind.contains("declined") {
            return Outcome::Declined;
        }
        let steps = request["plan"]["steps"].as_array().expect("steps").clone();
        let good = request["to"].as_u64().expect("a position");
        let id = text(&request["rollback_id"]);
        self.execute(&id, &steps).await;
        let after = self.running("latest").await;
        let at_good = self.running(&good.to_string()).await;
        self.check(&steps, &before, &at_good, &after);
        let removals = steps.iter().filter(|step| step["action"] == "remove").count();
        Outcome::RolledBack { steps: steps.len(), removals }
    }

    /// Asserts that the lanes of the plan run the releases of the good point, and the other lanes are unchanged.
    fn check(
        &self,
        steps: &[Value],
        before: &BTreeMap<LaneName, String>,
        good: &BTreeMap<LaneName, String>,
        after: &BTreeMap<LaneName, String>,
    ) {
        let name = &self.environment;
        assert!(!good.is_empty(), "{name} was rolled back to an empty point");
        assert!(!after.is_empty(), "{name} runs nothing: {steps:?}");
        let mut expected = before.clone();
        for step in steps {
            let lane = (text(&step["service"]), step["target"].as_str().unwrap_or("default").to_owned());
            match good.get(&lane) {
                Some(version) => expected.insert(lane, version.clone()),
                None => expected.remove(&lane),
            };
        }
        assert_eq!(*after, expected, "{name}: {steps:?}");
        // A lane of the good point may be missing only if it was missing before and is not in the plan.
        let lost: Vec<_> =
            good.keys().filter(|lane| before.contains_key(*lane) && !after.contains_key(*lane)).collect();
        assert!(lost.is_empty(), "{name} lost {lost:?}: {steps:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_never_leaves_an_environment_with_less_than_its_target() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let count = std::env::var_os("LEDGER_RANDOM_FAILURES");
    let count = count.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(HISTORIES);
    let histories = (0..count).map(|number| {
        let history = History {
            client: &client,
            environment: format!("environment-{number}"),
            random: Random::of(SEED, &[number]),
            start: DateTime::<Utc>::from(SystemTime::now()) - TimeDelta::hours(5),
            minutes: 0,
            events: 0,
            last: 0,
        };
        history.run()
    });
    let outcomes: Vec<Outcome> =
        futures::stream::iter(histories).buffer_unordered(CONCURRENCY).collect().await;

    let rolled_back = outcomes.iter().filter(|outcome| **outcome != Outcome::Declined).count();
    // A run in which most histories are declined would prove little.
    assert!(rolled_back as u64 > count / 4, "{rolled_back} of {count} were rolled back");
    let (mut steps, mut removals) = (0, 0);
    for outcome in &outcomes {
        if let Outcome::RolledBack { steps: more, removals: removed } = outcome {
            (steps, removals) = (steps + more, removals + removed);
        }
    }
    assert!(steps > rolled_back && removals > 0, "{steps} steps, {removals} removals");
}
