//! Digests of a generation's tables, and the first row in which two generations differ.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::postgres::{Error, SET_TIME_ZONE};
use crate::sql::sql;

/// A digest of a table's contents that does not depend on the order of rows. It detects accidents, not forgeries: those
/// are detected by the Merkle tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableDigest {
    /// The number of rows.
    pub rows: u64,
    /// The sum over all rows of the first 64 bits of each row's MD5 hash, in decimal.
    pub sum: String,
}

/// A row that only one of two generations contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// True if the live generation contains it, false if the new one does.
    pub answers: bool,
    /// The table.
    pub table: String,
    /// The row in Postgres' text form.
    pub text: String,
}

/// Returns the tables of a generation in the order of their names.
pub(crate) async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(sql!("generations/tables")).fetch_all(connection).await?)
}

/// Computes the digest of every table. `projection.stream_created` is excluded: a restored stream has the same entries
/// but another creation time.
pub(crate) async fn digests(connection: &mut PgConnection) -> Result<BTreeMap<String, TableDigest>, Error> {
    sqlx::query(SET_TIME_ZONE).execute(&mut *connection).await?;
    let mut digests = BTreeMap::new();
    for table in tables(connection).await? {
        let row = compared_columns(&table);
        let query = AssertSqlSafe(format!(
            "SELECT count(*), coalesce(sum(('x' || left(md5(({row})::text), 16))::bit(64)::bigint::numeric), 0)::text
            FROM \"{table}\" t"
        ));
        let (rows, sum): (i64, String) = sqlx::query_as(query).fetch_one(&mut *connection).await?;
        digests.insert(table, TableDigest { rows: rows.cast_unsigned(), sum });
    }
    Ok(digests)
}

/// Returns the SQL expression for the columns of a table that are compared.
fn compared_columns(table: &str) -> &'static str {
    match table {
        "projection" => "(t.position, t.leaf_hash, t.root)",
        _ => "t",
    }
}

/// Returns the first row, in the order of the rows' text, that only one of two generations contains. Streams both
/// tables up to that row.
pub(crate) async fn first_difference(
    live: &mut PgConnection,
    new: &mut PgConnection,
    table: &str,
) -> Result<Option<RowDifference>, Error> {
    let row = compared_columns(table);
    let query = || format!("SELECT ({row})::text FROM \"{table}\" t ORDER BY ({row})::text COLLATE \"C\"");
    let (live_query, new_query) = (AssertSqlSafe(query()), AssertSqlSafe(query()));
    let mut live_rows = sqlx::query_scalar::<_, String>(live_query).fetch(live).fuse();
    let mut new_rows = sqlx::query_scalar::<_, String>(new_query).fetch(new).fuse();
    loop {
        let (live_row, new_row) = (live_rows.try_next().await?, new_rows.try_next().await?);
        let (answers, text) = match (live_row, new_row) {
            (None, None) => return Ok(None),
            (Some(live), Some(new)) if live == new => continue,
            (Some(live), Some(new)) => {
                if live < new {
                    (true, live)
                } else {
                    (false, new)
                }
            }
            (Some(live), None) => (true, live),
            (None, Some(new)) => (false, new),
        };
        return Ok(Some(RowDifference { answers, table: table.to_owned(), text }));
    }
}
