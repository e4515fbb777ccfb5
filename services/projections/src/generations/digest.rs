//! What the tables of a generation hold, in a few bytes.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::generations::rebuilder::RowDifference;
use crate::postgres::Error;

pub(crate) const STATEMENTS: &[&str] = &[TABLES];

/// The tables of the projections; those that begin with `_` are others'.
const TABLES: &str = "SELECT table_name::text FROM information_schema.tables
    WHERE table_schema = current_schema() AND table_name NOT LIKE '\\_%' ORDER BY 1";

/// What a table holds: how many rows, and the sum of 64 bits of each row's MD5 hash, which does not depend on
/// their order. It tells an accident, not a forgery: that is the Merkle tree's part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableDigest {
    /// Rows.
    pub rows: u64,
    /// The sum, in decimal.
    pub sum: String,
}

/// The tables of a generation, by name.
pub(crate) async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(TABLES).fetch_all(connection).await?)
}

/// What every table holds. Which stream the projections are of (`projection.stream_created`) is not what they hold: a
/// restored stream is another one with the same entries.
pub(crate) async fn digests(connection: &mut PgConnection) -> Result<BTreeMap<String, TableDigest>, Error> {
    // A row's text must not depend on the session.
    sqlx::query("SET TIME ZONE 'UTC'").execute(&mut *connection).await?;
    let mut digests = BTreeMap::new();
    for table in tables(connection).await? {
        let row = row_of(&table);
        let query = AssertSqlSafe(format!(
            "SELECT count(*), coalesce(sum(('x' || left(md5(({row})::text), 16))::bit(64)::bigint::numeric), 0)::text
            FROM \"{table}\" t"
        ));
        let (rows, sum): (i64, String) = sqlx::query_as(query).fetch_one(&mut *connection).await?;
        digests.insert(table, TableDigest { rows: rows.cast_unsigned(), sum });
    }
    Ok(digests)
}

/// The columns of a table that say what it holds.
fn row_of(table: &str) -> &'static str {
    match table {
        "projection" => "(t.position, t.leaf_hash, t.root)",
        _ => "t",
    }
}

/// The first row, by its text, that only one of two generations has in a table. Both are read to there, and no row
/// of them is kept.
pub(crate) async fn first_difference(
    answering: &mut PgConnection,
    new: &mut PgConnection,
    table: &str,
) -> Result<Option<RowDifference>, Error> {
    let row = row_of(table);
    let query = || format!("SELECT ({row})::text FROM \"{table}\" t ORDER BY ({row})::text COLLATE \"C\"");
    let (ours, theirs) = (AssertSqlSafe(query()), AssertSqlSafe(query()));
    let mut answering = sqlx::query_scalar::<_, String>(ours).fetch(answering).fuse();
    let mut new = sqlx::query_scalar::<_, String>(theirs).fetch(new).fuse();
    loop {
        let (one, other) = (answering.try_next().await?, new.try_next().await?);
        let (answers, text) = match (one, other) {
            (None, None) => return Ok(None),
            (Some(one), Some(other)) if one == other => continue,
            (Some(one), Some(other)) => {
                if one < other {
                    (true, one)
                } else {
                    (false, other)
                }
            }
            (Some(one), None) => (true, one),
            (None, Some(other)) => (false, other),
        };
        return Ok(Some(RowDifference { answers, table: table.to_owned(), text }));
    }
}
