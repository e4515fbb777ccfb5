//! A full copy of a ledger outside of its stream, in a folder or an object storage, and the way back.
//!
//! An archive is a row of sealed segments (entries as lines of JSON, compressed), each with a manifest that says
//! what must be in it, and a checkpoint: how many positions there are, and the root of the Merkle tree over
//! them. Everything that is read from it is held against all three.
//!
//! Invariants: only here is object storage known. A manifest is written once and never replaced, and what it
//! names was there before it. Nothing is restored before all of it was read and found whole.

mod archive;
mod archiver;
mod checkpoint;
mod manifest;
mod restore;
mod segment;
mod store;

pub use archive::{Archive, Verified};
pub use archiver::{Archiver, Limits};
pub use checkpoint::Checkpoint;
pub use restore::{Error as RestoreError, Restored, Source, restore};
pub use store::{Access, Error as StoreError, Store};

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what it was when it was written.
    #[error("{object}: {fault}")]
    Damaged {
        /// What of it, by its name in the archive.
        object: String,
        /// What is wrong, and where.
        fault: String,
    },
    /// There is nothing in it.
    #[error("there is no archive in {0}")]
    Empty(String),
    /// It is of another ledger than the stream.
    #[error("the archive is not of this stream: {0}")]
    Other(String),
    /// Another copy than an archive cannot be read.
    #[error("the copy cannot be read: {0}")]
    Copy(String),
    /// The stream cannot be read. It may be tried again.
    #[error(transparent)]
    Journal(#[from] ledger_journal::ReadError),
}

impl Error {
    pub(crate) fn damaged(object: impl Into<String>, fault: impl ToString) -> Self {
        Self::Damaged { object: object.into(), fault: fault.to_string() }
    }
}
