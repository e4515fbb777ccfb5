//! The pages in Chromium: `tests/browser` signs in, approves by keyboard, and examines every page.

use std::fs;
use std::path::{Path, PathBuf};

use ledger_tests::{Command, Story, rollback_events};
use serde_json::json;

use crate::pages::{MIA, Stage};

/// Folder of the test for Node.js.
const TEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/browser");
/// Names of Chromium. Google's build understands the same flags.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_by_keyboard_on_pages_that_are_accessible_and_fit_every_window() {
    let stage = Stage::start().await;
    stage.record_releases().await;
    stage.request_rollback().await;
    let hostile = stage.record_hostile_events().await;
    let freeze = json!({"freeze_id": "year-end", "reason": "The office is closed."});
    Story::of(&stage.admin(), "staging").record("freeze.started", 9, freeze).await;
    let paths = paths(hostile).join("\n");
    let folder = test_folder();
    let (chromium, url) = (text(&installed(&BROWSERS)), stage.one.url());
    let scratch = text(folder.path());
    let variables = [
        ("PAGES_URL", &*url),
        ("PATHS", &*paths),
        ("PERSON", "mia"),
        ("CHROMIUM", &*chromium),
        // The files of Chromium are removed with the folder.
        ("TMPDIR", &*scratch),
    ];
    let test = text(&folder.path().join("pages.test.mjs"));

    // Without --test, which would run the file in a process of its own: one process is killed with the test.
    let outcome = Command::start_with("node", &["--test-reporter=spec", &*test], &variables).outcome().await;

    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    stage.wait_for_projections().await;
    let granted = rollback_events(&stage.admin(), "approval.granted").await;
    assert_eq!(granted.len(), 2, "one for the release, one for the rollback: {granted:?}");
    for approval in &granted {
        assert_eq!(approval["principal"]["subject"], MIA, "{approval}");
    }
    let rollback = Story::on(&stage.admin()).rollback("back-1").await;
    assert_eq!(rollback["approvals"]["granted"], 1, "{rollback}");
}

/// Returns the paths of the pages, with each of their states.
fn paths(hostile: u64) -> Vec<String> {
    let fixed = [
        "/t/default",
        "/t/default/environments/production",
        "/t/default/environments/production?at=2",
        "/t/default/environments/staging",
        "/t/default/rollbacks",
        "/t/default/rollbacks?environment=production",
        "/t/default/rollbacks?environment=staging",
        "/t/default/rollbacks/back-1",
        "/t/default/approvals/new",
        "/t/default/approvals/new?environment=staging&service=web&version=v9",
        "/t/default/events/1",
    ];
    let hostile = format!("/t/default/events/{hostile}");
    fixed.into_iter().map(str::to_owned).chain([hostile]).collect()
}

/// Returns a folder with the test and a link to its packages, which Node.js looks for beside the test.
fn test_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
    for entry in fs::read_dir(TEST).expect("the test") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let name = path.file_name().expect("a name");
            fs::copy(&path, folder.path().join(name)).expect("copied");
        }
    }
    // The programs of npm are in node_modules/.bin.
    let driver = installed(&["playwright-core"]);
    let modules = driver.ancestors().nth(2).expect("a folder above the programs");
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).expect("a link");
    folder
}

/// Finds the first of these programs on PATH.
fn installed(programs: &[&str]) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&search).collect();
    let mut candidates =
        programs.iter().flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
    let found = candidates.find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{programs:?} is not on PATH: ops/test installs it"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
