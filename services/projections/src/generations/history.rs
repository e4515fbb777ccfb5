//! Marks of a history: an entry by which a reader that keeps positions notices that they now name other entries.
//!
//! Another generation of the same history has the same entries at the same positions. One of another history, as after a
//! restore that lost the last entries, has other entries, or none, from some position on.

use ledger_domain::Position;
use ledger_tlog::Hash;

use crate::Projections;
use crate::postgres::{Error, bigint, position};
use crate::sql::sql;
use crate::tables::events::{EntrySummary, RecordedEntry, leaf_hash};

/// An entry that identifies the history up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryMark {
    /// Position of the entry.
    pub position: Position,
    /// Its leaf hash, which covers its position, time and bytes.
    pub leaf_hash: Hash,
}

impl RecordedEntry {
    /// Returns the mark of the history up to this entry.
    #[must_use]
    pub const fn mark(&self) -> HistoryMark {
        HistoryMark { position: self.position, leaf_hash: self.leaf_hash }
    }
}

impl EntrySummary {
    /// Returns the mark of the history up to this entry.
    #[must_use]
    pub const fn mark(&self) -> HistoryMark {
        HistoryMark { position: self.position, leaf_hash: self.leaf_hash }
    }
}

impl Projections {
    /// Returns the mark of the last entry; `None` if there is no entry.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn history_mark(&self) -> Result<Option<HistoryMark>, Error> {
        let query = sqlx::query_as(sql!("events/last_leaf"));
        let row: Option<(i64, Vec<u8>)> = query.fetch_optional(&self.pool()?).await?;
        row.map(|(at, hash)| Ok(HistoryMark { position: position(at), leaf_hash: leaf_hash(at, &hash)? }))
            .transpose()
    }

    /// Returns true if the active generation has the entry of a mark: its history continues the marked one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn has_mark(&self, mark: HistoryMark) -> Result<bool, Error> {
        let query = sqlx::query_scalar(sql!("events/leaf_at")).bind(bigint(mark.position));
        let found: Option<Vec<u8>> = query.fetch_optional(&self.pool()?).await?;
        let found = found.map(|hash| leaf_hash(bigint(mark.position), &hash)).transpose()?;
        Ok(found == Some(mark.leaf_hash))
    }
}
