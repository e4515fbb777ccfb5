//! The speed of the projector, and its CPU time, compared with COPY of the rows that it writes.

use std::time::{Duration, Instant};

use ledger_tests::{
    Command, Servers, Service, projection_tables, projections_connection, projections_schema,
};
use sqlx::{Connection, PgConnection};

use crate::PROGRAM;
use crate::cpu::{Cpu, Measured, Meter};
use crate::ingest::{MEMORY_LIMIT, mebibytes};
use crate::load::{messages, publish_batches, raw_client};
use crate::report::{Cost, Report};

/// Minimum ratio of the rate to that of COPY.
const RATIO_GOAL: f64 = 0.9;
/// Maximum CPU time of an entry, in microseconds.
const CPU_GOAL: f64 = 60.0;
/// Database of the projections.
const DATABASE: &str = "ledger";
/// Database into which COPY writes.
const FLOOR_DATABASE: &str = "floor";

/// Time and CPU time of the work on all entries.
struct Work {
    time: Duration,
    cpu: Cpu,
    /// Peak memory in bytes.
    memory: u64,
}

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
    Service::start(PROGRAM, servers, &["--only=http"]).await.kill().await;
    fill(servers, "default", count).await;
    let mut meter = Meter::start(servers).await;
    let (mut service, live) = project(servers, &mut meter, count).await;
    let rebuilt = rebuild(servers, &mut meter).await;
    service.kill().await;
    let (floor, floor_cpu) = copy_of_the_same_rows(servers, &mut meter).await;

    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    for (name, work) in [("the projector catching up", live), ("a rebuild of all projections", rebuilt)] {
        let figure = format!("entries/s, {name}, against COPY of the rows");
        report.rate(&figure, rate(floor), rate(work.time), Some(RATIO_GOAL));
        report.size(&format!("peak memory, {name}"), MEMORY_LIMIT, mebibytes(work.memory));
        let (name, per_event) = (name.to_owned(), work.cpu.per_event(count));
        report.cost(Cost { name, program: "ours", per_event, goal: Some(CPU_GOAL) });
    }
    let (name, per_event) = ("COPY of the rows".to_owned(), floor_cpu.per_event(count));
    report.cost(Cost { name, program: "floor", per_event, goal: None });
}

/// Starts a service, and waits until it has projected this many entries.
async fn project(servers: &Servers, meter: &mut Meter, count: usize) -> (Service, Work) {
    let before = meter.sample(Measured::Nothing, DATABASE).await;
    let began = Instant::now();
    let service = Service::start(PROGRAM, servers, &["--only=http,projector"]).await;
    service.client().wait_for_projections(count as u64).await;
    let time = began.elapsed();
    let after = meter.sample(Measured::Service(service.pid()), DATABASE).await;
    let memory = service.peak_memory();
    (service, Work { time, cpu: before.until(&after), memory })
}

/// Rebuilds the projections by the command.
async fn rebuild(servers: &Servers, meter: &mut Meter) -> Work {
    let (journal, projections) = (
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    );
    let command =
        ["projections", "rebuild", &journal, &projections, "--log-filter=warn", "--even-if-history-differs"];
    let before = meter.sample(Measured::Commands, DATABASE).await;
    let began = Instant::now();
    let (outcome, memory) = Command::start(PROGRAM, &command).outcome_and_peak_memory().await;
    let time = began.elapsed();
    let after = meter.sample(Measured::Commands, DATABASE).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    Work { time, cpu: before.until(&after), memory }
}

/// Copies the final rows of every table into an empty table with the same indexes, and returns the time and the CPU time.
async fn copy_of_the_same_rows(servers: &Servers, meter: &mut Meter) -> (Duration, Cpu) {
    let mut source = PgConnection::connect(&servers.postgres_url()).await.expect("connect to Postgres");
    let url = servers.fresh_database(FLOOR_DATABASE).await;
    // The service creates the tables for an empty stream, and ends before they are filled.
    let projections = format!("--projections-url={url}");
    let flags = ["--only=http", "--tenants=floor", &projections];
    Service::start(PROGRAM, servers, &flags).await.kill().await;
    let mut copy_target = PgConnection::connect(&url).await.expect("connect to Postgres");
    let source_schema = projections_schema(&mut source, "default").await;
    let target_schema = projections_schema(&mut copy_target, "floor").await;
    sqlx::query("SET synchronous_commit = off").execute(&mut copy_target).await.expect("set the option");
    let tables = {
        let mut connection = projections_connection(&servers.postgres_url(), "default").await;
        projection_tables(&mut connection).await
    };
    let (mut time, mut cpu) = (Duration::ZERO, Cpu::default());
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
        let before = meter.sample(Measured::Nothing, FLOOR_DATABASE).await;
        let began = Instant::now();
        let mut copy = copy_target.copy_in_raw(&into).await.expect("begin COPY");
        for chunk in chunks {
            copy.send(chunk).await.expect("send a chunk");
        }
        copy.finish().await.expect("finish COPY");
        time += began.elapsed();
        cpu += before.until(&meter.sample(Measured::Nothing, FLOOR_DATABASE).await);
    }
    (time, cpu)
}
