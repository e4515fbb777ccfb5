//! A real history of releases, and the truth to check against.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What ran: version by service.
pub type Running = BTreeMap<String, String>;

/// One release of the history.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its number.
    pub n: u64,
    /// When, as RFC 3339 in UTC; such times sort as text.
    pub at: String,
    /// Where.
    pub environment: String,
    /// What.
    pub service: String,
    /// Which version; `None`: nothing runs there any more.
    pub version: Option<String>,
}

/// The real history of a folder: rows in order, and what git says ran at some of them.
pub struct RealHistory {
    /// The file of rows.
    pub file: PathBuf,
    /// The rows.
    pub rows: Vec<Row>,
    /// At a row's number: what ran in each environment.
    pub truth: BTreeMap<u64, BTreeMap<String, Running>>,
    real: bool,
}

impl RealHistory {
    /// The history of the folder that `RELEASE_HISTORY_DIR` names, if it names one.
    #[must_use]
    pub fn find() -> Option<Self> {
        std::env::var_os("RELEASE_HISTORY_DIR").map(|folder| {
            // Tests run in their crate's folder; the variable is relative to the project's root.
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's root");
            Self::read(&root.join(folder))
        })
    }

    fn read(folder: &Path) -> Self {
        let file = folder.join("govuk-releases.ndjson.gz");
        let open =
            |path: &Path| std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let rows = lines(GzDecoder::new(open(&file))).map(|row| row_of(&row)).collect();
        let truth = lines(open(&folder.join("govuk-states.ndjson")))
            .map(|state| (state["n"].as_u64().expect("n"), running(&state["state"])))
            .collect();
        Self { file, rows, truth, real: true }
    }

    /// The real history, or where there is none (as on a user's clone), one made of the demo's deploys,
    /// which is said. `folder` is where to write it.
    #[must_use]
    pub fn find_or_play(folder: &Path) -> Self {
        Self::find().unwrap_or_else(|| {
            let mut stderr = std::io::stderr().lock();
            // A test that cannot say so is no worse a test.
            let _ = writeln!(stderr, "RELEASE_HISTORY_DIR is not set: the demo's deploys are imported");
            Self::play(folder)
        })
    }

    fn play(folder: &Path) -> Self {
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
        // A history's times never go back; the demo has reports that come late.
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
        let mut history = Self { file, rows, truth: BTreeMap::new(), real: false };
        for part in 1..=12 {
            let n = history.rows.len() as u64 * part / 12;
            let environments = history.environments();
            let state = |environment: String| (environment.clone(), history.after(&environment, n));
            let truth = environments.into_iter().map(state).collect();
            history.truth.insert(n, truth);
        }
        history
    }

    /// Whether it is the real one.
    #[must_use]
    pub const fn is_real(&self) -> bool {
        self.real
    }

    /// The environments.
    #[must_use]
    pub fn environments(&self) -> BTreeSet<String> {
        self.rows.iter().map(|row| row.environment.clone()).collect()
    }

    /// What ran in an environment after a row: a fold that shares nothing with ours.
    #[must_use]
    pub fn after(&self, environment: &str, n: u64) -> Running {
        fold(environment, self.rows.iter().take_while(|row| row.n <= n))
    }

    /// What ran in an environment after every row up to a time: a fold that shares nothing with ours.
    #[must_use]
    pub fn at_time(&self, environment: &str, time: &str) -> Running {
        fold(environment, self.rows.iter().take_while(|row| row.at.as_str() <= time))
    }
}

fn fold<'r>(environment: &str, rows: impl Iterator<Item = &'r Row>) -> Running {
    let mut running = Running::new();
    for row in rows.filter(|row| row.environment == environment) {
        match &row.version {
            Some(version) => running.insert(row.service.clone(), version.clone()),
            None => running.remove(&row.service),
        };
    }
    running
}

/// The digest of a composition of which only services and versions are known, as a shell would make it.
#[must_use]
pub fn digest(running: &Running) -> String {
    let lines = running.iter().map(|(service, version)| format!("{service}\tdefault\t{version}\t\t\t\t\n"));
    let hash = Sha256::digest(lines.collect::<String>());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
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

fn running(state: &Value) -> BTreeMap<String, Running> {
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
