//! Benchmarks of the ledger, each compared with a baseline (the upper bound of its parts) in the same run.
//!
//! `ops/bench` runs this program. Compare the ratios: absolute figures depend on the machine.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

mod growth;
mod ingest;
mod latency;
mod load;
mod plan;
mod projection;
mod readers;
mod report;
mod state;
mod streams;

use std::process::ExitCode;

use ledger_tests::Servers;

use report::Report;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

/// Sizes of the benchmarks.
struct Scale {
    /// Events of `ingest`, in batches.
    batched: usize,
    /// Events of `ingest`, one per request, of the peak in `latency` and `streams`, and of Kafka.
    singles: usize,
    /// Entries of `projection`.
    projected: usize,
    /// Entries of the ledgers of `state`; the second also for `readers`.
    ledgers: [usize; 3],
    /// Queries of each kind in `state` and `growth`.
    queries: usize,
    /// Lanes of `plan`.
    lanes: usize,
    /// Deploys of each lane of `plan`.
    rounds: usize,
    /// Queries of each kind in `plan`.
    plans: usize,
    /// Measured events at each rate of `latency`, of `streams`, and of its webhook.
    probes: usize,
    /// Queries of `readers` before the rebuild.
    reads: usize,
    /// Entries of the ledgers of `growth`.
    grown: [usize; 2],
}

const FULL: Scale = Scale {
    batched: 200_000,
    singles: 30_000,
    projected: 1_000_000,
    ledgers: [10_000, 100_000, 1_000_000],
    queries: 3_000,
    lanes: 1_000,
    rounds: 500,
    plans: 100,
    probes: 2_000,
    reads: 20_000,
    grown: [100_000, 10_000_000],
};

/// Small sizes, to test the benchmark itself.
const QUICK: Scale = Scale {
    batched: 20_000,
    singles: 3_000,
    projected: 50_000,
    ledgers: [1_000, 5_000, 20_000],
    queries: 300,
    lanes: 200,
    rounds: 20,
    plans: 20,
    probes: 100,
    reads: 1_000,
    grown: [5_000, 20_000],
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = if arguments.iter().any(|argument| argument == "--quick") { &QUICK } else { &FULL };
    let named: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_named = |part: &str| named.iter().any(|name| *name == part);
    let is_selected = |part: &str| named.is_empty() || is_named(part);
    let mut report = Report::default();
    if is_selected("ingest") {
        let servers = Servers::start().await;
        ingest::batched(&servers, scale.batched, &mut report).await;
        ingest::singles(&servers, scale.singles, &mut report).await;
    }
    if is_selected("projection") {
        projection::catch_up(&Servers::start().await, scale.projected, &mut report).await;
    }
    if is_selected("state") {
        state::queries(&Servers::start().await, scale.ledgers, scale.queries, &mut report).await;
    }
    if is_selected("plan") {
        plan::many_lanes(&Servers::start().await, scale.lanes, scale.rounds, scale.plans, &mut report).await;
    }
    if is_selected("latency") {
        latency::until_visible(&Servers::start().await, scale.singles, scale.probes, &mut report).await;
    }
    if is_selected("streams") {
        streams::in_and_out(scale.singles, scale.probes, &mut report).await;
    }
    if is_selected("readers") {
        readers::during_rebuild(&Servers::start().await, scale.ledgers[1], scale.reads, &mut report).await;
    }
    // Runs only if named: it needs 20 minutes and 30 GB.
    if is_named("growth") {
        growth::queries(&Servers::start().await, scale.grown, scale.queries, &mut report).await;
    }
    report.show(arguments.iter().find_map(|argument| argument.strip_prefix("--json=")));
    ExitCode::SUCCESS
}
