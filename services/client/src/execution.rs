//! Executes a rollback: runs its steps with a command of the user, and reports them.
//!
//! Invariants: a wave starts when the previous one is done. A step is not run again once its command has
//! succeeded, and is reported until the ledger has recorded it. If any process is killed, the same command
//! continues from there.

mod command;
mod executor;
mod step_log;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use ledger_api_types::RollbackBody;
use ledger_domain::event::Actor;
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{ServiceName, ShortText, TargetName};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::executor::Executor;
use self::step_log::StepLog;
use super::connection::Client;
use super::fetch_rollback::{describe_end, fetch_rollback, parse_rollback};
use super::progress::Progress;
use super::query::head;
use crate::environment;

/// Flags for executing steps.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ExecutionArgs {
    /// The command that executes a step
    #[arg(long, value_name = "COMMAND")]
    exec: String,
    /// Number of steps of a wave that run in parallel
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1_000)
    )]
    parallel: u16,
    /// Stop when a step fails, so that it can be repaired and the rollback continued, or run the other steps
    /// and then report the rollback as failed
    #[arg(long, value_enum, default_value_t = OnFailure::Stop)]
    on_failure: OnFailure,
    /// The folder that stores which steps have succeeded, until the rollback ends
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// A lane that no longer runs what the plan starts from, and is brought to the point anyway: SERVICE or
    /// SERVICE@TARGET
    #[arg(long, value_name = "LANE", value_parser = parse_lane)]
    acknowledge: Vec<LaneSelector>,
    /// Time limit for retries while the ledger is unavailable
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
}

/// Lanes of a plan: the lane of a service at a target, or all lanes of a service.
#[derive(Debug, Clone)]
struct LaneSelector {
    service: ServiceName,
    target: Option<TargetName>,
}

/// Parses `SERVICE` or `SERVICE@TARGET`.
fn parse_lane(text: &str) -> Result<LaneSelector, ledger_domain::NameError> {
    let (service, target) =
        text.split_once('@').map_or((text, None), |(service, target)| (service, Some(target)));
    let target = target.map(TargetName::parse).transpose()?;
    Ok(LaneSelector { service: ServiceName::parse(service)?, target })
}

/// The reaction to a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnFailure {
    /// Start no further step.
    Stop,
    /// Run the other steps.
    Continue,
}

/// Executes a rollback from its current state to its end; returns its final state.
///
/// # Errors
/// The rollback does not succeed: it may not start, a step fails, or the execution is interrupted.
pub(super) async fn execute(
    client: &Client,
    rollback_id: &ShortText,
    args: ExecutionArgs,
    actor: Actor,
) -> anyhow::Result<RollbackBody> {
    // Wait for the last entry: an execution that was killed may have reported just before.
    let rollback = fetch_rollback(client, rollback_id, Some(head(client).await?)).await?;
    match rollback.phase {
        RollbackPhase::Succeeded => return Ok(rollback),
        RollbackPhase::Failed | RollbackPhase::Cancelled => bail!("{}", describe_end(&rollback)),
        RollbackPhase::Requested | RollbackPhase::Started => {}
    }
    let root = match &args.state_dir {
        Some(folder) => folder.clone(),
        None => environment::state_dir()?,
    };
    let step_log = StepLog::open(&root, &rollback)?;
    let progress = Arc::new(Progress::of_steps(rollback.progress.total as u64));
    let interrupted = cancel_on_signal()?;
    tokio::select! {
        waited = step_log.wait_for_commands(|text| progress.note(text)) => waited?,
        () = interrupted.cancelled() => bail!("interrupted"),
    }
    let executor = Arc::new(Executor {
        client: client.clone(),
        rollback: parse_rollback(&rollback)?,
        actor,
        retry_for: Duration::from_secs(args.retry_for),
        args,
        step_log,
        progress: Arc::clone(&progress),
        interrupted,
    });
    let ended = run_to_end(&executor, &rollback).await;
    progress.finish();
    if ended.as_ref().is_ok_and(|rollback| !rollback.phase.is_active())
        && let Some(executor) = Arc::into_inner(executor)
    {
        executor.step_log.delete();
    }
    match ended? {
        rollback if rollback.phase == RollbackPhase::Succeeded => Ok(rollback),
        rollback => Err(anyhow!("{}", describe_end(&rollback))),
    }
}

/// Runs all steps and ends the rollback; returns its final state.
async fn run_to_end(executor: &Arc<Executor>, rollback: &RollbackBody) -> anyhow::Result<RollbackBody> {
    let position = match rollback.phase {
        RollbackPhase::Requested => executor.start().await?,
        _ => rollback.position,
    };
    let failed = executor.run_waves(position).await?;
    executor.finish(failed).await
}

/// Returns a token that SIGTERM or SIGINT cancels.
fn cancel_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let interrupted = CancellationToken::new();
    let token = interrupted.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(interrupted)
}
