//! The journal: makes events durable and puts them in order.
//!
//! Owns the trait [`Journal`], its two implementations, the [`InterceptedJournal`] of tests, the [`Quarantine`] beside
//! it, the subjects under which entries are stored, and the check that a stream is still the known one. An entry's
//! bytes are opaque to the journal.

mod continuity;
mod intercepted;
pub mod jetstream;
mod memory;
mod quarantine;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use futures::stream::BoxStream;
use ledger_domain::{EnvironmentName, IdentityKey, Position, ServiceName};
use ledger_tlog::{Hash, entry_leaf_hash, gap_leaf_hash};

pub use continuity::{
    Continuity, ContinuityError, Divergence, KnownHistory, UNCONFIRMED_TIMEOUT, UnconfirmedTimer,
};
pub use intercepted::{InterceptedJournal, Interceptor};
pub use memory::MemoryJournal;
pub use quarantine::{MemoryQuarantine, Quarantine, QuarantineError, QuarantineItem, QuarantineUsage};
pub use subject::Subject;

/// Shared handle to a journal.
pub type SharedJournal = Arc<dyn Journal>;

/// An event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The subject to store it under.
    pub subject: Subject,
    /// The event's identity.
    pub key: IdentityKey,
    /// The event's canonical bytes, at most 65,535.
    pub bytes: Bytes,
}

/// An immutable message in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The position of the entry.
    pub position: Position,
    /// The time at which the journal stored it, by the journal's clock, in whole microseconds.
    pub recorded_at: DateTime<Utc>,
    /// The event's canonical bytes.
    pub bytes: Bytes,
}

impl Entry {
    /// Returns the leaf hash of the entry in the Merkle tree. It covers the position, the time of recording and the
    /// bytes.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        entry_leaf_hash(self.position.get(), self.recorded_at.timestamp_micros(), &self.bytes)
    }
}

/// The content of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An entry.
    Entry(Entry),
    /// The journal assigned this position and cannot return what was stored there.
    Gap(Position),
}

impl Record {
    /// Returns the position of the record.
    #[must_use]
    pub const fn position(&self) -> Position {
        match self {
            Self::Entry(entry) => entry.position,
            Self::Gap(position) => *position,
        }
    }

    /// Returns the leaf hash of the record in the Merkle tree.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        match self {
            Self::Entry(entry) => entry.leaf_hash(),
            Self::Gap(position) => gap_leaf_hash(position.get()),
        }
    }
}

/// The outcome of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The event is the entry at this position, and durable.
    Recorded(Position),
    /// The same event is already the entry at this position.
    Duplicate(Position),
    /// The entry at this position has the same identity and different content.
    Conflict(Position),
}

impl Outcome {
    /// Returns the position of the entry with the event's identity.
    #[must_use]
    pub const fn position(self) -> Position {
        match self {
            Self::Recorded(position) | Self::Duplicate(position) | Self::Conflict(position) => position,
        }
    }
}

/// The end of a journal, and the journal's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The position of the last entry; [`Position::START`] if there is none.
    pub position: Position,
    /// The time at which the journal was created. It distinguishes a journal from one that was deleted and
    /// created again, which assigns positions a second time.
    pub created: DateTime<Utc>,
}

/// Selects the entries that a reader receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectFilter {
    /// All entries, and the gaps.
    All,
    /// The entries of one environment.
    Environment(EnvironmentName),
    /// The entries of one service in one environment, at any target.
    Service(EnvironmentName, ServiceName),
}

/// The end of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Ends after this position, or at the head of the journal if that is earlier.
    Position(Position),
    /// Never ends: waits for new entries.
    Forever,
}

/// Reason why an event was not recorded. A retry can succeed for all but [`AppendError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No acknowledgement arrived, so the event may be recorded or not. An append with the same identity
    /// records it at most once.
    #[error("the journal is unavailable: {0}")]
    Unavailable(String),
    /// The journal has no space left.
    #[error("the journal is full: {0}")]
    Full(String),
    /// The journal rejects the event permanently.
    #[error("the journal rejected the event: {0}")]
    Refused(String),
    /// The journal's head is not the expected one. Nothing was recorded, and nothing will be: the caller must
    /// decide again at the new head. Only [`Journal::append_expecting`] returns this.
    #[error("the journal's head has moved: {0}")]
    WrongHead(String),
}

impl AppendError {
    /// Returns true if a later append of the same event can succeed. Until then, no later event of the same order
    /// may be recorded. [`AppendError::WrongHead`] is temporary: the event may be appended at the new head after
    /// another decision. At the old head it never succeeds.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::WrongHead(_))
    }
}

/// Reason why a read failed. The caller may retry from the last position that it received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the journal: {0}")]
pub struct ReadError(pub String);

/// A durable, ordered log of entries: one tenant's ledger.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends events and returns their outcomes, in the same order.
    ///
    /// - `Ok` MUST be returned only after the entry is durable.
    /// - The recorded entries MUST have the order of the call; entries of other calls may be between them.
    /// - An identity MUST NOT be recorded twice within the journal's duplicate window (at least the last two
    ///   minutes), not within one call either, and not when an acknowledgement was lost and the event is
    ///   appended again.
    /// - The rejection of one event MUST NOT affect the others. But after a temporary error
    ///   ([`AppendError::is_temporary`]), later events of the call MUST NOT be recorded: the order would be lost
    ///   when the failed one is appended again.
    /// - The call MUST end in bounded time, also if each event takes long: later events then get
    ///   [`AppendError::Unavailable`].
    async fn append(&self, new_entries: &[NewEntry]) -> Vec<Result<Outcome, AppendError>>;

    /// Appends one event if the journal's head is still `head`.
    ///
    /// - The event MUST be recorded only right after `head`, even if it arrives late, after the caller has
    ///   stopped waiting. So at most one of any number of events that are appended with the same head is
    ///   recorded, regardless of the caller. This also holds against [`Journal::append`].
    /// - [`Outcome::Recorded`] MUST be returned only if the event is the entry right after `head`, and durable.
    ///   If an acknowledgement was lost and the entry there has the same identity and bytes, the call counts it
    ///   as its own: two concurrent calls with the same event may both return `Recorded` for one entry.
    /// - If the identity is already recorded right after `head`, or, while the journal still ends at `head`,
    ///   anywhere before it within the duplicate window, [`Outcome::Duplicate`] or [`Outcome::Conflict`] MUST be
    ///   returned with its position, which shows if it was recorded at this head or at an earlier one.
    /// - [`AppendError::WrongHead`] MUST be returned only if this call recorded nothing and never will. Another
    ///   call may have recorded the identity elsewhere: a journal with a later head need not look for it. A
    ///   caller that decides again MUST look it up in the history first.
    /// - [`AppendError::Unavailable`] means that the outcome is unknown. The event MAY be appended again at the
    ///   same head: it is recorded at most once.
    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError>;

    /// Returns the current head.
    async fn head(&self) -> Result<Head, ReadError>;

    /// Describes the settings of the journal that no longer meet the ledger's requirements, so that entries may
    /// be lost. Empty if there are none.
    async fn config_drift(&self) -> Result<Vec<String>, ReadError>;

    /// Returns the entry at a position; `None` if there is none, or none any more.
    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError>;

    /// Reads what follows a position, in order and each record once. With [`SubjectFilter::All`] no position is
    /// skipped: one that cannot be returned is a [`Record::Gap`]. The stream ends after an error.
    fn read(
        &self,
        filter: SubjectFilter,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>>;

    /// Reads all records that follow the end of a known history, as [`Journal::read`] does.
    ///
    /// The journal may be replaced by an older copy of itself while a reader lives. So a reader MUST compare the
    /// journal with the known history before the first record, and after each new connection to the server with the
    /// last entry that it returned. If the journal differs, the stream ends with an error.
    fn read_after(
        &self,
        history: KnownHistory,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>>;

    /// Returns the number of connections to the server of the journal so far. What is known of the journal was
    /// confirmed over one of them, and has to be confirmed again over the next.
    fn connections(&self) -> u64;

    /// Returns the duplicate window of [`Journal::append`]: the time after an entry within which the journal finds its
    /// identity. It is zero while the settings of the journal do not meet the ledger's requirements.
    fn duplicate_window(&self) -> Duration;
}

/// Truncates a time to whole microseconds, the precision of Postgres.
fn microseconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}
