//! Deploy frequency: which deploys count, in which period, and for whom.

use chrono::{SecondsFormat, TimeDelta};
use ledger_tests::{Client, Guarded, InProcess, Story, deploy, event, rollback_request};
use serde_json::{Value, json};

/// Returns the counts of an answer, each as one line: period, environment, service, deploys, failed, steps of rollbacks.
fn lines(body: &Value) -> Vec<String> {
    const MEMBERS: [&str; 6] = ["period", "environment", "service", "deploys", "failed", "rollback_steps"];
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let counts = body["counts"].as_array().expect("counts").iter();
    counts.map(|count| MEMBERS.map(|member| word(&count[member])).join(" ")).collect()
}

/// Asks a question and returns the counts.
async fn counts(client: &Client, query: &str) -> Vec<String> {
    lines(&client.get(&format!("/v1/deploy-frequency?{query}")).await.ok())
}

fn web(id: &str, time: &str) -> Value {
    deploy(id, time, "production", "web", &format!("v{id}"))
}

/// Returns the data of a deploy.
fn lane(environment: &str, service: &str, target: &str) -> Value {
    let release = json!({"version": "v1"});
    json!({"environment": environment, "service": service, "target": target, "release": release})
}

/// Returns an event as the correction of another one.
fn correction(mut event: Value, of: &Value) -> Value {
    event["data"]["corrects"] = json!({"source": of["source"], "id": of["id"]});
    event
}

#[tokio::test]
async fn a_week_begins_on_monday_in_utc_and_may_lie_in_two_years() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    for (id, time) in [
        ("1", "2025-12-28T23:59:59.999999Z"),
        ("2", "2025-12-29T00:00:00Z"),
        ("3", "2026-01-01T12:00:00Z"),
        ("4", "2026-01-04T23:59:59Z"),
        ("5", "2026-01-05T00:30:00+01:00"),
        ("6", "2026-01-05T00:00:00Z"),
    ] {
        client.record_and_wait(&web(id, time)).await;
    }

    for (query, expected) in [
        ("", vec!["2025-12-22 1", "2025-12-29 4", "2026-01-05 1"]),
        ("&by=week", vec!["2025-12-22 1", "2025-12-29 4", "2026-01-05 1"]),
        ("&by=month", vec!["2025-12-01 2", "2026-01-01 4"]),
        ("&by=day", vec!["2025-12-28 1", "2025-12-29 1", "2026-01-01 1", "2026-01-04 2", "2026-01-05 1"]),
        ("&by=month&until=2026-01-05T00:00:00Z", vec!["2025-12-01 2", "2026-01-01 3"]),
        ("&until=2025-12-01T00:00:01Z", vec![]),
    ] {
        let found = counts(&client, &format!("since=2025-12-01T00:00:00Z{query}")).await;
        let expected: Vec<String> = expected
            .into_iter()
            .filter_map(|line| line.split_once(' '))
            .map(|(period, deploys)| format!("{period} production web {deploys} 0 0"))
            .collect();
        assert_eq!(found, expected, "{query}");
    }
    let within = counts(&client, "since=2025-12-29T00:00:00Z&until=2026-01-05T00:00:00Z").await;
    assert_eq!(within, ["2025-12-29 production web 4 0 0"], "from the beginning, and before the end");
}

#[tokio::test]
async fn deploys_count_by_environment_and_service_and_failed_ones_apart() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let at = "2026-06-02T10:00:00Z";
    for (id, kind, data) in [
        ("1", "deploy.succeeded", lane("staging", "web", "eu")),
        ("2", "deploy.succeeded", lane("production", "web", "eu")),
        ("3", "deploy.succeeded", lane("production", "web", "us")),
        ("4", "deploy.failed", lane("production", "api", "eu")),
        ("5", "deploy.started", lane("production", "api", "eu")),
        ("6", "deploy.removed", json!({"environment": "production", "service": "web", "target": "us"})),
    ] {
        client.record_and_wait(&event(id, kind, at, data)).await;
    }

    let (api, web, staging) = (
        "2026-06-01 production api 0 1 0",
        "2026-06-01 production web 2 0 0",
        "2026-06-01 staging web 1 0 0",
    );
    for (query, expected) in [
        ("", vec![api, web, staging]),
        ("&environment=production", vec![api, web]),
        ("&environment=production,staging&service=web", vec![web, staging]),
        ("&service=api", vec![api]),
        ("&service=none", vec![]),
    ] {
        assert_eq!(counts(&client, &format!("since=2026-06-01T00:00:00Z{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_report_counts_once_when_it_occurred_however_late_and_often_it_is_sent() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1", "2026-06-09T10:00:00Z")).await;
    let late = web("2", "2026-06-02T10:00:00Z");

    for _ in 0..3 {
        client.record_and_wait(&late).await;
    }

    let found = counts(&client, "since=2026-06-01T00:00:00Z").await;
    assert_eq!(found, ["2026-06-01 production web 1 0 0", "2026-06-08 production web 1 0 0"]);
}

#[tokio::test]
async fn a_corrected_deploy_counts_as_its_last_correction_says() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let first = web("1", "2026-06-02T10:00:00Z");
    let moved = correction(web("2", "2026-06-09T10:00:00Z"), &first);
    let moved_again = correction(web("3", "2026-06-16T10:00:00Z"), &moved);
    // Of the event itself: its earlier corrections have no effect from then on, either.
    let failed = correction(
        event("4", "deploy.failed", "2026-06-16T10:00:00Z", lane("production", "web", "eu")),
        &first,
    );
    let since = "since=2026-06-01T00:00:00Z";
    for (event, expected) in [
        (&first, "2026-06-01 production web 1 0 0"),
        (&moved, "2026-06-08 production web 1 0 0"),
        (&moved_again, "2026-06-15 production web 1 0 0"),
        (&failed, "2026-06-15 production web 0 1 0"),
    ] {
        client.record_and_wait(event).await;
        assert_eq!(counts(&client, since).await, [expected], "{event}");
    }

    // Another service: the correction is recorded before the event that it corrects.
    let at = "2026-06-02T10:00:00Z";
    let corrected = event("5", "deploy.succeeded", at, lane("production", "api", "eu"));
    let early = event("6", "deploy.succeeded", at, lane("production", "job", "eu"));
    client.record_and_wait(&correction(early, &corrected)).await;
    client.record_and_wait(&corrected).await;
    let found = counts(&client, "since=2026-06-01T00:00:00Z&service=api,job").await;
    assert_eq!(found, ["2026-06-01 production job 1 0 0"]);
}

#[tokio::test]
async fn the_steps_of_a_rollback_are_deploys_and_told_apart() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let good = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    story.deploy("api", "v1", 2).await;
    let requested = story.request(rollback_request(&good.to_string(), "r-1")).await;
    assert_eq!(requested.status, 201, "{}", requested.text);
    story.record("rollback.started", 3, json!({"rollback_id": "r-1"})).await;
    for (service, step) in [("web", "deploy.failed"), ("web", "deploy.succeeded")] {
        let data = json!({"service": service, "release": {"version": "v1"}, "rollback_id": "r-1"});
        story.record(step, 4, data).await;
    }

    let found = counts(&client, "since=2026-07-01T00:00:00Z&by=month").await;

    assert_eq!(found, ["2026-08-01 production api 1 0 0", "2026-08-01 production web 3 1 1"]);
}

#[tokio::test]
async fn deploys_to_an_environment_that_was_retired_since_count() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1", "2026-06-02T10:00:00Z")).await;
    let retired = json!({"environment": "production", "reason": "moved"});
    client.record_and_wait(&event("2", "environment.retired", "2026-06-03T10:00:00Z", retired)).await;

    let found = counts(&client, "environment=production&since=2026-06-01T00:00:00Z").await;

    assert_eq!(found, ["2026-06-01 production web 1 0 0"]);
}

#[tokio::test]
async fn without_a_time_the_deploys_of_the_last_12_weeks_count() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let now = release_ledger::clock::now();
    let days_ago = |days: i64| (now - TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Micros, true);
    // At most a month before the 12 weeks.
    for (id, days) in [("1", 0), ("2", 83), ("3", 84 + 32)] {
        client.record_and_wait(&web(id, &days_ago(days))).await;
    }

    for by in ["day", "week", "month"] {
        let body = client.get(&format!("/v1/deploy-frequency?by={by}")).await.ok();
        let counts = body["counts"].as_array().expect("counts").iter();
        let deploys: u64 = counts.map(|count| count["deploys"].as_u64().expect("a number")).sum();
        assert_eq!(deploys, 2, "{body}");
        assert_eq!((&body["by"], &body["until"]), (&json!(by), &Value::Null));
        let since = body["since"].as_str().expect("a time");
        assert!(since.ends_with("T00:00:00Z"), "{since}");
    }
}

#[tokio::test]
async fn an_invalid_question_is_rejected_with_the_name_of_its_parameter() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1", "2026-06-02T10:00:00Z")).await;
    for (query, message) in [
        ("by=year", "by: must be day, week or month"),
        ("by=", "by: must be day, week or month"),
        ("since=someday", "since: "),
        ("until=2026-06-31", "until: "),
        ("since=2026-06-02T00:00:00Z&until=2026-06-02T00:00:00Z", "until: must be later than since"),
        ("environment=production,", "environment: "),
        ("service=web%20api", "service: "),
        ("services=web", "services"),
    ] {
        let response = client.get(&format!("/v1/deploy-frequency?{query}")).await;
        assert_eq!((response.status, response.problem()), (400, "invalid-parameter"), "{query}");
        assert!(response.text.contains(message), "{query}: {}", response.text);
    }

    let unknown = client.get("/v1/deploy-frequency?environment=production,prodution").await;

    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-environment"), "{}", unknown.text);
}

#[tokio::test]
async fn a_reader_sees_only_the_environments_and_services_that_it_may_read() {
    let guarded = Guarded::start(&["--only=http,projector"], "").await;
    let reporter = guarded.client("ci", "workload", &["*"], &["emit", "read"]).await;
    let lanes = [("production", "api"), ("production", "web"), ("staging", "api"), ("staging", "web")];
    for (environment, service) in lanes {
        let id = format!("{environment}-{service}");
        let event = deploy(&id, "2026-06-02T10:00:00Z", environment, service, "v1");
        reporter.record_and_wait(&event).await;
    }
    let of_staging = guarded.client("of-staging", "workload", &["staging"], &["read"]).await;
    let token = guarded.create_token("of-web", "workload").await;
    let grant = json!({
        "grant": "of-web", "grantee": {"token": token.id().as_str()}, "tenant": "default",
        "environments": ["staging"], "services": ["web"], "verbs": ["read"],
    });
    guarded.change("grant.added", "grant-of-web", grant).await;
    let of_web = guarded.service.client_with(token.expose());

    let path = "/v1/deploy-frequency?since=2026-06-01T00:00:00Z";
    let (api, web) = ("2026-06-01 staging api 1 0 0", "2026-06-01 staging web 1 0 0");
    let all = reporter.get(path).await.ok();
    assert_eq!((lines(&all).len(), &all["restricted"]), (4, &Value::Null));
    for (client, expected) in [(&of_staging, vec![api, web]), (&of_web, vec![web])] {
        let some = client.get(path).await.ok();
        assert_eq!(lines(&some), expected, "{some}");
        assert_eq!(some["restricted"], true);
    }
    for (client, named, status) in [
        (&of_staging, "environment=staging", 200),
        (&of_staging, "environment=staging,production", 403),
        (&of_staging, "environment=unknown", 403),
        (&of_web, "environment=staging", 403),
        (&of_web, "environment=staging&service=web", 200),
        (&of_web, "environment=staging&service=web,api", 403),
        (&of_web, "service=api", 200),
    ] {
        let response = client.get(&format!("{path}&{named}")).await;
        assert_eq!(response.status, status, "{named}: {}", response.text);
    }
}

#[tokio::test]
async fn too_many_counts_are_a_problem_that_says_what_to_ask_instead() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let events = (0..10_001_u32).map(|number| {
        let time = format!("2026-06-{:02}T10:00:00Z", 1 + number % 28);
        let name = format!("service-{}", number / 28);
        deploy(&number.to_string(), &time, "production", &name, "v1").to_string()
    });
    client.record_all(&events.collect::<Vec<String>>()).await;

    let path = "/v1/deploy-frequency?since=2026-06-01T00:00:00Z&by=day";
    let all = client.get(path).await;
    let fewer = client.get(&format!("{path}&until=2026-06-28T00:00:00Z")).await;
    let by_month = client.get("/v1/deploy-frequency?since=2026-06-01T00:00:00Z&by=month").await.ok();

    assert_eq!((all.status, all.problem()), (422, "history-too-long"), "{}", all.text);
    assert!(all.text.contains("shorter window"), "{}", all.text);
    assert_eq!(fewer.status, 200, "{}", fewer.text);
    assert_eq!(lines(&by_month).len(), 358);
}
