//! One stint: starts its servers, runs its rounds, and checks the result of each.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::check::check;
use crate::load::Load;
use crate::plan::{Fault, Server, Stint};
use crate::report::Report;
use crate::stack::Stack;
use ledger_tests::Random;

/// Time within which all sent events must get a final response after the faults have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Time to wait for final responses after a full disk, before the nats-server is restarted.
const FULL_DISK_DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of violations in an error.
const MAX_SHOWN_VIOLATIONS: usize = 12;

/// Runs a stint. Returns the violations and the folder of the logs as an error.
pub(crate) async fn run(stint: &Stint, start: DateTime<Utc>, report: &Arc<Report>) -> Result<(), String> {
    report.stint(stint);
    let stack = Stack::start(stint, report).await?;
    let load = Load::prepare(stint, start, stack.clients(), report);
    load.declare_policy(stint, start).await;
    let mut outcome = Ok(());
    for number in 0..stint.rounds.len() {
        if let Err(error) = round(stint, number, &stack, &load, report).await {
            outcome = Err(format!("stint {}, round {}: {error}", stint.number, number + 1));
            break;
        }
    }
    load.observations().tally(report);
    load.stop().await;
    let logs = stack.end(outcome.is_err()).await;
    outcome.map_err(|error| format!("{error}\n  logs: {}", logs.display()))
}

async fn round(
    stint: &Stint,
    number: usize,
    stack: &Stack,
    load: &Load,
    report: &Arc<Report>,
) -> Result<(), String> {
    let faults = &stint.rounds[number];
    load.start_sending();
    tokio::select! {
        _ = async { tokio::join!(stack.inject(faults), tokio::time::sleep(stint.load)) } => {}
        () = load.track_silence() => {}
    }
    stack.ready().await?;
    // After a full disk, a nats-server serves reads but stores nothing until it is restarted.
    let full = faults.iter().any(|scheduled| scheduled.fault == Fault::FullDisk(Server::Nats));
    if full && load.drain(FULL_DISK_DRAIN_TIMEOUT).await.is_err() {
        report.note("restarted a nats-server after its disk was full".into());
        stack.restart_nats().await;
        stack.ready().await?;
    }
    load.drain(DRAIN_TIMEOUT).await?;
    let mut random = Random::of(stint.seed, &[3, stint.number, number as u64]);
    let violations = check(stint, stack, load, report, &mut random, &format!("rebuild_{number}")).await;
    report.count("rounds", 1);
    if violations.is_empty() {
        report.print(&format!("  round {} passed: {} positions", number + 1, load.observations().head()));
        return Ok(());
    }
    let shown = violations.iter().take(MAX_SHOWN_VIOLATIONS);
    let shown = shown.map(|violation| format!("\n  {violation}")).collect::<String>();
    Err(format!("{} violations:{shown}", violations.len()))
}
