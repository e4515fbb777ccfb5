//! Tasks of a tenant's subscriptions: started, woken and stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_projections::{EntrySummary, Lease, SubscriptionRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::context::Context;
use crate::worker::Worker;

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
    /// deliveries of the subscriptions that were removed meanwhile.
    pub(crate) async fn follow(&mut self, rows: Vec<SubscriptionRow>) {
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
                    Some(running.task)
                }
                None => None,
            };
            if row.disabled.is_none() {
                let running = self.start(row, predecessor);
                self.running.insert(follower, running);
            }
        }
        previous.values().for_each(|running| running.stop.cancel());
        for (follower, running) in previous {
            // Within the two seconds that a request in progress has to end.
            let _ = running.task.await;
            if let Err(error) = self.context.projections().forget_deliveries(&follower).await {
                warn!(%error, follower, "cannot forget the deliveries of a removed subscription");
            }
        }
    }

    /// Starts the task of a subscription, which begins after its predecessor has ended.
    fn start(&self, row: SubscriptionRow, predecessor: Option<AbortOnDropHandle<()>>) -> Running {
        let (wake, woken) = watch::channel(0);
        let stop = CancellationToken::new();
        let context = Arc::clone(&self.context);
        let worker = Worker::new(context, row.clone(), woken, self.leases.clone(), stop.clone());
        let task = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                let _ = predecessor.await;
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
