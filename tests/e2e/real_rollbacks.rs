//! Rollbacks in a real history: returns are detected, back-tests respond within seconds, known-good points follow the
//! checks, and a rollback restores the state of its target.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ledger_tests::{Client, RealHistory, Row, RunningVersions, Servers, Service, Story, digest, run, text};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::PROGRAM;
use crate::real_history::COMMIT_COLUMN_FLAG;

const ENVIRONMENT: &str = "production";
/// Number of deploys to production in the real history that return to an earlier version of their lane.
const REAL_RETURNS: usize = 349;

#[tokio::test]
async fn an_imported_history_is_backtested_and_rolled_back_to_its_last_known_good_points() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let history = import_history(&servers, &service).await;

    assert_backtest_and_horizon_are_fast(&client, &history).await;
    let production: Vec<&Row> = history.rows.iter().filter(|row| row.environment == ENVIRONMENT).collect();
    assert_returns_are_marked(&client, &history, &production).await;
    // The last third of production's history has checks; points are queried before three rows in it.
    let first = production[production.len() * 2 / 3].n;
    let last = production.last().expect("rows").n;
    report_checks(&servers, &history.file, first, last, &service.url()).await;
    let chosen = [5, 7, 9].map(|tenth| production[production.len() * (20 + tenth) / 30].n);

    for before in chosen {
        let expected = last_known_good(&production, first, before);
        let found = client
            .get(&format!("/v1/environments/{ENVIRONMENT}/points?before={before}&status=known_good&limit=1"))
            .await
            .ok();
        let point = &found["points"][0];
        assert_eq!(point["position"].as_u64(), Some(expected), "before {before}");
        let truth = history.state_after(ENVIRONMENT, expected);
        assert_eq!(point["digest"], digest(&truth));
        roll_back(&servers, &service.url(), expected, &truth).await;
        let state = client.get(&format!("/v1/environments/{ENVIRONMENT}/state")).await.ok();
        assert_eq!(state["digest"], digest(&truth), "the state at {expected}");
    }
}

/// Asserts that a back-test and a rollback horizon of the whole real history, which has no checks, respond within
/// seconds: no point is known good, and no deploy failed.
async fn assert_backtest_and_horizon_are_fast(client: &Client, history: &RealHistory) {
    let deploys = history.rows.iter().filter(|row| row.environment == ENVIRONMENT && row.version.is_some());
    let deploys = deploys.count();
    let backtest = |policy: Value| {
        let request = json!({"environment": ENVIRONMENT, "policy": policy}).to_string();
        async move { client.post("/v1/backtests", "application/json", request).await.ok() }
    };
    let started = Instant::now();
    let promoted = backtest(json!({"promotion": {"from": ["staging"]}})).await;
    let backtest_time = started.elapsed();
    let lax = backtest(json!({})).await;
    let started = Instant::now();
    let horizon =
        client.get(&format!("/v1/environments/{ENVIRONMENT}/rollback-horizon?window=3660d")).await.ok();
    let horizon_time = started.elapsed();

    // Test runners show this output only if the test fails.
    writeln!(
        std::io::stderr().lock(),
        "{deploys} deploys: back-test {backtest_time:?}, horizon {horizon_time:?}"
    )
    .expect("printed");
    assert!(backtest_time < Duration::from_secs(20), "{backtest_time:?}");
    assert!(horizon_time < Duration::from_secs(40), "{horizon_time:?}");
    assert_eq!(horizon["points"], json!([]));
    let totals = |body: &Value| {
        ["deploys", "allowed", "stopped", "caught", "false_alarms", "missed"].map(|name| body[name].clone())
    };
    assert_eq!(json!(totals(&promoted)), json!([deploys, 0, deploys, 0, deploys, 0]));
    assert_eq!(promoted["stopped_deploys"].as_array().map(Vec::len), Some(100));
    assert_eq!(json!(totals(&lax)), json!([deploys, deploys, 0, 0, 0, 0]));
}

/// Imports the real history, or a generated one, and waits until it is projected.
async fn import_history(servers: &Servers, service: &Service) -> RealHistory {
    let history = RealHistory::find_or_generate(servers.folder());
    let (file, url) = (history.file.to_string_lossy(), format!("--url={}", service.url()));
    run(PROGRAM, &["import", "releases", &file, &url, COMMIT_COLUMN_FLAG, "--json"]).await;
    service.client().wait_for_projections(history.rows.len() as u64).await;
    history
}

/// Asserts that every deploy that returns to an earlier release of its lane has the position of that release.
async fn assert_returns_are_marked(client: &Client, history: &RealHistory, production: &[&Row]) {
    let mut live: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut ran: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for row in production {
        let version = row.version.as_deref();
        if let Some(version) = version {
            let before = ran.insert((&row.service, version), row.n);
            if let Some(before) = before.filter(|_| live.get(&*row.service) != Some(&Some(version))) {
                expected.insert(row.n, before);
            }
        }
        live.insert(&row.service, version);
    }
    let mut found = BTreeMap::new();
    let mut after = 0;
    loop {
        let page =
            client.get(&format!("/v1/events?environment={ENVIRONMENT}&limit=1000&after={after}")).await.ok();
        for entry in page["events"].as_array().expect("events") {
            if let Some(back) = entry["returns_to"].as_u64() {
                found.insert(entry["position"].as_u64().expect("a position"), back);
            }
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(found, expected);
    if history.is_real() {
        assert_eq!(found.len(), REAL_RETURNS);
    }
}

/// Generates checks with a script and records them.
async fn report_checks(servers: &Servers, file: &Path, first: u64, last: u64, url: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("report-checks");
    let generated = Command::new("python3")
        .arg(script)
        .arg(file)
        .args([ENVIRONMENT, &first.to_string(), &last.to_string()])
        .output()
        .await
        .expect("python3 runs");
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let events = servers.folder().join("checks.ndjson");
    std::fs::write(&events, &generated.stdout).expect("written");
    let emitted = Command::new(PROGRAM)
        .args(["emit", "-", "--json", "--url", url])
        .stdin(Stdio::from(std::fs::File::open(&events).expect("the checks")))
        .output()
        .await
        .expect("the program runs");
    assert!(emitted.status.success(), "{}", String::from_utf8_lossy(&emitted.stderr));
    let head = Client::new(url).positions().await.1;
    Client::new(url).wait_for_projections(head).await;
}

/// Returns the script's result for a release: passed, failed, or no check.
fn check_result(service: &str, version: &str) -> Option<bool> {
    let hash = Sha256::digest(format!("{service} {version}"));
    let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    match (number % 64, number % 8) {
        (0, _) => Some(false),
        (_, 1) => None,
        _ => Some(true),
    }
}

/// Returns the last point before a row at which the changed release had passed and no live release had failed, computed
/// independently of the ledger.
fn last_known_good(production: &[&Row], first: u64, before: u64) -> u64 {
    let checked: BTreeSet<(&str, &str)> = production
        .iter()
        .filter(|row| row.n >= first)
        .filter_map(|row| Some((row.service.as_str(), row.version.as_deref()?)))
        .collect();
    let result = |service: &str, version: &str| {
        checked.contains(&(service, version)).then(|| check_result(service, version)).flatten()
    };
    let mut running: BTreeMap<&str, &str> = BTreeMap::new();
    let mut good = 0;
    for row in production.iter().filter(|row| row.n < before) {
        let service = row.service.as_str();
        let changed = running.get(service).copied() != row.version.as_deref();
        match row.version.as_deref() {
            Some(version) => running.insert(service, version),
            None => running.remove(service),
        };
        let none_failed = || running.iter().all(|(service, version)| result(service, version) != Some(false));
        let changed_passed = match row.version.as_deref() {
            Some(version) => result(service, version) == Some(true),
            None => running.iter().any(|(service, version)| result(service, version) == Some(true)),
        };
        if changed && changed_passed && none_failed() {
            good = row.n;
        }
    }
    good
}

/// Plans, requests and executes a rollback with a command that only writes files.
async fn roll_back(servers: &Servers, url: &str, to: u64, truth: &RunningVersions) {
    let (to, id) = (to.to_string(), format!("back-to-{to}"));
    let folder = servers.folder().join(&id);
    std::fs::create_dir(&folder).expect("a folder");
    let story = Story::on(&Client::new(url));
    let plan = story.plan(json!({"to": to})).await.ok();
    assert_eq!(plan["result_digest"], digest(truth));
    let request = [
        "rollback",
        "request",
        ENVIRONMENT,
        "--to",
        &to,
        "--id",
        &id,
        "--by",
        "person:mia",
        "--reason",
        "Customers see errors.",
        "--url",
        url,
        "--json",
    ];
    run(PROGRAM, &request).await;
    let write = "echo \"$RELEASE_LEDGER_TO_VERSION\" > \"$OUT/$RELEASE_LEDGER_SERVICE\"";
    let executed = Command::new(PROGRAM)
        .args(["rollback", "execute", &id, "--exec", write, "--parallel", "4", "--url", url])
        .arg("--state-dir")
        .arg(servers.folder())
        .env("OUT", &folder)
        .output()
        .await
        .expect("the program runs");
    assert!(executed.status.success(), "{}", String::from_utf8_lossy(&executed.stderr));
    let rollback = story.rollback(&id).await;
    assert_eq!((&rollback["phase"], &rollback["differences"]), (&"succeeded".into(), &json!([])));
    for step in plan["steps"].as_array().expect("steps") {
        let service = text(&step["service"]);
        let written = std::fs::read_to_string(folder.join(&service)).expect("the command wrote it");
        assert_eq!(written.trim(), truth.get(&service).map_or("", String::as_str), "{service}");
    }
}
