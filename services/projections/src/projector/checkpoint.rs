//! The checkpoint of a generation: its position, and the check that the journal still continues from there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{Continuity, Journal, KnownHistory, ReadError};
use ledger_tlog::Hash;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, PgConnection};
use tokio::time::{Instant, timeout_at};

use crate::bulk_insert::BatchStatement;
use crate::postgres::{Error, Projections, bigint, position};
use crate::sql::sql;

/// Table of the checkpoint, which has one row.
const CHECKPOINT_TABLE: &str = "projection";
/// Interval at which a process without the projector polls the position.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The position of the projections, with the hashes that identify the history up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last position that is applied.
    pub position: Position,
    /// The creation time of the stream; `None` while the position is 0.
    pub stream_created: Option<DateTime<Utc>>,
    /// The leaf hash at that position; `None` while the position is 0.
    pub leaf_hash: Option<Hash>,
    /// The root of the Merkle tree up to that position.
    pub root: Hash,
}

/// The result of [`Projections::wait_for`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The projections have reached the position.
    Reached,
    /// The wait was given up; the projections are at this position.
    StillAt(Position),
}

/// Returns true if a generation has no usable checkpoint: its history is unknown.
pub(crate) fn is_missing(error: &Error) -> bool {
    error.is_missing_table() || matches!(error, Error::Inconsistent { table: CHECKPOINT_TABLE, .. })
}

impl Checkpoint {
    /// Returns what the projections know of the stream; `None` while the position is 0.
    pub(crate) fn history(&self) -> Option<KnownHistory> {
        let (created, leaf_hash) = (self.stream_created?, self.leaf_hash?);
        Some(KnownHistory::new(created).with_leaf(self.position, leaf_hash))
    }
}

/// Checks that the journal holds the history of a checkpoint.
pub(crate) async fn check_continuity(
    journal: &dyn Journal,
    checkpoint: &Checkpoint,
) -> Result<Continuity, ReadError> {
    match checkpoint.history() {
        Some(history) => history.check(journal).await,
        None => Ok(Continuity::Intact),
    }
}

/// Returns the creation time of the stream; fails if the stream was recreated since the checkpoint.
pub(crate) async fn stream_created_at(
    journal: &dyn Journal,
    checkpoint: &Checkpoint,
) -> Result<DateTime<Utc>, ReadError> {
    let created = journal.head().await?.created;
    match checkpoint.stream_created {
        Some(expected) if expected != created => {
            Err(ReadError(format!("the stream was recreated at {created}")))
        }
        _ => Ok(created),
    }
}

/// Time after a wait was given up during which no other short wait is worthwhile.
const MISSED_WAIT_COOLDOWN: Duration = Duration::from_secs(5);

impl Projections {
    /// Returns the checkpoint of the active generation.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn checkpoint(&self) -> Result<Checkpoint, Error> {
        let mut connection = self.pool()?.acquire().await?;
        let checkpoint = read(&mut connection).await?;
        self.last_seen.send_replace(Some(checkpoint.position));
        Ok(checkpoint)
    }

    /// Returns the position of this process's projector; the start if it has none.
    #[must_use]
    pub fn local_position(&self) -> Position {
        *self.local_position.borrow()
    }

    /// Waits until the position of this process's projector differs from `from`, at most for a time. A caller that
    /// reads [`Self::local_position`] before it queries, and passes that here, misses no change.
    pub async fn wait_for_local_change(&self, from: Position, at_most: Duration) {
        let mut local = self.local_position.subscribe();
        // A timeout is no error: the caller queries again in both cases.
        let _ = tokio::time::timeout(at_most, local.wait_for(|position| *position != from)).await;
    }

    /// Returns the number of failed checks that this process's projectors have applied so far. Their rows are visible.
    #[must_use]
    pub fn failed_checks_applied(&self) -> u64 {
        *self.failed_checks.borrow()
    }

    /// Waits until [`Self::failed_checks_applied`] differs from `from`, at most for a time. A caller that reads the
    /// number before it queries, and passes that here, misses no failed check that this process applies.
    pub async fn wait_for_failed_check(&self, from: u64, at_most: Duration) {
        let mut applied = self.failed_checks.subscribe();
        // A timeout is no error: the caller queries again in both cases.
        let _ = tokio::time::timeout(at_most, applied.wait_for(|applied| *applied != from)).await;
    }

    /// Returns true if a short wait for the newest position is worthwhile. It is not within five seconds after a wait
    /// was given up, unless the projections have reached that position since.
    #[must_use]
    pub fn is_short_wait_worthwhile(&self) -> bool {
        let Some((missed, at)) = *self.missed_wait.borrow() else { return true };
        let last_seen = self.last_seen.borrow().unwrap_or(Position::START);
        let reached = last_seen.max(*self.local_position.borrow());
        reached >= missed || at.elapsed() >= MISSED_WAIT_COOLDOWN
    }

    /// Records that a short wait for a position was given up.
    pub fn record_missed_wait(&self, missed: Position) {
        self.missed_wait.send_replace(Some((missed, Instant::now())));
    }

    /// Waits until the projections reach a position, at most for `timeout`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn wait_for(&self, wanted: Position, timeout: Duration) -> Result<Waited, Error> {
        self.wait_for_within(wanted, u64::MAX, timeout).await
    }

    /// Waits like [`Projections::wait_for`], but gives up at once if the projections are more than `max_lag` entries
    /// behind the position.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn wait_for_within(
        &self,
        wanted: Position,
        max_lag: u64,
        timeout: Duration,
    ) -> Result<Waited, Error> {
        let deadline = Instant::now() + timeout;
        let mut local = self.local_position.subscribe();
        loop {
            // The tables decide: after a crash of Postgres they may be behind the projector's position.
            local.mark_unchanged();
            let checkpoint = self.checkpoint().await?;
            if checkpoint.position >= wanted {
                return Ok(Waited::Reached);
            }
            let is_far = wanted.get() - checkpoint.position.get() > max_lag;
            if is_far || Instant::now() >= deadline {
                return Ok(Waited::StillAt(checkpoint.position));
            }
            let next_poll = deadline.min(Instant::now() + POLL_INTERVAL);
            // A timeout is no error: the position is read again in both cases.
            let _ = timeout_at(next_poll, local.changed()).await;
        }
    }
}

pub(crate) async fn read(connection: &mut PgConnection) -> Result<Checkpoint, Error> {
    type Row = (i64, Option<DateTime<Utc>>, Option<Vec<u8>>, Vec<u8>);
    let row: Option<Row> = sqlx::query_as(sql!("checkpoint/read")).fetch_optional(connection).await?;
    let (at, stream_created, leaf_hash, root) = row.ok_or_else(|| inconsistent("the row is missing"))?;
    if at > 0 && stream_created.is_none() {
        // Without it, another stream would not be detected.
        return Err(inconsistent(format!("stream_created is null at position {at}")));
    }
    if at > 0 && leaf_hash.is_none() {
        return Err(inconsistent(format!("leaf_hash is null at position {at}")));
    }
    Ok(Checkpoint {
        position: position(at),
        stream_created,
        leaf_hash: leaf_hash.map(|bytes| hash("leaf_hash", &bytes)).transpose()?,
        root: hash("root", &root)?,
    })
}

fn hash(column: &str, bytes: &[u8]) -> Result<Hash, Error> {
    let hash = <[u8; Hash::LENGTH]>::try_from(bytes).map(Hash::from);
    hash.map_err(|_| inconsistent(format!("{column} has {} bytes, not {}", bytes.len(), Hash::LENGTH)))
}

/// Returns the error of a checkpoint that is not one that a projector writes.
fn inconsistent(detail: impl Into<String>) -> Error {
    Error::Inconsistent { table: CHECKPOINT_TABLE, row: "the only one".into(), detail: detail.into() }
}

/// Begins the statement of a batch with its fence, which moves the position from `from`, unless another projector moved
/// it first.
pub(crate) fn advance(from: Position, to: &Checkpoint) -> Result<BatchStatement, Error> {
    let arguments = advance_arguments(from, to).map_err(sqlx::Error::Encode)?;
    Ok(BatchStatement::new(sql!("checkpoint/advance").trim_end(), arguments))
}

fn advance_arguments(from: Position, to: &Checkpoint) -> Result<PgArguments, BoxDynError> {
    let mut arguments = PgArguments::default();
    Arguments::add(&mut arguments, bigint(from))?;
    Arguments::add(&mut arguments, bigint(to.position))?;
    Arguments::add(&mut arguments, to.stream_created)?;
    Arguments::add(&mut arguments, to.leaf_hash.as_ref().map(|hash| hash.as_bytes().as_slice()))?;
    Arguments::add(&mut arguments, to.root.as_bytes().as_slice())?;
    Ok(arguments)
}
