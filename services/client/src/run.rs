//! `release-ledger run`: runs a deploy command and reports its start and end to the ledger.

mod step;

use std::process::ExitCode;
use std::time::Duration;

use chrono::SecondsFormat;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Kind, LongText, ServiceName};

use self::step::{Lane, with_planned_release};
use super::ci::CiFlags;
use super::compose::compose_event;
use super::details::{DetailFlags, EventSubject};
use super::wrapped::{CommandResult, Work, WrapArgs};
use crate::clock;

/// Run a deploy, and report it to the ledger
///
/// Reports deploy.started, runs the command, and reports deploy.succeeded if it exits with 0, otherwise
/// deploy.failed, with its duration and exit code. Exits as the command does: with its status, with 128 plus
/// the signal number if a signal ends it, with 127 if there is no such command and with 126 if it cannot be
/// run. Forwards SIGTERM, SIGINT, SIGHUP and SIGQUIT to the command. A signal that is ignored at the start,
/// as SIGHUP under `nohup`, is ignored by both.
///
/// A ledger that is down neither fails nor delays a deploy: reports that cannot be sent are kept in the
/// spool, and the next report sends them first. If --url, --tenant or the context is invalid, no ledger is known: the
/// command runs, and its reports are lost, which a line on stderr says. A failure of this program, and not of
/// the command, exits with 125.
///
/// In a CI, its variables provide --deployment, --commit, --actor, --link pipeline=…, --source and --correlation; flags
/// take precedence. RELEASE_LEDGER_ACTOR names the actor in any case. Set --commit if the release was built from another
/// commit than that of the CI's run, or --no-commit.
///
/// With --rollback, the release has the parts that the plan of the rollback states: the step succeeds only with them.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger run --environment production --service web --version v1 -- helm upgrade web ./chart
  release-ledger run --environment dev --service web --version v1 --strict -- sh -c './deploy && ./warm-up'

Exit status:
  that of the command; 128 plus the signal number if a signal ended it
  126  the command cannot be run
  127  there is no such command
  125  this program failed: invalid arguments, or --strict"
)]
pub struct Run {
    /// The environment
    #[arg(long, value_name = "NAME")]
    environment: EnvironmentName,
    /// The service
    #[arg(long, value_name = "NAME")]
    service: ServiceName,
    /// The release's version
    #[arg(long, value_name = "VERSION")]
    version: String,
    #[command(flatten)]
    details: DetailFlags,
    #[command(flatten)]
    ci: CiFlags,
    #[command(flatten)]
    wrap: WrapArgs,
}

impl Run {
    /// Runs the command and returns the exit status.
    ///
    /// # Errors
    /// The flags describe no valid deploy or no step of their rollback, or, with `--strict`, a report is not recorded.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let Self { environment, service, version, details, ci, wrap } = self;
        let details = details.or(&ci.context()?, Kind::DeployStarted);
        let lane = Lane { environment: &environment, service: &service, version: &version };
        let (connection, limit) = (wrap.connection().clone(), wrap.retry_for());
        let details = with_planned_release(details, lane, connection, limit).await?;
        let mut deploy = Deploy { environment, service, version, details };
        Ok(ExitCode::from(wrap.run(&mut deploy).await?))
    }
}

/// The deploy to report.
struct Deploy {
    environment: EnvironmentName,
    service: ServiceName,
    version: String,
    details: DetailFlags,
}

impl Deploy {
    /// Creates the event of a kind, as of now, with the result and duration of the command if it has ended.
    /// Each run is a deploy of its own, even of the same job, so its event id is always new.
    fn event(
        &self,
        kind: Kind,
        result: Option<(&CommandResult, Option<Duration>)>,
    ) -> anyhow::Result<Envelope> {
        let subject = EventSubject {
            environment: Some(&self.environment),
            service: Some(&self.service),
            version: Some(&self.version),
        };
        let mut data = self.details.members(kind.family(), subject);
        if let Some((result, duration)) = result {
            if let Some(duration) = duration {
                let milliseconds = u64::try_from(duration.as_millis())?;
                data.insert("duration_ms".to_owned(), milliseconds.into());
                data.insert("exit_code".to_owned(), result.code.into());
            }
            let failure = result.failure.as_deref().filter(|text| LongText::parse(text).is_ok());
            if let Some(failure) = failure.filter(|_| !self.details.has_reason()) {
                data.insert("reason".to_owned(), failure.into());
            }
        }
        let time = clock::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        compose_event(kind, self.details.origin.attributes(None, Some(&time)), data, &[])
    }
}

impl Work for Deploy {
    const NOUN: &'static str = "deploy";

    fn started(&self) -> anyhow::Result<Envelope> {
        self.event(Kind::DeployStarted, None)
    }

    fn ended(&mut self, result: &CommandResult, duration: Option<Duration>) -> anyhow::Result<Envelope> {
        let kind = if result.code == 0 { Kind::DeploySucceeded } else { Kind::DeployFailed };
        self.event(kind, Some((result, duration)))
    }

    fn scope(&self) -> (Option<&EnvironmentName>, Option<&ServiceName>) {
        (Some(&self.environment), Some(&self.service))
    }
}
