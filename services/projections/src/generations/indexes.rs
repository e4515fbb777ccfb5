//! Deferred indexes of a large rebuild: dropped at its start and created at its end.
//!
//! Only indexes that the projector's own queries do not need are deferred: primary keys and the unique index on
//! identities stay. The definitions are stored in the generation's schema, so that the process that resumes a rebuild
//! creates them.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::generations::digest::tables;
use crate::postgres::Error;
use crate::sql::sql;
use crate::tables::events::IDENTITY_INDEX;

/// Drops the deferrable indexes of empty tables and stores their definitions, in the caller's transaction.
pub(crate) async fn defer(transaction: &mut PgConnection) -> Result<(), Error> {
    if sqlx::query_scalar(sql!("deferred_indexes/is_deferred")).fetch_one(&mut *transaction).await? {
        return Ok(());
    }
    sqlx::query(sql!("deferred_indexes/create_table")).execute(&mut *transaction).await?;
    let found: Vec<(String, String)> = sqlx::query_as(sql!("deferred_indexes/deferrable"))
        .bind(IDENTITY_INDEX)
        .fetch_all(&mut *transaction)
        .await?;
    for (name, definition) in found {
        sqlx::query(sql!("deferred_indexes/insert"))
            .bind(&name)
            .bind(definition)
            .execute(&mut *transaction)
            .await?;
        let drop = AssertSqlSafe(format!("DROP INDEX \"{name}\""));
        sqlx::query(drop).execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Creates the deferred indexes, if any. Then analyses all tables, so that the first queries after a bulk load have
/// statistics.
pub(crate) async fn create_deferred(connection: &mut PgConnection) -> Result<(), Error> {
    if !sqlx::query_scalar(sql!("deferred_indexes/is_deferred")).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let pending: Vec<(String, String)> =
        sqlx::query_as(sql!("deferred_indexes/pending")).fetch_all(&mut *connection).await?;
    for (name, definition) in pending {
        let mut transaction = connection.begin().await?;
        sqlx::query(AssertSqlSafe(definition)).execute(&mut *transaction).await?;
        sqlx::query(sql!("deferred_indexes/delete")).bind(name).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    for table in tables(connection).await? {
        sqlx::query(AssertSqlSafe(format!("ANALYZE \"{table}\""))).execute(&mut *connection).await?;
    }
    sqlx::query(sql!("deferred_indexes/drop_table")).execute(connection).await?;
    Ok(())
}
