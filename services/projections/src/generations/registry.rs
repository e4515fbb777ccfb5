//! Which generations of projections there are, and who folds into each.
//!
//! The projections of a tenant can be filled anew beside those that answer: each filling is a generation, in a schema
//! of its own. One of them is live for each version of their form. What is folded into is *owned* by one process
//! at a time. Ownership only keeps processes out of each other's way: what keeps a process that was paused, and
//! wakes up owning nothing, from doing harm is the fence in [`projection`](crate::projector::projection).

use std::fmt::Display;
use std::time::Duration;

use ledger_domain::{Position, TenantName};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::Projections;
use crate::postgres::{Error, bigint, position};

pub(crate) const STATEMENTS: &[&str] = &[
    SEE,
    LOOK,
    BEGIN,
    ACQUIRE,
    RENEW,
    RELEASE,
    MEMBERS,
    LOCK,
    BRIEFLY,
    WAIT_FOR,
    PROMOTE,
    RETIRE,
    FORGET,
    FORGET_ABSENT,
    OUTDATED,
    FOLLOWED,
    FOLLOW,
    BEGIN_AGAIN,
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

/// A row that another process holds, as in a switch, is left for later: whoever waited for it here would let the
/// leases of all its other tenants lapse.
const ACQUIRE: &str = "WITH free AS (
        SELECT tenant, version, number FROM release_ledger.generations
        WHERE tenant = $1 AND version = $2 AND number = $3 AND state = $6
            AND (owner IS NULL OR owner = $4 OR owned_until < clock_timestamp() OR NOT EXISTS (
                SELECT FROM pg_stat_activity o
                WHERE o.pid = owner_pid AND coalesce(o.backend_start, owner_began) = owner_began
            ))
        FOR UPDATE SKIP LOCKED
    )
    UPDATE release_ledger.generations g SET owner = $4, owner_pid = a.pid, owner_began = a.backend_start,
        owned_until = clock_timestamp() + make_interval(secs => $5)
    FROM free f, pg_stat_activity a
    WHERE a.pid = pg_backend_pid()
        AND (g.tenant, g.version, g.number) = (f.tenant, f.version, f.number)";

/// What is owned and not named is left to lapse.
const RENEW: &str = "WITH named AS (
        SELECT g.tenant, g.version, g.number FROM release_ledger.generations g
        JOIN unnest($3::text[], $4::integer[]) AS n (tenant, number) USING (tenant, number)
        WHERE g.owner = $1 AND g.version = $2
        FOR UPDATE OF g SKIP LOCKED
    ), renewed AS (
        UPDATE release_ledger.generations g SET owner_pid = a.pid, owner_began = a.backend_start,
            owned_until = clock_timestamp() + make_interval(secs => $5)
        FROM named n, pg_stat_activity a
        WHERE a.pid = pg_backend_pid()
            AND (g.tenant, g.version, g.number) = (n.tenant, n.version, n.number)
    )
    SELECT tenant, number FROM release_ledger.generations WHERE owner = $1 AND version = $2";

/// Not released, it lapses.
const RELEASE: &str = "UPDATE release_ledger.generations g SET owner = NULL, owned_until = NULL
    FROM (
        SELECT tenant, version, number FROM release_ledger.generations
        WHERE owner = $4 AND tenant = $1 AND version = $2 AND number = $3
        FOR UPDATE SKIP LOCKED
    ) AS mine
    WHERE (g.tenant, g.version, g.number) = (mine.tenant, mine.version, mine.number)";

const MEMBERS: &str = "SELECT member, tenants FROM release_ledger.members m
    WHERE version = $1 AND folds AND seen_at > clock_timestamp() - make_interval(secs => $2)
        AND EXISTS (SELECT FROM pg_stat_activity a
            WHERE a.pid = m.pid AND coalesce(a.backend_start, m.began) = m.began)";

const LOCK: &str = "SELECT number, state, coalesce(owner = $3, false) FROM release_ledger.generations
    WHERE tenant = $1 AND version = $2 AND state <> 'retired' ORDER BY number FOR UPDATE";

/// Whoever holds what others wait for, and then does not go on, is cut off by the database.
const BRIEFLY: &str = "SELECT set_config('lock_timeout', '2s', true),
    set_config('idle_in_transaction_session_timeout', '5s', true)";

const PROMOTE: &str = "UPDATE release_ledger.generations SET state = 'live', live_at = clock_timestamp()
    WHERE tenant = $1 AND version = $2 AND number = $3";

const RETIRE: &str = "UPDATE release_ledger.generations SET state = 'retired', retired_at = clock_timestamp()
    WHERE tenant = $1 AND version = $2 AND number = $3";

const WAIT_FOR: &str = "SELECT set_config('lock_timeout', $1, true)";

/// Nobody drops what is live in the form that it knows, nor what another process fills.
const FORGET: &str = "DELETE FROM release_ledger.generations
    WHERE tenant = $1 AND version = $2 AND number = $3
        AND (state = 'retired' OR version < $4 OR state = 'building' AND owner = $5)";

const FORGET_ABSENT: &str =
    "DELETE FROM release_ledger.members WHERE seen_at < clock_timestamp() - make_interval(secs => $1)";

/// Generations of forms that are older than one that is live, and that no process has known for a while.
const OUTDATED: &str = "SELECT tenant, version, number FROM release_ledger.generations g
    WHERE tenant = ANY($1) AND version < $2
        AND EXISTS (SELECT FROM release_ledger.generations l
            WHERE l.tenant = g.tenant AND l.version = $2 AND l.state = 'live'
                AND l.live_at < clock_timestamp() - make_interval(secs => $3))
        AND NOT EXISTS (SELECT FROM release_ledger.members m
            WHERE m.version = g.version AND m.seen_at > clock_timestamp() - make_interval(secs => $3))";

const FOLLOWED: &str = "SELECT position FROM release_ledger.followers WHERE tenant = $1 AND name = $2";

/// Only from where it was read, and of projections that answer still: others may be of another history, in which positions
/// say something else. A switch is waited for.
const FOLLOW: &str = "INSERT INTO release_ledger.followers AS f (tenant, name, position)
    SELECT tenant, $2, $4 FROM release_ledger.generations
    WHERE tenant = $1 AND version = $5 AND number = $6 AND state = 'live'
    FOR SHARE
    ON CONFLICT (tenant, name) DO UPDATE SET position = excluded.position WHERE f.position = $3";

const BEGIN_AGAIN: &str = "UPDATE release_ledger.followers SET position = 0 WHERE tenant = $1";

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

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Live => "live",
            Self::Retired => "retired",
        }
    }
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
    let states = [State::Building, State::Live, State::Retired];
    states.into_iter().find(|state| state.word() == text).ok_or_else(|| Error::Inconsistent {
        table: "generations",
        row: text.to_owned(),
        detail: "it is no state of a generation".into(),
    })
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    /// The version of the projections' form that it knows.
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

    /// Becomes the owner of a generation that nobody owns, if it is still in this state.
    pub(crate) async fn acquire(
        self,
        connection: &mut PgConnection,
        tenant: &str,
        number: i32,
        state: State,
    ) -> Result<bool, Error> {
        let query = sqlx::query(ACQUIRE).bind(tenant).bind(self.version).bind(number).bind(self.id);
        let query = query.bind(LEASE.as_secs_f64()).bind(state.word());
        let acquired = query.execute(connection).await?;
        Ok(acquired.rows_affected() == 1)
    }

    /// Says again that this process folds into these generations; answers which it owns.
    pub(crate) async fn renew(
        self,
        connection: &mut PgConnection,
        folded: &[(String, i32)],
    ) -> Result<Vec<(String, i32)>, Error> {
        let (tenants, numbers): (Vec<&str>, Vec<i32>) =
            folded.iter().map(|(tenant, number)| (tenant.as_str(), *number)).unzip();
        let query = sqlx::query_as(RENEW).bind(self.id).bind(self.version).bind(tenants).bind(numbers);
        Ok(query.bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
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

    /// The processes that fold projections of this version, each with its tenants.
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

    /// Drops a generation, with its tables: one that is retired, one of an older form, or one that this process
    /// fills. Says whether there was such a one. Whoever still reads it is waited for as long as `patience`.
    pub(crate) async fn drop(
        self,
        connection: &mut PgConnection,
        (tenant, version, number): (&str, i32, i32),
        patience: Duration,
    ) -> Result<bool, Error> {
        let mut transaction = connection.begin().await?;
        let patience = format!("{}ms", patience.as_millis());
        sqlx::query(WAIT_FOR).bind(patience).execute(&mut *transaction).await?;
        let forget = sqlx::query(FORGET).bind(tenant).bind(version).bind(number);
        let forget = forget.bind(self.version).bind(self.id).execute(&mut *transaction).await?;
        if forget.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        drop_schema(&mut transaction, &schema(tenant, version, number)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Older forms' generations that no process has needed for as long as `kept`: `(tenant, version, number)`.
    pub(crate) async fn outdated(
        self,
        connection: &mut PgConnection,
        tenants: &[String],
        kept: Duration,
    ) -> Result<Vec<(String, i32, i32)>, Error> {
        let query = sqlx::query_as(OUTDATED).bind(tenants).bind(self.version);
        Ok(query.bind(kept.as_secs_f64()).fetch_all(connection).await?)
    }

    /// The generations that may become or be live, which do not change until the transaction ends. A process that
    /// does not go on with the transaction loses it within seconds.
    pub(crate) async fn lock(
        self,
        transaction: &mut PgConnection,
        tenant: &TenantName,
    ) -> Result<Locked, Error> {
        sqlx::query(BRIEFLY).execute(&mut *transaction).await?;
        let query = sqlx::query_as(LOCK).bind(tenant.as_str()).bind(self.version).bind(self.id);
        let rows: Vec<(i32, String, bool)> = query.fetch_all(transaction).await?;
        let mut locked = Locked { building: None, live: None };
        for (number, text, mine) in rows {
            match state(&text)? {
                State::Building => locked.building = Some((number, mine)),
                State::Live => locked.live = Some(number),
                State::Retired => {}
            }
        }
        Ok(locked)
    }
}

/// A tenant's generations of one form that are not retired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Locked {
    /// The one that is built, and whether the process that asked owns it.
    pub(crate) building: Option<(i32, bool)>,
    /// The one that is live.
    pub(crate) live: Option<i32>,
}

/// Drops a schema with all that is in it, if it is there.
pub(crate) async fn drop_schema(connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
    let drop = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"));
    sqlx::query(drop).execute(connection).await?;
    Ok(())
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

/// Has all followers of a tenant's projections begin again: positions of another history say nothing of this one.
pub(crate) async fn begin_again(connection: &mut PgConnection, tenant: &TenantName) -> Result<(), Error> {
    sqlx::query(BEGIN_AGAIN).bind(tenant.as_str()).execute(connection).await?;
    Ok(())
}

/// How far a follower of the projections has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerCheckpoint {
    /// What it has seen.
    pub position: Position,
    /// Of which generation.
    number: i32,
}

impl Projections {
    /// How far a follower of the projections that answer has come.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn followed(&self, follower: &str) -> Result<FollowerCheckpoint, Error> {
        let (number, pool) = self.answering()?;
        let query = sqlx::query_scalar(FOLLOWED).bind(self.tenant.as_str()).bind(follower);
        let found: Option<i64> = query.fetch_optional(&pool).await?;
        Ok(FollowerCheckpoint { position: found.map_or(Position::START, position), number })
    }

    /// Says how far a follower of the projections has come, from where it was; answers whether it has. It stays where it is
    /// if it is somewhere else meanwhile, or other projections answer: another process was first, or the history is another
    /// one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn follow(
        &self,
        follower: &str,
        from: FollowerCheckpoint,
        to: Position,
    ) -> Result<bool, Error> {
        let query = sqlx::query(FOLLOW).bind(self.tenant.as_str()).bind(follower);
        let query = query.bind(bigint(from.position)).bind(bigint(to));
        let query = query.bind(self.database().schema_version.version).bind(from.number);
        Ok(query.execute(&self.pool()?).await?.rows_affected() == 1)
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
