//! The state question at a random position, over HTTP and as SQL by hand, in ledgers of several sizes.

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service, projections_connection};
use sqlx::Row;

use crate::PROGRAM;
use crate::load::{Http, get};
use crate::projection::fill;
use crate::report::Report;

/// Asks the same questions of every ledger.
pub(crate) async fn questions(servers: &Servers, ledgers: [usize; 3], count: usize, report: &mut Report) {
    let tenants: Vec<String> = ledgers.iter().map(|size| format!("of-{size}")).collect();
    for (tenant, size) in tenants.iter().zip(ledgers) {
        fill(servers, tenant, size).await;
    }
    let flag = format!("--tenants=default,{}", tenants.join(","));
    let service = Service::start(PROGRAM, servers, &[&flag]).await;
    // Nothing is folded any more while questions are asked.
    for (tenant, size) in tenants.iter().zip(ledgers) {
        let waited = format!("/v1/tenants/{tenant}/position?wait_for={size}&wait_ms=30000");
        while service.client().get(&waited).await.status != 200 {}
        analyse(servers, tenant).await;
    }
    let mut p99s = Vec::new();
    for (tenant, size) in tenants.iter().zip(ledgers) {
        // Positions from all over the ledger, the same in every run.
        let positions: Vec<u64> =
            (1..=count as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size as u64 + 1).collect();
        let by_hand = by_hand(servers, tenant, &positions).await;
        let over_http = over_http(&service, tenant, &positions).await;
        let what = |which: &str| format!("{which} of the state at a random one of {size} positions");
        report.time(&what("median"), percentile(&by_hand, 50), percentile(&over_http, 50), None);
        report.time(&what("p99"), percentile(&by_hand, 99), percentile(&over_http, 99), Some(2.0));
        p99s.push(percentile(&over_http, 99));
    }
    let what = format!("p99 at {} entries beside that at {}", ledgers[2], ledgers[0]);
    report.time(&what, p99s[0], p99s[2], Some(1.5));
}

pub(crate) async fn analyse(servers: &Servers, tenant: &str) {
    let mut connection = projections_connection(&servers.postgres_url(), tenant).await;
    sqlx::query("VACUUM ANALYZE").execute(&mut connection).await.expect("analysed");
}

async fn by_hand(servers: &Servers, tenant: &str, positions: &[u64]) -> Vec<Duration> {
    let at_position = |sql: &&&str| sql.contains("NOT c.late AND c.position <= $2") && !sql.contains("$3");
    let sql = *ledger_projections::statements().iter().find(at_position).expect("the statement");
    let mut connection = projections_connection(&servers.postgres_url(), tenant).await;
    let mut took = Vec::with_capacity(positions.len());
    for position in positions {
        let began = Instant::now();
        let query = sqlx::query(sql).bind("production").bind(position.cast_signed());
        let rows = query.fetch_all(&mut connection).await.expect("rows");
        let _: i64 = rows[0].get(0);
        took.push(began.elapsed());
    }
    took
}

async fn over_http(service: &Service, tenant: &str, positions: &[u64]) -> Vec<Duration> {
    let mut http = Http::connect(&service.url()).await;
    let mut took = Vec::with_capacity(positions.len());
    for position in positions {
        let request = get(&format!("/v1/tenants/{tenant}/environments/production/state?at={position}"));
        let began = Instant::now();
        assert_eq!(http.ask(&request).await, 200);
        took.push(began.elapsed());
    }
    took
}

/// In milliseconds.
pub(crate) fn percentile(took: &[Duration], percent: usize) -> f64 {
    let mut took = took.to_vec();
    took.sort_unstable();
    took[(took.len() * percent / 100).min(took.len() - 1)].as_secs_f64() * 1_000.0
}
