//! Faults, chosen from a seed, while events are sent: whatever goes wrong, what was acknowledged is there,
//! once and at its position; projections are the log, folded; the tree is over exactly the log.
//!
//! This is the short run. `ops/faults` runs for as long as one likes.

#![expect(clippy::print_stdout, reason = "a run tells what it does")]

mod author;
mod check;
mod database;
mod disk;
mod fold;
mod load;
mod merkle;
mod model;
mod nats;
mod plan;
mod process;
mod questions;
mod replica;
mod report;
mod rollbacks;
mod run;
mod stack;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plan::{LONG, Shape, Stand, Stint};
use report::Report;

/// The seed of the short run.
const SEED: u64 = 1;

/// The short run.
const SHORT: Shape =
    Shape { rounds: 1, load: Duration::from_secs(10), faults: (6, 6), stands: &[Stand::One] };

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_nothing_acknowledged_is_lost_doubled_or_moved() {
    println!("seed {SEED}: ops/faults --seed {SEED} runs on from where this ends");
    let report = Arc::new(Report::new());

    let held = run::run(&Stint::plan(SEED, 1, &SHORT), SystemTime::now().into(), &report).await;

    println!("{}", report.table());
    held.unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn a_seed_is_a_plan() {
    let plan = |seed| (1..20).map(|number| Stint::plan(seed, number, &LONG)).collect::<Vec<_>>();

    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7), plan(8));
}

#[test]
fn an_author_writes_what_the_seed_says() {
    let written = || {
        let start = SystemTime::UNIX_EPOCH.into();
        let random = ledger_tests::Random::seeded(7);
        let mut author = author::Author::new(random, "a".into(), true, start);
        (0..50).flat_map(|_| author.next().events).map(|event| event.bytes).collect::<Vec<_>>()
    };

    assert_eq!(written(), written());
}
