//! Messages of other tools: webhooks and CDEvents, the messages that entries keep, and the quarantine.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ledger_tests::{Client, Guarded, InProcess, Response};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::NamedTempFile;

const SECRET: &str = "a secret of thirty-two characters";
const SHA: &str = "5732a5872809a214337dc162d8b21f900429daae";

/// The file of the secret of every webhook, and the settings that name it.
fn hooks() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(SECRET.as_bytes()).expect("written");
    let secret = format!("secret_files = [{:?}]", file.path());
    let settings = format!(
        "[hooks.github-main]\nkind = \"github\"\n{secret}\n\
         [hooks.alerts]\nkind = \"alertmanager\"\n{secret}\n\
         [hooks.commands]\nkind = \"generic\"\n{secret}\nmapping.source = \"urn:deployer\"\n\
         mapping.rules = [{{ event = {{ type = \"deploy.started\", id = {{ pointer = \"/id\" }}, \
         time = {{ pointer = \"/time\" }}, data = {{ environment = \"production\", service = \"web\", \
         rollback_id = \"r1\", release = {{ version = \"v1\" }} }} }} }}]\n"
    );
    (file, settings)
}

fn deployment_status(environment: &str) -> Value {
    json!({
        "action": "created",
        "deployment_status": {
            "id": 71, "state": "success", "environment": environment, "created_at": "2026-08-01T12:00:00Z",
            "log_url": "https://github.com/acme/search-api/actions/runs/9/job/10"
        },
        "deployment": {
            "id": 41, "sha": SHA, "ref": "v1.2.3", "task": "deploy", "payload": {}, "environment": environment,
            "created_at": "2026-08-01T11:59:00Z", "creator": {"login": "mira", "type": "User"},
            "transient_environment": false
        },
        "repository": {
            "full_name": "acme/search-api", "name": "search-api", "html_url": "https://github.com/acme/search-api",
            "default_branch": "main"
        },
        "sender": {"login": "mira", "type": "User"}
    })
}

fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

async fn deliver(client: &Client, hook: &str, secret: &str, body: &str) -> Response {
    let request = client
        .request(Method::POST, &format!("/v1/hooks/{hook}"))
        .header("content-type", "application/json")
        .header("x-github-event", "deployment_status")
        .header("x-hub-signature-256", signature(secret, body))
        .body(body.to_owned());
    Client::send(request).await
}

async fn alert(client: &Client, hook: &str, body: &Value) -> Response {
    let request = client.request(Method::POST, &format!("/v1/hooks/{hook}"));
    Client::send(request.bearer_auth(SECRET).json(body)).await
}

#[tokio::test]
async fn a_delivery_is_recorded_once_in_the_name_of_its_webhook() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let client = guarded.service.client();
    let body = deployment_status("production").to_string();

    let first = deliver(&client, "github-main", SECRET, &body).await.ok();
    let again = deliver(&client, "github-main", SECRET, &body).await.ok();

    assert_eq!(first["status"], "recorded", "{first}");
    let event = &first["events"][0];
    assert_eq!((&event["status"], &event["went_live"]), (&json!("recorded"), &json!("v1.2.3")), "{first}");
    assert_eq!(again["events"][0]["status"], "duplicate", "{again}");
    assert_eq!(again["events"][0]["position"], event["position"]);
    let entry = guarded.admin.get(&format!("/v1/events/{}", event["position"])).await.ok();
    assert_eq!(entry["principal"]["issuer"], "hook", "{entry}");
    assert_eq!(entry["principal"]["subject"], "github-main");
    assert_eq!(entry["actor"]["type"], "workload");
    assert_eq!(entry["event"]["ledgerformat"], "hook:github-main/deployment_status");
    let original = guarded.admin.get(&format!("/v1/events/{}/original", event["position"])).await;
    assert_eq!((original.status, original.text.as_str()), (200, body.as_str()));
}

#[tokio::test]
async fn a_delivery_without_the_secret_is_refused_and_does_not_tell_which_webhooks_exist() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let client = guarded.service.client();
    let body = deployment_status("production").to_string();

    let wrong = deliver(&client, "github-main", "another secret of thirty characters", &body).await;
    let unknown = deliver(&client, "github-other", SECRET, &body).await;
    let unsigned = client.post("/v1/hooks/github-main", "application/json", body.clone()).await;
    let token = guarded.admin.post("/v1/hooks/github-main", "application/json", body).await;
    let large = deliver(&client, "github-main", SECRET, &"x".repeat((1 << 20) + 1)).await;

    for refused in [&wrong, &unknown, &unsigned, &token] {
        assert_eq!((refused.status, refused.problem()), (401, "unauthenticated"), "{}", refused.text);
        assert_eq!(refused.body["detail"], wrong.body["detail"]);
    }
    assert_eq!((large.status, large.problem()), (413, "too-large"), "{}", large.text);
    assert_eq!(guarded.admin.get("/v1/events").await.ok()["events"], json!([]));
}

#[tokio::test]
async fn a_delivery_with_a_secret_in_it_is_rejected_and_kept_nowhere() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let client = guarded.service.client();
    let mut body = deployment_status("production");
    body["deployment"]["description"] = format!("ghp_{}", "a1B2".repeat(9)).into();

    let rejected = deliver(&client, "github-main", SECRET, &body.to_string()).await;

    assert_eq!(rejected.status, 422, "{}", rejected.text);
    assert_eq!(rejected.body["errors"][0]["pointer"], "/deployment/description", "{}", rejected.text);
    assert!(!rejected.text.contains("ghp_"), "{}", rejected.text);
    assert_eq!(guarded.admin.get("/v1/quarantine").await.ok()["messages"], json!([]));
}

#[tokio::test]
async fn a_webhook_reports_and_commands_nothing() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let client = guarded.service.client();

    let body = json!({"id": "1", "time": "2026-08-01T12:00:00Z"});
    let refused = alert(&client, "commands", &body).await;

    assert_eq!((refused.status, &refused.body["status"]), (202, &json!("quarantined")), "{}", refused.text);
    let event = &refused.body["events"][0];
    assert_eq!(event["status"], "rejected", "{}", refused.text);
    assert_eq!(event["problem"]["type"], "urn:release-ledger:problem:forbidden", "{}", refused.text);
    assert_eq!(guarded.admin.get("/v1/events").await.ok()["events"], json!([]));
}

fn alerts(environment: &str) -> Value {
    let labels = json!({
        "alertname": "ErrorRate", "service": "search-api", "severity": "critical", "environment": environment
    });
    json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "ledger",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "https://alerts.example",
        "alerts": [{
            "status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-08-01T12:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "https://prometheus.example/graph",
            "fingerprint": "9f3a1c2b4d5e6f70"
        }]
    })
}

#[tokio::test]
async fn an_alert_opens_an_incident_and_does_not_add_its_environment() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let client = guarded.service.client();

    let opened = alert(&client, "alerts", &alerts("prodcution")).await.ok();

    let position = opened["events"][0]["position"].as_u64().expect("a position");
    let page = guarded.admin.get(&format!("/v1/events?type=incident.opened&wait_for={position}")).await.ok();
    assert_eq!(page["events"][0]["event"]["data"]["severity"], "critical", "{page}");
    assert_eq!(guarded.admin.get("/v1/environments").await.ok()["environments"], json!([]));
    let in_environment = guarded.admin.get("/v1/events?environment=prodcution&service=search-api").await.ok();
    assert_eq!(in_environment["events"][0]["position"], position, "{in_environment}");
}

#[tokio::test]
async fn a_faulty_alert_is_quarantined_alone_and_a_redelivery_adds_nothing() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let (client, admin) = (guarded.service.client(), &guarded.admin);
    let mut body = alerts("production");
    let mut faulty = body["alerts"][0].clone();
    faulty["startsAt"] = "soon".into();
    body["alerts"].as_array_mut().expect("alerts").insert(0, faulty.clone());

    let kept = alert(&client, "alerts", &body).await;
    let again = alert(&client, "alerts", &body).await;

    assert_eq!((kept.status, &kept.body["status"]), (202, &json!("quarantined")), "{}", kept.text);
    assert_eq!(kept.body["pointer"], "/alerts/0/startsAt", "{}", kept.text);
    assert_eq!(kept.body["events"].as_array().map(Vec::len), Some(1), "{}", kept.text);
    assert_eq!(kept.body["events"][0]["status"], "recorded", "{}", kept.text);
    assert_eq!(again.body["events"][0]["status"], "duplicate", "{}", again.text);
    assert_eq!(again.body["quarantine_id"], kept.body["quarantine_id"]);
    let id = kept.body["quarantine_id"].as_str().expect("an id");
    let shown = admin.get(&format!("/v1/quarantine/{id}")).await.ok();
    let message = STANDARD.decode(shown["message"].as_str().expect("a message")).expect("Base64");
    let message: Value = serde_json::from_slice(&message).expect("JSON");
    assert_eq!(message["alerts"], json!([faulty]), "{shown}");
}

#[tokio::test]
async fn what_cannot_be_understood_waits_in_quarantine_until_it_is_discarded() {
    let (_secret, settings) = hooks();
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let (client, admin) = (guarded.service.client(), &guarded.admin);

    let body = deployment_status("Prod (EU)").to_string();
    let kept = deliver(&client, "github-main", SECRET, &body).await;
    let again = deliver(&client, "github-main", SECRET, &body).await;

    assert_eq!((kept.status, &kept.body["status"]), (202, &json!("quarantined")), "{}", kept.text);
    assert_eq!(kept.body["pointer"], "/deployment_status/environment", "{}", kept.text);
    let id = kept.body["quarantine_id"].as_str().expect("an id");
    assert_eq!(again.body["quarantine_id"], id, "a redelivery is the same message");
    let listed = admin.get("/v1/quarantine").await.ok();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["messages"][0]["source"], "hook:github-main");
    let detail = listed["messages"][0]["detail"].as_str().expect("a text");
    assert!(detail.contains("map it in names.environments"), "{listed}");
    let shown = admin.get(&format!("/v1/quarantine/{id}")).await.ok();
    assert_eq!(shown["size"], body.len(), "{shown}");
    let retried = admin.post(&format!("/v1/quarantine/{id}/retry"), "application/json", "{}").await;
    assert_eq!((retried.status, retried.problem()), (422, "not-understood"), "{}", retried.text);

    let path = format!("/v1/quarantine/{id}/discard");
    let discard = async || admin.post(&path, "application/json", r#"{"reason":"A test."}"#).await;
    let discarded = discard().await.ok();
    let twice = discard().await;

    assert_eq!((twice.status, twice.problem()), (409, "quarantine-changed"), "{}", twice.text);
    let position = &discarded["positions"][0];
    let entry = admin.get(&format!("/v1/events/{position}?wait_for={position}")).await.ok();
    assert_eq!(entry["event"]["type"], "io.releaseledger.activity.reported.v1", "{entry}");
    assert_eq!(entry["event"]["data"]["activity"], "quarantine.discarded");
    assert_eq!(
        (&entry["actor"]["name"], &entry["event"]["data"]["reason"]),
        (&json!("root"), &json!("A test."))
    );
    assert_eq!(admin.get("/v1/quarantine").await.ok()["messages"], json!([]));
    let all = admin.get("/v1/quarantine?all=true").await.ok();
    assert_eq!(all["messages"][0]["state"], "discarded", "{all}");
    let unknown = admin.get(&format!("/v1/quarantine/{}", "0".repeat(32))).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-message"), "{}", unknown.text);
}

fn cdevent() -> Value {
    json!({
        "context": {
            "version": "0.4.1", "id": "271069a8-fc18-44f1-b38f-9d70a1695819", "chainId": "4c8cb7dd-3448-41de-8768-eec704e2829b",
            "source": "/event/source/123", "type": "dev.cdevents.service.deployed.0.2.0", "timestamp": "2026-08-01T14:27:05.315384Z"
        },
        "subject": {
            "id": "search-api", "source": "/event/source/123", "type": "service",
            "content": {
                "environment": {"id": "production", "source": "/event/source/123"},
                "artifactId": "pkg:oci/search-api@sha256%3A0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427"
            }
        }
    })
}

#[tokio::test]
async fn a_cdevent_is_recorded_bare_or_inside_a_cloudevent_as_the_same_event() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let event = cdevent();
    let context = &event["context"];
    let structured = json!({
        "specversion": "1.0", "id": context["id"], "source": context["source"], "type": context["type"],
        "subject": "search-api", "time": context["timestamp"], "datacontenttype": "application/json", "data": event,
    });

    let bare = client.post("/v1/events", "application/cdevents+json", event.to_string()).await;
    let structured = client.record(&structured).await.ok();
    let text = |name: &str| context[name].as_str().expect("a text").to_owned();
    let binary = client
        .request(Method::POST, "/v1/events")
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", text("id"))
        .header("ce-source", text("source"))
        .header("ce-type", text("type"))
        .header("ce-time", text("timestamp"))
        .header("ce-subject", "search-api")
        .body(event.to_string());
    let binary = Client::send(binary).await.ok();

    assert_eq!(bare.status, 201, "{}", bare.text);
    let position = bare.body["position"].as_u64().expect("a position");
    for again in [structured, binary] {
        assert_eq!(
            (&again["status"], &again["position"]),
            (&json!("duplicate"), &json!(position)),
            "{again}"
        );
    }
    let state = client.get(&format!("/v1/environments/production/state?wait_for={position}")).await.ok();
    assert_eq!(state["lanes"][0]["service"], "search-api", "{state}");
    let chain = client.get(&format!("/v1/events?correlation={}", text("chainId"))).await.ok();
    assert_eq!(chain["events"][0]["position"], position, "{chain}");
    let original = client.get(&format!("/v1/events/{position}/original")).await;
    assert_eq!(original.text, event.to_string());
    let as_cdevent = |path: &str| {
        Client::send(client.request(Method::GET, path).header("accept", "application/cdevents+json"))
    };
    let written = as_cdevent(&format!("/v1/events/{position}")).await;
    assert_eq!(written.content_type, "application/cdevents+json");
    assert_eq!(written.body["context"]["id"], event["context"]["id"], "{}", written.text);
    assert_eq!(written.body["subject"]["id"], "search-api");
    let page = as_cdevent("/v1/events?limit=1").await;
    assert_eq!(page.body, json!([written.body]));
    assert_eq!(page.header("ledger-next"), position.to_string());
}

#[tokio::test]
async fn a_cdevent_that_cannot_be_understood_is_quarantined_and_does_not_affect_its_batch() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let mut unknown = cdevent();
    unknown["context"]["type"] = "dev.cdevents.service.deployed.9.9.9".into();

    let kept = client.post("/v1/events", "application/cdevents+json", unknown.to_string()).await;
    let cloudevent = |event: &Value| {
        let context = &event["context"];
        json!({
            "specversion": "1.0", "id": context["id"], "source": context["source"], "type": context["type"],
            "subject": "search-api", "time": context["timestamp"], "data": event,
        })
    };
    let batch = json!([cloudevent(&unknown), cloudevent(&cdevent())]).to_string();
    let batch = client.post("/v1/events", "application/cloudevents-batch+json", batch).await;

    assert_eq!((kept.status, &kept.body["status"]), (202, &json!("quarantined")), "{}", kept.text);
    assert_eq!(kept.body["problem"]["errors"][0]["pointer"], "/context/type", "{}", kept.text);
    assert_eq!(batch.status, 207, "{}", batch.text);
    let statuses: Vec<&Value> =
        batch.body.as_array().expect("results").iter().map(|it| &it["status"]).collect();
    assert_eq!(statuses, ["quarantined", "recorded"], "{}", batch.text);
    let listed = client.get("/v1/quarantine").await.ok();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(2), "bare and in a batch: {listed}");
    unknown["customData"] = json!({"note": format!("ghp_{}", "a1B2".repeat(9))});
    let secret = client.post("/v1/events", "application/cdevents+json", unknown.to_string()).await;
    assert_eq!((secret.status, secret.problem()), (422, "invalid-event"), "{}", secret.text);
    let listed = client.get("/v1/quarantine").await.ok();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(2), "{listed}");
}
