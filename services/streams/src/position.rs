//! The stored position of a follower that acts outside of the ledger: it changes only while the follower's lease is held,
//! and survives a switch to another generation of the same history.

use std::time::Duration;

use ledger_domain::Position;
use ledger_projections::{Error, FollowerCheckpoint, Lease, Projections, Purpose};
use tokio::time::sleep;

/// Interval of attempts to store a position while the projections are switched.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Time that a lease must have left when an action with a time limit of its own begins, beyond that limit: for the clocks,
/// and for the statement that stores the position.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

/// Position at which a follower starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPosition {
    /// This one if none is stored.
    Default(Position),
    /// This one if none, or an earlier one, is stored.
    AtLeast(Position),
}

/// Reason why a position cannot be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum PositionError {
    /// Another process holds the lease, or the history is another one.
    #[error("the lease on the follower is lost, or its position belongs to another history")]
    Lost,
    /// The projections cannot be read.
    #[error("cannot read the projections")]
    Projections(#[from] Error),
}

/// The stored position of a follower, for the holder of a lease.
#[derive(Clone)]
pub struct LeasedPosition {
    projections: Projections,
    follower: String,
    checkpoint: FollowerCheckpoint,
}

impl LeasedPosition {
    /// Reads the stored position. Stores the first one before, if it applies. `lease` returns the lease as it was renewed
    /// last.
    ///
    /// # Errors
    /// The lease is lost, or the database does not answer.
    pub async fn start(
        projections: &Projections,
        follower: &str,
        first: FirstPosition,
        lease: impl Fn() -> Lease + Send + Sync,
    ) -> Result<Self, PositionError> {
        let projections = projections.for_purpose(Purpose::Recording);
        let (FirstPosition::Default(default) | FirstPosition::AtLeast(default)) = first;
        while !lease().remaining().is_zero() {
            projections.start_follower(follower, default).await?;
            let checkpoint = projections.follower_checkpoint(follower).await?;
            let least = match first {
                FirstPosition::Default(_) => checkpoint.position,
                FirstPosition::AtLeast(least) => checkpoint.position.max(least),
            };
            // Also without a change, this tells a position that is stored from one that is not while a switch is made.
            if projections.advance_leased(follower, &lease(), checkpoint, least).await? {
                let checkpoint = checkpoint.at(least);
                return Ok(Self { projections, follower: follower.to_owned(), checkpoint });
            }
            if projections.divergence().is_some() {
                break;
            }
            // The projections are switched, or the lease is lost.
            sleep(POLL_INTERVAL).await;
        }
        Err(PositionError::Lost)
    }

    /// Returns the stored position.
    #[must_use]
    pub const fn get(&self) -> Position {
        self.checkpoint.position
    }

    /// Returns true if what was just read belongs to the generation of the position. If another one is active now, reads
    /// the position again.
    ///
    /// # Errors
    /// The position belongs to another history, or the database does not answer.
    pub async fn is_current(&mut self) -> Result<bool, PositionError> {
        if self.projections.is_active(self.checkpoint) {
            return Ok(true);
        }
        let now = self.projections.follower_checkpoint(&self.follower).await?;
        if now.position != self.checkpoint.position {
            return Err(PositionError::Lost);
        }
        self.checkpoint = now;
        Ok(false)
    }

    /// Stores a later position, after everything up to it was delivered. If another generation of the same history is live
    /// now, waits until this process reads it, as long as the lease is held.
    ///
    /// # Errors
    /// The lease is lost, the position belongs to another history, or the database does not answer.
    pub async fn advance(
        &mut self,
        to: Position,
        lease: impl Fn() -> Lease + Send + Sync,
    ) -> Result<(), PositionError> {
        let mut checkpoint = self.checkpoint;
        while !lease().remaining().is_zero() {
            if self.projections.advance_leased(&self.follower, &lease(), checkpoint, to).await? {
                self.checkpoint = checkpoint.at(to);
                return Ok(());
            }
            checkpoint = self.projections.follower_checkpoint(&self.follower).await?;
            // The position of a follower is forgotten if the history becomes another one.
            if checkpoint.position != self.checkpoint.position || self.projections.divergence().is_some() {
                break;
            }
            sleep(POLL_INTERVAL).await;
        }
        Err(PositionError::Lost)
    }
}
