//! The execution of a rollback: its steps, carried out by a command of the user's, and reported.
//!
//! Invariants: a wave begins when the one before is done. A step whose command has ended well is never run
//! again, and is reported until the ledger has it. Whatever is killed, the same call goes on from there.

mod command;
mod executor;
mod memory;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use ledger_domain::event::Actor;
use ledger_domain::rollback::Phase;
use ledger_domain::{ServiceName, ShortText, TargetName};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::executor::Executor;
use self::memory::StepLog;
use super::connection::Client;
use super::progress::Progress;
use super::query::head;
use super::rollback::{RollbackBody, fetch};
use crate::environment;

/// How steps are carried out.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Execution {
    /// The command that carries out a step
    #[arg(long, value_name = "COMMAND")]
    exec: String,
    /// How many steps of a wave are carried out side by side
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    parallel: u16,
    /// Whether to stop when a step fails, so that it can be repaired and gone on with, or to carry out the
    /// others, and then say that the rollback has failed
    #[arg(long, value_enum, default_value_t = OnFailure::Stop)]
    on_failure: OnFailure,
    /// Where it is remembered which steps' commands have ended well, until the rollback ends
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// A lane that no longer runs what the plan starts from, and is brought to the point all the same: SERVICE or
    /// SERVICE@TARGET
    #[arg(long, value_name = "LANE", value_parser = lane)]
    acknowledge: Vec<NamedLane>,
    /// How long to go on while the ledger does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
}

/// Lanes of a plan: that of a service at a target, or all of a service.
#[derive(Debug, Clone)]
struct NamedLane {
    service: ServiceName,
    target: Option<TargetName>,
}

/// Parses `SERVICE` or `SERVICE@TARGET`.
fn lane(text: &str) -> Result<NamedLane, ledger_domain::NameError> {
    let (service, target) =
        text.split_once('@').map_or((text, None), |(service, target)| (service, Some(target)));
    let target = target.map(TargetName::parse).transpose()?;
    Ok(NamedLane { service: ServiceName::parse(service)?, target })
}

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnFailure {
    /// No further step is begun.
    Stop,
    /// The others are carried out.
    Continue,
}

/// Carries out a rollback, from where it is, to its end; answers it as it is then.
///
/// # Errors
/// It has not succeeded: it may not be started, a step failed, or something else stopped the execution.
pub(super) async fn execute(
    client: &Client,
    rollback_id: &ShortText,
    execution: Execution,
    actor: Actor,
) -> anyhow::Result<RollbackBody> {
    // What an execution that was killed reported last may not be in the projections yet.
    let rollback = fetch(client, rollback_id, Some(head(client).await?)).await?;
    match rollback.phase {
        Phase::Succeeded => return Ok(rollback),
        Phase::Failed | Phase::Cancelled => bail!("{}", rollback.ending()),
        Phase::Requested | Phase::Started => {}
    }
    let root = match &execution.state_dir {
        Some(folder) => folder.clone(),
        None => environment::state_dir()?,
    };
    let memory = StepLog::hold(&root, &rollback)?;
    let progress = Arc::new(Progress::of_steps(rollback.progress.total));
    let interrupted = interruption()?;
    tokio::select! {
        waited = memory.alone(|text| progress.note(text)) => waited?,
        () = interrupted.cancelled() => bail!("interrupted"),
    }
    let executor = Arc::new(Executor {
        client: client.clone(),
        rollback: rollback.named()?,
        actor,
        retry_for: Duration::from_secs(execution.retry_for),
        execution,
        memory,
        progress: Arc::clone(&progress),
        interrupted,
    });
    let ended = carried_out(&executor, &rollback).await;
    progress.finish();
    if ended.as_ref().is_ok_and(|rollback| !rollback.phase.is_active())
        && let Some(executor) = Arc::into_inner(executor)
    {
        executor.memory.forget();
    }
    match ended? {
        rollback if rollback.phase == Phase::Succeeded => Ok(rollback),
        rollback => Err(anyhow!("{}", rollback.ending())),
    }
}

/// The rollback at its end.
async fn carried_out(executor: &Arc<Executor>, rollback: &RollbackBody) -> anyhow::Result<RollbackBody> {
    let seen = match rollback.phase {
        Phase::Requested => executor.start().await?,
        _ => rollback.position,
    };
    let failed = executor.all_waves(seen).await?;
    executor.conclude(failed).await
}

/// Is cancelled when the process is asked to end.
fn interruption() -> anyhow::Result<CancellationToken> {
    let (mut end, mut stop) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let interrupted = CancellationToken::new();
    let told = interrupted.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = end.recv() => {}
            _ = stop.recv() => {}
        }
        told.cancel();
    });
    Ok(interrupted)
}
