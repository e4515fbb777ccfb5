//! Distributes the rollback entries of a tenant to its followers: one task reads them for all.
//!
//! The task reads the projections after this process has projected a rollback entry, and now and then otherwise, since
//! other processes project too. It runs while the tenant has a follower.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Family, Kind as EventKind, Position, TenantName};
use ledger_projections::{EventFilter, EventRow, Projections};
use metrics::{counter, gauge};
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::entry::entry_body;
use crate::problem::{Kind, Problem};

/// Entries per read.
const PAGE_SIZE: u32 = 50;
/// Entries that a follower may be behind, in addition to what its connection buffers.
const QUEUE_SLOTS: usize = 256;
/// Interval of reads while this process projects the ledger and has projected no rollback entry.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of reads while another process projects the ledger, and after a failure.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Interval of reads until the projections that are read have what this process projected: a replica is behind.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(20);

/// A rollback entry as its followers receive it.
#[derive(Debug, Clone)]
pub(crate) struct FeedEntry {
    pub(crate) position: Position,
    pub(crate) environment: Option<EnvironmentName>,
    /// The entry as a server-sent event. All followers share the bytes.
    pub(crate) event: Bytes,
}

/// The feeds of all tenants.
#[derive(Debug)]
pub(crate) struct RollbackFeeds {
    max_followers: usize,
    followers: AtomicUsize,
    by_tenant: Mutex<BTreeMap<TenantName, Weak<Feed>>>,
}

/// The feed of one tenant.
#[derive(Debug)]
struct Feed {
    entries: broadcast::Sender<FeedEntry>,
    /// Position up to which the entries are sent; `None` until the projections are first read.
    position: watch::Sender<Option<Position>>,
    _task: AbortOnDropHandle<()>,
}

/// A follower of a feed, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    feeds: Arc<RollbackFeeds>,
    feed: Arc<Feed>,
}

impl RollbackFeeds {
    pub(crate) fn new(max_followers: usize) -> Arc<Self> {
        Arc::new(Self { max_followers, followers: AtomicUsize::new(0), by_tenant: Mutex::default() })
    }

    /// Adds a follower. The first one of a tenant starts its feed.
    pub(crate) fn subscribe(self: &Arc<Self>, projections: &Projections) -> Result<Subscription, Problem> {
        let followers = self.followers.fetch_add(1, Ordering::AcqRel);
        if followers >= self.max_followers {
            self.followers.fetch_sub(1, Ordering::AcqRel);
            counter!("ledger_http_refused_total", "bound" => "followers").increment(1);
            return Err(Problem::new(Kind::Busy, "too many clients follow rollbacks; retry later"));
        }
        gauge!("ledger_http_followers").set((followers + 1) as f64);
        let mut by_tenant = self.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        let running = by_tenant.get(projections.tenant()).and_then(Weak::upgrade);
        let feed = running.unwrap_or_else(|| {
            let feed = Arc::new(Feed::start(projections.clone()));
            by_tenant.insert(projections.tenant().clone(), Arc::downgrade(&feed));
            feed
        });
        Ok(Subscription { feeds: Arc::clone(self), feed })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let followers = self.feeds.followers.fetch_sub(1, Ordering::AcqRel);
        gauge!("ledger_http_followers").set(followers.saturating_sub(1) as f64);
    }
}

impl Subscription {
    /// Returns the entries from now on, and a position such that all entries after it are among them.
    pub(crate) async fn entries(&self) -> (broadcast::Receiver<FeedEntry>, Position) {
        let entries = self.feed.entries.subscribe();
        let mut position = self.feed.position.subscribe();
        // The sender is part of the feed, which this subscription keeps.
        let at = position.wait_for(Option::is_some).await.ok().and_then(|position| *position);
        (entries, at.unwrap_or(Position::START))
    }
}

impl Feed {
    fn start(projections: Projections) -> Self {
        let (entries, position) = (broadcast::Sender::new(QUEUE_SLOTS), watch::Sender::new(None));
        let task = run(projections, entries.clone(), position.clone());
        Self { entries, position, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }
}

/// Sends the entries to the followers, from the present position of the projections on.
async fn run(
    projections: Projections,
    entries: broadcast::Sender<FeedEntry>,
    position: watch::Sender<Option<Position>>,
) {
    let mut projected_rollbacks = projections.projected_rollbacks();
    let mut sent = loop {
        match projections.checkpoint().await {
            Ok(checkpoint) => break checkpoint.position,
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    };
    position.send_replace(Some(sent));
    let mut has_failed = false;
    loop {
        let expected = *projected_rollbacks.borrow_and_update();
        let page = page(&projections, None, sent).await;
        if let Err(error) = &page
            && !has_failed
        {
            warn!(%error, tenant = %projections.tenant(), "rollback streams cannot read the projections; retrying");
        }
        has_failed = page.is_err();
        let pause = match page {
            Ok(page) => {
                sent = sent.max(page.position);
                // Before the entries: a follower that joins between them must read the earlier ones from the tables.
                position.send_replace(Some(sent));
                for entry in page.entries {
                    // Without a follower, the entries are not needed.
                    let _ = entries.send(entry);
                }
                match page.is_last {
                    false => Duration::ZERO,
                    true if sent < expected => CATCH_UP_INTERVAL,
                    true if projections.is_following() => IDLE_INTERVAL,
                    true => POLL_INTERVAL,
                }
            }
            Err(_) => POLL_INTERVAL,
        };
        // A timeout is no error: the projections are read in both cases.
        let _ = timeout(pause, projected_rollbacks.changed()).await;
    }
}

/// Rollback entries after a position.
pub(crate) struct Page {
    /// Entries in order of position.
    pub(crate) entries: Vec<FeedEntry>,
    /// There are no entries after the page.
    pub(crate) is_last: bool,
    /// Position up to which the page has all entries.
    pub(crate) position: Position,
}

/// Reads the next rollback entries of an environment, or of all, after a position.
pub(crate) async fn page(
    projections: &Projections,
    environment: Option<&EnvironmentName>,
    after: Position,
) -> Result<Page, ledger_projections::Error> {
    let kinds = EventKind::ALL.iter().copied().filter(|kind| kind.family() == Family::Rollback);
    let filter =
        EventFilter { environment: environment.cloned(), kinds: kinds.collect(), ..EventFilter::default() };
    let (projected, rows) = projections.events(&filter, after, PAGE_SIZE).await?;
    let position = rows.last().map_or(after.max(projected), |last| last.position);
    let is_last = rows.is_empty();
    let effective = rows.into_iter().filter(|row| row.repeats.is_none());
    Ok(Page { entries: effective.map(FeedEntry::new).collect(), is_last, position })
}

impl FeedEntry {
    fn new(row: EventRow) -> Self {
        let position = row.position;
        let environment = Envelope::stored(row.bytes.clone()).ok();
        let environment = environment.and_then(|envelope| envelope.event().payload.environment().cloned());
        Self { position, environment, event: server_sent_event(row) }
    }
}

/// Returns an entry as a server-sent event. An entry that cannot be serialized becomes a comment, so that it does not
/// end the stream.
fn server_sent_event(row: EventRow) -> Bytes {
    let (position, kind) = (row.position, row.kind);
    let json = entry_body(row).ok().and_then(|entry| serde_json::to_string(&entry).ok());
    let text = match json {
        Some(data) => format!("id: {position}\nevent: {}\ndata: {data}\n\n", kind.name()),
        None => format!(": cannot serialize the entry at position {position}\n\n"),
    };
    text.into()
}
