//! Messages from NATS, and entries to NATS, over a connection of their own.

mod entries;
mod lanes;
mod queue;
mod requests;
mod responses;

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_client::identity;
use ledger_domain::TenantName;
use ledger_journal::jetstream::{Connection, OpenError};
use ledger_projections::{EventFilter, Projections};
use ledger_streams::follower::{Follower, FollowerSettings, StartAt};
use ledger_streams::inbound::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use entries::{EntrySink, FOLLOWER, PAGE_SIZE};
use queue::QueueReader;

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
        let answering =
            requests::serve(tenant.clone(), connection.clone(), Arc::clone(&receiver), stop.clone());
        tasks.push(tokio::spawn(answering));
        let reader = QueueReader {
            tenant,
            projections,
            connection: connection.clone(),
            receiver: Arc::clone(&receiver),
            max_bytes: settings.queue_bytes.get(),
            process,
        };
        tasks.push(tokio::spawn(reader.run(stop.clone())));
    }
    for (tenant, projections) in of(&settings.publish_tenants) {
        let follower = FollowerSettings {
            name: FOLLOWER.to_owned(),
            filter: EventFilter::default(),
            start: StartAt::Now,
            page_size: PAGE_SIZE,
            process,
        };
        let sink = EntrySink { tenant, publisher: connection.publisher() };
        tasks.push(tokio::spawn(Follower::new(follower, projections, sink).run(stop.clone())));
    }
    Ok(tasks)
}
