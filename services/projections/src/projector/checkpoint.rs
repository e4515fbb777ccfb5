//! How far the ledger is folded.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{Head, Journal, ReadError};
use ledger_tlog::{Hash, gap_leaf_hash, leaf_hash};
use sqlx::PgConnection;
use tokio::time::{Instant, timeout_at};

use crate::Projections;
use crate::postgres::{Error, bigint, parsed, position};

pub(crate) const STATEMENTS: &[&str] = &[READ, MOVE];

const READ: &str = "SELECT position, stream_created, leaf_hash, root FROM projection";

/// The fence: of two projectors that come from the same position, one moves the row and the other
/// finds nothing to move.
const MOVE: &str = "UPDATE projection SET position = $2, stream_created = $3, leaf_hash = $4, root = $5
    WHERE position = $1";

/// How often a reader in another process than the projector looks whether the projections have moved.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where the projections stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last position that is folded into them.
    pub position: Position,
    /// When the stream that it is of was created; `None` while the position is 0.
    pub stream_created: Option<DateTime<Utc>>,
    /// The leaf hash at that position; `None` while the position is 0.
    pub leaf_hash: Option<Hash>,
    /// The root of the Merkle tree over everything up to it.
    pub root: Hash,
}

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The projections have the position.
    Reached,
    /// They do not yet: they are at this one.
    StillAt(Position),
}

/// Whether a journal is the one that the projections were folded from.
pub(crate) enum Continuity {
    /// It is.
    Intact,
    /// It seems to lack what was folded; it may only be behind.
    Unconfirmed(String),
    /// It is not.
    Diverged(String),
}

/// A restored or recreated stream gives positions away again: is it still the one that we know?
pub(crate) async fn recognise(
    journal: &dyn Journal,
    checkpoint: &Checkpoint,
) -> Result<Continuity, ReadError> {
    let (Some(created), Some(known)) = (checkpoint.stream_created, checkpoint.leaf_hash) else {
        return Ok(Continuity::Intact);
    };
    // Read after the standing was: it is not behind what was folded meanwhile.
    let (head, position) = (journal.head().await?, checkpoint.position);
    if head.created != created {
        return Ok(Continuity::Diverged(made_again(&head, created)));
    }
    if head.position < position {
        let reason = format!("it ends at {}, the projections are at {position}", head.position);
        return Ok(Continuity::Unconfirmed(reason));
    }
    if known == gap_leaf_hash(position.get()) {
        return Ok(Continuity::Intact);
    }
    Ok(match journal.entry(position).await? {
        Some(entry) if leaf_hash(&entry.bytes) == known => Continuity::Intact,
        Some(_) => Continuity::Diverged(format!("it has another entry at position {position}")),
        None => Continuity::Unconfirmed(format!("it has no entry at position {position} any more")),
    })
}

/// How it is said that a stream is not the one that was made then.
pub(crate) fn made_again(head: &Head, ours: DateTime<Utc>) -> String {
    format!("it was created at {}, ours at {ours}", head.created)
}

/// When the stream was made from which what follows is folded: not another one since it was recognised.
pub(crate) async fn created(
    journal: &dyn Journal,
    checkpoint: &Checkpoint,
) -> Result<DateTime<Utc>, ReadError> {
    let created = journal.head().await?.created;
    match checkpoint.stream_created {
        Some(known) if known != created => Err(ReadError(format!("it was made again at {created}"))),
        _ => Ok(created),
    }
}

/// The time after a short wait for the projections was given up in which no other is begun.
const HOPELESS: Duration = Duration::from_secs(5);

impl Projections {
    /// Where the projections stand.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn checkpoint(&self) -> Result<Checkpoint, Error> {
        let mut connection = self.pool()?.acquire().await?;
        let checkpoint = read(&mut connection).await?;
        self.seen.send_replace(Some(checkpoint.position));
        Ok(checkpoint)
    }

    /// How far the projector of this process is; the start, if it has none.
    #[must_use]
    pub fn projected(&self) -> Position {
        *self.local.borrow()
    }

    /// Waits until the projector of this process is no longer where it was, or this long. Whoever notes where it
    /// is before looking at the projections, and then waits with that, misses nothing.
    pub async fn moved(&self, from: Position, at_most: Duration) {
        let mut local = self.local.subscribe();
        // Either it moved, or it is time.
        let _ = tokio::time::timeout(at_most, local.wait_for(|position| *position != from)).await;
    }

    /// Returns true if it makes sense to wait shortly for the newest position: not within five seconds of a wait that was given up,
    /// unless the projections have come that far since.
    #[must_use]
    pub fn may_come_soon(&self) -> bool {
        let Some((missed, at)) = *self.given_up.borrow() else { return true };
        let seen = self.seen.borrow().unwrap_or(Position::START).max(*self.local.borrow());
        seen >= missed || at.elapsed() >= HOPELESS
    }

    /// Notes that a short wait for a position was given up.
    pub fn give_up(&self, missed: Position) {
        self.given_up.send_replace(Some((missed, Instant::now())));
    }

    /// Waits until the projections have a position.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn wait_for(&self, wanted: Position, patience: Duration) -> Result<Waited, Error> {
        let deadline = Instant::now() + patience;
        let mut local = self.local.subscribe();
        loop {
            // The projector only says when to look: after a crash the tables may be behind what it wrote.
            local.mark_unchanged();
            let checkpoint = self.checkpoint().await?;
            if checkpoint.position >= wanted {
                return Ok(Waited::Reached);
            }
            if Instant::now() >= deadline {
                return Ok(Waited::StillAt(checkpoint.position));
            }
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            // Either the projector of this process moved, or it is time to look again.
            let _ = timeout_at(look_again, local.changed()).await;
        }
    }
}

pub(crate) async fn read(connection: &mut PgConnection) -> Result<Checkpoint, Error> {
    type Row = (i64, Option<DateTime<Utc>>, Option<Vec<u8>>, Vec<u8>);
    let (at, stream_created, leaf_hash, root): Row = sqlx::query_as(READ).fetch_one(connection).await?;
    Ok(Checkpoint {
        position: position(at),
        stream_created,
        leaf_hash: leaf_hash.map(|bytes| hash(&bytes)).transpose()?,
        root: hash(&root)?,
    })
}

fn hash(bytes: &[u8]) -> Result<Hash, Error> {
    parsed("projection", "only_row", || <[u8; 32]>::try_from(bytes).map(Hash::from))
}

/// Moves the position, if it is still where `from` says.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    from: Position,
    to: &Checkpoint,
) -> Result<bool, Error> {
    let moved = sqlx::query(MOVE)
        .bind(bigint(from))
        .bind(bigint(to.position))
        .bind(to.stream_created)
        .bind(to.leaf_hash.as_ref().map(|hash| hash.as_bytes().as_slice()))
        .bind(to.root.as_bytes().as_slice())
        .execute(connection)
        .await?;
    Ok(moved.rows_affected() == 1)
}
