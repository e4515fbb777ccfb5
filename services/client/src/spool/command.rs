//! `release-ledger spool`: lists and sends the events in the spool.

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use serde::Serialize;
use serde_json::json;

use super::queue::{self, Queue};
use super::{Outbox, SpoolFolder, count_events};
use crate::connection::Connection;
use crate::output::{print_json, print_notice, print_text};
use crate::report::{OutputArgs, Report};
use crate::retry_for::{FOR_MANY_EVENTS, RetryForArgs};
use crate::table::{Cell, Table, column};

/// List or send events that could not be sent
#[derive(Debug, clap::Subcommand)]
pub enum Spool {
    /// Show the number of waiting events of each ledger, and the time of the oldest
    List(List),
    /// Send the events that wait for a ledger
    ///
    /// Fails if an event remains. Events that wait for other ledgers stay in the spool. `--retry-for` limits the time
    /// without progress.
    Send(Box<Send>),
}

impl Spool {
    /// Runs the command.
    ///
    /// # Errors
    /// The spool cannot be read, or an event remains in it.
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
    #[command(flatten)]
    output: OutputArgs,
}

/// The command `spool send`.
#[derive(Debug, clap::Args)]
pub struct Send {
    #[command(flatten)]
    spool: SpoolFolder,
    #[command(flatten)]
    retry_for: RetryForArgs,
    /// Print {"sent":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The events that wait for one ledger.
#[derive(Debug, Serialize)]
struct QueueSummary {
    ledger: String,
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
    refused: usize,
    folder: String,
}

impl QueueSummary {
    fn of(queue: &Queue) -> Result<Self, queue::Error> {
        let waiting = queue.waiting()?;
        // The first event is the oldest, or nearly so. It may be damaged, or just being sent.
        let mut events = waiting.iter().filter_map(|entry| Envelope::parse(&queue.read(entry)?).ok());
        Ok(Self {
            ledger: queue.ledger().to_string(),
            since: events.next().map(|event| event.occurred_at()),
            waiting: waiting.len(),
            refused: queue.refused_count()?,
            folder: queue.folder().display().to_string(),
        })
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        let queues = Queue::all(&self.spool.folder()?)?;
        let summaries = queues.iter().map(QueueSummary::of).collect::<Result<Vec<_>, _>>()?;
        let summaries: Vec<_> =
            summaries.into_iter().filter(|summary| summary.waiting + summary.refused > 0).collect();
        let json = json!({"ledgers": summaries}).to_string();
        self.output.print(json.as_bytes(), || Ok(render(&summaries)))
    }
}

fn render(summaries: &[QueueSummary]) -> Report {
    let columns = [
        column("ledger", 0),
        column("waiting", 0),
        column("since", 1),
        column("refused", 0),
        column("folder", 2),
    ];
    let table = Table::new(columns).if_empty("the spool is empty");
    Report::default().with_table(table.with_rows(summaries.iter().map(row)))
}

fn row(summary: &QueueSummary) -> [Cell; 5] {
    let refused = (summary.refused > 0).then_some(summary.refused as u64);
    [
        summary.ledger.clone().into(),
        (summary.waiting as u64).into(),
        summary.since.into(),
        refused.into(),
        summary.folder.clone().into(),
    ]
}

impl Send {
    async fn run(self) -> anyhow::Result<()> {
        let folder = self.spool.folder()?;
        let client = self.connection.client()?;
        let queue = Queue::new(&folder, client.ledger());
        let refused_before = queue.refused_count()?;
        let elsewhere = Queue::all(&folder)?.into_iter().filter(|other| other.ledger() != queue.ledger());
        let others = elsewhere.map(|other| Ok((other.ledger().clone(), other.waiting()?.len())));
        let others = others.collect::<Result<Vec<_>, queue::Error>>()?;
        let outbox = Outbox::new(client, Ok(folder), self.retry_for.or(FOR_MANY_EVENTS));
        let waiting_before = queue.waiting()?.len();
        let mut remaining = waiting_before;
        // Continue as long as there is progress.
        let failure = loop {
            match outbox.flush(outbox.retry_window()).await {
                Ok(_) => break None,
                Err(error) if error.is_temporary() && queue.waiting()?.len() < remaining => {
                    remaining = queue.waiting()?.len();
                }
                Err(error) => break Some(error),
            }
        };
        for (ledger, waiting) in others.iter().filter(|(_, waiting)| *waiting > 0) {
            print_notice(&format!("{} for {ledger} left in the spool", count_events(*waiting)));
        }
        let refused = queue.refused_count()?.saturating_sub(refused_before);
        let remaining = queue.waiting()?.len();
        let sent_count = waiting_before.saturating_sub(remaining + refused);
        let sent = count_events(sent_count);
        match failure {
            Some(failure) => {
                Err(failure).with_context(|| format!("{sent} sent, {} remaining", count_events(remaining)))
            }
            None if refused > 0 => bail!("{sent} sent, {} rejected permanently", count_events(refused)),
            None if self.json => Ok(print_json(json!({"sent": sent_count}).to_string().as_bytes())?),
            None => Ok(print_text(&format!("{sent} sent"))?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledgers_are_a_table_that_fits_a_terminal() {
        let summary = |ledger: &str, refused| QueueSummary {
            ledger: ledger.to_owned(),
            waiting: 2,
            since: "2026-08-01T12:00:00Z".parse().ok(),
            refused,
            folder: "/var/lib/ci/.local/state/release-ledger/spool/0f1e2d3c".to_owned(),
        };

        let report = render(&[summary("https://ledger.example default", 1), summary("http://a maps", 0)]);

        report.check_fits();
        let text = report.to_string();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["ledger", "waiting", "since", "refused", "folder"]);
        assert_eq!(words[1][1..5], ["default", "2", "2026-08-01T12:00:00Z", "1"]);
        assert_eq!(words[2][1..4], ["maps", "2", "2026-08-01T12:00:00Z"]);
        assert_eq!(render(&[]).to_string(), "the spool is empty");
    }
}
