//! One process at a time folds a tenant's entries, and another one takes it up when that one cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{Servers, Service, deploy, digests};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::PROGRAM;

fn web(number: u64) -> Value {
    deploy(&number.to_string(), "2026-08-01T10:00:00Z", "production", "web", &format!("v{number}"))
}

/// Who owns the live views of each tenant: the process's name for itself.
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
    client.views_at(1).await;

    let second = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    first.kill().await;
    client.recorded(&web(2)).await;
    client.views_at(2).await;
    let after_death = owned(&servers, |owners| owners.len() == 1 && *owners != owner).await;

    let third = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let holder = owned(&servers, |owners| owners.len() == 1).await;
    let paused = if holder == after_death { &second } else { &third };
    paused.pause();
    client.recorded(&web(3)).await;
    client.views_at(3).await;
    let after_pause = owned(&servers, |owners| owners.len() == 1 && *owners != holder).await;
    for number in 4..40 {
        client.recorded(&web(number)).await;
    }
    paused.resume();
    for number in 40..80 {
        client.recorded(&web(number)).await;
    }
    client.views_at(79).await;

    assert_ne!(after_pause, holder);
    let anew = servers.fresh_database("anew").await;
    let fresh = Service::start(PROGRAM, &servers, &[&format!("--views-url={anew}")]).await;
    fresh.client().views_at(79).await;
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
    client.views_at(1).await;

    assert_eq!(taken.status, 201, "{}", taken.text);
    assert_eq!((asked.status, asked.problem()), (503, "views-unavailable"));
    assert_eq!((ready.status, for_ingest.status), (503, 200));
    assert!(ready.text.contains("default: views: "), "{}", ready.text);
}
