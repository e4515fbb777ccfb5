//! A full copy of a ledger outside of its stream, in a directory or an object store, and the restore from it.
//!
//! An archive is a sequence of sealed segments (entries as lines of JSON, compressed). Each segment has a manifest
//! that states its content. A checkpoint states the number of positions and the root of the Merkle tree over them.
//! Everything that is read from an archive is verified against all three.
//!
//! Invariants: only this crate depends on object storage. A manifest is written once and never replaced, after the
//! segment that it names. Nothing is restored before the whole archive is read and verified.

use ledger_journal::{ContinuityError, Divergence};

mod archive;
mod archiver;
mod checkpoint;
mod manifest;
mod restore;
mod segment;
mod source;
mod store;

pub use archive::{Archive, Verified};
pub use archiver::{Archiver, SegmentLimits};
pub use checkpoint::Checkpoint;
pub use restore::{Error as RestoreError, Restored, restore};
pub use source::Source;
pub use store::{Access, Error as StoreError, Store};

/// Reason why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object of the archive is missing or was changed.
    #[error("{object}: {reason}")]
    Damaged {
        /// Name of the object in the archive.
        object: String,
        /// The difference, and its place in the object.
        reason: String,
    },
    /// The store contains no archive.
    #[error("no archive found in {0}")]
    Empty(String),
    /// The archive belongs to another stream.
    #[error("the archive belongs to another stream")]
    StreamMismatch(#[source] Divergence),
    /// A copy that is not an archive cannot be read.
    #[error("cannot read the copy")]
    Copy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The stream cannot be read. A retry may succeed.
    #[error(transparent)]
    Journal(#[from] ledger_journal::ReadError),
}

impl From<ContinuityError> for Error {
    fn from(error: ContinuityError) -> Self {
        match error {
            ContinuityError::Diverged(divergence) => Self::StreamMismatch(divergence),
            ContinuityError::Journal(error) => Self::Journal(error),
        }
    }
}

impl Error {
    pub(crate) fn damaged(object: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged { object: object.into(), reason: reason.to_string() }
    }
}
