//! Verifies that the stream, its copy in Postgres and the Merkle tree agree.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use ledger_codec::cloudevents::StoredEntry;
use ledger_domain::Position;
use ledger_journal::{Journal, ReadError, Record, SubjectFilter, Until};
use ledger_tlog::{Hash, Tile, Tree, gap_leaf_hash, leaf_hash};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use crate::generations::copy::{CopyRow, PAGE_SIZE, read_rows};
use crate::postgres::{Error, Projections, SNAPSHOT};
use crate::projector::checkpoint;
use crate::projector::pipeline::close;
use crate::projector::tree::is_stored;
use crate::sql::sql;

/// Time without progress after which the projector of projections that are behind the stream counts as stopped. A
/// projector that works writes a batch in less.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which the position of the projections is read meanwhile.
const STALL_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A failure to verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database does not answer.
    #[error(transparent)]
    Projections(#[from] Error),
    /// The journal does not answer.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl From<sqlx::Error> for VerifyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Projections(error.into())
    }
}

/// The range that agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRange {
    /// The last position that was compared.
    pub position: Position,
    /// The root of the Merkle tree there.
    pub root: Hash,
    /// The number of gaps up to that position.
    pub gaps: u64,
}

/// The first difference. Everything before it agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The stream was recreated after the projections were built. It may still hold the same entries.
    StreamRecreated {
        /// Creation time of the stream that the projections were built from.
        projected: DateTime<Utc>,
        /// Creation time of the current stream.
        found: DateTime<Utc>,
    },
    /// The copy has an entry that the stream lacks.
    MissingInStream(Position),
    /// The copy lacks a position that the stream has.
    MissingInCopy(Position),
    /// The copy has a gap, the stream an entry.
    GapInCopy(Position),
    /// The entries at a position differ.
    EntryMismatch {
        /// The position.
        position: Position,
        /// The leaf hash of the stream's entry.
        stream: Hash,
        /// The leaf hash of the copy's entry.
        copy: Hash,
    },
    /// The recording times of an entry differ.
    TimeMismatch(Position),
    /// The stored leaf hash does not match the copy's entry.
    LeafHashMismatch(Position),
    /// The stored leaf hash of the last entry does not match the entries.
    CheckpointMismatch(Position),
    /// A stored tile of the Merkle tree does not match the entries.
    TileMismatch {
        /// The level of the tile.
        level: i16,
        /// The index in the level.
        index: i64,
    },
    /// The stored root does not match the entries.
    RootMismatch {
        /// The number of entries under the root.
        position: Position,
        /// The stored root.
        stored: Hash,
        /// The root that the entries give.
        computed: Hash,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StreamRecreated { projected, found } => write!(
                f,
                "the stream was created at {found}, but the projections come from one created at {projected}"
            ),
            Self::MissingInStream(at) => write!(f, "position {at}: the stream lacks the copy's entry"),
            Self::MissingInCopy(at) => write!(f, "position {at}: missing in the copy"),
            Self::GapInCopy(at) => write!(f, "position {at}: the copy has a gap, the stream has an entry"),
            Self::EntryMismatch { position, stream, copy } => write!(
                f,
                "position {position}: the stream's entry has leaf hash {stream}, the copy's entry has {copy}"
            ),
            Self::TimeMismatch(at) => {
                write!(f, "position {at}: stream and copy have different recording times")
            }
            Self::LeafHashMismatch(at) => {
                write!(f, "position {at}: the stored leaf hash does not match the copy's entry")
            }
            Self::CheckpointMismatch(at) => {
                write!(
                    f,
                    "the checkpoint's leaf hash of the entry at position {at} does not match the entries"
                )
            }
            Self::TileMismatch { level, index } => {
                write!(f, "tile {index} of level {level} does not match the entries")
            }
            Self::RootMismatch { position, stored, computed } => {
                write!(f, "the stored root of {position} entries is {stored}, but they give {computed}")
            }
        }
    }
}

/// Projections that are behind the stream, and that no projector advances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// The position of the projections.
    pub position: Position,
    /// The head of the stream.
    pub head: Position,
    /// Reason why this program cannot apply the next entry either, if it cannot.
    pub reason: Option<String>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, head, reason } = self;
        write!(f, "the stream ends at position {head}, but the projections stay at {position}: ")?;
        match reason {
            Some(reason) => {
                write!(f, "the entry at position {} cannot be decoded: {reason}", position.next())
            }
            None => f.write_str("no projector advances them"),
        }
    }
}

impl Projections {
    /// Returns the stall of the projections; `None` if they have reached the head of the journal, or advance within
    /// five seconds.
    ///
    /// # Errors
    /// The database or the journal does not answer.
    pub async fn stall(&self, journal: &dyn Journal) -> Result<Option<Stall>, VerifyError> {
        let position = self.checkpoint().await?.position;
        let head = journal.head().await?.position;
        if position >= head {
            return Ok(None);
        }
        let deadline = Instant::now() + STALL_TIMEOUT;
        while Instant::now() < deadline {
            tokio::time::sleep(STALL_POLL_INTERVAL).await;
            if self.checkpoint().await?.position != position {
                return Ok(None);
            }
        }
        let next = journal.entry(position.next()).await?;
        let reason = next.and_then(|entry| match StoredEntry::parse(entry.bytes) {
            StoredEntry::Newer(reason) => Some(reason.to_string()),
            StoredEntry::Event(_) | StoredEntry::Foreign { .. } => None,
        });
        Ok(Some(Stall { position, head, reason }))
    }

    /// Compares the stream with the copy, entry by entry, and both with the Merkle tree, up to the position of the
    /// projections. Calls `report` with the current and the last position once per page. Does not compare the other
    /// tables: [`Rebuild`](crate::Rebuild) does.
    ///
    /// # Errors
    /// The database or the journal does not answer.
    pub async fn verify(
        &self,
        journal: &dyn Journal,
        mut report: impl FnMut(Position, Position),
    ) -> Result<Result<VerifiedRange, Difference>, VerifyError> {
        // The active generation may have been dropped since the last registry read.
        self.activate_live().await?;
        let Some(number) = self.active_number() else {
            return Err(Error::NotReady("no generation is live".into()).into());
        };
        let options = self.database().generation_options(&self.schema(number), "verify");
        let mut connection = PgConnection::connect_with(&options).await?;
        let mut snapshot = connection.begin_with(SNAPSHOT).await?;
        let checkpoint = checkpoint::read(&mut snapshot).await?;
        let head = journal.head().await?;
        if let Some(projected) = checkpoint.stream_created.filter(|created| *created != head.created) {
            return Ok(Err(Difference::StreamRecreated { projected, found: head.created }));
        }
        let end = checkpoint.position;
        let mut records = journal.read(SubjectFilter::All, Position::START, Until::Position(end));
        let mut rows: std::vec::IntoIter<CopyRow> = Vec::new().into_iter();
        let (mut tree, mut gaps) = (Tree::new(), 0);
        let mut last_leaf = None;
        let mut tiles = TileSums::default();
        let mut at = Position::START;
        while at < end {
            at = at.next();
            if rows.len() == 0 {
                let after = Position::new(at.get() - 1);
                rows = read_rows(&mut snapshot, after, end, PAGE_SIZE).await?.into_iter();
                report(at, end);
            }
            let record = records.next().await.transpose()?;
            let row = rows.next().filter(|row| row.position == at);
            let leaf = match compare(at, record, row) {
                Ok(leaf) => leaf,
                Err(difference) => return Ok(Err(difference)),
            };
            gaps += u64::from(leaf.is_none());
            let leaf = leaf.unwrap_or_else(|| gap_leaf_hash(at.get()));
            tree.append(leaf);
            last_leaf = Some(leaf);
            if at.get().is_multiple_of(u64::from(PAGE_SIZE)) {
                tiles.add(tree.take_dirty());
            }
        }
        tiles.add(tree.take_dirty());
        let (stored, computed) = (checkpoint.root, tree.root());
        let mut found: Option<Difference> = None;
        let mut stored_tiles =
            sqlx::query_as::<_, (i16, i64, Vec<u8>)>(sql!("tiles/all")).fetch(&mut *snapshot);
        while let Some(row) = stored_tiles.next().await {
            let (level, index, hashes) = row?;
            if !tiles.remove_matching(level, index, &hashes) {
                found = Some(Difference::TileMismatch { level, index });
                break;
            }
        }
        drop(stored_tiles);
        if found.is_none() {
            found = tiles.remaining().map(|(level, index)| Difference::TileMismatch { level, index });
        }
        if found.is_none() && checkpoint.leaf_hash != last_leaf {
            found = Some(Difference::CheckpointMismatch(end));
        }
        if found.is_none() && stored != computed {
            found = Some(Difference::RootMismatch { position: end, stored, computed });
        }
        snapshot.rollback().await?;
        close(connection).await;
        Ok(found.map_or(Ok(VerifiedRange { position: end, root: computed, gaps }), Err))
    }
}

/// Returns the leaf hash at a position if the stream and the copy agree; `None` for a gap.
fn compare(at: Position, record: Option<Record>, row: Option<CopyRow>) -> Result<Option<Hash>, Difference> {
    match (record, row.map(|row| row.entry)) {
        (Some(Record::Entry(entry)), Some(Some((copy, stored_leaf)))) => {
            let (leaf, copy_leaf) = (entry.leaf_hash(), copy.leaf_hash());
            if entry.bytes != copy.bytes {
                Err(Difference::EntryMismatch { position: at, stream: leaf, copy: copy_leaf })
            } else if entry.recorded_at != copy.recorded_at {
                Err(Difference::TimeMismatch(at))
            } else if stored_leaf != leaf.as_bytes() {
                Err(Difference::LeafHashMismatch(at))
            } else {
                Ok(Some(leaf))
            }
        }
        (Some(Record::Entry(_)), Some(None)) => Err(Difference::GapInCopy(at)),
        (Some(Record::Entry(_)), None) => Err(Difference::MissingInCopy(at)),
        (Some(Record::Gap(_)) | None, Some(Some(_))) => Err(Difference::MissingInStream(at)),
        (Some(Record::Gap(_)) | None, Some(None)) => Ok(None),
        (Some(Record::Gap(_)) | None, None) => Err(Difference::MissingInCopy(at)),
    }
}

/// Hashes of the stored tiles that the entries give, by level and index.
#[derive(Default)]
struct TileSums(std::collections::BTreeMap<(i16, i64), Hash>);

impl TileSums {
    fn add(&mut self, tiles: Vec<Tile>) {
        for tile in tiles.into_iter().filter(is_stored) {
            let bytes: Vec<u8> = tile.hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect();
            self.0.insert((tile.level.into(), tile.index.cast_signed()), leaf_hash(&bytes));
        }
    }

    /// Removes a tile, and returns true if it exists and has these hashes.
    fn remove_matching(&mut self, level: i16, index: i64, hashes: &[u8]) -> bool {
        self.0.remove(&(level, index)) == Some(leaf_hash(hashes))
    }

    /// Returns a tile that was not removed.
    fn remaining(&self) -> Option<(i16, i64)> {
        self.0.keys().next().copied()
    }
}
