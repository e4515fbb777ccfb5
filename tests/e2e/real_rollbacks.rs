//! A real history, and real ways back: returns are found, known good is what the checks say, and what is
//! rolled back to is what ran there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use ledger_tests::{Client, RealHistory, Row, Running, Servers, Service, digest, run};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::PROGRAM;
use crate::real_history::COMMIT_IS;
use crate::rollback::{Story, text};

const ENVIRONMENT: &str = "production";
/// Deploys of production to an earlier version of the lane, in the real history.
const REAL_RETURNS: usize = 349;

#[tokio::test]
async fn a_real_history_is_rolled_back_to_its_last_known_good_points() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let history = imported(&servers, &service).await;

    let production: Vec<&Row> = history.rows.iter().filter(|row| row.environment == ENVIRONMENT).collect();
    returns_are_marked(&client, &history, &production).await;
    // The last third of production is checked; the points are looked for from three places in it.
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
        let truth = history.after(ENVIRONMENT, expected);
        assert_eq!(point["digest"], digest(&truth));
        roll_back(&servers, &service.url(), expected, &truth).await;
        let state = client.get(&format!("/v1/environments/{ENVIRONMENT}/state")).await.ok();
        assert_eq!(state["digest"], digest(&truth), "what ran at {expected}");
    }
}

/// The real history, or one that is made, in the ledger and its projections.
pub(crate) async fn imported(servers: &Servers, service: &Service) -> RealHistory {
    let history = RealHistory::find_or_play(servers.folder());
    let (file, url) = (history.file.to_string_lossy(), format!("--url={}", service.url()));
    run(PROGRAM, &["import", "releases", &file, &url, COMMIT_IS, "--json"]).await;
    service.client().projections_at(history.rows.len() as u64).await;
    history
}

/// Every deploy that brings back what its lane ran before says so, and where that was.
async fn returns_are_marked(client: &Client, history: &RealHistory, production: &[&Row]) {
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

/// Runs the script that makes checks by rule, and has them recorded.
async fn report_checks(servers: &Servers, file: &Path, first: u64, last: u64, url: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("report-checks");
    let made = Command::new("python3")
        .arg(script)
        .arg(file)
        .args([ENVIRONMENT, &first.to_string(), &last.to_string()])
        .output()
        .await
        .expect("python3 runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let events = servers.folder().join("checks.ndjson");
    std::fs::write(&events, &made.stdout).expect("written");
    let emitted = Command::new(PROGRAM)
        .args(["emit", "-", "--json", "--url", url])
        .stdin(Stdio::from(std::fs::File::open(&events).expect("the checks")))
        .output()
        .await
        .expect("the program runs");
    assert!(emitted.status.success(), "{}", String::from_utf8_lossy(&emitted.stderr));
    let head = Client::new(url).position().await.1;
    Client::new(url).projections_at(head).await;
}

/// What the script's rule says of a release: passed, failed, or nothing.
fn verdict(service: &str, version: &str) -> Option<bool> {
    let hash = Sha256::digest(format!("{service} {version}"));
    let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    match (number % 64, number % 8) {
        (0, _) => Some(false),
        (_, 1) => None,
        _ => Some(true),
    }
}

/// The last point before a row at which the release that came had passed, and nothing that ran had failed: a
/// rule of our own that shares nothing with the ledger's.
fn last_known_good(production: &[&Row], first: u64, before: u64) -> u64 {
    let checked: BTreeSet<(&str, &str)> = production
        .iter()
        .filter(|row| row.n >= first)
        .filter_map(|row| Some((row.service.as_str(), row.version.as_deref()?)))
        .collect();
    let said = |service: &str, version: &str| {
        checked.contains(&(service, version)).then(|| verdict(service, version)).flatten()
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
        let none_failed = || running.iter().all(|(service, version)| said(service, version) != Some(false));
        let came = match row.version.as_deref() {
            Some(version) => said(service, version) == Some(true),
            None => running.iter().any(|(service, version)| said(service, version) == Some(true)),
        };
        if changed && came && none_failed() {
            good = row.n;
        }
    }
    good
}

/// Plans, requests and executes, with a command that only writes files.
async fn roll_back(servers: &Servers, url: &str, to: u64, truth: &Running) {
    let (to, id) = (to.to_string(), format!("back-to-{to}"));
    let folder = servers.folder().join(&id);
    std::fs::create_dir(&folder).expect("a folder");
    let story = Story::on(&Client::new(url));
    let plan = story.plan(serde_json::json!({"to": to})).await.ok();
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
    assert_eq!((&rollback["phase"], &rollback["differences"]), (&"succeeded".into(), &serde_json::json!([])));
    for step in plan["steps"].as_array().expect("steps") {
        let service = text(&step["service"]);
        let written = std::fs::read_to_string(folder.join(&service)).expect("the command wrote it");
        assert_eq!(written.trim(), truth.get(&service).map_or("", String::as_str), "{service}");
    }
}
