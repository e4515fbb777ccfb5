//! A simple second implementation of decision 0015, whose responses are compared with the service's on random
//! histories. It uses none of the service's crates, only the harness that starts the service.
//!
//! This test runs a few histories. `ops/model` runs for a given time, or repeats one history of a seed.

#![expect(clippy::print_stdout, reason = "a run prints its results")]

mod anomalies;
mod artifacts;
mod checks;
mod compare;
mod driver;
mod entry;
mod examples;
mod gate;
mod generate;
mod lanes;
mod points;
mod returns;
mod rollbacks;
mod shrink;

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};

use generate::history;
use shrink::Runner;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

/// Seed, unless `MODEL_SEED` is set.
const DEFAULT_SEED: u64 = 1;

/// Number of histories, unless `MODEL_HISTORY` or `MODEL_MINUTES` is set.
const DEFAULT_HISTORIES: u64 = 40;

/// Maximum time to shrink one difference in seconds, unless `MODEL_SHRINK_SECONDS` is set.
const DEFAULT_SHRINK_SECONDS: u64 = 20;

/// Reads a number from an environment variable; `None` if it is unset or empty.
fn number(name: &str) -> Option<u64> {
    let text =
        std::env::var_os(name).and_then(|text| text.into_string().ok()).filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")))
}

/// Options of a run, from the environment.
struct Options {
    seed: u64,
    /// The only history to run.
    history: Option<u64>,
    minutes: Option<u64>,
    /// Maximum time to shrink one difference.
    shrink_time: Duration,
    /// True if the run ends with the first difference.
    stop_at_first: bool,
}

impl Options {
    fn read() -> Self {
        let shrink_seconds = number("MODEL_SHRINK_SECONDS").unwrap_or(DEFAULT_SHRINK_SECONDS);
        Self {
            seed: number("MODEL_SEED").unwrap_or(DEFAULT_SEED),
            history: number("MODEL_HISTORY"),
            minutes: number("MODEL_MINUTES"),
            shrink_time: Duration::from_secs(shrink_seconds),
            stop_at_first: number("MODEL_FIRST").is_some(),
        }
    }

    /// Returns true if the run includes this history.
    fn includes(&self, number: u64, began: Instant) -> bool {
        match (self.history, self.minutes) {
            (Some(only), _) => number == only,
            (None, Some(minutes)) => began.elapsed() < Duration::from_secs(60 * minutes),
            (None, None) => number <= DEFAULT_HISTORIES,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_as_the_model_does() {
    let options = Options::read();
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let mut runner = Runner::new(&client);
    // Number of differences by kind.
    let mut kinds: Vec<(String, u64)> = Vec::new();
    let (began, mut events, mut histories) = (Instant::now(), 0, 0);
    println!("seed {}", options.seed);

    let mut number = options.history.unwrap_or(1);
    while options.includes(number, began) {
        let items = history(options.seed, number);
        let result = runner.run(&items, number, None).await;
        (events, histories) = (events + result.entries, histories + 1);
        for difference in result.differences {
            if let Some((_, count)) = kinds.iter_mut().find(|(kind, _)| *kind == difference.kind) {
                *count += 1;
                continue;
            }
            kinds.push((difference.kind.clone(), 1));
            let command = format!("ops/model --seed {} --history {number}", options.seed);
            println!("── {}: {command}", difference.kind);
            println!("{}", runner.shrink(items.clone(), difference, number, options.shrink_time).await);
        }
        if options.stop_at_first && !kinds.is_empty() {
            break;
        }
        number += 1;
    }
    println!("{histories} histories, {events} entries, {} s", began.elapsed().as_secs());
    assert!(events > 0, "no event was recorded");
    assert!(kinds.is_empty(), "the service and the model differ: {kinds:?}");
}

#[test]
fn the_model_handles_every_history() {
    for number in 1..=60 {
        let mut entries = Vec::new();
        for item in history(3, number) {
            // Skip items that only a service can complete.
            if !generate::SERVICE_COMPLETED.contains(&&*item.kind) && !item.data["position"].is_object() {
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
            assert_ne!(model.returns_to(entry), Some(entry.position), "history {number}");
            for environment in generate::ENVIRONMENTS {
                let state = model.state_at(environment, entry.position);
                let is_live = |idle: &lanes::LaneRelease| {
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
fn a_history_depends_on_its_seed_and_number_only() {
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
        "redeploy",
    ] {
        assert!(items.iter().any(|item| item.kind == kind), "{kind}");
    }
    assert!(items.iter().any(|item| item.data["corrects"].is_object()));
}
