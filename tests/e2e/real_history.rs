//! An imported real history: every past state matches git.

use std::collections::BTreeSet;

use ledger_tests::{Client, RealHistory, Row, RunningVersions, Servers, Service, digest, run};
use serde_json::Value;

use crate::{PROGRAM, everyday};

/// The flag for the history's column `commit`, which contains the `GitOps` commit that did the release. It names the
/// deployment and is not part of the release: each deploy has another one, so none would return to an earlier release.
pub(crate) const COMMIT_COLUMN_FLAG: &str = "--commit-column-is=deployment";

/// Maximum memory of the service during an import, in bytes.
const MAX_MEMORY: u64 = 150 << 20;

#[tokio::test]
async fn an_imported_history_is_recorded_in_order_and_its_past_states_and_everyday_questions_match_its_file()
{
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let history = RealHistory::find_or_generate(servers.folder());
    let count = history.rows.len();
    let (file, url) = (history.file.to_string_lossy(), format!("--url={}", service.url()));

    let first = run(PROGRAM, &["import", "releases", &file, &url, COMMIT_COLUMN_FLAG, "--json"]).await;
    client.wait_for_projections(count as u64).await;
    let peak_memory = service.peak_memory();

    assert_eq!((&first["recorded"], &first["duplicates"]), (&count.into(), &0.into()), "{first}");
    assert_eq!(client.positions().await, (count as u64, count as u64));
    assert!(peak_memory < MAX_MEMORY, "{} MiB", peak_memory >> 20);
    assert_positions_match_rows(&client, &history).await;
    for (n, environments) in &history.truth {
        for (environment, truth) in environments {
            let state = client.get(&format!("/v1/environments/{environment}/state?at={n}")).await.ok();
            assert_eq!(&running(&state), truth, "{environment} at {n}");
            assert_eq!(state["digest"], digest(truth), "{environment} at {n}");
        }
    }
    for time in times(&history.rows) {
        for environment in history.environments() {
            let state = client.get(&format!("/v1/environments/{environment}/state?at={time}")).await.ok();
            assert_eq!(running(&state), history.state_at(&environment, &time), "{environment} at {time}");
        }
    }

    let second = run(PROGRAM, &["import", "releases", &file, &url, COMMIT_COLUMN_FLAG, "--json"]).await;

    assert_eq!((&second["recorded"], &second["duplicates"]), (&0.into(), &count.into()), "{second}");
    assert_eq!(client.positions().await.1, count as u64);
    assert!(second["seconds"].as_f64() <= first["seconds"].as_f64(), "{second} is slower than {first}");
    let peak_memory = service.peak_memory();
    assert!(peak_memory < MAX_MEMORY, "{} MiB", peak_memory >> 20);

    everyday::assert_answers(&service.url(), &history).await;
}

/// Asserts that the entry at position n is row n: the same lane, version and time.
pub(crate) async fn assert_positions_match_rows(client: &Client, history: &RealHistory) {
    let mut after = 0;
    for rows in history.rows.chunks(1_000) {
        let page = client.get(&format!("/v1/events?limit=1000&after={after}")).await.ok();
        let entries = page["events"].as_array().expect("events");
        assert_eq!(entries.len(), rows.len());
        for (row, entry) in rows.iter().zip(entries) {
            assert_eq!(entry["position"], row.n);
            assert_eq!(entry["repeats"], Value::Null, "{entry}");
            let (event, data) = (&entry["event"], &entry["event"]["data"]);
            let found = (&event["time"], &data["environment"], &data["service"], &data["release"]["version"]);
            let (at, version) = (row.at.as_str().into(), row.version.as_deref().into());
            let expected = (&at, &row.environment.as_str().into(), &row.service.as_str().into(), &version);
            assert_eq!(found, expected, "row {}", row.n);
        }
        after += 1_000;
    }
    let rest = client.get(&format!("/v1/events?after={}", history.rows.len())).await.ok();
    assert_eq!(rest["events"].as_array().map(Vec::len), Some(0));
}

fn running(state: &Value) -> RunningVersions {
    let lanes = state["lanes"].as_array().expect("lanes").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    lanes.map(|lane| (text(&lane["service"]), text(&lane["release"]["version"]))).collect()
}

/// Returns times before the first row, after the last row, throughout the history, and some that several rows share.
fn times(rows: &[Row]) -> BTreeSet<String> {
    let at = |index: usize| rows[index].at.clone();
    let along = (0..8).map(|part| at(rows.len() * part / 8));
    let shared = rows.windows(2).filter(|pair| pair[0].at == pair[1].at).map(|pair| pair[0].at.clone());
    let shared: BTreeSet<_> = shared.collect();
    let shared = shared.iter().step_by(shared.len() / 6 + 1).cloned();
    let ends = ["1999-12-31T23:59:59Z".to_owned(), at(rows.len() - 1), "2026-11-01T00:00:00Z".to_owned()];
    along.chain(shared).chain(ends).collect()
}
