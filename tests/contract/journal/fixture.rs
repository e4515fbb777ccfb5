//! The journals under test, with operations that delete entries from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{self, DiscardPolicy};
use chrono::{DateTime, Utc};
use ledger_domain::{Position, TenantName};
use ledger_journal::{MemoryJournal, SharedJournal};
use ledger_tests::{Cluster, STREAM};

use super::server::{Server, replicated, update};

/// An empty journal of the default tenant.
pub(super) trait Fixture {
    /// Returns a handle of the journal.
    fn journal(&self) -> SharedJournal;
    /// Returns another handle of the same journal that shares as little as possible with the first.
    async fn other(&self) -> SharedJournal;
    /// Deletes the first entries.
    async fn delete_first(&self, count: u64);
    /// Deletes these entries, which must be all that have a later entry with the same subject.
    async fn delete_superseded(&self, positions: &[u64]);
}

/// The journal in memory.
pub(super) struct InMemory(MemoryJournal);

impl InMemory {
    pub(super) fn new() -> Self {
        Self(MemoryJournal::new(TenantName::default(), ticking))
    }
}

/// Returns a time that is later with each call and finer than the precision of a journal.
fn ticking() -> DateTime<Utc> {
    static NANOSECONDS: AtomicI64 = AtomicI64::new(1_785_578_400_000_000_001);
    DateTime::from_timestamp_nanos(NANOSECONDS.fetch_add(1_300, Ordering::SeqCst))
}

impl Fixture for InMemory {
    fn journal(&self) -> SharedJournal {
        Arc::new(self.0.clone())
    }

    async fn other(&self) -> SharedJournal {
        self.journal()
    }

    async fn delete_first(&self, count: u64) {
        (1..=count).for_each(|number| self.0.punch_gap(Position::new(number)));
    }

    async fn delete_superseded(&self, positions: &[u64]) {
        positions.iter().for_each(|number| self.0.punch_gap(Position::new(*number)));
    }
}

/// The journal on one nats-server. Each handle has its own connection.
pub(super) struct SingleNode {
    journal: SharedJournal,
    server: Server,
}

impl SingleNode {
    pub(super) async fn start() -> Self {
        let server = Server::start().await;
        Self { journal: server.journal().await, server }
    }
}

impl Fixture for SingleNode {
    fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    async fn other(&self) -> SharedJournal {
        self.server.journal().await
    }

    async fn delete_first(&self, count: u64) {
        delete_first(&self.server.raw().await, count).await;
    }

    async fn delete_superseded(&self, positions: &[u64]) {
        delete_superseded(&self.server.raw().await, positions).await;
    }
}

/// The journal on three nodes with three replicas. Each handle has its own connection to any of the nodes.
pub(super) struct ThreeNodes {
    journal: SharedJournal,
    cluster: Cluster,
}

impl ThreeNodes {
    pub(super) async fn start() -> Self {
        let cluster = Cluster::start().await;
        Self { journal: replicated(&cluster).await, cluster }
    }
}

impl Fixture for ThreeNodes {
    fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    async fn other(&self) -> SharedJournal {
        replicated(&self.cluster).await
    }

    async fn delete_first(&self, count: u64) {
        delete_first(&self.cluster.operator().await, count).await;
    }

    async fn delete_superseded(&self, positions: &[u64]) {
        delete_superseded(&self.cluster.operator().await, positions).await;
    }
}

async fn delete_first(raw: &Context, count: u64) {
    let remaining = stored(raw).await - count;
    limit(raw, |config| match i64::try_from(remaining).expect("a count") {
        0 => config.max_bytes = 1,
        remaining => config.max_messages = remaining,
    })
    .await;
    assert_eq!(stored(raw).await, remaining);
}

async fn delete_superseded(raw: &Context, positions: &[u64]) {
    let remaining = stored(raw).await - positions.len() as u64;
    // Servers of version 2.12 delete messages only if the previous limit was greater.
    update(raw, |config| config.max_messages_per_subject = 1_000).await;
    limit(raw, |config| config.max_messages_per_subject = 1).await;
    assert_eq!(stored(raw).await, remaining);
}

/// Sets limits that make the server delete messages, and lifts them: messages cannot be deleted directly.
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
