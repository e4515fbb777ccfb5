//! A full copy of a ledger becomes a stream again: the same positions, bytes, times, and the same root.
//!
//! All of the copy is read and judged before anything is written, and read again while it is written; at the
//! end the stream is read back. A restore that is cut short is taken up where it was: what the stream has must
//! be what the copy has.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Position, TenantName};
use ledger_journal::jetstream::{Connection, Restoring};
use ledger_journal::{Journal as _, Record, Subject, SubjectFilter, Until, jetstream};
use ledger_tlog::{Hash, Tree};
use sha2::{Digest as _, Sha256};
use tracing::info;

use crate::Checkpoint;
use crate::archive::leaf_of;
use crate::segment::write_line;

/// Records that are handed to the stream at a time.
const BATCH: usize = 1_000;

/// A full copy of a ledger. It can be read as often as is wanted.
pub trait Source: Send + Sync {
    /// Where it ends, and the root that it says it has there.
    fn end(&self) -> Checkpoint;

    /// Its records after a position, in order and without a hole, up to its end.
    fn read(&self, after: Position) -> BoxStream<'_, Result<Record, crate::Error>>;
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The last position.
    pub position: Position,
    /// The root of the tree over everything up to it, as it was read back.
    pub root: Hash,
    /// How many positions are gaps.
    pub gaps: usize,
    /// The last position that was there already, from a restore that was cut short.
    pub resumed_after: Position,
}

/// Why nothing is restored, or not all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The copy cannot be read, or is damaged.
    #[error(transparent)]
    Source(#[from] crate::Error),
    /// The copy is not what it says.
    #[error("the copy is damaged: {0}")]
    Copy(String),
    /// An entry cannot be filed: its subject is made of what it says.
    #[error("the entry at position {position} cannot be decoded by this version of the program: {reason}")]
    Undecodable {
        /// Where it is.
        position: Position,
        /// Why.
        reason: String,
    },
    /// The stream cannot be restored.
    #[error(transparent)]
    Stream(#[from] jetstream::RestoreError),
    /// The stream cannot be read.
    #[error(transparent)]
    Read(#[from] ledger_journal::ReadError),
    /// What is there from a restore that was cut short is not of this copy.
    #[error("what the stream has at position {0} is not what the copy has: remove the stream first")]
    Differs(Position),
    /// What was written is not what is read back.
    #[error("the stream is not what was written: it comes to {found}, and the copy to {wanted}")]
    ReadBack {
        /// What was read back: position, root, and a hash over all records with their times.
        found: String,
        /// The same of the copy.
        wanted: String,
    },
}

/// Restores a tenant's stream from a copy.
///
/// # Errors
/// The copy is damaged, the stream is not fresh, or JetStream refuses. Until the last step the stream is marked,
/// and no ledger is opened on it.
pub async fn restore(
    source: &dyn Source,
    connection: &Connection,
    tenant: &TenantName,
) -> Result<Restored, Error> {
    let (gaps, sum) = judge(source, tenant).await?;
    let end = sum.end();
    info!(position = %end.position, root = %end.root, "the copy is whole");
    let restoring = connection.restore(tenant.clone(), !gaps.is_empty()).await?;
    let resumed_after = compare(source, &restoring).await?;
    write(source, &restoring, tenant, resumed_after).await?;
    restoring.lose(&gaps).await?;
    read_back(&restoring, &sum).await?;
    restoring.finish().await?;
    Ok(Restored { position: end.position, root: end.root, gaps: gaps.len(), resumed_after })
}

/// What records come to, one after the other.
#[derive(Default)]
struct Sum {
    tree: Tree,
    /// Over the records as an archive writes them: the tree knows nothing of their times.
    text: Sha256,
}

impl Sum {
    fn add(&mut self, record: &Record) {
        self.tree.append(leaf_of(record));
        // Full tiles are of no use here.
        drop(self.tree.take_dirty());
        let mut line = Vec::new();
        write_line(record, &mut line);
        self.text.update(line);
    }

    fn end(&self) -> Checkpoint {
        Checkpoint { position: Position::new(self.tree.size()), root: self.tree.root() }
    }

    fn text(&self) -> Hash {
        Hash::from(<[u8; 32]>::from(self.text.clone().finalize()))
    }
}

/// Reads all of the copy: its gaps, and what it comes to, if it is whole.
async fn judge(source: &dyn Source, tenant: &TenantName) -> Result<(Vec<Position>, Sum), Error> {
    let mut sum = Sum::default();
    let mut gaps = Vec::new();
    let mut records = source.read(Position::START);
    while let Some(record) = records.try_next().await? {
        let (expected, found) = (sum.end().position.next(), record.position());
        if found != expected {
            return Err(Error::Copy(format!("position {expected} is missing: {found} comes next")));
        }
        subject(&record, tenant)?;
        if let Record::Gap(position) = record {
            gaps.push(position);
        }
        sum.add(&record);
    }
    let (found, said) = (sum.end(), source.end());
    if found.position != said.position {
        return Err(Error::Copy(format!("it ends at position {}, not at {}", found.position, said.position)));
    }
    if found.root != said.root {
        return Err(Error::Copy(format!("its root is {}, not {}", found.root, said.root)));
    }
    Ok((gaps, sum))
}

/// Where a record is filed; `None` for a gap.
fn subject(record: &Record, tenant: &TenantName) -> Result<Option<Subject>, Error> {
    let Record::Entry(entry) = record else { return Ok(None) };
    let read = Envelope::stored(entry.bytes.clone());
    let envelope =
        read.map_err(|error| Error::Undecodable { position: entry.position, reason: error.to_string() })?;
    Ok(Some(Subject::of(tenant, &envelope.event().payload)))
}

/// What a restore that was cut short has written must be the copy's; the last position of it.
async fn compare(source: &dyn Source, restoring: &Restoring) -> Result<Position, Error> {
    let head = restoring.journal().head().await?.position;
    if head > source.end().position {
        return Err(Error::Differs(source.end().position.next()));
    }
    if head == Position::START {
        return Ok(head);
    }
    let mut there = restoring.journal().read(SubjectFilter::All, Position::START, Until::Position(head));
    let mut wanted = source.read(Position::START);
    while let Some(found) = there.try_next().await? {
        let record = wanted.try_next().await?;
        let is_same = record.is_some_and(|record| match (&record, &found) {
            (Record::Entry(record), Record::Entry(found)) => record == found,
            // A gap that is not made yet holds the text of its leaf.
            (Record::Gap(_), _) => leaf_of(&record) == leaf_of(&found),
            (Record::Entry(_), Record::Gap(_)) => false,
        });
        if !is_same {
            return Err(Error::Differs(found.position()));
        }
    }
    info!(position = %head, "a restore that was cut short goes on");
    Ok(head)
}

async fn write(
    source: &dyn Source,
    restoring: &Restoring,
    tenant: &TenantName,
    after: Position,
) -> Result<(), Error> {
    let filed = |record: Record| async move {
        let subject = subject(&record, tenant)?;
        Ok((record, subject))
    };
    let records = source.read(after).map_err(Error::from).and_then(filed);
    let mut batches = std::pin::pin!(records.try_chunks(BATCH));
    let mut head = after;
    while let Some(batch) = batches.try_next().await.map_err(|error| error.1)? {
        restoring.append(head, &batch).await?;
        head = Position::new(head.get() + batch.len() as u64);
    }
    Ok(())
}

/// The stream must come to what the copy comes to.
async fn read_back(restoring: &Restoring, wanted: &Sum) -> Result<(), Error> {
    let mut sum = Sum::default();
    let head = restoring.journal().head().await?.position;
    let mut records = restoring.journal().read(SubjectFilter::All, Position::START, Until::Position(head));
    while let Some(record) = records.try_next().await? {
        sum.add(&record);
    }
    let (found, wanted_end) = (sum.end(), wanted.end());
    if found != wanted_end || sum.text() != wanted.text() {
        let (found, wanted) =
            (format!("{found}, {}", sum.text()), format!("{wanted_end}, {}", wanted.text()));
        return Err(Error::ReadBack { found, wanted });
    }
    Ok(())
}
