//! Restores a lost stream from a full copy of a ledger, with the same positions, bytes, times and root.
//!
//! A restore reads and verifies the whole copy before the first write, reads it again while it writes, and reads the
//! stream back at the end. After an interruption, the next restore verifies that the stream equals the beginning of the
//! copy, and continues from there.

use futures::TryStreamExt;
use ledger_codec::cloudevents::{Reason, StoredEntry};
use ledger_domain::{Position, TenantName};
use ledger_journal::jetstream::{Connection, RestoreSession};
use ledger_journal::{Journal as _, Record, Subject, SubjectFilter, Until, jetstream};
use ledger_tlog::{Hash, Tree};
use tracing::info;

use crate::{Checkpoint, Source};

/// Number of records per append to the stream.
const APPEND_BATCH_SIZE: usize = 1_000;

/// Summary of a restored stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Last position.
    pub position: Position,
    /// Root of the Merkle tree over all positions, as read back from the stream.
    pub root: Hash,
    /// Number of positions that are gaps.
    pub gaps: usize,
    /// Last position that an interrupted restore had written before.
    pub resumed_after: Position,
}

/// Reason why a restore failed or is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The copy is damaged or cannot be read.
    #[error(transparent)]
    Source(#[from] crate::Error),
    /// The records of the copy do not match the end that it declares.
    #[error("the copy is damaged: {0}")]
    DamagedCopy(String),
    /// An entry was written by a newer version of the program, and its subject depends on its contents.
    #[error(
        "the entry at position {position} cannot be decoded by this version; \
         restore with the version that wrote it"
    )]
    Undecodable {
        /// Position of the entry.
        position: Position,
        /// Error of the decoder.
        #[source]
        reason: Reason,
    },
    /// The stream cannot be restored.
    #[error(transparent)]
    Stream(#[from] jetstream::RestoreError),
    /// The stream cannot be read.
    #[error(transparent)]
    Read(#[from] ledger_journal::ReadError),
    /// An interrupted restore wrote other records than those of this copy.
    #[error("the stream differs from the copy at position {0}; delete the stream and restore again")]
    StreamDiffers(Position),
    /// The restored stream differs from the copy.
    #[error(
        "the restored stream differs from the copy: the stream has {found}, the copy has {expected}; \
         delete the stream and restore again"
    )]
    ReadBackMismatch {
        /// Position and root of the stream.
        found: Checkpoint,
        /// Position and root of the copy.
        expected: Checkpoint,
    },
}

/// Restores a tenant's stream from a copy.
///
/// # Errors
/// The copy is damaged, JetStream fails, or the stream has entries other than those of an interrupted restore of it.
/// The stream stays marked as incomplete until the last step succeeds, and no ledger opens on a marked stream.
pub async fn restore(
    source: &dyn Source,
    connection: &Connection,
    tenant: &TenantName,
) -> Result<Restored, Error> {
    let (gaps, digest) = verify_copy(source, tenant).await?;
    let end = digest.end();
    info!(position = %end.position, root = %end.root, "verified the copy");
    let restoring = connection.restore(tenant.clone(), !gaps.is_empty()).await?;
    let resumed_after = verify_existing_records(source, &restoring).await?;
    append_records(source, &restoring, tenant, resumed_after).await?;
    restoring.punch_gaps(&gaps).await?;
    read_back(&restoring, &digest).await?;
    restoring.finish().await?;
    Ok(Restored { position: end.position, root: end.root, gaps: gaps.len(), resumed_after })
}

/// A running digest of consecutive records: the tree, which covers their positions, times and bytes.
#[derive(Default)]
struct RecordDigest(Tree);

impl RecordDigest {
    fn add(&mut self, record: &Record) {
        self.0.append(record.leaf_hash());
        // Full tiles are not needed here; free their memory.
        drop(self.0.take_dirty());
    }

    fn end(&self) -> Checkpoint {
        Checkpoint { position: Position::new(self.0.size()), root: self.0.root() }
    }
}

/// Reads and verifies the whole copy. Returns its gaps and its digest.
async fn verify_copy(
    source: &dyn Source,
    tenant: &TenantName,
) -> Result<(Vec<Position>, RecordDigest), Error> {
    let mut digest = RecordDigest::default();
    let mut gaps = Vec::new();
    let mut records = source.read(Position::START);
    while let Some(record) = records.try_next().await? {
        let (expected, found) = (digest.end().position.next(), record.position());
        if found != expected {
            return Err(Error::DamagedCopy(format!("position {expected} is missing before {found}")));
        }
        subject_of(&record, tenant)?;
        if let Record::Gap(position) = record {
            gaps.push(position);
        }
        digest.add(&record);
    }
    let (found, declared) = (digest.end(), source.end());
    if found.position != declared.position {
        let fault = format!("it ends at position {}, not at {}", found.position, declared.position);
        return Err(Error::DamagedCopy(fault));
    }
    if found.root != declared.root {
        return Err(Error::DamagedCopy(format!("its root is {}, not {}", found.root, declared.root)));
    }
    Ok((gaps, digest))
}

/// Returns the subject of an entry; `None` for a gap.
fn subject_of(record: &Record, tenant: &TenantName) -> Result<Option<Subject>, Error> {
    let Record::Entry(entry) = record else { return Ok(None) };
    match StoredEntry::parse(entry.bytes.clone()) {
        StoredEntry::Event(envelope) => Ok(Some(Subject::of(tenant, &envelope.event().payload))),
        StoredEntry::Foreign { .. } => Ok(Some(Subject::foreign(tenant))),
        StoredEntry::Newer(reason) => Err(Error::Undecodable { position: entry.position, reason }),
    }
}

/// Verifies that the records of an interrupted restore equal those of the copy. Returns the last position of them.
async fn verify_existing_records(source: &dyn Source, restoring: &RestoreSession) -> Result<Position, Error> {
    let head = restoring.journal().head().await?.position;
    if head > source.end().position {
        return Err(Error::StreamDiffers(source.end().position.next()));
    }
    if head == Position::START {
        return Ok(head);
    }
    let mut existing = restoring.journal().read(SubjectFilter::All, Position::START, Until::Position(head));
    let mut expected = source.read(Position::START);
    while let Some(found) = existing.try_next().await? {
        let record = expected.try_next().await?;
        let is_same = record.is_some_and(|record| match (&record, &found) {
            (Record::Entry(record), Record::Entry(found)) => record == found,
            // Until a gap is punched, the stream has a placeholder at its position.
            (Record::Gap(_), _) => restoring.is_gap_or_placeholder(&found),
            (Record::Entry(_), Record::Gap(_)) => false,
        });
        if !is_same {
            return Err(Error::StreamDiffers(found.position()));
        }
    }
    info!(position = %head, "resuming an interrupted restore");
    Ok(head)
}

async fn append_records(
    source: &dyn Source,
    restoring: &RestoreSession,
    tenant: &TenantName,
    after: Position,
) -> Result<(), Error> {
    let with_subject = |record: Record| async move {
        let subject = subject_of(&record, tenant)?;
        Ok((record, subject))
    };
    let records = source.read(after).map_err(Error::from).and_then(with_subject);
    let mut batches = std::pin::pin!(records.try_chunks(APPEND_BATCH_SIZE));
    let mut head = after;
    while let Some(batch) = batches.try_next().await.map_err(|error| error.1)? {
        restoring.append(head, &batch).await?;
        head = Position::new(head.get() + batch.len() as u64);
    }
    Ok(())
}

/// Reads the whole stream, and verifies that its digest equals that of the copy.
async fn read_back(restoring: &RestoreSession, expected: &RecordDigest) -> Result<(), Error> {
    let mut digest = RecordDigest::default();
    let head = restoring.journal().head().await?.position;
    let mut records = restoring.journal().read(SubjectFilter::All, Position::START, Until::Position(head));
    while let Some(record) = records.try_next().await? {
        digest.add(&record);
    }
    let (found, expected) = (digest.end(), expected.end());
    if found != expected {
        return Err(Error::ReadBackMismatch { found, expected });
    }
    Ok(())
}
