//! Tasks of a tenant's subscriptions: started, woken and stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_projections::{EntrySummary, Lease, SubscriptionRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::context::Context;
use crate::worker::{Signals, Worker};

/// The task of a subscription.
struct Running {
    row: SubscriptionRow,
    /// Counts the reasons to look for entries.
    wake: watch::Sender<u64>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// The tasks of a tenant's subscriptions, by follower.
pub(crate) struct Workers {
    context: Arc<Context>,
    leases: watch::Receiver<Lease>,
    running: BTreeMap<String, Running>,
}

impl Workers {
    pub(crate) fn new(context: Arc<Context>, leases: watch::Receiver<Lease>) -> Self {
        Self { context, leases, running: BTreeMap::new() }
    }

    /// Starts and stops tasks, so that those of the enabled subscriptions run with their present settings. Forgets the
    /// deliveries of the subscriptions that were removed, also while no process delivered.
    pub(crate) async fn follow(&mut self, rows: Vec<SubscriptionRow>) {
        let present: Vec<String> = rows.iter().map(SubscriptionRow::follower).collect();
        let mut previous = std::mem::take(&mut self.running);
        for row in rows {
            let follower = row.follower();
            let predecessor = match previous.remove(&follower) {
                Some(running) if running.row == row => {
                    self.running.insert(follower, running);
                    continue;
                }
                Some(running) => {
                    running.stop.cancel();
                    Some(running)
                }
                None => None,
            };
            if row.disabled.is_none() {
                let running = self.start(row, predecessor);
                self.running.insert(follower, running);
            }
        }
        previous.values().for_each(|running| running.stop.cancel());
        for running in previous.into_values() {
            // Within the two seconds that a request in progress has to end.
            let _ = running.task.await;
        }
        let lease = self.leases.borrow().clone();
        if let Err(error) = self.context.records.forget_removed_deliveries(&lease, &present).await {
            let tenant = &self.context.subscriber.tenant;
            warn!(%error, %tenant, "cannot forget the deliveries of removed subscriptions; retrying later");
        }
    }

    /// Starts the task of a subscription, which begins after its predecessor has ended.
    fn start(&self, row: SubscriptionRow, predecessor: Option<Running>) -> Running {
        let (wake, woken) = watch::channel(0);
        let stop = CancellationToken::new();
        let context = Arc::clone(&self.context);
        let previous = predecessor.as_ref().map(|running| running.row.event_filter());
        let signals = Signals { woken, leases: self.leases.clone(), stop: stop.clone() };
        let worker = Worker::new(context, row.clone(), previous, signals);
        let task = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                let _ = predecessor.task.await;
            }
            worker.run().await;
        });
        Running { row, wake, stop, task: AbortOnDropHandle::new(task) }
    }

    /// Wakes the tasks whose filter some of the entries pass.
    pub(crate) fn wake(&self, entries: &[EntrySummary]) {
        for running in self.running.values() {
            let filter = &running.row.subscription.filter;
            let passes = |entry: &EntrySummary| {
                filter.matches(entry.kind, entry.environment.as_deref(), entry.service.as_deref())
            };
            if entries.iter().any(passes) {
                running.wake.send_modify(|reasons| *reasons += 1);
            }
        }
    }

    /// Stops all tasks, and waits until they have ended.
    pub(crate) async fn stop(self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        for running in self.running.into_values() {
            let _ = running.task.await;
        }
    }
}
