//! `release-ledger demo`: a history of our own making, sent or printed.

use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use bytes::Bytes;

use super::connection::{Client, Connection};
use super::delivery::{Delivered, Delivery};
use super::import::Sending;
use super::output::forgive_closed;
use super::progress::Progress;
use crate::demo::history;

/// Play a made-up history into the ledger
///
/// 18 months of a shop: three environments, twelve services, failures, blue-green switches and
/// rollbacks. It is the same every time, so played again it records nothing.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Exactly this many events, instead of 18 months; many are packed more densely
    #[arg(long, value_name = "NUMBER")]
    events: Option<usize>,
    /// Write the events to stdout, one CloudEvent a line, instead of sending them
    #[arg(long, conflicts_with = "json")]
    print: bool,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    connection: Connection,
}

impl Demo {
    /// Runs the command.
    ///
    /// # Errors
    /// The service takes no events for too long, or has others with the same identities.
    pub async fn run(self) -> anyhow::Result<()> {
        if self.print {
            return Ok(forgive_closed(print(self.events))?);
        }
        let client = self.connection.client();
        let delivered = send(&client, self.events, self.sending.retry_for(), Progress::of_events()).await?;
        self.sending.show(&delivered, "events")
    }
}

/// Plays the demo history into a ledger, without a word.
///
/// # Errors
/// The service takes no events for a minute, or has others with the same identities.
pub async fn play(client: &Client, events: Option<usize>) -> anyhow::Result<Delivered> {
    send(client, events, Duration::from_secs(60), Progress::hidden()).await
}

async fn send(
    client: &Client,
    events: Option<usize>,
    retry_for: Duration,
    progress: Progress,
) -> anyhow::Result<Delivered> {
    let delivery = Delivery { client, unit: "event", retry_for, progress };
    delivery.bring((1..).zip(history(events)).map(numbered)).await
}

fn numbered(
    (number, envelope): (u64, ledger_dialects::cloudevents::Envelope),
) -> anyhow::Result<(u64, Bytes)> {
    Ok((number, envelope.bytes().clone()))
}

fn print(events: Option<usize>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for envelope in history(events) {
        out.write_all(envelope.bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
