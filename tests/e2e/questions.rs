//! Everyday questions, asked of the demo history with the commands. The expected answers are computed from the entries,
//! or from states of the environments.

use std::collections::BTreeSet;

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};
use ledger_tests::{Outcome, deploy, event};
use serde_json::{Value, json};

use crate::execute::Setup;

/// Length of the demo history.
const EVENTS: usize = 3_000;

/// Plays the demo history.
async fn setup() -> Setup {
    let setup = Setup::start().await;
    let lines = ledger_demo::history(Some(EVENTS));
    let lines: Vec<String> =
        lines.map(|event| String::from_utf8(event.bytes().to_vec()).expect("UTF-8")).collect();
    let client = setup.service.client();
    client.record_all(&lines).await;
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    setup
}

fn json(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn time(text: &str) -> DateTime<FixedOffset> {
    DateTime::parse_from_rfc3339(text).expect("a time")
}

fn positions<'v>(entries: impl IntoIterator<Item = &'v Value>) -> Vec<u64> {
    entries.into_iter().map(|entry| entry["position"].as_u64().expect("a position")).collect()
}

#[tokio::test]
async fn the_history_has_exactly_the_entries_that_meet_its_conditions_newest_first() {
    let setup = setup().await;
    let entries = setup.service.client().entries().await;
    let deploys = || entries.iter().filter(|entry| text(entry, "/event/type").contains("deploy.succeeded"));
    let some = deploys().nth(deploys().count() / 2).expect("a deploy");
    let (actor, commit) = (text(some, "/event/data/actor/name"), text(some, "/event/data/release/commit"));
    let (since, until) =
        (text(&entries[EVENTS / 3], "/event/time"), text(&entries[EVENTS / 2], "/event/time"));
    let (first, end) = (time(since), time(until));
    let is_within = |entry: &&Value| (first..end).contains(&time(text(entry, "/event/time")));
    let mut expected = vec![positions(deploys().filter(is_within))];
    let mut questions = vec![vec!["--type=deploy.succeeded", "--since", since, "--until", until]];
    if !actor.is_empty() {
        expected.push(positions(
            entries.iter().filter(|entry| text(entry, "/event/data/actor/name") == actor && is_within(entry)),
        ));
        questions.push(vec!["--actor", actor, "--since", since, "--until", until]);
    }
    if let Some(prefix) = commit.get(..7) {
        let names = |entry: &&Value| {
            let data = &entry["event"]["data"];
            text(data, "/release/commit").starts_with(prefix) || text(data, "/commit").starts_with(prefix)
        };
        expected.push(positions(entries.iter().filter(names)));
        questions.push(vec!["--commit", prefix]);
    }

    for (question, mut expected) in questions.into_iter().zip(expected) {
        let arguments = [&["history", "--limit=1000", "--output=json"][..], &question[..]].concat();
        let found = json(&setup.run(&arguments).await);
        expected.reverse();
        expected.truncate(1000);
        assert!(!expected.is_empty(), "{question:?} finds something");
        assert_eq!(positions(found["events"].as_array().expect("entries")), expected, "{question:?}");
    }
}

#[tokio::test]
async fn pages_of_the_history_continue_where_the_last_one_ended() {
    let setup = setup().await;
    let all = json(&setup.run(&["history", "--type=deploy", "--limit=100", "--output=json"]).await);
    let mut paged = Vec::new();
    let mut before = None;
    while paged.len() < 100 {
        let cursor = before.map(|before: u64| format!("--before={before}"));
        let mut arguments = vec!["history", "--type=deploy", "--limit=30", "--output=json"];
        arguments.extend(cursor.as_deref());
        let page = json(&setup.run(&arguments).await);
        paged.extend(positions(page["events"].as_array().expect("entries")));
        before = Some(page["next"].as_u64().expect("a cursor"));
    }

    assert_eq!(positions(all["events"].as_array().expect("entries")), paged[..100]);
}

#[tokio::test]
async fn all_pages_of_the_history_are_printed_one_after_the_other() {
    let setup = setup().await;
    let entries = setup.service.client().entries().await.len();
    assert!(entries > 1000, "there are several pages");

    let csv = setup.run(&["history", "--all", "--output=csv"]).await;
    let json = setup.run(&["history", "--all", "--oldest-first", "--json"]).await;
    let page = setup.run(&["history", "--limit=10", "--output=csv"]).await;

    assert_eq!((csv.code, csv.stdout.lines().count()), (Some(0), entries + 1), "{}", csv.stderr);
    assert_eq!((json.code, json.stdout.lines().count()), (Some(0), entries), "{}", json.stderr);
    assert!(page.stderr.contains("there may be more: --before"), "{}", page.stderr);
}

#[tokio::test]
async fn a_release_is_found_on_the_lanes_whose_states_have_it() {
    let setup = setup().await;
    let client = setup.service.client();
    let state = client.get("/v1/environments/production/state").await.ok();
    let version = text(&state["lanes"][0], "/release/version").to_owned();
    let runs = async |environment: &str, at: DateTime<Utc>, run: &Value| {
        let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let path = format!("/v1/environments/{environment}/state?at={at}");
        let state = client.get(&path).await.ok();
        let mut lanes = state["lanes"].as_array().expect("lanes").iter();
        lanes.any(|lane| {
            lane["service"] == run["service"]
                && lane["target"] == run["target"]
                && lane["release"]["version"] == run["release"]["version"]
        })
    };

    let found = json(&setup.run(&["find", &version, "--output=json"]).await);

    let found = found["runs"].as_array().expect("lanes");
    assert!(!found.is_empty(), "the version runs in production");
    for run in found {
        let environment = text(run, "/environment");
        let time_of = |moment: &Value| time(text(moment, "/occurred_at")).to_utc();
        let first = time_of(&run["first"]);
        let before = first - TimeDelta::microseconds(1);
        assert!(runs(environment, first, run).await, "it runs from {first} on: {run}");
        assert!(!runs(environment, before, run).await, "it does not run before {first}: {run}");
        match run.get("until").map(time_of) {
            Some(until) => assert!(!runs(environment, until, run).await, "it ends at {until}: {run}"),
            None => assert!(runs(environment, time_of(&run["last"]), run).await, "it runs: {run}"),
        }
    }
    for environment in ["dev", "staging", "production"] {
        let state = client.get(&format!("/v1/environments/{environment}/state")).await.ok();
        for lane in state["lanes"].as_array().expect("lanes") {
            let is_it = |run: &Value| run["environment"] == *environment && run["service"] == lane["service"];
            let is_live = lane["release"]["version"] == *version;
            assert!(!is_live || found.iter().any(is_it), "{environment} runs it: {lane}");
        }
    }
}

#[tokio::test]
async fn the_overview_has_every_lane_of_every_environment() {
    let setup = setup().await;
    let client = setup.service.client();
    let mut expected = BTreeSet::new();
    for environment in ["dev", "staging", "production"] {
        let state = client.get(&format!("/v1/environments/{environment}/state")).await.ok();
        for lane in state["lanes"].as_array().expect("lanes") {
            let values = [&lane["service"], &lane["target"], &lane["release"]["version"]];
            let values = values.map(|value| value.as_str().expect("text").to_owned());
            expected.insert((environment.to_owned(), values));
        }
    }

    let outcome = setup.run(&["overview", "--output=ndjson"]).await;

    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let rows = outcome.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let rows = rows.filter(|row| !row["version"].is_null()).map(|row| {
        let values = ["service", "target", "version"].map(|member| text(&row[member], "").to_owned());
        (text(&row, "/environment").to_owned(), values)
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn a_deploy_that_names_an_invented_rollback_is_audited_like_any_other() {
    let setup = Setup::start().await;
    let client = setup.service.client();
    let declared = json!({"environment": "production", "policy": {"approvals": 1}});
    client.record_and_wait(&event("p", "environment.declared", "2026-08-01T09:00:00Z", declared)).await;
    let freeze = json!({"environment": "production", "freeze_id": "sale", "reason": "a sale"});
    client.record_and_wait(&event("f", "freeze.started", "2026-08-01T09:30:00Z", freeze)).await;
    let mut step = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    step["data"]["rollback_id"] = "anything".into();
    client.record_and_wait(&step).await;

    let audit = setup.run(&["audit", "production", "--wait-for=1", "--output=csv"]).await;
    let before = setup.run(&["audit", "production", "--until=2026-08-01", "--output=csv"]).await;

    for finding in ["unknown_rollback", "during_freeze", "approvals", "freeze", "backdated"] {
        assert!(audit.stdout.contains(&format!(",{finding},")), "{finding}: {}", audit.stdout);
    }
    assert!(audit.stderr.contains("judged by the policy at position 1"), "{}", audit.stderr);
    assert_eq!(before.stdout.lines().count(), 1, "only the column names: {}", before.stdout);
}

#[tokio::test]
async fn the_exit_code_says_if_something_was_found() {
    let setup = Setup::start().await;
    let client = setup.service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    client.record_and_wait(&deploy("2", "2026-08-01T11:00:00Z", "production", "web", "v2")).await;

    let changed = setup.run(&["diff", "production", "--exit-code"]).await;
    let same = setup.run(&["diff", "production", "--from=latest", "--exit-code"]).await;
    let quiet = setup.run(&["diff", "production", "--quiet"]).await;
    let failed = setup.run(&["diff", "nowhere", "--exit-code"]).await;

    assert_eq!((changed.code, &*changed.stderr), (Some(3), ""));
    assert!(changed.stdout.contains("changed"), "{}", changed.stdout);
    assert_eq!(same.code, Some(0), "{}", same.stderr);
    assert_eq!((quiet.code, &*quiet.stdout, &*quiet.stderr), (Some(3), "", ""));
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
}

#[tokio::test]
async fn a_point_may_be_written_in_every_form_and_its_meaning_is_printed() {
    let setup = Setup::start().await;
    let client = setup.service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    client.record_and_wait(&deploy("2", "2026-08-02T11:00:00Z", "production", "web", "v2")).await;

    for (point, version, resolved) in [
        ("change:1", "v1", "1"),
        ("2026-08-02", "v1", "2026-08-02T00:00:00Z"),
        ("2026-08-02T11:00Z", "v2", "2026-08-02T11:00:00Z"),
        ("-1", "v1", ""),
        ("now", "v2", ""),
    ] {
        let outcome = setup.run(&["state", "production", "--at", point, "--output=json"]).await;
        let state = json(&outcome);
        assert_eq!(state["lanes"][0]["release"]["version"], version, "{point}: {state}");
        assert!(outcome.stderr.contains(resolved), "{point}: {}", outcome.stderr);
    }
    let unknown = setup.run(&["state", "production", "--at", "no-such-point"]).await;
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no-such-point"), "{}", unknown.stderr);
}
