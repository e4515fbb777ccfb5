//! Everyday questions: conditions on events, the overview, and where a release ran.

use ledger_tests::{Guarded, InProcess, Response, deploy, event};
use serde_json::{Value, json};

const COMMIT: &str = "6973793ef3442b763e3f66547344994e5c778d6c";

fn digest() -> String {
    format!("sha256:{}", "1e".repeat(32))
}

/// Returns a deploy with all parts of a release and an actor.
fn complete(id: &str, time: &str, environment: &str, version: &str) -> Value {
    let mut deploy = deploy(id, time, environment, "web", version);
    let artifact = format!("pkg:oci/web@{}", digest());
    deploy["data"]["release"] = json!({"version": version, "commit": COMMIT, "artifact": artifact});
    deploy["data"]["actor"] = json!({"type": "person", "name": "ada"});
    deploy
}

async fn service() -> InProcess {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    for event in [
        deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1"),
        complete("2", "2026-08-02T10:00:00Z", "staging", "v2"),
        complete("3", "2026-08-03T10:00:00Z", "production", "v2"),
        event(
            "4",
            "deploy.failed",
            "2026-08-04T10:00:00Z",
            json!({
                "environment": "production", "service": "api", "target": "eu", "release": {"version": "v3"}
            }),
        ),
        deploy("5", "2026-08-05T10:00:00Z", "production", "web", "v3"),
    ] {
        client.record_and_wait(&event).await;
    }
    service
}

fn positions(response: Response) -> Vec<u64> {
    let body = response.ok();
    let events = body["events"].as_array().expect("events");
    events.iter().map(|entry| entry["position"].as_u64().expect("a position")).collect()
}

#[tokio::test]
async fn events_are_found_by_what_they_name_and_by_their_time() {
    let service = service().await;
    let client = service.client();
    let digest = digest();
    for (query, expected) in [
        ("actor=ada", vec![2, 3]),
        ("actor=grace", vec![]),
        ("commit=6973793", vec![2, 3]),
        ("commit=6973794", vec![]),
        (&*format!("artifact={digest}"), vec![2, 3]),
        (&*format!("artifact=pkg:oci/web@{digest}&environment=staging"), vec![2]),
        ("target=eu", vec![4]),
        ("since=2026-08-03T10:00:00Z", vec![3, 4, 5]),
        ("until=2026-08-03T10:00:00Z", vec![1, 2]),
        ("since=2026-08-02T00:00:00Z&until=2026-08-04T00:00:00Z&actor=ada", vec![2, 3]),
        ("type=deploy", vec![1, 2, 3, 4, 5]),
        ("type=deploy&status=failed", vec![4]),
        ("status=succeeded,failed&environment=staging", vec![2]),
        ("type=deploy.failed,io.releaseledger.artifact.built.v1", vec![4]),
    ] {
        assert_eq!(positions(client.get(&format!("/v1/events?{query}")).await), expected, "{query}");
    }
}

#[tokio::test]
async fn events_in_descending_order_are_paged_by_before() {
    let service = service().await;
    let client = service.client();
    let first = client.get("/v1/events?order=desc&limit=2").await;
    assert_eq!(first.body["next"], 4);
    assert_eq!(positions(first), [5, 4]);
    assert_eq!(positions(client.get("/v1/events?order=desc&limit=2&before=4").await), [3, 2]);
    assert_eq!(positions(client.get("/v1/events?order=desc&after=2&before=5").await), [4, 3]);
    assert_eq!(positions(client.get("/v1/events?order=asc&after=3").await), [4, 5]);
}

#[tokio::test]
async fn an_invalid_condition_is_rejected_with_its_name() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    for (query, name) in [
        ("order=newest", "order"),
        ("before=4", "before"),
        ("since=yesterday", "since"),
        ("until=2026-08-01", "until"),
        ("type=deploy&status=passed", "status"),
        ("type=deploy,nonsense", "type"),
        ("artifact=web", "artifact"),
    ] {
        let response = client.get(&format!("/v1/events?{query}")).await;
        assert_eq!((response.status, response.problem()), (400, "invalid-parameter"), "{query}");
        assert!(response.text.contains(name), "{query}: {}", response.text);
    }
    for path in ["/v1/find", "/v1/find?release=v1&skip=100001", "/v1/overview?limit=51"] {
        let response = client.get(path).await;
        assert_eq!((response.status, response.problem()), (400, "invalid-parameter"), "{path}");
    }
}

#[tokio::test]
async fn a_release_is_found_by_version_commit_artifact_or_digest_with_its_first_and_last_time() {
    let service = service().await;
    let client = service.client();
    let digest = digest();
    for release in ["v2", COMMIT, "6973793", "pkg:oci/web@", &digest, &digest[..19], "1e1e1e1e"] {
        let release = if release.ends_with('@') { format!("{release}{digest}") } else { release.to_owned() };
        let found = client.get(&format!("/v1/find?release={release}")).await.ok();
        let runs: Vec<_> = found["runs"].as_array().expect("lanes").iter().collect();
        assert_eq!(runs.len(), 2, "{release}: {found}");
        assert_eq!(
            (&runs[0]["environment"], &runs[1]["environment"]),
            (&json!("production"), &json!("staging"))
        );
        assert_eq!((&runs[0]["first"]["position"], &runs[0]["until"]["position"]), (&json!(3), &json!(5)));
        assert_eq!((&runs[1]["first"]["position"], &runs[1]["until"]), (&json!(2), &Value::Null));
    }
    let none = client.get("/v1/find?release=v9").await.ok();
    assert_eq!(none["runs"], json!([]));
    let first = client.get("/v1/find?release=v2&limit=1").await.ok();
    let second = client.get("/v1/find?release=v2&limit=1&skip=1").await.ok();
    assert_eq!((&first["next"], &second["runs"][0]["environment"]), (&json!(1), &json!("staging")));
}

#[tokio::test]
async fn a_corrected_deploy_is_not_found() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    let mistaken = deploy("2", "2026-08-01T11:00:00Z", "production", "web", "v2");
    client.record_and_wait(&mistaken).await;
    let mut correction = deploy("3", "2026-08-01T11:00:00Z", "production", "web", "v1");
    correction["data"]["corrects"] = json!({"source": mistaken["source"], "id": mistaken["id"]});
    client.record_and_wait(&correction).await;

    assert_eq!(client.get("/v1/find?release=v2").await.ok()["runs"], json!([]));
}

#[tokio::test]
async fn the_overview_shows_lanes_with_their_drift_revocations_and_open_deploys() {
    let service = service().await;
    let client = service.client();
    let artifact = format!("pkg:oci/web@{}", digest());
    let revoked = json!({"artifact": artifact, "reason": "a hole"});
    let lane = json!({"environment": "production", "service": "api", "release": {"version": "v1"}});
    for event in [
        event("r", "artifact.revoked", "2026-08-06T10:00:00Z", revoked),
        event("s", "deploy.started", "2026-08-06T10:00:00Z", lane),
    ] {
        client.record_and_wait(&event).await;
    }

    let overview = client.get("/v1/overview").await.ok();

    let [production, staging] = &overview["environments"].as_array().expect("environments")[..] else {
        panic!("two environments: {overview}")
    };
    assert_eq!((&production["name"], &staging["name"]), (&json!("production"), &json!("staging")));
    assert_eq!(production["lanes"][0]["release"]["version"], "v3");
    assert_eq!(production["lanes"][0]["revoked"], false);
    assert_eq!(
        (&staging["lanes"][0]["revoked"], &staging["lanes"][0]["drift"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(production["deploying"][0]["service"], "api");
    assert_eq!(production["status"], "candidate");
    let page = client.get("/v1/overview?limit=1").await.ok();
    let rest = client.get("/v1/overview?after=production").await.ok();
    assert_eq!((&page["next"], &rest["environments"][0]["name"]), (&json!("production"), &json!("staging")));
}

#[tokio::test]
async fn a_question_answers_only_about_what_its_sender_may_read() {
    let guarded = Guarded::start(&["--only=http,projector"], "").await;
    let reporter = guarded.client("ci", "workload", &["*"], &["emit", "read"]).await;
    for (id, environment) in [("1", "staging"), ("2", "production")] {
        reporter.record_and_wait(&deploy(id, "2026-08-01T10:00:00Z", environment, "web", "v1")).await;
    }
    let reader = guarded.client("reader", "workload", &["staging"], &["read"]).await;

    let overview = reader.get("/v1/overview").await.ok();
    let found = reader.get("/v1/find?release=v1").await.ok();

    let names = |list: &Value, member: &str| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|item| item[member].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&overview["environments"], "name"), ["staging"]);
    assert_eq!(names(&found["runs"], "environment"), ["staging"]);
}

#[tokio::test]
async fn a_point_may_be_the_number_of_a_change() {
    let service = service().await;
    let client = service.client();
    let point = client.get("/v1/environments/production/points/change:2").await.ok();
    let missing = client.get("/v1/environments/production/points/change:9").await;
    assert_eq!((&point["point"]["number"], &point["point"]["position"]), (&json!(2), &json!(3)));
    assert_eq!(missing.status, 404, "{}", missing.text);
}
