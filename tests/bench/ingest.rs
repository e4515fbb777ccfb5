//! Ingest over HTTP, compared with publishing the same bytes to NATS directly.

use ledger_codec::cloudevents::Envelope;
use ledger_tests::{Servers, Service};

use crate::PROGRAM;
use crate::load::{messages, post, publish_batches, publish_singles, raw_client, report_events, send_all};
use crate::report::Report;

const BATCH_EVENTS: usize = 500;
const BATCH_CONNECTIONS: usize = 8;
const SINGLE_CONNECTIONS: usize = 64;

/// Measures batches of 500 events over 8 connections, compared with atomic batches of the server's maximum size.
pub(crate) async fn batched(servers: &Servers, count: usize, report: &mut Report) {
    let events: Vec<Envelope> = report_events(count);
    let bodies = |events: &[Envelope]| -> Vec<Vec<u8>> {
        let lines = |batch: &[Envelope]| -> Vec<u8> {
            batch.iter().flat_map(|event| [event.bytes(), b"\n".as_slice()]).flatten().copied().collect()
        };
        events.chunks(BATCH_EVENTS).map(|batch| post("application/x-ndjson", &lines(batch))).collect()
    };
    let rate = |time: std::time::Duration| count as f64 / time.as_secs_f64();

    let client = raw_client(servers, "floor-batched").await;
    let baseline = rate(publish_batches(&client, &messages("floor-batched", &events), 1_000).await);

    for (tenant, roles, name, goal) in [
        ("ingest-only", "--only=http", "events/s, HTTP in batches of 500, role http only", Some(0.7)),
        ("ingest-and-projections", "--only=http,projector", "the same, projecting at the same time", None),
    ] {
        let tenants = format!("--tenants=default,{tenant}");
        let database = servers.fresh_database(&tenant.replace('-', "_")).await;
        let projections = format!("--projections-url={database}");
        let service = Service::start(PROGRAM, servers, &[roles, &tenants, &projections]).await;
        // A stream of its own for each run: in the same stream, the events would be duplicates.
        let requests = bodies(&events).into_iter().map(|request| for_tenant(request, tenant)).collect();
        let ours = rate(send_all(&service.url(), requests, BATCH_CONNECTIONS).await);
        report.rate(name, baseline, ours, goal);
        report.size(&format!("peak memory, {name}"), 200.0, mebibytes(service.peak_memory()));
    }
}

/// Measures single events over 64 connections, compared with as many concurrent publishers.
pub(crate) async fn singles(servers: &Servers, count: usize, report: &mut Report) {
    let events: Vec<Envelope> = report_events(count);
    let rate = |time: std::time::Duration| count as f64 / time.as_secs_f64();
    let client = raw_client(servers, "floor-singles").await;
    let baseline =
        rate(publish_singles(&client, messages("floor-singles", &events), SINGLE_CONNECTIONS).await);

    let database = servers.fresh_database("singles").await;
    let projections = format!("--projections-url={database}");
    let service = Service::start(PROGRAM, servers, &["--tenants=default,singles", &projections]).await;
    let request =
        |event: &Envelope| for_tenant(post("application/cloudevents+json", event.bytes()), "singles");
    let requests = events.iter().map(request).collect();
    let ours = rate(send_all(&service.url(), requests, SINGLE_CONNECTIONS).await);
    report.rate("events/s, HTTP one by one over 64 connections", baseline, ours, Some(3.0));
}

/// Changes the path of a request made by `post` to that of a tenant.
fn for_tenant(request: Vec<u8>, tenant: &str) -> Vec<u8> {
    let path = format!("POST /v1/tenants/{tenant}/events");
    [path.as_bytes(), &request["POST /v1/events".len()..]].concat()
}

/// Converts bytes to MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
