//! Tenants that are created and retired while the service runs.

use ledger_tests::{Client, EventStream, Guarded, deploy};
use serde_json::{Value, json};

/// Waits until the service serves a tenant, or does not any more.
async fn wait_until_open(admin: &Client, tenant: &str, is_open: bool) {
    loop {
        let body = admin.get("/v1/access/tenants").await.ok();
        let tenants = body["tenants"].as_array().expect("tenants").iter();
        let found = tenants.clone().find(|it| it["tenant"] == tenant).expect("the tenant");
        if found["is_open"] == is_open {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn create(guarded: &Guarded, tenant: &str) {
    guarded.change("tenant.created", &format!("create-{tenant}"), json!({"tenant": tenant})).await;
    wait_until_open(&guarded.admin, tenant, true).await;
}

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", "v1")
}

async fn send(client: &Client, tenant: &str, event: &Value) -> u16 {
    let path = format!("/v1/tenants/{tenant}/events");
    client.post(&path, "application/cloudevents+json", event.to_string()).await.status
}

#[tokio::test]
async fn a_tenant_that_is_created_has_a_ledger_of_its_own_at_once() {
    let guarded = Guarded::start(&[], "").await;
    create(&guarded, "maps").await;
    let token = guarded.create_token("maps-ci", "workload").await;
    guarded.grant_in("maps", "maps-ci", &token, &["*"], &["emit", "read"]).await;
    let ci = guarded.service.client_with(token.expose());

    assert_eq!(send(&ci, "maps", &web("1")).await, 201);

    let state = ci.get("/v1/tenants/maps/environments/production/state?wait_for=1").await.ok();
    assert_eq!(state["lanes"][0]["release"]["version"], "v1", "{state}");
    assert_eq!(send(&ci, "default", &web("1")).await, 404, "its grant is for the tenant maps");
    let elsewhere = guarded.admin.get("/v1/environments").await.ok();
    assert_eq!(elsewhere["environments"], json!([]));
}

#[tokio::test]
async fn a_retired_tenant_answers_like_one_that_never_was() {
    let guarded = Guarded::start(&[], "").await;
    create(&guarded, "maps").await;
    assert_eq!(send(&guarded.admin, "maps", &web("1")).await, 201);

    guarded.change("tenant.retired", "retire-maps", json!({"tenant": "maps"})).await;
    wait_until_open(&guarded.admin, "maps", false).await;

    assert_eq!(send(&guarded.admin, "maps", &web("2")).await, 404);
    let problem = async |tenant: &str| {
        let answer = guarded.admin.get(&format!("/v1/tenants/{tenant}/environments")).await;
        (answer.status, answer.body["detail"].as_str().expect("a detail").replace(tenant, "TENANT"))
    };
    assert_eq!(problem("maps").await, problem("never").await);
    let again = guarded.try_change("tenant.created", "create-again", json!({"tenant": "maps"})).await;
    assert_eq!((again.status, again.problem()), (409, "change-without-effect"), "{}", again.text);
}

#[tokio::test]
async fn a_request_in_progress_records_nothing_once_its_tenant_is_retired() {
    let guarded = Guarded::start(&[], "").await;
    create(&guarded, "maps").await;
    let token = guarded.create_token("maps-ci", "workload").await;
    guarded.grant_in("maps", "maps-ci", &token, &["*"], &["emit", "read"]).await;
    let mut connection = guarded.service.connect().await;
    let (event, token) = (web("1").to_string(), token.expose());
    let head = format!(
        "POST /v1/tenants/maps/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/cloudevents+json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );
    connection.send(head).await;
    // The service asks for the body after it has found the ledger.
    assert_eq!(connection.answer().await.map(|answer| answer.status), Some(100));

    guarded.change("tenant.retired", "retire-maps", json!({"tenant": "maps"})).await;
    wait_until_open(&guarded.admin, "maps", false).await;
    connection.send(event).await;

    let answer = connection.answer().await.expect("an answer");
    assert_eq!((answer.status, &*answer.problem()), (404, "unknown-tenant"), "{answer:?}");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("retired")), "{answer:?}");
}

#[tokio::test]
async fn a_follower_of_a_retired_tenant_is_ended() {
    let guarded = Guarded::start(&[], "").await;
    create(&guarded, "maps").await;
    let path = "/v1/tenants/maps/events/stream?after=0";
    let mut stream = EventStream::open(&guarded.admin, path).await;
    assert_eq!(stream.next().await.expect("the start").name, "position");

    guarded.change("tenant.retired", "retire-maps", json!({"tenant": "maps"})).await;

    let mut last = None;
    while let Some(event) = stream.next().await {
        last = Some(event.name);
    }
    assert_eq!(last.as_deref(), Some("end"));
}

#[tokio::test]
async fn tenants_of_the_settings_and_invalid_names_are_not_changed_by_events() {
    let guarded = Guarded::start(&[], "").await;
    let too_long = "t".repeat(41);
    for (number, (kind, tenant, status)) in [
        ("tenant.created", "default", 409),
        ("tenant.retired", "default", 409),
        ("tenant.retired", "unknown", 409),
        ("tenant.created", "_admin", 422),
        ("tenant.created", "a b", 422),
        ("tenant.created", &too_long, 409),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = guarded.try_change(kind, &number.to_string(), json!({"tenant": tenant})).await;
        assert_eq!(answer.status, status, "{kind} {tenant}: {}", answer.text);
    }
}

#[tokio::test]
async fn more_tenants_than_the_settings_allow_are_rejected() {
    let guarded = Guarded::start(&[], "[access]\nmax_tenants = 2\n").await;
    create(&guarded, "maps").await;

    let third = guarded.try_change("tenant.created", "3", json!({"tenant": "third"})).await;

    assert_eq!((third.status, third.problem()), (409, "change-without-effect"), "{}", third.text);
    assert!(third.text.contains("access.max_tenants"), "{}", third.text);
    guarded.change("tenant.retired", "4", json!({"tenant": "maps"})).await;
    create(&guarded, "third").await;
}
