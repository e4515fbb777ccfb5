//! Runs a command and reports its start and end to the ledger, for `run` and `check run`.
//!
//! Invariants: the command's stdin, stdout, stderr and exit status are the same as if it ran alone. Without
//! `--strict`, the ledger delays nothing before the command ends, and then for `--retry-for` at most. A spool
//! that hangs delays the start by `--retry-for`, and the end by as long again.

mod child;
mod reports;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use ledger_api_types::EventsBody;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Identity, ServiceName};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::child::CommandResult;
use self::child::Signals;
use self::reports::{NotRecorded, Reports};
use super::connection::{Client, Connection};
use super::event_result::notes;
use super::output::print_notice;
use super::query::{head, read, with_param};
use super::retry_for::{FOR_ONE_EVENT, RetryForArgs};
use super::spool::{Outbox, SpoolFolder};

/// Time that sending may take beyond `--retry-for`, and that a signal leaves to the sending under way.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Flags of commands that run another command.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WrapArgs {
    /// Run the command only if its start is recorded, and fail if its end is not
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    retry_for: RetryForArgs,
    #[command(flatten)]
    spool: SpoolFolder,
    #[command(flatten)]
    connection: Connection,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The work of a command, as the ledger records it.
pub(super) trait Work {
    /// The noun for messages, such as `deploy`.
    const NOUN: &'static str;

    /// Composes the report of the start.
    fn started(&self) -> anyhow::Result<Envelope>;

    /// Composes the report of the end, with the duration if the command ran.
    fn ended(&mut self, result: &CommandResult, duration: Option<Duration>) -> anyhow::Result<Envelope>;

    /// Returns the environment and the service, as far as it has them.
    fn scope(&self) -> (Option<&EnvironmentName>, Option<&ServiceName>);
}

impl WrapArgs {
    /// Returns the connection, for a question that precedes the command.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the time limit of a request.
    pub(super) fn retry_for(&self) -> Duration {
        self.retry_for.or(FOR_ONE_EVENT)
    }

    /// Runs the command and returns its exit status.
    ///
    /// # Errors
    /// The flags describe no valid event, or, with `--strict`, a report is not recorded.
    pub(super) async fn run<W: Work>(self, work: &mut W) -> anyhow::Result<u8> {
        // From here on a signal ends the command, and not this process before it has reported.
        let mut signals = Signals::catch()?;
        let started = work.started().with_context(|| format!("invalid {}", W::NOUN))?;
        let retry_for = self.retry_for();
        let client = match self.connection.client() {
            Ok(client) => client,
            Err(error) if self.strict => return Err(error).context("did not run the command"),
            Err(error) => {
                print_notice(&format!("{error}; the {}'s reports are lost", W::NOUN));
                return Ok(child::run(&self.command, &mut signals).await.code);
            }
        };
        let outbox = Outbox::new(client.clone(), self.spool.folder(), retry_for);
        let mut reports = Reports::new(outbox, W::NOUN);
        tokio::select! {
            () = reports.add(started) => {}
            // Stop now: the signal is meant to stop the work before it starts.
            _ = signals.next() => return Err(anyhow!("interrupted before the command started")),
        }
        if self.strict {
            record_start(work, &mut reports, retry_for, &mut signals).await?;
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
        match report_end(work, (&result, duration), &mut reports, retry_for, &mut signals).await {
            Err(error) if self.strict && result.code == 0 => {
                return Err(error.context("the command succeeded, but its end is not recorded"));
            }
            Err(error) => print_notice(&format!("{error:#}")),
            Ok(reported) => print_notes(&client, &*work, &reported).await,
        }
        Ok(result.code)
    }
}

/// Sends the spooled start. If it is not recorded, the command must not run.
async fn record_start(
    work: &mut impl Work,
    reports: &mut Reports,
    retry_for: Duration,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let sent = tokio::select! {
        sent = send_reports(reports, retry_for) => sent,
        _ = signals.next() => Err(anyhow!("interrupted")),
    };
    let Err(error) = sent else { return Ok(()) };
    if !error.downcast_ref::<NotRecorded>().is_some_and(NotRecorded::is_rejected) {
        // The start may be recorded now or later, so report an end as well.
        let result = CommandResult::not_started("the command was not run: its start could not be recorded");
        reports.add(work.ended(&result, None)?).await;
    }
    Err(error.context("did not run the command: its start is not recorded"))
}

/// Spools and sends the end. Returns the identity of the recorded report.
async fn report_end<W: Work>(
    work: &mut W,
    (result, duration): (&CommandResult, Duration),
    reports: &mut Reports,
    retry_for: Duration,
    signals: &mut Signals,
) -> anyhow::Result<Identity> {
    let ended = work.ended(result, Some(duration));
    let event = ended.with_context(|| format!("cannot report how the {} ended", W::NOUN))?;
    let identity = event.identity().clone();
    reports.add(event).await;
    let stop_requested = async {
        signals.next().await;
        // The signal may be one that each process of the group receives in turn, and not a second request to stop.
        tokio::time::sleep(GRACE_PERIOD).await;
    };
    tokio::select! {
        sent = send_reports(reports, retry_for) => sent.map(|()| identity),
        () = stop_requested => Err(anyhow!("interrupted while reporting the {}", W::NOUN)),
    }
}

/// Time limit for fetching the ledger's notes on a report. The report is recorded either way.
const NOTES_TIMEOUT: Duration = Duration::from_secs(2);

/// Prints the ledger's notes on a recorded report, if they arrive in time.
async fn print_notes(client: &Client, work: &impl Work, Identity { source, id }: &Identity) {
    let (environment, service) = work.scope();
    let fetched = async {
        let head = head(client).await?;
        let url = with_param(client.url(&["events"]), "source", Some(source.as_str()));
        let url = with_param(with_param(url, "id", Some(id.as_str())), "wait_for", Some(head));
        // So that a token for this service suffices.
        let url = with_param(url, "environment", environment);
        let url = with_param(url, "service", service);
        read::<EventsBody<IgnoredAny>>(&client.get(url).await?)
    };
    if let Ok(Ok(body)) = timeout(NOTES_TIMEOUT, fetched).await {
        let notes = body.events.iter().flat_map(|entry| notes(&entry.anomalies, &entry.new, &entry.targets));
        notes.for_each(|note| print_notice(&format!("the report: {note}")));
    }
}

/// Sends the reports; gives up if the disk hangs.
async fn send_reports(reports: &Reports, retry_for: Duration) -> anyhow::Result<()> {
    let sending = AbortOnDropHandle::new(tokio::spawn(reports.clone().send()));
    match timeout(retry_for + GRACE_PERIOD, sending).await {
        Ok(sent) => Ok(sent??),
        Err(_) => {
            let (folder, noun) = (reports.spool_folder(), reports.noun());
            bail!("the spool {folder} does not respond; the {noun}'s reports may be lost")
        }
    }
}
