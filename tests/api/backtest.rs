//! Back-tests: the deploys that a policy would have stopped, based on what was known then, and the ones that it would
//! have allowed and that failed later.

use std::time::Instant;

use ledger_tests::{Client, InProcess, Response, deploy, event};
use serde_json::{Value, json};

/// Allows in production only releases that passed in staging.
fn from_staging() -> Value {
    json!({"promotion": {"from": ["staging"]}})
}

/// A check half an hour after the deploy of the version.
fn checked(id: &str, environment: &str, version: &str, passed: bool) -> Value {
    let kind = if passed { "validation.passed" } else { "validation.failed" };
    let release = json!({"version": version});
    let data = json!({"environment": environment, "service": "web", "check": "smoke", "release": release});
    event(id, kind, &format!("2026-08-01T1{version}:30:00Z"), data)
}

/// A deploy at an hour that depends on the version, so that each version runs until the next.
fn web(id: &str, environment: &str, version: &str) -> Value {
    deploy(id, &format!("2026-08-01T1{version}:00:00Z"), environment, "web", version)
}

async fn backtest(client: &Client, request: &Value) -> Response {
    client.post("/v1/backtests", "application/json", request.to_string()).await
}

fn positions(deploys: &Value) -> Vec<u64> {
    let deploys = deploys.as_array().expect("deploys").iter();
    deploys.map(|deploy| deploy["position"].as_u64().expect("a position")).collect()
}

fn totals(body: &Value) -> [u64; 6] {
    ["deploys", "allowed", "stopped", "caught", "false_alarms", "missed"]
        .map(|name| body[name].as_u64().unwrap_or_else(|| panic!("no {name} in {body}")))
}

/// Returns the findings with which the gate stops a version now.
async fn stopping(client: &Client, version: &str) -> Vec<Value> {
    let request = json!({"service": "web", "release": {"version": version}, "new": true});
    let path = "/v1/environments/production/gate";
    let decision = client.post(path, "application/json", request.to_string()).await.ok();
    let findings = decision["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["passes"] == false).cloned().collect()
}

/// Records a story in which production has the candidate policy but its deploys ignore the gate. Returns the gate's
/// findings before each deploy, by the deploy's position.
async fn record_story(client: &Client) -> Vec<(u64, Vec<Value>)> {
    let declared = json!({"environment": "production", "policy": from_staging()});
    client.record_and_wait(&event("policy", "environment.declared", "2026-08-01T09:00:00Z", declared)).await;
    let events = [
        web("staging-1", "staging", "1"),
        web("production-1", "production", "1"),
        checked("late", "staging", "1", true),
        checked("broken-1", "production", "1", false),
        web("staging-2", "staging", "2"),
        checked("good-2", "staging", "2", true),
        web("production-2", "production", "2"),
        checked("broken-2", "production", "2", false),
        web("staging-3", "staging", "3"),
        checked("good-3", "staging", "3", true),
        web("production-3", "production", "3"),
        web("production-4", "production", "4"),
    ];
    let mut stopped = Vec::new();
    for event in events {
        let version = event["data"]["release"]["version"].as_str().expect("a version").to_owned();
        let is_gated = event["data"]["environment"] == "production" && event["data"].get("check").is_none();
        let findings = if is_gated { Some(stopping(client, &version).await) } else { None };
        let position = client.record_and_wait(&event).await;
        stopped.extend(findings.map(|findings| (position, findings)));
    }
    stopped
}

#[tokio::test]
async fn a_backtest_stops_what_the_gate_would_have_stopped_and_reports_later_failures() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let gate = record_story(&client).await;
    let request = json!({"environment": "production", "policy": from_staging()});

    let response = backtest(&client, &request).await;

    assert_eq!((response.status, response.ledger_position), (200, Some(13)), "{}", response.text);
    let body = response.ok();
    assert_eq!(totals(&body), [4, 2, 2, 1, 1, 1], "{body}");
    let rejected = gate.iter().filter(|(_, stopping)| !stopping.is_empty());
    let rejected: Vec<_> = rejected.map(|(position, stopping)| (*position, json!(stopping))).collect();
    let stopped = body["stopped_deploys"].as_array().expect("deploys").iter();
    let stopped: Vec<_> = stopped
        .map(|deploy| (deploy["position"].as_u64().expect("a position"), deploy["findings"].clone()))
        .collect();
    assert_eq!(stopped, rejected);
    assert_eq!(positions(&body["stopped_deploys"]), [3, 13]);
    assert_eq!(body["stopped_deploys"][0]["failed"], json!({"check": "smoke", "position": 5}));
    assert_eq!(body["stopped_deploys"][1].get("failed"), None);
    assert_eq!(positions(&body["missed_deploys"]), [8]);
    assert_eq!(body["missed_deploys"][0]["failed"], json!({"check": "smoke", "position": 9}));
    assert_eq!(client.positions().await.1, 13, "nothing is recorded");
}

#[tokio::test]
async fn a_backtest_shows_the_counts_of_the_checks_that_decided() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let counts = json!({"passed": 3, "failed": 2, "skipped": 0});
    let with_counts = |mut check: Value| {
        check["data"]["counts"] = counts.clone();
        check
    };
    for event in [
        web("staging-1", "staging", "1"),
        with_counts(checked("broken-in-staging", "staging", "1", false)),
        web("production-1", "production", "1"),
        with_counts(checked("broken-in-production", "production", "1", false)),
    ] {
        client.record_and_wait(&event).await;
    }
    let request = json!({"environment": "production", "policy": from_staging()});

    let body = backtest(&client, &request).await.ok();

    let stopped = &body["stopped_deploys"][0];
    let finding = &stopped["findings"][0];
    assert_eq!((&finding["position"], &finding["counts"]), (&2.into(), &counts), "{body}");
    assert_eq!(stopped["failed"], json!({"check": "smoke", "position": 4, "counts": counts}));
}

#[tokio::test]
async fn a_backtest_is_limited_to_a_range_and_lists_at_most_the_requested_number() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    record_story(&client).await;

    for (part, expected) in [
        (json!({"until": 4}), [1, 0, 1, 0, 1, 0]),
        (json!({"until": 5}), [1, 0, 1, 1, 0, 0]),
        (json!({"after": 8}), [2, 1, 1, 0, 1, 0]),
        (json!({"after": 7, "until": 8}), [1, 1, 0, 0, 0, 0]),
        (json!({"after": 13}), [0; 6]),
        (json!({"limit": 1}), [4, 2, 2, 1, 1, 1]),
    ] {
        let mut request = json!({"environment": "production", "policy": from_staging()});
        let members = request.as_object_mut().expect("an object");
        members.extend(part.as_object().expect("an object").clone());
        let body = backtest(&client, &request).await.ok();
        assert_eq!(totals(&body), expected, "{part}");
        let listed = body["stopped_deploys"].as_array().expect("deploys").len() as u64;
        assert_eq!(listed, expected[2].min(part["limit"].as_u64().unwrap_or(100)), "{part}");
    }
}

#[tokio::test]
async fn an_impossible_backtest_is_rejected_with_the_reason() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1", "production", "1")).await;
    let circle = json!({"dependencies": {"a": ["b"], "b": ["a"]}});

    for (request, status, problem, pointer) in [
        (json!({"policy": {}}), 422, "invalid-body", None),
        (json!({"environment": "production"}), 422, "invalid-body", None),
        (json!({"environment": "a b", "policy": {}}), 422, "invalid-body", Some("/environment")),
        (json!({"environment": "production", "policy": []}), 422, "invalid-body", Some("/policy")),
        (
            json!({"environment": "production", "policy": {"soak_seconds": "1"}}),
            422,
            "invalid-body",
            Some("/policy/soak_seconds"),
        ),
        (
            json!({"environment": "production", "policy": {"soak": 1}}),
            422,
            "invalid-body",
            Some("/policy/soak"),
        ),
        (json!({"environment": "production", "policy": circle}), 422, "invalid-policy", None),
        (
            json!({"environment": "production", "policy": {"promotion": {"from": ["production"]}}}),
            422,
            "invalid-policy",
            None,
        ),
        (
            json!({"environment": "production", "policy": {}, "limit": 1001}),
            422,
            "invalid-body",
            Some("/limit"),
        ),
        (json!({"environment": "nowhere", "policy": {}}), 404, "unknown-environment", None),
        (json!({"environment": "production", "policy": {}, "until": 2}), 404, "unknown-position", None),
    ] {
        let response = backtest(&client, &request).await;
        assert_eq!((response.status, response.problem()), (status, problem), "{request}: {}", response.text);
        assert_eq!(response.body["errors"][0]["pointer"].as_str(), pointer, "{request}: {}", response.text);
    }
    let twice = r#"{"environment":"production","policy":{"approvals":1,"approvals":0}}"#;
    let response = client.post("/v1/backtests", "application/json", twice).await;
    assert_eq!((response.status, response.problem()), (400, "not-i-json"), "{}", response.text);
}

#[tokio::test]
async fn the_totals_of_a_backtest_with_checks_and_rollbacks_are_consistent() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let events = ledger_demo::history(Some(20_000));
    let lines: Vec<_> =
        events.map(|event| String::from_utf8(event.bytes().to_vec()).expect("UTF-8")).collect();
    client.record_all(&lines).await;

    let policy = json!({"promotion": {"from": ["dev"]}});
    let request = json!({"environment": "production", "policy": policy, "limit": 1000});
    let started = Instant::now();
    let body = backtest(&client, &request).await.ok();

    print(&format!("20,000 events of the demo: {:?}, {:?}", started.elapsed(), totals(&body)));
    let [deploys, allowed, stopped, caught, false_alarms, missed] = totals(&body);
    assert!(allowed > 0 && stopped > 0 && missed > 0, "{:?}", totals(&body));
    assert_eq!((deploys, stopped), (allowed + stopped, caught + false_alarms));
    assert_eq!(positions(&body["missed_deploys"]).len() as u64, missed.min(1_000));
    assert!(positions(&body["stopped_deploys"]).is_sorted());
}

/// Prints a measurement for the person who reads the test's output.
fn print(text: &str) {
    use std::io::Write as _;
    // The message is for information only: ignore a failure to write it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
