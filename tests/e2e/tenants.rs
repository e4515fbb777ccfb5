//! A tenant that is created while services run: every process serves it, it survives a kill, and its retirement ends it.

use std::time::Duration;

use ledger_tests::{AccessSettings, Client, Servers, Service, deploy};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::PROGRAM;

/// Maximum time until every process serves a new tenant, or does not serve a retired one any more.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs `release-ledger tenant …` with the token of the administrator.
async fn tenant(arguments: &[&str], service: &Service, token: &str) -> ledger_tests::Outcome {
    let home = TempDir::new().expect("a folder");
    let home = home.path().to_str().expect("UTF-8");
    let url = service.url();
    let arguments = [&["tenant"], arguments, &["--url", &url]].concat();
    let variables = [("HOME", home), ("XDG_STATE_HOME", home), ("RELEASE_LEDGER_TOKEN", token)];
    ledger_tests::Command::start_with(PROGRAM, &arguments, &variables).outcome().await
}

/// Waits until a process answers a question about a tenant with a status.
async fn wait_for_status(client: &Client, status: u16) {
    let answered = async {
        while client.get("/v1/tenants/maps/environments").await.status != status {
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(CHANGE_LIMIT, answered).await.expect("the process notices the change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_created_and_retired_while_services_run() {
    let servers = Servers::start().await;
    let access = AccessSettings::new("");
    let root = &access.root;
    let mut one = access.start(PROGRAM, &servers, &[]).await;
    let other = access.start(PROGRAM, &servers, &[]).await;
    let admin = |service: &Service| service.client().with_token(root.expose());
    let event = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1").to_string();
    let path = "/v1/tenants/maps/events";

    let created = tenant(&["create", "maps"], &one, root.expose()).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    assert!(created.stdout.starts_with("created tenant maps (position "), "{created:?}");
    wait_for_status(&admin(&other), 200).await;
    let recorded = admin(&other).post(path, "application/cloudevents+json", event.clone()).await;
    assert_eq!(recorded.status, 201, "{}", recorded.text);
    let again = tenant(&["create", "maps"], &one, root.expose()).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("a tenant maps exists"), "{again:?}");

    one.kill().await;
    one.restart().await;
    wait_for_status(&admin(&one), 200).await;
    let state = admin(&one).get("/v1/tenants/maps/environments/production/state?wait_for=1").await.ok();
    assert_eq!(state["lanes"][0]["release"]["version"], "v1", "{state}");

    let retired = tenant(&["retire", "maps", "--reason", "No."], &one, root.expose()).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
    wait_for_status(&admin(&one), 404).await;
    wait_for_status(&admin(&other), 404).await;
    assert_eq!(admin(&other).post(path, "application/cloudevents+json", event).await.status, 404);
    let listed = tenant(&["list", "--json"], &other, root.expose()).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(
        listed["tenants"],
        json!([
            {"tenant": "default", "status": "settings", "is_open": true},
            {"tenant": "maps", "status": "retired", "is_open": false},
        ])
    );

    // The setting opens its ledger again.
    let third = access.start(PROGRAM, &servers, &["--tenants=default,maps"]).await;
    let state = admin(&third).get("/v1/tenants/maps/environments/production/state?wait_for=1").await.ok();
    assert_eq!(state["lanes"][0]["release"]["version"], "v1", "{state}");
}

/// Waits until the metrics of a process have a series of the tenant `maps`, or none.
async fn wait_for_series(client: &Client, has_series: bool) {
    let read = async {
        loop {
            let metrics = client.text("/metrics").await;
            assert!(metrics.contains("{tenant=\"default\""), "{metrics}");
            if metrics.contains("tenant=\"maps\"") == has_series {
                return;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(CHANGE_LIMIT, read).await.expect("the metrics change with the tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_tenant_leaves_the_metrics_of_every_process_and_records_nothing_more() {
    let servers = Servers::start().await;
    let access = AccessSettings::new("");
    let root = &access.root;
    let one = access.start(PROGRAM, &servers, &[]).await;
    let other = access.start(PROGRAM, &servers, &[]).await;
    let admin = |service: &Service| service.client().with_token(root.expose());
    let web = |id: &str| deploy(id, "2026-08-01T10:00:00Z", "production", "web", "v1").to_string();
    let path = "/v1/tenants/maps/events";
    let created = tenant(&["create", "maps"], &one, root.expose()).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    for service in [&one, &other] {
        wait_for_status(&admin(service), 200).await;
        wait_for_series(&admin(service), true).await;
    }
    assert_eq!(admin(&other).post(path, "application/cloudevents+json", web("1")).await.status, 201);
    let (event, token) = (web("2"), root.expose());
    let mut in_progress = other.connect().await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/cloudevents+json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );
    in_progress.send(head).await;
    assert_eq!(in_progress.answer().await.map(|answer| answer.status), Some(100));

    let retired = tenant(&["retire", "maps", "--reason", "No."], &one, root.expose()).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
    for service in [&one, &other] {
        wait_for_status(&admin(service), 404).await;
        wait_for_series(&admin(service), false).await;
    }
    in_progress.send(event).await;

    let answer = in_progress.answer().await.expect("an answer");
    assert_eq!((answer.status, &*answer.problem()), (404, "unknown-tenant"), "{answer:?}");
    // The setting opens its ledger again.
    let third = access.start(PROGRAM, &servers, &["--tenants=default,maps"]).await;
    let position = admin(&third).get("/v1/tenants/maps/position?wait_for=1").await.ok();
    assert_eq!(position["head"], 1, "{position}");
}
