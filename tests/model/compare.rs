//! Asks a service and the model the same questions.

use std::time::SystemTime;

use ledger_tests::{Answer, Client};
use serde_json::{Value, json};

use crate::anomalies::WORDS;
use crate::driver::Recorded;
use crate::entry::{Release, micros};
use crate::gate::{Question, RULES};
use crate::generate::{ENVIRONMENTS, SERVICES, VERSIONS, artifact, tagged, time};
use crate::lanes::{Live, Model, Running, State};
use crate::points::Point;
use ledger_tests::Random;

/// A question that the service and the model answer differently.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    /// What is asked, in one word or two: differences of a kind are looked into once.
    pub(crate) kind: String,
    /// The question.
    pub(crate) question: String,
    pub(crate) service: String,
    pub(crate) model: String,
}

/// Questions to the gate in one history.
const GATES: u64 = 14;

struct Asker<'c> {
    client: &'c Client,
    model: &'c Model,
    environments: Vec<String>,
    /// Each composition that was answered, with its digest.
    digests: Vec<(String, Vec<Vec<String>>, String)>,
    differences: Vec<Difference>,
    now: i64,
}

/// Asks all questions about a history, and answers where the service and the model differ. With `only`, asks what
/// could differ in this kind, about every position and time; otherwise about some of them.
pub(crate) async fn compare(
    client: &Client,
    recorded: &Recorded,
    model: &Model,
    seed: u64,
    only: Option<&str>,
) -> Vec<Difference> {
    let text = |name: &str| tagged(&name.into(), &recorded.tag).as_str().unwrap_or_default().to_owned();
    let known = |name: &String| model.entries.iter().any(|entry| entry.text("environment") == name);
    let environments = ENVIRONMENTS.iter().map(|name| text(name)).filter(known).collect();
    let (digests, differences) = (Vec::new(), Vec::new());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    let now = i64::try_from(now.as_micros()).expect("a time");
    let mut asker = Asker { client, model, environments, digests, differences, now };
    let asks = |kinds: &[&str]| only.is_none_or(|only| kinds.iter().any(|kind| only.starts_with(kind)));
    let mut random = Random::of(seed, &[1]);
    let mut sampled = |percent: u64| only.is_some() || random.percent(percent);
    for environment in asker.environments.clone() {
        let known_differences = asker.differences.len();
        for entry in &model.entries {
            let is_last = entry.position == model.head();
            if asks(&["state", "digest", "plan", "points", "status", "last"]) && (is_last || sampled(25)) {
                asker.state(&environment, entry.position).await;
            }
        }
        let latest = model.entries.iter().map(|entry| entry.occurred_at).max().unwrap_or_default();
        let minutes = (latest - micros(&time(0))) / 60_000_000;
        for minutes in -3..=minutes {
            let known = model.entries[minutes.unsigned_abs() as usize % model.entries.len()].position;
            if asks(&["state", "digest"]) && sampled(20) {
                asker.state_at_time(&environment, minutes, model.head()).await;
                asker.state_at_time(&environment, minutes, known).await;
            }
            if asks(&["status at a time"]) && sampled(15) {
                asker.status_at_time(&environment, minutes).await;
            }
        }
        // What follows from another state differs with it.
        if asker.differences.len() > known_differences {
            continue;
        }
        for entry in &model.entries {
            if asks(&["plan"]) && (entry.position == model.head() || sampled(20)) {
                asker.plan(&environment, entry.position).await;
            }
        }
        if asks(&["points", "status", "last"]) {
            asker.points(&environment).await;
            asker.last_known_good(&environment).await;
        }
    }
    if asks(&["gate"]) && !asker.environments.is_empty() {
        // The same questions of each part of a history.
        let mut random = Random::of(seed, &[2]);
        for _ in 0..GATES {
            asker.gate(&recorded.tag, &mut random).await;
        }
    }
    if asks(&["anomaly"]) {
        asker.anomalies().await;
    }
    asker.differences
}

fn release(release: &Release) -> String {
    let Release { version, artifact, config, infrastructure, commit } = release;
    let mut parts = vec![version.clone()];
    parts.extend([artifact, config, infrastructure, commit].into_iter().flatten().cloned());
    parts.join(" ")
}

fn lanes(lanes: &[Running], live: bool) -> Vec<String> {
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

/// The model's state as lines.
fn of_model(state: &State) -> String {
    [lanes(&state.lanes, true), lanes(&state.idle, false)].concat().join("\n")
}

/// A service's state as lines.
fn of_service(answer: &Answer) -> String {
    if answer.status != 200 {
        // An environment that has no entry yet has no lanes.
        return if answer.status == 404 {
            String::new()
        } else {
            format!("{} {}", answer.status, answer.text)
        };
    }
    let read = |name: &str| -> Vec<Running> {
        let lanes = answer.body[name].as_array().into_iter().flatten();
        lanes
            .map(|lane| Running {
                service: lane["service"].as_str().unwrap_or_default().to_owned(),
                target: lane["target"].as_str().unwrap_or_default().to_owned(),
                live: Live {
                    slot: lane["slot"].as_str().map(str::to_owned),
                    release: Release::of(&lane["release"]),
                    since: lane["since"]["position"].as_u64().unwrap_or_default(),
                },
            })
            .collect()
    };
    [lanes(&read("lanes"), true), lanes(&read("idle"), false)].concat().join("\n")
}

impl Asker<'_> {
    fn note(&mut self, kind: &str, question: &str, service: String, model: String) {
        if service != model {
            let (kind, question) = (kind.to_owned(), question.to_owned());
            self.differences.push(Difference { kind, question, service, model });
        }
    }

    async fn state(&mut self, environment: &str, position: u64) {
        let path = format!("/v1/environments/{environment}/state?at={position}");
        let answer = self.client.get(&path).await;
        let state = self.model.state_at(environment, position);
        self.digest(&path, &answer, &state);
        self.note("state", &path, of_service(&answer), of_model(&state));
    }

    async fn state_at_time(&mut self, environment: &str, minutes: i64, known_at: u64) {
        let at = time(minutes);
        let path = format!("/v1/environments/{environment}/state?at={at}&known_at={known_at}");
        let answer = self.client.get(&path).await;
        let moment = (micros(&at), u64::MAX);
        let state = self.model.state(environment, moment, known_at);
        self.digest(&path, &answer, &state);
        self.note("state at a time", &path, of_service(&answer), of_model(&state));
    }

    /// Equal texts have equal digests, and equal digests mean the same composition.
    fn digest(&mut self, path: &str, answer: &Answer, state: &State) {
        let Some(digest) = answer.body["digest"].as_str() else { return };
        let (text, identity) = (state.text(), state.identity());
        for (other, other_identity, other_digest) in self.digests.clone() {
            let wrong = (other == text) != (other_digest == digest)
                && (other_identity == identity) != (other_digest == digest);
            if wrong {
                self.note(
                    "digest",
                    path,
                    format!("{digest} beside {other_digest}"),
                    format!("{text} beside {other}"),
                );
                return;
            }
        }
        self.digests.push((text, identity, digest.to_owned()));
    }

    async fn points(&mut self, environment: &str) {
        let path = format!("/v1/environments/{environment}/points?limit=100");
        let answer = self.client.get(&path).await;
        let points = self.model.points(environment, self.model.head());
        let read = |name: &str| -> Vec<(u64, String)> {
            let points = answer.body["points"].as_array().into_iter().flatten().rev();
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
        self.note("points", &path, positions(&service), positions(&expected));
        for (position, status) in &service {
            if let Some((_, expected)) = expected.iter().find(|(other, _)| other == position) {
                let question = format!("{path}: status of {position}");
                self.note(
                    &format!("status {status} for {expected}"),
                    &question,
                    status.clone(),
                    expected.clone(),
                );
            }
        }
    }

    async fn last_known_good(&mut self, environment: &str) {
        let path = format!("/v1/environments/{environment}/points/last-known-good");
        let answer = self.client.get(&path).await;
        let service = answer.body["point"]["position"].as_u64();
        let model = self.model.last_known_good(environment, self.now, self.model.head());
        self.note("last known good", &path, format!("{service:?}"), format!("{model:?}"));
    }

    async fn status_at_time(&mut self, environment: &str, minutes: i64) {
        let at = time(minutes);
        let path = format!("/v1/environments/{environment}/points/{at}");
        let answer = self.client.get(&path).await;
        let point = self.model.point_at_time(environment, micros(&at), self.model.head());
        // Before its first change an environment that is known runs nothing.
        let point = point.or_else(|| answer.body["point"]["status"].is_string().then(Point::default));
        let model =
            point.map(|point| self.model.status(environment, &point, self.now, self.model.head()).to_owned());
        let service = answer.body["point"]["status"].as_str().map(str::to_owned);
        let nothing = |status: &Option<String>| status.as_deref().is_none_or(|status| status == "empty");
        if !(nothing(&service) && nothing(&model)) {
            let text = |status: Option<String>| status.unwrap_or_else(|| "none".to_owned());
            self.note("status at a time", &path, text(service), text(model));
        }
    }

    async fn plan(&mut self, environment: &str, position: u64) {
        let path = format!("/v1/environments/{environment}/rollbacks?dry_run=true");
        let answer = self
            .client
            .post(&path, "application/json", json!({"to": position.to_string()}).to_string())
            .await;
        if answer.status != 200 {
            // Before the first change of the environment there is no point.
            let points = self.model.points(environment, self.model.head());
            if answer.status >= 500 || points.first().is_some_and(|first| first.position <= position) {
                self.note(
                    "plan",
                    &path,
                    format!("{position}: {} {}", answer.status, answer.text),
                    String::new(),
                );
            }
            return;
        }
        let steps = self.model.plan(environment, position, self.model.head());
        let mut service = Vec::new();
        for step in answer.body["steps"].as_array().into_iter().flatten() {
            let side = |name: &str| {
                if step[name].is_object() { release(&Release::of(&step[name])) } else { "-".to_owned() }
            };
            let text = |name: &str| step[name].as_str().unwrap_or_default();
            let slot = if text("action") == "switch" { text("slot") } else { "" };
            let expected =
                steps.iter().find(|other| other.service == text("service") && other.target == text("target"));
            // Where the release stands in several slots, any of them will do.
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
        let question = format!("POST {path} to {position}");
        self.note("plan", &question, service.join("\n"), model.join("\n"));
        let kinds = ["target_empty", "artifact_revoked", "barrier"];
        let met: Vec<&str> = answer.body["issues"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|issue| issue["kind"].as_str())
            .collect();
        let expected = self.model.issues(environment, position, &steps, self.model.head());
        // A mark on the composition that runs nothing outranks that it is empty.
        let is_marked =
            self.model.mark(environment, |state| state.lanes.is_empty(), self.model.head()).is_some();
        for kind in kinds.into_iter().filter(|kind| !(is_marked && *kind == "target_empty")) {
            let (service, model) = (met.contains(&kind), expected.contains(&kind));
            self.note(&format!("plan {kind}"), &question, service.to_string(), model.to_string());
        }
    }

    async fn gate(&mut self, tag: &str, random: &mut Random) {
        let environment =
            tagged(&random.pick(&ENVIRONMENTS).into(), tag).as_str().unwrap_or_default().to_owned();
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
        let body = tagged(&body, tag);
        let path = format!("/v1/environments/{environment}/gate");
        let mut asked_as_new = body.clone();
        asked_as_new["new"] = true.into();
        let answer = self.client.post(&path, "application/json", asked_as_new.to_string()).await;
        let question = Question {
            environment,
            service: body["service"].as_str().unwrap_or_default().to_owned(),
            target: target.map(str::to_owned),
            release: body["release"].clone(),
            requester: body.get("requester").cloned(),
            rollback_id: None,
        };
        let refusals = self.model.refusals(&question, self.now, self.model.head());
        let asked = format!("POST {path} {body}");
        if answer.status != 200 {
            return self.note(
                "gate",
                &asked,
                format!("{} {}", answer.status, answer.text),
                format!("{refusals:?}"),
            );
        }
        let findings = answer.body["findings"].as_array().cloned().unwrap_or_default();
        let is_retired = refusals.contains(&"retired");
        for rule in RULES {
            let mut of_rule = findings.iter().filter(|finding| finding["rule"] == rule);
            let refused = of_rule.any(|finding| finding["passes"] == false);
            // Of a retired environment it is enough that the gate refuses.
            if !is_retired {
                let kind = format!("gate {rule}");
                let word = |refused: bool| if refused { "refused" } else { "passed" }.to_owned();
                self.note(&kind, &asked, word(refused), word(refusals.contains(&rule)));
            }
        }
        let allowed = answer.body["allowed"] == true;
        let word = |allowed: bool| if allowed { "allowed" } else { "refused" }.to_owned();
        let kind = if is_retired { "gate retired" } else { "gate" };
        self.note(kind, &asked, word(allowed), word(refusals.is_empty()));
    }

    async fn anomalies(&mut self) {
        let Some(first) = self.model.entries.first() else { return };
        let path = format!("/v1/events?after={}&limit=1000", first.position - 1);
        let answer = self.client.get(&path).await.ok();
        for entry in &self.model.entries {
            let shown = answer["events"].as_array().into_iter().flatten();
            let shown = shown.into_iter().find(|shown| shown["position"] == entry.position);
            let Some(shown) = shown else { continue };
            let mut service: Vec<String> = match shown["anomalies"].as_array() {
                Some(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                None => shown["anomaly"]
                    .as_str()
                    .into_iter()
                    .flat_map(|text| text.split(','))
                    .map(|word| word.trim().to_owned())
                    .collect(),
            };
            service.retain(|word| WORDS.contains(&&**word));
            service.sort();
            let model = self.model.anomalies(entry);
            let question = format!("anomalies of {} ({} {})", entry.position, entry.kind, entry.data);
            // Judged by the service as it is asked, and only by what the lanes ran: close, not the same.
            for word in WORDS.into_iter().filter(|word| *word != "straddles_change") {
                let says = |found: bool| if found { word } else { "-" }.to_owned();
                let kind = format!("anomaly {word}");
                self.note(
                    &kind,
                    &question,
                    says(service.iter().any(|other| other == word)),
                    says(model.contains(&word)),
                );
            }
        }
    }
}
