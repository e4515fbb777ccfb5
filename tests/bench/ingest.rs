//! Events in: acknowledged over HTTP, beside the same bytes published raw.

use ledger_codec::cloudevents::Envelope;
use ledger_tests::{Servers, Service};

use crate::PROGRAM;
use crate::load::{messages, post, publish_batches, publish_singles, raw_client, reports, send_all};
use crate::report::Report;

const MEMBERS: usize = 500;
const CONNECTIONS: usize = 8;
const SINGLES_AT_ONCE: usize = 64;

/// Batches of 500 over 8 connections, beside atomic batches of as many as the server takes.
pub(crate) async fn batched(servers: &Servers, count: usize, report: &mut Report) {
    let events: Vec<Envelope> = reports(count);
    let bodies = |events: &[Envelope]| -> Vec<Vec<u8>> {
        let lines = |batch: &[Envelope]| -> Vec<u8> {
            batch.iter().flat_map(|event| [event.bytes(), b"\n".as_slice()]).flatten().copied().collect()
        };
        events.chunks(MEMBERS).map(|batch| post("application/x-ndjson", &lines(batch))).collect()
    };
    let rate = |took: std::time::Duration| count as f64 / took.as_secs_f64();

    let client = raw_client(servers, "floor-batched").await;
    let floor = rate(publish_batches(&client, &messages("floor-batched", &events), 1_000).await);

    for (tenant, roles, what, goal) in [
        ("intake-alone", "--only=http", "events/s, HTTP in batches of 500, the role http alone", Some(0.7)),
        ("intake-and-projections", "--only=http,projector", "the same, projecting at the same time", None),
    ] {
        let tenants = format!("--tenants=default,{tenant}");
        let database = servers.fresh_database(&tenant.replace('-', "_")).await;
        let projections = format!("--projections-url={database}");
        let service = Service::start(PROGRAM, servers, &[roles, &tenants, &projections]).await;
        // Each round has a stream of its own: the same events would be duplicates.
        let requests = bodies(&events).into_iter().map(|request| of_tenant(request, tenant)).collect();
        let ours = rate(send_all(&service.url(), requests, CONNECTIONS).await);
        report.rate(what, floor, ours, goal);
        report.size(&format!("peak memory, {what}"), 200.0, mebibytes(service.peak_memory()));
    }
}

/// Single events over 64 connections, beside raw publishes with as many at once.
pub(crate) async fn singles(servers: &Servers, count: usize, report: &mut Report) {
    let events: Vec<Envelope> = reports(count);
    let rate = |took: std::time::Duration| count as f64 / took.as_secs_f64();
    let client = raw_client(servers, "floor-singles").await;
    let floor = rate(publish_singles(&client, messages("floor-singles", &events), SINGLES_AT_ONCE).await);

    let database = servers.fresh_database("singles").await;
    let projections = format!("--projections-url={database}");
    let service = Service::start(PROGRAM, servers, &["--tenants=default,singles", &projections]).await;
    let request =
        |event: &Envelope| of_tenant(post("application/cloudevents+json", event.bytes()), "singles");
    let requests = events.iter().map(request).collect();
    let ours = rate(send_all(&service.url(), requests, SINGLES_AT_ONCE).await);
    report.rate("events/s, HTTP one by one over 64 connections", floor, ours, Some(3.0));
}

fn of_tenant(request: Vec<u8>, tenant: &str) -> Vec<u8> {
    let path = format!("POST /v1/tenants/{tenant}/events");
    [path.as_bytes(), &request["POST /v1/events".len()..]].concat()
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
