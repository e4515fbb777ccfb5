//! Only who may, does: every request is authenticated and allowed by a grant, and a revocation reaches every process.

use std::time::{Duration, Instant};

use ledger_tests::{AccessSettings, Servers, UNLIMITED, deploy, event, new_token};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Maximum time between the acknowledgement of a revocation and its effect on every process.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

fn staging(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "staging", "web", "v1")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_does() {
    let servers = Servers::start().await;
    let access = AccessSettings::new("");
    let one = access.start(PROGRAM, &servers, &UNLIMITED).await;
    let other = access.start(PROGRAM, &servers, &UNLIMITED).await;
    let admin = one.client().with_token(access.root.expose());
    let change = async |kind: &str, id: &str, data: Value| {
        let event = event(id, kind, "2026-08-01T10:00:00Z", data).to_string();
        admin.post("/v1/tenants/_admin/events", "application/cloudevents+json", event).await.ok()
    };
    let ci = new_token();
    let id = ci.id().as_str();
    let hash = ci.hash().to_string();
    change("token.created", "1", json!({"token": id, "kind": "workload", "name": "ci", "hash": hash})).await;
    let grant = json!({
        "grant": "ci", "grantee": {"token": id}, "tenant": "default", "environments": ["staging"],
        "services": ["*"], "verbs": ["emit"],
    });
    change("grant.added", "2", grant).await;
    let (here, there) = (one.client().with_token(ci.expose()), other.client().with_token(ci.expose()));
    while here.record(&staging("1")).await.status != 201 || there.record(&staging("2")).await.status != 201 {
        tokio::task::yield_now().await;
    }

    assert_eq!(one.client().record(&staging("3")).await.status, 401);
    let production = deploy("4", "2026-08-01T10:00:00Z", "production", "web", "v1");
    assert_eq!(here.record(&production).await.problem(), "forbidden");
    assert_eq!(here.get("/v1/environments/staging/state").await.problem(), "forbidden");

    change("token.revoked", "3", json!({"token": id})).await;
    let revoked = Instant::now();
    while here.record(&staging("5")).await.status != 401 || there.record(&staging("6")).await.status != 401 {
        let elapsed = revoked.elapsed();
        assert!(
            elapsed < REVOCATION_LIMIT,
            "the token is still accepted {} ms after its revocation",
            elapsed.as_millis()
        );
    }
    let entries = admin.entries().await;
    let expected = json!({"type": "workload", "name": "ci"});
    assert!(entries.iter().all(|entry| entry["actor"] == expected), "{entries:?}");
}
