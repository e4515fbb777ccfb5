//! `release-ledger demo`: a history of our own making, sent or printed.

use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use bytes::Bytes;
use ledger_domain::Source;
use reqwest::Url;
use serde::Deserialize;

use super::answer::PositionBody;
use super::connection::{Client, Connection};
use super::delivery::{Delivered, Delivery};
use super::import::Sending;
use super::output::forgive_closed;
use super::patience::retry;
use super::progress::Progress;
use super::query::{read, with};
use ledger_demo::history;

/// How many entries are read at once.
const PAGE: u32 = 1_000;

/// Play a made-up history into the ledger
///
/// 18 months of a shop: three environments, twelve services, failures, blue-green switches and
/// rollbacks. It is the same every time, so played again it records nothing.
///
/// It is played into an empty ledger only: one that has entries other than the demo's own is left as it was, and the
/// command exits with 3.
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

/// The ledger has entries of others, among which the demo's would stand for good.
#[derive(Debug, thiserror::Error)]
#[error(
    "the ledger has entries that are not the demo's, the first at position {position}: play the demo into an empty \
     ledger, such as that of another tenant (--tenant)"
)]
pub struct NotEmpty {
    /// The first such entry.
    pub position: u64,
}

impl Demo {
    /// Runs the command.
    ///
    /// # Errors
    /// The ledger has entries of others ([`NotEmpty`]), or the service takes no events for too long.
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
/// The ledger has entries of others ([`NotEmpty`]), or the service takes no events for a minute.
pub async fn play(client: &Client, events: Option<usize>) -> anyhow::Result<Delivered> {
    send(client, events, Duration::from_secs(60), Progress::hidden()).await
}

async fn send(
    client: &Client,
    events: Option<usize>,
    retry_for: Duration,
    progress: Progress,
) -> anyhow::Result<Delivered> {
    if let Some(position) = first_of_others(client, events, retry_for).await? {
        return Err(NotEmpty { position }.into());
    }
    let delivery = Delivery { client, unit: "event", retry_for, progress };
    delivery.bring((1..).zip(history(events)).map(numbered)).await
}

/// The source of the ledger's own answers to failed checks, those of the demo among them.
const CONTROLLER: &str = "urn:release-ledger:rollback-controller";

#[derive(Debug, Deserialize)]
struct EventsBody {
    events: Vec<EntryBody>,
    next: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct EntryBody {
    position: u64,
    event: EventBody,
}

#[derive(Debug, Deserialize)]
struct EventBody {
    source: String,
}

impl EntryBody {
    fn is_of(&self, demo: &Source) -> bool {
        self.event.source == demo.as_str() || self.event.source == CONTROLLER
    }
}

/// The position of the first entry of the ledger that is not the demo's, if there is one.
async fn first_of_others(
    client: &Client,
    events: Option<usize>,
    retry_for: Duration,
) -> anyhow::Result<Option<u64>> {
    let Some(first) = history(events).next() else { return Ok(None) };
    let demo = &first.identity().source;
    let get = |url: Url| retry(retry_for, move || client.get(url.clone()));
    let head = read::<PositionBody>(&get(client.url(&["position"])).await?)?.head;
    let mut after = Some(0).filter(|_| head > 0);
    while let Some(position) = after {
        let url = with(with(client.url(&["events"]), "after", Some(position)), "limit", Some(PAGE));
        let page: EventsBody = read(&get(with(url, "wait_for", Some(head))).await?)?;
        if let Some(entry) = page.events.iter().find(|entry| !entry.is_of(demo)) {
            return Ok(Some(entry.position));
        }
        after = page.next;
    }
    Ok(None)
}

fn numbered((number, envelope): (u64, ledger_codec::cloudevents::Envelope)) -> anyhow::Result<(u64, Bytes)> {
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
