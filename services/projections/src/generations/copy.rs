//! The second full copy of the ledger, read back as what the journal gave.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use ledger_domain::Position;
use ledger_journal::{Entry, ReadError, Record};
use sqlx::PgConnection;

use crate::Projections;
use crate::postgres::{Error, bigint, parsed, position};
use crate::projector::pipeline::GenerationHandle;

pub(crate) const STATEMENTS: &[&str] = &[COPY];

/// Either is sorted by its own index, and no more is read of it than is wanted.
const COPY: &str = "SELECT position, recorded_at, leaf_hash, bytes FROM (
        (SELECT position, recorded_at, leaf_hash, bytes FROM events WHERE position > $1 AND position <= $2
            ORDER BY position LIMIT $3)
        UNION ALL
        (SELECT position, NULL, NULL, NULL FROM gaps WHERE position > $1 AND position <= $2
            ORDER BY position LIMIT $3)
    ) AS copy
    ORDER BY position LIMIT $3";

/// Records that are read at a time.
pub(crate) const PAGE: u32 = 1_000;

/// What the copy has at a position.
pub(crate) struct Copied {
    pub(crate) position: Position,
    /// The entry, and the leaf hash that is kept beside it; `None` for a gap.
    pub(crate) entry: Option<(Entry, Vec<u8>)>,
}

impl Projections {
    /// What the journal had after a position, in order and without a hole, at most `limit` records: entries, and
    /// gaps. It ends where the projections stand.
    ///
    /// # Errors
    /// The database does not answer, or lacks a position.
    pub async fn copy(&self, after: Position, limit: u32) -> Result<Vec<Record>, Error> {
        let mut connection = self.pool()?.acquire().await?;
        page(&mut connection, after, Position::new(i64::MAX.cast_unsigned()), limit).await
    }
}

/// The records of a generation's copy after a position, up to another.
pub(crate) fn read(
    target: GenerationHandle,
    after: Position,
    up_to: Position,
) -> BoxStream<'static, Result<Record, ReadError>> {
    let unreadable =
        |error: String| ReadError(format!("the copy in the projections cannot be read: {error}"));
    let pages = stream::try_unfold((None, after), move |(connection, after)| {
        let target = target.clone();
        async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => target.connect().await.map_err(|ended| unreadable(format!("{ended:?}")))?,
            };
            let records = page(&mut connection, after, up_to, PAGE).await;
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
    let rows = copied(connection, after, up_to, limit).await?;
    let records =
        (after.get() + 1..).zip(rows).map(|(expected, Copied { position, entry })| {
            parsed("events", expected, || {
                if position.get() == expected { Ok(()) } else { Err("it is missing") }
            })?;
            Ok(entry.map_or(Record::Gap(position), |(entry, _)| Record::Entry(entry)))
        });
    records.collect()
}

/// The rows of the copy after a position, up to another, in order; a position that it has lost is not among them.
pub(crate) async fn copied(
    connection: &mut PgConnection,
    after: Position,
    up_to: Position,
    limit: u32,
) -> Result<Vec<Copied>, Error> {
    type Row = (i64, Option<DateTime<Utc>>, Option<Vec<u8>>, Option<Vec<u8>>);
    let query = sqlx::query_as(COPY).bind(bigint(after)).bind(bigint(up_to)).bind(i64::from(limit));
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    let copied = |(at, recorded_at, leaf, bytes): Row| {
        let position = position(at);
        let entry = recorded_at.zip(bytes).zip(leaf).map(|((recorded_at, bytes), leaf)| {
            (Entry { position, recorded_at, bytes: Bytes::from(bytes) }, leaf)
        });
        Copied { position, entry }
    };
    Ok(rows.into_iter().map(copied).collect())
}
