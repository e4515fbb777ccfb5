//! The journals under test, and what makes them lose entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_nats::jetstream::stream::{self, DiscardPolicy};
use chrono::{DateTime, Utc};
use ledger_domain::{Position, TenantName};
use ledger_journal::{MemoryJournal, SharedJournal};

use super::server::{STREAM, Server};

/// An empty journal of the default tenant, under test.
pub(super) trait Bench {
    /// The journal.
    fn journal(&self) -> SharedJournal;
    /// Another way into the same journal, that shares as little as can be with the first.
    async fn beside(&self) -> SharedJournal;
    /// Loses the first entries.
    async fn lose_first(&self, count: u64);
    /// Loses these entries: all those that have a later one under their subject.
    async fn lose_superseded(&self, positions: &[u64]);
}

/// The journal in memory.
pub(super) struct Memory(MemoryJournal);

impl Memory {
    pub(super) fn new() -> Self {
        Self(MemoryJournal::new(TenantName::default(), ticking))
    }
}

/// A clock that is never twice at the same time, and that is finer than what a journal keeps.
fn ticking() -> DateTime<Utc> {
    static NANOSECONDS: AtomicI64 = AtomicI64::new(1_785_578_400_000_000_001);
    DateTime::from_timestamp_nanos(NANOSECONDS.fetch_add(1_300, Ordering::SeqCst))
}

impl Bench for Memory {
    fn journal(&self) -> SharedJournal {
        Arc::new(self.0.clone())
    }

    async fn beside(&self) -> SharedJournal {
        self.journal()
    }

    async fn lose_first(&self, count: u64) {
        (1..=count).for_each(|number| self.0.lose(Position::new(number)));
    }

    async fn lose_superseded(&self, positions: &[u64]) {
        positions.iter().for_each(|number| self.0.lose(Position::new(*number)));
    }
}

/// The journal on JetStream. Each way into it is a connection.
pub(super) struct OnNats {
    journal: SharedJournal,
    server: Server,
}

impl OnNats {
    pub(super) async fn start() -> Self {
        let server = Server::start().await;
        Self { journal: server.journal().await, server }
    }

    /// No message can be deleted, but an operator can set limits by which the server drops some.
    async fn limit(&self, limit: impl FnOnce(&mut stream::Config)) {
        self.server
            .update(|config| {
                config.discard = DiscardPolicy::Old;
                limit(config);
            })
            .await;
        self.server
            .update(|config| {
                config.discard = DiscardPolicy::New;
                config.max_messages = -1;
                config.max_bytes = -1;
                config.max_messages_per_subject = -1;
            })
            .await;
    }

    async fn count(&self) -> u64 {
        let raw = self.server.raw().await;
        raw.get_stream(STREAM).await.expect("a stream").cached_info().state.messages
    }
}

impl Bench for OnNats {
    fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    async fn beside(&self) -> SharedJournal {
        self.server.journal().await
    }

    async fn lose_first(&self, count: u64) {
        let left = self.count().await - count;
        self.limit(|config| match i64::try_from(left).expect("a count") {
            0 => config.max_bytes = 1,
            left => config.max_messages = left,
        })
        .await;
        assert_eq!(self.count().await, left);
    }

    async fn lose_superseded(&self, positions: &[u64]) {
        let left = self.count().await - positions.len() as u64;
        // Servers of 2.12 drop something only where there was a greater limit before.
        self.server.update(|config| config.max_messages_per_subject = 1_000).await;
        self.limit(|config| config.max_messages_per_subject = 1).await;
        assert_eq!(self.count().await, left);
    }
}
