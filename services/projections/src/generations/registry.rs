//! The registry of generations: their states, the lease on each, the live workers, and the followers' positions.
//!
//! A rebuild fills a new generation of a tenant's projections, in a schema of its own, while another one answers
//! queries. At most one generation per tenant and schema version is live. One process at a time holds the lease on a
//! generation and projects into it. Leases only avoid wasted work; safety comes from the fence in
//! [`checkpoint`](crate::projector::checkpoint), which rejects the writes of a paused process that lost its lease.

use std::time::Duration;

use ledger_domain::{Position, TenantName};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::postgres::{Error, Projections, bigint, position, schema_name};
use crate::sql::sql;

/// Duration of a lease on a generation.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// Time without a heartbeat after which a worker counts as gone.
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);

/// State of a generation in its life cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GenerationState {
    /// It is being built.
    Building,
    /// It answers queries.
    Live,
    /// It was replaced, and remains for processes that have not noticed yet.
    Retired,
}

impl GenerationState {
    const fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Live => "live",
            Self::Retired => "retired",
        }
    }
}

/// A generation in the registry.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) tenant: String,
    pub(crate) number: i32,
    pub(crate) state: GenerationState,
    /// True if the registry names the reading process as its owner.
    pub(crate) mine: bool,
    /// True if a process that appears to be alive owns it.
    pub(crate) owned: bool,
    /// True if it is retired and its grace period is over.
    pub(crate) expired: bool,
}

/// Returns the number of the next generation.
pub(crate) fn next_number<'g>(generations: impl IntoIterator<Item = &'g Generation>) -> i32 {
    generations.into_iter().map(|it| it.number).max().unwrap_or(0) + 1
}

fn parse_state(text: &str) -> Result<GenerationState, Error> {
    let states = [GenerationState::Building, GenerationState::Live, GenerationState::Retired];
    states.into_iter().find(|state| state.name() == text).ok_or_else(|| Error::Inconsistent {
        table: "generations",
        row: text.to_owned(),
        detail: "unknown state of a generation".into(),
    })
}

/// A process that uses the registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worker {
    pub(crate) id: Uuid,
    /// The schema version of the projections that it supports.
    pub(crate) version: i32,
}

impl Worker {
    /// Records a heartbeat, and the tenants that this process is eligible for.
    pub(crate) async fn heartbeat(
        self,
        connection: &mut PgConnection,
        runs_projectors: bool,
        tenants: &[String],
    ) -> Result<(), Error> {
        let query = sqlx::query(sql!("registry/heartbeat"))
            .bind(self.id)
            .bind(self.version)
            .bind(runs_projectors)
            .bind(tenants);
        query.execute(connection).await?;
        Ok(())
    }

    /// Returns the generations of some tenants in this schema version. A retired one expires after `grace`.
    pub(crate) async fn list_generations(
        self,
        connection: &mut PgConnection,
        tenants: &[String],
        grace: Duration,
    ) -> Result<Vec<Generation>, Error> {
        type Row = (String, i32, String, Option<bool>, bool, bool);
        let query =
            sqlx::query_as(sql!("registry/list_generations")).bind(self.version).bind(tenants).bind(self.id);
        let rows: Vec<Row> = query.bind(grace.as_secs_f64()).fetch_all(connection).await?;
        rows.into_iter()
            .map(|(tenant, number, state, mine, owned, expired)| {
                let (state, mine) = (parse_state(&state)?, mine.unwrap_or(false));
                Ok(Generation { tenant, number, state, mine, owned, expired })
            })
            .collect()
    }

    /// Creates the generation with this number. Returns false if another one is being built or the number is taken.
    pub(crate) async fn create_generation(
        self,
        connection: &mut PgConnection,
        tenant: &TenantName,
        number: i32,
    ) -> Result<bool, Error> {
        let query = sqlx::query(sql!("registry/create_generation"))
            .bind(tenant.as_str())
            .bind(self.version)
            .bind(number);
        Ok(query.execute(connection).await?.rows_affected() == 1)
    }

    /// Acquires the lease on a generation. Returns false if another process owns it or its state has changed.
    pub(crate) async fn acquire(
        self,
        connection: &mut PgConnection,
        tenant: &str,
        number: i32,
        state: GenerationState,
    ) -> Result<bool, Error> {
        let query =
            sqlx::query(sql!("registry/acquire")).bind(tenant).bind(self.version).bind(number).bind(self.id);
        let query = query.bind(LEASE.as_secs_f64()).bind(state.name());
        let acquired = query.execute(connection).await?;
        Ok(acquired.rows_affected() == 1)
    }

    /// Renews the leases on some generations, and returns all generations that this process owns.
    pub(crate) async fn renew(
        self,
        connection: &mut PgConnection,
        generations: &[(String, i32)],
    ) -> Result<Vec<(String, i32)>, Error> {
        let (tenants, numbers): (Vec<&str>, Vec<i32>) =
            generations.iter().map(|(tenant, number)| (tenant.as_str(), *number)).unzip();
        let query = sqlx::query_as(sql!("registry/renew"))
            .bind(self.id)
            .bind(self.version)
            .bind(tenants)
            .bind(numbers);
        Ok(query.bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
    }

    /// Releases the lease on a generation.
    pub(crate) async fn release(
        self,
        connection: &mut PgConnection,
        tenant: &str,
        number: i32,
    ) -> Result<(), Error> {
        let query =
            sqlx::query(sql!("registry/release")).bind(tenant).bind(self.version).bind(number).bind(self.id);
        query.execute(connection).await?;
        Ok(())
    }

    /// Returns the live workers that project this schema version, each with its eligible tenants.
    pub(crate) async fn live_workers(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(Uuid, Vec<String>)>, Error> {
        let query = sqlx::query_as(sql!("registry/live_workers"))
            .bind(self.version)
            .bind(WORKER_TIMEOUT.as_secs_f64());
        Ok(query.fetch_all(connection).await?)
    }

    /// Deletes workers without a heartbeat for `retention`.
    pub(crate) async fn delete_stale(
        connection: &mut PgConnection,
        retention: Duration,
    ) -> Result<(), Error> {
        sqlx::query(sql!("registry/delete_stale_workers"))
            .bind(retention.as_secs_f64())
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Drops a generation with its tables if it is retired, has an older schema version, or is being built by this
    /// process. Returns false if there is no such generation. Waits at most `lock_timeout` for its readers.
    pub(crate) async fn drop_generation(
        self,
        connection: &mut PgConnection,
        (tenant, version, number): (&str, i32, i32),
        lock_timeout: Duration,
    ) -> Result<bool, Error> {
        let mut transaction = connection.begin().await?;
        let lock_timeout = format!("{}ms", lock_timeout.as_millis());
        sqlx::query(sql!("registry/set_lock_timeout")).bind(lock_timeout).execute(&mut *transaction).await?;
        let delete = sqlx::query(sql!("registry/delete_generation")).bind(tenant).bind(version).bind(number);
        let deleted = delete.bind(self.version).bind(self.id).execute(&mut *transaction).await?;
        if deleted.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        drop_schema(&mut transaction, &schema_name(tenant, version, number)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns generations of older schema versions that no worker has needed for `retention`, as `(tenant, version,
    /// number)`.
    pub(crate) async fn outdated(
        self,
        connection: &mut PgConnection,
        tenants: &[String],
        retention: Duration,
    ) -> Result<Vec<(String, i32, i32)>, Error> {
        let query = sqlx::query_as(sql!("registry/outdated")).bind(tenants).bind(self.version);
        Ok(query.bind(retention.as_secs_f64()).fetch_all(connection).await?)
    }

    /// Locks the building and the live generation of a tenant until the transaction ends. Postgres ends a transaction
    /// that stalls for five seconds.
    pub(crate) async fn lock(
        self,
        transaction: &mut PgConnection,
        tenant: &TenantName,
    ) -> Result<LockedGenerations, Error> {
        sqlx::query(sql!("registry/set_switch_timeouts")).execute(&mut *transaction).await?;
        let query =
            sqlx::query_as(sql!("registry/lock")).bind(tenant.as_str()).bind(self.version).bind(self.id);
        let rows: Vec<(i32, String, bool)> = query.fetch_all(transaction).await?;
        let mut locked = LockedGenerations { building: None, live: None };
        for (number, state, mine) in rows {
            match parse_state(&state)? {
                GenerationState::Building => locked.building = Some((number, mine)),
                GenerationState::Live => locked.live = Some(number),
                GenerationState::Retired => {}
            }
        }
        Ok(locked)
    }
}

/// A tenant's generations of one schema version that are not retired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LockedGenerations {
    /// The one that is being built, and true if the locking process owns it.
    pub(crate) building: Option<(i32, bool)>,
    /// The live one.
    pub(crate) live: Option<i32>,
}

/// Drops a schema with its contents, if it exists.
pub(crate) async fn drop_schema(connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
    let drop = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"));
    sqlx::query(drop).execute(connection).await?;
    Ok(())
}

/// Retires one generation and makes another live. The caller's transaction makes that atomic.
pub(crate) async fn switch(
    connection: &mut PgConnection,
    tenant: &TenantName,
    version: i32,
    from: Option<i32>,
    to: i32,
) -> Result<(), Error> {
    for (statement, number) in [(sql!("registry/retire"), from), (sql!("registry/activate"), Some(to))] {
        if let Some(number) = number {
            let query = sqlx::query(statement).bind(tenant.as_str()).bind(version).bind(number);
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Forgets the positions of all followers of a tenant's projections: they belong to another history.
pub(crate) async fn reset_followers(connection: &mut PgConnection, tenant: &TenantName) -> Result<(), Error> {
    sqlx::query(sql!("registry/reset_followers")).bind(tenant.as_str()).execute(connection).await?;
    Ok(())
}

/// The position of a follower of the projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerCheckpoint {
    /// The last position that it has processed.
    pub position: Position,
    /// The generation that was active when it was read.
    number: i32,
}

impl FollowerCheckpoint {
    /// Returns the number of the generation that was active when it was read.
    pub(crate) const fn generation(&self) -> i32 {
        self.number
    }

    /// Returns the checkpoint after an advance to a position.
    #[must_use]
    pub const fn at(self, position: Position) -> Self {
        Self { position, ..self }
    }
}

impl Projections {
    /// Returns the position of a follower, for use with the active generation.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn follower_checkpoint(&self, follower: &str) -> Result<FollowerCheckpoint, Error> {
        let (number, pool) = self.active_generation()?;
        let query =
            sqlx::query_scalar(sql!("registry/follower_position")).bind(self.tenant.as_str()).bind(follower);
        let found: Option<i64> = query.fetch_optional(&pool).await?;
        Ok(FollowerCheckpoint { position: found.map_or(Position::START, position), number })
    }

    /// Returns true if the generation of a checkpoint is still the active one, so that what is read now belongs to it.
    #[must_use]
    pub fn is_active(&self, checkpoint: FollowerCheckpoint) -> bool {
        self.active_number() == Some(checkpoint.number)
    }

    /// Advances a follower of the projections. Returns false without effect if its position is no longer `from`, or if
    /// another generation is live: another process was first, or the history may be another one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn advance_follower(
        &self,
        follower: &str,
        from: FollowerCheckpoint,
        to: Position,
    ) -> Result<bool, Error> {
        let query = sqlx::query(sql!("registry/advance_follower")).bind(self.tenant.as_str()).bind(follower);
        let query = query.bind(bigint(from.position)).bind(bigint(to));
        let query = query.bind(self.database().schema_version.version).bind(from.number);
        Ok(query.execute(&self.pool()?).await?.rows_affected() == 1)
    }
}
