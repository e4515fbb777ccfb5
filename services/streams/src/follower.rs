//! A follower that delivers the ledger's entries to another system, in order, each at least once.
//!
//! One process at a time delivers: the holder of the follower's lease. After a crash, delivery begins again after the
//! stored position, so that at most what was in flight is repeated.

use std::time::Duration;

use async_trait::async_trait;
use ledger_domain::Position;
use ledger_projections::{Error, EventFilter, EventRow, Lease, Projections};
use metrics::{counter, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::position::{FirstPosition, LeasedPosition, PositionError};

/// Duration of a lease. A sink must not have anything in flight any more when it expires.
pub const LEASE: Duration = Duration::from_secs(30);
/// A lease with less time remaining is renewed before the next delivery: it leaves the sink this time to deliver.
pub const DELIVERY_TIME: Duration = Duration::from_secs(20);
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
    /// After the last entry that the projections have when the follower first runs.
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
    async fn deliver(&mut self, entries: &[EventRow]) -> Result<(), DeliveryError>;
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
        Self { settings, projections, sink }
    }

    /// Delivers entries until the token is cancelled. A delivery in progress is completed first.
    pub async fn run(mut self, cancelled: CancellationToken) {
        let mut delay = RETRY_DELAYS.0;
        while !cancelled.is_cancelled() {
            let pause = match self.acquire().await {
                Ok(Some(lease)) => {
                    info!(follower = self.settings.name, epoch = lease.epoch(), "follower starts to deliver");
                    let (lease, end, progressed) = self.deliver_while(lease, &cancelled).await;
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
        let follower = self.settings.name.clone();
        counter!("ledger_follower_failures_total", "follower" => follower.clone()).increment(1);
        let cause = std::error::Error::source(interruption).map(ToString::to_string);
        warn!(follower, error = %interruption, cause, "follower is interrupted; retrying");
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
            match self.deliver_page(&mut lease, &mut position).await {
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
        let page = self.projections.events(&self.settings.filter, position.get(), self.settings.page_size);
        let (projected, entries) = page.await?;
        let lag = projected.get().saturating_sub(position.get().get());
        gauge!("ledger_follower_lag_entries", "follower" => self.settings.name.clone()).set(lag as f64);
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
            self.sink.deliver(&entries).await?;
            let delivered =
                counter!("ledger_follower_entries_total", "follower" => self.settings.name.clone());
            delivered.increment(entries.len() as u64);
        }
        position.advance(to, || lease.clone()).await?;
        Ok(true)
    }
}
