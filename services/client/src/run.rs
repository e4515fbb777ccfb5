//! `release-ledger run`: a deploy's own command, with its start and its end told to the ledger.
//!
//! Invariants: what the command reads, writes and ends with is as if it were run alone. Without `--strict`
//! the ledger holds it up at no time before its end, and then for the patience at most. A spool that hangs holds it
//! up for the patience before it begins, and for as long at its end.

mod child;
mod reports;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::SecondsFormat;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Identity, Kind, LongText, ServiceName};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::child::{Ended, Signals};
use self::reports::{NotRecorded, Reports};
use super::answer::RecordedBody;
use super::ci::{Facts, facts};
use super::connection::{Client, Connection};
use super::details::{About, Details};
use super::output::tell;
use super::query::{head, read, with};
use super::spool::{Outbox, SpoolFolder};
use crate::{clock, environment};

/// How much longer than the patience it may take to send what is there, and how long whoever signals meanwhile has to
/// wait.
const HURRY: Duration = Duration::from_secs(1);

/// Run a deploy, and report it to the ledger
///
/// Reports deploy.started, runs the command, and reports deploy.succeeded if it ends with 0, or deploy.failed
/// if not, with its duration and exit code. Exits as the command does: with its status, with 128 and the
/// signal's number if a signal ends it, with 127 if there is no such command and with 126 if it cannot be run.
/// SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to it. One that is ignored when this starts, as SIGHUP under
/// `nohup`, is ignored by both.
///
/// A ledger that is down fails no deploy and does not hold one up: reports that cannot be sent are kept in the
/// spool, and sent first next time. Whatever goes wrong here, and not in the command, ends with 125.
///
/// In GitHub Actions, GitLab, Jenkins and Buildkite, what the CI knows of its run is told as --deployment,
/// --commit, --actor and --link pipeline=…, where these flags do not say otherwise.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger run --environment production --service web --version v1 -- helm upgrade web ./chart
  release-ledger run --environment dev --service web --version v1 --strict -- sh -c './deploy && ./warm-up'"
)]
pub struct Run {
    /// Where
    #[arg(long, value_name = "NAME")]
    environment: EnvironmentName,
    /// Of what
    #[arg(long, value_name = "NAME")]
    service: ServiceName,
    /// The release's version
    #[arg(long, value_name = "VERSION")]
    version: String,
    #[command(flatten)]
    details: Details,
    /// Tell nothing that only the CI's variables say
    #[arg(long)]
    no_ci: bool,
    /// Do not run the command unless its start is recorded, and fail if its end is not
    #[arg(long)]
    strict: bool,
    /// How long to try to send a report before it is left in the spool
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    #[command(flatten)]
    spool: SpoolFolder,
    #[command(flatten)]
    connection: Connection,
    /// What deploys, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// Runs the command; answers the status to end with.
    ///
    /// # Errors
    /// What is told is no deploy; or, if that is asked for, a report is not recorded.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        // From here on a signal ends the command, and not us before we have reported it.
        let mut signals = Signals::catch()?;
        let facts = if self.no_ci { Facts::default() } else { facts(&environment::variables()) };
        let deploy = Deploy {
            environment: self.environment,
            service: self.service,
            version: self.version,
            details: self.details.or(facts),
        };
        let started = deploy.event(Kind::DeployStarted, None).context("this is not a deploy")?;
        let patience = Duration::from_secs(self.patience);
        let client = self.connection.client();
        let outbox = Outbox::new(client.clone(), self.spool.folder(), patience);
        let mut reports = Reports::new(outbox);
        let mut reported = None;
        tokio::select! {
            () = reports.add(started) => {}
            // Now, and not when the command has begun that somebody calls off.
            _ = signals.next() => return Err(anyhow!("interrupted before the command was run")),
        }
        if self.strict {
            let sent = tokio::select! {
                sent = sent(&reports, patience) => sent,
                _ = signals.next() => Err(anyhow!("interrupted")),
            };
            if let Err(why) = sent {
                if !why.downcast_ref::<NotRecorded>().is_some_and(NotRecorded::is_refused) {
                    // Its start may be recorded, now or later: then so is its end.
                    let ended = Ended::not_begun("the command was not run: its start could not be recorded");
                    reports.add(deploy.event(Kind::DeployFailed, Some((&ended, None)))?).await;
                }
                return Err(why.context("the command is not run: its start is not recorded"));
            }
        }
        let began = Instant::now();
        // Beside the command: it does not wait for the ledger. What is not sent by its end is sent then.
        let early = AbortOnDropHandle::new(tokio::spawn(reports.clone().send()));
        let ended = child::run(&self.command, &mut signals).await;
        drop(early);
        let took = began.elapsed();
        // They were meant for the command.
        signals.forget();
        let kind = if ended.code == 0 { Kind::DeploySucceeded } else { Kind::DeployFailed };
        let told = match deploy.event(kind, Some((&ended, Some(took)))) {
            Ok(event) => {
                reported = Some(event.identity().clone());
                reports.add(event).await;
                let hurried = async {
                    signals.next().await;
                    // It may be one that all processes get, one after the other, and not a second word.
                    tokio::time::sleep(HURRY).await;
                };
                tokio::select! {
                    sent = sent(&reports, patience) => sent,
                    () = hurried => Err(anyhow!("interrupted while the deploy was reported")),
                }
            }
            Err(why) => Err(why.context("how the deploy ended cannot be told")),
        };
        match told {
            Err(why) if self.strict && ended.code == 0 => {
                return Err(why.context("the command ended well, but that is not recorded"));
            }
            Err(why) => tell(&format!("{why:#}")),
            Ok(()) => tell_notes(&client, reported.as_ref()).await,
        }
        Ok(ExitCode::from(ended.code))
    }
}

/// How long the answer is waited for to what the ledger says of a report. The report is recorded whether it comes or not.
const NOTES_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells what the ledger says of a report that it recorded, if it says so in time.
async fn tell_notes(client: &Client, reported: Option<&Identity>) {
    let Some(Identity { source, id }) = reported else { return };
    let asked = async {
        let head = head(client).await?;
        let url = with(client.url(&["events"]), "source", Some(source.as_str()));
        let url = with(with(url, "id", Some(id.as_str())), "wait_for", Some(head));
        read::<RecordedBody>(&client.get(url).await?)
    };
    if let Ok(Ok(body)) = timeout(NOTES_TIMEOUT, asked).await {
        let notes = body.events.iter().flat_map(|entry| entry.marks.notes());
        notes.for_each(|note| tell(&format!("the report: {note}")));
    }
}

/// Sends the reports. A disk that hangs is left behind.
async fn sent(reports: &Reports, patience: Duration) -> anyhow::Result<()> {
    let sending = AbortOnDropHandle::new(tokio::spawn(reports.clone().send()));
    match timeout(patience + HURRY, sending).await {
        Ok(sent) => Ok(sent??),
        Err(_) => bail!("the spool {} hangs: the reports of the deploy may be lost", reports.place()),
    }
}

/// What is deployed.
struct Deploy {
    environment: EnvironmentName,
    service: ServiceName,
    version: String,
    details: Details,
}

impl Deploy {
    /// The event of a kind, as of now; with how the deploy ended, and after how long, if it has. Two runs are
    /// two deploys, even of the same job: so its id is one that no other has.
    fn event(&self, kind: Kind, ended: Option<(&Ended, Option<Duration>)>) -> anyhow::Result<Envelope> {
        let about = About {
            environment: Some(&self.environment),
            service: Some(&self.service),
            version: Some(&self.version),
        };
        let mut data = self.details.members(kind.family(), about);
        if let Some((ended, took)) = ended {
            if let Some(took) = took {
                let milliseconds = u64::try_from(took.as_millis())?;
                data.insert("duration_ms".to_owned(), milliseconds.into());
                data.insert("exit_code".to_owned(), ended.code.into());
            }
            let why = ended.why.as_deref().filter(|why| LongText::parse(why).is_ok());
            if let Some(why) = why.filter(|_| !self.details.has_reason()) {
                data.insert("reason".to_owned(), why.into());
            }
        }
        let time = clock::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let event = self.details.event(kind, None, &time, data)?;
        Envelope::parse(&event).map_err(|invalid| invalid.reason.into())
    }
}
