//! Deliveries of one tenant: holds the lease, follows the new entries, and wakes the subscriptions that they concern.

use std::sync::Arc;
use std::time::Duration;

use ledger_domain::{Family, Position};
use ledger_projections::{EntrySummary, Error, HistoryMark, Lease};
use ledger_streams::follower::LEASE;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::context::{Context, Deliveries, Subscriber};
use crate::workers::Workers;

/// Name of the lease.
const LEASE_NAME: &str = "webhooks";
/// Interval at which the lease is renewed. Much less than what it has beyond the longest delivery.
const RENEW_INTERVAL: Duration = Duration::from_secs(4);
/// Interval of attempts to acquire the lease while another process holds it.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which new entries are looked for while another process projects the ledger.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Delay before a retry after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Number of entries whose summaries are read at a time.
const PAGE_SIZE: u32 = 1_000;

/// Part of the history that the watcher has read.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Position up to which all entries are read.
    position: Position,
    /// Entry of the history; `None` while there is none.
    mark: Option<HistoryMark>,
    /// Epoch, as [`ledger_projections::Projections::history_epoch`] counts, in which the history had the mark.
    history_epoch: u64,
}

/// Result of a read of new entries.
enum Page {
    /// The entries after those that were read, and the part that is read now.
    Entries(Vec<EntrySummary>, Seen),
    /// The projections were switched meanwhile.
    Switched,
    /// The history is another one.
    OtherHistory,
}

/// Another process holds the lease now, or the history is another one.
#[derive(Debug, thiserror::Error)]
#[error("the lease on webhooks is lost, or the history is another one")]
struct Lost;

/// Delivers a tenant's entries to its subscriptions.
pub struct Deliverer {
    context: Arc<Context>,
    process: Uuid,
}

impl Deliverer {
    /// Creates the deliverer of a tenant. `process` identifies this process among those that take turns.
    #[must_use]
    pub fn new(deliveries: &Arc<Deliveries>, subscriber: Subscriber, process: Uuid) -> Self {
        let context = Context::new(Arc::clone(deliveries), subscriber);
        Self { context: Arc::new(context), process }
    }

    /// Delivers until the token is cancelled. Requests in progress then have two seconds to end.
    pub async fn run(self, cancelled: CancellationToken) {
        let tenant = self.context.subscriber.tenant.to_string();
        while !cancelled.is_cancelled() {
            let pause = match self.acquire().await {
                Ok(Some(lease)) => {
                    info!(tenant, epoch = lease.epoch(), "delivering to webhooks");
                    match self.deliver_while(lease, &cancelled).await {
                        Ok(()) => break,
                        Err(lost) => warn!(tenant, error = %lost, "deliveries to webhooks are interrupted"),
                    }
                    RETRY_DELAY
                }
                // Another component reports projections that are being rebuilt.
                Ok(None) | Err(Error::NotReady(_)) => ACQUIRE_INTERVAL,
                Err(error) => {
                    warn!(tenant, error = %error, "cannot acquire the lease on webhooks; retrying");
                    ACQUIRE_INTERVAL
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn acquire(&self) -> Result<Option<Lease>, Error> {
        let records = &self.context.records;
        // Diverged projections describe a history that no longer exists, or another ledger's.
        if records.divergence().is_some() {
            return Ok(None);
        }
        records.acquire_lease(LEASE_NAME, self.process, LEASE).await
    }

    /// Delivers while the lease is held. Returns `Ok` if cancelled.
    async fn deliver_while(&self, lease: Lease, cancelled: &CancellationToken) -> Result<(), Lost> {
        let (leases, follow) = watch::channel(lease);
        let mut workers = Workers::new(Arc::clone(&self.context), follow);
        let end = tokio::select! {
            () = cancelled.cancelled() => Ok(()),
            lost = self.renew(&leases) => Err(lost),
            lost = self.dispatch(&mut workers) => Err(lost),
        };
        workers.stop().await;
        let lease = leases.borrow().clone();
        if let Err(error) = self.context.records.release_lease(lease).await {
            warn!(%error, "cannot release the lease on webhooks; it expires");
        }
        end
    }

    /// Renews the lease until it is lost.
    async fn renew(&self, leases: &watch::Sender<Lease>) -> Lost {
        loop {
            sleep(RENEW_INTERVAL).await;
            let lease = leases.borrow().clone();
            match self.context.records.renew_lease(&lease).await {
                Ok(Some(renewed)) => drop(leases.send_replace(renewed)),
                Ok(None) => return Lost,
                Err(_) if lease.remaining().is_zero() => return Lost,
                Err(error) => warn!(%error, "cannot renew the lease on webhooks; retrying"),
            }
        }
    }

    /// Wakes the subscriptions that new entries concern, and starts and stops them as the ledger says.
    async fn dispatch(&self, workers: &mut Workers) -> Lost {
        let projections = self.context.projections();
        let mut seen = None;
        let mut is_current = false;
        loop {
            if projections.divergence().is_some() {
                return Lost;
            }
            let local = projections.local_position();
            match self.read(seen, (!is_current).then_some(&mut *workers)).await {
                Ok(Page::Entries(entries, now)) => {
                    is_current = entries.iter().all(|entry| entry.kind.family() != Family::Subscription);
                    seen = Some(now);
                    workers.wake(&entries);
                    if entries.is_empty() {
                        projections.wait_for_local_change(local, POLL_INTERVAL).await;
                    }
                }
                Ok(Page::Switched) => {}
                Ok(Page::OtherHistory) => return Lost,
                Err(error) => {
                    if !matches!(error, Error::NotReady(_)) {
                        warn!(%error, "cannot read the entries for webhooks; retrying");
                    }
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Reads the entries after those that were read. Before, lets `workers` follow the present subscriptions, if given.
    async fn read(&self, seen: Option<Seen>, workers: Option<&mut Workers>) -> Result<Page, Error> {
        let projections = self.context.projections();
        let history_epoch = projections.history_epoch();
        // The position is read before the subscriptions: an event between both reads them once more.
        let mut seen = match seen {
            Some(seen) => seen,
            None => {
                let position = projections.checkpoint().await?.position;
                Seen { position, mark: projections.history_mark().await?, history_epoch }
            }
        };
        if seen.history_epoch != history_epoch {
            // Another generation of the same history has the marked entry. Positions are the same in it.
            if let Some(mark) = seen.mark
                && !projections.has_mark(mark).await?
            {
                return Ok(Page::OtherHistory);
            }
            seen.history_epoch = history_epoch;
        }
        if let Some(workers) = workers {
            let rows = projections.snapshot().await?.subscriptions().await?;
            workers.follow(rows).await;
        }
        let entries = projections.entry_summaries(seen.position, PAGE_SIZE).await?;
        if projections.history_epoch() != history_epoch {
            return Ok(Page::Switched);
        }
        if let Some(last) = entries.last() {
            seen = Seen { position: last.position, mark: Some(last.mark()), ..seen };
        }
        Ok(Page::Entries(entries, seen))
    }
}
