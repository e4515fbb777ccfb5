//! Whether the stream, the copy of it, the Merkle tree and the projections still say the same.

use std::fmt;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use ledger_domain::Position;
use ledger_journal::{Journal, ReadError, Record, SubjectFilter, Until};
use ledger_tlog::{Hash, Tile, Tree, gap_leaf_hash, leaf_hash};
use sqlx::{Connection, PgConnection};

use crate::Projections;
use crate::generations::copy::{Copied, PAGE, copied};
use crate::postgres::{Error, SNAPSHOT};
use crate::projector::checkpoint;
use crate::projector::pipeline::close;

pub(crate) const STATEMENTS: &[&str] = &[TILES];

const TILES: &str = "SELECT level, index, hashes FROM tiles ORDER BY level, index";

/// Why nothing can be said.
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

/// What was found to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Up to here.
    pub position: Position,
    /// The root of the Merkle tree there.
    pub root: Hash,
    /// The gaps among it.
    pub gaps: u64,
}

/// The first difference. What comes before it agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The stream was made at another time than the one that was folded, and may nevertheless hold the same.
    OtherStream {
        /// When that one was made.
        folded: DateTime<Utc>,
        /// When this one was.
        found: DateTime<Utc>,
    },
    /// The stream has lost an entry that the copy has.
    LostByStream(Position),
    /// The copy has lost an entry that the stream has.
    LostByCopy(Position),
    /// Where the copy says that an entry was lost, the stream has one.
    NoGap(Position),
    /// The entries at a position are not the same.
    OtherEntry {
        /// Where.
        position: Position,
        /// The leaf hash of the stream's.
        stream: Hash,
        /// The leaf hash of the copy's.
        copy: Hash,
    },
    /// They are, and were not recorded at the same time.
    OtherTime(Position),
    /// The leaf hash beside the copy is not that of its bytes.
    OtherLeaf(Position),
    /// A tile of the Merkle tree is not what the entries give.
    OtherTile {
        /// Its level.
        level: i16,
        /// Its place in the level.
        index: i64,
    },
    /// The root that is kept is not what the entries give.
    OtherRoot {
        /// Of this many entries.
        position: Position,
        /// The one that is kept.
        kept: Hash,
        /// The one that the entries give.
        given: Hash,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherStream { folded, found } => {
                write!(f, "the stream was made at {found}, the one that was folded at {folded}")
            }
            Self::LostByStream(at) => {
                write!(f, "position {at}: the stream has lost the entry, the copy has it")
            }
            Self::LostByCopy(at) => {
                write!(f, "position {at}: the copy has lost the entry, the stream has it")
            }
            Self::NoGap(at) => write!(f, "position {at}: the copy has a gap, the stream an entry"),
            Self::OtherEntry { position, stream, copy } => write!(
                f,
                "position {position}: the stream's entry has the leaf hash {stream}, the copy's {copy}"
            ),
            Self::OtherTime(at) => write!(f, "position {at}: stream and copy tell other times of recording"),
            Self::OtherLeaf(at) => write!(f, "position {at}: the leaf hash is not that of the copy's bytes"),
            Self::OtherTile { level, index } => {
                write!(f, "tile {index} of level {level} is not what the entries give")
            }
            Self::OtherRoot { position, kept, given } => {
                write!(f, "the root of {position} entries is kept as {kept}, and they give {given}")
            }
        }
    }
}

impl Projections {
    /// Compares the stream with the copy, entry by entry, and both with the Merkle tree, up to where the projections
    /// stand; `told` hears how far it is. The projections themselves are compared by [`Rebuild`](crate::Rebuild).
    ///
    /// # Errors
    /// The database or the journal does not answer.
    pub async fn verify(
        &self,
        journal: &dyn Journal,
        mut told: impl FnMut(Position, Position),
    ) -> Result<Result<Verified, Difference>, VerifyError> {
        // Those that answered when it was last looked may be gone.
        self.find().await?;
        let Some(number) = self.answers_from() else {
            return Err(Error::NotReady("no projections answer".into()).into());
        };
        let options = self.database().generation(&self.schema(number));
        let mut connection = PgConnection::connect_with(&options).await?;
        let mut snapshot = connection.begin_with(SNAPSHOT).await?;
        let checkpoint = checkpoint::read(&mut snapshot).await?;
        let head = journal.head().await?;
        if let Some(folded) = checkpoint.stream_created.filter(|folded| *folded != head.created) {
            return Ok(Err(Difference::OtherStream { folded, found: head.created }));
        }
        let end = checkpoint.position;
        let mut records = journal.read(SubjectFilter::All, Position::START, Until::Position(end));
        let mut rows: std::vec::IntoIter<Copied> = Vec::new().into_iter();
        let (mut tree, mut gaps) = (Tree::new(), 0);
        let mut tiles = TileSums::default();
        let mut at = Position::START;
        while at < end {
            at = at.next();
            if rows.len() == 0 {
                let after = Position::new(at.get() - 1);
                rows = copied(&mut snapshot, after, end, PAGE).await?.into_iter();
                told(at, end);
            }
            let record = records.next().await.transpose()?;
            let row = rows.next().filter(|row| row.position == at);
            let leaf = match compare(at, record, row) {
                Ok(leaf) => leaf,
                Err(difference) => return Ok(Err(difference)),
            };
            gaps += u64::from(leaf.is_none());
            tree.append(leaf.unwrap_or_else(|| gap_leaf_hash(at.get())));
            if at.get().is_multiple_of(u64::from(PAGE)) {
                tiles.add(tree.take_dirty());
            }
        }
        tiles.add(tree.take_dirty());
        let (kept, given) = (checkpoint.root, tree.root());
        let mut found: Option<Difference> = None;
        let mut stored = sqlx::query_as::<_, (i16, i64, Vec<u8>)>(TILES).fetch(&mut *snapshot);
        while let Some(row) = stored.next().await {
            let (level, index, hashes) = row?;
            if !tiles.take(level, index, &hashes) {
                found = Some(Difference::OtherTile { level, index });
                break;
            }
        }
        drop(stored);
        if found.is_none() {
            found = tiles.missing().map(|(level, index)| Difference::OtherTile { level, index });
        }
        if found.is_none() && kept != given {
            found = Some(Difference::OtherRoot { position: end, kept, given });
        }
        snapshot.rollback().await?;
        close(connection).await;
        Ok(found.map_or(Ok(Verified { position: end, root: given, gaps }), Err))
    }
}

/// The leaf at a position, on which both agree; `None` for a gap.
fn compare(at: Position, record: Option<Record>, copied: Option<Copied>) -> Result<Option<Hash>, Difference> {
    match (record, copied.map(|copied| copied.entry)) {
        (Some(Record::Entry(entry)), Some(Some((copy, kept)))) => {
            let (leaf, copied) = (leaf_hash(&entry.bytes), leaf_hash(&copy.bytes));
            if leaf != copied {
                Err(Difference::OtherEntry { position: at, stream: leaf, copy: copied })
            } else if entry.recorded_at != copy.recorded_at {
                Err(Difference::OtherTime(at))
            } else if kept != leaf.as_bytes() {
                Err(Difference::OtherLeaf(at))
            } else {
                Ok(Some(leaf))
            }
        }
        (Some(Record::Entry(_)), Some(None)) => Err(Difference::NoGap(at)),
        (Some(Record::Entry(_)), None) => Err(Difference::LostByCopy(at)),
        (Some(Record::Gap(_)) | None, Some(Some(_))) => Err(Difference::LostByStream(at)),
        (Some(Record::Gap(_)) | None, Some(None)) => Ok(None),
        (Some(Record::Gap(_)) | None, None) => Err(Difference::LostByCopy(at)),
    }
}

/// The tiles that entries give, by level and index: what is kept of each is a hash.
#[derive(Default)]
struct TileSums(std::collections::BTreeMap<(i16, i64), Hash>);

impl TileSums {
    fn add(&mut self, tiles: Vec<Tile>) {
        for tile in tiles {
            let bytes: Vec<u8> = tile.hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect();
            self.0.insert((tile.level.into(), tile.index.cast_signed()), leaf_hash(&bytes));
        }
    }

    /// Whether there is such a tile; it is not asked for again.
    fn take(&mut self, level: i16, index: i64, hashes: &[u8]) -> bool {
        self.0.remove(&(level, index)) == Some(leaf_hash(hashes))
    }

    /// A tile that was not asked for.
    fn missing(&self) -> Option<(i16, i64)> {
        self.0.keys().next().copied()
    }
}
