//! `release-ledger emit`: events from flags, or whole ones from stdin.

mod flags;

use std::io;

use anyhow::{Context as _, bail, ensure};
use ledger_dialects::cloudevents::Envelope;
use serde_json::value::RawValue;

use flags::Flags;

use super::answer::EventResult;
use super::chunk::{Chunk, Filling};
use super::connection::{Client, Connection, Error};
use super::output::show;

/// Report an event to the ledger
///
/// Either one event from flags, or whole CloudEvents as JSON from stdin. What is recorded already, by its
/// source and id, is not recorded again. Fails unless everything is recorded.
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
    /// An event is not one, or is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        if self.kind == "-" {
            ensure!(
                self.flags.is_empty(),
                "events from stdin are whole: of the flags, only --json goes with them"
            );
            return from_stdin(&client, self.json).await;
        }
        let event = self.flags.event(&self.kind)?;
        // Judged here too: so a mistake is told where no service is at hand.
        let envelope =
            Envelope::parse(&event).map_err(|invalid| invalid.reason).context("this is not an event")?;
        let mut filling = Filling::default();
        filling.push(1, envelope.bytes());
        let mut reports = Reports { json: self.json, alone: true, ..Reports::default() };
        let id = envelope.identity().id.as_str();
        while let Some(chunk) = filling.take() {
            reports.send(&client, &chunk).await.map_err(|error| unless_known(error, id))?;
        }
        reports.conclude()
    }
}

/// After a failure half-way, the event may be recorded: its id tells how to find out.
fn unless_known(error: anyhow::Error, id: &str) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::Unreachable { .. }) | None => error,
        Some(failure) if failure.is_temporary() => error.context(format!(
            "it is not known whether the event is recorded; emit it again with --id {id}, it is recorded once"
        )),
        Some(_) => error,
    }
}

async fn from_stdin(client: &Client, json: bool) -> anyhow::Result<()> {
    let mut reports = Reports { json, ..Reports::default() };
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
            reports.send(client, &chunk).await?;
        }
    }
    if let Some(chunk) = filling.take() {
        reports.send(client, &chunk).await?;
    }
    match fault {
        Some(fault) => Err(fault),
        None => reports.conclude(),
    }
}

/// What became of the events so far.
#[derive(Default)]
struct Reports {
    json: bool,
    /// There is one event, whose failure is told by the error and by nothing else.
    alone: bool,
    events: u64,
    failed: u64,
    /// The first that is not recorded.
    first: Option<(u64, EventResult)>,
}

impl Reports {
    async fn send(&mut self, client: &Client, chunk: &Chunk) -> anyhow::Result<()> {
        let (results, body) = client.record_and_keep(chunk).await?;
        let mut text = String::new();
        for (number, result) in chunk.numbers().iter().zip(&results) {
            self.events += 1;
            if result.status.is_recorded() {
                text.push_str(&format!("{result}\n"));
                continue;
            }
            self.failed += 1;
            self.first.get_or_insert_with(|| (*number, result.clone()));
            if !self.alone {
                text.push_str(&format!("not recorded: {result}\n"));
            }
        }
        if self.json {
            show(&body)?;
        } else if !text.is_empty() {
            show(text.as_bytes())?;
        }
        Ok(())
    }

    fn conclude(self) -> anyhow::Result<()> {
        match self.first {
            None if self.events == 0 => bail!("there is no event on stdin"),
            None => Ok(()),
            Some((_, result)) if self.events == 1 => bail!("{result}"),
            Some((number, result)) => bail!(
                "{} of {} events are not recorded, the first of them event {number}: {result}",
                self.failed,
                self.events
            ),
        }
    }
}
