//! The second full copy of the ledger, read in order: entries and gaps, as the journal would return them.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{Entry, Record};

use crate::Views;
use crate::database::{Error, bigint, parsed, position};

pub(crate) const STATEMENTS: &[&str] = &[COPY];

/// Either is sorted by its own index, and no more is read of it than is wanted.
const COPY: &str = "SELECT position, recorded_at, bytes FROM (
        (SELECT position, recorded_at, bytes FROM events WHERE position > $1 ORDER BY position LIMIT $2)
        UNION ALL
        (SELECT position, NULL, NULL FROM gaps WHERE position > $1 ORDER BY position LIMIT $2)
    ) AS copy
    ORDER BY position LIMIT $2";

impl Views {
    /// What the journal had after a position, in order and without a hole, at most `limit` records; none at
    /// the end.
    ///
    /// # Errors
    /// The database does not answer, or lacks a position.
    pub async fn copy(&self, after: Position, limit: u32) -> Result<Vec<Record>, Error> {
        type Row = (i64, Option<DateTime<Utc>>, Option<Vec<u8>>);
        let query = sqlx::query_as(COPY).bind(bigint(after)).bind(i64::from(limit));
        let rows: Vec<Row> = query.fetch_all(&self.pool).await?;
        let records = (after.get() + 1..).zip(rows).map(|(expected, (at, recorded_at, bytes))| {
            let position = position(at);
            parsed("events", expected, || {
                if position.get() == expected { Ok(()) } else { Err("it is missing") }
            })?;
            Ok(match recorded_at.zip(bytes) {
                Some((recorded_at, bytes)) => {
                    Record::Entry(Entry { position, recorded_at, bytes: Bytes::from(bytes) })
                }
                None => Record::Gap(position),
            })
        });
        records.collect()
    }
}
