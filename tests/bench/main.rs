//! Benchmarks of the ledger, each compared with a baseline (the upper bound of its parts) in the same run.
//!
//! `ops/bench` runs this program. Compare the ratios and the CPU time of an event: other figures depend on the machine and
//! on its other load.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]

mod access;
mod compare;
mod conditions;
mod cpu;
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

use conditions::Program;
use report::Report;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

/// Sizes of the benchmarks.
struct Scale {
    /// Name in reports.
    name: &'static str,
    /// Slices of `ingest`.
    ingest: ingest::Size,
    /// Slices of `access`.
    access: ingest::Size,
    /// Events of the peak in `latency` and `streams`, one per request, and of Kafka.
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
    name: "full",
    ingest: ingest::Size { rounds: 5, batched: 20_000, singles: 6_000 },
    access: ingest::Size { rounds: 7, batched: 20_000, singles: 10_000 },
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
    name: "quick",
    ingest: ingest::Size { rounds: 2, batched: 5_000, singles: 1_000 },
    access: ingest::Size { rounds: 2, batched: 5_000, singles: 1_000 },
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
    let values =
        |flag: &'static str| arguments.iter().filter_map(move |argument| argument.strip_prefix(flag));
    let compared: Vec<&str> = values("--compare=").collect();
    if !compared.is_empty() {
        return show_compared(&compared);
    }
    let scale = if arguments.iter().any(|argument| argument == "--quick") { &QUICK } else { &FULL };
    let mut programs = vec![Program { label: "ours", path: PROGRAM }];
    programs.extend(values("--against=").map(|path| Program { label: "against", path }));
    let named: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut report = Report::new(conditions::read(scale.name, &programs));
    measure(scale, &programs, &named, &mut report).await;
    report.show(values("--json=").next());
    ExitCode::SUCCESS
}

/// Prints the reports of other runs beside each other.
fn show_compared(files: &[&str]) -> ExitCode {
    match compare::compare(files) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures the named parts; without names, all parts except `growth`.
async fn measure(scale: &Scale, programs: &[Program<'_>], named: &[&String], report: &mut Report) {
    let is_named = |part: &str| named.iter().any(|name| *name == part);
    let is_selected = |part: &str| named.is_empty() || is_named(part);
    if is_selected("ingest") {
        ingest::measure(&Servers::start().await, &scale.ingest, programs, report).await;
    }
    if is_selected("access") {
        access::overhead(&Servers::start().await, &scale.access, report).await;
    }
    if is_selected("projection") {
        projection::catch_up(&Servers::start().await, scale.projected, report).await;
    }
    if is_selected("state") {
        state::queries(&Servers::start().await, scale.ledgers, scale.queries, report).await;
    }
    if is_selected("plan") {
        plan::many_lanes(&Servers::start().await, scale.lanes, scale.rounds, scale.plans, report).await;
    }
    if is_selected("latency") {
        latency::until_visible(&Servers::start().await, scale.singles, scale.probes, report).await;
    }
    if is_selected("streams") {
        streams::in_and_out(scale.singles, scale.probes, report).await;
    }
    if is_selected("readers") {
        readers::during_rebuild(&Servers::start().await, scale.ledgers[1], scale.reads, report).await;
    }
    // Runs only if named: it needs 20 minutes and 30 GB.
    if is_named("growth") {
        growth::queries(&Servers::start().await, scale.grown, scale.queries, report).await;
    }
}
