//! The speed of the projector, compared with COPY of the rows that it writes.

use std::time::{Duration, Instant};

use ledger_tests::{
    Command, Servers, Service, projection_tables, projections_connection, projections_schema,
};
use sqlx::{Connection, PgConnection};

use crate::PROGRAM;
use crate::ingest::mebibytes;
use crate::load::{messages, publish_batches, raw_client};
use crate::report::Report;

/// Fills the stream of a tenant, in chunks of 50,000 events to bound the memory.
pub(crate) async fn fill(servers: &Servers, tenant: &str, count: usize) {
    let client = raw_client(servers, tenant).await;
    let mut history = ledger_demo::history(Some(count));
    loop {
        let chunk: Vec<_> = history.by_ref().take(50_000).collect();
        if chunk.is_empty() {
            return;
        }
        publish_batches(&client, &messages(tenant, &chunk), 1_000).await;
    }
}

/// Measures the projection of a full stream: into the live projections, and by a rebuild into new ones.
pub(crate) async fn catch_up(servers: &Servers, count: usize, report: &mut Report) {
    // Create the live projections before the stream has entries.
    drop(Service::start(PROGRAM, servers, &["--only=http"]).await);
    fill(servers, "default", count).await;
    let began = Instant::now();
    let service = Service::start(PROGRAM, servers, &["--only=http,projector"]).await;
    service.client().wait_for_projections(count as u64).await;
    let live = began.elapsed();
    let peak = mebibytes(service.peak_memory());

    let began = Instant::now();
    let (journal, projections) = (
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    );
    let command =
        ["projections", "rebuild", &journal, &projections, "--log-filter=warn", "--even-if-history-differs"];
    let outcome = Command::start(PROGRAM, &command).outcome().await;
    let rebuild = began.elapsed();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    drop(service);

    let baseline = copy_of_the_same_rows(servers).await;
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    let name = |work: &str| format!("entries/s, {work}, against COPY of the rows");
    report.rate(&name("the projector catching up"), rate(baseline), rate(live), Some(0.8));
    report.rate(&name("a rebuild of all projections"), rate(baseline), rate(rebuild), Some(0.8));
    report.size("peak memory, catching up", 200.0, peak);
}

/// Copies the final rows of every table into an empty table with the same indexes, and returns the time.
async fn copy_of_the_same_rows(servers: &Servers) -> Duration {
    let mut source = PgConnection::connect(&servers.postgres_url()).await.expect("connect to Postgres");
    let url = servers.fresh_database("floor").await;
    // The service creates the tables for an empty stream, and ends before they are filled.
    let projections = format!("--projections-url={url}");
    drop(Service::start(PROGRAM, servers, &["--only=http", "--tenants=floor", &projections]).await);
    let mut copy_target = PgConnection::connect(&url).await.expect("connect to Postgres");
    let source_schema = projections_schema(&mut source, "default").await;
    let target_schema = projections_schema(&mut copy_target, "floor").await;
    sqlx::query("SET synchronous_commit = off").execute(&mut copy_target).await.expect("set the option");
    let tables = {
        let mut connection = projections_connection(&servers.postgres_url(), "default").await;
        projection_tables(&mut connection).await
    };
    let mut time = Duration::ZERO;
    for table in tables.iter().filter(|table| *table != "projection") {
        let out = format!("COPY \"{source_schema}\".{table} TO STDOUT (FORMAT binary)");
        let mut rows = source.copy_out_raw(&out).await.expect("begin COPY");
        let into = format!("COPY \"{target_schema}\".{table} FROM STDIN (FORMAT binary)");
        let mut chunks = Vec::new();
        use futures::StreamExt as _;
        while let Some(chunk) = rows.next().await {
            chunks.push(chunk.expect("read a chunk"));
        }
        drop(rows);
        let began = Instant::now();
        let mut copy = copy_target.copy_in_raw(&into).await.expect("begin COPY");
        for chunk in chunks {
            copy.send(chunk).await.expect("send a chunk");
        }
        copy.finish().await.expect("finish COPY");
        time += began.elapsed();
    }
    time
}
