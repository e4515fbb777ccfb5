//! A real history of releases, and the expected state to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The running version of each service.
pub type RunningVersions = BTreeMap<String, String>;

/// A release in the history.
#[derive(Debug, Clone)]
pub struct Row {
    /// The release's number.
    pub n: u64,
    /// The release's time, as RFC 3339 in UTC; such times sort as text.
    pub at: String,
    /// The environment.
    pub environment: String,
    /// The service.
    pub service: String,
    /// The version; `None` if the service was removed.
    pub version: Option<String>,
}

/// The release history of a folder: rows in order, and the state according to git at some of them.
pub struct RealHistory {
    /// The file that contains the rows.
    pub file: PathBuf,
    /// The rows in order of their numbers.
    pub rows: Vec<Row>,
    /// The state of each environment, by the number of the row after which it was observed.
    pub truth: BTreeMap<u64, BTreeMap<String, RunningVersions>>,
    real: bool,
    /// True if `file` is compressed.
    gzipped: bool,
}

impl RealHistory {
    /// Reads the history in the folder that `RELEASE_HISTORY_DIR` names; returns `None` if the variable is not set.
    #[must_use]
    pub fn find() -> Option<Self> {
        std::env::var_os("RELEASE_HISTORY_DIR").map(|folder| {
            // Tests run in their crate's folder; the variable is relative to the workspace root.
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
            Self::read(&root.join(folder))
        })
    }

    fn read(folder: &Path) -> Self {
        let file = folder.join("govuk-releases.ndjson.gz");
        let open = |path: &Path| File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let rows = lines(GzDecoder::new(open(&file))).map(|row| row_of(&row)).collect();
        let truth = lines(open(&folder.join("govuk-states.ndjson")))
            .map(|state| (state["n"].as_u64().expect("n"), running(&state["state"])))
            .collect();
        Self { file, rows, truth, real: true, gzipped: true }
    }

    /// Reads the real history, or generates one from the demo's deploys if there is none (as in a user's clone) and
    /// prints a note on standard error. The generated history is written to `folder`.
    #[must_use]
    pub fn find_or_generate(folder: &Path) -> Self {
        Self::find().unwrap_or_else(|| {
            let mut stderr = std::io::stderr().lock();
            // The message is for information only: ignore a failure to write it.
            let _ = writeln!(stderr, "RELEASE_HISTORY_DIR is not set: importing the demo's deploys");
            Self::generate(folder)
        })
    }

    fn generate(folder: &Path) -> Self {
        let events = ledger_demo::history(Some(60_000));
        let events = events.map(|event| serde_json::from_slice::<Value>(event.bytes()).expect("an event"));
        let kinds = ["deploy.succeeded", "deploy.removed"].map(|kind| format!("io.releaseledger.{kind}.v1"));
        let deploys = events.filter(|event| kinds.iter().any(|kind| event["type"] == *kind));
        let mut rows: Vec<Value> = deploys
            .map(|event| {
                let data = &event["data"];
                json!({
                    "at": event["time"], "environment": data["environment"], "service": data["service"],
                    "version": data["release"]["version"], "commit": event["id"], "actor": "demo",
                })
            })
            .collect();
        // Times in a history never decrease; the demo has events that are reported late.
        rows.sort_by(|one, other| one["at"].as_str().cmp(&other["at"].as_str()));
        let mut n = 0;
        rows.iter_mut().for_each(|row| {
            n += 1;
            row["n"] = n.into();
        });
        let file = folder.join("demo-releases.ndjson");
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(&file, text).expect("the history is written");
        let rows: Vec<Row> = rows.iter().map(row_of).collect();
        let mut history = Self { file, rows, truth: BTreeMap::new(), real: false, gzipped: false };
        for part in 1..=12 {
            let n = history.rows.len() as u64 * part / 12;
            let environments = history.environments();
            let state = |environment: String| (environment.clone(), history.state_after(&environment, n));
            let truth = environments.into_iter().map(state).collect();
            history.truth.insert(n, truth);
        }
        history
    }

    /// Returns the first rows of the history, written to a file in `folder`, and the state after the last of them.
    #[must_use]
    pub fn first(self, rows: usize, folder: &Path) -> Self {
        let file = folder.join("first-releases.ndjson");
        let mut text = String::new();
        let from: Box<dyn Read> = match File::open(&self.file).expect("the history") {
            packed if self.gzipped => Box::new(GzDecoder::new(packed)),
            plain => Box::new(plain),
        };
        for line in BufReader::new(from).lines().take(rows) {
            text.push_str(&line.expect("a line"));
            text.push('\n');
        }
        std::fs::write(&file, text).expect("the rows are written");
        let (truth, real, gzipped) = (BTreeMap::new(), self.real, false);
        let mut first = Self { file, rows: self.rows, truth, real, gzipped };
        first.rows.truncate(rows);
        let last = first.rows.last().expect("a row").n;
        let environments = first.environments().into_iter();
        let states = environments.map(|name| (name.clone(), first.state_after(&name, last))).collect();
        first.truth.insert(last, states);
        first
    }

    /// True if the history is the real one.
    #[must_use]
    pub const fn is_real(&self) -> bool {
        self.real
    }

    /// Returns the names of the environments.
    #[must_use]
    pub fn environments(&self) -> BTreeSet<String> {
        self.rows.iter().map(|row| row.environment.clone()).collect()
    }

    /// Returns an environment's state after a row, computed independently of the ledger.
    #[must_use]
    pub fn state_after(&self, environment: &str, n: u64) -> RunningVersions {
        state(environment, self.rows.iter().take_while(|row| row.n <= n))
    }

    /// Returns an environment's state after all rows up to a time, computed independently of the ledger.
    #[must_use]
    pub fn state_at(&self, environment: &str, time: &str) -> RunningVersions {
        state(environment, self.rows.iter().take_while(|row| row.at.as_str() <= time))
    }
}

fn state<'r>(environment: &str, rows: impl Iterator<Item = &'r Row>) -> RunningVersions {
    let mut running = RunningVersions::new();
    for row in rows.filter(|row| row.environment == environment) {
        match &row.version {
            Some(version) => running.insert(row.service.clone(), version.clone()),
            None => running.remove(&row.service),
        };
    }
    running
}

/// Returns the digest of a composition that has only services and versions, as a shell script would compute it.
#[must_use]
pub fn digest(running: &RunningVersions) -> String {
    let lines = running.iter().map(|(service, version)| format!("{service}\tdefault\t{version}\t\t\t\t\n"));
    let hash = Sha256::digest(lines.collect::<String>());
    format!("sha256:{}", hex::encode(hash))
}

fn lines(file: impl Read) -> impl Iterator<Item = Value> {
    BufReader::new(file).lines().map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
}

fn row_of(row: &Value) -> Row {
    let text = |name: &str| row[name].as_str().expect(name).to_owned();
    Row {
        n: row["n"].as_u64().expect("n"),
        at: text("at"),
        environment: text("environment"),
        service: text("service"),
        version: row["version"].as_str().map(str::to_owned),
    }
}

fn running(state: &Value) -> BTreeMap<String, RunningVersions> {
    let text = |value: &Value| value.as_str().expect("a version").to_owned();
    let environments = state.as_object().expect("environments");
    environments
        .iter()
        .map(|(environment, services)| {
            let services = services.as_object().expect("services");
            (
                environment.clone(),
                services.iter().map(|(name, version)| (name.clone(), text(version))).collect(),
            )
        })
        .collect()
}
