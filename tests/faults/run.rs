//! A stint, from the start of its servers to the last check.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::check::check;
use crate::load::Load;
use crate::plan::{Fault, Server, Stint};
use crate::report::Report;
use crate::stack::Stack;
use ledger_tests::Random;

/// How long what was sent may take to be answered, once nothing is wrong any more.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
/// The same where a nats-server may have to be started anew first.
const WELL_WITHIN: Duration = Duration::from_secs(15);
/// How many of the things that do not hold are told.
const TOLD: usize = 12;

/// Runs a stint; says what does not hold, and where.
pub(crate) async fn run(stint: &Stint, start: DateTime<Utc>, report: &Arc<Report>) -> Result<(), String> {
    report.stint(stint);
    let stack = Stack::start(stint, report).await?;
    let load = Load::prepare(stint, start, stack.clients(), report);
    load.declare(stint, start).await;
    let mut outcome = Ok(());
    for number in 0..stint.rounds.len() {
        if let Err(why) = round(stint, number, &stack, &load, report).await {
            outcome = Err(format!("stint {}, round {}: {why}", stint.number, number + 1));
            break;
        }
    }
    load.model().tally(report);
    load.stop().await;
    let logs = stack.end(outcome.is_err()).await;
    outcome.map_err(|why| format!("{why}\n  logs: {}", logs.display()))
}

async fn round(
    stint: &Stint,
    number: usize,
    stack: &Stack,
    load: &Load,
    report: &Arc<Report>,
) -> Result<(), String> {
    let faults = &stint.rounds[number];
    load.go();
    tokio::select! {
        _ = async { tokio::join!(stack.suffer(faults), tokio::time::sleep(stint.load)) } => {}
        () = load.watch_silence() => {}
    }
    stack.ready().await?;
    // After a full disk a nats-server serves reads, and stores nothing more until it is started anew.
    let full = faults.iter().any(|timed| timed.fault == Fault::FullDisk(Server::Nats));
    if full && load.drained(WELL_WITHIN).await.is_err() {
        report.note("a nats-server had to be started anew after its disk was full".into());
        stack.start_nats_anew().await;
        stack.ready().await?;
    }
    load.drained(DRAINED_WITHIN).await?;
    let mut random = Random::of(stint.seed, &[3, stint.number, number as u64]);
    let wrong = check(stint, stack, load, report, &mut random, &format!("anew_{number}")).await;
    report.count("rounds", 1);
    if wrong.is_empty() {
        report.say(&format!("  round {} holds: {} positions", number + 1, load.model().head()));
        return Ok(());
    }
    let told = wrong.iter().take(TOLD).map(|what| format!("\n  {what}")).collect::<String>();
    Err(format!("{} things do not hold:{told}", wrong.len()))
}
