//! The commands around a rollback: approving, watching, and inspecting an environment.

use ledger_tests::{Command, event};
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::execute::{NOTE_STEP, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_waits_for_its_approval_and_is_watched_until_it_ends() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    let policy = json!({"environment": "production", "policy": {"approvals": 1}});
    let client = setup.service.client();
    client.record_and_wait(&event("policy", "environment.declared", "2026-08-01T11:00:00Z", policy)).await;
    setup.request_rollback("production", "r-1", target).await;
    let url = format!("--url={}", setup.service.url());
    let watch = Command::start(PROGRAM, &["rollback", "watch", "r-1", &url]);

    let early = setup.execute("r-1", NOTE_STEP, &[]).await;
    let own = setup.run(&["rollback", "approve", "r-1", "--by=ada"]).await;
    let approved = setup.run(&["rollback", "approve", "r-1", "--by=bob", "--reason=go"]).await;
    let done = setup.execute("r-1", NOTE_STEP, &["--parallel=2"]).await;
    let watched = watch.outcome().await;
    let late = setup.run(&["rollback", "cancel", "r-1", "--by=ada"]).await;

    assert_eq!(early.code, Some(1));
    assert!(early.stderr.contains("0 of 1 approvals"), "{}", early.stderr);
    assert_eq!(own.code, Some(1));
    assert!(own.stderr.contains("ada requested the rollback"), "{}", own.stderr);
    assert_eq!((approved.code, done.code), (Some(0), Some(0)), "{}{}", approved.stderr, done.stderr);
    assert_eq!(watched.code, Some(0), "{}", watched.stderr);
    for words in ["rollback.requested r-1 by ada: it fails", "api@default  redeploy v2 -> v1: done"] {
        assert!(watched.stdout.contains(words), "{words}: {}", watched.stdout);
    }
    assert!(watched.stdout.ends_with("rollback r-1 of production has succeeded\n"), "{}", watched.stdout);
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("has already ended (succeeded)"), "{}", late.stderr);
}

#[tokio::test]
async fn a_cancelled_rollback_is_not_executed() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    setup.request_rollback("production", "r-1", target).await;

    let second = setup.run(&["rollback", "request", "production", "--to=3", "--reason=x", "--by=bob"]).await;
    let cancelled = setup.run(&["rollback", "cancel", "r-1", "--by=bob", "--reason=never mind"]).await;
    let executed = setup.execute("r-1", NOTE_STEP, &[]).await;
    let list = setup.run(&["rollback", "list", "--environment=production", "--phase=cancelled"]).await;

    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("r-1"), "{}", second.stderr);
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.stderr);
    assert_eq!(executed.code, Some(1));
    assert_eq!(executed.stderr, "error: rollback r-1 of production is cancelled: never mind\n");
    assert!(list.stdout.contains("r-1"), "{}", list.stdout);
}

#[tokio::test]
async fn points_are_marked_and_an_environment_is_inspected_with_every_command() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await.to_string();
    let show = async |arguments: &[&str]| {
        let outcome = setup.run(arguments).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    };

    let mark = [
        "mark",
        "production",
        &target,
        "--as=known-good",
        "--name=before",
        "--reason=it held",
        "--by=ada",
        "--json",
    ];
    let marked: Value = serde_json::from_str(&show(&mark).await).expect("the position");
    let wait = format!("--wait-for={}", marked["position"]);
    let points = show(&["points", "production", "--status=known-good", &wait]).await;
    let point = show(&["point", "production", "last-known-good"]).await;
    let plan = show(&["rollback", "plan", "production", "--to=point:before", "--service=web"]).await;
    let unmarked = show(&["unmark", "production", "point:before", "--reason=x", "--by=ada"]).await;
    let none = setup.run(&["unmark", "production", &target, "--reason=x", "--by=ada"]).await;
    let policy = show(&["policy", "show", "production"]).await;
    let drift = show(&["drift", "production"]).await;
    let targets = show(&["targets", "production"]).await;
    let file = std::env::temp_dir().join(format!("manifest-{}.yaml", std::process::id()));
    let output = format!("--output={}", file.display());
    show(&["manifest", "production", "--at=-1", "--format=yaml", &output]).await;
    let written = std::fs::read_to_string(&file).expect("a manifest");
    std::fs::remove_file(&file).expect("removed");

    assert_eq!(marked["point"].to_string(), target);
    assert!(points.contains("known_good  before"), "{points}");
    assert!(point.contains("marked known_good as before by ada"), "{point}");
    assert!(plan.contains("web") && !plan.contains("api"), "{plan}");
    assert!(unmarked.contains("is no longer marked"), "{unmarked}");
    assert_eq!(none.code, Some(1));
    assert!(policy.contains("\"web\""), "{policy}");
    assert!(drift.contains("never observed: api@default"), "{drift}");
    assert!(targets.contains("every service runs the same release at every target"), "{targets}");
    assert!(written.contains("web"), "{written}");
}

#[tokio::test]
async fn decisions_of_people_are_recorded_with_the_commands_in_the_guide() {
    let setup = Setup::start().await;
    setup.record_history("production").await;
    let artifact = "pkg:oci/api@sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc";
    let artifact = format!("--artifact={artifact}");
    let (mira, noa) = ("--actor=person:mira", "--actor=person:noa");
    let freeze = "--data={\"freeze_id\": \"inventory\"}";
    for arguments in [
        &["emit", "freeze.started", "--environment=production", mira, freeze][..],
        &["emit", "freeze.lifted", "--environment=production", mira, freeze],
        &["emit", "approval.granted", "--environment=production", "--service=api", "--version=v2", noa],
        &["emit", "artifact.revoked", mira, "--reason=It leaks.", &artifact],
        &["emit", "artifact.reinstated", mira, "--reason=It does not.", &artifact],
    ] {
        let outcome = setup.run(arguments).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
    }
}

#[tokio::test]
async fn anomalies_of_an_event_are_printed_by_emit_and_run() {
    let setup = Setup::start().await;
    setup.record_history("production").await;
    let of = |service: &'static str, more: &'static [&'static str]| {
        let mut arguments = vec!["--environment=production", service, "--version=v7"];
        arguments.extend(more);
        arguments
    };
    let emit = async |arguments: Vec<&str>| {
        setup.run(&[&["emit", "deploy.succeeded"][..], &arguments].concat()).await
    };

    let new = emit(of("--service=serach", &[])).await;
    emit(of("--service=serach", &["--target=eu"])).await;
    let ambiguous = emit(of("--service=serach", &[])).await;
    let url = format!("--url={}", setup.service.url());
    let wrapped = [&["run", &url][..], &of("--service=serach", &["--", "true"])].concat();
    let wrapped = Command::start(PROGRAM, &wrapped).outcome().await;

    assert!(new.stderr.contains("first event of this service, target"), "{}", new.stderr);
    assert!(new.stderr.contains("v7 is live"), "{}", new.stderr);
    for outcome in [ambiguous, wrapped] {
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("it changed nothing"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("--target: default, eu"), "{}", outcome.stderr);
    }
}
