//! Subscriptions: who may create them, what is rejected, and what the read model shows.

use ledger_tests::{Client, Guarded, InProcess, Response, at, deploy, event};
use serde_json::{Value, json};

const FLAGS: [&str; 1] = ["--only=http,projector"];

fn created(id: &str, name: &str, url: &str, filter: Value) -> Value {
    let data = json!({"subscription": name, "url": url, "secret": "chat", "filter": filter});
    event(id, "subscription.created", &at(1), data)
}

fn removed(id: &str, name: &str) -> Value {
    event(id, "subscription.removed", &at(2), json!({"subscription": name}))
}

async fn position(client: &Client, event: &Value) -> u64 {
    client.record_and_wait(event).await
}

fn rejected(response: &Response) -> (u16, &str) {
    (response.status, response.problem())
}

#[tokio::test]
async fn a_subscription_is_shown_until_it_is_removed() {
    let service = InProcess::start(&FLAGS).await;
    let client = service.client();
    client.record_and_wait(&deploy("d-1", &at(1), "production", "web", "v1")).await;
    let filter = json!({"environment": "production", "types": ["deploy.succeeded"]});
    let settings = position(&client, &created("1", "chat", "https://hooks.example/a", filter.clone())).await;
    let next = client.record_and_wait(&deploy("d-2", &at(3), "production", "web", "v2")).await;

    let listed = client.get("/v1/subscriptions").await.ok();
    let shown = client.get("/v1/subscriptions/chat").await.ok();
    let deliveries = client.get("/v1/subscriptions/chat/deliveries").await.ok();

    let expected = json!({
        "subscription": "chat", "url": "https://hooks.example/a", "secret": "chat", "filter": filter,
        "created_position": settings, "settings_position": settings,
    });
    assert_eq!(listed["subscriptions"], json!([expected]));
    assert_eq!(shown["delivery"]["delivered_position"], settings);
    assert_eq!(shown["delivery"]["pending"]["position"], next, "{shown}");
    assert_eq!(deliveries, json!({"deliveries": []}));

    let replaced = position(&client, &created("2", "chat", "https://hooks.example/b", json!({}))).await;
    let shown = client.get("/v1/subscriptions/chat").await.ok();
    assert_eq!(
        (&shown["created_position"], &shown["settings_position"]),
        (&json!(settings), &json!(replaced)),
        "{shown}"
    );
    assert_eq!(shown["url"], "https://hooks.example/b");

    position(&client, &removed("3", "chat")).await;
    let unknown = client.get("/v1/subscriptions/chat").await;
    assert_eq!(rejected(&unknown), (404, "unknown-subscription"));
    let again = client.record(&removed("4", "chat")).await;
    assert_eq!(rejected(&again), (404, "unknown-subscription"), "{}", again.text);
}

#[tokio::test]
async fn only_the_service_disables_a_subscription_and_their_number_is_bounded() {
    let service = InProcess::start(&FLAGS).await;
    let client = service.client();
    let created_at = position(&client, &created("1", "chat", "https://hooks.example/a", json!({}))).await;
    let data = json!({"subscription": "chat", "settings_position": created_at, "delivered_position": created_at, "reason": "r"});

    let disabled = client.record(&event("2", "subscription.disabled", &at(2), data)).await;
    for number in 1..100 {
        let event = created(&format!("n-{number}"), &format!("n-{number}"), "https://a.example", json!({}));
        client.record(&event).await.ok();
    }
    let one_more = client.record(&created("n-100", "n-100", "https://a.example", json!({}))).await;
    let known = client.record(&created("n-101", "n-1", "https://b.example", json!({}))).await;

    assert_eq!(rejected(&disabled), (403, "reserved-source"), "{}", disabled.text);
    assert_eq!(rejected(&one_more), (409, "too-many-subscriptions"), "{}", one_more.text);
    assert_eq!(known.status, 201, "{}", known.text);
}

#[tokio::test]
async fn a_subscription_needs_the_verb_for_the_whole_tenant() {
    let guarded = Guarded::start(&FLAGS, "").await;
    let subscriber = guarded.client("subscriber", "workload", &["*"], &["subscribe"]).await;
    let of_staging = guarded.client("of-staging", "workload", &["staging"], &["subscribe"]).await;
    let operator =
        guarded.client("operator", "workload", &["*"], &["hooks", "read", "emit", "declare"]).await;
    let filter = json!({"environment": "staging"});

    for client in [&of_staging, &operator] {
        let refused = client.record(&created("1", "chat", "https://hooks.example", filter.clone())).await;
        assert_eq!(rejected(&refused), (403, "forbidden"), "{}", refused.text);
    }
    let accepted = subscriber.record(&created("2", "chat", "https://hooks.example", filter)).await;
    assert_eq!(accepted.status, 201, "{}", accepted.text);
}

#[tokio::test]
async fn an_address_with_a_password_is_rejected_with_the_reason() {
    let service = InProcess::start(&FLAGS).await;
    let client = service.client();

    for (url, reason) in [
        ("ftp://hooks.example", "must start with https://"),
        ("https://ada@hooks.example", "must not contain a user"),
        ("https://hooks.example/#x", "must not have a fragment"),
    ] {
        let refused = client.record(&created("1", "chat", url, json!({}))).await;
        assert_eq!(rejected(&refused), (422, "invalid-event"), "{}", refused.text);
        let detail = refused.body["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("/data/url") && detail.contains(reason), "{detail}");
    }
}
