//! Messages from NATS, and entries to NATS, over a connection of their own.

mod entries;
mod publisher_queues;
mod queue;
mod requests;
mod responses;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use ledger_client::identity;
use ledger_domain::TenantName;
use ledger_journal::jetstream::{Connection, OpenError};
use ledger_projections::{EventFilter, Projections};
use ledger_streams::follower::{Follower, FollowerSettings, StartAt};
use ledger_streams::inbound::Receiver;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::Config;
use entries::{EntrySink, FOLLOWER, PAGE_SIZE};
use queue::QueueReader;

/// Delay before a task that panicked is started again.
const RESTART_DELAY: Duration = Duration::from_secs(5);

/// Starts the tasks that record messages from NATS and publish entries, as the settings state for each tenant.
///
/// `primaries` has the projections of each tenant on the primary. The tasks end after `stop` is cancelled, and hold the
/// receiver until then.
///
/// # Errors
/// No server accepts the connection.
pub(crate) async fn start(
    config: &Config,
    receiver: Arc<dyn Receiver>,
    primaries: &BTreeMap<TenantName, Projections>,
    stop: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, OpenError> {
    let settings = &config.nats;
    let mut tasks = Vec::new();
    if settings.ingest_tenants.is_empty() && settings.publish_tenants.is_empty() {
        return Ok(tasks);
    }
    let connection = Connection::open_for_messages(config.journal.settings()).await?;
    let process = identity::process();
    let of = |tenants: &[TenantName]| -> Vec<(TenantName, Projections)> {
        let found =
            tenants.iter().filter_map(|tenant| Some((tenant.clone(), primaries.get(tenant)?.clone())));
        found.collect()
    };
    for (tenant, projections) in of(&settings.ingest_tenants) {
        let answer = {
            let (tenant, connection) = (tenant.clone(), connection.clone());
            let (receiver, stop) = (Arc::clone(&receiver), stop.clone());
            move || requests::serve(tenant.clone(), connection.clone(), Arc::clone(&receiver), stop.clone())
        };
        tasks.push(tokio::spawn(restarting("answering requests", stop.clone(), answer)));
        let reader = QueueReader {
            tenant,
            projections,
            connection: connection.clone(),
            receiver: Arc::clone(&receiver),
            max_bytes: settings.queue_bytes.get(),
            process,
        };
        let reading = stop.clone();
        let read = move || reader.clone().run(reading.clone());
        tasks.push(tokio::spawn(restarting("reading a work queue", stop.clone(), read)));
    }
    for (tenant, projections) in of(&settings.publish_tenants) {
        let follower = FollowerSettings {
            name: FOLLOWER.to_owned(),
            filter: EventFilter::default(),
            start: StartAt::Now,
            page_size: PAGE_SIZE,
            process,
        };
        let sink = EntrySink { publisher: connection.publisher(&tenant), tenant };
        tasks.push(tokio::spawn(Follower::new(follower, projections, sink).run(stop.clone())));
    }
    Ok(tasks)
}

/// Runs a task until it ends, and again after it panics.
async fn restarting<F: Future<Output = ()>>(
    what: &'static str,
    stop: CancellationToken,
    mut start: impl FnMut() -> F,
) {
    while AssertUnwindSafe(start()).catch_unwind().await.is_err() {
        error!(what, "a task of NATS panicked; restarting it");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(RESTART_DELAY) => {}
        }
    }
}
