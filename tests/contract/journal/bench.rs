//! The journals under test, and what makes them lose entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{self, DiscardPolicy};
use chrono::{DateTime, Utc};
use ledger_domain::{Position, TenantName};
use ledger_journal::{MemoryJournal, SharedJournal};
use ledger_tests::{Cluster, STREAM};

use super::server::{Server, replicated, update};

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
}

impl Bench for OnNats {
    fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    async fn beside(&self) -> SharedJournal {
        self.server.journal().await
    }

    async fn lose_first(&self, count: u64) {
        lose_first(&self.server.raw().await, count).await;
    }

    async fn lose_superseded(&self, positions: &[u64]) {
        lose_superseded(&self.server.raw().await, positions).await;
    }
}

/// The journal on three nodes, in three replicas. Each way into it is a connection, and to whichever node.
pub(super) struct OnThreeNodes {
    journal: SharedJournal,
    cluster: Cluster,
}

impl OnThreeNodes {
    pub(super) async fn start() -> Self {
        let cluster = Cluster::start().await;
        Self { journal: replicated(&cluster).await, cluster }
    }
}

impl Bench for OnThreeNodes {
    fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    async fn beside(&self) -> SharedJournal {
        replicated(&self.cluster).await
    }

    async fn lose_first(&self, count: u64) {
        lose_first(&self.cluster.operator().await, count).await;
    }

    async fn lose_superseded(&self, positions: &[u64]) {
        lose_superseded(&self.cluster.operator().await, positions).await;
    }
}

async fn lose_first(raw: &Context, count: u64) {
    let left = stored(raw).await - count;
    limit(raw, |config| match i64::try_from(left).expect("a count") {
        0 => config.max_bytes = 1,
        left => config.max_messages = left,
    })
    .await;
    assert_eq!(stored(raw).await, left);
}

async fn lose_superseded(raw: &Context, positions: &[u64]) {
    let left = stored(raw).await - positions.len() as u64;
    // Servers of 2.12 drop something only where there was a greater limit before.
    update(raw, |config| config.max_messages_per_subject = 1_000).await;
    limit(raw, |config| config.max_messages_per_subject = 1).await;
    assert_eq!(stored(raw).await, left);
}

/// No message can be deleted, but an operator can set limits by which the server drops some.
async fn limit(raw: &Context, limit: impl FnOnce(&mut stream::Config)) {
    update(raw, |config| {
        config.discard = DiscardPolicy::Old;
        limit(config);
    })
    .await;
    update(raw, |config| {
        config.discard = DiscardPolicy::New;
        config.max_messages = -1;
        config.max_bytes = -1;
        config.max_messages_per_subject = -1;
    })
    .await;
}

async fn stored(raw: &Context) -> u64 {
    raw.get_stream(STREAM).await.expect("a stream").cached_info().state.messages
}
