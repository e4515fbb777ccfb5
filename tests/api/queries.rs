//! Queries: states, diffs, events and health, at the latest and at past points.

use std::collections::BTreeSet;
use std::time::Instant;

use ledger_tests::{Client, InProcess, Response, deploy, event};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_query_that_times_out_reports_the_position_of_the_projections() {
    let service = InProcess::start(&["--only=http"]).await;
    let client = service.client();
    client.record(&web("1", 10, "v1")).await.ok();
    let started = Instant::now();

    let behind = client.get("/v1/environments/production/state?wait_for=1&wait_ms=300").await;
    let took = started.elapsed();
    let not_waiting = client.get("/v1/events?wait_for=1&wait_ms=0").await;
    let ahead = client.get("/v1/position?wait_for=2&wait_ms=30000").await;
    let reached = client.get("/v1/position?wait_for=0").await;

    assert_eq!((behind.status, behind.problem()), (503, "projections-behind"));
    assert_eq!((&behind.body["position"], behind.header("retry-after")), (&0.into(), "1"));
    assert!((300..5_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!((not_waiting.status, not_waiting.problem()), (503, "projections-behind"));
    assert_eq!((ahead.status, ahead.problem()), (400, "position-ahead"));
    assert_eq!((reached.status, &reached.body["head"]), (200, &1.into()));
}

#[tokio::test]
async fn every_response_has_its_position() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_all(&lines((1..=5).map(|n| web(&n.to_string(), n, &format!("v{n}"))))).await;
    let state = "/v1/environments/production/state";

    for (query, position) in [
        ("/v1/position".to_owned(), 5),
        ("/v1/environments".to_owned(), 5),
        ("/v1/events?limit=2".to_owned(), 5),
        ("/v1/events/2".to_owned(), 5),
        (state.to_owned(), 5),
        (format!("{state}?at=3"), 3),
        (format!("{state}?at=-1"), 4),
        (format!("{state}?at=2026-08-01T01:00:00Z"), 5),
        (format!("{state}?at=2026-08-01T09:00:00Z&known_at=2"), 2),
        (format!("{state}?known_at=4"), 4),
        ("/v1/environments/production/diff?from=1&to=3".to_owned(), 3),
        ("/v1/environments/production/diff".to_owned(), 5),
    ] {
        let response = client.get(&query).await;
        assert_eq!((response.status, response.ledger_position), (200, Some(position)), "{query}");
    }
}

#[tokio::test]
async fn events_are_filtered_by_each_column_and_paged_to_the_end() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let lane = |environment: &str, service: &str| json!({"environment": environment, "service": service});
    let built = json!({"artifact": "pkg:cargo/web@1.0.0"});
    let others = [
        event("removed", "deploy.removed", "2026-08-01T10:00:00Z", lane("staging", "api")),
        event("retired", "environment.retired", "2026-08-01T10:00:00Z", json!({"environment": "staging"})),
        event("built", "artifact.built", "2026-08-01T10:00:00Z", built),
    ];
    let deploys = (1..=22).map(|n| {
        let (environment, service) = (["production", "staging"][n % 2], ["web", "api", "job"][n % 3]);
        deploy(&n.to_string(), "2026-08-01T09:00:00Z", environment, service, "v1")
    });
    client.record_all(&lines(deploys.chain(others))).await;

    for (filter, expected) in [
        ("", (1..=25).collect::<Vec<u64>>()),
        ("environment=production", (1..=11).map(|n| 2 * n).collect()),
        ("service=job", (1..=7).map(|n| 3 * n - 1).collect()),
        ("environment=staging&service=api", vec![1, 7, 13, 19, 23]),
        ("environment=staging&service=api&type=deploy.removed", vec![23]),
        ("type=io.releaseledger.environment.retired.v1", vec![24]),
        ("type=artifact.built", vec![25]),
        ("type=freeze.started", vec![]),
        ("environment=nowhere", vec![]),
        ("source=urn:release-ledger:test&id=17", vec![17]),
        ("source=urn:release-ledger:other&id=17", vec![]),
        ("after=23", vec![24, 25]),
        ("after=25", vec![]),
        ("after=9223372036854775807", vec![]),
    ] {
        for limit in [1, 5, 11, 1000] {
            assert_eq!(pages(&client, filter, limit).await, expected, "{filter} by {limit}");
        }
    }
}

/// Returns the positions of all events that match a filter, page by page.
async fn pages(client: &Client, filter: &str, limit: usize) -> Vec<u64> {
    let mut found = Vec::new();
    let mut path = format!("/v1/events?{filter}&limit={limit}");
    loop {
        let page = client.get(&path).await.ok();
        let events = page["events"].as_array().expect("events");
        assert!(events.len() <= limit);
        found.extend(events.iter().map(|event| event["position"].as_u64().expect("a position")));
        match page["next"].as_u64() {
            // A filter that contains `after` is always on its last page at these limits.
            Some(next) => {
                let rest = filter.split('&').filter(|part| !part.starts_with("after=")).collect::<Vec<_>>();
                path = format!("/v1/events?{}&limit={limit}&after={next}", rest.join("&"));
            }
            None => return found,
        }
    }
}

#[tokio::test]
async fn an_entry_is_revalidated_by_its_tag_which_changes_with_what_is_noted_about_it() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let mut deploy = web("1", 10, "v1");
    deploy["data"]["reason"] = "Zoë's release, 1.0 € cheaper".into();
    client.record_and_wait(&deploy).await;

    let entry = client.get("/v1/events/1").await;
    let tag = entry.header("etag").to_owned();
    let again = |tag: &str| client.request(Method::GET, "/v1/events/1").header("if-none-match", tag);
    let unchanged = Client::send(again(&tag)).await;
    let other = Client::send(again("\"other\"")).await;

    assert_eq!(entry.status, 200);
    assert_eq!(entry.body["event"], deploy);
    assert_eq!(entry.header("cache-control"), "private, no-cache");
    assert_eq!(entry.header("content-type"), "application/json");
    assert_eq!((unchanged.status, &*unchanged.text), (304, ""));
    assert_eq!(
        (unchanged.header("etag"), unchanged.header("cache-control")),
        (&*tag, entry.header("cache-control"))
    );
    assert_eq!((other.status, &other.text), (200, &entry.text));

    let mut correction = web("2", 10, "v2");
    correction["data"]["corrects"] = json!({"source": deploy["source"], "id": deploy["id"]});
    client.record_and_wait(&correction).await;
    let corrected = Client::send(again(&tag)).await;
    assert_eq!((corrected.status, &corrected.body["corrected_by"]), (200, &json!(2)));
}

#[tokio::test]
async fn a_diff_lists_the_lanes_that_differ() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let removed = json!({"environment": "production", "service": "old"});
    let events = [
        deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1"),
        deploy("2", "2026-08-01T10:01:00Z", "production", "old", "v1"),
        deploy("3", "2026-08-01T10:02:00Z", "staging", "web", "v2"),
        deploy("4", "2026-08-01T10:03:00Z", "production", "web", "v2"),
        deploy("5", "2026-08-01T10:04:00Z", "production", "api", "v1"),
        event("6", "deploy.removed", "2026-08-01T10:05:00Z", removed),
        deploy("7", "2026-08-01T10:06:00Z", "production", "web", "v2"),
    ];
    client.record_all(&lines(events)).await;
    let diff = async |query: &str| {
        let body = client.get(&format!("/v1/environments/production/diff{query}")).await.ok();
        differences(&body)
    };

    assert_eq!(diff("?from=2&to=6").await, ["api added v1", "old removed v1", "web changed v1 v2"]);
    assert_eq!(diff("?from=6&to=2").await, ["api removed v1", "old added v1", "web changed v2 v1"]);
    assert_eq!(diff("?from=0&to=2").await, ["old added v1", "web added v1"]);
    assert_eq!(diff("?from=4&to=4").await, [""; 0]);
    assert_eq!(diff("?from=6&to=7").await, [""; 0]);
    assert_eq!(diff("").await, ["old removed v1"]);
    assert_eq!(diff("?from=-2&to=-1").await, ["api added v1"]);
    assert_eq!(diff("?from=2026-08-01T10:02:30Z&to=2026-08-01T10:03:00Z").await, ["web changed v1 v2"]);
    assert_eq!(diff("?from=latest&to=staging@latest").await, ["api removed v1"]);
    assert_eq!(diff("?from=staging@latest&to=2").await, ["old added v1", "web changed v2 v1"]);
    assert_eq!(diff("?from=staging@3&to=staging@2").await, ["web removed v2"]);
    let across = client.get("/v1/environments/production/diff?from=4&to=staging@latest").await.ok();
    assert_eq!(across["from"]["environment"], "production");
    assert_eq!(across["to"]["environment"], "staging");
    assert_eq!((&across["from"]["position"], &across["to"]["position"]), (&4.into(), &7.into()));
}

#[tokio::test]
async fn relative_changes_reach_back_to_the_empty_environment() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let events = [
        web("1", 10, "v1"),
        web("2", 11, "v2"),
        web("same-again", 12, "v2"),
        event("started", "deploy.started", "2026-08-01T13:00:00Z", web("", 13, "v3")["data"].clone()),
        web("late", 9, "v0"),
        web("3", 14, "v3"),
    ];
    client.record_all(&lines(events)).await;
    let at = async |point: &str| {
        let response = client.get(&format!("/v1/environments/production/state?at={point}")).await;
        (response.status, response.body["position"].as_u64(), versions(&response.body))
    };

    assert_eq!(at("-0").await, (200, Some(6), vec!["web v3".to_owned()]));
    assert_eq!(at("-1").await, (200, Some(2), vec!["web v2".to_owned()]));
    assert_eq!(at("-2").await, (200, Some(1), vec!["web v1".to_owned()]));
    assert_eq!(at("-3").await, (200, Some(0), vec![]));
    let beyond = client.get("/v1/environments/production/state?at=-4").await;
    assert_eq!((beyond.status, beyond.problem()), (404, "unknown-change"));
    let environments = client.get("/v1/environments").await.ok();
    assert_eq!(environments["environments"][0]["changes"], 3);
}

#[tokio::test]
async fn an_environment_exists_from_the_first_event_that_names_it() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let declared = event(
        "declared",
        "environment.declared",
        "2026-08-01T10:00:00Z",
        json!({"environment": "staging", "policy": {}}),
    );
    let empty = client.get("/v1/environments").await.ok();
    client.record_all(&lines([web("1", 10, "v1"), declared, web("2", 11, "v2")])).await;

    let environments = client.get("/v1/environments").await.ok();
    let staging = client.get("/v1/environments/staging/state").await;
    let staging_before = client.get("/v1/environments/staging/state?at=1").await;
    let production_before = client.get("/v1/environments/production/state?at=0").await;
    let production_long_ago = client.get("/v1/environments/production/state?at=1999-01-01T00:00:00Z").await;
    let nowhere = client.get("/v1/environments/nowhere/state").await;

    assert_eq!(empty, json!({"position": 0, "environments": []}));
    assert_eq!(
        environments,
        json!({"position": 3, "environments": [
            {"name": "production", "first_position": 1, "changes": 2},
            {"name": "staging", "first_position": 2, "changes": 0},
        ]})
    );
    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for empty in [staging, staging_before, production_before, production_long_ago] {
        assert_eq!((empty.status, &empty.body["lanes"]), (200, &json!([])));
        assert_eq!(empty.body["digest"], EMPTY);
    }
    assert_eq!((nowhere.status, nowhere.problem()), (404, "unknown-environment"));
}

#[tokio::test]
async fn tenants_are_isolated() {
    let service = InProcess::start(&["--tenants=default,acme"]).await;
    let client = service.client();
    let to_acme = async |event: &Value| {
        client.post("/v1/tenants/acme/events", "application/cloudevents+json", event.to_string()).await
    };
    client.record_and_wait(&web("1", 10, "ours")).await;
    client.record_and_wait(&web("2", 11, "ours-too")).await;

    let theirs = to_acme(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "theirs")).await;
    let theirs_again = to_acme(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "theirs")).await;
    let state = client.get("/v1/tenants/acme/environments/production/state?wait_for=1").await.ok();
    let events = client.get("/v1/tenants/acme/events").await.ok();
    let ours = client.get("/v1/environments/production/state").await;
    let ours_by_name = client.get("/v1/tenants/default/environments/production/state").await;

    assert_eq!((theirs.status, &theirs.body["status"]), (201, &"recorded".into()));
    assert_eq!((&theirs.body["position"], &theirs_again.body["position"]), (&1.into(), &1.into()));
    assert_eq!(theirs_again.body["status"], "duplicate");
    assert_eq!(versions(&state), ["web theirs"]);
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(versions(&ours.body), ["web ours-too"]);
    assert_eq!(ours.text, ours_by_name.text);
    let unknown = client.get("/v1/tenants/unknown/environments").await;
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-tenant"));
}

#[tokio::test]
async fn a_slot_is_idle_before_and_after_it_receives_traffic() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let lane = |slot: &str| json!({"environment": "production", "service": "web", "slot": slot});
    let release_in = |slot: &str, version: &str| {
        let release = json!({"version": version});
        json!({"environment": "production", "service": "web", "slot": slot, "release": release})
    };
    let events = [
        event("1", "deploy.succeeded", "2026-08-01T10:00:00Z", release_in("blue", "v1")),
        event("2", "traffic.switched", "2026-08-01T10:05:00Z", lane("blue")),
        event("3", "deploy.succeeded", "2026-08-01T11:00:00Z", release_in("green", "v2")),
        event("4", "traffic.switched", "2026-08-01T11:05:00Z", lane("green")),
        event("5", "traffic.switched", "2026-08-01T12:00:00Z", lane("blue")),
        event("6", "deploy.removed", "2026-08-01T13:00:00Z", lane("green")),
    ];
    client.record_all(&lines(events)).await;
    let live_and_idle = async |at: u64| {
        let state = client.get(&format!("/v1/environments/production/state?at={at}")).await.ok();
        let slots = |list: &Value| -> Vec<String> {
            let lanes = list.as_array().map_or(&[][..], Vec::as_slice).iter();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            lanes.map(|lane| text(&lane["slot"]) + " " + &text(&lane["release"]["version"])).collect()
        };
        (slots(&state["lanes"]), slots(&state["idle"]))
    };
    let slots = |live: &[&str], idle: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        (owned(live), owned(idle))
    };

    assert_eq!(live_and_idle(1).await, slots(&[], &["blue v1"]));
    assert_eq!(live_and_idle(2).await, slots(&["blue v1"], &[]));
    assert_eq!(live_and_idle(3).await, slots(&["blue v1"], &["green v2"]));
    assert_eq!(live_and_idle(4).await, slots(&["green v2"], &["blue v1"]));
    assert_eq!(live_and_idle(5).await, slots(&["blue v1"], &["green v2"]));
    assert_eq!(live_and_idle(6).await, slots(&["blue v1"], &[]));
    let latest = client.get("/v1/environments/production/state").await.ok();
    let since = json!({"position": 5, "occurred_at": "2026-08-01T12:00:00Z", "event_id": "5"});
    assert_eq!(latest["lanes"][0]["since"], since);
}

#[tokio::test]
async fn two_targets_of_a_service_are_two_lanes() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let at = |target: &str, version: &str, id: &str| {
        let mut event = web(id, 10, version);
        event["data"]["target"] = target.into();
        event
    };
    client
        .record_all(&lines([at("cloud", "v2", "1"), at("on-premise", "v1", "2"), at("default", "v0", "3")]))
        .await;

    let state = client.get("/v1/environments/production/state").await.ok();
    let lanes = state["lanes"].as_array().expect("lanes");
    let lanes: Vec<_> = lanes.iter().map(|lane| (&lane["target"], &lane["release"]["version"])).collect();

    let expected = [("cloud", "v2"), ("default", "v0"), ("on-premise", "v1")];
    assert_eq!(lanes.len(), 3);
    assert!(
        expected
            .iter()
            .zip(lanes)
            .all(|((target, version), lane)| lane == (&(*target).into(), &(*version).into()))
    );
}

#[tokio::test]
async fn a_late_event_changes_the_past_state_and_not_the_current_one() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let events = [web("1", 10, "v1"), web("2", 14, "v3"), web("late", 12, "v2")];
    client.record_all(&lines(events)).await;
    let at = async |query: &str| {
        versions(&client.get(&format!("/v1/environments/production/state?{query}")).await.ok())
    };

    assert_eq!(at("at=latest").await, ["web v3"]);
    assert_eq!(at("at=3").await, ["web v3"]);
    assert_eq!(at("at=2026-08-01T13:00:00Z").await, ["web v2"]);
    assert_eq!(at("at=2026-08-01T13:00:00Z&known_at=2").await, ["web v1"]);
    assert_eq!(at("at=2026-08-01T13:00:00Z&known_at=3").await, ["web v2"]);
    assert_eq!(at("at=2026-08-01T15:00:00%2B02:00").await, ["web v2"]);
    assert_eq!(at("at=2026-08-01T14:00:00Z").await, ["web v3"]);
    assert_eq!(at("at=2026-08-01T13:59:59.999999Z").await, ["web v2"]);
}

#[tokio::test]
async fn the_api_documentation_works_offline() {
    let service = InProcess::start(&[]).await;
    let client = service.client();

    let [document, docs] = get_all(&client, ["/openapi.json", "/docs/"]).await;

    assert_eq!((document.status, docs.status), (200, 200));
    assert!(document.body["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
    for (path, method) in [
        ("/events", "post"),
        ("/events", "get"),
        ("/events/{position}", "get"),
        ("/position", "get"),
        ("/environments", "get"),
        ("/environments/{environment}/state", "get"),
        ("/environments/{environment}/diff", "get"),
    ] {
        assert!(document.body["paths"][path][method].is_object(), "{method} {path}");
    }
    let servers = document.body["servers"].as_array().expect("servers").iter().map(|server| &server["url"]);
    assert_eq!(servers.collect::<Vec<_>>(), ["/v1", "/v1/tenants/{tenant}"]);
    assert!(docs.content_type.starts_with("text/html"), "{}", docs.content_type);
    let mut pages = vec![docs];
    for path in references(&pages[0].text) {
        let page = client.get(&format!("/docs/{path}")).await;
        assert_eq!(page.status, 200, "{path}");
        pages.push(page);
    }
    assert!(pages.len() > 3, "the page has scripts and styles");
    for page in pages {
        assert!(external(&page.text).is_empty(), "{:?}", external(&page.text));
    }
}

/// Returns the files that a page loads.
fn references(html: &str) -> BTreeSet<String> {
    let after = |attribute: &'static str| html.split(attribute).skip(1);
    let values = after("src=\"").chain(after("href=\"")).filter_map(|rest| rest.split('"').next());
    values.map(|value| value.trim_start_matches("./").to_owned()).collect()
}

/// Returns the external references in a page, a style sheet or a script.
fn external(text: &str) -> Vec<&str> {
    let loads = ["src=\"http", "href=\"http", "src=\"//", "href=\"//", "url(http", "url(//", "@import"];
    loads.into_iter().filter(|load| text.contains(load)).collect()
}

fn web(id: &str, hour: usize, version: &str) -> Value {
    deploy(id, &format!("2026-08-01T{hour:02}:00:00Z"), "production", "web", version)
}

fn lines(events: impl IntoIterator<Item = Value>) -> Vec<String> {
    events.into_iter().map(|event| event.to_string()).collect()
}

/// Returns the live release of each lane, such as `web v1`.
fn versions(state: &Value) -> Vec<String> {
    let lanes = state["lanes"].as_array().map_or(&[][..], Vec::as_slice).iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    lanes.map(|lane| format!("{} {}", text(&lane["service"]), text(&lane["release"]["version"]))).collect()
}

/// Returns the differences by lane, such as `web changed v1 v2`.
fn differences(diff: &Value) -> Vec<String> {
    let differences = diff["differences"].as_array().expect("differences").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    differences
        .map(|lane| {
            let sides = ["from", "to"].into_iter().filter_map(|side| lane.get(side));
            let versions = sides.map(|side| text(&side["release"]["version"]));
            let words = [text(&lane["service"]), text(&lane["change"])].into_iter().chain(versions);
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

async fn get_all<const N: usize>(client: &Client, paths: [&str; N]) -> [Response; N] {
    let mut responses = Vec::with_capacity(N);
    for path in paths {
        responses.push(client.get(path).await);
    }
    responses.try_into().expect("a response for each path")
}

#[tokio::test]
async fn a_page_of_large_events_is_shortened_and_has_the_position_of_the_next() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let long = |number: u32| {
        let mut event = deploy(&number.to_string(), "2026-08-01T10:00:00Z", "production", "web", "v1");
        event["filler"] = "x".repeat(60_000).into();
        event.to_string()
    };
    client.record_all(&(0..200).map(long).collect::<Vec<_>>()).await;

    let first = client.get("/v1/events?limit=1000").await;
    let next = first.body["next"].as_u64().expect("there is more");
    let second = client.get(&format!("/v1/events?limit=1000&after={next}")).await.ok();

    assert!(first.text.len() < 9 << 20, "{}", first.text.len());
    let (first, second) = (&first.body["events"], &second["events"]);
    let (first, second) = (first.as_array().expect("events"), second.as_array().expect("events"));
    assert_eq!(first.len() + second.len(), 200);
    assert_eq!(
        (&first[first.len() - 1]["position"], &second[0]["position"]),
        (&next.into(), &(next + 1).into())
    );
}
