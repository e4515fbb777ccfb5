//! What the ledger does beside what its parts can do at most, in one run on one machine.
//!
//! `ops/bench` runs this. Absolute figures are the machine's; the ratios are the point.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

mod growth;
mod ingest;
mod latency;
mod load;
mod plan;
mod projection;
mod readers;
mod report;
mod state;

use std::process::ExitCode;

use ledger_tests::Servers;

use report::Report;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");

/// How much is measured.
struct Scale {
    batched: usize,
    singles: usize,
    projected: usize,
    ledgers: [usize; 3],
    questions: usize,
    lanes: usize,
    rounds: usize,
    plans: usize,
    /// Events whose way from a request to a projection is measured, at each rate.
    seen: usize,
    /// Answers to concurrent readers, with and without a rebuild beside them.
    answers: usize,
    grown: [usize; 2],
}

const FULL: Scale = Scale {
    batched: 200_000,
    singles: 30_000,
    projected: 1_000_000,
    ledgers: [10_000, 100_000, 1_000_000],
    questions: 3_000,
    lanes: 1_000,
    rounds: 500,
    plans: 100,
    seen: 2_000,
    answers: 20_000,
    grown: [100_000, 10_000_000],
};

/// For trying the bench itself.
const QUICK: Scale = Scale {
    batched: 20_000,
    singles: 3_000,
    projected: 50_000,
    ledgers: [1_000, 5_000, 20_000],
    questions: 300,
    lanes: 200,
    rounds: 20,
    plans: 20,
    seen: 100,
    answers: 1_000,
    grown: [5_000, 20_000],
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = if arguments.iter().any(|argument| argument == "--quick") { &QUICK } else { &FULL };
    let named: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let asked_for = |part: &str| named.iter().any(|name| *name == part);
    let wanted = |part: &str| named.is_empty() || asked_for(part);
    let mut report = Report::default();
    if wanted("ingest") {
        let servers = Servers::start().await;
        ingest::batched(&servers, scale.batched, &mut report).await;
        ingest::singles(&servers, scale.singles, &mut report).await;
    }
    if wanted("projection") {
        projection::catching_up(&Servers::start().await, scale.projected, &mut report).await;
    }
    if wanted("state") {
        state::questions(&Servers::start().await, scale.ledgers, scale.questions, &mut report).await;
    }
    if wanted("plan") {
        plan::of_a_fleet(&Servers::start().await, scale.lanes, scale.rounds, scale.plans, &mut report).await;
    }
    if wanted("latency") {
        latency::to_be_seen(&Servers::start().await, scale.singles, scale.seen, &mut report).await;
    }
    if wanted("readers") {
        readers::beside_a_rebuild(&Servers::start().await, scale.ledgers[1], scale.answers, &mut report)
            .await;
    }
    // Twenty minutes and 30 GB: only for those who ask for it.
    if asked_for("growth") {
        growth::of_questions(&Servers::start().await, scale.grown, scale.questions, &mut report).await;
    }
    report.show(arguments.iter().find_map(|argument| argument.strip_prefix("--json=")));
    ExitCode::SUCCESS
}
