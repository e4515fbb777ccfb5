//! Messages of brokers, as the receiver records them: their forms, their sender, and what becomes of those that are not
//! recorded.

use ledger_domain::{Principal, TenantName};
use ledger_streams::inbound::{Format, InboundMessage, Receipt, Receiver as _, Route};
use ledger_tests::{Client, Guarded, InProcess, deploy, event};
use reqwest::Method;
use serde_json::{Value, json};

const FLAGS: &[&str] = &["--only=http,projector"];
const TIME: &str = "2026-08-01T10:00:00Z";

fn route(format: Format) -> Route {
    let tenant = TenantName::default();
    Route { tenant, format, issuer: Principal::NATS, publisher: "ci-runner".into() }
}

fn events() -> Route {
    route(Format::Events)
}

fn message(headers: &[(&str, &str)], body: &str) -> InboundMessage {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    InboundMessage { headers: headers.iter().map(header).collect(), body: body.to_owned().into() }
}

fn bare(event: &Value) -> InboundMessage {
    message(&[], &event.to_string())
}

fn web(id: &str, version: &str) -> Value {
    deploy(id, TIME, "production", "web", version)
}

fn cdevent() -> Value {
    json!({
        "context": {
            "version": "0.4.1", "id": "271069a8-fc18-44f1-b38f-9d70a1695819", "source": "/event/source/123",
            "type": "dev.cdevents.service.deployed.0.2.0", "timestamp": TIME,
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

fn recorded(receipts: &[Receipt]) -> Vec<Vec<u64>> {
    let positions = |receipt: &Receipt| match receipt {
        Receipt::Recorded(positions) => positions.iter().map(|position| position.get()).collect(),
        other => panic!("not recorded: {other:?}"),
    };
    receipts.iter().map(positions).collect()
}

#[track_caller]
fn assert_rejected(receipt: &Receipt, problem: &str) {
    match receipt {
        Receipt::Rejected { problem: found, .. } => assert_eq!(found, problem, "{receipt:?}"),
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn messages_in_every_form_are_recorded_in_order_and_once() {
    let service = InProcess::start(FLAGS).await;
    let binary = web("percent%20", "v3");
    let batch = json!([web("4", "v4"), web("5", "v5")]).to_string();
    let messages = || {
        vec![
            bare(&web("1", "v1")),
            message(&[("content-type", "application/cloudevents+json")], &web("2", "v2").to_string()),
            message(
                &[
                    ("content-type", "application/json"),
                    ("ce-specversion", "1.0"),
                    ("ce-id", "percent%2520"),
                    ("ce-source", "urn:release-ledger:test"),
                    ("ce-type", "io.releaseledger.deploy.succeeded.v1"),
                    ("ce-time", TIME),
                    ("traceparent", "ignored"),
                ],
                &binary["data"].to_string(),
            ),
            message(&[("content-type", "application/cloudevents-batch+json")], &batch),
            bare(&cdevent()),
        ]
    };

    let first = service.receiver().receive(&events(), messages()).await;
    let again = service.receiver().receive(&events(), messages()).await;

    assert_eq!(recorded(&first), [vec![1], vec![2], vec![3], vec![4, 5], vec![6]]);
    assert_eq!(again, first, "a redelivery has the positions of the first delivery");
    let structured = service.client().record(&binary).await.ok();
    assert_eq!(
        (&structured["status"], &structured["position"]),
        (&json!("duplicate"), &json!(3)),
        "{structured}"
    );
    service.client().wait_for_projections(6).await;
    let entries = service.client().entries().await;
    assert_eq!(entries.len(), 6);
}

#[tokio::test]
async fn a_publisher_reports_in_its_own_name_and_commands_nothing() {
    let guarded = Guarded::start(FLAGS, "").await;
    let receiver = guarded.service.receiver();
    let mark = json!({"environment": "production", "point": "1", "reason": "A test."});
    let step = json!({
        "environment": "production", "service": "web", "release": {"version": "v1"}, "rollback_id": "r1",
    });
    let messages = vec![
        bare(&web("1", "v1")),
        bare(&event("2", "deploy.started", TIME, step)),
        bare(&event("3", "token.created", TIME, json!({"token": "0123456789abcdef"}))),
        bare(&event("4", "release_point.marked_bad", TIME, mark)),
        bare(&web("5", "v2")),
    ];

    let receipts = receiver.receive(&events(), messages).await;

    assert_eq!(recorded(&receipts[..1]), [[1]]);
    assert_rejected(&receipts[1], "forbidden");
    assert!(
        receipts[2..4].iter().all(|receipt| !matches!(receipt, Receipt::Recorded(_) | Receipt::Retry(_)))
    );
    assert_eq!(recorded(&receipts[4..]), [[2]], "a message that is refused does not delay others");
    let entry = guarded.admin.get("/v1/events/1?wait_for=1").await.ok();
    let principal = &entry["principal"];
    assert_eq!(
        (&principal["issuer"], &principal["subject"]),
        (&json!(Principal::NATS), &json!("ci-runner")),
        "{entry}"
    );
    assert_eq!(
        (&entry["actor"]["type"], &entry["actor"]["name"]),
        (&json!("workload"), &json!("nats-ci-runner"))
    );
}

#[tokio::test]
async fn what_is_not_understood_is_quarantined_and_a_retry_reads_it_in_the_same_way() {
    let service = InProcess::start(FLAGS).await;
    let client = service.client();
    let mut invalid = web("2", "v2");
    invalid["data"]["environment"] = "Prod (EU)".into();
    let batch = json!([web("1", "v1"), invalid, web("3", "v3")]).to_string();
    let messages = vec![
        message(&[("content-type", "application/cloudevents-batch+json")], &batch),
        message(&[("content-type", "text/plain")], "a deploy"),
        bare(&web("4", "v4")),
    ];

    let receipts = service.receiver().receive(&events(), messages.clone()).await;
    let again = service.receiver().receive(&events(), messages).await;

    let Receipt::Quarantined { id, detail } = &receipts[0] else { panic!("{receipts:?}") };
    assert!(detail.starts_with("/1/data/environment: "), "{detail}");
    assert!(matches!(&receipts[1], Receipt::Quarantined { .. }), "{receipts:?}");
    assert_eq!(recorded(&receipts[2..]), [[3]], "the valid events of the batch are recorded before it");
    assert_eq!(again, receipts, "a redelivery is the same message");
    let listed = client.get("/v1/quarantine").await.ok();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(2), "{listed}");
    let shown = client.get(&format!("/v1/quarantine/{id}")).await.ok();
    assert_eq!(
        (&shown["source"], &shown["principal"]["issuer"]),
        (&json!("events"), &json!(Principal::NATS)),
        "{shown}"
    );
    let retried = client.post(&format!("/v1/quarantine/{id}/retry"), "application/json", "{}").await;
    assert_eq!((retried.status, retried.problem()), (422, "not-understood"), "{}", retried.text);
    assert_eq!(retried.body["errors"][0]["pointer"], "/1/data/environment", "{}", retried.text);
}

#[tokio::test]
async fn secrets_and_messages_for_nothing_that_exists_are_rejected_and_kept_nowhere() {
    let service = InProcess::start(FLAGS).await;
    let receiver = service.receiver();
    let secret = format!("ghp_{}", "a1B2".repeat(9));
    let mut with_secret = web("1", "v1");
    with_secret["data"]["note"] = secret.clone().into();
    let in_batch = json!([web("2", "v2"), with_secret]).to_string();
    let messages = vec![
        bare(&with_secret),
        message(&[("content-type", "application/cloudevents-batch+json")], &in_batch),
        message(&[("content-type", "application/json"), ("ce-note", &secret)], "{}"),
        message(&[], &format!("not JSON, and {secret}")),
    ];

    let receipts = receiver.receive(&events(), messages).await;
    let hook = receiver.receive(&route(Format::Hook("none".into())), vec![bare(&web("3", "v3"))]).await;
    let admin = Route { tenant: TenantName::admin(), ..events() };
    let admin = receiver.receive(&admin, vec![bare(&web("4", "v4"))]).await;
    let nameless = Route { publisher: " ".into(), ..events() };
    let nameless = receiver.receive(&nameless, vec![bare(&web("5", "v5"))]).await;

    assert_eq!(receipts.len(), 4);
    for receipt in &receipts {
        assert!(matches!(receipt, Receipt::Rejected { has_secret: true, .. }), "{receipt:?}");
        assert!(!format!("{receipt:?}").contains("ghp_"), "{receipt:?}");
    }
    assert_rejected(&hook[0], "invalid-parameter");
    assert_rejected(&admin[0], "other-tenant");
    assert_rejected(&nameless[0], "invalid-parameter");
    assert_eq!(service.client().get("/v1/quarantine").await.ok()["messages"], json!([]));
    assert_eq!(service.client().positions().await.1, 0, "nothing is recorded");
}

#[tokio::test]
async fn a_message_stays_with_the_broker_while_its_tenant_has_no_ledger() {
    let service = InProcess::start(FLAGS).await;
    let absent = Route { tenant: TenantName::parse("absent").expect("a name"), ..events() };

    let receipts = service.receiver().receive(&absent, vec![bare(&web("1", "v1"))]).await;

    let [Receipt::Retry(reason)] = &receipts[..] else { panic!("{receipts:?}") };
    assert_eq!(reason, "the service does not serve tenant absent now");
}

#[tokio::test]
async fn a_message_of_a_webhook_needs_no_signature_behind_a_broker() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "a secret of thirty-two characters").expect("written");
    let settings = format!("[hooks.alerts]\nkind = \"alertmanager\"\nsecret_files = [{:?}]\n", secret.path());
    let guarded = Guarded::start(FLAGS, &settings).await;
    let alerts = json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "ledger",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "https://alerts.example",
        "alerts": [{
            "status": "firing", "annotations": {}, "startsAt": TIME, "endsAt": "0001-01-01T00:00:00Z",
            "labels": {
                "alertname": "ErrorRate", "service": "search-api", "severity": "critical", "environment": "production"
            },
            "generatorURL": "https://prometheus.example/graph", "fingerprint": "9f3a1c2b4d5e6f70"
        }]
    });
    let route = route(Format::Hook("alerts".into()));

    let receipts = guarded.service.receiver().receive(&route, vec![bare(&alerts), bare(&json!({}))]).await;

    assert_eq!(recorded(&receipts[..1]), [[1]]);
    assert!(matches!(&receipts[1], Receipt::Quarantined { .. }), "{receipts:?}");
    let entry = guarded.admin.get("/v1/events/1?wait_for=1").await.ok();
    assert_eq!(entry["event"]["ledgerformat"], "hook:alerts", "{entry}");
    assert_eq!(entry["principal"]["subject"], "ci-runner", "{entry}");
}

#[tokio::test]
async fn a_publisher_that_sends_too_much_delivers_again_later() {
    let flags = [FLAGS, &["--limits-events-per-second=1", "--limits-event-burst=1"]].concat();
    let service = InProcess::start(&flags).await;
    let many: Vec<_> = (0..2_000).map(|n| bare(&web(&n.to_string(), &format!("v{n}")))).collect();

    let first = service.receiver().receive(&events(), many).await;
    let second =
        service.receiver().receive(&events(), vec![bare(&web("x", "x")), bare(&web("y", "y"))]).await;
    let other = Route { publisher: "another".into(), ..events() };
    let other = service.receiver().receive(&other, vec![bare(&web("z", "z"))]).await;

    assert_eq!(recorded(&first).len(), 2_000);
    assert!(second.iter().all(|receipt| matches!(receipt, Receipt::Retry(_))), "{second:?}");
    assert_eq!(recorded(&other), [[2_001]], "another publisher has limits of its own");
}

#[tokio::test]
async fn of_a_batch_all_events_are_recorded_that_the_publisher_may_send() {
    let service = InProcess::start(FLAGS).await;
    let step = json!({
        "environment": "production", "service": "web", "release": {"version": "v1"}, "rollback_id": "r1",
    });
    let step = event("2", "deploy.started", TIME, step);
    let batch = json!([web("1", "v1"), step, web("3", "v3")]).to_string();
    let batch = message(&[("content-type", "application/cloudevents-batch+json")], &batch);

    let receipts = service.receiver().receive(&events(), vec![batch, bare(&web("4", "v4"))]).await;

    assert_rejected(&receipts[0], "forbidden");
    assert_eq!(service.client().positions().await.1, 3, "{receipts:?}");
    assert_eq!(recorded(&receipts[1..]), [[3]]);
}

#[tokio::test]
async fn an_event_from_the_future_is_quarantined_before_later_messages_are_recorded() {
    let service = InProcess::start(FLAGS).await;
    let future = deploy("2", "2999-01-01T00:00:00Z", "production", "web", "v2");
    let messages = vec![bare(&web("1", "v1")), bare(&future), bare(&web("3", "v3"))];

    let receipts = service.receiver().receive(&events(), messages).await;

    assert_eq!(recorded(&receipts[..1]), [[1]]);
    let Receipt::Quarantined { detail, .. } = &receipts[1] else { panic!("{receipts:?}") };
    assert!(detail.contains("the event 2 is not recorded"), "{detail}");
    assert_eq!(recorded(&receipts[2..]), [[2]]);
}

#[tokio::test]
async fn the_rate_of_a_kafka_topic_delays_its_messages() {
    let flags = [FLAGS, &["--limits-events-per-second=10", "--limits-event-burst=1"]].concat();
    let service = InProcess::start(&flags).await;
    let route = Route { issuer: Principal::KAFKA, ..events() };
    let mut receipts = Vec::new();

    for id in ["1", "2", "3"] {
        receipts.extend(service.receiver().receive(&route, vec![bare(&web(id, id))]).await);
    }

    assert_eq!(recorded(&receipts), [[1], [2], [3]]);
}

#[tokio::test]
async fn an_event_or_a_cdevent_may_come_as_plain_json_over_http() {
    let service = InProcess::start(FLAGS).await;
    let client = service.client();

    let plain = client.post("/v1/events", "application/json", cdevent().to_string()).await;
    let named = client.post("/v1/events", "application/cdevents+json", cdevent().to_string()).await;
    let event = client.post("/v1/events", "application/json", web("1", "v1").to_string()).await;
    let again = client.post("/v1/events", "application/cloudevents+json", web("1", "v1").to_string()).await;
    let other = client.post("/v1/events", "application/json", json!({"id": "1"}).to_string()).await;
    let batch = client.post("/v1/events", "application/json", json!([web("2", "v2")]).to_string()).await;

    assert_eq!(plain.status, 201, "{}", plain.text);
    assert_eq!(
        (&named.body["status"], &named.body["position"]),
        (&json!("duplicate"), &plain.body["position"])
    );
    assert_eq!((event.status, &event.body["status"]), (201, &json!("recorded")), "{}", event.text);
    assert_eq!(
        (&again.body["status"], &again.body["position"]),
        (&json!("duplicate"), &event.body["position"])
    );
    for neither in [other, batch] {
        assert_eq!((neither.status, neither.problem()), (415, "unsupported-media-type"), "{}", neither.text);
    }
}

/// The HTTP sink of cdviz-collector sends the attributes as headers, not encoded, and the CDEvent as the body.
#[tokio::test]
async fn cdviz_collector_sends_a_cdevent_over_http_as_it_sends_it_elsewhere() {
    let service = InProcess::start(FLAGS).await;
    let client = service.client();
    for (index, source) in ["https://ci.example/a%2Fb", "/ci/a%20b", "/ci/plain"].into_iter().enumerate() {
        let mut cdevent = cdevent();
        cdevent["context"]["source"] = source.into();
        let send = async |encoded: &str| {
            let request = client
                .request(Method::POST, "/v1/events")
                .header("ce-specversion", "1.0")
                .header("ce-id", cdevent["context"]["id"].as_str().expect("an id"))
                .header("ce-type", cdevent["context"]["type"].as_str().expect("a type"))
                .header("ce-source", encoded)
                .header("ce-subject", "search-api")
                .header("ce-time", "2026-08-01T10:00:00+00:00")
                .header("content-type", "application/json")
                .body(cdevent.to_string());
            Client::send(request).await
        };

        let unencoded = send(source).await;
        let encoded = send(&source.replace('%', "%25")).await;
        let other = send("/ci/another").await;

        assert_eq!(unencoded.status, 201, "{source}: {}", unencoded.text);
        assert_eq!(unencoded.body["position"], index + 1, "{source}: {}", unencoded.text);
        assert_eq!(unencoded.body["source"], source, "{}", unencoded.text);
        assert_eq!(encoded.body["status"], "duplicate", "{source}: {}", encoded.text);
        assert_eq!(other.body["status"], "quarantined", "{source}: {}", other.text);
    }
}
