//! Full copies of a ledger, from which a stream can be restored.

use futures::stream::BoxStream;
use ledger_domain::Position;
use ledger_journal::Record;

use crate::{Checkpoint, Error};

/// A full copy of a ledger, which can be read any number of times.
pub trait Source: Send + Sync {
    /// Returns the last position of the copy, and the root that the copy declares for it.
    fn end(&self) -> Checkpoint;

    /// Returns all records after a position, in order, up to the end of the copy.
    fn read(&self, after: Position) -> BoxStream<'_, Result<Record, Error>>;
}
