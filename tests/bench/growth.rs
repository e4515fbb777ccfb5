//! The times of all queries in a ledger of ten million entries, compared with one of a hundred thousand.

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};

use crate::PROGRAM;
use crate::ingest::mebibytes;
use crate::load::{Http, get, post_json};
use crate::projection::fill;
use crate::report::Report;
use crate::state::{analyse, percentile};

/// Builds a request from a position.
type BuildRequest = fn(u64) -> Vec<u8>;

/// Sends the same queries to two ledgers of these sizes.
pub(crate) async fn queries(servers: &Servers, sizes: [usize; 2], count: usize, report: &mut Report) {
    let tenants = sizes.map(|size| format!("of-{size}"));
    for (tenant, size) in tenants.iter().zip(sizes) {
        fill(servers, tenant, size).await;
    }
    let flag = format!("--tenants={}", tenants.join(","));
    let mut service = Service::start_alive(PROGRAM, servers, &[&flag]).await;
    for (tenant, size) in tenants.iter().zip(sizes) {
        let wait = format!("/v1/tenants/{tenant}/position?wait_for={size}&wait_ms=30000");
        while service.client().get(&wait).await.status != 200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        analyse(servers, tenant).await;
    }
    report.size(
        &format!("peak memory, filling projections of {} entries", sizes[1]),
        200.0,
        mebibytes(service.peak_memory()),
    );
    // Restart, so that the peak memory of the queries is separate.
    service.kill().await;
    service.restart().await;

    let queries: [(&str, BuildRequest); 8] = [
        ("state now", |_| get("/environments/production/state")),
        ("state at a position", |at| get(&format!("/environments/production/state?at={at}"))),
        ("diff", |at| get(&format!("/environments/production/diff?from={at}"))),
        ("page of history", |at| get(&format!("/events?environment=production&after={at}&limit=50"))),
        ("entry", |at| get(&format!("/events/{at}"))),
        ("release points", |_| get("/environments/production/points?limit=5")),
        ("gate", |_| {
            post_json(
                "/environments/production/gate",
                "{\"service\":\"search-api\",\"release\":{\"version\":\"v1\"}}",
            )
        }),
        ("plan to the last known-good point", |_| {
            post_json("/environments/production/rollbacks?dry_run=true", "{\"to\":\"last-known-good\"}")
        }),
    ];
    for (query, build) in queries {
        let mut times = Vec::new();
        for (tenant, size) in tenants.iter().zip(sizes) {
            times.push(measure(&service, tenant, size as u64, count, build).await);
        }
        let goal = (query == "state at a position").then_some(1.5);
        let name =
            |statistic: &str| format!("{statistic} of {query} at {} entries, against {}", sizes[1], sizes[0]);
        report.time(&name("median"), percentile(&times[0], 50), percentile(&times[1], 50), None);
        report.time(&name("p99"), percentile(&times[0], 99), percentile(&times[1], 99), goal);
    }
    let name = format!("peak memory, queries of {} entries", sizes[1]);
    report.size(&name, 200.0, mebibytes(service.peak_memory()));
}

/// Sends one query at `count` positions and returns the times.
async fn measure(
    service: &Service,
    tenant: &str,
    size: u64,
    count: usize,
    build: BuildRequest,
) -> Vec<Duration> {
    let mut http = Http::connect(&service.url()).await;
    let mut times = Vec::with_capacity(count);
    for n in 1..=count as u64 {
        let request = build(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size + 1);
        let text = String::from_utf8(request).expect("the request is UTF-8");
        let request = text.replacen(" /", &format!(" /v1/tenants/{tenant}/"), 1).into_bytes();
        let began = Instant::now();
        let status = http.send(&request).await;
        times.push(began.elapsed());
        assert!(status == 200, "{status} to {text}");
    }
    times
}
