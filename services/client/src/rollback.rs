//! `release-ledger rollback`: plans, requests, executes and watches rollbacks.
//!
//! One file per subcommand. Invariant: every request, vote and end of a rollback is recorded with the name of
//! its actor.

mod decide;
mod execute;
mod list;
mod plan;
mod request;
mod show;
mod watch;

pub(super) use request::{RequestArgs, request_rollback};

/// Plan, request, execute and watch rollbacks
#[derive(Debug, clap::Subcommand)]
pub enum Rollback {
    /// Show the plan that would bring an environment to a point, and its issues; records nothing
    Plan(plan::Plan),
    /// Request a rollback
    ///
    /// Makes a plan and requests exactly this plan: if the environment changes in the meantime, nothing is
    /// recorded.
    Request(request::RequestRollback),
    /// Approve a rollback that another person requested
    Approve(decide::Decide),
    /// Reject a rollback that another person requested
    Reject(decide::Decide),
    /// Execute a rollback, step by step, with a command of yours
    ///
    /// `sh -c` runs the command once per step: the waves in order, the steps of a wave in parallel if
    /// --parallel says so. The command finds the step in RELEASE_LEDGER_ROLLBACK_ID, _ENVIRONMENT, _WAVE,
    /// _SERVICE, _TARGET, _ACTION (redeploy, add, remove, switch), _SLOT, _FROM_VERSION, _TO_VERSION,
    /// _TO_ARTIFACT, _TO_CONFIG, _TO_INFRASTRUCTURE and _TO_COMMIT, all with the prefix RELEASE_LEDGER and
    /// empty if not applicable, and as JSON on its stdin. Its output goes to stderr. A status of 0 means that
    /// the step is done, which is then reported to the ledger.
    ///
    /// If the execution is interrupted or killed, the same command continues: it does not run a step again
    /// for which the command succeeded, even if that could not be reported. It waits for a command that is
    /// still running; a command that was itself killed half-way runs again, and must tolerate that.
    Execute(execute::Execute),
    /// End a started rollback as failed
    Fail(decide::Decide),
    /// Cancel a rollback
    Cancel(decide::Decide),
    /// List rollbacks, the latest first
    List(list::List),
    /// Show the progress of a rollback, step by step
    Show(show::Show),
    /// Follow the progress of rollbacks
    ///
    /// With an ID: shows every step when it is reported, until the rollback ends; fails unless it succeeds.
    /// Without: shows all events of rollbacks from now on, until it is interrupted.
    Watch(watch::Watch),
}

impl Rollback {
    /// Runs the command.
    ///
    /// # Errors
    /// The subcommand's errors.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Plan(plan) => plan.run().await,
            Self::Request(request) => request.run().await,
            Self::Approve(command) => command.run(decide::Decision::Approve).await,
            Self::Reject(command) => command.run(decide::Decision::Reject).await,
            Self::Execute(execute) => execute.run().await,
            Self::Fail(command) => command.run(decide::Decision::Fail).await,
            Self::Cancel(command) => command.run(decide::Decision::Cancel).await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Watch(watch) => watch.run().await,
        }
    }
}
