//! Sends the same queries to a service and to the model, and compares the responses.

use std::time::SystemTime;

use ledger_tests::{Client, Response};
use serde_json::{Value, json};

use crate::anomalies::ANOMALIES;
use crate::driver::Recorded;
use crate::entry::{Entry, Release, micros};
use crate::gate::{GateRequest, RULES};
use crate::generate::{ENVIRONMENTS, SERVICES, VERSIONS, artifact, time, with_tag};
use crate::lanes::{LaneRelease, LiveRelease, Model, State};
use crate::points::Point;
use ledger_tests::Random;

/// A query with different responses from the service and the model.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    /// Kind of query; only the first difference of each kind is shrunk.
    pub(crate) kind: String,
    pub(crate) query: String,
    /// The service's response.
    pub(crate) service: String,
    /// The model's response.
    pub(crate) model: String,
}

/// Number of gate requests in one history.
const GATE_REQUESTS: u64 = 14;

struct Comparison<'c> {
    client: &'c Client,
    model: &'c Model,
    environments: Vec<String>,
    /// Text, identity and digest of each composition so far.
    digests: Vec<(String, Vec<Vec<String>>, String)>,
    differences: Vec<Difference>,
    now: i64,
}

/// Compares the responses to all kinds of queries, about a sample of the positions and times. Returns the differences.
/// With `only`, compares just the queries that can show this kind of difference, about all positions and times.
pub(crate) async fn compare(
    client: &Client,
    recorded: &Recorded,
    model: &Model,
    seed: u64,
    only: Option<&str>,
) -> Vec<Difference> {
    let text = |name: &str| with_tag(&name.into(), &recorded.tag).as_str().unwrap_or_default().to_owned();
    let known = |name: &String| model.entries.iter().any(|entry| entry.text("environment") == name);
    let environments = ENVIRONMENTS.iter().map(|name| text(name)).filter(known).collect();
    let (digests, differences) = (Vec::new(), Vec::new());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is after 1970");
    let now = i64::try_from(now.as_micros()).expect("the time fits");
    let mut comparison = Comparison { client, model, environments, digests, differences, now };
    let includes = |kinds: &[&str]| only.is_none_or(|only| kinds.iter().any(|kind| only.starts_with(kind)));
    let mut random = Random::of(seed, &[1]);
    let mut sampled = |percent: u64| only.is_some() || random.percent(percent);
    for environment in comparison.environments.clone() {
        let before = comparison.differences.len();
        for entry in &model.entries {
            let is_last = entry.position == model.head();
            if includes(&["state", "digest", "plan", "points", "status", "last"]) && (is_last || sampled(25))
            {
                comparison.state(&environment, entry.position).await;
            }
        }
        let latest = model.entries.iter().map(|entry| entry.occurred_at).max().unwrap_or_default();
        let minutes = (latest - micros(&time(0))) / 60_000_000;
        for minutes in -3..=minutes {
            let known = model.entries[minutes.unsigned_abs() as usize % model.entries.len()].position;
            if includes(&["state", "digest"]) && sampled(20) {
                comparison.state_at_time(&environment, minutes, model.head()).await;
                comparison.state_at_time(&environment, minutes, known).await;
            }
            if includes(&["status at a time"]) && sampled(15) {
                comparison.status_at_time(&environment, minutes).await;
            }
        }
        // Skip what depends on the state if the states differ.
        if comparison.differences.len() > before {
            continue;
        }
        for entry in &model.entries {
            if includes(&["plan"]) && (entry.position == model.head() || sampled(20)) {
                comparison.plan(&environment, entry.position).await;
            }
        }
        if includes(&["points", "status", "last"]) {
            comparison.points(&environment).await;
            comparison.last_known_good(&environment).await;
        }
    }
    if includes(&["gate"]) && !comparison.environments.is_empty() {
        // A generator of its own: every shrunk part of a history gets the same gate requests.
        let mut random = Random::of(seed, &[2]);
        for _ in 0..GATE_REQUESTS {
            comparison.gate(&recorded.tag, &mut random).await;
        }
    }
    if includes(&["anomaly", "returns"]) {
        comparison.history().await;
    }
    comparison.differences
}

fn release(release: &Release) -> String {
    let Release { version, artifact, config, infrastructure, commit } = release;
    let mut parts = vec![version.clone()];
    parts.extend([artifact, config, infrastructure, commit].into_iter().flatten().cloned());
    parts.join(" ")
}

fn lanes(lanes: &[LaneRelease], live: bool) -> Vec<String> {
    let mut lanes: Vec<String> = lanes
        .iter()
        .map(|lane| {
            let slot = lane.live.slot.as_deref().unwrap_or("-");
            let word = if live { "live" } else { "idle" };
            let (service, target, since) = (&lane.service, &lane.target, lane.live.since);
            format!("{word} {service} {target} {slot} [{}] since {since}", release(&lane.live.release))
        })
        .collect();
    lanes.sort();
    lanes
}

/// Formats the model's state as lines.
fn model_lines(state: &State) -> String {
    [lanes(&state.lanes, true), lanes(&state.idle, false)].concat().join("\n")
}

/// Formats the service's state as lines.
fn service_lines(response: &Response) -> String {
    if response.status != 200 {
        // The service responds 404 for an environment without entries.
        return if response.status == 404 {
            String::new()
        } else {
            format!("{} {}", response.status, response.text)
        };
    }
    let read = |name: &str| -> Vec<LaneRelease> {
        let lanes = response.body[name].as_array().into_iter().flatten();
        lanes
            .map(|lane| LaneRelease {
                service: lane["service"].as_str().unwrap_or_default().to_owned(),
                target: lane["target"].as_str().unwrap_or_default().to_owned(),
                live: LiveRelease {
                    slot: lane["slot"].as_str().map(str::to_owned),
                    release: Release::of(&lane["release"]),
                    since: lane["since"]["position"].as_u64().unwrap_or_default(),
                },
            })
            .collect()
    };
    [lanes(&read("lanes"), true), lanes(&read("idle"), false)].concat().join("\n")
}

impl Comparison<'_> {
    /// Adds a difference if the responses differ.
    fn check(&mut self, kind: &str, query: &str, service: String, model: String) {
        if service != model {
            let (kind, query) = (kind.to_owned(), query.to_owned());
            self.differences.push(Difference { kind, query, service, model });
        }
    }

    async fn state(&mut self, environment: &str, position: u64) {
        let path = format!("/v1/environments/{environment}/state?at={position}");
        let response = self.client.get(&path).await;
        let state = self.model.state_at(environment, position);
        self.digest(&path, &response, &state);
        self.check("state", &path, service_lines(&response), model_lines(&state));
    }

    async fn state_at_time(&mut self, environment: &str, minutes: i64, known_at: u64) {
        let at = time(minutes);
        let path = format!("/v1/environments/{environment}/state?at={at}&known_at={known_at}");
        let response = self.client.get(&path).await;
        let moment = (micros(&at), u64::MAX);
        let state = self.model.state(environment, moment, known_at);
        self.digest(&path, &response, &state);
        self.check("state at a time", &path, service_lines(&response), model_lines(&state));
    }

    /// Compares the digest with earlier ones: equal texts must have equal digests, equal digests the same composition.
    fn digest(&mut self, path: &str, response: &Response, state: &State) {
        let Some(digest) = response.body["digest"].as_str() else { return };
        let (text, identity) = (state.text(), state.identity());
        for (other, other_identity, other_digest) in self.digests.clone() {
            let wrong = (other == text) != (other_digest == digest)
                && (other_identity == identity) != (other_digest == digest);
            if wrong {
                self.check(
                    "digest",
                    path,
                    format!("{digest} and {other_digest}"),
                    format!("{text} and {other}"),
                );
                return;
            }
        }
        self.digests.push((text, identity, digest.to_owned()));
    }

    async fn points(&mut self, environment: &str) {
        let path = format!("/v1/environments/{environment}/points?limit=100");
        let response = self.client.get(&path).await;
        let points = self.model.points(environment, self.model.head());
        let read = |name: &str| -> Vec<(u64, String)> {
            let points = response.body["points"].as_array().into_iter().flatten().rev();
            let point = |point: &Value| {
                (
                    point["position"].as_u64().unwrap_or_default(),
                    point[name].as_str().unwrap_or_default().to_owned(),
                )
            };
            points.map(point).collect()
        };
        let service = read("status");
        let positions = |points: &[(u64, String)]| -> String {
            points.iter().map(|(position, _)| format!("{position} ")).collect()
        };
        let expected: Vec<(u64, String)> = points
            .iter()
            .map(|point| {
                let status = self.model.status(environment, point, self.now, self.model.head());
                (point.position, status.to_owned())
            })
            .collect();
        self.check("points", &path, positions(&service), positions(&expected));
        for (position, status) in &service {
            if let Some((_, expected)) = expected.iter().find(|(other, _)| other == position) {
                let query = format!("{path}: status of {position}");
                self.check(
                    &format!("status {status} for {expected}"),
                    &query,
                    status.clone(),
                    expected.clone(),
                );
            }
        }
    }

    async fn last_known_good(&mut self, environment: &str) {
        let path = format!("/v1/environments/{environment}/points/last-known-good");
        let response = self.client.get(&path).await;
        let service = response.body["point"]["position"].as_u64();
        let model = self.model.last_known_good(environment, self.now, self.model.head());
        self.check("last known good", &path, format!("{service:?}"), format!("{model:?}"));
    }

    async fn status_at_time(&mut self, environment: &str, minutes: i64) {
        let at = time(minutes);
        let path = format!("/v1/environments/{environment}/points/{at}");
        let response = self.client.get(&path).await;
        let point = self.model.point_at_time(environment, micros(&at), self.model.head());
        // Before its first change, a known environment runs nothing.
        let point = point.or_else(|| response.body["point"]["status"].is_string().then(Point::default));
        let model =
            point.map(|point| self.model.status(environment, &point, self.now, self.model.head()).to_owned());
        let service = response.body["point"]["status"].as_str().map(str::to_owned);
        let nothing = |status: &Option<String>| status.as_deref().is_none_or(|status| status == "empty");
        if !(nothing(&service) && nothing(&model)) {
            let text = |status: Option<String>| status.unwrap_or_else(|| "none".to_owned());
            self.check("status at a time", &path, text(service), text(model));
        }
    }

    async fn plan(&mut self, environment: &str, position: u64) {
        let path = format!("/v1/environments/{environment}/rollbacks?dry_run=true");
        let response = self
            .client
            .post(&path, "application/json", json!({"to": position.to_string()}).to_string())
            .await;
        if response.status != 200 {
            // A plan to a position before the environment's first point fails.
            let points = self.model.points(environment, self.model.head());
            if response.status >= 500 || points.first().is_some_and(|first| first.position <= position) {
                self.check(
                    "plan",
                    &path,
                    format!("{position}: {} {}", response.status, response.text),
                    String::new(),
                );
            }
            return;
        }
        let steps = self.model.plan(environment, position, self.model.head());
        let mut service = Vec::new();
        for step in response.body["steps"].as_array().into_iter().flatten() {
            let side = |name: &str| {
                if step[name].is_object() { release(&Release::of(&step[name])) } else { "-".to_owned() }
            };
            let text = |name: &str| step[name].as_str().unwrap_or_default();
            let slot = if text("action") == "switch" { text("slot") } else { "" };
            let expected =
                steps.iter().find(|other| other.service == text("service") && other.target == text("target"));
            // If several slots contain the release, each of them is valid.
            let slot = match expected {
                Some(expected) if expected.slots.iter().any(|other| other == slot) => {
                    expected.slots.join(",")
                }
                _ => slot.to_owned(),
            };
            let (name, target, action) = (text("service"), text("target"), text("action"));
            service.push(format!("{name} {target} {action} {slot} [{}] -> [{}]", side("from"), side("to")));
        }
        service.sort();
        let side = |part: &Option<Release>| part.as_ref().map_or_else(|| "-".to_owned(), release);
        let mut model: Vec<String> = steps
            .iter()
            .map(|step| {
                let (name, target, action) = (&step.service, &step.target, step.action);
                let slots = step.slots.join(",");
                format!("{name} {target} {action} {slots} [{}] -> [{}]", side(&step.from), side(&step.to))
            })
            .collect();
        model.sort();
        let query = format!("POST {path} to {position}");
        self.check("plan", &query, service.join("\n"), model.join("\n"));
        let kinds = ["target_empty", "artifact_revoked", "barrier"];
        let found: Vec<&str> = response.body["issues"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|issue| issue["kind"].as_str())
            .collect();
        let expected = self.model.issues(environment, position, &steps, self.model.head());
        // A mark on the empty composition outranks its emptiness.
        let is_marked =
            self.model.mark(environment, |state| state.lanes.is_empty(), self.model.head()).is_some();
        for kind in kinds.into_iter().filter(|kind| !(is_marked && *kind == "target_empty")) {
            let (service, model) = (found.contains(&kind), expected.contains(&kind));
            self.check(&format!("plan {kind}"), &query, service.to_string(), model.to_string());
        }
    }

    async fn gate(&mut self, tag: &str, random: &mut Random) {
        let environment =
            with_tag(&random.pick(&ENVIRONMENTS).into(), tag).as_str().unwrap_or_default().to_owned();
        let service = random.below(SERVICES.len() as u64) as usize;
        let version = random.below(VERSIONS.len() as u64) as usize;
        let mut release = json!({"version": VERSIONS[version]});
        if random.percent(50) {
            release["artifact"] = artifact(service, version, random.within(1, 2), random.below(5)).into();
        }
        let target = random.pick(&[None, None, Some("eu"), Some("default")]);
        let mut body = json!({"service": SERVICES[service], "release": release});
        if let Some(target) = target {
            body["target"] = target.into();
        }
        if random.percent(40) {
            body["requester"] = json!({"type": "person", "name": random.pick(&["mira", "NOA"])});
        }
        if !self.environments.contains(&environment) {
            return;
        }
        let body = with_tag(&body, tag);
        let path = format!("/v1/environments/{environment}/gate");
        let mut new_service = body.clone();
        new_service["new"] = true.into();
        let response = self.client.post(&path, "application/json", new_service.to_string()).await;
        let request = GateRequest {
            environment,
            service: body["service"].as_str().unwrap_or_default().to_owned(),
            target: target.map(str::to_owned),
            release: body["release"].clone(),
            requester: body.get("requester").cloned(),
            rollback_id: None,
        };
        let failed_rules = self.model.failed_rules(&request, self.now, self.model.head());
        let query = format!("POST {path} {body}");
        if response.status != 200 {
            return self.check(
                "gate",
                &query,
                format!("{} {}", response.status, response.text),
                format!("{failed_rules:?}"),
            );
        }
        let findings = response.body["findings"].as_array().cloned().unwrap_or_default();
        let is_retired = failed_rules.contains(&"retired");
        for rule in RULES {
            let mut of_rule = findings.iter().filter(|finding| finding["rule"] == rule);
            let failed = of_rule.any(|finding| finding["passes"] == false);
            // For a retired environment, compare only the overall result.
            if !is_retired {
                let kind = format!("gate {rule}");
                let word = |failed: bool| if failed { "failed" } else { "passed" }.to_owned();
                self.check(&kind, &query, word(failed), word(failed_rules.contains(&rule)));
            }
        }
        let allowed = response.body["allowed"] == true;
        let word = |allowed: bool| if allowed { "allowed" } else { "refused" }.to_owned();
        let kind = if is_retired { "gate retired" } else { "gate" };
        self.check(kind, &query, word(allowed), word(failed_rules.is_empty()));
    }

    /// Compares what the history says of each entry: the anomalies, and the earlier run to which its lane returns.
    async fn history(&mut self) {
        let Some(first) = self.model.entries.first() else { return };
        let path = format!("/v1/events?after={}&limit=1000", first.position - 1);
        let response = self.client.get(&path).await.ok();
        for entry in &self.model.entries {
            let listed = response["events"].as_array().into_iter().flatten();
            let listed = listed.into_iter().find(|listed| listed["position"] == entry.position);
            let Some(listed) = listed else { continue };
            self.anomalies(entry, listed);
            self.returns_to(entry, listed);
        }
    }

    fn anomalies(&mut self, entry: &Entry, listed: &Value) {
        let mut service: Vec<String> = match listed["anomalies"].as_array() {
            Some(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => listed["anomaly"]
                .as_str()
                .into_iter()
                .flat_map(|text| text.split(','))
                .map(|word| word.trim().to_owned())
                .collect(),
        };
        service.retain(|word| ANOMALIES.contains(&&**word));
        service.sort();
        let model = self.model.anomalies(entry);
        let query = format!("anomalies of {} ({} {})", entry.position, entry.kind, entry.data);
        // Skip `straddles_change`: the service determines its mark from the tracks only, which is an approximation.
        for anomaly in ANOMALIES.into_iter().filter(|anomaly| *anomaly != "straddles_change") {
            let text = |found: bool| if found { anomaly } else { "-" }.to_owned();
            let kind = format!("anomaly {anomaly}");
            self.check(
                &kind,
                &query,
                text(service.iter().any(|other| other == anomaly)),
                text(model.contains(&anomaly)),
            );
        }
    }

    fn returns_to(&mut self, entry: &Entry, listed: &Value) {
        // A correction that moves a report to another lane changes two lanes; the service says of one what went live.
        let moves = self.model.corrected(entry, entry.position).is_some_and(|corrected| {
            ["environment", "service"].iter().any(|name| corrected.text(name) != entry.text(name))
                || self.model.target_of(corrected) != self.model.target_of(entry)
        });
        if moves {
            return;
        }
        let text = |position: Option<u64>| position.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let (service, model) = (listed["returns_to"].as_u64(), self.model.returns_to(entry));
        let query = format!("earlier run of {} ({} {})", entry.position, entry.kind, entry.data);
        self.check("returns", &query, text(service), text(model));
    }
}
