//! In-memory journal: for tests, and as the simplest reference implementation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use ledger_domain::{IdentityKey, Position, TenantName};
use tokio::sync::watch;

use crate::{
    AppendError, Continuity, Entry, Head, Journal, KnownHistory, NewEntry, Outcome, ReadError, Record,
    Subject, SubjectFilter, Until, microseconds,
};

/// A journal that does not survive its process. Its duplicate window is unlimited, unless another one is set.
#[derive(Clone)]
pub struct MemoryJournal {
    tenant: TenantName,
    created: DateTime<Utc>,
    clock: fn() -> DateTime<Utc>,
    log: Arc<Mutex<Log>>,
    head: watch::Sender<u64>,
    connections: Arc<AtomicU64>,
    duplicate_window: Duration,
}

#[derive(Default)]
struct Log {
    entries: Vec<(Subject, Option<Entry>)>,
    by_key: HashMap<IdentityKey, Position>,
}

impl Log {
    fn at(&self, position: Position) -> Option<&(Subject, Option<Entry>)> {
        let index = usize::try_from(position.get()).ok()?.checked_sub(1)?;
        self.entries.get(index)
    }

    fn append(&mut self, new_entry: &NewEntry, now: DateTime<Utc>, window: Duration) -> Outcome {
        if let Some(position) = self.by_key.get(&new_entry.key) {
            let stored = self.at(*position).and_then(|(_, entry)| entry.as_ref());
            let age = stored.map(|entry| (now - entry.recorded_at).to_std().unwrap_or_default());
            if age.is_none_or(|age| age <= window) {
                return match stored {
                    Some(entry) if entry.bytes == new_entry.bytes => Outcome::Duplicate(*position),
                    _ => Outcome::Conflict(*position),
                };
            }
        }
        let position = Position::new(self.entries.len() as u64 + 1);
        let entry = Entry { position, recorded_at: now, bytes: new_entry.bytes.clone() };
        self.entries.push((new_entry.subject.clone(), Some(entry)));
        self.by_key.insert(new_entry.key, position);
        Outcome::Recorded(position)
    }

    fn append_expecting(
        &mut self,
        new_entry: &NewEntry,
        head: Position,
        now: DateTime<Utc>,
        window: Duration,
    ) -> Result<Outcome, AppendError> {
        let end = Position::new(self.entries.len() as u64);
        // With a later head, look for the identity right after the expected head only. JetStream reports no
        // more, so callers must not depend on more.
        if end == head || self.by_key.get(&new_entry.key) == Some(&head.next()) {
            Ok(self.append(new_entry, now, window))
        } else {
            Err(AppendError::WrongHead(format!("expected {head}, found {end}")))
        }
    }
}

impl MemoryJournal {
    /// Creates an empty journal. `clock` supplies the times at which entries are recorded.
    #[must_use]
    pub fn new(tenant: TenantName, clock: fn() -> DateTime<Utc>) -> Self {
        Self {
            tenant,
            created: microseconds(clock()),
            clock,
            log: Arc::default(),
            head: watch::Sender::new(0),
            connections: Arc::new(AtomicU64::new(1)),
            duplicate_window: Duration::MAX,
        }
    }

    /// Returns the same journal with a duplicate window.
    #[must_use]
    pub fn with_duplicate_window(self, duplicate_window: Duration) -> Self {
        Self { duplicate_window, ..self }
    }

    /// Loses the entry at a position, as a broken disk would: the position becomes a gap.
    pub fn punch_gap(&self, position: Position) {
        let mut log = self.log();
        let index = usize::try_from(position.get()).unwrap_or(usize::MAX).wrapping_sub(1);
        if let Some((_, entry)) = log.entries.get_mut(index) {
            *entry = None;
        }
    }

    /// Loses all entries after a position, as a server that is restored from an older copy of its files: its clients
    /// connect again.
    pub fn restore_copy(&self, end: Position) {
        let mut log = self.log();
        log.entries.truncate(usize::try_from(end.get()).unwrap_or(usize::MAX));
        log.by_key.retain(|_, position| *position <= end);
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.head.send_replace(log.entries.len() as u64);
    }

    /// Returns an error if the journal does not have a known history.
    async fn confirm(&self, history: &KnownHistory) -> Result<(), ReadError> {
        match history.check(self).await? {
            Continuity::Intact => Ok(()),
            Continuity::Unconfirmed(divergence) | Continuity::Diverged(divergence) => {
                Err(ReadError(divergence.to_string()))
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A panic of a holder cannot leave a partial entry, so a poisoned lock is safe to use.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_record(&self, filter: &SubjectFilter, after: Position, last: Position) -> Option<Record> {
        let subject_filter = Subject::filter(&self.tenant, filter);
        let log = self.log();
        (after.get() + 1..=last.get()).map(Position::new).find_map(|position| match log.at(position)? {
            (subject, Some(entry)) => subject.matches(&subject_filter).then(|| Record::Entry(entry.clone())),
            (_, None) => (*filter == SubjectFilter::All).then_some(Record::Gap(position)),
        })
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, new_entries: &[NewEntry]) -> Vec<Result<Outcome, AppendError>> {
        let mut log = self.log();
        // Read the clock while the log is locked, so that times never decrease with the position.
        let now = microseconds((self.clock)());
        let window = self.duplicate_window;
        let outcomes = new_entries.iter().map(|new_entry| Ok(log.append(new_entry, now, window))).collect();
        self.head.send_replace(log.entries.len() as u64);
        outcomes
    }

    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError> {
        let mut log = self.log();
        let now = microseconds((self.clock)());
        let outcome = log.append_expecting(new_entry, head, now, self.duplicate_window);
        self.head.send_replace(log.entries.len() as u64);
        outcome
    }

    async fn head(&self) -> Result<Head, ReadError> {
        Ok(Head { position: Position::new(self.log().entries.len() as u64), created: self.created })
    }

    async fn config_drift(&self) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError> {
        Ok(self.log().at(position).and_then(|(_, entry)| entry.clone()))
    }

    fn read(
        &self,
        filter: SubjectFilter,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        let journal = self.clone();
        let mut head = self.head.subscribe();
        if let Until::Position(_) = until {
            head.mark_unchanged();
        }
        stream::unfold(
            (journal, filter, after, head),
            move |(journal, filter, mut after, mut head)| async move {
                loop {
                    let end = Position::new(*head.borrow_and_update());
                    let last = match until {
                        Until::Position(last) => last.min(end),
                        Until::Forever => end,
                    };
                    if let Some(record) = journal.next_record(&filter, after, last) {
                        return Some((Ok(record.clone()), (journal, filter, record.position(), head)));
                    }
                    if until != Until::Forever || head.changed().await.is_err() {
                        return None;
                    }
                    after = after.max(last);
                }
            },
        )
        .boxed()
    }

    fn read_after(
        &self,
        history: KnownHistory,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        let journal = self.clone();
        let opened = async move {
            let connections = journal.connections();
            journal.confirm(&history).await?;
            let records = journal.read(SubjectFilter::All, history.end(), until);
            let state = (journal, records, history, connections);
            Ok(stream::try_unfold(state, |(journal, mut records, mut history, connections)| async move {
                let Some(record) = records.try_next().await? else { return Ok(None) };
                let now = journal.connections();
                if now != connections {
                    journal.confirm(&history).await?;
                }
                history = history.continued_by(&record);
                Ok(Some((record, (journal, records, history, now))))
            }))
        };
        stream::once(opened).try_flatten().boxed()
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn duplicate_window(&self) -> Duration {
        self.duplicate_window
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ledger_domain::EnvironmentName;
    use ledger_domain::event::Payload;
    use uuid::Uuid;

    use super::*;

    async fn append(journal: &MemoryJournal, numbers: impl IntoIterator<Item = u128>) {
        let environment = EnvironmentName::parse("production").expect("a name");
        let subject = Subject::of(&TenantName::default(), &Payload::EnvironmentRetired(environment));
        for number in numbers {
            let (key, bytes) = (IdentityKey(Uuid::from_u128(number)), Bytes::from(number.to_string()));
            let outcomes = journal.append(&[NewEntry { subject: subject.clone(), key, bytes }]).await;
            assert!(outcomes.iter().all(Result::is_ok));
        }
    }

    async fn history(journal: &MemoryJournal, end: u64) -> KnownHistory {
        let entry = journal.entry(Position::new(end)).await.expect("read").expect("an entry");
        KnownHistory::new(DateTime::UNIX_EPOCH).with_leaf(entry.position, entry.leaf_hash())
    }

    #[tokio::test]
    async fn a_reader_of_a_known_history_takes_no_entry_of_an_older_copy() {
        let journal = MemoryJournal::new(TenantName::default(), || DateTime::UNIX_EPOCH);
        append(&journal, 1..=5).await;
        let known = history(&journal, 3).await;
        let mut reader = journal.read_after(known.clone(), Until::Forever);
        let mut positions = Vec::new();
        for _ in 0..2 {
            positions.push(reader.next().await.expect("a record").expect("a record").position().get());
        }
        journal.restore_copy(Position::new(2));
        append(&journal, 101..=110).await;

        let next = reader.next().await.expect("an error").expect_err("an entry of the copy");
        let mut again = journal.read_after(known, Until::Forever);
        let first = again.next().await.expect("an error").expect_err("an entry of the copy");

        assert_eq!(positions, [4, 5]);
        assert_eq!(next.0, "the stream has a different entry at position 5");
        assert_eq!(first.0, "the stream has a different entry at position 3");
    }

    #[tokio::test]
    async fn a_reader_continues_over_another_connection_to_the_same_journal() {
        let journal = MemoryJournal::new(TenantName::default(), || DateTime::UNIX_EPOCH);
        append(&journal, 1..=3).await;
        let mut reader = journal.read_after(history(&journal, 3).await, Until::Forever);
        journal.restore_copy(Position::new(3));
        append(&journal, [4]).await;

        let record = reader.next().await.expect("a record").expect("a record");

        assert_eq!(record.position(), Position::new(4));
    }
}
