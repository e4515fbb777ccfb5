//! Bounds of the program: open files, the time of questions, the cost of followers, memory and metrics.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ledger_tests::{Client, Servers, Service, Story, deploy, projections_connection, rollback_request};
use reqwest::Method;
use serde_json::json;

use crate::PROGRAM;

/// Writes a script that starts the program with a limit of open files.
fn with_open_files(servers: &Servers, limit: &str) -> PathBuf {
    let script = servers.folder().join("limited");
    std::fs::write(&script, format!("#!/bin/sh\n{limit}\nexec {PROGRAM} \"$@\"\n")).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    script
}

/// Opens idle connections, more than the limit of open files allows, and asks for what needs Postgres and NATS.
async fn serves_beside_idle_connections(limit: &str) {
    let servers = Servers::start().await;
    let script = with_open_files(&servers, limit);
    let service = Service::start(&script.display().to_string(), &servers, &[]).await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(service.connect().await);
    }
    // Its connection is the last one: an earlier one would be closed for the others while it sends.
    let client = service.client();
    let started = Instant::now();

    let recorded = client.record(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    let questions = (0..16).map(|_| client.get("/v1/position?wait_for=1"));
    let answers = futures::future::join_all(questions).await;

    assert_eq!(recorded.status, 201, "{}", recorded.text);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(client.get("/livez").await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    serves_beside_idle_connections("ulimit -S -n 200").await;
}

#[tokio::test]
async fn with_a_low_hard_limit_of_open_files_fewer_connections_are_open() {
    serves_beside_idle_connections("ulimit -n 250").await;
}

/// A locked table stands for a question that takes long.
#[tokio::test]
async fn posted_questions_have_the_time_limit_of_others() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--http-question-timeout-seconds=1"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let mut holder = projections_connection(&servers.postgres_url(), "default").await;
    let lock = "BEGIN; LOCK TABLE events, live_changes, policies, freezes, tracks IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut holder).await.expect("locked");

    let gate = json!({"service": "web", "release": {"version": "v3"}}).to_string();
    let backtest = json!({"environment": "production", "policy": {}}).to_string();
    for (path, body) in [
        ("/v1/environments/production/rollbacks?dry_run=true", rollback_request("-1", "r").to_string()),
        ("/v1/environments/production/gate", gate),
        ("/v1/backtests", backtest),
    ] {
        let started = Instant::now();
        let response = client.post(path, "application/json", body).await;
        assert_eq!((response.status, response.problem()), (503, "projections-unavailable"), "{path}");
        assert!(started.elapsed() < Duration::from_secs(10), "{path}");
    }
    let state = client.get("/v1/environments/production/points").await;
    assert_eq!((state.status, state.problem()), (503, "projections-unavailable"));
}

/// Returns the transactions of the database until now.
async fn transactions(connection: &mut sqlx::PgConnection) -> i64 {
    let query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(query).fetch_one(connection).await.expect("a number")
}

/// Counts the transactions of the database within some seconds.
async fn transactions_within(connection: &mut sqlx::PgConnection, seconds: u64) -> i64 {
    let before = transactions(connection).await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    transactions(connection).await - before
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_followers_cost_next_to_nothing() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    Story::on(&client).deploy("web", "v1", 1).await;
    let mut connection = projections_connection(&servers.postgres_url(), "default").await;
    let without = transactions_within(&mut connection, 5).await;
    let mut followers = Vec::new();
    for _ in 0..300 {
        let follower = client.request(Method::GET, "/v1/rollbacks/stream").send().await.expect("a response");
        followers.push(follower);
    }
    client.wait_for_metric("ledger_http_followers", 300.0).await;
    // Postgres publishes the count of a connection that becomes idle up to 10 s later: that of the joins, too.
    transactions_within(&mut connection, 11).await;

    let before = service.processor_time();
    let with = transactions_within(&mut connection, 5).await;
    let used = service.processor_time() - before;

    assert!(with < without + 25, "{with} transactions with followers, {without} without");
    assert!(used < Duration::from_secs(1), "{used:?} of processor time in 5 s");
}

#[tokio::test]
async fn the_bounds_have_metrics() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--http-max-body-bytes=100000"]).await;
    let client = service.client();
    let batch = format!("[{}]", " ".repeat(1_000_000));

    let refused = client.post("/v1/events", "application/cloudevents-batch+json", batch).await;

    assert_eq!((refused.status, refused.problem()), (503, "busy"));
    client.wait_for_metric("ledger_http_refused_total{bound=\"bodies\"}", 1.0).await;
    client.wait_for_metric("ledger_http_held_bytes{kind=\"bodies\"}", 0.0).await;
    assert!(client.metric("ledger_http_connections").await.is_some_and(|open| open >= 1.0));
}

/// Each client stays within the limits of a request.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_under_bodies_that_drip_and_answers_that_are_not_taken() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let batch = "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/cloudevents-batch+json\r\n\
        content-length: 16000000\r\n\r\n";
    let lines = "x\n".repeat(50_000);
    let bad = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        lines.len()
    );
    let mut connections = Vec::new();
    for _ in 0..60 {
        let mut connection = service.connect().await;
        connection.send(batch).await;
        connection.send(" ".repeat(15_000_000)).await;
        connections.push(connection);
    }
    for _ in 0..40 {
        let mut connection = service.connect().await;
        connection.send(format!("{bad}{lines}")).await;
        connection.send("GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20)).await;
        connections.push(connection);
    }
    for _ in 0..1_100 {
        connections.push(service.connect().await);
    }

    let event = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    let recorded = Client::send(
        client
            .request(Method::POST, "/v1/events")
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string()),
    );

    assert_eq!(recorded.await.status, 201);
    let megabytes = service.peak_memory() >> 20;
    assert!(megabytes < 400, "{megabytes} MiB");
}
