//! One grammar of points and times: each form answers as its absolute form, in every query.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use ledger_tests::{Client, InProcess, deploy, event};
use serde_json::{Value, json};

/// Forms, and the absolute ones that they mean in the history of [`start`].
const FORMS: &[(&str, &str)] = &[
    ("latest", "latest"),
    ("-1", "1"),
    ("change:2", "2"),
    ("last-known-good", "1"),
    ("before-the-move", "1"),
    ("point:before-the-move", "1"),
    ("2026-08-02", "2026-08-02T00:00:00Z"),
    ("2026-08-01T10:30Z", "2026-08-01T10:30:00Z"),
    ("2026-08-01T12:30+02:00", "2026-08-01T10:30:00Z"),
];

const PRODUCTION: &str = "/v1/environments/production";

/// Starts a ledger in which production runs web v1 at position 1 and v2 at position 2, and position 1 has a name.
async fn start() -> (InProcess, Client) {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let mark = json!({
        "environment": "production", "position": 1, "status": "known_good", "name": "before-the-move",
        "reason": "It ran well.", "actor": {"type": "person", "name": "mia"},
    });
    for event in [
        deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1"),
        deploy("2", "2026-08-01T11:00:00Z", "production", "web", "v2"),
        deploy("3", "2026-08-01T12:00:00Z", "staging", "web", "v2"),
        event("4", "release_point.marked", "2026-08-01T13:00:00Z", mark),
    ] {
        client.record_and_wait(&event).await;
    }
    (service, client)
}

fn encoded(point: &str) -> String {
    point.replace('+', "%2B")
}

#[tokio::test]
async fn each_form_of_a_point_answers_as_its_absolute_form() {
    let (_service, client) = start().await;
    let state = async |at: &str| client.get(&format!("{PRODUCTION}/state?at={}", encoded(at))).await.ok();
    let diff = async |from: &str, to: &str| {
        let path = format!("/v1/environments/staging/diff?from={}&to={}", encoded(from), encoded(to));
        client.get(&path).await.ok()
    };
    let manifest = async |at: &str| {
        let response = client.get(&format!("{PRODUCTION}/manifest?at={}", encoded(at))).await;
        (response.status, response.header("resolved-point").to_owned(), response.text.clone())
    };
    let point = async |point: &str| {
        let body = client.get(&format!("{PRODUCTION}/points/{}", encoded(point))).await.ok();
        (body["point"]["position"].clone(), body["at"].clone())
    };
    let plan = async |to: &str| {
        let request = json!({"to": to}).to_string();
        let path = format!("{PRODUCTION}/rollbacks?dry_run=true");
        client.post(&path, "application/json", request).await.ok()
    };

    for &(form, absolute) in FORMS {
        let expected = state(absolute).await;
        assert_eq!(expected["at"], absolute, "{form}");
        for form in [form.to_owned(), format!("production@{form}")] {
            let form = form.as_str();
            assert_eq!(state(form).await, expected, "{form}");
            assert_eq!(manifest(form).await, manifest(absolute).await, "{form}");
            assert_eq!(point(form).await, point(absolute).await, "{form}");
        }
        let (form, absolute) = (format!("production@{form}"), format!("production@{absolute}"));
        let (form, absolute) = (form.as_str(), absolute.as_str());
        assert_eq!(diff(form, "latest").await, diff(absolute, "latest").await, "{form}");
        assert_eq!(diff("latest", form).await, diff("latest", absolute).await, "{form}");
        let plan = async |to: &str| {
            let plan = plan(to).await;
            [plan["to"]["position"].clone(), plan["to"]["at"].clone(), plan["steps"].clone()]
        };
        assert_eq!(plan(form).await, plan(absolute).await, "{form}");
    }
}

#[tokio::test]
async fn a_relative_time_is_resolved_by_the_clock_of_the_service_and_the_answer_has_it() {
    let (_service, client) = start().await;
    let state = async |at: &str| client.get(&format!("{PRODUCTION}/state?at={at}")).await.ok();

    // Not over midnight.
    let (today, yesterday) = loop {
        let (before, yesterday, after) =
            (state("today").await, state("yesterday").await, state("today").await);
        if before["at"] == after["at"] {
            break (before, yesterday);
        }
    };

    let time =
        |state: &Value| -> DateTime<Utc> { state["at"].as_str().expect("a point").parse().expect("a time") };
    assert_eq!(time(&today) - time(&yesterday), TimeDelta::days(1));
    assert_eq!(time(&today).time(), NaiveTime::MIN);
    let (first, ago, last) = (state("now").await, state("2h").await, state("now").await);
    let ago = time(&ago) + TimeDelta::hours(2);
    assert!(time(&first) <= ago && ago <= time(&last), "{first} {ago} {last}");
    for form in ["today", "yesterday", "2h", "now"] {
        let answer = state(form).await;
        assert_eq!(state(answer["at"].as_str().expect("a point")).await, answer, "{form}");
    }
}

#[tokio::test]
async fn a_page_of_the_history_says_which_times_it_is_about() {
    let (_service, client) = start().await;
    let events = async |query: &str| client.get(&format!("/v1/events?{query}")).await.ok();

    let page = events("since=2026-08-01T11:00Z&until=2026-08-02").await;
    let recent = events("since=2h").await;

    assert_eq!(page["since"], "2026-08-01T11:00:00Z");
    assert_eq!(page["until"], "2026-08-02T00:00:00Z");
    assert_eq!(page, events("since=2026-08-01T11:00:00Z&until=2026-08-02T00:00:00Z").await);
    assert_eq!(page["events"].as_array().map(Vec::len), Some(3));
    let since = recent["since"].as_str().expect("a time");
    assert_eq!(events(&format!("since={since}")).await, recent);
    assert_eq!(events("limit=1").await.get("since"), None);
}

#[tokio::test]
async fn what_was_known_at_a_time_is_what_was_recorded_by_then() {
    let (_service, client) = start().await;
    let entry = client.get("/v1/events/1").await.ok();
    let recorded_at = entry["recorded_at"].as_str().expect("a time");
    for path in
        ["state?at=2026-08-01T13:00:00Z", "points?limit=5", "points/latest?wait_ms=1", "policy?wait_ms=1"]
    {
        let known = async |at: &str| client.get(&format!("{PRODUCTION}/{path}&known_at={at}")).await.ok();

        assert_eq!(known(recorded_at).await, known("1").await, "{path}");
        assert_eq!(known("now").await["position"], 4, "{path}");
    }
    let state = client.get(&format!("{PRODUCTION}/state?known_at={recorded_at}")).await.ok();
    assert_eq!(state["lanes"][0]["release"]["version"], "v1");
}

#[tokio::test]
async fn an_invalid_point_is_rejected_with_the_valid_forms() {
    let (_service, client) = start().await;
    for (query, status, problem, words) in [
        ("state?at=2026-08-01T10:00", 400, "invalid-parameter", "has no time zone"),
        ("state?at=2026-02-30", 400, "invalid-parameter", "is not a date of the calendar"),
        ("state?at=3x", 400, "invalid-parameter", "use `latest`"),
        ("state?at=36501d", 400, "invalid-parameter", "too long ago"),
        ("state?at=staging@latest", 400, "invalid-parameter", "belongs to staging"),
        ("manifest?at=staging@latest", 400, "invalid-parameter", "belongs to staging"),
        ("points/staging@latest", 400, "invalid-parameter", "belongs to staging"),
        ("state?at=yesteday", 404, "unknown-point", "no point named yesteday; did you mean yesterday?"),
        ("diff?from=nothing", 404, "unknown-point", "no point named nothing"),
        ("state?at=change:1&known_at=2", 400, "invalid-parameter", "valid only with a time"),
        ("state?known_at=-1", 400, "invalid-parameter", "must be a position, a time"),
    ] {
        let response = client.get(&format!("{PRODUCTION}/{query}")).await;
        assert_eq!((response.status, response.problem()), (status, problem), "{query}: {}", response.text);
        assert!(response.text.contains(words), "{query}: {}", response.text);
    }
    let tomorrow = client.get("/v1/events?since=tomorrow").await;
    assert_eq!((tomorrow.status, tomorrow.problem()), (400, "invalid-parameter"));
}

#[tokio::test]
async fn a_new_point_cannot_be_named_like_another_point_or_a_time() {
    let (_service, client) = start().await;
    for name in ["yesterday", "latest", "4711", "2h", "2026-08-01", "change:3", "staging@latest"] {
        let mark = json!({
            "environment": "production", "position": 1, "status": "known_good", "name": name, "reason": "x",
            "actor": {"type": "person", "name": "mia"},
        });
        let response =
            client.record(&event(name, "release_point.marked", "2026-08-01T14:00:00Z", mark)).await;
        assert_eq!(
            (response.status, response.problem()),
            (422, "invalid-event"),
            "{name}: {}",
            response.text
        );
        assert!(response.text.contains("choose another name"), "{name}: {}", response.text);
    }
}
