//! Imports of the histories of other tools by the command: a GitOps repository, and exported tables.

use std::path::Path;

use ledger_tests::{Command, Outcome, Servers, Service, Story};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Runs git in a repository, with fixed identities and this time.
fn git(repository: &Path, minute: u32, arguments: &[&str]) {
    let time = format!("2026-03-01T12:{minute:02}:00Z");
    let run = std::process::Command::new("git")
        .args(arguments)
        .current_dir(repository)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("GIT_AUTHOR_NAME", "Mira"), ("GIT_AUTHOR_EMAIL", "mira@example.com")])
        .envs([("GIT_COMMITTER_NAME", "Mira"), ("GIT_COMMITTER_EMAIL", "mira@example.com")])
        .envs([("GIT_AUTHOR_DATE", &time), ("GIT_COMMITTER_DATE", &time)])
        .output()
        .expect("git runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

fn commit(repository: &Path, minute: u32, service: &str, content: Option<&str>) {
    let file = repository.join(format!("charts/{service}/production.yaml"));
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
    match content {
        Some(content) => std::fs::write(&file, content).expect("written"),
        None => std::fs::remove_file(&file).expect("removed"),
    }
    git(repository, minute, &["add", "--all"]);
    git(repository, minute, &["commit", "--quiet", "--message", &format!("Change {service}")]);
}

async fn import(service: &Service, arguments: &[&str]) -> Outcome {
    let url = format!("--url={}", service.url());
    let all: Vec<&str> = ["import"].into_iter().chain(arguments.iter().copied()).chain([&*url]).collect();
    Command::start(PROGRAM, &all).outcome().await
}

fn summary(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("a summary")
}

#[tokio::test]
async fn the_history_of_a_gitops_repository_is_imported_once_and_continued() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let repository = servers.folder().join("gitops");
    std::fs::create_dir(&repository).expect("created");
    git(&repository, 0, &["init", "--quiet", "--initial-branch=main"]);
    commit(&repository, 1, "web", Some("image:\n  tag: v1\n"));
    commit(&repository, 2, "api", Some("image:\n  tag: \"1.10\"\n"));
    commit(&repository, 3, "web", Some("image:\n  tag: v2\n"));
    let path = repository.display().to_string();
    let common = [
        "gitops",
        &*path,
        "--path=charts/{service}/{environment}.yaml",
        "--field=image.tag",
        "--source=urn:git:shop",
    ];
    let with =
        |more: &[&'static str]| -> Vec<&str> { common.iter().copied().chain(more.iter().copied()).collect() };

    let planned = import(&service, &with(&["--dry-run"])).await;
    let first = import(&service, &with(&["--json"])).await;
    commit(&repository, 4, "api", None);
    commit(&repository, 5, "web", Some("image: {tag: [broken\n"));
    let broken = import(&service, &with(&["--json"])).await;
    let second = import(&service, &with(&["--json", "--skip-invalid"])).await;

    assert_eq!(
        planned.stdout, "3 events would be recorded\n       3  deploy.succeeded\n",
        "{}",
        planned.stderr
    );
    assert_eq!(summary(&first)["recorded"], 3);
    assert_eq!(broken.code, Some(1));
    assert!(broken.stderr.contains("charts/web/production.yaml"), "{}", broken.stderr);
    let second = summary(&second);
    assert_eq!((&second["recorded"], &second["duplicates"]), (&json!(1), &json!(3)), "{second}");
    let position = second["position"].as_u64().expect("a position");
    let story = Story::on(&service.client());
    let state = story.get(&format!("state?wait_for={position}")).await;
    let lanes = state["lanes"].as_array().expect("lanes");
    assert_eq!(lanes.len(), 1, "{state}");
    assert_eq!(
        (&lanes[0]["service"], &lanes[0]["release"]["version"]),
        (&json!("web"), &json!("v2")),
        "{state}"
    );
    let before = story.get("state?at=2026-03-01T12:02:30Z").await;
    assert_eq!(before["lanes"][0]["release"]["version"], "1.10", "the spelling of the file: {before}");
}

#[tokio::test]
async fn a_plan_and_an_import_without_events_are_json_if_asked_for() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let repository = servers.folder().join("gitops");
    std::fs::create_dir(&repository).expect("created");
    git(&repository, 0, &["init", "--quiet", "--initial-branch=main"]);
    commit(&repository, 1, "web", Some("image:\n  tag: v1\n"));
    let path = repository.display().to_string();
    let of = |pattern: &'static str| {
        ["gitops", &*path, pattern, "--field=image.tag", "--source=urn:git:shop", "--json"]
    };
    let charts = of("--path=charts/{service}/{environment}.yaml");
    let planned: Vec<&str> = charts.into_iter().chain(["--dry-run"]).collect();

    let planned = import(&service, &planned).await;
    let empty = import(&service, &of("--path=elsewhere/{service}/{environment}.yaml")).await;

    let plan = json!({"events": 1, "kinds": {"deploy.succeeded": 1}, "ignored": 0, "problems": 0});
    assert_eq!(summary(&planned), plan);
    let empty = summary(&empty);
    assert_eq!((&empty["rows"], &empty["recorded"]), (&json!(0), &json!(0)), "{empty}");
}

#[tokio::test]
async fn a_table_that_is_exported_again_with_more_rows_records_only_the_new_ones() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let file = servers.folder().join("deploys.csv");
    let path = file.display().to_string();
    let arguments = [
        "csv",
        &path,
        "--map=time=When",
        "--map=environment=Stage",
        "--map=service=App",
        "--map=version=Tag",
        "--map=outcome=Result",
        "--outcome=OK=succeeded",
        "--map-environment=PROD=production",
        "--json",
    ];
    let rows = "2026-03-01T12:01:00Z,PROD,web,v1,OK\r\n2026-03-01T12:02:00Z,PROD,web,v2,OK\r\n";
    std::fs::write(&file, format!("\u{feff}When,Stage,App,Tag,Result\r\n{rows}")).expect("written");
    let first = import(&service, &arguments).await;
    let more = format!("When,Stage,App,Tag,Result\n2026-03-01T12:00:00Z,PROD,web,v0,OK\n{rows}");
    std::fs::write(&file, more).expect("written");
    let second = import(&service, &arguments).await;
    std::fs::write(&file, "When,Stage,App,Tag,Result\n2026-03-01T12:00:00Z,PROD,web,v0,perhaps\n")
        .expect("written");
    let invalid = import(&service, &arguments).await;

    assert_eq!(summary(&first)["recorded"], 2);
    let second = summary(&second);
    assert_eq!((&second["recorded"], &second["duplicates"]), (&json!(1), &json!(2)), "{second}");
    assert_eq!(invalid.code, Some(1));
    assert!(invalid.stderr.starts_with("row 2: "), "{}", invalid.stderr);
    assert!(
        invalid.stderr.ends_with("error: nothing is recorded: 1 problem; --skip-invalid records the rest\n")
    );
}
