//! How every question fares in a ledger of ten million entries beside one of a hundred thousand.

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};

use crate::PROGRAM;
use crate::ingest::mebibytes;
use crate::load::{Http, get, post_json};
use crate::projection::fill;
use crate::report::Report;
use crate::state::{analyse, percentile};

/// A request to a tenant, for a position.
type Ask = fn(u64) -> Vec<u8>;

/// Asks the same questions of both ledgers.
pub(crate) async fn of_questions(servers: &Servers, sizes: [usize; 2], count: usize, report: &mut Report) {
    let tenants = sizes.map(|size| format!("of-{size}"));
    for (tenant, size) in tenants.iter().zip(sizes) {
        fill(servers, tenant, size).await;
    }
    let flag = format!("--tenants={}", tenants.join(","));
    let mut service = Service::start_alive(PROGRAM, servers, &[&flag]).await;
    for (tenant, size) in tenants.iter().zip(sizes) {
        let waited = format!("/v1/tenants/{tenant}/position?wait_for={size}&wait_ms=30000");
        while service.client().get(&waited).await.status != 200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        analyse(servers, tenant).await;
    }
    report.size(
        &format!("peak memory, filling projections of {} entries", sizes[1]),
        200.0,
        mebibytes(service.peak_memory()),
    );
    // What it takes to answer is told apart.
    service.kill().await;
    service.start_again().await;

    let questions: [(&str, Ask); 8] = [
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
    for (name, ask) in questions {
        let mut of_each = Vec::new();
        for (tenant, size) in tenants.iter().zip(sizes) {
            of_each.push(asked(&service, tenant, size as u64, count, ask).await);
        }
        let goal = (name == "state at a position").then_some(1.5);
        let what = |which: &str| format!("{which} of a {name} in {} entries beside {}", sizes[1], sizes[0]);
        report.time(&what("median"), percentile(&of_each[0], 50), percentile(&of_each[1], 50), None);
        report.time(&what("p99"), percentile(&of_each[0], 99), percentile(&of_each[1], 99), goal);
    }
    let what = format!("peak memory, answering from {} entries", sizes[1]);
    report.size(&what, 200.0, mebibytes(service.peak_memory()));
}

async fn asked(service: &Service, tenant: &str, size: u64, count: usize, ask: Ask) -> Vec<Duration> {
    let mut http = Http::connect(&service.url()).await;
    let mut took = Vec::with_capacity(count);
    for n in 1..=count as u64 {
        let request = ask(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size + 1);
        let text = String::from_utf8(request).expect("text");
        let request = text.replacen(" /", &format!(" /v1/tenants/{tenant}/"), 1).into_bytes();
        let began = Instant::now();
        let status = http.ask(&request).await;
        took.push(began.elapsed());
        assert!(status == 200, "{status} to {text}");
    }
    took
}
