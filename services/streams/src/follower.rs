//! A follower that delivers the ledger's entries to another system, in order, each at least once.
//!
//! One process at a time delivers: the holder of the follower's lease. After a crash, delivery begins again after the
//! stored position, so that at most what was in flight is repeated.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use ledger_domain::Position;
use ledger_projections::{Error, EventFilter, Lease, Projections, RecordedEntry};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::position::{FirstPosition, LeasedPosition, PositionError};

/// Duration of a lease. A sink must not have anything in flight any more when it expires.
pub const LEASE: Duration = Duration::from_secs(30);
/// A lease with less time remaining is renewed before the next delivery: it leaves the sink this time to deliver.
pub const DELIVERY_TIME: Duration = Duration::from_secs(20);
/// Time that a delivery in progress has to end after the token is cancelled.
const STOP_TIME: Duration = Duration::from_secs(3);
/// Interval of attempts to acquire the lease while another process holds it.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(2);
/// Interval of reads while another process projects the ledger.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Delays before retries after failures: the first, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Entries that do not pass the filter, after which the position is stored nevertheless.
const PASSED_OVER: u64 = 1_000;

/// Position at which a follower begins that has no position yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// Before the first entry.
    Beginning,
    /// After the last entry that the projections have when the follower first runs. If the history is replaced, as by a
    /// restore to another one, its position is forgotten, and it begins after the last entry of the new history: entries
    /// that are recorded before it runs again are not delivered.
    Now,
    /// After this position.
    After(Position),
}

/// Reason why entries were not delivered. The follower delivers them again after a delay.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeliveryError(pub String);

/// System to which entries are delivered.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Delivers entries in order, and returns after the system has acknowledged all of them.
    ///
    /// It must return within [`DELIVERY_TIME`], and nothing may be in flight after it returned, also not after an error:
    /// the same entries are delivered again, by this process or another.
    async fn deliver(&mut self, entries: &[RecordedEntry]) -> Result<(), DeliveryError>;
}

/// Settings of a follower.
#[derive(Debug, Clone)]
pub struct FollowerSettings {
    /// Name of the follower, unique for the tenant: `kafka/releases`.
    pub name: String,
    /// Entries that are delivered.
    pub filter: EventFilter,
    /// Position at which it begins.
    pub start: StartAt,
    /// Maximum number of entries of one delivery.
    pub page_size: u32,
    /// Identity of this process.
    pub process: Uuid,
}

/// Delivers the entries of a tenant's ledger to a [`Sink`].
pub struct Follower<S> {
    settings: FollowerSettings,
    projections: Projections,
    sink: S,
    /// Maximum number of entries of the next delivery: fewer after failures, so that what can be delivered is.
    page_size: u32,
}

/// Reason why a follower stops delivering for now.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error("the lease on the follower is lost, or its position belongs to another history")]
    Lost,
    #[error("cannot deliver: {0}")]
    Delivery(#[from] DeliveryError),
    #[error("cannot read the projections")]
    Projections(#[from] Error),
    /// The delivery did not end in time after the token was cancelled.
    #[error("a delivery is cut off, and is repeated")]
    Cut,
}

impl From<PositionError> for Interruption {
    fn from(error: PositionError) -> Self {
        match error {
            PositionError::Lost => Self::Lost,
            PositionError::Projections(error) => Self::Projections(error),
        }
    }
}

impl<S: Sink> Follower<S> {
    /// Creates a follower that reads a tenant's projections.
    #[must_use]
    pub const fn new(settings: FollowerSettings, projections: Projections, sink: S) -> Self {
        let page_size = settings.page_size;
        Self { settings, projections, sink, page_size }
    }

    /// Delivers entries until the token is cancelled. A delivery in progress has a few seconds to end. After a panic, the
    /// follower begins again at the stored position.
    pub async fn run(mut self, cancelled: CancellationToken) {
        while AssertUnwindSafe(self.run_once(&cancelled)).catch_unwind().await.is_err() {
            let (follower, tenant) = (&self.settings.name, self.projections.tenant());
            error!(follower, %tenant, "a follower panicked; restarting it");
            self.failures().increment(1);
            // Its lease expires.
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = sleep(RETRY_DELAYS.1) => {}
            }
        }
        // The process that delivers next measures the lag.
        self.lag().set(0.0);
    }

    async fn run_once(&mut self, cancelled: &CancellationToken) {
        let mut delay = RETRY_DELAYS.0;
        while !cancelled.is_cancelled() {
            let pause = match self.acquire().await {
                Ok(Some(lease)) => {
                    info!(follower = self.settings.name, epoch = lease.epoch(), "follower starts to deliver");
                    let (lease, end, progressed) = self.deliver_while(lease, cancelled).await;
                    self.lag().set(0.0);
                    if matches!(end, Err(Interruption::Cut)) {
                        // What is in flight must not follow the deliveries of another process: the lease expires.
                        warn!(
                            follower = self.settings.name,
                            "a delivery did not end in time; its lease expires"
                        );
                        break;
                    }
                    if let Err(error) = self.projections.release_lease(lease).await {
                        warn!(follower = self.settings.name, %error, "cannot release the lease; it expires");
                    }
                    let Err(interruption) = end else { break };
                    self.report(&interruption);
                    delay = if progressed { RETRY_DELAYS.0 } else { (delay * 2).min(RETRY_DELAYS.1) };
                    delay
                }
                Ok(None) => ACQUIRE_INTERVAL,
                // Another component reports projections that are being rebuilt.
                Err(Error::NotReady(_)) => ACQUIRE_INTERVAL,
                Err(error) => {
                    self.report(&error.into());
                    delay = (delay * 2).min(RETRY_DELAYS.1);
                    delay
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
    }

    fn report(&self, interruption: &Interruption) {
        self.failures().increment(1);
        let cause = std::error::Error::source(interruption).map(ToString::to_string);
        let (follower, tenant) = (&self.settings.name, self.projections.tenant());
        warn!(follower, %tenant, error = %interruption, cause, "follower is interrupted; retrying");
    }

    /// Returns the name of the follower and its tenant.
    fn labels(&self) -> [(&'static str, String); 2] {
        [("follower", self.settings.name.clone()), ("tenant", self.projections.tenant().to_string())]
    }

    fn failures(&self) -> Counter {
        counter!("ledger_follower_failures_total", &self.labels())
    }

    fn lag(&self) -> Gauge {
        gauge!("ledger_follower_lag_entries", &self.labels())
    }

    async fn acquire(&self) -> Result<Option<Lease>, Error> {
        // Diverged projections describe a history that no longer exists, or another ledger's.
        if self.projections.divergence().is_some() {
            return Ok(None);
        }
        self.projections.acquire_lease(&self.settings.name, self.settings.process, LEASE).await
    }

    /// Delivers while the lease is held. Returns the lease, the reason for the end (`Ok` if cancelled), and true if
    /// anything was delivered.
    async fn deliver_while(
        &mut self,
        mut lease: Lease,
        cancelled: &CancellationToken,
    ) -> (Lease, Result<(), Interruption>, bool) {
        let mut progressed = false;
        let mut position = match self.start(&lease).await {
            Ok(position) => position,
            Err(interruption) => return (lease, Err(interruption), progressed),
        };
        while !cancelled.is_cancelled() {
            let local = self.projections.local_position();
            let cut = async {
                cancelled.cancelled().await;
                sleep(STOP_TIME).await;
            };
            let delivered = tokio::select! {
                biased;
                delivered = self.deliver_page(&mut lease, &mut position) => delivered,
                () = cut => Err(Interruption::Cut),
            };
            match delivered {
                Ok(true) => progressed = true,
                Ok(false) => {
                    tokio::select! {
                        () = cancelled.cancelled() => {}
                        () = self.projections.wait_for_local_change(local, POLL_INTERVAL) => {}
                    }
                }
                Err(interruption) => return (lease, Err(interruption), progressed),
            }
        }
        (lease, Ok(()), progressed)
    }

    /// Reads the stored position; stores the first one before.
    async fn start(&self, lease: &Lease) -> Result<LeasedPosition, Interruption> {
        let first = match self.settings.start {
            StartAt::Beginning => Position::START,
            StartAt::Now => self.projections.checkpoint().await?.position,
            StartAt::After(position) => position,
        };
        let first = FirstPosition::Default(first);
        Ok(LeasedPosition::start(&self.projections, &self.settings.name, first, || lease.clone()).await?)
    }

    /// Delivers the next page and stores its position. Returns false if there is nothing to deliver.
    async fn deliver_page(
        &mut self,
        lease: &mut Lease,
        position: &mut LeasedPosition,
    ) -> Result<bool, Interruption> {
        if self.projections.divergence().is_some() {
            return Err(Interruption::Lost);
        }
        if lease.remaining() < DELIVERY_TIME {
            *lease = self.projections.renew_lease(lease).await?.ok_or(Interruption::Lost)?;
        }
        let page = self.projections.recorded_entries(&self.settings.filter, position.get(), self.page_size);
        let (projected, entries) = page.await?;
        // Entries of another generation may belong to another history, which has no position of this follower.
        if !position.is_current().await? {
            return Ok(true);
        }
        let lag = projected.get().saturating_sub(position.get().get());
        self.lag().set(lag as f64);
        let to = match entries.last() {
            Some(last) => last.position,
            // The entries in between do not pass the filter.
            None if lag >= PASSED_OVER => projected,
            None => return Ok(false),
        };
        if !entries.is_empty() {
            if lease.remaining() < DELIVERY_TIME {
                *lease = self.projections.renew_lease(lease).await?.ok_or(Interruption::Lost)?;
            }
            self.deliver(&entries).await?;
            counter!("ledger_follower_entries_total", &self.labels()).increment(entries.len() as u64);
        }
        position.advance(to, || lease.clone()).await?;
        Ok(true)
    }

    /// Delivers a page. After a failure the next one is half as long, so that a single entry is tried alone at the end.
    async fn deliver(&mut self, entries: &[RecordedEntry]) -> Result<(), DeliveryError> {
        let length = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let delivered = self.sink.deliver(entries).await;
        self.page_size = match delivered {
            Ok(()) => self.page_size.saturating_mul(2).min(self.settings.page_size),
            Err(_) => (self.page_size.min(length) / 2).max(1),
        };
        delivered
    }
}
