//! Imports of release histories: valid rows are imported in order, invalid rows are reported with their line.

use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use ledger_tests::{Command, Outcome, Servers, Service};
use serde_json::{Value, json};

use crate::PROGRAM;

#[tokio::test]
async fn invalid_rows_are_reported_together_before_anything_is_recorded() {
    let ledger = Ledger::start().await;
    let mut rows: Vec<String> = (0..30).map(|number| row(number).to_string()).collect();
    for bad in &mut rows[3..28] {
        *bad = bad.replace("\"web\"", "\"a web\"");
    }
    let file = ledger.file(rows.join("\n").as_bytes());

    let failed = ledger.import(&file, &[]).await;
    let head = ledger.service.client().positions().await.1;
    let skipped = ledger.import(&file, &["--skip-invalid", "--json"]).await;

    assert_eq!((failed.code, &*failed.stdout, head), (Some(1), "", 0), "{}", failed.stderr);
    let lines: Vec<_> = failed.stderr.lines().collect();
    assert_eq!(lines.len(), 22, "{}", failed.stderr);
    assert!(lines[0].starts_with("line 4: service: "), "{}", lines[0]);
    assert!(lines[19].starts_with("line 23: service: "), "{}", lines[19]);
    assert_eq!(lines[20..], ["and 5 more", "error: nothing is recorded: 25 of 30 rows are invalid"]);

    assert_eq!(skipped.code, Some(0), "{}", skipped.stderr);
    let summary: Value = serde_json::from_str(&skipped.stdout).expect("a summary");
    assert_eq!((&summary["recorded"], &summary["skipped"]), (&json!(5), &json!(25)));
    let listed: Vec<_> = skipped.stderr.lines().collect();
    assert_eq!(listed.len(), 25, "{}", skipped.stderr);
    assert!(listed[24].starts_with("line 28: service: "), "{}", listed[24]);
    assert_eq!(ledger.service.client().positions().await.1, 5);
}

#[tokio::test]
async fn a_history_from_stdin_is_read_with_any_compression_and_line_endings() {
    let ledger = Ledger::start().await;
    let lines = |numbers: std::ops::Range<u32>| {
        let lines: String = numbers.map(|number| format!("{}\r\n", row(number))).collect();
        format!("\u{feff}{lines}").into_bytes()
    };
    let members = [gzip(&lines(0..3)), gzip(&lines(3..5)), vec![0; 10_240]].concat();
    let file = ledger.file(&members);
    let script = format!("cat {} | \"$0\" \"$@\"", file.display());
    let url = format!("--url={}", ledger.service.url());
    let import = ["-c", &script, PROGRAM, "import", "releases", "-", "--json", &url];

    let imported = Command::start("sh", &import).outcome().await;

    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let summary: Value = serde_json::from_str(&imported.stdout).expect("a summary");
    assert_eq!((&summary["rows"], &summary["recorded"]), (&json!(5), &json!(5)));

    let cut = ledger.file(&members[..members.len() - 10_240 - 3]);
    let failed = ledger.import(&cut, &["--source=another"]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.starts_with("error: nothing is recorded: line "), "{}", failed.stderr);
    assert_eq!(ledger.service.client().positions().await.1, 5);
}

#[tokio::test]
async fn a_row_is_recorded_once_at_any_position_in_the_file() {
    let ledger = Ledger::start().await;
    let rows = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let first = ledger.file(rows(&[row(1), row(2), row(2)]).as_bytes());
    assert_eq!(ledger.import(&first, &[]).await.code, Some(0));

    let more = ledger.file(rows(&[row(0), row(1), row(2), row(2), row(2)]).as_bytes());
    let resumed = ledger.import(&more, &["--json"]).await;
    let as_deployments = ledger.import(&more, &["--commit-column-is=deployment"]).await;

    let summary: Value = serde_json::from_str(&resumed.stdout).expect("a summary");
    assert_eq!((&summary["recorded"], &summary["duplicates"]), (&json!(2), &json!(3)));
    let client = ledger.service.client();
    client.wait_for_projections(5).await;
    let event = client.entries().await[0]["event"].clone();
    assert_eq!(event["data"]["release"], json!({"version": "v1", "commit": "c1"}));
    // The meaning of the commit column changes the recorded event.
    assert_eq!(as_deployments.code, Some(1));
    assert!(as_deployments.stderr.contains("line 1 is not recorded: "), "{}", as_deployments.stderr);
    assert_eq!(client.positions().await.1, 5);
}

fn row(number: u32) -> Value {
    json!({
        "at": format!("2026-08-01T12:00:{number:02}Z"), "environment": "production", "service": "web",
        "version": format!("v{number}"), "commit": format!("c{number}"), "actor": "ci",
    })
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

struct Ledger {
    service: Service,
    servers: Servers,
}

impl Ledger {
    async fn start() -> Self {
        let servers = Servers::start().await;
        Self { service: Service::start(PROGRAM, &servers, &[]).await, servers }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let file = self.servers.folder().join("history");
        std::fs::write(&file, bytes).expect("written");
        file
    }

    async fn import(&self, file: &std::path::Path, more: &[&str]) -> Outcome {
        let (file, url) = (file.to_string_lossy(), format!("--url={}", self.service.url()));
        Command::start(PROGRAM, &[&["import", "releases", &file, &url], more].concat()).outcome().await
    }
}
