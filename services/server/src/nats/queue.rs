//! The work queue of a tenant: messages whose publishers do not wait, each handled once it is durable in the queue.
//!
//! One process at a time reads the queue: the holder of a lease. It handles the messages of a publisher in the order of the
//! queue. A message that cannot be recorded yet stays in memory, before the later ones of its publisher, and in the queue.
//! After a crash, or if a message or the connection is lost, the queue is read again from the first message that is left.
//! So whichever process records a message has recorded, or found recorded, the earlier ones of its publisher: the order
//! holds even while a paused process still believes that it has the lease.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ledger_domain::TenantName;
use ledger_journal::jetstream::{Connection, QueuedMessage};
use ledger_projections::{Error, Lease, Projections};
use ledger_streams::inbound::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::publisher_queues::{Batch, PublisherQueues};
use super::responses::{inbound, route};

/// Name of the lease.
const LEASE_NAME: &str = "nats/inbox";
/// Duration of the lease.
const LEASE: Duration = Duration::from_secs(30);
/// Interval of renewals.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(8);
/// Time limit of a renewal.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(6);
/// Interval of attempts to acquire the lease, and delay after a failure.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum size of the messages in memory. While it is reached, no further ones are read.
const BYTE_BUDGET: usize = 32 << 20;
/// Maximum number of publishers whose messages are recorded at a time.
const MAX_CALLS: usize = 8;

/// Reader of a tenant's work queue.
#[derive(Clone)]
pub(super) struct QueueReader {
    pub(super) tenant: TenantName,
    /// Projections on the primary, which have the lease.
    pub(super) projections: Projections,
    pub(super) connection: Connection,
    pub(super) receiver: Arc<dyn Receiver>,
    /// Maximum size of the queue, in bytes, when it is created.
    pub(super) max_bytes: u64,
    /// Identity of this process.
    pub(super) process: Uuid,
}

/// A batch that was handled.
struct Handled {
    publisher: String,
    bytes: usize,
    /// Messages that must be handled again.
    left: Vec<QueuedMessage>,
}

impl QueueReader {
    /// Reads the queue until the token is cancelled. Messages in progress are handled first.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.projections.acquire_lease(LEASE_NAME, self.process, LEASE).await {
                Ok(Some(lease)) => {
                    let (lease, end) = self.read(lease, &stop).await;
                    if let Err(reason) = end {
                        warn!(tenant = %self.tenant, reason, "the work queue is interrupted; retrying");
                    }
                    if let Err(error) = self.projections.release_lease(lease).await {
                        warn!(tenant = %self.tenant, %error, "cannot release the lease; it expires");
                    }
                }
                // Another process reads the queue, or another component reports that there are no projections yet.
                Ok(None) | Err(Error::NotReady(_)) => {}
                Err(error) => {
                    warn!(tenant = %self.tenant, %error, "cannot acquire the lease on the work queue; retrying");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(ACQUIRE_INTERVAL) => {}
            }
        }
    }

    /// Reads the queue while the lease is held. Returns the lease, and the reason for the end if it is not the token.
    async fn read(&self, mut lease: Lease, stop: &CancellationToken) -> (Lease, Result<(), String>) {
        let mut queue = match self.connection.work_queue(&self.tenant, self.max_bytes, lease.epoch()).await {
            Ok(queue) => queue,
            Err(error) => return (lease, Err(error.to_string())),
        };
        let mut queues = PublisherQueues::new();
        let mut calls = FuturesUnordered::new();
        let mut renewing = FuturesUnordered::new();
        let mut renewals = interval(RENEWAL_INTERVAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            queues.release(Instant::now());
            while calls.len() < MAX_CALLS
                && let Some(batch) = queues.next_batch()
            {
                calls.push(self.handle(batch));
            }
            let release = queues.next_release();
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Some(Handled { publisher, bytes, left }) = calls.next() => {
                    queues.finish(&publisher, bytes, left, Instant::now());
                }
                message = queue.next(), if queues.bytes() < BYTE_BUDGET => match message {
                    Ok(message) => queues.push(message),
                    Err(error) => break Err(error.to_string()),
                },
                _ = renewals.tick(), if renewing.is_empty() => renewing.push(self.renew(lease.clone())),
                Some(renewed) = renewing.next() => match renewed {
                    Ok(Some(renewed)) => lease = renewed,
                    Ok(None) => break Err("another process has the lease".to_owned()),
                    Err(reason) if lease.remaining().is_zero() => break Err(reason),
                    Err(reason) => warn!(tenant = %self.tenant, reason, "cannot renew the lease; retrying"),
                },
                () = sleep_until(release.unwrap_or_else(Instant::now)), if release.is_some() => {}
            }
        };
        // What is left in memory is left in the queue, too.
        while calls.next().await.is_some() {}
        (lease, end)
    }

    /// Renews the lease. Returns `None` if another process has it.
    async fn renew(&self, lease: Lease) -> Result<Option<Lease>, String> {
        match timeout(RENEWAL_TIMEOUT, self.projections.renew_lease(&lease)).await {
            Ok(renewed) => renewed.map_err(|error| error.to_string()),
            Err(_) => Err("the database does not answer in time".to_owned()),
        }
    }

    /// Records messages of a publisher, and removes from the queue those that need not be delivered again.
    async fn handle(&self, batch: Batch<QueuedMessage>) -> Handled {
        let Batch { publisher, messages, bytes } = batch;
        let contents = messages.iter().map(|message| inbound(message.content())).collect();
        let receipts = self.receiver.receive(&route(&self.tenant, &publisher), contents).await;
        let mut left = Vec::new();
        for (message, receipt) in messages.into_iter().zip(receipts) {
            if !left.is_empty() || !receipt.is_final() {
                left.push(message);
            } else if let Err(error) = message.acknowledge().await {
                // It is delivered again, and then found recorded.
                debug!(%error, "cannot acknowledge a message of the work queue");
            }
        }
        if !left.is_empty() {
            debug!(tenant = %self.tenant, publisher, messages = left.len(), "messages are handled again later");
        }
        Handled { publisher, bytes, left }
    }
}
