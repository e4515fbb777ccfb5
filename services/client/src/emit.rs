//! `release-ledger emit`: events from flags, or whole ones from stdin.

mod flags;

use std::io;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::Family;
use ledger_domain::event::Payload;
use serde_json::json;
use serde_json::value::RawValue;

use flags::Flags;

use super::answer::{EventResult, EventStatus};
use super::chunk::{Chunk, Filling};
use super::connection::{self, Connection};
use super::output::{show, tell};
use super::spool::{Error, Outbox, SpoolFolder, events_are, parsed};

/// Report an event to the ledger
///
/// Either one event from flags, or whole CloudEvents as JSON from stdin. What is recorded already, by its
/// source and id, is not recorded again.
///
/// A report that does not reach the ledger, because that is down or something else answers in its place, is kept in
/// the spool on disk and sent first next time: that is said on stderr, and is no failure unless --strict is given. What
/// the ledger refuses is always one.
///
/// A command is never kept, since it is decided by the state of the moment: what is about a rollback, a release point,
/// an approval, a freeze, a policy or a revoked artifact is sent at once, or fails.
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
    /// What happened, such as `deploy.succeeded`; - for CloudEvents from stdin
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    flags: Flags,
    /// Fail if an event is kept in the spool instead of being recorded
    #[arg(long)]
    strict: bool,
    /// How long to try to send before events are kept in the spool [default: 5; 60 for events from stdin]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    patience: Option<u64>,
    #[command(flatten)]
    spool: SpoolFolder,
    /// Print the service's answer as it is, one line an event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Emit {
    /// Runs the command.
    ///
    /// # Errors
    /// An event is not one, is refused, or is neither recorded nor kept.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client();
        let is_one = self.kind != "-";
        let patience = Duration::from_secs(self.patience.unwrap_or(if is_one { 5 } else { 60 }));
        let outbox = Outbox::new(client, self.spool.folder(), patience);
        let mut reports = Reports::new(outbox, self.json, is_one);
        if is_one {
            let event = self.flags.event(&self.kind)?;
            // Judged here too: so a mistake is told where no service is at hand.
            let envelope =
                Envelope::parse(&event).map_err(|invalid| invalid.reason).context("this is not an event")?;
            reports.send_one(&envelope).await?;
        } else {
            ensure!(
                self.flags.is_empty(),
                "events from stdin are whole: of the flags that tell of one, none goes with them"
            );
            let read = from_stdin(&mut reports).await;
            if read.is_err() {
                reports.tell_kept();
            }
            read?;
        }
        reports.conclude(self.strict)
    }
}

/// Returns true if the event asks the ledger for something, or takes something back. Such an event is decided by the
/// state of the moment: sent hours later from the spool, it would do what its author no longer wants.
fn is_command(payload: &Payload) -> bool {
    let is_revocation =
        payload.kind().family() == Family::Artifact && !matches!(payload, Payload::ArtifactBuilt(_));
    is_revocation || payload.is_command()
}

async fn from_stdin(reports: &mut Reports) -> anyhow::Result<()> {
    let mut filling = Filling::default();
    let stdin = io::stdin().lock();
    let mut events = serde_json::Deserializer::from_reader(stdin).into_iter::<Box<RawValue>>();
    let mut fault = None;
    for number in 1.. {
        match events.next() {
            Some(Ok(event)) => filling.push(number, event.get().as_bytes()),
            Some(Err(error)) => {
                fault = Some(anyhow::Error::from(error).context(format!("event {number} is not JSON")));
                break;
            }
            None => break,
        }
        if filling.is_full()
            && let Some(chunk) = filling.take()
        {
            reports.send(&chunk).await?;
        }
    }
    if let Some(chunk) = filling.take() {
        reports.send(&chunk).await?;
    }
    fault.map_or(Ok(()), Err)
}

/// Returns true if the ledger has certainly not got what failed so.
const fn is_unsent(error: &Error) -> bool {
    matches!(
        error,
        Error::Ledger(connection::Error::Unreachable { .. } | connection::Error::Setup(_)) | Error::Busy
    )
}

/// What became of the events so far.
struct Reports {
    outbox: Outbox,
    json: bool,
    /// There is one event, whose failure is told by the error and by nothing else.
    alone: bool,
    events: u64,
    failed: u64,
    /// The first that is not recorded, and why.
    first: Option<(u64, String)>,
    /// How many are in the spool.
    kept: usize,
    /// Why the first of them is.
    cause: Option<Error>,
}

impl Reports {
    const fn new(outbox: Outbox, json: bool, alone: bool) -> Self {
        Self { outbox, json, alone, events: 0, failed: 0, first: None, kept: 0, cause: None }
    }

    /// Sends one event: a report behind what waits, a command at once.
    async fn send_one(&mut self, event: &Envelope) -> anyhow::Result<()> {
        let mut filling = Filling::default();
        filling.push(1, event.bytes());
        let Some(chunk) = filling.take() else { return Ok(()) };
        if is_command(&event.event().payload) {
            self.send_command(&chunk, event).await
        } else {
            self.send(&chunk).await
        }
    }

    async fn send(&mut self, chunk: &Chunk) -> anyhow::Result<()> {
        // Behind what is kept, or it would overtake.
        if self.cause.is_some() {
            return self.keep(chunk, |_| true).await;
        }
        let (results, body) = match self.outbox.send(chunk).await {
            Ok(answered) => answered,
            Err(error) if error.may_pass() => {
                self.cause = Some(error);
                return self.keep(chunk, |_| true).await;
            }
            Err(error) => return Err(error.into()),
        };
        self.report(chunk, &results, &body)?;
        match results.iter().find(|result| result.status == EventStatus::Refused) {
            Some(refused) => {
                self.cause = Some(Error::NotNow(Box::new(refused.clone())));
                self.keep(chunk, |index| results[index].status == EventStatus::Refused).await
            }
            None => Ok(()),
        }
    }

    /// Sends a command: at once, past what waits, or never.
    async fn send_command(&mut self, chunk: &Chunk, event: &Envelope) -> anyhow::Result<()> {
        let kind = event.event().payload.kind().name();
        let (results, body) = self.outbox.send_directly(chunk).await.map_err(|error| {
            if !error.may_pass() {
                return error.into();
            }
            let is_unsent = is_unsent(&error);
            let error = anyhow::Error::from(error);
            if is_unsent {
                return error.context(format!("{kind} is not recorded, and a command is not kept for later"));
            }
            error.context(format!(
                "it is not known whether {kind} is recorded, and a command is not kept for later; emit it again with \
                 --id {}, it is recorded once",
                event.identity().id.as_str()
            ))
        })?;
        self.report(chunk, &results, &body)?;
        match results.iter().find(|result| result.status == EventStatus::Refused) {
            Some(refused) => bail!("{kind} is not recorded, and a command is not kept for later: {refused}"),
            None => Ok(()),
        }
    }

    /// Shows what became of events, except of those that the ledger does not take now.
    fn report(&mut self, chunk: &Chunk, results: &[EventResult], body: &[u8]) -> anyhow::Result<()> {
        let (mut text, mut notes) = (String::new(), Vec::new());
        for (number, result) in chunk.numbers().iter().zip(results) {
            if result.status == EventStatus::Refused {
                continue;
            }
            self.events += 1;
            if result.status.is_recorded() {
                text.push_str(&format!("{result}\n"));
                let position = result.position.unwrap_or_default();
                notes.extend(
                    result.marks.notes().into_iter().map(|note| format!("position {position}: {note}")),
                );
                if self.alone
                    && let Some(version) = result.marks.went_live()
                {
                    notes.push(format!("position {position}: {version} is live"));
                }
            } else {
                self.fail(*number, result.to_string(), &mut text);
            }
        }
        if self.json {
            show(body)?;
        } else if !text.is_empty() {
            show(text.as_bytes())?;
        }
        for note in notes {
            tell(&note);
        }
        Ok(())
    }

    fn fail(&mut self, number: u64, why: String, text: &mut String) {
        self.failed += 1;
        if !self.alone {
            text.push_str(&format!("not recorded: {why}\n"));
        }
        self.first.get_or_insert((number, why));
    }

    /// Keeps events of a chunk for later: those that are reports. Commands fail.
    async fn keep(&mut self, chunk: &Chunk, which: impl Fn(usize) -> bool) -> anyhow::Result<()> {
        let (mut events, mut commands) = (Vec::new(), Vec::new());
        let mut text = String::new();
        for (index, (number, event)) in chunk.numbers().iter().zip(parsed(chunk)).enumerate() {
            if !which(index) {
                continue;
            }
            self.events += 1;
            match event {
                Ok(event) if is_command(&event.event().payload) => {
                    let kind = event.event().payload.kind().name();
                    let cause = self.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
                    let why = format!("{kind} is a command, which is not kept for later{cause}");
                    self.fail(*number, why, &mut text);
                    commands.push(event);
                }
                Ok(event) => events.push(event),
                Err(why) => self.fail(*number, why, &mut text),
            }
        }
        if !events.is_empty()
            && let Err(why) = self.outbox.keep(&events).await
        {
            return Err(self.not_kept(&why, &events));
        }
        self.kept += events.len();
        if self.json {
            let events = events.iter().map(|event| (event, "spooled"));
            for (event, status) in events.chain(commands.iter().map(|event| (event, "not_sent"))) {
                let identity = event.identity();
                let (id, source) = (identity.id.as_str(), identity.source.as_str());
                show(json!({"id": id, "source": source, "status": status}).to_string().as_bytes())?;
            }
        } else if !text.is_empty() {
            show(text.as_bytes())?;
        }
        Ok(())
    }

    /// Neither sent nor kept. After a failure half-way, an event may be recorded: its id tells how to find out.
    fn not_kept(&mut self, why: &anyhow::Error, events: &[Envelope]) -> anyhow::Error {
        let Some(cause) = self.cause.take() else { return anyhow!("events cannot be kept: {why:#}") };
        let is_unsent = is_unsent(&cause);
        let error = anyhow::Error::from(cause);
        let error = match events {
            [event] if self.alone && !is_unsent => error.context(format!(
                "it is not known whether the event is recorded; emit it again with --id {}, it is recorded once",
                event.identity().id.as_str()
            )),
            _ => error,
        };
        error.context(format!("not sent, and not kept ({why:#})"))
    }

    /// Says that events are kept, and why.
    fn tell_kept(&mut self) {
        if self.kept > 0
            && let Some(cause) = self.cause.take()
        {
            let events = events_are(self.kept);
            let (place, cause) = (self.outbox.place(), anyhow::Error::from(cause));
            tell(&format!("spooled: {events} kept in {place}, to be sent first next time: {cause:#}"));
        }
    }

    fn conclude(mut self, strict: bool) -> anyhow::Result<()> {
        self.tell_kept();
        match self.first {
            None if self.events == 0 => bail!("there is no event on stdin"),
            None if strict && self.kept > 0 => {
                bail!("{} kept, and not recorded yet", events_are(self.kept))
            }
            None => Ok(()),
            Some((_, why)) if self.events == 1 => bail!("{why}"),
            Some((number, why)) => bail!(
                "{} of {} events are not recorded, the first of them event {number}: {why}",
                self.failed,
                self.events
            ),
        }
    }
}

#[cfg(test)]
mod tests;
