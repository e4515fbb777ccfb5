//! In-memory journal: for tests, and as the simplest reference implementation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use ledger_domain::{IdentityKey, Position, TenantName};
use tokio::sync::watch;

use crate::{
    AppendError, Entry, Head, Journal, NewEntry, Outcome, ReadError, Record, Subject, SubjectFilter, Until,
    microseconds,
};

/// A journal that does not survive its process. Its duplicate window is unlimited.
#[derive(Clone)]
pub struct MemoryJournal {
    tenant: TenantName,
    created: DateTime<Utc>,
    clock: fn() -> DateTime<Utc>,
    log: Arc<Mutex<Log>>,
    head: watch::Sender<u64>,
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

    fn append(&mut self, new_entry: &NewEntry, now: DateTime<Utc>) -> Outcome {
        if let Some(position) = self.by_key.get(&new_entry.key) {
            let stored = self.at(*position).and_then(|(_, entry)| entry.as_ref());
            return match stored {
                Some(entry) if entry.bytes == new_entry.bytes => Outcome::Duplicate(*position),
                _ => Outcome::Conflict(*position),
            };
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
    ) -> Result<Outcome, AppendError> {
        let end = Position::new(self.entries.len() as u64);
        // With a later head, look for the identity right after the expected head only. JetStream reports no
        // more, so callers must not depend on more.
        if end == head || self.by_key.get(&new_entry.key) == Some(&head.next()) {
            Ok(self.append(new_entry, now))
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
        }
    }

    /// Loses the entry at a position, as a broken disk would: the position becomes a gap.
    pub fn punch_gap(&self, position: Position) {
        let mut log = self.log();
        let index = usize::try_from(position.get()).unwrap_or(usize::MAX).wrapping_sub(1);
        if let Some((_, entry)) = log.entries.get_mut(index) {
            *entry = None;
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
        let outcomes = new_entries.iter().map(|new_entry| Ok(log.append(new_entry, now))).collect();
        self.head.send_replace(log.entries.len() as u64);
        outcomes
    }

    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError> {
        let mut log = self.log();
        let now = microseconds((self.clock)());
        let outcome = log.append_expecting(new_entry, head, now);
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
}
