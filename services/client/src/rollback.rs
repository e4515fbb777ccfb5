//! `release-ledger rollback`: everything about rollbacks, from the plan to its execution.
//!
//! One file a subcommand. Invariant: who asks, answers or ends something says so by name.

mod body;
mod execute;
mod list;
mod plan;
mod request;
mod show;
mod watch;
mod word;

pub(super) use body::{RollbackBody, StepStateBody, fetch, fetch_patiently, find};
pub(super) use request::{Request, requested};

/// Plan, request, execute and watch rollbacks
#[derive(Debug, clap::Subcommand)]
pub enum Rollback {
    /// Show how an environment would come to a point, and what stands in the way; records nothing
    Plan(plan::Plan),
    /// Ask for a rollback
    ///
    /// Plans first, and asks for exactly this plan: if the environment changes meanwhile, nothing is recorded.
    Request(request::RequestRollback),
    /// Approve a rollback that somebody else asked for
    Approve(word::Word),
    /// Reject a rollback that somebody else asked for
    Reject(word::Word),
    /// Carry out a rollback, step by step, with a command of yours
    ///
    /// The command is run by `sh -c` once a step: the waves in order, the steps of a wave side by side if
    /// --parallel says so. It finds the step in RELEASE_LEDGER_ROLLBACK_ID, _ENVIRONMENT, _WAVE, _SERVICE,
    /// _TARGET, _ACTION (redeploy, add, remove, switch), _SLOT, _FROM_VERSION, _TO_VERSION, _TO_ARTIFACT,
    /// _TO_CONFIG, _TO_INFRASTRUCTURE and _TO_COMMIT, all named RELEASE_LEDGER_… and empty where there is none,
    /// and as JSON on its stdin. What it prints goes to stderr. A status of 0 says that the step is done; the
    /// ledger is told of it.
    ///
    /// If the execution is interrupted or killed, the same command goes on: no step whose command has ended well
    /// is run again, not even one whose end could not be reported. A command that is still running then is waited
    /// for; one that was itself killed half-way is run again, and must be able to bear that.
    Execute(execute::Execute),
    /// Say that a rollback that was started has failed, and end it
    Fail(word::Word),
    /// Call a rollback off
    Cancel(word::Word),
    /// List rollbacks, the last requested first
    List(list::List),
    /// Show where a rollback is, step by step
    Show(show::Show),
    /// Follow rollbacks as they go on
    ///
    /// With an ID: shows every step as it is reported, until the rollback ends; fails unless it succeeds.
    /// Without: shows what happens to any rollback from now on, until it is interrupted.
    Watch(watch::Watch),
}

impl Rollback {
    /// Runs the command.
    ///
    /// # Errors
    /// As the subcommand's.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Plan(plan) => plan.run().await,
            Self::Request(request) => request.run().await,
            Self::Approve(word) => word.run(word::What::Approved).await,
            Self::Reject(word) => word.run(word::What::Rejected).await,
            Self::Execute(execute) => execute.run().await,
            Self::Fail(word) => word.run(word::What::Failed).await,
            Self::Cancel(word) => word.run(word::What::Cancelled).await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Watch(watch) => watch.run().await,
        }
    }
}
