//! `release-ledger demo`: sends or prints the generated demo history.

use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use bytes::Bytes;
use ledger_api_types::{EventsBody, PositionBody};
use ledger_domain::Source;
use reqwest::Url;
use serde::Deserialize;

use super::connection::{Client, Connection};
use super::delivery::{Delivery, DeliverySummary};
use super::import::DeliveryArgs;
use super::output::ignore_broken_pipe;
use super::progress::Progress;
use super::query::{read, with_param};
use super::retry::retry;
use ledger_demo::history;

/// Number of entries per page.
const PAGE_SIZE: u32 = 1_000;

/// Play a generated history into the ledger
///
/// 18 months of a shop: three environments, twelve services, failures, blue-green switches and rollbacks. The
/// history is always the same, so playing it again records nothing.
///
/// The ledger must be empty: if it has entries other than the demo's own, the command changes nothing and
/// exits with 3.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Exactly this many events, instead of 18 months; a large number of events is packed more densely
    #[arg(long, value_name = "NUMBER")]
    events: Option<usize>,
    /// Write the events to stdout, one CloudEvent per line, instead of sending them
    #[arg(long, conflicts_with = "json")]
    print: bool,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// The ledger has other entries, and the demo would stay among them permanently.
#[derive(Debug, thiserror::Error)]
#[error(
    "the ledger has entries that are not the demo's, the first at position {position}: play the demo into an \
     empty ledger, such as one of another tenant (--tenant)"
)]
pub struct NotEmpty {
    /// The position of the first such entry.
    pub position: u64,
}

impl Demo {
    /// Runs the command.
    ///
    /// # Errors
    /// The ledger has other entries ([`NotEmpty`]), or the service accepts no events for too long.
    pub async fn run(self) -> anyhow::Result<()> {
        if self.print {
            return Ok(ignore_broken_pipe(print(self.events))?);
        }
        let client = self.connection.client()?;
        let summary = send(&client, self.events, self.delivery.retry_for(), Progress::of_events()).await?;
        self.delivery.print(&summary, "events")
    }
}

/// Plays the demo history into a ledger, without output. A demo that has begun there continues, also if others have
/// recorded events since: its rollbacks name positions, and those that are planned for others are left out.
///
/// # Errors
/// The ledger has other entries, and the demo has not begun there ([`NotEmpty`]), or the service accepts no events for
/// a minute.
pub async fn play(client: &Client, events: Option<usize>) -> anyhow::Result<DeliverySummary> {
    let retry_for = Duration::from_secs(60);
    if !has_begun(client, events, retry_for).await?
        && let Some(position) = first_foreign_position(client, events, retry_for).await?
    {
        return Err(NotEmpty { position }.into());
    }
    let progress = Progress::hidden();
    let delivery = Delivery { client, unit: "event", retry_for, progress, skips_rejected: true };
    delivery.deliver((1..).zip(history(events)).map(numbered)).await
}

/// Returns true if the ledger has the first event of the demo.
async fn has_begun(client: &Client, events: Option<usize>, retry_for: Duration) -> anyhow::Result<bool> {
    let Some(first) = history(events).next() else { return Ok(false) };
    let get = |url: Url| retry(retry_for, move || client.get(url.clone()));
    let head = read::<PositionBody>(&get(client.url(&["position"])).await?)?.head;
    if head == 0 {
        return Ok(false);
    }
    let url = with_param(client.url(&["events"]), "source", Some(first.identity().source.as_str()));
    let url = with_param(url, "id", Some(first.identity().id.as_str()));
    let page: EventsBody<EventBody> = read(&get(with_param(url, "wait_for", Some(head))).await?)?;
    Ok(!page.events.is_empty())
}

async fn send(
    client: &Client,
    events: Option<usize>,
    retry_for: Duration,
    progress: Progress,
) -> anyhow::Result<DeliverySummary> {
    if let Some(position) = first_foreign_position(client, events, retry_for).await? {
        return Err(NotEmpty { position }.into());
    }
    let delivery = Delivery { client, unit: "event", retry_for, progress, skips_rejected: false };
    delivery.deliver((1..).zip(history(events)).map(numbered)).await
}

/// The source of the ledger's own rollback controller, which also reacts to failed checks of the demo.
const CONTROLLER_SOURCE: &str = "urn:release-ledger:rollback-controller";

/// An event of the ledger, limited to its source.
#[derive(Debug, Deserialize)]
struct EventBody {
    source: String,
}

impl EventBody {
    fn is_from(&self, demo: &Source) -> bool {
        self.source == demo.as_str() || self.source == CONTROLLER_SOURCE
    }
}

/// Returns the position of the first entry that is not the demo's, if there is one.
async fn first_foreign_position(
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
        let url = with_param(
            with_param(client.url(&["events"]), "after", Some(position)),
            "limit",
            Some(PAGE_SIZE),
        );
        let page: EventsBody<EventBody> = read(&get(with_param(url, "wait_for", Some(head))).await?)?;
        if let Some(entry) = page.events.iter().find(|entry| !entry.event.is_from(demo)) {
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
