//! One process at a time folds a tenant's entries, and another one takes it up when that one cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{
    Proxy, Servers, Service, create_stream, delete_stream, deploy, digests, projections_schema,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::PROGRAM;

fn web(number: u64) -> Value {
    deploy(&number.to_string(), "2026-08-01T10:00:00Z", "production", "web", &format!("v{number}"))
}

/// Who owns the live projections of each tenant: the process's name for itself.
async fn owners(servers: &Servers) -> BTreeMap<String, String> {
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let query = "SELECT tenant, owner::text FROM release_ledger.generations
        WHERE state = 'live' AND owner IS NOT NULL AND owned_until > now()";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut connection).await.expect("rows");
    rows.into_iter().collect()
}

/// Waits until the owners are as they should be.
async fn owned(
    servers: &Servers,
    so: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let found = async {
        loop {
            let owners = owners(servers).await;
            if so(&owners) {
                return owners;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("the owners come to be so")
}

#[tokio::test]
async fn a_projector_that_dies_is_replaced_at_once_and_one_that_is_paused_within_seconds() {
    let servers = Servers::start().await;
    let mut first = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let owner = owned(&servers, |owners| owners.len() == 1).await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let client = http.client();
    client.recorded(&web(1)).await;
    client.projections_at(1).await;

    let second = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    first.kill().await;
    client.recorded(&web(2)).await;
    client.projections_at(2).await;
    let after_death = owned(&servers, |owners| owners.len() == 1 && *owners != owner).await;

    let third = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let holder = owned(&servers, |owners| owners.len() == 1).await;
    let paused = if holder == after_death { &second } else { &third };
    paused.pause();
    client.recorded(&web(3)).await;
    client.projections_at(3).await;
    let after_pause = owned(&servers, |owners| owners.len() == 1 && *owners != holder).await;
    for number in 4..40 {
        client.recorded(&web(number)).await;
    }
    paused.resume();
    for number in 40..80 {
        client.recorded(&web(number)).await;
    }
    client.projections_at(79).await;

    assert_ne!(after_pause, holder);
    let anew = servers.fresh_database("anew").await;
    let fresh = Service::start(PROGRAM, &servers, &[&format!("--projections-url={anew}")]).await;
    fresh.client().projections_at(79).await;
    assert_eq!(
        digests(&servers.postgres_url(), "default").await,
        digests(&anew, "default").await,
        "the one that woke up did no harm"
    );
}

#[tokio::test]
async fn tenants_are_spread_over_the_processes_that_fold() {
    let servers = Servers::start().await;
    let names: Vec<String> = (0..12).map(|number| format!("tenant-{number}")).collect();
    let tenants = format!("--tenants={}", names.join(","));
    let one = Service::start(PROGRAM, &servers, &[&tenants]).await;
    owned(&servers, |owners| owners.len() == names.len()).await;

    let mut other = Service::start(PROGRAM, &servers, &[&tenants]).await;
    let spread = owned(&servers, |owners| {
        let distinct: std::collections::BTreeSet<_> = owners.values().collect();
        owners.len() == names.len() && distinct.len() == 2
    })
    .await;
    for name in &names {
        let path = format!("/v1/tenants/{name}/events");
        let body = web(1).to_string();
        let taken = one.client().post(&path, "application/cloudevents+json", body).await;
        assert_eq!(taken.status, 201, "{}", taken.text);
        let seen = format!("/v1/tenants/{name}/environments/production/state?wait_for=1&wait_ms=30000");
        assert_eq!(one.client().get(&seen).await.status, 200, "{name}");
    }
    other.kill().await;
    let alone = owned(&servers, |owners| {
        let distinct: std::collections::BTreeSet<_> = owners.values().collect();
        owners.len() == names.len() && distinct.len() == 1
    })
    .await;

    assert_eq!((spread.len(), alone.len()), (names.len(), names.len()));
}

#[tokio::test]
async fn a_service_that_starts_without_postgres_takes_events_in_and_answers_when_it_is_back() {
    let mut servers = Servers::start().await;
    servers.kill_postgres().await;
    let service = Service::start_alive(PROGRAM, &servers, &[]).await;
    let client = service.client();

    let taken = client.record(&web(1)).await;
    let asked = client.get("/v1/environments/production/state").await;
    let (ready, for_ingest) = (client.get("/readyz").await, client.get("/readyz/ingest").await);
    servers.start_postgres().await;
    client.projections_at(1).await;

    assert_eq!(taken.status, 201, "{}", taken.text);
    assert_eq!((asked.status, asked.problem()), (503, "projections-unavailable"));
    assert_eq!((ready.status, for_ingest.status), (503, 200));
    assert!(ready.text.contains("default: projections: "), "{}", ready.text);
}

/// Waits until the process, the only one that folds, is in the middle of a transaction, and pauses it there.
async fn pause_in_a_transaction(service: &Service, connection: &mut PgConnection) {
    let midway = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'release-ledger' AND state = 'idle in transaction'
            AND backend_xid IS NOT NULL";
    let paused = async {
        loop {
            service.pause();
            // What it had sent is done before it is looked.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let found: i64 = sqlx::query_scalar(midway).fetch_one(&mut *connection).await.expect("a count");
            if found > 0 {
                return;
            }
            service.resume();
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), paused).await.expect("it is met in a transaction");
}

#[tokio::test]
async fn a_projector_that_is_paused_in_the_middle_of_a_batch_is_replaced_as_well() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let client = http.client();
    let projector = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let load = tokio::spawn(async move {
        let mut number = 0;
        loop {
            let events: Vec<String> = (number..number + 100).map(|number| web(number).to_string()).collect();
            client.recorded_all(&events).await;
            number += 100;
        }
    });

    pause_in_a_transaction(&projector, &mut connection).await;
    load.abort();
    let _other = Service::start(PROGRAM, &servers, &["--only=projector"]).await;

    let head = http.client().position().await.1;
    http.client().projections_at(head).await;
    projector.resume();
    http.client().recorded(&web(1_000_000)).await;
    http.client().projections_at(head + 1).await;
}

#[tokio::test]
async fn a_projector_that_cannot_read_the_journal_leaves_the_projections_to_one_that_can() {
    let servers = Servers::start().await;
    let proxy = Proxy::start(servers.nats_port()).await;
    let through_proxy = format!("--journal-url={}", servers.nats_url_through(&proxy));
    let _behind_proxy = Service::start(PROGRAM, &servers, &[&through_proxy, "--only=projector"]).await;
    let owner = owned(&servers, |owners| owners.len() == 1).await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    http.client().recorded(&web(1)).await;
    http.client().projections_at(1).await;

    proxy.swallow_answers();
    // Until now it was alone.
    let _other = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    http.client().recorded(&web(2)).await;

    owned(&servers, |owners| owners.len() == 1 && *owners != owner).await;
    http.client().projections_at(2).await;
}

#[tokio::test]
async fn a_process_that_folds_nothing_closes_its_door_to_another_stream() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let mut projector = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let client = http.client();
    client.recorded(&web(1)).await;
    client.projections_at(1).await;
    projector.kill().await;

    let config = delete_stream(&servers).await;
    create_stream(&servers, config).await;

    let alarm = client.not_ready("it is not the one that the projections are of").await;
    let refused = client.record(&web(2)).await;
    assert!(alarm.contains("default: journal: "), "{alarm}");
    assert_eq!((refused.status, refused.problem()), (503, "journal-diverged"));
}

#[tokio::test]
async fn projections_that_somebody_has_dropped_are_not_answered_from_and_filled_again() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().recorded(&web(1)).await;
    service.client().projections_at(1).await;
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");

    let projections = projections_schema(&mut connection, "default").await;
    for gone in [&*projections, "release_ledger"] {
        let gone = AssertSqlSafe(format!("DROP SCHEMA {gone} CASCADE"));
        sqlx::query(gone).execute(&mut connection).await.expect("dropped");
    }

    service.client().recorded(&web(2)).await;
    let answers = async {
        let path = "/v1/environments/production/state?wait_for=2&wait_ms=1000";
        while service.client().get(path).await.status != 200 {}
    };
    tokio::time::timeout(Duration::from_secs(60), answers).await.expect("they answer again");
}

#[tokio::test]
async fn a_registry_that_a_newer_program_has_added_to_is_used_all_the_same() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    service.kill().await;
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let added = "INSERT INTO release_ledger._sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'of a newer program', true, '\\x00', 0)";
    sqlx::query(added).execute(&mut connection).await.expect("added");

    service.start_again().await;

    service.client().recorded(&web(1)).await;
    service.client().projections_at(1).await;
}
