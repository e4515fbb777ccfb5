//! Indexes of projections that are filled from the beginning: made at the end, all at once.
//!
//! Only those are set aside that no question of the projector needs: what keeps an identity from having two
//! effects, and primary keys, stay. What is set aside is written down beside the projections, so that whoever takes
//! the filling up finishes it.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::generations::digest::tables;
use crate::postgres::Error;
use crate::tables::events::IDENTITY_INDEX;

pub(crate) const STATEMENTS: &[&str] = &[FOUND];

const FOUND: &str = "SELECT indexname::text, indexdef FROM pg_indexes i
    WHERE schemaname = current_schema() AND indexname <> $1
        AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname
            AND c.connamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))
    ORDER BY indexname";

const MAKE: &str = "CREATE TABLE _set_aside (name text NOT NULL PRIMARY KEY, definition text NOT NULL)";
const WRITE: &str = "INSERT INTO _set_aside (name, definition) VALUES ($1, $2)";
const LEFT: &str = "SELECT name, definition FROM _set_aside ORDER BY name";
const DONE: &str = "DELETE FROM _set_aside WHERE name = $1";
const IS_THERE: &str = "SELECT to_regclass('_set_aside') IS NOT NULL";

/// Drops the indexes of empty tables, and writes down what they were, in the caller's transaction.
pub(crate) async fn set_aside(transaction: &mut PgConnection) -> Result<(), Error> {
    if sqlx::query_scalar(IS_THERE).fetch_one(&mut *transaction).await? {
        return Ok(());
    }
    sqlx::query(MAKE).execute(&mut *transaction).await?;
    let found: Vec<(String, String)> =
        sqlx::query_as(FOUND).bind(IDENTITY_INDEX).fetch_all(&mut *transaction).await?;
    for (name, definition) in found {
        sqlx::query(WRITE).bind(&name).bind(definition).execute(&mut *transaction).await?;
        let drop = AssertSqlSafe(format!("DROP INDEX \"{name}\""));
        sqlx::query(drop).execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Makes the indexes that were set aside, if any were; and has Postgres look at tables that were filled at once,
/// so that the first questions are not the ones that find out what is in them.
pub(crate) async fn finish(connection: &mut PgConnection) -> Result<(), Error> {
    if !sqlx::query_scalar(IS_THERE).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let left: Vec<(String, String)> = sqlx::query_as(LEFT).fetch_all(&mut *connection).await?;
    for (name, definition) in left {
        let mut transaction = connection.begin().await?;
        sqlx::query(AssertSqlSafe(definition)).execute(&mut *transaction).await?;
        sqlx::query(DONE).bind(name).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    for table in tables(connection).await? {
        sqlx::query(AssertSqlSafe(format!("ANALYZE \"{table}\""))).execute(&mut *connection).await?;
    }
    sqlx::query("DROP TABLE _set_aside").execute(connection).await?;
    Ok(())
}
