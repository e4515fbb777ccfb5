//! Deliveries of one tenant: holds the lease, follows the new entries, and wakes the subscriptions that they concern.

use std::sync::Arc;
use std::time::Duration;

use ledger_domain::Family;
use ledger_projections::{Error, Lease};
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
        let context = Context { deliveries: Arc::clone(deliveries), subscriber };
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
        let projections = self.context.projections();
        // Diverged projections describe a history that no longer exists, or another ledger's.
        if projections.divergence().is_some() {
            return Ok(None);
        }
        projections.acquire_lease(LEASE_NAME, self.process, LEASE).await
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
        if let Err(error) = self.context.projections().release_lease(lease).await {
            warn!(%error, "cannot release the lease on webhooks; it expires");
        }
        end
    }

    /// Renews the lease until it is lost.
    async fn renew(&self, leases: &watch::Sender<Lease>) -> Lost {
        loop {
            sleep(RENEW_INTERVAL).await;
            let lease = leases.borrow().clone();
            match self.context.projections().renew_lease(&lease).await {
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
        let histories = projections.histories();
        let mut seen = None;
        let mut is_current = false;
        loop {
            if projections.divergence().is_some() || projections.histories() != histories {
                return Lost;
            }
            let local = projections.local_position();
            let step = async {
                // The position is read before the subscriptions: an event between both reads them once more.
                let after = match seen {
                    Some(position) => position,
                    None => projections.checkpoint().await?.position,
                };
                if !is_current {
                    let rows = projections.snapshot().await?.subscriptions().await?;
                    workers.follow(rows).await;
                }
                let entries = projections.entry_summaries(after, PAGE_SIZE).await?;
                Ok::<_, Error>((after, entries))
            };
            match step.await {
                Ok((after, entries)) => {
                    is_current = entries.iter().all(|entry| entry.kind.family() != Family::Subscription);
                    seen = Some(entries.last().map_or(after, |last| last.position));
                    workers.wake(&entries);
                    if entries.is_empty() {
                        projections.wait_for_local_change(local, POLL_INTERVAL).await;
                    }
                }
                Err(error) => {
                    if !matches!(error, Error::NotReady(_)) {
                        warn!(%error, "cannot read the entries for webhooks; retrying");
                    }
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}
