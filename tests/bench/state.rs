//! State queries at random positions in ledgers of several sizes: over HTTP, and as the same SQL without the service.

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service, projections_connection, statement};
use sqlx::{AssertSqlSafe, Row};

use crate::PROGRAM;
use crate::ingest::{MEMORY_LIMIT, mebibytes};
use crate::load::{Http, get};
use crate::projection::fill;
use crate::report::Report;

/// Sends the same queries to ledgers of these sizes.
pub(crate) async fn queries(servers: &Servers, sizes: [usize; 3], count: usize, report: &mut Report) {
    let tenants: Vec<String> = sizes.iter().map(|size| format!("of-{size}")).collect();
    for (tenant, size) in tenants.iter().zip(sizes) {
        fill(servers, tenant, size).await;
    }
    let flag = format!("--tenants=default,{}", tenants.join(","));
    let service = Service::start(PROGRAM, servers, &[&flag]).await;
    // Wait until all projections have caught up: nothing is projected during the queries.
    for (tenant, size) in tenants.iter().zip(sizes) {
        let wait = format!("/v1/tenants/{tenant}/position?wait_for={size}&wait_ms=30000");
        while service.client().get(&wait).await.status != 200 {}
        analyse(servers, tenant).await;
    }
    let mut p99s = Vec::new();
    for (tenant, size) in tenants.iter().zip(sizes) {
        // Positions spread over the whole ledger, the same in every run.
        let positions: Vec<u64> =
            (1..=count as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size as u64 + 1).collect();
        let as_sql = as_sql(servers, tenant, &positions).await;
        let over_http = over_http(&service, tenant, &positions).await;
        let name = |statistic: &str| format!("{statistic} of the state at a random one of {size} positions");
        report.time(&name("median"), percentile(&as_sql, 50), percentile(&over_http, 50), None);
        report.time(&name("p99"), percentile(&as_sql, 99), percentile(&over_http, 99), Some(2.0));
        p99s.push(percentile(&over_http, 99));
    }
    let name = format!("p99 of the state at {} entries, against {}", sizes[2], sizes[0]);
    report.time(&name, p99s[0], p99s[2], Some(1.5));
    report.size("peak memory, queries of the state", MEMORY_LIMIT, mebibytes(service.peak_memory()));
}

/// Updates the planner's statistics of a tenant's projections.
pub(crate) async fn analyse(servers: &Servers, tenant: &str) {
    let mut connection = projections_connection(&servers.postgres_url(), tenant).await;
    sqlx::query("VACUUM ANALYZE").execute(&mut connection).await.expect("analyse the tables");
}

async fn as_sql(servers: &Servers, tenant: &str, positions: &[u64]) -> Vec<Duration> {
    let sql = statement("lanes/state_at_position");
    let mut connection = projections_connection(&servers.postgres_url(), tenant).await;
    let mut times = Vec::with_capacity(positions.len());
    for position in positions {
        let began = Instant::now();
        let query = sqlx::query(AssertSqlSafe(sql.as_str())).bind("production").bind(position.cast_signed());
        let rows = query.fetch_all(&mut connection).await.expect("query the state");
        let _: i64 = rows[0].get(0);
        times.push(began.elapsed());
    }
    times
}

async fn over_http(service: &Service, tenant: &str, positions: &[u64]) -> Vec<Duration> {
    let mut http = Http::connect(&service.url()).await;
    let mut times = Vec::with_capacity(positions.len());
    for position in positions {
        let request = get(&format!("/v1/tenants/{tenant}/environments/production/state?at={position}"));
        let began = Instant::now();
        assert_eq!(http.send(&request).await, 200);
        times.push(began.elapsed());
    }
    times
}

/// Returns a percentile in milliseconds.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1_000.0
}
