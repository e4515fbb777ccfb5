//! Which generations of views there are, and who folds into each.
//!
//! The views of a tenant can be filled anew beside those that answer: each filling is a generation, in a schema
//! of its own. One of them is live for each version of their form. What is folded into is *owned* by one process
//! at a time. Ownership only keeps processes out of each other's way: what keeps a process that was paused, and
//! wakes up owning nothing, from doing harm is the fence in [`projection`](crate::projection).

use std::fmt::Display;
use std::time::Duration;

use ledger_domain::{Position, TenantName};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::Views;
use crate::database::{Error, bigint, position};

pub(crate) const STATEMENTS: &[&str] = &[
    SEE,
    LOOK,
    BEGIN,
    ACQUIRE,
    RENEW,
    RELEASE,
    MEMBERS,
    LOCK,
    PROMOTE,
    RETIRE,
    FORGET,
    FORGET_ABSENT,
    OUTDATED,
    FOLLOWED,
    FOLLOW,
];

const SEE: &str = "INSERT INTO release_ledger.members (member, version, folds, tenants, pid, began, seen_at)
    SELECT $1, $2, $3, $4, pid, backend_start, clock_timestamp() FROM pg_stat_activity
    WHERE pid = pg_backend_pid()
    ON CONFLICT (member) DO UPDATE SET tenants = excluded.tenants, pid = excluded.pid, began = excluded.began,
        seen_at = excluded.seen_at";

/// An owner is trusted to fold as long as it says so, and its connection is there: a process that is killed
/// loses that at once, and one that is paused does not say so any more.
const LOOK: &str = "SELECT tenant, number, state, owner = $3 AS mine,
        coalesce(owned_until >= clock_timestamp() AND EXISTS (
            SELECT FROM pg_stat_activity a
            WHERE a.pid = owner_pid AND coalesce(a.backend_start, owner_began) = owner_began
        ), false) AS owned,
        coalesce(retired_at < clock_timestamp() - make_interval(secs => $4), false) AS expired
    FROM release_ledger.generations WHERE version = $1 AND tenant = ANY($2) ORDER BY tenant, number";

/// The next number, where none is being built.
const BEGIN: &str = "INSERT INTO release_ledger.generations (tenant, version, number, state)
    SELECT $1, $2, $3, 'building'
    WHERE $3 > (SELECT coalesce(max(number), 0) FROM release_ledger.generations WHERE tenant = $1 AND version = $2)
    ON CONFLICT DO NOTHING";

const ACQUIRE: &str = "UPDATE release_ledger.generations g SET owner = $4, owner_pid = a.pid,
        owner_began = a.backend_start, owned_until = clock_timestamp() + make_interval(secs => $5)
    FROM pg_stat_activity a
    WHERE a.pid = pg_backend_pid() AND tenant = $1 AND version = $2 AND number = $3
        AND (owner IS NULL OR owner = $4 OR owned_until < clock_timestamp() OR NOT EXISTS (
            SELECT FROM pg_stat_activity o
            WHERE o.pid = owner_pid AND coalesce(o.backend_start, owner_began) = owner_began
        ))";

const RENEW: &str = "UPDATE release_ledger.generations SET owner_pid = a.pid, owner_began = a.backend_start,
        owned_until = clock_timestamp() + make_interval(secs => $2)
    FROM pg_stat_activity a WHERE a.pid = pg_backend_pid() AND owner = $1 RETURNING tenant, number";

const RELEASE: &str = "UPDATE release_ledger.generations SET owner = NULL, owned_until = NULL
    WHERE owner = $4 AND tenant = $1 AND version = $2 AND number = $3";

const MEMBERS: &str = "SELECT member, tenants FROM release_ledger.members m
    WHERE version = $1 AND folds AND seen_at > clock_timestamp() - make_interval(secs => $2)
        AND EXISTS (SELECT FROM pg_stat_activity a
            WHERE a.pid = m.pid AND coalesce(a.backend_start, m.began) = m.began)";

const LOCK: &str = "SELECT number, state FROM release_ledger.generations WHERE tenant = $1 AND version = $2
        AND state <> 'retired' ORDER BY number FOR UPDATE";

const PROMOTE: &str = "UPDATE release_ledger.generations SET state = 'live', live_at = clock_timestamp()
    WHERE tenant = $1 AND version = $2 AND number = $3";

const RETIRE: &str = "UPDATE release_ledger.generations SET state = 'retired', retired_at = clock_timestamp()
    WHERE tenant = $1 AND version = $2 AND number = $3";

const FORGET: &str =
    "DELETE FROM release_ledger.generations WHERE tenant = $1 AND version = $2 AND number = $3";

const FORGET_ABSENT: &str =
    "DELETE FROM release_ledger.members WHERE seen_at < clock_timestamp() - make_interval(secs => $1)";

/// Generations of forms that are older than one that is live, and that no process has known for a while.
const OUTDATED: &str = "SELECT version, number FROM release_ledger.generations g
    WHERE tenant = $1 AND version < $2
        AND EXISTS (SELECT FROM release_ledger.generations l
            WHERE l.tenant = g.tenant AND l.version = $2 AND l.state = 'live'
                AND l.live_at < clock_timestamp() - make_interval(secs => $3))
        AND NOT EXISTS (SELECT FROM release_ledger.members m
            WHERE m.version = g.version AND m.seen_at > clock_timestamp() - make_interval(secs => $3))";

const FOLLOWED: &str = "SELECT position FROM release_ledger.followers WHERE tenant = $1 AND name = $2";

const FOLLOW: &str = "INSERT INTO release_ledger.followers AS f (tenant, name, position) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, name) DO UPDATE SET position = greatest(f.position, excluded.position)";

/// How long an owner is believed that does not say again that it is.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How long a process is believed to be there that does not say so.
const MEMBERSHIP: Duration = Duration::from_secs(5);

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being filled.
    Building,
    /// Questions are answered from it.
    Live,
    /// They were, and it is kept for those who have not heard yet.
    Retired,
}

/// A generation, as the registry tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) tenant: String,
    pub(crate) number: i32,
    pub(crate) state: State,
    /// Whether the process that asked owns it, by the registry.
    pub(crate) mine: bool,
    /// Whether some process owns it and seems to live.
    pub(crate) owned: bool,
    /// Whether its grace is over.
    pub(crate) expired: bool,
}

/// The name of a generation's schema. A tenant's name has only letters, digits, `.`, `_` and `-`: it is safe
/// between quotes.
pub(crate) fn schema(tenant: impl Display, version: i32, number: i32) -> String {
    format!("ledger_{tenant}_v{version}_{number}")
}

/// The number after those of these generations.
pub(crate) fn next_number<'g>(generations: impl IntoIterator<Item = &'g Generation>) -> i32 {
    generations.into_iter().map(|it| it.number).max().unwrap_or(0) + 1
}

fn state(text: &str) -> Result<State, Error> {
    match text {
        "building" => Ok(State::Building),
        "live" => Ok(State::Live),
        "retired" => Ok(State::Retired),
        other => Err(Error::Inconsistent {
            table: "generations",
            row: other.to_owned(),
            detail: "it is no state of a generation".into(),
        }),
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    /// The version of the views' form that it knows.
    pub(crate) version: i32,
}

impl Member {
    /// Says that this process is there.
    pub(crate) async fn see(
        self,
        connection: &mut PgConnection,
        folds: bool,
        tenants: &[String],
    ) -> Result<(), Error> {
        let query = sqlx::query(SEE).bind(self.id).bind(self.version).bind(folds).bind(tenants);
        query.execute(connection).await?;
        Ok(())
    }

    /// The generations of some tenants, in this version of their form. A retired one is expired after `grace`.
    pub(crate) async fn look(
        self,
        connection: &mut PgConnection,
        tenants: &[String],
        grace: Duration,
    ) -> Result<Vec<Generation>, Error> {
        type Row = (String, i32, String, Option<bool>, bool, bool);
        let query = sqlx::query_as(LOOK).bind(self.version).bind(tenants).bind(self.id);
        let rows: Vec<Row> = query.bind(grace.as_secs_f64()).fetch_all(connection).await?;
        rows.into_iter()
            .map(|(tenant, number, in_state, mine, owned, expired)| {
                let (state, mine) = (state(&in_state)?, mine.unwrap_or(false));
                Ok(Generation { tenant, number, state, mine, owned, expired })
            })
            .collect()
    }

    /// Begins the generation with this number, unless another one is being built, or the number was given away.
    pub(crate) async fn begin(
        self,
        connection: &mut PgConnection,
        tenant: &TenantName,
        number: i32,
    ) -> Result<bool, Error> {
        let query = sqlx::query(BEGIN).bind(tenant.as_str()).bind(self.version).bind(number);
        Ok(query.execute(connection).await?.rows_affected() == 1)
    }

    /// Becomes the owner of a generation that nobody owns.
    pub(crate) async fn acquire(
        self,
        connection: &mut PgConnection,
        tenant: &str,
        number: i32,
    ) -> Result<bool, Error> {
        let query = sqlx::query(ACQUIRE).bind(tenant).bind(self.version).bind(number).bind(self.id);
        let acquired = query.bind(LEASE.as_secs_f64()).execute(connection).await?;
        Ok(acquired.rows_affected() == 1)
    }

    /// Says again that this process owns what it owns; answers what that is.
    pub(crate) async fn renew(self, connection: &mut PgConnection) -> Result<Vec<(String, i32)>, Error> {
        let query = sqlx::query_as(RENEW).bind(self.id).bind(LEASE.as_secs_f64());
        Ok(query.fetch_all(connection).await?)
    }

    /// Owns a generation no longer.
    pub(crate) async fn release(
        self,
        connection: &mut PgConnection,
        tenant: &str,
        number: i32,
    ) -> Result<(), Error> {
        let query = sqlx::query(RELEASE).bind(tenant).bind(self.version).bind(number).bind(self.id);
        query.execute(connection).await?;
        Ok(())
    }

    /// The processes that fold views of this version, each with its tenants.
    pub(crate) async fn members(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(Uuid, Vec<String>)>, Error> {
        let query = sqlx::query_as(MEMBERS).bind(self.version).bind(MEMBERSHIP.as_secs_f64());
        Ok(query.fetch_all(connection).await?)
    }

    /// Forgets the processes that were not seen for as long as `kept`.
    pub(crate) async fn forget_absent(connection: &mut PgConnection, kept: Duration) -> Result<(), Error> {
        sqlx::query(FORGET_ABSENT).bind(kept.as_secs_f64()).execute(connection).await?;
        Ok(())
    }

    /// Drops a generation that nobody needs, with its tables.
    pub(crate) async fn drop(
        connection: &mut PgConnection,
        tenant: &TenantName,
        version: i32,
        number: i32,
    ) -> Result<(), Error> {
        let mut transaction = connection.begin().await?;
        // Whoever still reads it is not waited for long: it is tried again.
        sqlx::query("SET LOCAL lock_timeout = '500ms'").execute(&mut *transaction).await?;
        let forget = sqlx::query(FORGET).bind(tenant.as_str()).bind(version).bind(number);
        forget.execute(&mut *transaction).await?;
        let schema = schema(tenant, version, number);
        sqlx::query(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Older forms' generations that no process has needed for as long as `kept`.
    pub(crate) async fn outdated(
        self,
        connection: &mut PgConnection,
        tenant: &TenantName,
        kept: Duration,
    ) -> Result<Vec<(i32, i32)>, Error> {
        let query = sqlx::query_as(OUTDATED).bind(tenant.as_str()).bind(self.version);
        Ok(query.bind(kept.as_secs_f64()).fetch_all(connection).await?)
    }
}

/// The generations that may become or be live, locked until the transaction ends: `(building, live)`.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    tenant: &TenantName,
    version: i32,
) -> Result<(Option<i32>, Option<i32>), Error> {
    let query = sqlx::query_as(LOCK).bind(tenant.as_str()).bind(version);
    let rows: Vec<(i32, String)> = query.fetch_all(connection).await?;
    let number = |wanted| {
        rows.iter()
            .find_map(|(number, text)| (state(text).is_ok_and(|state| state == wanted)).then_some(*number))
    };
    Ok((number(State::Building), number(State::Live)))
}

/// Makes one generation live and retires another: in the transaction of the caller, so that there is always one.
pub(crate) async fn switch(
    connection: &mut PgConnection,
    tenant: &TenantName,
    version: i32,
    from: Option<i32>,
    to: i32,
) -> Result<(), Error> {
    for (statement, number) in [(RETIRE, from), (PROMOTE, Some(to))] {
        if let Some(number) = number {
            let query = sqlx::query(statement).bind(tenant.as_str()).bind(version).bind(number);
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

impl Views {
    /// How far a follower of the views has come.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn followed(&self, follower: &str) -> Result<Position, Error> {
        let query = sqlx::query_scalar(FOLLOWED).bind(self.tenant.as_str()).bind(follower);
        let found: Option<i64> = query.fetch_optional(&self.pool()?).await?;
        Ok(found.map_or(Position::START, position))
    }

    /// Says how far a follower of the views has come; it never goes back.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn follow(&self, follower: &str, to: Position) -> Result<(), Error> {
        let query = sqlx::query(FOLLOW).bind(self.tenant.as_str()).bind(follower).bind(bigint(to));
        query.execute(&self.pool()?).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tenant_has_a_schema_of_its_own() {
        let tenant = TenantName::parse(&"t".repeat(40)).expect("a name");
        assert!(schema(&tenant, 999, 999_999).len() <= 63);
    }
}
