//! The commands around a rollback: who approves it, who watches it, and what they look at before.

use ledger_tests::{Command, event};
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::execute::{NOTE, Story};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_waits_for_its_approval_and_is_watched_to_its_end() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    let policy = json!({"environment": "production", "policy": {"approvals": 1}});
    let client = story.service.client();
    client.recorded(&event("policy", "environment.declared", "2026-08-01T11:00:00Z", policy)).await;
    story.requested("production", "r-1", wanted).await;
    let url = format!("--url={}", story.service.url());
    let watch = Command::start(PROGRAM, &["rollback", "watch", "r-1", &url]);

    let early = story.executes("r-1", NOTE, &[]).await;
    let own = story.ran(&["rollback", "approve", "r-1", "--by=ada"]).await;
    let approved = story.ran(&["rollback", "approve", "r-1", "--by=bob", "--reason=go"]).await;
    let done = story.executes("r-1", NOTE, &["--parallel=2"]).await;
    let watched = watch.outcome().await;
    let late = story.ran(&["rollback", "cancel", "r-1", "--by=ada"]).await;

    assert_eq!(early.code, Some(1));
    assert!(early.stderr.contains("0 of 1 approvals"), "{}", early.stderr);
    assert_eq!(own.code, Some(1));
    assert!(own.stderr.contains("ada asked for the rollback"), "{}", own.stderr);
    assert_eq!((approved.code, done.code), (Some(0), Some(0)), "{}{}", approved.stderr, done.stderr);
    assert_eq!(watched.code, Some(0), "{}", watched.stderr);
    for words in ["rollback.requested r-1 by ada: it fails", "api@default  redeploy v2 -> v1: done"] {
        assert!(watched.stdout.contains(words), "{words}: {}", watched.stdout);
    }
    assert!(watched.stdout.ends_with("rollback r-1 of production has succeeded\n"), "{}", watched.stdout);
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("has succeeded already"), "{}", late.stderr);
}

#[tokio::test]
async fn a_rollback_that_is_called_off_is_not_executed() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    story.requested("production", "r-1", wanted).await;

    let second = story.ran(&["rollback", "request", "production", "--to=3", "--reason=x", "--by=bob"]).await;
    let cancelled = story.ran(&["rollback", "cancel", "r-1", "--by=bob", "--reason=never mind"]).await;
    let executed = story.executes("r-1", NOTE, &[]).await;
    let list = story.ran(&["rollback", "list", "--environment=production", "--phase=cancelled"]).await;

    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("r-1"), "{}", second.stderr);
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.stderr);
    assert_eq!(executed.code, Some(1));
    assert_eq!(executed.stderr, "error: rollback r-1 of production is cancelled: never mind\n");
    assert!(list.stdout.contains("r-1"), "{}", list.stdout);
}

#[tokio::test]
async fn points_are_marked_and_an_environment_is_looked_at_from_every_side() {
    let story = Story::begin().await;
    let wanted = story.history("production").await.to_string();
    let show = async |arguments: &[&str]| {
        let outcome = story.ran(arguments).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    };

    let mark = [
        "mark",
        "production",
        &wanted,
        "--as=known-good",
        "--name=before",
        "--reason=it held",
        "--by=ada",
        "--json",
    ];
    let marked: Value = serde_json::from_str(&show(&mark).await).expect("where it is");
    let wait = format!("--wait-for={}", marked["position"]);
    let points = show(&["points", "production", "--status=known-good", &wait]).await;
    let point = show(&["point", "production", "last-known-good"]).await;
    let plan = show(&["rollback", "plan", "production", "--to=point:before", "--service=web"]).await;
    let unmarked = show(&["unmark", "production", "point:before", "--reason=x", "--by=ada"]).await;
    let none = story.ran(&["unmark", "production", &wanted, "--reason=x", "--by=ada"]).await;
    let policy = show(&["policy", "production"]).await;
    let drift = show(&["drift", "production"]).await;
    let targets = show(&["targets", "production"]).await;
    let file = std::env::temp_dir().join(format!("manifest-{}.yaml", std::process::id()));
    let output = format!("--output={}", file.display());
    show(&["manifest", "production", "--at=-1", "--format=yaml", &output]).await;
    let written = std::fs::read_to_string(&file).expect("a manifest");
    std::fs::remove_file(&file).expect("removed");

    assert_eq!(marked["point"].to_string(), wanted);
    assert!(points.contains("known_good  before"), "{points}");
    assert!(point.contains("marked known_good as before by ada"), "{point}");
    assert!(plan.contains("web") && !plan.contains("api"), "{plan}");
    assert!(unmarked.contains("is not marked any more"), "{unmarked}");
    assert_eq!(none.code, Some(1));
    assert!(policy.contains("\"web\""), "{policy}");
    assert!(drift.contains("never observed: api@default"), "{drift}");
    assert!(targets.contains("every service runs the same at each"), "{targets}");
    assert!(written.contains("web"), "{written}");
}

#[tokio::test]
async fn what_people_decide_is_said_as_the_guide_says_it() {
    let story = Story::begin().await;
    story.history("production").await;
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
        let said = story.ran(arguments).await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.stderr);
    }
}

#[tokio::test]
async fn what_is_odd_about_a_report_is_said_where_it_is_reported() {
    let story = Story::begin().await;
    story.history("production").await;
    let of = |service: &'static str, more: &'static [&'static str]| {
        let mut arguments = vec!["--environment=production", service, "--version=v7"];
        arguments.extend(more);
        arguments
    };
    let emit = async |arguments: Vec<&str>| {
        story.ran(&[&["emit", "deploy.succeeded"][..], &arguments].concat()).await
    };

    let new = emit(of("--service=serach", &[])).await;
    emit(of("--service=serach", &["--target=eu"])).await;
    let ambiguous = emit(of("--service=serach", &[])).await;
    let url = format!("--url={}", story.service.url());
    let wrapped = [&["run", &url][..], &of("--service=serach", &["--", "true"])].concat();
    let wrapped = Command::start(PROGRAM, &wrapped).outcome().await;

    assert!(new.stderr.contains("first event of this service, target"), "{}", new.stderr);
    assert!(new.stderr.contains("v7 is live"), "{}", new.stderr);
    for said in [ambiguous, wrapped] {
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stderr.contains("it changed nothing"), "{}", said.stderr);
        assert!(said.stderr.contains("--target: default, eu"), "{}", said.stderr);
    }
}
