//! `release-ledger emit`: records one event built from flags, or complete events from stdin.

mod flags;

use std::io;

use flags::EventFlags;

use super::bounded::JsonValues;
use super::chunk::ChunkBuilder;
use super::ci::CiFlags;
use super::invalid::invalid;
use super::session::{EmitSession, ReportArgs};

/// Report an event to the ledger
///
/// Sends either one event built from flags, or complete CloudEvents as JSON from stdin. An event that is
/// already recorded, by its source and id, is not recorded again.
///
/// A report that does not reach the ledger, because the ledger is down, something else answers in its place, or
/// it does not accept the credentials, is kept in the spool on disk, and the next command sends it first. A line on stderr says so; it is
/// a failure only with --strict. A report that the ledger rejects is always a failure.
///
/// Commands are never spooled, because the ledger decides them by its current state: an event about a
/// rollback, a release point, an approval, a freeze, a policy, a retired environment or a revoked artifact is
/// sent at once, or fails.
///
/// In a CI, its variables provide --deployment, --commit, --actor, --link pipeline=…, --source and --correlation, as far
/// as the event has them; flags and --data take precedence. With --id they provide --source only: the same event, emitted by two
/// runs, must be the same. RELEASE_LEDGER_ACTOR names the actor in any case.
///
/// The commit is that of the CI's run. Runs that another event or a pull request caused provide none; set --commit if
/// the release was built from another one, or --no-commit.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger emit deploy.succeeded --environment production --service web --version v1
  release-ledger emit traffic.switched --environment production --service web --slot green
  release-ledger emit validation.passed --environment production --service web --data '{\"check\":\"smoke\"}'
  release-ledger emit - < events.ndjson"
)]
pub struct Emit {
    /// The event type, such as `deploy.succeeded`; - for CloudEvents from stdin
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    flags: EventFlags,
    #[command(flatten)]
    ci: CiFlags,
    #[command(flatten)]
    sending: ReportArgs,
}

impl Emit {
    /// Runs the command.
    ///
    /// # Errors
    /// An event is invalid, rejected, or neither recorded nor spooled.
    pub async fn run(self) -> anyhow::Result<()> {
        if self.kind != "-" {
            // Compose it before anything else, so that a mistake is reported even without a service.
            let event = self.flags.event(&self.kind, &self.ci)?;
            return self.sending.send(&event).await;
        }
        if !self.flags.is_empty() {
            return Err(invalid("events from stdin are complete: remove the flags that describe an event"));
        }
        let strict = self.sending.is_strict();
        let mut session = self.sending.session(false)?;
        let sent = send_from_stdin(&mut session).await;
        if sent.is_err() {
            session.print_spooled();
        }
        sent?;
        session.finish(strict)
    }
}

async fn send_from_stdin(session: &mut EmitSession) -> anyhow::Result<()> {
    let mut builder = ChunkBuilder::default();
    let mut events = JsonValues::new(io::stdin().lock());
    let mut parse_error = None;
    for number in 1.. {
        match events.next() {
            Some(Ok(event)) => builder.push(number, event.get().as_bytes()),
            Some(Err(error)) => {
                let fault = if error.is_io() { "cannot be read" } else { "is not JSON" };
                parse_error = Some(anyhow::Error::from(error).context(format!("event {number} {fault}")));
                break;
            }
            None => break,
        }
        if builder.is_full()
            && let Some(chunk) = builder.take()
        {
            session.send(&chunk).await?;
        }
    }
    if let Some(chunk) = builder.take() {
        session.send(&chunk).await?;
    }
    parse_error.map_or(Ok(()), Err)
}
