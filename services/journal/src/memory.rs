//! A journal in memory: for tests, and the plainest statement of what a journal is.

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

/// A journal that is gone with the process. Its duplicate window is unlimited.
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
            let kept = self.at(*position).and_then(|(_, entry)| entry.as_ref());
            return match kept {
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
        // No more is known of a journal that has moved on than what stands right after the old end: who
        // judges again must not come to rely on more, JetStream does not tell more.
        if end == head || self.by_key.get(&new_entry.key) == Some(&head.next()) {
            Ok(self.append(new_entry, now))
        } else {
            Err(AppendError::WrongHead(format!("it was to end at {head} and ends at {end}")))
        }
    }
}

impl MemoryJournal {
    /// An empty journal whose entries are recorded at the times that `clock` tells.
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

    /// Loses the entry at a position, as a broken disk would.
    pub fn lose(&self, position: Position) {
        let mut log = self.log();
        let index = usize::try_from(position.get()).unwrap_or(usize::MAX).wrapping_sub(1);
        if let Some((_, entry)) = log.entries.get_mut(index) {
            *entry = None;
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A panic while it was held cannot have left an entry half written.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, scope: &SubjectFilter, after: Position, last: Position) -> Option<Record> {
        let filter = Subject::filter(&self.tenant, scope);
        let log = self.log();
        (after.get() + 1..=last.get()).map(Position::new).find_map(|position| match log.at(position)? {
            (subject, Some(entry)) => subject.is_in(&filter).then(|| Record::Entry(entry.clone())),
            (_, None) => (*scope == SubjectFilter::All).then_some(Record::Gap(position)),
        })
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, new_entries: &[NewEntry]) -> Vec<Result<Outcome, AppendError>> {
        let mut log = self.log();
        // Asked while the log is held: who asks earlier may come later, and time would go back.
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
        scope: SubjectFilter,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        let journal = self.clone();
        let mut head = self.head.subscribe();
        if let Until::Position(_) = until {
            head.mark_unchanged();
        }
        stream::unfold(
            (journal, scope, after, head),
            move |(journal, scope, mut after, mut head)| async move {
                loop {
                    let end = Position::new(*head.borrow_and_update());
                    let last = match until {
                        Until::Position(last) => last.min(end),
                        Until::Forever => end,
                    };
                    if let Some(record) = journal.next(&scope, after, last) {
                        return Some((Ok(record.clone()), (journal, scope, record.position(), head)));
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
