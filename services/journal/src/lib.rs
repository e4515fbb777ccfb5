//! The one place where events become durable and ordered.
//!
//! Owns the trait [`Journal`], its two implementations, and the subjects under which entries are
//! stored. An entry's bytes pass through unread: what they mean is not the journal's business.

pub mod jetstream;
mod memory;
mod subject;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use futures::stream::BoxStream;
use ledger_domain::{EnvironmentName, IdentityKey, Position, ServiceName};

pub use memory::MemoryJournal;
pub use subject::Subject;

/// A journal, whichever it is.
pub type SharedJournal = Arc<dyn Journal>;

/// What is to become an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Where it is filed.
    pub subject: Subject,
    /// The event's identity.
    pub key: IdentityKey,
    /// The event's canonical bytes, at most 65,535.
    pub bytes: Bytes,
}

/// One immutable message in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// When the journal stored it, by the journal's clock.
    pub recorded_at: DateTime<Utc>,
    /// The event's canonical bytes.
    pub bytes: Bytes,
}

/// What a reader finds at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An entry.
    Entry(Entry),
    /// The journal once gave this position away and cannot return what was there.
    Gap(Position),
}

impl Record {
    /// The position that it is about.
    #[must_use]
    pub const fn position(&self) -> Position {
        match self {
            Self::Entry(entry) => entry.position,
            Self::Gap(position) => *position,
        }
    }
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the entry at this position, and durable.
    Recorded(Position),
    /// The same event was the entry at this position already.
    Duplicate(Position),
    /// The entry at this position has the same identity and other content.
    Conflict(Position),
}

impl Outcome {
    /// Where the entry is that this is about.
    #[must_use]
    pub const fn position(self) -> Position {
        match self {
            Self::Recorded(position) | Self::Duplicate(position) | Self::Conflict(position) => position,
        }
    }
}

/// Where a journal ends, and which journal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The position of the last entry; [`Position::START`] if there is none.
    pub position: Position,
    /// When the journal was created. One that was deleted and made again gives positions away
    /// again, and is known by this.
    pub created: DateTime<Utc>,
}

/// Which entries a reader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectFilter {
    /// All of them, and the gaps.
    All,
    /// Those of one environment.
    Environment(EnvironmentName),
    /// Those of one service in one environment, whatever the target.
    Service(EnvironmentName, ServiceName),
}

/// Where a reader stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this position, or at the end of the journal if that comes first.
    Position(Position),
    /// Never: it waits for what comes.
    Forever,
}

/// Why a submission was not recorded. All but [`AppendError::Refused`] may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No answer came: the event may have been recorded or not. Sent again with the same identity,
    /// it is recorded once.
    #[error("the journal cannot be reached: {0}")]
    Unavailable(String),
    /// There is no room.
    #[error("the journal is full: {0}")]
    Full(String),
    /// The journal does not take it.
    #[error("the journal refused: {0}")]
    Refused(String),
    /// The journal no longer ends where it was expected to. Nothing was recorded, and nothing will be:
    /// what was judged at the old end is to be judged again at the new one. Only
    /// [`Journal::append_expecting`] says this.
    #[error("the journal has moved on: {0}")]
    WrongHead(String),
}

impl AppendError {
    /// Whether the same submission may be taken later. Until then nothing that belongs after it may be
    /// recorded. [`AppendError::WrongHead`] is temporary: judged again, the submission may be taken at the new
    /// end. At the old one it never is.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::WrongHead(_))
    }
}

/// Why a reader cannot go on. It may be tried again from where it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be read: {0}")]
pub struct ReadError(pub String);

/// A durable, ordered log of entries: one tenant's ledger.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends submissions and answers each, in their order.
    ///
    /// - An answer `Ok` MUST come only after the entry is durable.
    /// - Submissions that are recorded MUST stand in the order in which they were given; others may
    ///   come in between.
    /// - An identity MUST NOT be recorded twice within the journal's duplicate window (at least the
    ///   last two minutes), also not within one call, also not when an answer was lost and the
    ///   submission is given again.
    /// - One submission's refusal MUST NOT hinder the others. But after one that may be
    ///   taken later ([`AppendError::is_temporary`]) none MUST be recorded: order would be lost when it is
    ///   sent again.
    async fn append(&self, new_entries: &[NewEntry]) -> Vec<Result<Outcome, AppendError>>;

    /// Appends one submission if the journal still ends at `head`: nothing came in between.
    ///
    /// - It MUST NOT be recorded anywhere but right after `head`, not even when it arrives late, after it
    ///   was given up. So of any number of submissions that are given at the same head, whoever gives
    ///   them, at most one is recorded. This holds against what [`Journal::append`] records as well.
    /// - [`Outcome::Recorded`] MUST be answered only when it is the entry right after `head`, and durable.
    ///   Where an answer was lost on the way, and the entry there has the same identity and the same
    ///   bytes, it is taken for this call's: the same event given twice at the same time may be answered
    ///   `Recorded` twice, and is one entry.
    /// - An identity that is right after `head` already, or, where the journal still ends at `head`,
    ///   anywhere before it within the duplicate window, MUST be answered with [`Outcome::Duplicate`] or
    ///   [`Outcome::Conflict`] and its position, which tells whether it was recorded at this head or an
    ///   earlier one.
    /// - [`AppendError::WrongHead`] MUST be answered only when this call recorded nothing and never will. The
    ///   identity may nevertheless be in the journal, recorded elsewhere by another call: a journal that
    ///   has moved on need not look for it. Who judges again MUST look it up in the history first.
    /// - [`AppendError::Unavailable`] says as ever that nobody knows. The submission MAY be given again at
    ///   the same head: it is recorded once at most.
    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError>;

    /// Where the journal ends now.
    async fn head(&self) -> Result<Head, ReadError>;

    /// What of the journal's settings is no longer as a ledger needs it, in words: entries may be dropped,
    /// or already are. Nothing, where all is well.
    async fn config_drift(&self) -> Result<Vec<String>, ReadError>;

    /// The entry at a position; `None` if there is none, or none any more.
    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError>;

    /// Reads what comes after a position, in order, each once. With [`SubjectFilter::All`] no position is
    /// left out: what cannot be returned comes as [`Record::Gap`]. After an error the stream ends.
    fn read(
        &self,
        scope: SubjectFilter,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>>;
}

/// Times are kept in whole microseconds, as Postgres keeps them.
fn microseconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}
