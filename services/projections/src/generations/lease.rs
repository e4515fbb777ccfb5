//! Leases of followers that act outside of the ledger: one process at a time acts in the name of a follower.
//!
//! The database's clock decides when a lease expires. The holder measures the same time with its own monotonic clock from
//! before the request, so that it stops before another process can start.
//!
//! The limit: that clock may stand still while the machine is suspended. A process that is suspended between its check of
//! the lease and its action can act after the lease expired. Positions do not advance then, because the database checks
//! the lease; but what the process sends to another system is repeated there, and may follow what its successor sent.

use std::time::{Duration, Instant};

use ledger_domain::Position;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;

use crate::Projections;
use crate::generations::registry::FollowerCheckpoint;
use crate::postgres::{Error, bigint};
use crate::sql::sql;

/// The right of this process to act in the name of a follower, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    name: String,
    holder: Uuid,
    epoch: i64,
    duration: Duration,
    expires_at: Instant,
}

impl Lease {
    /// Returns the time for which the lease is still held without a renewal.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.expires_at.saturating_duration_since(Instant::now())
    }

    /// Binds the name, the holder and the epoch to the next parameters of a statement.
    pub(crate) fn bind<'q>(
        &'q self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        query.bind(&self.name).bind(self.holder).bind(self.epoch)
    }

    /// Returns the number of times that the lease was acquired, this time included.
    #[must_use]
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }
}

impl Projections {
    /// Acquires the lease with a name for a process, unless another process or an earlier acquisition of the same
    /// process holds it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn acquire_lease(
        &self,
        name: &str,
        holder: Uuid,
        duration: Duration,
    ) -> Result<Option<Lease>, Error> {
        self.lease(name, holder, duration, 0).await
    }

    /// Renews a lease. Returns `None` if it expired and another process acquired it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let renewed = self.lease(&lease.name, lease.holder, lease.duration, lease.epoch).await?;
        Ok(renewed.filter(|renewed| renewed.epoch == lease.epoch))
    }

    async fn lease(
        &self,
        name: &str,
        holder: Uuid,
        duration: Duration,
        epoch: i64,
    ) -> Result<Option<Lease>, Error> {
        let requested_at = Instant::now();
        let query = sqlx::query_scalar(sql!("registry/acquire_lease")).bind(self.tenant.as_str()).bind(name);
        let query = query.bind(holder).bind(duration.as_secs_f64()).bind(epoch);
        let epoch: Option<i64> = query.fetch_optional(&self.pool()?).await?;
        let expires_at = requested_at + duration;
        Ok(epoch.map(|epoch| Lease { name: name.to_owned(), holder, epoch, duration, expires_at }))
    }

    /// Releases a lease, so that another process need not wait until it expires.
    ///
    /// # Errors
    /// The database does not answer; the lease expires then.
    pub async fn release_lease(&self, lease: Lease) -> Result<(), Error> {
        let query = sqlx::query(sql!("registry/release_lease")).bind(self.tenant.as_str()).bind(lease.name);
        query.bind(lease.holder).bind(lease.epoch).execute(&self.pool()?).await?;
        Ok(())
    }

    /// Stores the first position of a follower, if it has none yet.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn start_follower(&self, follower: &str, at: Position) -> Result<(), Error> {
        let (number, pool) = self.active_generation()?;
        let query = sqlx::query(sql!("registry/start_follower")).bind(self.tenant.as_str()).bind(follower);
        let query = query.bind(bigint(at)).bind(self.database().schema_version.version).bind(number);
        query.execute(&pool).await?;
        Ok(())
    }

    /// Advances a follower as [`Projections::advance_follower`] does. Returns false without effect also if the lease is
    /// not held any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn advance_leased(
        &self,
        follower: &str,
        lease: &Lease,
        from: FollowerCheckpoint,
        to: Position,
    ) -> Result<bool, Error> {
        let query = sqlx::query(sql!("registry/advance_leased")).bind(self.tenant.as_str()).bind(follower);
        let query = query.bind(bigint(from.position)).bind(bigint(to));
        let query = query.bind(self.database().schema_version.version).bind(from.generation());
        Ok(lease.bind(query).execute(&self.pool()?).await?.rows_affected() == 1)
    }
}
