//! Foreign entries: what the stream holds that is no event of a ledger. They have a leaf in the tree and no effect.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::ForeignReason;
use ledger_domain::Position;
use ledger_journal::Entry;
use ledger_tlog::Hash;

use crate::Projections;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed};
use crate::sql::sql;
use crate::tables::events::EntryBytes;

/// An entry that is no event of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignEntry {
    /// Position of the entry.
    pub position: Position,
    /// Time at which the journal stored the entry.
    pub recorded_at: DateTime<Utc>,
    /// The part of an event that it lacks, as a word of [`ForeignReason`].
    pub reason: String,
    /// Leaf hash in the Merkle tree.
    pub leaf_hash: Hash,
}

insert_row! {
    /// Row of `foreign_entries`.
    pub(crate) struct ForeignEntryInsert => "foreign_entries" {
        position: i64,
        recorded_at: DateTime<Utc>,
        reason: &'static str,
        leaf_hash: [u8; Hash::LENGTH],
        bytes: EntryBytes,
    }
}

impl ForeignEntryInsert {
    pub(crate) fn new(entry: &Entry, lacks: ForeignReason, leaf_hash: &Hash) -> Self {
        Self {
            position: bigint(entry.position),
            recorded_at: entry.recorded_at,
            reason: lacks.as_str(),
            leaf_hash: *leaf_hash.as_bytes(),
            bytes: EntryBytes(entry.bytes.clone()),
        }
    }
}

impl Projections {
    /// Returns the foreign entry at a position; `None` if there is none.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn foreign_entry(&self, at: Position) -> Result<Option<ForeignEntry>, Error> {
        type Row = (DateTime<Utc>, String, Vec<u8>);
        let query = sqlx::query_as(sql!("foreign_entries/find")).bind(bigint(at));
        let row: Option<Row> = query.fetch_optional(&self.pool()?).await?;
        let Some((recorded_at, reason, hash)) = row else { return Ok(None) };
        let hash = <[u8; Hash::LENGTH]>::try_from(hash);
        let leaf_hash = parsed("foreign_entries", at, || {
            hash.map(Hash::from).map_err(|_| "its leaf hash has another length")
        })?;
        Ok(Some(ForeignEntry { position: at, recorded_at, reason, leaf_hash }))
    }
}
