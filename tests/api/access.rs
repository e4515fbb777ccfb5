//! Authentication and authorisation: who may do what, and what an entry says of its sender.

mod matrix;
mod reads;
mod sign_in;

use ledger_tests::{Client, Guarded, Response, Story, deploy, event, new_token, text};
use reqwest::Method;
use serde_json::{Value, json};

async fn start() -> Guarded {
    Guarded::start(&["--only=http,projector"], "").await
}

fn staging_deploy(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "staging", "web", "v1")
}

#[tokio::test]
async fn a_request_without_credentials_is_challenged_except_for_health_and_documentation() {
    let guarded = start().await;
    let stranger = guarded.service.client();
    for path in ["/v1/position", "/v1/environments", "/v1/tenants/shop/events", "/v1/whoami", "/metrics"] {
        let response = stranger.get(path).await;
        assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{path}");
        assert_eq!(response.header("www-authenticate"), "Bearer realm=\"release-ledger\"", "{path}");
    }
    for path in ["/livez", "/readyz", "/openapi.json", "/docs/", "/schemas/", "/schemas/events/common.json"] {
        assert_eq!(stranger.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_rejected_whatever_is_wrong_with_it() {
    let guarded = start().await;
    let token = guarded.create_token("ci", "workload").await;
    let revoked = guarded.create_token("old", "workload").await;
    guarded.change("token.revoked", "revoke-old", json!({"token": revoked.id().as_str()})).await;
    let expired = new_token();
    let data = json!({
        "token": expired.id().as_str(), "kind": "workload", "name": "late", "hash": expired.hash().to_string(),
        "expires_at": "2026-01-01T00:00:00Z",
    });
    guarded.change("token.created", "token-late", data).await;
    let (other, cut) = (new_token(), &token.expose()[..token.expose().len() - 1]);
    let jwt = "eyJhbGciOiJub25lIn0.e30.";

    let all = [other.expose(), cut, revoked.expose(), expired.expose(), jwt, "x", &"x".repeat(10_000)];
    for wrong in all {
        let response = guarded.service.client_with(wrong).get("/v1/whoami").await;
        assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{wrong:.60}");
        assert!(!response.text.contains(wrong), "{}", response.text);
    }
    assert_eq!(guarded.service.client_with(token.expose()).get("/v1/whoami").await.status, 200);
}

#[tokio::test]
async fn a_token_counts_in_one_header_only() {
    let guarded = start().await;
    let token = guarded.create_token("ci", "workload").await;
    let stranger = guarded.service.client();
    let request = || stranger.request(Method::GET, "/v1/whoami");
    let basic = Client::send(request().basic_auth("anything", Some(token.expose()))).await.ok();
    assert_eq!(basic["principal"]["name"], "ci");

    let twice = request().bearer_auth(token.expose()).header("authorization", "Bearer x");
    assert_eq!(Client::send(twice).await.status, 401);
    let in_query = stranger.get(&format!("/v1/whoami?access_token={}", token.expose())).await;
    assert_eq!(in_query.status, 401);
}

#[tokio::test]
async fn the_actor_of_an_event_is_its_sender_whatever_the_event_states() {
    let guarded = start().await;
    let ci = guarded.client("ci", "workload", &["staging"], &["emit", "read"]).await;
    let mut stated = staging_deploy("d1");
    stated["data"]["actor"] = json!({"type": "person", "name": "ada"});

    let position = ci.record(&stated).await.ok()["position"].as_u64().expect("a position");
    guarded.admin.wait_for_projections(position).await;

    let entry = guarded.admin.get(&format!("/v1/events/{position}")).await.ok();
    assert_eq!(entry["event"]["data"]["actor"]["name"], "ada", "what it states is kept: {entry}");
    assert_eq!(entry["actor"], json!({"type": "workload", "name": "ci"}));
    assert_eq!(entry["principal"]["issuer"], "release-ledger");
    assert_eq!(entry["principal"]["kind"], "workload");
}

#[tokio::test]
async fn the_same_event_from_another_sender_is_a_duplicate() {
    let guarded = start().await;
    let one = guarded.client("one", "workload", &["staging"], &["emit"]).await;
    let two = guarded.client("two", "workload", &["staging"], &["emit"]).await;
    let first = one.record(&staging_deploy("d1")).await.ok();

    let again = two.record(&staging_deploy("d1")).await.ok();
    guarded.admin.wait_for_projections(1).await;
    let later = two.record(&staging_deploy("d1")).await.ok();

    for duplicate in [again, later] {
        assert_eq!((&duplicate["status"], &duplicate["position"]), (&json!("duplicate"), &first["position"]));
    }
    let mut other = staging_deploy("d1");
    other["data"]["release"]["version"] = "v2".into();
    assert_eq!(two.record(&other).await.problem(), "identity-conflict");
}

#[tokio::test]
async fn an_event_may_not_state_its_sender() {
    let guarded = start().await;
    let ci = guarded.client("ci", "workload", &["staging"], &["emit"]).await;
    let mut forged = staging_deploy("d1");
    forged["ledgerprincipal"] = json!(r#"{"kind":"person","issuer":"proxy","subject":"ada","name":"ada"}"#);
    let response = ci.record(&forged).await;
    assert_eq!((response.status, response.problem()), (422, "invalid-event"), "{}", response.text);
}

#[tokio::test]
async fn a_grant_limits_environments_services_and_verbs_of_each_event() {
    let guarded = start().await;
    let token = guarded.create_token("ci", "workload").await;
    let data = json!({
        "grant": "ci", "grantee": {"token": token.id().as_str()}, "tenant": "default",
        "environments": ["staging", "dev-*"], "services": ["web"], "verbs": ["emit:deploy", "emit:artifact"],
    });
    guarded.change("grant.added", "grant-ci", data).await;
    let ci = guarded.service.client_with(token.expose());
    let at = "2026-08-01T10:00:00Z";
    let built = json!({"artifact": format!("pkg:oci/web@sha256:{}", "0".repeat(64))});
    let lines = [
        staging_deploy("1"),
        deploy("2", at, "dev-1", "web", "v1"),
        deploy("3", at, "production", "web", "v1"),
        deploy("4", at, "staging", "shop", "v1"),
        event(
            "5",
            "validation.passed",
            at,
            json!({"environment": "staging", "service": "web", "check": "e2e"}),
        ),
        event("6", "artifact.built", at, built.clone()),
        event("7", "artifact.revoked", at, json!({"artifact": built["artifact"], "reason": "Broken."})),
        event("8", "freeze.started", at, json!({"environment": "staging", "freeze_id": "f"})),
    ];
    let body = lines.map(|line| line.to_string()).join("\n");
    let response = ci.post("/v1/events", "application/x-ndjson", body).await;

    let statuses: Vec<String> = response.lines().iter().map(|line| text(&line["status"])).collect();
    let expected =
        ["recorded", "recorded", "rejected", "rejected", "rejected", "recorded", "rejected", "rejected"];
    assert_eq!(statuses, expected, "{}", response.text);
    for rejected in response.lines().iter().filter(|line| line["status"] == "rejected") {
        assert_eq!(rejected["problem"]["type"], "urn:release-ledger:problem:forbidden");
    }
}

#[tokio::test]
async fn a_revoked_token_and_a_removed_grant_end_at_once() {
    let guarded = start().await;
    let token = guarded.create_token("ci", "workload").await;
    guarded.grant("ci", &token, &["staging"], &["emit"]).await;
    let ci = guarded.service.client_with(token.expose());
    assert_eq!(ci.record(&staging_deploy("1")).await.status, 201);

    guarded.change("grant.removed", "ungrant", json!({"grant": "ci"})).await;
    let denied = ci.record(&staging_deploy("2")).await;
    assert_eq!((denied.status, denied.problem()), (404, "unknown-tenant"), "{}", denied.text);
    guarded.change("token.revoked", "revoke", json!({"token": token.id().as_str()})).await;
    assert_eq!(ci.record(&staging_deploy("2")).await.status, 401);
}

#[tokio::test]
async fn a_rotated_token_has_two_secrets_for_a_while() {
    let guarded = start().await;
    let first = guarded.create_token("ci", "workload").await;
    let second = ledger_access::ApiToken::generate_for(first.id().clone()).expect("random numbers");
    let rotation =
        |until: &str, id: &str| json!({"token": first.id().as_str(), "hash": id, "previous_until": until});
    let data = rotation("2100-01-01T00:00:00Z", &second.hash().to_string());
    guarded.change("token.rotated", "rotate-1", data).await;
    for token in [&first, &second] {
        assert_eq!(guarded.service.client_with(token.expose()).get("/v1/whoami").await.status, 200);
    }
    let third = ledger_access::ApiToken::generate_for(first.id().clone()).expect("random numbers");
    let data = rotation("2026-01-01T00:00:00Z", &third.hash().to_string());
    guarded.change("token.rotated", "rotate-2", data).await;
    for (token, status) in [(&first, 401), (&second, 401), (&third, 200)] {
        assert_eq!(guarded.service.client_with(token.expose()).get("/v1/whoami").await.status, status);
    }
}

#[tokio::test]
async fn a_person_approves_and_a_workload_does_not_whatever_name_it_states() {
    let guarded = start().await;
    let story = Story::on(&guarded.admin);
    story.declare_policy(json!({"approvals": 1}), 0).await;
    let good = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let mia = guarded.client("mia", "person", &["*"], &["rollback", "approve", "read"]).await;
    let ada = guarded.client("ada", "person", &["*"], &["approve"]).await;
    let ci = guarded.client("ci", "workload", &["*"], &["approve", "rollback", "read"]).await;
    let request = json!({
        "to": good.to_string(), "rollback_id": "r1", "reason": "Broken.",
        "initiated_by": {"type": "person", "name": "somebody"},
    });
    let requested = Story::on(&mia).request(request).await.ok();
    guarded.admin.wait_for_projections(requested["position"].as_u64().expect("a position")).await;
    let rollback = guarded.admin.get("/v1/rollbacks/r1").await.ok();
    assert_eq!(rollback["initiated_by"], json!({"type": "person", "name": "mia"}));

    let approve = |client: &Client, id: &str| {
        let data = json!({
            "environment": "production", "rollback_id": "r1", "actor": {"type": "person", "name": "ada"},
        });
        let (client, event) = (client.clone(), event(id, "approval.granted", "2026-08-01T10:05:00Z", data));
        async move { client.record(&event).await }
    };
    assert_eq!(approve(&ci, "a1").await.problem(), "not-a-person");
    assert_eq!(approve(&mia, "a2").await.problem(), "self-approval");
    assert_eq!(approve(&ada, "a3").await.status, 201);
    let start = event(
        "s1",
        "rollback.started",
        "2026-08-01T10:06:00Z",
        json!({
            "environment": "production", "rollback_id": "r1",
        }),
    );
    assert_eq!(ci.record(&start).await.status, 201, "the approved rollback starts");
}

#[tokio::test]
async fn nobody_requests_a_rollback_in_the_name_of_another() {
    let guarded = start().await;
    let story = Story::on(&guarded.admin);
    let good = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let mia = guarded.client("mia", "person", &["*"], &["rollback", "read"]).await;
    let plan = Story::on(&mia).plan(json!({"to": good.to_string()})).await.ok();
    let data = json!({
        "environment": "production", "rollback_id": "r1", "reason": "Broken.", "to": plan["point"]["position"],
        "initiated_by": {"type": "person", "name": "ada"}, "plan": plan["plan"], "plan_digest": plan["digest"],
    });
    let event = event("r1", "rollback.requested", "2026-08-01T10:05:00Z", data);
    let response = mia.record(&event).await;
    assert!(["not-the-requester", "invalid-event"].contains(&response.problem()), "{}", response.text);
}

#[tokio::test]
async fn events_about_access_belong_to_their_own_tenant() {
    let guarded = start().await;
    let admin = &guarded.admin;
    let token = json!({"token": "8c1f2e3d4a5b6978"});
    let elsewhere = admin.record(&event("1", "token.revoked", "2026-08-01T10:00:00Z", token.clone())).await;
    assert_eq!((elsewhere.status, elsewhere.problem()), (403, "other-tenant"), "{}", elsewhere.text);
    let path = "/v1/tenants/_admin/events";
    let deploy = admin.post(path, "application/cloudevents+json", staging_deploy("2").to_string()).await;
    assert_eq!((deploy.status, deploy.problem()), (403, "other-tenant"), "{}", deploy.text);
    let unknown = guarded.try_change("token.revoked", "3", token).await;
    assert_eq!((unknown.status, unknown.problem()), (409, "change-without-effect"), "{}", unknown.text);
    let known = guarded.create_token("twice", "workload").await;
    let data = json!({
        "token": known.id().as_str(), "kind": "workload", "name": "twice", "hash": known.hash().to_string(),
    });
    let again = guarded.try_change("token.created", &format!("token-{}", known.id()), data).await.ok();
    assert_eq!(again["status"], "duplicate", "{again}");
    assert!(unknown.text.contains("no token 8c1f2e3d4a5b6978 exists"), "{}", unknown.text);

    let ci = guarded.client("ci", "workload", &["*"], &["emit", "read"]).await;
    let history = ci.get("/v1/tenants/_admin/events").await;
    assert_eq!((history.status, history.problem()), (404, "unknown-tenant"));
    let history = admin.get("/v1/tenants/_admin/events?type=token.created").await.ok();
    let events = history["events"].as_array().expect("events");
    assert_eq!(events.last().expect("an event")["event"]["data"]["name"], "ci");
    assert!(events.iter().all(|entry| entry["actor"]["name"] == "root"), "{history}");
}

#[tokio::test]
async fn a_read_of_one_environment_shows_nothing_of_another() {
    let guarded = start().await;
    let at = "2026-08-01T10:00:00Z";
    let secret = guarded.admin.record_and_wait(&deploy("p", at, "production", "web", "v9")).await;
    let open = guarded.admin.record_and_wait(&staging_deploy("s")).await;
    let reader = guarded.client("reader", "person", &["staging"], &["read"]).await;

    let listed = reader.get("/v1/environments").await.ok();
    assert_eq!(listed["environments"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(reader.get("/v1/environments/staging/state").await.status, 200);
    assert_eq!(reader.get("/v1/events?environment=staging").await.status, 200);
    assert_eq!(reader.get(&format!("/v1/events/{open}")).await.status, 200);
    let hidden = reader.get(&format!("/v1/events/{secret}")).await;
    assert_eq!((hidden.status, hidden.problem()), (404, "unknown-position"), "{}", hidden.text);
    assert_eq!(reader.get("/metrics").await.problem(), "forbidden", "metrics name every environment");
    assert_eq!(guarded.admin.get("/metrics").await.status, 200);
    for path in [
        "/v1/events",
        "/v1/events?environment=production",
        "/v1/environments/production/state",
        "/v1/environments/staging/diff?from=production@latest",
        "/v1/rollbacks",
        "/v1/rollbacks/stream",
        "/v1/events/stream",
        "/v1/events/stream?environment=production",
    ] {
        let response = reader.get(path).await;
        assert_eq!((response.status, response.problem()), (403, "forbidden"), "{path} {}", response.text);
        assert!(!response.text.contains("v9"), "{}", response.text);
    }
}

#[tokio::test]
async fn a_tenant_that_a_principal_may_not_know_looks_like_one_that_does_not_exist() {
    let guarded = Guarded::start(&["--only=http,projector", "--tenants=default,shop"], "").await;
    let reader = guarded.client("reader", "person", &["*"], &["read"]).await;
    let (hidden, absent) = (
        reader.get("/v1/tenants/shop/environments").await,
        reader.get("/v1/tenants/none/environments").await,
    );
    assert_eq!((hidden.status, absent.status), (404, 404));
    let detail = |response: &Response| response.body["detail"].as_str().expect("a detail").to_owned();
    assert_eq!(detail(&hidden).replace("shop", "none"), detail(&absent));
    assert_eq!(guarded.admin.get("/v1/tenants/shop/environments").await.status, 200);
}

#[tokio::test]
async fn an_explanation_names_the_grant_that_allows_or_the_part_that_differs() {
    let guarded = start().await;
    let token = guarded.create_token("ci", "workload").await;
    guarded.grant("deployers", &token, &["staging"], &["emit"]).await;
    let explain = |environment: &str| {
        let body = json!({
            "principal": {"token": token.id().as_str()}, "verb": "emit:deploy", "environment": environment,
        });
        let admin = guarded.admin.clone();
        async move { admin.post("/v1/access/explain", "application/json", body.to_string()).await.ok() }
    };
    let allowed = explain("staging").await;
    assert_eq!(allowed, json!({"allowed": true, "grants": [{"grant": "deployers", "allows": true}]}));
    let denied = explain("production").await;
    assert_eq!(denied["allowed"], false);
    assert_eq!(denied["grants"][0]["reason"], "it does not cover the environment");
    let ci = guarded.service.client_with(token.expose());
    let body = json!({"principal": {"token": "8c1f2e3d4a5b6978"}, "verb": "read"}).to_string();
    assert_eq!(ci.post("/v1/access/explain", "application/json", body).await.status, 403);
}

#[tokio::test]
async fn a_proxy_names_the_user_only_with_its_own_credential() {
    let proxy = new_token();
    let settings = format!(
        "[access.proxy]\nsecret_header = \"x-proxy\"\nsecret_hash = \"{}\"\nuser_header = \"x-user\"\n\
         [[access.grants]]\ngrantee = {{ issuer = \"proxy\", subject = \"ada\" }}\ntenant = \"default\"\n\
         environments = [\"*\"]\nservices = [\"*\"]\nverbs = [\"read\"]\n",
        proxy.hash()
    );
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let stranger = guarded.service.client();
    let as_user = |secret: &str, users: &[&str]| {
        let mut request = stranger.request(Method::GET, "/v1/environments").header("x-proxy", secret);
        for user in users {
            request = request.header("x-user", *user);
        }
        Client::send(request)
    };
    assert_eq!(as_user(proxy.expose(), &["ada"]).await.status, 200);
    assert_eq!(as_user(proxy.expose(), &["eve"]).await.status, 404, "no grant for the tenant");
    for (secret, users) in [
        (new_token().expose(), vec!["ada"]),
        ("x", vec!["ada"]),
        (proxy.expose(), vec![]),
        (proxy.expose(), vec!["ada", "eve"]),
    ] {
        assert_eq!(as_user(secret, &users).await.status, 401, "{users:?}");
    }
    let without = stranger.request(Method::GET, "/v1/environments").header("x-user", "ada");
    assert_eq!(Client::send(without).await.status, 401);
}

#[tokio::test]
async fn a_correction_needs_the_right_to_send_the_event_that_it_replaces() {
    let guarded = start().await;
    let at = "2026-08-01T10:00:00Z";
    guarded.admin.record_and_wait(&deploy("p1", at, "production", "web", "v1")).await;
    let ci = guarded.client("ci", "workload", &["staging"], &["emit"]).await;
    ci.record(&staging_deploy("s1")).await.ok();
    let correction = |id: &str, corrected: &str| {
        let mut event = deploy(id, at, "staging", "web", "v2");
        event["data"]["corrects"] = json!({"source": event["source"], "id": corrected});
        event
    };

    assert_eq!(ci.record(&correction("c1", "s1")).await.status, 201, "an event that was just recorded");
    for (id, corrected) in [("c2", "p1"), ("c3", "not-recorded")] {
        let refused = ci.record(&correction(id, corrected)).await;
        assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{corrected}: {}", refused.text);
    }
    let state = guarded.admin.get("/v1/environments/production/state").await.ok();
    assert_eq!(state["lanes"][0]["release"]["version"], "v1");
}

#[tokio::test]
async fn a_person_for_whom_a_workload_asks_may_not_approve() {
    let guarded = start().await;
    let story = Story::on(&guarded.admin);
    story.declare_policy(json!({"approvals": 1}), 0).await;
    let good = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let ci = guarded.client("ci", "workload", &["*"], &["rollback", "read"]).await;
    let ada = guarded.client("ada", "person", &["*"], &["approve"]).await;
    let request = json!({
        "to": good.to_string(), "rollback_id": "r1", "reason": "Broken.",
        "initiated_by": {"type": "person", "name": "ada"},
    });
    let requested = Story::on(&ci).request(request).await.ok();
    guarded.admin.wait_for_projections(requested["position"].as_u64().expect("a position")).await;

    let data = json!({
        "environment": "production", "rollback_id": "r1", "actor": {"type": "person", "name": "ada"},
    });
    let approval = ada.record(&event("a1", "approval.granted", "2026-08-01T10:05:00Z", data)).await;
    assert_eq!(approval.problem(), "self-approval", "{}", approval.text);
}

#[tokio::test]
async fn a_stream_ends_when_its_client_loses_the_right_to_read() {
    let guarded = start().await;
    let token = guarded.create_token("reader", "workload").await;
    guarded.grant("reader", &token, &["*"], &["read"]).await;
    let good = Story::on(&guarded.admin).deploy("web", "v1", 1).await;
    Story::on(&guarded.admin).deploy("web", "v2", 2).await;
    let reader = guarded.service.client_with(token.expose());
    let mut rollbacks = reader.request(Method::GET, "/v1/rollbacks/stream").send().await.expect("a stream");
    let mut events = reader.request(Method::GET, "/v1/events/stream").send().await.expect("a stream");
    guarded.change("token.revoked", "revoke", json!({"token": token.id().as_str()})).await;

    let request = json!({
        "to": good.to_string(), "rollback_id": "r1", "reason": "Broken.",
        "initiated_by": {"type": "person", "name": "root"},
    });
    Story::on(&guarded.admin).request(request).await.ok();

    for stream in [&mut rollbacks, &mut events] {
        let mut received = String::new();
        while let Some(chunk) = stream.chunk().await.expect("a chunk") {
            received.push_str(&String::from_utf8_lossy(&chunk));
        }
        assert!(received.contains("event: end") && !received.contains("rollback.requested"), "{received}");
    }
}
