//! The projector catching up, beside COPY of the rows that it writes.

use std::time::{Duration, Instant};

use ledger_tests::{
    Command, Servers, Service, projection_tables, projections_connection, projections_schema,
};
use sqlx::{Connection, PgConnection};

use crate::PROGRAM;
use crate::ingest::mebibytes;
use crate::load::{messages, publish_batches, raw_client};
use crate::report::Report;

/// Fills the stream of the tenant `default`, in pieces, so that memory stays flat.
pub(crate) async fn fill(servers: &Servers, tenant: &str, count: usize) {
    let client = raw_client(servers, tenant).await;
    let mut history = ledger_demo::history(Some(count));
    loop {
        let piece: Vec<_> = history.by_ref().take(50_000).collect();
        if piece.is_empty() {
            return;
        }
        publish_batches(&client, &messages(tenant, &piece), 1_000).await;
    }
}

/// Entries that are there already, folded as fast as can be: into projections that answer, and into new ones beside them.
pub(crate) async fn catching_up(servers: &Servers, count: usize, report: &mut Report) {
    // Projections that answer are there before there is anything to fold.
    drop(Service::start(PROGRAM, servers, &["--only=http"]).await);
    fill(servers, "default", count).await;
    let began = Instant::now();
    let service = Service::start(PROGRAM, servers, &["--only=http,projector"]).await;
    service.client().projections_at(count as u64).await;
    let ours = began.elapsed();
    let peak = mebibytes(service.peak_memory());

    let began = Instant::now();
    let (journal, projections) = (
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    );
    let rebuild =
        ["projections", "rebuild", &journal, &projections, "--log-filter=warn", "--even-if-history-differs"];
    let rebuilt = Command::start(PROGRAM, &rebuild).outcome().await;
    let anew = began.elapsed();
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    drop(service);

    let floor = copy_of_the_same_rows(servers).await;
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    let what = |which: &str| format!("entries/s, {which}, beside COPY of the rows");
    report.rate(&what("the projector catching up"), rate(floor), rate(ours), Some(0.8));
    report.rate(&what("all projections filled anew"), rate(floor), rate(anew), Some(0.8));
    report.size("peak memory, catching up", 200.0, peak);
}

/// COPY of every table's final rows into the same tables, empty and with their indexes.
async fn copy_of_the_same_rows(servers: &Servers) -> Duration {
    let mut from = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let url = servers.fresh_database("floor").await;
    // The service makes the tables, of a ledger that has nothing, and is gone before they are filled.
    let projections = format!("--projections-url={url}");
    drop(Service::start(PROGRAM, servers, &["--only=http", "--tenants=floor", &projections]).await);
    let mut to = PgConnection::connect(&url).await.expect("connected");
    let (here, there) =
        (projections_schema(&mut from, "default").await, projections_schema(&mut to, "floor").await);
    sqlx::query("SET synchronous_commit = off").execute(&mut to).await.expect("set");
    let tables = {
        let mut connection = projections_connection(&servers.postgres_url(), "default").await;
        projection_tables(&mut connection).await
    };
    let mut took = Duration::ZERO;
    for table in tables.iter().filter(|table| *table != "projection") {
        let out = format!("COPY \"{here}\".{table} TO STDOUT (FORMAT binary)");
        let mut rows = from.copy_out_raw(&out).await.expect("rows");
        let into = format!("COPY \"{there}\".{table} FROM STDIN (FORMAT binary)");
        let mut pieces = Vec::new();
        use futures::StreamExt as _;
        while let Some(piece) = rows.next().await {
            pieces.push(piece.expect("a piece"));
        }
        drop(rows);
        let began = Instant::now();
        let mut copy = to.copy_in_raw(&into).await.expect("COPY begins");
        for piece in pieces {
            copy.send(piece).await.expect("sent");
        }
        copy.finish().await.expect("COPY ends");
        took += began.elapsed();
    }
    took
}
