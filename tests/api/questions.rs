//! Everyday questions: conditions on events, the overview, and where a release ran.

use ledger_tests::{Client, Guarded, InProcess, Response, Story, deploy, event, text};
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
        ("since=someday", "since"),
        ("until=2026-08-32", "until"),
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
async fn a_commit_is_looked_up_only_on_lanes_of_its_services() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    for other in ["api", "basket"] {
        let event = deploy(other, "2026-08-01T10:00:00Z", "production", other, "v1");
        client.record_and_wait(&event).await;
    }
    let mut event = deploy("web", "2026-08-01T11:00:00Z", "production", "web", "v1");
    event["data"]["release"]["commit"] = COMMIT.into();
    client.record_and_wait(&event).await;

    let found = client.get(&format!("/v1/find?release={COMMIT}&limit=1")).await.ok();
    assert_eq!((&found["runs"][0]["service"], &found["next"]), (&json!("web"), &Value::Null), "{found}");
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

/// The gate looks the artifact up by an SQL statement, a search by the rule of the domain.
#[tokio::test]
async fn rule_6_a_version_means_the_same_artifact_for_the_gate_and_for_a_search() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let [production, staging, qa] = ["production", "staging", "qa"].map(|name| Story::of(&client, name));
    let image = |digit: &str| format!("pkg:oci/web@sha256:{}", digit.repeat(64));
    let built = |version: &str, digit: &str| json!({"version": version, "artifact": image(digit)});
    let stating = |version: &str, digit: &str| json!({"service": "web", "target": "eu", "release": {"version": version, "artifact": image(digit)}});
    production.record("artifact.built", 1, built("built", "1")).await;
    production.record("artifact.built", 1, built("elsewhere", "2")).await;
    staging.record("deploy.succeeded", 2, stating("elsewhere", "3")).await;
    qa.record("deploy.succeeded", 3, stating("elsewhere", "4")).await;
    production.record("artifact.built", 1, built("here", "5")).await;
    production.record("deploy.succeeded", 2, stating("here", "6")).await;
    staging.record("deploy.succeeded", 3, stating("here", "7")).await;
    let versions = ["built", "elsewhere", "here"];
    for (version, minutes) in versions.into_iter().zip(4..) {
        let unstated = json!({"service": "web", "target": "us", "release": {"version": version}});
        production.record("deploy.succeeded", minutes, unstated).await;
    }

    let mut of_gate = Vec::new();
    for version in versions {
        let request = json!({"service": "web", "target": "us", "release": {"version": version}});
        let gate = production.gate(request).await;
        of_gate.push((version.to_owned(), text(&gate["release"]["artifact"])));
    }
    let mut of_search = Vec::new();
    for digit in ["1", "2", "3", "4", "5", "6", "7"] {
        let body = client.get(&format!("/v1/find?release=sha256:{}", digit.repeat(64))).await.ok();
        let runs = body["runs"].as_array().expect("runs").iter();
        let in_lane = runs.filter(|run| run["environment"] == "production" && run["target"] == "us");
        of_search.extend(in_lane.map(|run| (text(&run["release"]["version"]), image(digit))));
    }

    let expected = [("built", "1"), ("elsewhere", "4"), ("here", "6")];
    let expected = expected.map(|(version, digit)| (version.to_owned(), image(digit)));
    assert_eq!(of_gate, expected);
    assert_eq!(of_search, expected);
}

/// Returns the versions that a search finds, each with the positions of its first and last time and of its end.
async fn found(client: &Client, release: &str) -> Vec<(String, u64, u64, Option<u64>)> {
    let body = client.get(&format!("/v1/find?release={release}")).await.ok();
    let runs = body["runs"].as_array().expect("runs").iter();
    let position = |moment: &Value| moment["position"].as_u64();
    runs.map(|run| {
        let version = run["release"]["version"].as_str().expect("a version").to_owned();
        let first = position(&run["first"]).expect("a position");
        (version, first, position(&run["last"]).expect("a position"), position(&run["until"]))
    })
    .collect()
}

fn correction(id: &str, time: &str, version: &str, of: &Value) -> Value {
    let mut correction = deploy(id, time, "production", "web", version);
    correction["data"]["corrects"] = json!({"source": of["source"], "id": of["id"]});
    correction
}

#[tokio::test]
async fn a_release_whose_deploy_was_corrected_is_found_as_long_as_it_ran() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let first = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    client.record_and_wait(&first).await;
    client.record_and_wait(&correction("2", "2026-08-01T10:00:00Z", "v1", &first)).await;
    assert_eq!(found(&client, "v1").await, [("v1".to_owned(), 2, 2, None)], "the correction says the same");

    let again = deploy("3", "2026-08-01T11:00:00Z", "production", "web", "v2");
    client.record_and_wait(&again).await;
    client.record_and_wait(&deploy("4", "2026-08-01T12:00:00Z", "production", "web", "v2")).await;
    client.record_and_wait(&correction("5", "2026-08-01T11:00:00Z", "v1", &again)).await;
    assert_eq!(found(&client, "v2").await, [("v2".to_owned(), 4, 4, None)], "by the redeploy");
    assert_eq!(found(&client, "v1").await, [("v1".to_owned(), 2, 5, Some(4))]);
}

#[tokio::test]
async fn a_release_in_a_slot_whose_deploy_was_corrected_is_not_found_by_the_switch() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let mut green = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v2");
    green["data"]["slot"] = json!("green");
    let lane = json!({"environment": "production", "service": "web", "slot": "green"});
    client.record_and_wait(&green).await;
    assert_eq!(found(&client, "v2").await, [], "no traffic reached it");
    client.record_and_wait(&event("2", "traffic.switched", "2026-08-01T11:00:00Z", lane)).await;
    assert_eq!(found(&client, "v2").await, [("v2".to_owned(), 2, 2, None)]);
    let mut corrected = correction("3", "2026-08-01T10:00:00Z", "v3", &green);
    corrected["data"]["slot"] = json!("green");
    client.record_and_wait(&corrected).await;
    assert_eq!(found(&client, "v2").await, []);
    assert_eq!(found(&client, "v3").await, [("v3".to_owned(), 2, 2, None)]);
}

#[tokio::test]
async fn a_release_that_was_reported_late_is_found_by_the_time_at_which_it_ran() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T12:00:00Z", "production", "web", "v2")).await;
    client.record_and_wait(&deploy("2", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    assert_eq!(found(&client, "v1").await, [("v1".to_owned(), 2, 2, Some(1))]);

    let retired = json!({"environment": "production", "reason": "moved"});
    client.record_and_wait(&event("3", "environment.retired", "2026-08-01T13:00:00Z", retired)).await;
    assert_eq!(found(&client, "v2").await, [("v2".to_owned(), 1, 1, Some(3))]);
}

#[tokio::test]
async fn a_deploy_that_states_only_a_version_is_found_by_the_build_of_the_version() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let artifact = format!("pkg:oci/web@{}", digest());
    let built = json!({"artifact": artifact, "version": "v1", "commit": COMMIT});
    client.record_and_wait(&event("1", "artifact.built", "2026-08-01T09:00:00Z", built)).await;
    client.record_and_wait(&deploy("2", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    let digest = digest();
    for release in [&*artifact, &digest, &digest[..19], COMMIT, &COMMIT[..7]] {
        assert_eq!(found(&client, release).await, [("v1".to_owned(), 2, 2, None)], "{release}");
    }
    assert_eq!(found(&client, &format!("sha256:{}", "2f".repeat(32))).await, []);
}

#[tokio::test]
async fn a_deploy_that_states_only_an_artifact_is_found_by_the_commit_that_it_was_built_from() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let artifact = format!("pkg:oci/web@{}", digest());
    let built = json!({"artifact": artifact, "commit": COMMIT});
    client.record_and_wait(&event("1", "artifact.built", "2026-08-01T09:00:00Z", built)).await;
    let mut deploy = deploy("2", "2026-08-01T10:00:00Z", "production", "web", "v1");
    deploy["data"]["release"]["artifact"] = json!(format!("registry.example/web@{}", digest()));
    client.record_and_wait(&deploy).await;
    assert_eq!(found(&client, &COMMIT[..7]).await, [("v1".to_owned(), 2, 2, None)]);
}

#[tokio::test]
async fn a_package_is_found_with_and_without_its_checksum() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let plain = "pkg:cargo/rand@0.9.1";
    let package = |digits: &str| format!("{plain}?checksum=sha256:{}", digits.repeat(32));
    for (id, time, artifact) in
        [("1", "2026-08-01T10:00:00Z", package("1e")), ("2", "2026-08-01T11:00:00Z", plain.into())]
    {
        let mut deploy = deploy(id, time, "production", "web", &format!("v{id}"));
        deploy["data"]["release"]["artifact"] = json!(artifact);
        client.record_and_wait(&deploy).await;
    }
    let versions = |found: Vec<(String, u64, u64, Option<u64>)>| -> Vec<String> {
        found.into_iter().map(|(version, ..)| version).collect()
    };
    let encoded = |text: &str| text.replace('?', "%3F").replace('=', "%3D");
    for (release, runs, events) in [
        (plain.to_owned(), vec!["v1", "v2"], vec![1, 2]),
        (package("1e"), vec!["v1", "v2"], vec![1, 2]),
        (package("2f"), vec!["v2"], vec![2]),
    ] {
        let text = encoded(&release);
        assert_eq!(versions(found(&client, &text).await), runs, "{release}");
        assert_eq!(positions(client.get(&format!("/v1/events?artifact={text}")).await), events, "{release}");
    }
}

#[tokio::test]
async fn a_commit_is_found_whole_or_shortened_in_either_case() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    for (id, commit) in
        [("1", COMMIT[..8].to_ascii_uppercase()), ("2", COMMIT.to_owned()), ("3", "697379".into())]
    {
        let mut deploy = deploy(id, "2026-08-01T10:00:00Z", "production", &format!("web{id}"), "v1");
        deploy["data"]["release"]["commit"] = json!(commit);
        client.record_and_wait(&deploy).await;
    }
    for commit in [COMMIT.to_owned(), COMMIT.to_ascii_uppercase(), COMMIT[..9].to_owned(), "6973793".into()] {
        assert_eq!(found(&client, &commit).await.len(), 2, "{commit}");
        assert_eq!(positions(client.get(&format!("/v1/events?commit={commit}")).await), [1, 2], "{commit}");
    }
    assert_eq!(found(&client, "6973793f").await, [], "another commit");
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
    let one = client.get("/v1/overview?environment=production&service=api").await.ok();
    let [production] = &one["environments"].as_array().expect("environments")[..] else {
        panic!("one environment: {one}")
    };
    assert_eq!((&production["lanes"], &production["deploying"][0]["service"]), (&json!([]), &json!("api")));
    let unknown = client.get("/v1/overview?environment=production,prodution").await;
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-environment"));
    let page = client.get("/v1/overview?limit=1").await.ok();
    let rest = client.get("/v1/overview?after=production").await.ok();
    assert_eq!((&page["next"], &rest["environments"][0]["name"]), (&json!("production"), &json!("staging")));
}

#[tokio::test]
async fn the_overview_shows_lanes_that_only_an_observer_knows() {
    let service = service().await;
    let client = service.client();
    let seen = |service: &str| json!({"service": service, "target": "default", "release": {"version": "v3"}});
    let observation = json!({"environment": "production", "lanes": [seen("web"), seen("worker")]});
    client.record_and_wait(&event("o", "environment.observed", "2026-08-06T10:00:00Z", observation)).await;

    let overview = client.get("/v1/overview?environment=production").await.ok();

    let production = &overview["environments"][0];
    assert_eq!(production["observed"].as_array().map(Vec::len), Some(1), "{overview}");
    assert_eq!(production["observed"][0]["service"], "worker");
    assert_eq!(overview["restricted"], Value::Null);
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

    let page = reader.get("/v1/find?release=v1&limit=1").await.ok();
    assert_eq!((&page["runs"][0]["environment"], &page["next"]), (&json!("staging"), &Value::Null));
    let names = |list: &Value, member: &str| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|item| item[member].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&overview["environments"], "name"), ["staging"]);
    assert_eq!(overview["restricted"], true);
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

/// Returns a lifted freeze, one in force, and one that has ended, of two environments.
fn freezes() -> [Value; 4] {
    let freeze = |id: &str, kind: &str, time: &str, mut data: Value| {
        data["actor"] = json!({"type": "person", "name": "ada"});
        event(id, kind, time, data)
    };
    [
        freeze(
            "f1",
            "freeze.started",
            "2026-08-06T10:00:00Z",
            json!({"environment": "production", "freeze_id": "sale", "reason": "The sale starts."}),
        ),
        freeze(
            "f2",
            "freeze.lifted",
            "2026-08-06T12:00:00Z",
            json!({"environment": "production", "freeze_id": "sale", "reason": "It is over."}),
        ),
        freeze(
            "f3",
            "freeze.started",
            "2026-08-07T10:00:00Z",
            json!({"environment": "production", "freeze_id": "year-end", "until": "2126-12-31T00:00:00Z"}),
        ),
        freeze(
            "f4",
            "freeze.started",
            "2026-08-07T11:00:00Z",
            json!({"environment": "staging", "freeze_id": "short", "until": "2026-08-07T12:00:00Z"}),
        ),
    ]
}

#[tokio::test]
async fn freezes_are_listed_with_who_started_and_lifted_them_and_active_ones_show_in_the_lists() {
    let service = service().await;
    let client = service.client();
    for event in freezes() {
        client.record_and_wait(&event).await;
    }

    let all = client.get("/v1/freezes").await.ok();
    let production = client.get("/v1/freezes?environment=production&limit=1").await.ok();
    let older =
        client.get(&format!("/v1/freezes?environment=production&before={}", production["next"])).await.ok();
    let active = client.get("/v1/freezes?active=true").await.ok();

    let ids = |body: &Value| {
        let freezes = body["freezes"].as_array().expect("freezes");
        freezes
            .iter()
            .map(|freeze| freeze["freeze_id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&all), ["short", "year-end", "sale"]);
    assert_eq!((ids(&production), ids(&older)), (vec!["year-end".to_owned()], vec!["sale".to_owned()]));
    assert_eq!((ids(&active), &older["next"]), (vec!["year-end".to_owned()], &Value::Null));
    let person = json!({"type": "person", "name": "ada"});
    assert_eq!(
        older["freezes"][0],
        json!({
            "environment": "production", "freeze_id": "sale", "active": false, "position": 6,
            "since": "2026-08-06T10:00:00Z", "actor": person, "reason": "The sale starts.",
            "lifted": {
                "position": 7, "occurred_at": "2026-08-06T12:00:00Z", "actor": person, "reason": "It is over."
            },
        })
    );
    let expected = json!([{"freeze_id": "year-end", "position": 8, "until": "2126-12-31T00:00:00Z"}]);
    for path in ["/v1/environments", "/v1/overview"] {
        let body = client.get(path).await.ok();
        let environments = body["environments"].as_array().expect("environments");
        for environment in environments {
            let freezes = if environment["name"] == "production" { &expected } else { &Value::Null };
            assert_eq!(&environment["freezes"], freezes, "{path}");
        }
    }
}

#[tokio::test]
async fn freezes_of_an_environment_that_does_not_exist_are_an_error() {
    let service = service().await;
    let unknown = service.client().get("/v1/freezes?environment=prodution").await;
    assert_eq!(unknown.problem(), "unknown-environment");
}
