//! Monitors that the journal is still the one that the active projections were built from.
//!
//! A projector checks that whenever it starts. Processes that ingest events without a projector need the check as well:
//! identities in the projections are meaningless for another history. A stream that comes back from an older copy and
//! grows before it is compared has the entries of the projections that were built from it since. So each check also
//! compares the entry at the end of the previous one, and each connection to the journal starts with a full check.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{Continuity, Divergence, KnownHistory, ReadError, SharedJournal, UnconfirmedTimer};
use ledger_tlog::Hash;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::debug;

use crate::generations::tenants::TenantChange;
use crate::postgres::{Error, Projections};
use crate::projector::checkpoint::Checkpoint;

/// Interval between checks of a stream's creation time and length.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between full checks, which also read the projections and compare an entry.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of the check of one tenant: the next checks of all other tenants wait for it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the journals of some tenants periodically.
pub(crate) struct ContinuityMonitor {
    tenants: Vec<MonitoredTenant>,
    changes: mpsc::UnboundedReceiver<TenantChange>,
    /// Notified when another generation becomes active.
    generation_changed: Arc<Notify>,
}

struct MonitoredTenant {
    projections: Projections,
    journal: SharedJournal,
    /// The active generation.
    number: Option<i32>,
    /// The last conclusive full check of that generation.
    last_check: Option<FullCheck>,
    /// Position and leaf hash of the last checkpoint of that generation that the stream was found to have.
    last_leaf: Option<(Position, Hash)>,
    unconfirmed: UnconfirmedTimer,
}

/// The result of a conclusive full check.
struct FullCheck {
    /// Time of the check.
    at: Instant,
    /// Number of connections to the journal at the time.
    connections: u64,
    /// Creation time and minimum length of the stream; `None` if the journal diverged.
    stream: Option<(DateTime<Utc>, Position)>,
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Projections(#[from] Error),
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl ContinuityMonitor {
    pub(crate) fn new(
        ledgers: Vec<(Projections, SharedJournal)>,
        changes: mpsc::UnboundedReceiver<TenantChange>,
        generation_changed: Arc<Notify>,
    ) -> Self {
        let monitored = |(projections, journal)| MonitoredTenant::new(projections, journal);
        Self { tenants: ledgers.into_iter().map(monitored).collect(), changes, generation_changed }
    }

    /// Adds and removes tenants, as requested.
    fn apply_changes(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            match change {
                TenantChange::Added(projections, journal) => {
                    self.tenants.push(MonitoredTenant::new(*projections, journal));
                }
                TenantChange::Removed(tenant) => {
                    self.tenants.retain(|monitored| monitored.projections.tenant != tenant);
                }
            }
        }
    }

    /// Checks all tenants once.
    pub(crate) async fn check(&mut self) {
        let all = self.tenants.iter_mut().map(|monitored| async move {
            let tenant = monitored.projections.tenant.to_string();
            let error = match tokio::time::timeout(CHECK_TIMEOUT, monitored.check()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no response within {CHECK_TIMEOUT:?}"),
            };
            // Only consecutive checks may confirm a divergence.
            monitored.unconfirmed.reset();
            // Debug level: other users of the database and the journal report the outage.
            debug!(tenant, error, "cannot compare the journal with the projections");
        });
        futures::future::join_all(all).await;
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.apply_changes();
            self.check().await;
            tokio::select! {
                () = self.generation_changed.notified() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    }
}

impl MonitoredTenant {
    fn new(projections: Projections, journal: SharedJournal) -> Self {
        Self {
            projections,
            journal,
            number: None,
            last_check: None,
            last_leaf: None,
            unconfirmed: UnconfirmedTimer::default(),
        }
    }

    async fn check(&mut self) -> Result<(), CheckError> {
        let active = self.projections.active_number();
        if self.number != active {
            (self.number, self.last_check, self.last_leaf) = (active, None, None);
            self.unconfirmed.reset();
        }
        let Some(number) = active else { return Ok(()) };
        let connections = self.journal.connections();
        let head = self.journal.head().await?;
        if let Some(last_check) = &self.last_check {
            let recent =
                last_check.at.elapsed() < FULL_CHECK_INTERVAL && last_check.connections == connections;
            match last_check.stream {
                // A recreated stream is detected without the database, unless the projections are empty.
                Some((created, length))
                    if length > Position::START
                        && let Err(divergence) = KnownHistory::new(created).compare_creation(&head) =>
                {
                    self.record(connections, Err(divergence));
                    return Ok(());
                }
                Some((_, length)) if recent && head.position >= length => {
                    self.unconfirmed.reset();
                    return Ok(());
                }
                None if recent => return Ok(()),
                Some(_) | None => {}
            }
        }
        let checkpoint = self.projections.checkpoint().await?;
        let continuity = match self.known_history(&checkpoint) {
            Some(history) => history.check(self.journal.as_ref()).await?,
            None => Continuity::Intact,
        };
        if self.projections.active_number() != Some(number) {
            // Another generation became active: the next check starts over.
            return Ok(());
        }
        match self.unconfirmed.settle(continuity, Instant::now()) {
            // Empty projections belong to the current stream.
            Continuity::Intact => {
                let created = checkpoint.stream_created.unwrap_or(head.created);
                self.last_leaf = checkpoint.leaf_hash.map(|leaf| (checkpoint.position, leaf));
                self.record(connections, Ok((created, checkpoint.position)));
            }
            Continuity::Diverged(divergence) if divergence.may_recover() => {
                self.projections.set_divergence(Some(divergence.to_string()));
                // The journal may recover: the next check is a full one.
                self.last_check = None;
            }
            Continuity::Diverged(divergence) => self.record(connections, Err(divergence)),
            Continuity::Unconfirmed(_) => {}
        }
        Ok(())
    }

    /// Returns what is known of the stream by the checkpoint and by the last one; `None` while the position is 0.
    fn known_history(&self, checkpoint: &Checkpoint) -> Option<KnownHistory> {
        let (created, leaf_hash) = (checkpoint.stream_created?, checkpoint.leaf_hash?);
        let earlier = self.last_leaf.filter(|(position, _)| *position < checkpoint.position);
        let history = KnownHistory::new(created);
        let history = match earlier {
            Some((position, leaf_hash)) => history.with_leaf(position, leaf_hash),
            None => history,
        };
        Some(history.with_leaf(checkpoint.position, leaf_hash))
    }

    /// Publishes the stream that the projections belong to, or the reason of a divergence.
    fn record(&mut self, connections: u64, stream: Result<(DateTime<Utc>, Position), Divergence>) {
        self.unconfirmed.reset();
        let (stream, reason) = match stream {
            Ok(stream) => (Some(stream), None),
            Err(divergence) => (None, Some(divergence.to_string())),
        };
        // Publish the stream before clearing `divergence`: a reader must never see ingest open while the stream is
        // unknown.
        self.projections.stream.send_replace(stream.map(|(created, _)| created));
        self.projections.set_divergence(reason);
        self.last_check = Some(FullCheck { at: Instant::now(), connections, stream });
    }
}
