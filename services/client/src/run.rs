//! `release-ledger run`: runs a deploy command and reports its start and end to the ledger.
//!
//! Invariants: the command's stdin, stdout, stderr and exit status are the same as if it ran alone. Without
//! `--strict`, the ledger delays nothing before the command ends, and then for `--patience` at most. A spool
//! that hangs delays the start by `--patience`, and the end by as long again.

mod child;
mod reports;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::SecondsFormat;
use ledger_api_types::EventsBody;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Identity, Kind, LongText, ServiceName};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::child::{CommandResult, Signals};
use self::reports::{DeployReports, NotRecorded};
use super::ci::{self, CiContext};
use super::connection::{Client, Connection};
use super::details::{DetailFlags, EventSubject};
use super::event_result::notes;
use super::output::print_notice;
use super::query::{head, read, with_param};
use super::spool::{Outbox, SpoolFolder};
use crate::{clock, environment};

/// Time that sending may take beyond `--patience`, and that a signal leaves to the sending under way.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Run a deploy, and report it to the ledger
///
/// Reports deploy.started, runs the command, and reports deploy.succeeded if it exits with 0, otherwise
/// deploy.failed, with its duration and exit code. Exits as the command does: with its status, with 128 plus
/// the signal number if a signal ends it, with 127 if there is no such command and with 126 if it cannot be
/// run. Forwards SIGTERM, SIGINT, SIGHUP and SIGQUIT to the command. A signal that is ignored at the start,
/// as SIGHUP under `nohup`, is ignored by both.
///
/// A ledger that is down neither fails nor delays a deploy: reports that cannot be sent are kept in the
/// spool, and the next command sends them first. If --url, --tenant or the context is invalid, no ledger is known: the
/// command runs, and its reports are lost, which a line on stderr says. A failure of this program, and not of
/// the command, exits with 125.
///
/// In GitHub Actions, GitLab, Jenkins and Buildkite, the CI's variables provide --deployment, --commit,
/// --actor and --link pipeline=…; flags take precedence.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger run --environment production --service web --version v1 -- helm upgrade web ./chart
  release-ledger run --environment dev --service web --version v1 --strict -- sh -c './deploy && ./warm-up'"
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
    /// Ignore the CI's variables
    #[arg(long)]
    no_ci: bool,
    /// Run the command only if its start is recorded, and fail if its end is not
    #[arg(long)]
    strict: bool,
    /// Time limit for sending a report before it stays in the spool
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    patience: u64,
    #[command(flatten)]
    spool: SpoolFolder,
    #[command(flatten)]
    connection: Connection,
    /// The deploy command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// Runs the command and returns the exit status.
    ///
    /// # Errors
    /// The flags describe no valid deploy, or, with `--strict`, a report is not recorded.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        // From here on a signal ends the command, and not this process before it has reported.
        let mut signals = Signals::catch()?;
        let ci_context =
            if self.no_ci { CiContext::default() } else { ci::detect(&environment::variables()) };
        let deploy = Deploy {
            environment: self.environment,
            service: self.service,
            version: self.version,
            details: self.details.or(ci_context),
        };
        let started = deploy.event(Kind::DeployStarted, None).context("invalid deploy")?;
        let patience = Duration::from_secs(self.patience);
        let client = match self.connection.client() {
            Ok(client) => client,
            Err(error) if self.strict => return Err(error).context("did not run the command"),
            Err(error) => {
                print_notice(&format!("{error}; the deploy's reports are lost"));
                return Ok(ExitCode::from(child::run(&self.command, &mut signals).await.code));
            }
        };
        let outbox = Outbox::new(client.clone(), self.spool.folder(), patience);
        let mut reports = DeployReports::new(outbox);
        tokio::select! {
            () = reports.add(started) => {}
            // Stop now: the signal is meant to stop the deploy before it starts.
            _ = signals.next() => return Err(anyhow!("interrupted before the command started")),
        }
        if self.strict {
            record_start(&deploy, &mut reports, patience, &mut signals).await?;
        }
        let started_at = Instant::now();
        // Send while the command runs: it does not wait for the ledger. Reports not sent by its end are sent
        // then.
        let early = AbortOnDropHandle::new(tokio::spawn(reports.clone().send()));
        let result = child::run(&self.command, &mut signals).await;
        drop(early);
        let duration = started_at.elapsed();
        // The signals received so far were meant for the command.
        signals.discard_pending();
        match report_end(&deploy, (&result, duration), &mut reports, patience, &mut signals).await {
            Err(error) if self.strict && result.code == 0 => {
                return Err(error.context("the command succeeded, but its end is not recorded"));
            }
            Err(error) => print_notice(&format!("{error:#}")),
            Ok(reported) => print_notes(&client, &deploy, &reported).await,
        }
        Ok(ExitCode::from(result.code))
    }
}

/// Sends the spooled start of a deploy. If it is not recorded, the command must not run.
async fn record_start(
    deploy: &Deploy,
    reports: &mut DeployReports,
    patience: Duration,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let sent = tokio::select! {
        sent = send_reports(reports, patience) => sent,
        _ = signals.next() => Err(anyhow!("interrupted")),
    };
    let Err(error) = sent else { return Ok(()) };
    if !error.downcast_ref::<NotRecorded>().is_some_and(NotRecorded::is_rejected) {
        // The start may be recorded now or later, so report an end as well.
        let result = CommandResult::not_started("the command was not run: its start could not be recorded");
        reports.add(deploy.event(Kind::DeployFailed, Some((&result, None)))?).await;
    }
    Err(error.context("did not run the command: its start is not recorded"))
}

/// Spools and sends the end of a deploy. Returns the identity of the recorded report.
async fn report_end(
    deploy: &Deploy,
    (result, duration): (&CommandResult, Duration),
    reports: &mut DeployReports,
    patience: Duration,
    signals: &mut Signals,
) -> anyhow::Result<Identity> {
    let kind = if result.code == 0 { Kind::DeploySucceeded } else { Kind::DeployFailed };
    let event =
        deploy.event(kind, Some((result, Some(duration)))).context("cannot report how the deploy ended")?;
    let identity = event.identity().clone();
    reports.add(event).await;
    let stop_requested = async {
        signals.next().await;
        // The signal may be one that each process of the group receives in turn, and not a second request to stop.
        tokio::time::sleep(GRACE_PERIOD).await;
    };
    tokio::select! {
        sent = send_reports(reports, patience) => sent.map(|()| identity),
        () = stop_requested => Err(anyhow!("interrupted while reporting the deploy")),
    }
}

/// Time limit for fetching the ledger's notes on a report. The report is recorded either way.
const NOTES_TIMEOUT: Duration = Duration::from_secs(2);

/// Prints the ledger's notes on a recorded report, if they arrive in time.
async fn print_notes(client: &Client, deploy: &Deploy, Identity { source, id }: &Identity) {
    let fetched = async {
        let head = head(client).await?;
        let url = with_param(client.url(&["events"]), "source", Some(source.as_str()));
        let url = with_param(with_param(url, "id", Some(id.as_str())), "wait_for", Some(head));
        // So that a token for this service suffices.
        let url = with_param(url, "environment", Some(deploy.environment.as_str()));
        let url = with_param(url, "service", Some(deploy.service.as_str()));
        read::<EventsBody<IgnoredAny>>(&client.get(url).await?)
    };
    if let Ok(Ok(body)) = timeout(NOTES_TIMEOUT, fetched).await {
        let notes = body.events.iter().flat_map(|entry| notes(&entry.anomalies, &entry.new, &entry.targets));
        notes.for_each(|note| print_notice(&format!("the report: {note}")));
    }
}

/// Sends the reports; gives up if the disk hangs.
async fn send_reports(reports: &DeployReports, patience: Duration) -> anyhow::Result<()> {
    let sending = AbortOnDropHandle::new(tokio::spawn(reports.clone().send()));
    match timeout(patience + GRACE_PERIOD, sending).await {
        Ok(sent) => Ok(sent??),
        Err(_) => {
            bail!("the spool {} does not respond; the deploy's reports may be lost", reports.spool_folder())
        }
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
        let event = self.details.event(kind, None, &time, data)?;
        Envelope::parse(&event).map_err(|invalid| invalid.reason.into())
    }
}
