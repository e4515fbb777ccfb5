//! A streaming replica: queries use it, writes and decisions use the primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger_tests::{Client, Command, EventStream, Replica, Response, Servers, Service, deploy, event};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::PROGRAM;

const STATE: &str = "/v1/environments/production/state";

fn web(number: u64) -> Value {
    deploy(&number.to_string(), "2026-08-01T10:00:00Z", "production", "web", &format!("v{number}"))
}

/// Starts a primary with two deploys, its replica, and a service that queries the replica.
async fn start(servers: &Servers, more: &[&str]) -> (Replica, Service) {
    let first = Service::start(PROGRAM, servers, &["--projections-grace-seconds=2"]).await;
    for number in 1..=2 {
        first.client().record_and_wait(&web(number)).await;
    }
    drop(first);
    let replica = Replica::start(servers).await;
    let read = format!("--projections-read-url={}", replica.url());
    let flags: Vec<&str> = [&["--projections-grace-seconds=2", read.as_str()], more].concat();
    let service = Service::start(PROGRAM, servers, &flags).await;
    (replica, service)
}

/// Repeats a query until the response satisfies a condition, and returns the response.
async fn until(client: &Client, path: &str, condition: impl Fn(&Response) -> bool) -> Response {
    let answered = async {
        loop {
            let response = client.get(path).await;
            if condition(&response) {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered)
        .await
        .expect("the response satisfies the condition")
}

#[tokio::test]
async fn a_lagging_replica_answers_for_its_own_position_and_does_not_affect_writes() {
    let servers = Servers::start().await;
    let (replica, service) = start(&servers, &[]).await;
    let client = service.client();
    let on_primary = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let primary = on_primary.client();

    replica.pause().await;
    let accepted = client.record(&web(3)).await;
    primary.wait_for_projections(3).await;
    let old = client.get(STATE).await;
    let behind = client.get(&format!("{STATE}?wait_for=3&wait_ms=200")).await;
    let listed = client.get("/v1/events?wait_for=3&wait_ms=200").await;
    // The decision uses the primary; the rollback is accepted before the replica shows it.
    let request = json!({
        "to": "2", "rollback_id": "back", "reason": "It fails, and v2 was never checked.", "force": true,
        "initiated_by": {"type": "person", "name": "ada"}
    });
    let path = "/v1/environments/production/rollbacks";
    let requested = client.post(path, "application/json", request.to_string()).await;
    let not_yet = client.get("/v1/rollbacks/back").await;
    let waited = tokio::spawn({
        let client = client.clone();
        async move { client.get(&format!("{STATE}?wait_for=3&wait_ms=30000")).await }
    });
    replica.resume().await;
    let waited = waited.await.expect("a task");
    let shown = until(&client, "/v1/rollbacks/back", |response| response.status == 200).await;

    assert_eq!((accepted.status, &accepted.body["position"]), (201, &3.into()));
    assert_eq!((old.status, old.ledger_position), (200, Some(2)), "{}", old.text);
    for behind in [behind, listed] {
        assert_eq!((behind.status, behind.problem()), (503, "projections-behind"), "{}", behind.text);
        assert_eq!(behind.body["position"], 2);
        assert!(!behind.header("retry-after").is_empty());
    }
    assert_eq!((requested.status, &requested.body["position"]), (201, &4.into()), "{}", requested.text);
    assert_eq!((not_yet.status, not_yet.problem()), (404, "unknown-rollback"));
    assert_eq!(waited.status, 200, "{}", waited.text);
    assert!(waited.ledger_position >= Some(3));
    assert_eq!(waited.body["lanes"][0]["release"]["version"], "v3");
    assert_eq!(shown.body["rollback_id"], "back");
}

/// Tables that are behind what a client has: as after a crash in which Postgres lost its last transactions.
#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_replica_that_is_behind_miss_and_repeat_nothing() {
    let servers = Servers::start().await;
    let (replica, service) = start(&servers, &[]).await;
    let client = service.client();
    let on_primary = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let path = "/v1/events/stream";
    let mut early = EventStream::open(&client, &format!("{path}?after=0")).await;
    assert_eq!(early.positions(2).await, [1, 2]);

    replica.pause().await;
    for number in 3..=4 {
        client.record(&web(number)).await.ok();
    }
    on_primary.client().wait_for_projections(4).await;
    let mut ahead = EventStream::try_open(&client, path, Some(3)).await.expect("a stream");
    let mut at_replica = EventStream::open(&client, path).await;
    replica.resume().await;
    client.record(&web(5)).await.ok();

    assert_eq!(early.positions(5).await, [3, 4, 5]);
    assert_eq!(ahead.positions(5).await, [4, 5], "it has those that the replica lacked");
    assert_eq!(at_replica.positions(5).await, [3, 4, 5]);
}

#[tokio::test]
async fn the_controller_works_while_the_replica_is_paused() {
    let servers = Servers::start().await;
    let (replica, service) = start(&servers, &[]).await;
    let client = service.client();
    let on_primary = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let primary = on_primary.client();
    let policy = json!({"environment": "production", "policy": {
        "required_validations": ["smoke"],
        "automatic_rollback": {
            "checks": ["canary"], "cool_down_seconds": 3_600, "at_most_a_day": 2,
            "at_most_age_seconds": 315_360_000,
        }
    }});

    replica.pause().await;
    client.record(&event("policy", "environment.declared", "2026-08-01T10:01:00Z", policy)).await.ok();
    let release = json!({"version": "v2"});
    let failed =
        json!({"environment": "production", "service": "web", "release": release, "check": "canary"});
    client.record(&event("failed", "validation.failed", "2026-08-01T10:02:00Z", failed)).await.ok();
    let decided = until(&primary, "/v1/events?type=rollback.declined", |response| {
        !response.body["events"].as_array().expect("events").is_empty()
    })
    .await;

    assert_eq!(decided.body["events"][0]["position"], 5, "{}", decided.text);
    assert_eq!(client.get(STATE).await.ledger_position, Some(2));
    replica.resume().await;
    client.wait_for_projections(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_do_not_fail_during_a_rebuild() {
    let servers = Servers::start().await;
    let (replica, service) = start(&servers, &[]).await;
    let client = service.client();
    let running = Arc::new(AtomicBool::new(true));
    let querying = tokio::spawn({
        let (client, running) = (client.clone(), Arc::clone(&running));
        async move {
            let mut failed = Vec::new();
            while running.load(Ordering::Relaxed) {
                let response = client.get(STATE).await;
                if response.status != 200 {
                    failed.push(response.text);
                }
            }
            failed
        }
    });

    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    ];
    let rebuilt = Command::start(PROGRAM, &["projections", "rebuild", &urls[0], &urls[1]]).outcome().await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    // Wait until the old projections are dropped: a query that still used them would fail.
    let mut behind = sqlx::PgConnection::connect(replica.url()).await.expect("connected");
    let dropped = async {
        let query = "SELECT count(*) FROM release_ledger.generations";
        while sqlx::query_scalar::<_, i64>(query).fetch_one(&mut behind).await.expect("a number") > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), dropped).await.expect("the old projections are dropped");
    client.record_and_wait(&web(3)).await;
    running.store(false, Ordering::Relaxed);

    assert_eq!(querying.await.expect("a task"), Vec::<String>::new());
    assert_eq!(client.get(STATE).await.ledger_position, Some(3));
}

#[tokio::test]
async fn without_its_replica_a_service_accepts_events_and_reports_unavailable_queries() {
    let servers = Servers::start().await;
    let (mut replica, service) = start(&servers, &[]).await;
    let client = service.client();

    replica.kill().await;
    let accepted = client.record(&web(3)).await;
    let state = client.get(STATE).await;
    let ready = client.get("/readyz").await;
    let (ingest, queries) = (client.get("/readyz/ingest").await, client.get("/readyz/questions").await);
    let metrics = client.text("/metrics").await;
    replica.restart().await;
    client.wait_for_projections(3).await;
    let again = client.get(STATE).await;

    assert_eq!((accepted.status, &accepted.body["position"]), (201, &3.into()));
    assert_eq!((state.status, state.problem()), (503, "projections-unavailable"), "{}", state.text);
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert!(ready.text.contains("default: projections: "), "{}", ready.text);
    assert_eq!((ingest.status, queries.status), (200, 503));
    // The head is 3, the last known position of the replica is 2.
    assert!(metrics.contains("ledger_projections_lag_entries{tenant=\"default\"} 1"), "{metrics}");
    assert_eq!((again.status, again.ledger_position), (200, Some(3)));
    client.wait_until_ready().await;
}
