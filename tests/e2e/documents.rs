//! Documents are executed: the commands of the README, the guides and the runbooks run as they stand and print what is
//! shown, their settings are settings of the service, and what cannot be run says why.
//!
//! A block says more after its language: `file:NAME`, `output`, `follow` (`documents/block.rs`), or `not-run:REASON`.
//! In blocks, `https://ledger.example` is the service of the session, and `/etc/release-ledger` a folder of it.

mod block;
mod example;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use release_ledger::config::{Config, Flags};
use serde_json::Value;

use block::Block;
use session::{Ledger, Session};

/// A document that is executed: its path, the ledger, and what stands before it.
struct Document {
    path: &'static str,
    ledger: Ledger,
    given: &'static str,
}

const fn document(path: &'static str, ledger: Ledger, given: &'static str) -> Document {
    Document { path, ledger, given }
}

const DOCUMENTS: &[Document] = &[
    document("README.md", Ledger::Empty, ""),
    document("ops/guides/alertmanager.md", Ledger::Servers, ""),
    document("ops/guides/argocd.md", Ledger::Servers, ""),
    document("ops/guides/auditors.md", Ledger::Demo, ""),
    document("ops/guides/cdevents.md", Ledger::Empty, ""),
    document("ops/guides/flux.md", Ledger::Servers, ""),
    document("ops/guides/generic-webhooks.md", Ledger::Servers, ""),
    document("ops/guides/github.md", Ledger::Servers, ""),
    document("ops/guides/gitlab.md", Ledger::Servers, ""),
    document("ops/guides/gitops.md", Ledger::Empty, include_str!("documents/given/gitops.sh")),
    document("ops/guides/live.md", Ledger::Empty, include_str!("documents/given/live.sh")),
    document("ops/guides/operators.md", Ledger::Servers, include_str!("documents/given/operators.sh")),
    document(
        "ops/guides/outgoing-webhooks.md",
        Ledger::Servers,
        include_str!("documents/given/outgoing-webhooks.sh"),
    ),
    document("ops/guides/pipelines.md", Ledger::Empty, include_str!("documents/given/pipelines.sh")),
    document("ops/guides/questions.md", Ledger::Empty, ""),
    document("ops/guides/rollbacks.md", Ledger::Empty, include_str!("documents/given/rollbacks.sh")),
    document("ops/guides/security.md", Ledger::Servers, include_str!("documents/given/security.sh")),
];

/// Documents whose commands another test runs.
const RUN_ELSEWHERE: &[(&str, &str)] = &[
    ("ops/guides/scale.md", "tests/tidy/scripts.rs"),
    ("ops/runbooks/backup-and-restore.md", "tests/e2e/archive/runbook.rs"),
];

/// Reasons for which a block is not run.
const REASONS: &[&str] = &[
    "needs-a-browser",
    "needs-a-cluster",
    "needs-an-identity-provider",
    "needs-client-generators",
    "needs-nginx",
    "needs-the-nats-command",
];

/// The blocks that are not run, by document and reason.
const NOT_RUN: &[(&str, &str, usize)] = &[
    ("ops/guides/api-clients.md", "needs-client-generators", 7),
    ("ops/guides/argocd.md", "needs-a-cluster", 3),
    ("ops/guides/flux.md", "needs-a-cluster", 1),
    ("ops/guides/live.md", "needs-a-browser", 1),
    ("ops/guides/live.md", "needs-nginx", 1),
    ("ops/guides/nats.md", "needs-the-nats-command", 2),
    ("ops/guides/proxies.md", "needs-nginx", 2),
    ("ops/guides/rollbacks.md", "needs-the-nats-command", 1),
    ("ops/guides/security.md", "needs-an-identity-provider", 1),
    ("ops/runbooks/nats-cluster.md", "needs-the-nats-command", 1),
];

#[tokio::test]
async fn the_commands_for_an_empty_ledger_print_what_their_documents_show() {
    assert_run(Ledger::Empty).await;
}

#[tokio::test]
async fn the_commands_for_the_demo_ledger_print_what_their_documents_show() {
    assert_run(Ledger::Demo).await;
}

#[tokio::test]
async fn the_commands_for_a_service_with_its_own_settings_print_what_their_documents_show() {
    assert_run(Ledger::Servers).await;
}

/// Runs the documents about a ledger, each with a ledger of its own, and asserts that every example does what it shows.
async fn assert_run(ledger: Ledger) {
    let mut wrong = Vec::new();
    for Document { path, ledger, given } in DOCUMENTS.iter().filter(|document| document.ledger == ledger) {
        let session = Session::start(*ledger).await;
        let failures = session.run(&blocks(path), given).await;
        wrong.extend(failures.into_iter().map(|failure| format!("{path}: {failure}")));
        session.stop().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_block_is_run_or_read_or_says_why_not() {
    let mut violations = Vec::new();
    for path in paths() {
        let is_run = DOCUMENTS.iter().any(|document| document.path == path)
            || RUN_ELSEWHERE.iter().any(|(document, _)| *document == path);
        for block in blocks(&path) {
            if let Some(problem) = problem(&block, is_run) {
                violations.push(format!("{path}:{}: {problem}", block.line));
            }
        }
    }
    assert_eq!(
        violations, [""; 0],
        "run the document (`DOCUMENTS`), or mark the block `not-run:` with one of {REASONS:?}"
    );
}

#[test]
fn the_blocks_that_are_not_run_are_known() {
    let mut found = BTreeMap::new();
    for path in paths() {
        for block in blocks(&path) {
            if let Some(reason) = block.not_run() {
                *found.entry((path.clone(), reason.to_owned())).or_insert(0) += 1;
            }
        }
    }
    let known: BTreeMap<_, usize> = NOT_RUN
        .iter()
        .map(|(path, reason, count)| (((*path).to_owned(), (*reason).to_owned()), *count))
        .collect();
    assert_eq!(found, known, "run the block rather than list it in `NOT_RUN`");
}

#[test]
fn the_settings_of_documents_are_settings_of_the_service() {
    let mut violations = Vec::new();
    for path in paths() {
        let is_settings = |block: &&Block| block.language == "toml" && block.not_run().is_none();
        for block in blocks(&path).iter().filter(is_settings) {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &block.text).expect("written");
            if let Err(error) = Config::read(&Flags::of_file(Some(file.path().to_owned()))) {
                violations.push(format!("{path}:{}: {error}", block.line));
            }
        }
    }
    assert_eq!(violations, [""; 0], "correct the settings");
}

#[test]
fn documents_whose_commands_another_test_runs_are_named_there() {
    for (document, test) in RUN_ELSEWHERE {
        let name = Path::new(document).file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(read(test).contains(name), "{test} reads {document}");
    }
}

/// Returns what is wrong with a block.
fn problem(block: &Block, is_run: bool) -> Option<String> {
    const MARKS: [&str; 2] = ["output", "follow"];
    let is_mark = |word: &&String| {
        let reason = word.strip_prefix("not-run:");
        let is_reason = reason.is_some_and(|reason| REASONS.contains(&reason));
        is_reason || word.starts_with("file:") || MARKS.contains(&word.as_str())
    };
    if let Some(word) = block.words.iter().find(|word| !is_mark(word)) {
        return Some(format!("unknown mark {word}"));
    }
    if block.not_run().is_some() {
        return None;
    }
    match &*block.language {
        "sh" | "console" | "python" => (!is_run).then(|| "no test runs it".to_owned()),
        "json" => serde_json::from_str::<Value>(&block.text).err().map(|error| format!("no JSON: {error}")),
        "yaml" => {
            let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&block.text);
            documents.err().map(|error| format!("no YAML: {error}"))
        }
        "text" | "toml" => None,
        "" => Some("it names no language: text is prose".to_owned()),
        other => Some(format!("no test knows the language {other}")),
    }
}

/// Returns the paths of the documents for users, relative to the root.
fn paths() -> Vec<String> {
    let mut paths = vec!["README.md".to_owned()];
    for folder in ["ops/guides", "ops/runbooks"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    paths.sort();
    paths
}

fn blocks(path: &str) -> Vec<Block> {
    Block::parse(&read(path))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_block_without_a_language_with_an_unknown_one_or_with_an_unknown_mark_is_a_problem() {
    let problem_of = |document: &str| problem(&Block::parse(document)[0], true);
    assert_eq!(problem_of("```\nx\n```\n").as_deref(), Some("it names no language: text is prose"));
    assert_eq!(problem_of("```cobol\nx\n```\n").as_deref(), Some("no test knows the language cobol"));
    assert_eq!(problem_of("```sh not-run:later\nx\n```\n").as_deref(), Some("unknown mark not-run:later"));
    assert_eq!(problem_of("```sh not-run:needs-nginx\nx\n```\n"), None);
    assert_eq!(problem(&Block::parse("```sh\nx\n```\n")[0], false).as_deref(), Some("no test runs it"));
}
