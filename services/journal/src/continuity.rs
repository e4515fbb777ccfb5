//! Continuity: the comparison of a stream with what a reader knows of it, to detect another stream or an older copy.
//!
//! A stream that was created again assigns positions a second time. One that was restored from an older copy of its
//! files keeps its creation time, lacks its last entries, and assigns their positions again. Both differ from what
//! was read before in the creation time or in an entry. An entry that is only missing proves nothing at first: after
//! a change of the stream's leader, the new one may lag behind. It counts as lost after a bounded time.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_tlog::{Hash, gap_leaf_hash};
use tokio::time::{Instant, sleep};

use crate::{Entry, Head, Journal, ReadError, Record};

/// Time for which a stream has to lack known entries before it counts as diverged. The election of a new stream leader
/// takes up to ten seconds, and so does a partitioned leader until it steps down.
pub const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(12);
/// Interval between the checks of [`KnownHistory::confirm`].
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Part of a stream that a reader or a writer has seen: its creation time, and entries at some positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHistory {
    stream_created: DateTime<Utc>,
    /// In order of the positions.
    entries: Vec<(Position, KnownEntry)>,
}

/// What is known of the entry or the gap at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KnownEntry {
    /// Its leaf hash.
    Leaf(Hash),
    /// Its bytes: a writer does not know the time at which the server recorded them.
    Bytes(Bytes),
}

impl KnownEntry {
    fn is_gap_at(&self, position: Position) -> bool {
        *self == Self::Leaf(gap_leaf_hash(position.get()))
    }

    fn matches(&self, entry: &Entry) -> bool {
        match self {
            Self::Leaf(leaf) => entry.leaf_hash() == *leaf,
            Self::Bytes(bytes) => entry.bytes == *bytes,
        }
    }
}

/// Result of comparing a stream with a known history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuity {
    /// The stream has the known history.
    Intact,
    /// The stream lacks known entries; the server may only lag behind.
    Unconfirmed(Divergence),
    /// The stream is another one, or was restored from an older copy.
    Diverged(Divergence),
}

/// Difference between a stream and a known history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// The stream was deleted and created again.
    #[error("the stream was created at {found}, the known one at {known}")]
    Recreated {
        /// Creation time of the stream.
        found: DateTime<Utc>,
        /// Creation time of the known stream.
        known: DateTime<Utc>,
    },
    /// The stream assigned a position again, after it was restored from an older copy.
    #[error("the stream has a different entry at position {0}")]
    Reassigned(Position),
    /// The stream ends before a known position.
    #[error("the stream ends at position {end}, before the known position {known}")]
    TooShort {
        /// Last position of the stream.
        end: Position,
        /// Known position.
        known: Position,
    },
    /// The stream does not return a known entry.
    #[error("the stream no longer has the entry at position {0}")]
    Missing(Position),
}

/// Reason why a history is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ContinuityError {
    /// The stream differs from the known history.
    #[error(transparent)]
    Diverged(#[from] Divergence),
    /// The stream cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl Divergence {
    /// Returns true if another server, or the same one later, may still have what this one lacks.
    #[must_use]
    pub const fn may_recover(&self) -> bool {
        matches!(self, Self::TooShort { .. } | Self::Missing(_))
    }
}

impl From<Divergence> for Continuity {
    fn from(divergence: Divergence) -> Self {
        if divergence.may_recover() { Self::Unconfirmed(divergence) } else { Self::Diverged(divergence) }
    }
}

impl KnownHistory {
    /// Creates the history of a stream of which only the creation time is known.
    #[must_use]
    pub const fn new(stream_created: DateTime<Utc>) -> Self {
        Self { stream_created, entries: Vec::new() }
    }

    /// Adds the leaf hash of an entry or a gap. Positions must increase from call to call.
    #[must_use]
    pub fn with_leaf(mut self, position: Position, leaf_hash: Hash) -> Self {
        self.entries.push((position, KnownEntry::Leaf(leaf_hash)));
        self
    }

    /// Adds the bytes of an entry of which the time of recording is not known. Positions must increase from call to
    /// call.
    #[must_use]
    pub fn with_bytes(mut self, position: Position, bytes: Bytes) -> Self {
        self.entries.push((position, KnownEntry::Bytes(bytes)));
        self
    }

    /// Returns the last known position; [`Position::START`] if only the creation time is known.
    #[must_use]
    pub fn end(&self) -> Position {
        self.entries.last().map_or(Position::START, |(position, _)| *position)
    }

    /// Returns the history of a reader that has read one more record. Keeps only the last known entry: a gap
    /// identifies no stream.
    #[must_use]
    pub(crate) fn continued_by(self, record: &Record) -> Self {
        match record {
            Record::Gap(_) => self,
            Record::Entry(entry) => {
                Self::new(self.stream_created).with_leaf(entry.position, entry.leaf_hash())
            }
        }
    }

    /// Compares the stream with this history.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn check(&self, journal: &dyn Journal) -> Result<Continuity, ReadError> {
        // The history was read before the head, so an up-to-date server cannot return a head behind it.
        let head = journal.head().await?;
        if let Err(divergence) = self.compare_creation(&head) {
            return Ok(divergence.into());
        }
        for (position, known) in &self.entries {
            let compared = match compare_end(&head, *position) {
                Ok(()) if known.is_gap_at(*position) => Ok(()),
                Ok(()) => compare_entry(journal.entry(*position).await?.as_ref(), *position, known),
                too_short => too_short,
            };
            if let Err(divergence) = compared {
                return Ok(divergence.into());
            }
        }
        Ok(Continuity::Intact)
    }

    /// Verifies that the stream has this history. Waits up to `timeout` for entries that it lacks.
    ///
    /// # Errors
    /// The stream differs, or cannot be read.
    pub async fn confirm(&self, journal: &dyn Journal, timeout: Duration) -> Result<(), ContinuityError> {
        let mut timer = UnconfirmedTimer::new(timeout);
        loop {
            match timer.settle(self.check(journal).await?, Instant::now()) {
                Continuity::Intact => return Ok(()),
                Continuity::Diverged(divergence) => return Err(divergence.into()),
                Continuity::Unconfirmed(_) => {
                    let remaining = timer.remaining(Instant::now()).unwrap_or_default();
                    sleep(remaining.min(CHECK_INTERVAL)).await;
                }
            }
        }
    }

    /// Compares the creation time of a stream, which its head states, with the known one.
    ///
    /// # Errors
    /// The stream was created again.
    pub fn compare_creation(&self, head: &Head) -> Result<(), Divergence> {
        if head.created == self.stream_created {
            return Ok(());
        }
        Err(Divergence::Recreated { found: head.created, known: self.stream_created })
    }
}

fn compare_end(head: &Head, known: Position) -> Result<(), Divergence> {
    if head.position < known { Err(Divergence::TooShort { end: head.position, known }) } else { Ok(()) }
}

fn compare_entry(found: Option<&Entry>, position: Position, known: &KnownEntry) -> Result<(), Divergence> {
    match found {
        Some(entry) if known.matches(entry) => Ok(()),
        Some(_) => Err(Divergence::Reassigned(position)),
        None => Err(Divergence::Missing(position)),
    }
}

/// Bounds the time for which a history may stay unconfirmed.
#[derive(Debug)]
pub struct UnconfirmedTimer {
    timeout: Duration,
    /// Time of the first of the last checks in a row that were unconfirmed.
    since: Option<Instant>,
}

impl Default for UnconfirmedTimer {
    fn default() -> Self {
        Self::new(UNCONFIRMED_TIMEOUT)
    }
}

impl UnconfirmedTimer {
    /// Creates a timer with this timeout.
    #[must_use]
    pub const fn new(timeout: Duration) -> Self {
        Self { timeout, since: None }
    }

    /// Returns the result of a check, as diverged if all checks were unconfirmed for the timeout.
    #[must_use]
    pub fn settle(&mut self, continuity: Continuity, now: Instant) -> Continuity {
        let Continuity::Unconfirmed(divergence) = continuity else {
            self.reset();
            return continuity;
        };
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= self.timeout {
            Continuity::Diverged(divergence)
        } else {
            Continuity::Unconfirmed(divergence)
        }
    }

    /// Returns the time until an unconfirmed history counts as diverged; `None` if the last check was not unconfirmed.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| self.timeout.saturating_sub(now.duration_since(since)))
    }

    /// Starts over, because a check failed: only checks in a row confirm a divergence.
    pub const fn reset(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use ledger_domain::event::Payload;
    use ledger_domain::{EnvironmentName, IdentityKey, TenantName};
    use uuid::Uuid;

    use super::*;
    use crate::{MemoryJournal, NewEntry, Subject};

    fn clock() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn later() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_secs(1)
    }

    fn bytes(number: u128) -> Bytes {
        Bytes::from(format!(r#"{{"number":{number}}}"#))
    }

    async fn append(journal: &MemoryJournal, number: u128) {
        let environment = EnvironmentName::parse("production").expect("a name");
        let subject = Subject::of(&TenantName::default(), &Payload::EnvironmentRetired(environment));
        let entry = NewEntry { subject, key: IdentityKey(Uuid::from_u128(number)), bytes: bytes(number) };
        assert!(journal.append(&[entry]).await.iter().all(Result::is_ok));
    }

    async fn journal(created: fn() -> DateTime<Utc>, numbers: &[u128]) -> MemoryJournal {
        let journal = MemoryJournal::new(TenantName::default(), created);
        for number in numbers {
            append(&journal, *number).await;
        }
        journal
    }

    /// The history of a reader of the entries 1 and 2.
    fn known() -> KnownHistory {
        let leaf = |number: u64| {
            let (position, bytes) = (Position::new(number), bytes(number.into()));
            (position, Entry { position, recorded_at: clock(), bytes }.leaf_hash())
        };
        let ((first, first_leaf), (second, second_leaf)) = (leaf(1), leaf(2));
        KnownHistory::new(clock()).with_leaf(first, first_leaf).with_leaf(second, second_leaf)
    }

    async fn check(history: &KnownHistory, journal: &MemoryJournal) -> Continuity {
        history.check(journal).await.expect("read")
    }

    #[tokio::test]
    async fn a_stream_with_the_known_entries_is_intact_also_if_it_has_grown() {
        for numbers in [&[1, 2][..], &[1, 2, 3]] {
            assert_eq!(check(&known(), &journal(clock, numbers).await).await, Continuity::Intact);
        }
    }

    #[tokio::test]
    async fn a_stream_that_was_created_again_has_diverged() {
        let recreated = journal(later, &[1, 2]).await;

        let only_creation = KnownHistory::new(clock());

        let expected = Continuity::Diverged(Divergence::Recreated { found: later(), known: clock() });
        assert_eq!(check(&known(), &recreated).await, expected);
        assert_eq!(check(&only_creation, &recreated).await, expected);
        assert_eq!(check(&only_creation, &journal(clock, &[]).await).await, Continuity::Intact);
    }

    #[tokio::test]
    async fn an_older_copy_that_has_grown_has_diverged() {
        let found = check(&known(), &journal(clock, &[1, 7, 8]).await).await;

        assert_eq!(found, Continuity::Diverged(Divergence::Reassigned(Position::new(2))));
    }

    #[tokio::test]
    async fn an_entry_with_another_time_has_diverged_unless_only_its_bytes_are_known() {
        fn elsewhere() -> DateTime<Utc> {
            static CALLS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
            // The stream is created at the known time, and its entries are recorded later.
            let calls = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            DateTime::UNIX_EPOCH + chrono::TimeDelta::microseconds(calls)
        }
        let moved = journal(elsewhere, &[1, 2]).await;
        let by_bytes = KnownHistory::new(clock()).with_bytes(Position::new(2), bytes(2));
        let other_bytes = KnownHistory::new(clock()).with_bytes(Position::new(2), bytes(7));

        let found = check(&known(), &moved).await;

        assert_eq!(found, Continuity::Diverged(Divergence::Reassigned(Position::new(1))));
        assert_eq!(check(&by_bytes, &moved).await, Continuity::Intact);
        let reassigned = Continuity::Diverged(Divergence::Reassigned(Position::new(2)));
        assert_eq!(check(&other_bytes, &moved).await, reassigned);
    }

    #[tokio::test]
    async fn a_stream_that_ends_before_the_known_entries_is_unconfirmed() {
        let found = check(&known(), &journal(clock, &[1]).await).await;

        let (end, known) = (Position::new(1), Position::new(2));
        assert_eq!(found, Continuity::Unconfirmed(Divergence::TooShort { end, known }));
    }

    #[tokio::test]
    async fn a_different_entry_is_found_in_a_stream_that_is_also_too_short() {
        let found = check(&known(), &journal(clock, &[7]).await).await;

        assert_eq!(found, Continuity::Diverged(Divergence::Reassigned(Position::new(1))));
    }

    #[tokio::test]
    async fn a_lost_entry_is_unconfirmed_and_a_known_gap_is_intact() {
        let lossy = journal(clock, &[1, 2]).await;
        lossy.punch_gap(Position::new(2));
        let gap = KnownHistory::new(clock()).with_leaf(Position::new(2), gap_leaf_hash(2));

        let missing = Continuity::Unconfirmed(Divergence::Missing(Position::new(2)));
        assert_eq!(check(&known(), &lossy).await, missing);
        assert_eq!(check(&gap, &lossy).await, Continuity::Intact);
    }

    #[test]
    fn an_unconfirmed_history_has_diverged_after_the_timeout() {
        let missing = || Continuity::Unconfirmed(Divergence::Missing(Position::new(2)));
        let start = Instant::now();
        let mut timer = UnconfirmedTimer::default();

        assert_eq!(timer.settle(missing(), start), missing());
        let (millisecond, almost) =
            (Duration::from_millis(1), start + UNCONFIRMED_TIMEOUT - Duration::from_millis(1));
        assert_eq!(timer.settle(missing(), almost), missing());
        assert_eq!(timer.remaining(almost), Some(millisecond));
        assert_eq!(
            timer.settle(missing(), start + UNCONFIRMED_TIMEOUT),
            Continuity::Diverged(Divergence::Missing(Position::new(2)))
        );
    }

    #[test]
    fn the_timeout_starts_over_after_a_check_that_is_intact_or_failed() {
        let missing = || Continuity::Unconfirmed(Divergence::Missing(Position::new(2)));
        let start = Instant::now();
        let end = start + UNCONFIRMED_TIMEOUT;
        let (mut intact, mut failed) = (UnconfirmedTimer::default(), UnconfirmedTimer::default());
        let _ = (intact.settle(missing(), start), failed.settle(missing(), start));

        let _ = intact.settle(Continuity::Intact, start);
        failed.reset();

        assert_eq!((intact.remaining(start), failed.remaining(start)), (None, None));
        assert_eq!(intact.settle(missing(), end), missing());
        assert_eq!(failed.settle(missing(), end), missing());
    }

    #[tokio::test]
    async fn a_history_is_confirmed_once_the_stream_has_caught_up() {
        let behind = journal(clock, &[1]).await;
        let history = known();

        let mut confirmed = Box::pin(history.confirm(&behind, UNCONFIRMED_TIMEOUT));
        assert!(futures::poll!(&mut confirmed).is_pending());
        append(&behind, 2).await;

        assert!(confirmed.await.is_ok());
    }

    #[tokio::test]
    async fn a_history_that_stays_unconfirmed_is_an_error_after_the_timeout() {
        let shortened = journal(clock, &[1]).await;

        let confirmed = known().confirm(&shortened, Duration::ZERO).await;

        assert!(matches!(confirmed, Err(ContinuityError::Diverged(Divergence::TooShort { .. }))));
    }
}
