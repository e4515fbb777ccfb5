//! Ownership: one process at a time projects a tenant's entries, and another takes over when it cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{
    Proxy, Servers, Service, create_stream, delete_stream, deploy, digests, projections_schema,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::PROGRAM;

fn web(number: u64) -> Value {
    deploy(&number.to_string(), "2026-08-01T10:00:00Z", "production", "web", &format!("v{number}"))
}

/// Returns a deploy, of which each second one corrects the one before: a batch with a correction takes several statements
/// and so a transaction, other batches take one statement.
fn corrected(number: u64) -> Value {
    let mut event = web(number);
    if number % 2 == 1 {
        let before = web(number - 1);
        event["data"]["corrects"] = json!({"source": before["source"], "id": before["id"]});
    }
    event
}

/// Returns the owner of each tenant's live projections: the worker's id.
async fn owners(servers: &Servers) -> BTreeMap<String, String> {
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let query = "SELECT tenant, owner::text FROM release_ledger.generations
        WHERE state = 'live' AND owner IS NOT NULL AND owned_until > now()";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut connection).await.expect("rows");
    rows.into_iter().collect()
}

/// Waits until the owners satisfy a condition, and returns them.
async fn wait_for_owners(
    servers: &Servers,
    condition: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let found = async {
        loop {
            let owners = owners(servers).await;
            if condition(&owners) {
                return owners;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("the owners satisfy the condition")
}

#[tokio::test]
async fn a_killed_projector_is_replaced_immediately_and_a_paused_one_within_seconds() {
    let servers = Servers::start().await;
    let mut first = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let owner = wait_for_owners(&servers, |owners| owners.len() == 1).await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let client = http.client();
    client.record_and_wait(&web(1)).await;
    client.wait_for_projections(1).await;

    let second = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    first.kill().await;
    client.record_and_wait(&web(2)).await;
    client.wait_for_projections(2).await;
    let after_death = wait_for_owners(&servers, |owners| owners.len() == 1 && *owners != owner).await;

    let third = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let holder = wait_for_owners(&servers, |owners| owners.len() == 1).await;
    let paused = if holder == after_death { &second } else { &third };
    paused.pause();
    client.record_and_wait(&web(3)).await;
    client.wait_for_projections(3).await;
    let after_pause = wait_for_owners(&servers, |owners| owners.len() == 1 && *owners != holder).await;
    for number in 4..40 {
        client.record_and_wait(&web(number)).await;
    }
    paused.resume();
    for number in 40..80 {
        client.record_and_wait(&web(number)).await;
    }
    client.wait_for_projections(79).await;

    assert_ne!(after_pause, holder);
    let database = servers.fresh_database("rebuilt").await;
    let fresh = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    fresh.client().wait_for_projections(79).await;
    assert_eq!(
        digests(&servers.postgres_url(), "default").await,
        digests(&database, "default").await,
        "the resumed process did not change anything"
    );
}

#[tokio::test]
async fn tenants_are_distributed_over_the_projectors() {
    let servers = Servers::start().await;
    let names: Vec<String> = (0..12).map(|number| format!("tenant-{number}")).collect();
    let tenants = format!("--tenants={}", names.join(","));
    let one = Service::start(PROGRAM, &servers, &[&tenants]).await;
    wait_for_owners(&servers, |owners| owners.len() == names.len()).await;

    let mut other = Service::start(PROGRAM, &servers, &[&tenants]).await;
    let spread = wait_for_owners(&servers, |owners| {
        let distinct: std::collections::BTreeSet<_> = owners.values().collect();
        owners.len() == names.len() && distinct.len() == 2
    })
    .await;
    for name in &names {
        let path = format!("/v1/tenants/{name}/events");
        let body = web(1).to_string();
        let accepted = one.client().post(&path, "application/cloudevents+json", body).await;
        assert_eq!(accepted.status, 201, "{}", accepted.text);
        let seen = format!("/v1/tenants/{name}/environments/production/state?wait_for=1&wait_ms=30000");
        assert_eq!(one.client().get(&seen).await.status, 200, "{name}");
    }
    other.kill().await;
    let alone = wait_for_owners(&servers, |owners| {
        let distinct: std::collections::BTreeSet<_> = owners.values().collect();
        owners.len() == names.len() && distinct.len() == 1
    })
    .await;

    assert_eq!((spread.len(), alone.len()), (names.len(), names.len()));
}

#[tokio::test]
async fn a_service_started_without_postgres_accepts_events_and_answers_queries_once_postgres_is_up() {
    let mut servers = Servers::start().await;
    servers.kill_postgres().await;
    let service = Service::start_alive(PROGRAM, &servers, &[]).await;
    let client = service.client();

    let accepted = client.record(&web(1)).await;
    let state = client.get("/v1/environments/production/state").await;
    let (ready, for_ingest) = (client.get("/readyz").await, client.get("/readyz/ingest").await);
    servers.start_postgres().await;
    client.wait_for_projections(1).await;

    assert_eq!(accepted.status, 201, "{}", accepted.text);
    assert_eq!((state.status, state.problem()), (503, "projections-unavailable"));
    assert_eq!((ready.status, for_ingest.status), (503, 200));
    assert!(ready.text.contains("default: projections: "), "{}", ready.text);
}

/// Pauses the only projector while it has an open transaction.
async fn pause_in_a_transaction(service: &Service, connection: &mut PgConnection) {
    let in_transaction = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'release-ledger projector' AND state = 'idle in transaction'
            AND backend_xid IS NOT NULL";
    let paused = async {
        loop {
            service.pause();
            // Let Postgres process what the projector has sent.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let found: i64 =
                sqlx::query_scalar(in_transaction).fetch_one(&mut *connection).await.expect("a count");
            if found > 0 {
                return;
            }
            service.resume();
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), paused)
        .await
        .expect("the projector is paused in a transaction");
}

#[tokio::test]
async fn a_projector_paused_within_a_transaction_is_replaced() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let client = http.client();
    let projector = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let load = tokio::spawn(async move {
        let mut number = 0;
        loop {
            let events: Vec<String> =
                (number..number + 100).map(|number| corrected(number).to_string()).collect();
            client.record_all(&events).await;
            number += 100;
        }
    });

    pause_in_a_transaction(&projector, &mut connection).await;
    load.abort();
    let _other = Service::start(PROGRAM, &servers, &["--only=projector"]).await;

    let head = http.client().positions().await.1;
    http.client().wait_for_projections(head).await;
    projector.resume();
    http.client().record_and_wait(&web(1_000_000)).await;
    http.client().wait_for_projections(head + 1).await;
}

#[tokio::test]
async fn a_projector_that_cannot_read_the_journal_is_replaced_by_one_that_can() {
    let servers = Servers::start().await;
    let proxy = Proxy::start(servers.nats_port()).await;
    let through_proxy = format!("--journal-url={}", servers.nats_url_through(&proxy));
    let _behind_proxy = Service::start(PROGRAM, &servers, &[&through_proxy, "--only=projector"]).await;
    let owner = wait_for_owners(&servers, |owners| owners.len() == 1).await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    http.client().record_and_wait(&web(1)).await;
    http.client().wait_for_projections(1).await;

    proxy.drop_responses();
    // A second projector that can read the journal.
    let _other = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    http.client().record_and_wait(&web(2)).await;

    wait_for_owners(&servers, |owners| owners.len() == 1 && *owners != owner).await;
    http.client().wait_for_projections(2).await;
}

#[tokio::test]
async fn a_process_without_a_projector_closes_ingest_if_the_stream_is_replaced() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let mut projector = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let client = http.client();
    client.record_and_wait(&web(1)).await;
    client.wait_for_projections(1).await;
    projector.kill().await;

    let config = delete_stream(&servers).await;
    create_stream(&servers, config).await;

    let alarm = client.wait_until_not_ready("the stream and the projections have diverged").await;
    let rejected = client.record(&web(2)).await;
    assert!(alarm.contains("default: journal: "), "{alarm}");
    assert_eq!((rejected.status, rejected.problem()), (503, "journal-diverged"));
}

#[tokio::test]
async fn dropped_projections_are_not_queried_and_are_rebuilt() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_and_wait(&web(1)).await;
    service.client().wait_for_projections(1).await;
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");

    let projections = projections_schema(&mut connection, "default").await;
    for schema in [&*projections, "release_ledger"] {
        let drop = AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"));
        sqlx::query(drop).execute(&mut connection).await.expect("dropped");
    }

    service.client().record_and_wait(&web(2)).await;
    let answers = async {
        let path = "/v1/environments/production/state?wait_for=2&wait_ms=1000";
        while service.client().get(path).await.status != 200 {}
    };
    tokio::time::timeout(Duration::from_secs(60), answers).await.expect("queries are answered again");
}

#[tokio::test]
async fn a_registry_with_migrations_of_a_newer_program_is_usable() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    service.kill().await;
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let added = "INSERT INTO release_ledger._sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'by a newer program', true, '\\x00', 0)";
    sqlx::query(added).execute(&mut connection).await.expect("added");

    service.restart().await;

    service.client().record_and_wait(&web(1)).await;
    service.client().wait_for_projections(1).await;
}
