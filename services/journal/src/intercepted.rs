//! A journal whose calls are intercepted: for tests in which something happens, or fails, at a certain call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use ledger_domain::Position;

use crate::{
    AppendError, Entry, Head, Journal, KnownHistory, NewEntry, Outcome, ReadError, Record, SharedJournal,
    SubjectFilter, Until,
};

/// Actions before the calls of an [`InterceptedJournal`]. A method that is not overridden does nothing.
#[async_trait]
pub trait Interceptor: Send + Sync + 'static {
    /// Precedes each [`Journal::append`] of these events.
    ///
    /// # Errors
    /// The append fails with this error for each event, and nothing is recorded.
    async fn before_append(&self, _new_entries: &[NewEntry]) -> Result<(), AppendError> {
        Ok(())
    }

    /// Precedes each [`Journal::head`].
    async fn before_head(&self) {}
}

/// A journal that passes each call on to another journal, after its interceptor.
pub struct InterceptedJournal {
    journal: SharedJournal,
    interceptor: Arc<dyn Interceptor>,
}

impl InterceptedJournal {
    /// Intercepts the calls of a journal.
    #[must_use]
    pub fn new(journal: SharedJournal, interceptor: Arc<dyn Interceptor>) -> Self {
        Self { journal, interceptor }
    }
}

#[async_trait]
impl Journal for InterceptedJournal {
    async fn append(&self, new_entries: &[NewEntry]) -> Vec<Result<Outcome, AppendError>> {
        match self.interceptor.before_append(new_entries).await {
            Ok(()) => self.journal.append(new_entries).await,
            Err(error) => new_entries.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError> {
        self.journal.append_expecting(new_entry, head).await
    }

    async fn head(&self) -> Result<Head, ReadError> {
        self.interceptor.before_head().await;
        self.journal.head().await
    }

    async fn config_drift(&self) -> Result<Vec<String>, ReadError> {
        self.journal.config_drift().await
    }

    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError> {
        self.journal.entry(position).await
    }

    fn read(
        &self,
        filter: SubjectFilter,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        self.journal.read(filter, after, until)
    }

    fn read_after(
        &self,
        history: KnownHistory,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        self.journal.read_after(history, until)
    }

    fn connections(&self) -> u64 {
        self.journal.connections()
    }

    fn duplicate_window(&self) -> Duration {
        self.journal.duplicate_window()
    }
}
