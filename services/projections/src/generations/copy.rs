//! Reads the copy of the journal in the tables `events`, `foreign_entries` and `gaps` back as journal records.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use ledger_domain::Position;
use ledger_journal::{Entry, ReadError, Record};
use sqlx::PgConnection;

use crate::postgres::{Error, Projections, bigint, parsed, position};
use crate::projector::pipeline::GenerationHandle;
use crate::sql::sql;

/// Records per page.
pub(crate) const PAGE_SIZE: u32 = 1_000;

/// A row of the copy.
pub(crate) struct CopyRow {
    pub(crate) position: Position,
    /// The entry and its stored leaf hash; `None` for a gap.
    pub(crate) entry: Option<(Entry, Vec<u8>)>,
}

impl Projections {
    /// Returns at most `limit` records of the copy after a position: entries and gaps, in order, with no position
    /// missing. The copy ends at the position of the projections.
    ///
    /// # Errors
    /// The database does not answer, or a position is missing.
    pub async fn copy(&self, after: Position, limit: u32) -> Result<Vec<Record>, Error> {
        let mut connection = self.pool()?.acquire().await?;
        page(&mut connection, after, Position::new(i64::MAX.cast_unsigned()), limit).await
    }
}

/// Streams the records of a generation's copy after one position, up to another.
pub(crate) fn read(
    generation: GenerationHandle,
    after: Position,
    up_to: Position,
) -> BoxStream<'static, Result<Record, ReadError>> {
    let unreadable = |error: String| ReadError(format!("cannot read the copy in the projections: {error}"));
    let pages = stream::try_unfold((None, after), move |(connection, after)| {
        let generation = generation.clone();
        async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => generation.connect().await.map_err(|error| unreadable(format!("{error:?}")))?,
            };
            let records = page(&mut connection, after, up_to, PAGE_SIZE).await;
            let records = records.map_err(|error| unreadable(error.to_string()))?;
            let Some(last) = records.last().map(Record::position) else { return Ok(None) };
            Ok(Some((records, (Some(connection), last))))
        }
    });
    pages.map_ok(|records| stream::iter(records.into_iter().map(Ok))).try_flatten().boxed()
}

async fn page(
    connection: &mut PgConnection,
    after: Position,
    up_to: Position,
    limit: u32,
) -> Result<Vec<Record>, Error> {
    let rows = read_rows(connection, after, up_to, limit).await?;
    let records =
        (after.get() + 1..).zip(rows).map(|(expected, CopyRow { position, entry })| {
            parsed("events", expected, || {
                if position.get() == expected { Ok(()) } else { Err("it is missing") }
            })?;
            Ok(entry.map_or(Record::Gap(position), |(entry, _)| Record::Entry(entry)))
        });
    records.collect()
}

/// Returns the rows of the copy after one position, up to another, in order. A position that the copy lacks has no row.
pub(crate) async fn read_rows(
    connection: &mut PgConnection,
    after: Position,
    up_to: Position,
    limit: u32,
) -> Result<Vec<CopyRow>, Error> {
    type Row = (i64, Option<DateTime<Utc>>, Option<Vec<u8>>, Option<Vec<u8>>);
    let query =
        sqlx::query_as(sql!("copy/page")).bind(bigint(after)).bind(bigint(up_to)).bind(i64::from(limit));
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    let copy_row = |(at, recorded_at, leaf, bytes): Row| {
        let position = position(at);
        let entry = recorded_at.zip(bytes).zip(leaf).map(|((recorded_at, bytes), leaf)| {
            (Entry { position, recorded_at, bytes: Bytes::from(bytes) }, leaf)
        });
        CopyRow { position, entry }
    };
    Ok(rows.into_iter().map(copy_row).collect())
}
