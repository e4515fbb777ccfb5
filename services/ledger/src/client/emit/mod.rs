//! `release-ledger emit`: events from flags, or whole ones from stdin.

mod flags;

use std::io;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use ledger_dialects::cloudevents::Envelope;
use serde_json::json;
use serde_json::value::RawValue;

use flags::Flags;

use super::answer::EventStatus;
use super::chunk::{Chunk, Filling};
use super::connection::{self, Connection};
use super::output::{show, tell};
use super::spool::{Error, Outbox, SpoolFolder, events_are, parsed};

/// Report an event to the ledger
///
/// Either one event from flags, or whole CloudEvents as JSON from stdin. What is recorded already, by its
/// source and id, is not recorded again.
///
/// What the ledger does not take for now, because it is down or cannot be reached, is kept in the spool on
/// disk and sent first next time: that is said on stderr, and is no failure unless --strict is given. What the
/// ledger refuses is always one.
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
            let mut filling = Filling::default();
            filling.push(1, envelope.bytes());
            while let Some(chunk) = filling.take() {
                reports.send(&chunk).await?;
            }
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
        let mut text = String::new();
        for (number, result) in chunk.numbers().iter().zip(&results) {
            if result.status == EventStatus::Refused {
                continue;
            }
            self.events += 1;
            if result.status.is_recorded() {
                text.push_str(&format!("{result}\n"));
            } else {
                self.fail(*number, result.to_string(), &mut text);
            }
        }
        if self.json {
            show(&body)?;
        } else if !text.is_empty() {
            show(text.as_bytes())?;
        }
        match results.iter().find(|result| result.status == EventStatus::Refused) {
            Some(refused) => {
                self.cause = Some(Error::NotNow(Box::new(refused.clone())));
                self.keep(chunk, |index| results[index].status == EventStatus::Refused).await
            }
            None => Ok(()),
        }
    }

    fn fail(&mut self, number: u64, why: String, text: &mut String) {
        self.failed += 1;
        if !self.alone {
            text.push_str(&format!("not recorded: {why}\n"));
        }
        self.first.get_or_insert((number, why));
    }

    /// Keeps events of a chunk for later: those that are events.
    async fn keep(&mut self, chunk: &Chunk, which: impl Fn(usize) -> bool) -> anyhow::Result<()> {
        let mut events = Vec::new();
        let mut text = String::new();
        for (index, (number, event)) in chunk.numbers().iter().zip(parsed(chunk)).enumerate() {
            if !which(index) {
                continue;
            }
            self.events += 1;
            match event {
                Ok(event) => events.push(event),
                Err(why) => self.fail(*number, why, &mut text),
            }
        }
        if let Err(why) = self.outbox.keep(&events).await {
            return Err(self.not_kept(&why, &events));
        }
        self.kept += events.len();
        if self.json {
            for event in &events {
                let identity = event.identity();
                let (id, source) = (identity.id.as_str(), identity.source.as_str());
                show(json!({"id": id, "source": source, "status": "spooled"}).to_string().as_bytes())?;
            }
        } else if !text.is_empty() {
            show(text.as_bytes())?;
        }
        Ok(())
    }

    /// Neither sent nor kept. After a failure half-way, an event may be recorded: its id tells how to find out.
    fn not_kept(&mut self, why: &anyhow::Error, events: &[Envelope]) -> anyhow::Error {
        let Some(cause) = self.cause.take() else { return anyhow!("events cannot be kept: {why:#}") };
        let is_unsent = matches!(
            &cause,
            Error::Ledger(connection::Error::Unreachable { .. } | connection::Error::Setup(_)) | Error::Busy
        );
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
