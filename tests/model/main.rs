//! A second opinion: a naive model of the ledger's answers, written from decision 0015 alone, beside the service on
//! random histories. It uses nothing of the service's own crates but the harness that starts it.
//!
//! The short run is a test. `ops/model` runs for as long as one likes, and runs one history of a seed once more.

#![expect(clippy::print_stdout, reason = "a run prints what it found")]

mod anomalies;
mod checks;
mod compare;
mod driver;
mod entry;
mod examples;
mod gate;
mod generate;
mod lanes;
mod meaning;
mod points;
mod rollbacks;
mod shrink;

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};

use generate::history;
use shrink::Trial;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

/// The seed and the histories of the short run.
const SHORT: (u64, u64) = (1, 40);

/// A number in the environment.
fn number(name: &str) -> Option<u64> {
    let text =
        std::env::var_os(name).and_then(|text| text.into_string().ok()).filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no whole number: {text:?}")))
}

/// What is to be run.
struct Wanted {
    seed: u64,
    /// The only history to run.
    history: Option<u64>,
    minutes: Option<u64>,
    /// The time for which one difference is shrunk, at most.
    shrinks: Duration,
    /// True if the run ends with the first difference.
    first: bool,
}

impl Wanted {
    fn read() -> Self {
        let seed = number("MODEL_SEED").unwrap_or(SHORT.0);
        let shrinks = Duration::from_secs(number("MODEL_SHRINK_SECONDS").unwrap_or(20));
        let first = number("MODEL_FIRST").is_some();
        Self { seed, history: number("MODEL_HISTORY"), minutes: number("MODEL_MINUTES"), shrinks, first }
    }

    /// True if the run continues with this history.
    fn continues(&self, number: u64, began: Instant) -> bool {
        match (self.history, self.minutes) {
            (Some(only), _) => number == only,
            (None, Some(minutes)) => began.elapsed() < Duration::from_secs(60 * minutes),
            (None, None) => number <= SHORT.1,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_as_the_model_does() {
    let wanted = Wanted::read();
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let mut trial = Trial::new(&client);
    // How often the answers differ, by kind.
    let mut kinds: Vec<(String, u64)> = Vec::new();
    let (began, mut events, mut histories) = (Instant::now(), 0, 0);
    println!("seed {}", wanted.seed);

    let mut number = wanted.history.unwrap_or(1);
    while wanted.continues(number, began) {
        let items = history(wanted.seed, number);
        let found = trial.differences(&items, number, None).await;
        (events, histories) = (events + found.entries, histories + 1);
        for difference in found.differences {
            if let Some((_, times)) = kinds.iter_mut().find(|(kind, _)| *kind == difference.kind) {
                *times += 1;
                continue;
            }
            kinds.push((difference.kind.clone(), 1));
            let again = format!("ops/model --seed {} --history {number}", wanted.seed);
            println!("── {}: {again}", difference.kind);
            println!("{}", trial.shrunk(items.clone(), difference, number, wanted.shrinks).await);
        }
        if wanted.first && !kinds.is_empty() {
            break;
        }
        number += 1;
    }
    println!("{histories} histories, {events} entries, {} s", began.elapsed().as_secs());
    assert!(events > 0, "nothing was recorded");
    assert!(kinds.is_empty(), "the service and the model differ: {kinds:?}");
}

#[test]
fn the_model_answers_every_history() {
    for number in 1..=60 {
        let mut entries = Vec::new();
        for item in history(3, number) {
            // What only a service can complete is left out.
            if !generate::COMPLETED.contains(&&*item.kind) && !item.data["position"].is_object() {
                entries.push(entry::Entry {
                    position: entries.len() as u64 + 1,
                    occurred_at: entry::micros(&generate::time(item.minutes)),
                    id: generate::id(item.number),
                    source: driver::SOURCE.to_owned(),
                    kind: item.kind,
                    data: item.data,
                });
            }
        }
        let model = lanes::Model::new(entries);
        let now = entry::micros("2026-11-01T00:00:00Z");
        for entry in &model.entries {
            let anomalies = model.anomalies(entry);
            assert!(anomalies.is_sorted(), "{anomalies:?}");
            for environment in generate::ENVIRONMENTS {
                let state = model.state_at(environment, entry.position);
                let is_live = |idle: &lanes::Running| {
                    let live = state.live(&idle.service, &idle.target);
                    live.is_some_and(|live| live.slot == idle.live.slot)
                };
                assert!(!state.idle.iter().any(is_live), "history {number}: an idle slot is live");
                let steps = model.plan(environment, entry.position, model.head());
                assert!(steps.iter().all(|step| (step.action == "switch") != step.slots.is_empty()));
            }
        }
        for environment in generate::ENVIRONMENTS {
            for point in model.points(environment, model.head()) {
                let status = model.status(environment, &point, now, model.head());
                assert_eq!(status == "empty", point.state.lanes.is_empty(), "history {number}");
            }
        }
    }
}

#[test]
fn a_seed_is_a_history() {
    let lines =
        |seed, number| -> Vec<String> { history(seed, number).iter().map(generate::Item::line).collect() };

    assert_eq!(lines(1, 1), lines(1, 1));
    assert_ne!(lines(1, 1), lines(1, 2));
    assert_ne!(lines(1, 1), lines(2, 1));
}

#[test]
fn histories_have_every_kind_of_event() {
    let items: Vec<_> = (1..200).flat_map(|number| history(1, number)).collect();

    for kind in [
        "artifact.built",
        "artifact.revoked",
        "artifact.reinstated",
        "deploy.started",
        "deploy.succeeded",
        "deploy.failed",
        "deploy.removed",
        "traffic.switched",
        "validation.started",
        "validation.passed",
        "validation.failed",
        "environment.declared",
        "environment.retired",
        "release_point.marked",
        "release_point.revoked",
        "freeze.started",
        "freeze.lifted",
        "approval.granted",
        "approval.rejected",
        "rollback",
        "rollback.started",
        "rollback.succeeded",
        "step",
        "again",
    ] {
        assert!(items.iter().any(|item| item.kind == kind), "{kind}");
    }
    assert!(items.iter().any(|item| item.data["corrects"].is_object()));
}
