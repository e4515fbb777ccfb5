//! Deferred indexes of a large rebuild: dropped at its start and created at its end.
//!
//! Only indexes that the projector's own queries do not need are deferred: primary keys and the unique index on
//! identities stay. The definitions are stored in the generation's schema, so that the process that resumes a rebuild
//! creates them.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::generations::digest::tables;
use crate::postgres::Error;
use crate::tables::events::IDENTITY_INDEX;

pub(crate) const STATEMENTS: &[&str] = &[DEFERRABLE];

const DEFERRABLE: &str = "SELECT indexname::text, indexdef FROM pg_indexes i
    WHERE schemaname = current_schema() AND indexname <> $1
        AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname
            AND c.connamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))
    ORDER BY indexname";

const CREATE_TABLE: &str =
    "CREATE TABLE _set_aside (name text NOT NULL PRIMARY KEY, definition text NOT NULL)";
const INSERT: &str = "INSERT INTO _set_aside (name, definition) VALUES ($1, $2)";
const PENDING: &str = "SELECT name, definition FROM _set_aside ORDER BY name";
const DELETE: &str = "DELETE FROM _set_aside WHERE name = $1";
const IS_DEFERRED: &str = "SELECT to_regclass('_set_aside') IS NOT NULL";

/// Drops the deferrable indexes of empty tables and stores their definitions, in the caller's transaction.
pub(crate) async fn defer(transaction: &mut PgConnection) -> Result<(), Error> {
    if sqlx::query_scalar(IS_DEFERRED).fetch_one(&mut *transaction).await? {
        return Ok(());
    }
    sqlx::query(CREATE_TABLE).execute(&mut *transaction).await?;
    let found: Vec<(String, String)> =
        sqlx::query_as(DEFERRABLE).bind(IDENTITY_INDEX).fetch_all(&mut *transaction).await?;
    for (name, definition) in found {
        sqlx::query(INSERT).bind(&name).bind(definition).execute(&mut *transaction).await?;
        let drop = AssertSqlSafe(format!("DROP INDEX \"{name}\""));
        sqlx::query(drop).execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Creates the deferred indexes, if any. Then analyses all tables, so that the first queries after a bulk load have
/// statistics.
pub(crate) async fn create_deferred(connection: &mut PgConnection) -> Result<(), Error> {
    if !sqlx::query_scalar(IS_DEFERRED).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let pending: Vec<(String, String)> = sqlx::query_as(PENDING).fetch_all(&mut *connection).await?;
    for (name, definition) in pending {
        let mut transaction = connection.begin().await?;
        sqlx::query(AssertSqlSafe(definition)).execute(&mut *transaction).await?;
        sqlx::query(DELETE).bind(name).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    for table in tables(connection).await? {
        sqlx::query(AssertSqlSafe(format!("ANALYZE \"{table}\""))).execute(&mut *connection).await?;
    }
    sqlx::query("DROP TABLE _set_aside").execute(connection).await?;
    Ok(())
}
