//! `release-ledger spool`: what waits, and sending it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_codec::cloudevents::Envelope;
use serde::Serialize;

use super::queue::{self, Queue};
use super::{Outbox, SpoolFolder, events_are};
use crate::connection::Connection;
use crate::output::{show_either, show_text, tell};
use crate::table;

/// See or send what could not be sent
#[derive(Debug, clap::Subcommand)]
pub enum Spool {
    /// Show what waits, for which ledger, and since when
    List(List),
    /// Send what waits for a ledger
    ///
    /// Fails if something is left. What waits for other ledgers is left alone.
    Send(Send),
}

impl Spool {
    /// Runs the command.
    ///
    /// # Errors
    /// The spool cannot be read, or something is left in it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Send(send) => send.run().await,
        }
    }
}

/// The command `spool list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    spool: SpoolFolder,
    /// Print {"ledgers":[{"ledger":…,"waiting":N,"since":…,"refused":N,"folder":…}]}
    #[arg(long)]
    json: bool,
}

/// The command `spool send`.
#[derive(Debug, clap::Args)]
pub struct Send {
    #[command(flatten)]
    spool: SpoolFolder,
    /// How long to go on while the ledger takes nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    #[command(flatten)]
    connection: Connection,
}

/// What waits for one ledger.
#[derive(Debug, Serialize)]
struct Line {
    ledger: String,
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
    refused: usize,
    folder: String,
}

impl Line {
    fn of(queue: &Queue) -> Result<Self, queue::Error> {
        let waiting = queue.waiting()?;
        // The first happened first, or nearly. It may be damaged, or sent in this moment.
        let mut events = waiting.iter().filter_map(|entry| Envelope::parse(&queue.read(entry).ok()?).ok());
        Ok(Self {
            ledger: queue.ledger().to_string(),
            since: events.next().map(|event| event.occurred_at()),
            waiting: waiting.len(),
            refused: queue.refused()?,
            folder: queue.folder().display().to_string(),
        })
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        let queues = Queue::all(&self.spool.folder()?)?;
        let lines = queues.iter().map(Line::of).collect::<Result<Vec<_>, _>>()?;
        let lines: Vec<_> = lines.into_iter().filter(|line| line.waiting + line.refused > 0).collect();
        let text = if self.json {
            serde_json::to_string(&serde_json::json!({"ledgers": lines}))?
        } else if lines.is_empty() {
            "nothing waits".to_owned()
        } else {
            render(&lines)
        };
        Ok(show_either(self.json, &text)?)
    }
}

fn render(lines: &[Line]) -> String {
    let number = |number: usize| if number == 0 { String::new() } else { number.to_string() };
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            let since = line.since.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
            [
                line.ledger.clone(),
                line.waiting.to_string(),
                since.unwrap_or_default(),
                number(line.refused),
                line.folder.clone(),
            ]
        })
        .collect();
    table::render(["ledger", "waiting", "since", "refused", "folder"], &rows)
}

impl Send {
    async fn run(self) -> anyhow::Result<()> {
        let folder = self.spool.folder()?;
        let client = self.connection.client();
        let queue = Queue::of(&folder, client.ledger());
        let refused = queue.refused()?;
        let elsewhere = Queue::all(&folder)?.into_iter().filter(|other| other.ledger() != queue.ledger());
        let others = elsewhere.map(|other| Ok((other.ledger().clone(), other.waiting()?.len())));
        let others = others.collect::<Result<Vec<_>, queue::Error>>()?;
        let outbox = Outbox::new(client, Ok(folder), Duration::from_secs(self.patience));
        let before = queue.waiting()?.len();
        let mut left = before;
        // As long as it goes on, it is not given up.
        let failure = loop {
            match outbox.flush(outbox.limit()).await {
                Ok(_) => break None,
                Err(error) if error.is_temporary() && queue.waiting()?.len() < left => {
                    left = queue.waiting()?.len();
                }
                Err(error) => break Some(error),
            }
        };
        for (ledger, waiting) in others.iter().filter(|(_, waiting)| *waiting > 0) {
            tell(&format!("{} for {ledger}, and left alone", events_are(*waiting)));
        }
        let aside = queue.refused()?.saturating_sub(refused);
        let left = queue.waiting()?.len();
        let sent = before.saturating_sub(left + aside);
        let sent = events_are(sent);
        match failure {
            Some(failure) => Err(failure).with_context(|| format!("{sent} sent, {} left", events_are(left))),
            None if aside > 0 => bail!("{sent} sent, {} refused for good", events_are(aside)),
            None => Ok(show_text(&format!("{sent} sent"))?),
        }
    }
}
