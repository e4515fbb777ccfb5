//! `release-ledger run`: a deploy goes as if nobody watched, and the ledger has its start and its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use ledger_tests::Outcome;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::PROGRAM;
use crate::spool::Ledger;

const DEPLOY: [&str; 4] = ["run", "--environment=production", "--service=web", "--version=v1"];

/// What a run said on stderr, apart from what the ledger says of its report, such as that it is the first of its service.
fn without_notes(ran: &Outcome) -> String {
    let lines = ran.stderr.lines().filter(|line| !line.starts_with("release-ledger: the report: "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_deploy_is_told_with_its_duration_its_exit_code_and_what_the_ci_knows() {
    let ledger = Ledger::start().await;
    let ran =
        ledger.run(&["--target", "eu-west-1", "--reason", "Release of 1 August."], "cat; echo done").await;

    assert_eq!((ran.code, &*ran.stdout, &*without_notes(&ran)), (Some(0), "done\n", ""));
    let [started, succeeded] = &ledger.events().await[..] else { panic!("two events") };
    let run = json!({
        "environment": "production",
        "target": "eu-west-1",
        "service": "web",
        "deployment": "github-1658821493-2",
        "release": {"version": "v1", "commit": "6973793ef3442b763e3f66547344994e5c778d6c"},
        "actor": {"type": "person", "name": "ada"},
        "reason": "Release of 1 August.",
        "links": [{"rel": "pipeline", "href": "https://github.com/acme/web/actions/runs/1658821493/attempts/2"}],
    });
    assert_eq!((&started["type"], &started["data"]), (&json!("io.releaseledger.deploy.started.v1"), &run));
    assert_eq!(succeeded["type"], "io.releaseledger.deploy.succeeded.v1");
    let mut data = succeeded["data"].clone();
    assert!(data["duration_ms"].is_u64() && data["exit_code"] == 0, "{data}");
    for member in ["duration_ms", "exit_code"] {
        data.as_object_mut().expect("an object").remove(member);
    }
    assert_eq!(data, run);
    assert_ne!(started["id"], succeeded["id"]);
    assert_eq!(ledger.version().await, "v1");
}

#[tokio::test]
async fn a_deploy_that_fails_is_told_as_failed_and_ends_as_its_command_does() {
    let ledger = Ledger::start().await;
    let ran = ledger.run(&["--no-ci"], "exit 3").await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(3), ""));
    let failed = &ledger.events().await[1];
    assert_eq!(failed["type"], "io.releaseledger.deploy.failed.v1");
    assert_eq!(
        (&failed["data"]["exit_code"], &failed["data"]["reason"]),
        (&json!(3), &json!("sh ended with exit status: 3"))
    );
    assert!(failed["data"]["duration_ms"].is_u64() && failed["data"]["deployment"].is_null(), "{failed}");

    let missing = ledger.run_command(&[], &["/nowhere/deploy"]).outcome().await;
    assert_eq!(missing.code, Some(127), "{}", missing.stderr);
    assert_eq!(ledger.events().await[3]["data"]["exit_code"], 127);
}

#[tokio::test]
async fn a_ledger_that_is_down_changes_nothing_for_a_deploy_and_learns_of_it_later() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let ran = ledger.run(&["--patience=1"], "echo done; exit 4").await;
    assert_eq!((ran.code, &*ran.stdout), (Some(4), "done\n"));
    assert!(
        ran.stderr.starts_with("release-ledger: spooled: the reports of the deploy are kept in "),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert_eq!(ledger.run(&["--patience=1"], "true").await.code, Some(0));

    ledger.service.start_again().await;
    let emitted = ledger.command(&[
        "emit",
        "validation.passed",
        "--environment=production",
        "--data={\"check\":\"smoke\"}",
    ]);
    assert_eq!(emitted.outcome().await.code, Some(0));

    let events = ledger.events().await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    let expected =
        ["deploy.started", "deploy.failed", "deploy.started", "deploy.succeeded", "validation.passed"];
    assert_eq!(kinds, expected.map(|kind| format!("io.releaseledger.{kind}.v1")));
    let times: Vec<_> = events.iter().map(|event| event["time"].as_str().expect("a time")).collect();
    assert!(times.is_sorted() && times[0] < times[1], "{times:?}");
}

#[tokio::test]
async fn a_run_that_is_killed_has_kept_its_start() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let mut run = ledger.run_command(&[], &["sh", "-c", "echo begun; exec cat"]);
    run.says("begun").await;
    run.child.kill().await.expect("killed");

    ledger.service.start_again().await;
    assert_eq!(ledger.command(&["spool", "send"]).outcome().await.code, Some(0));
    assert_eq!(ledger.command(&["spool", "send"]).outcome().await.code, Some(0));
    let events = ledger.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "io.releaseledger.deploy.started.v1");
}

#[tokio::test]
async fn a_strict_deploy_does_not_begin_before_its_start_is_recorded() {
    let mut ledger = Ledger::start().await;
    let began = ledger.servers.folder().join("began");
    let command = format!("touch {}", began.display());
    ledger.service.kill().await;
    let refused = ledger.run(&["--strict", "--patience=1"], &command).await;
    assert_eq!(refused.code, Some(125));
    assert!(
        refused.stderr.starts_with("error: the command is not run: its start is not recorded: "),
        "{}",
        refused.stderr
    );
    assert!(!began.exists());

    ledger.service.start_again().await;
    assert_eq!(ledger.run(&["--strict"], &command).await.code, Some(0));
    assert!(began.exists());
    // The deploy that was not run is told as one that came to nothing.
    let kinds: Vec<_> = ledger.events().await.iter().map(|event| event["type"].clone()).collect();
    let expected = ["started", "failed", "started", "succeeded"];
    assert_eq!(kinds, expected.map(|verb| json!(format!("io.releaseledger.deploy.{verb}.v1"))));
}

#[tokio::test]
async fn a_strict_deploy_fails_if_its_end_is_not_recorded() {
    let mut ledger = Ledger::start().await;
    let mut run = ledger.run_command(&["--strict", "--patience=1"], &["sh", "-c", "echo begun; cat; exit 0"]);
    run.says("begun").await;
    ledger.service.kill().await;
    let ran = run.outcome().await;
    assert_eq!(ran.code, Some(125));
    assert!(
        ran.stderr.contains("the command ended well, but that is not recorded: spooled: "),
        "{}",
        ran.stderr
    );

    ledger.service.start_again().await;
    assert_eq!(ledger.command(&["spool", "send"]).outcome().await.code, Some(0));
    assert_eq!(ledger.version().await, "v1");
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_end_is_told_all_the_same() {
    let ledger = Ledger::start().await;
    for (signal, code, trap) in [
        (rustix::process::Signal::TERM, 143, ""),
        (rustix::process::Signal::INT, 130, "trap - INT; "),
        (rustix::process::Signal::HUP, 129, ""),
        (rustix::process::Signal::QUIT, 131, "ulimit -c 0; "),
        (rustix::process::Signal::TERM, 7, "trap 'exit 7' TERM; "),
        (rustix::process::Signal::HUP, 7, "trap 'exit 7' HUP; "),
    ] {
        // The shell waits in a way that a trap interrupts.
        let script = format!("exec 3<&0; {trap}cat <&3 & echo begun; wait; exit 1");
        let mut run = ledger.run_command(&[], &["sh", "-c", &script]);
        run.says("begun").await;
        run.signal(signal);
        let ran = run.ended_by_itself().await;
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        let events = ledger.events().await;
        let failed = events.last().expect("an event");
        assert_eq!(
            (&failed["type"], &failed["data"]["exit_code"]),
            (&json!("io.releaseledger.deploy.failed.v1"), &json!(code))
        );
    }
}

#[tokio::test]
async fn under_nohup_a_deploy_and_its_command_ignore_a_hang_up() {
    let ledger = Ledger::start().await;
    let script = ["sh", "-c", "echo begun; kill -HUP $$; cat; exit 5"];
    let deploy = [&["--ignore-signal=HUP", PROGRAM], &DEPLOY[..], &["--"], &script[..]].concat();
    let mut run = ledger.started("env", &deploy, &[]);
    run.says("begun").await;

    run.signal(rustix::process::Signal::HUP);
    let ran = run.outcome().await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(5), ""));
    let events = ledger.events().await;
    let failed = &events[1];
    assert_eq!(failed["type"], "io.releaseledger.deploy.failed.v1");
    assert_eq!(failed["data"]["exit_code"], 5);
}

#[tokio::test]
async fn without_a_spool_a_deploy_is_run_and_told_all_the_same() {
    let mut ledger = Ledger::start().await;
    // A file is no folder.
    std::fs::write(ledger.spool(), "").expect("written");
    let ran = ledger.run(&[], "echo done").await;
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "done\n"));
    assert!(
        ran.stderr.starts_with(
            "release-ledger: a report is not kept for later, and lost if it cannot be sent now: "
        ),
        "{}",
        ran.stderr
    );
    assert_eq!(ledger.events().await.len(), 2);

    ledger.service.kill().await;
    let ran = ledger.run(&["--patience=1"], "exit 5").await;
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.contains("are not sent, and lost: "), "{}", ran.stderr);
}

#[tokio::test]
async fn what_is_no_deploy_is_told_before_anything_is_run() {
    let ledger = Ledger::start().await;
    let began = ledger.servers.folder().join("began");
    let wrong = ledger.run(&["--artifact", "web:latest"], &format!("touch {}", began.display())).await;
    assert_eq!(wrong.code, Some(125));
    assert!(
        wrong.stderr.starts_with("error: this is not a deploy: /data/release/artifact: "),
        "{}",
        wrong.stderr
    );
    assert!(!began.exists() && !Path::new(&ledger.spool()).exists());
}

#[tokio::test]
async fn a_spool_that_somebody_holds_holds_no_deploy_up() {
    let ledger = Ledger::start().await;
    assert_eq!(ledger.run(&[], "true").await.code, Some(0));
    let held = std::fs::File::open(ledger.kept("adding")).expect("opened");
    held.lock().expect("nobody else adds");

    let ran = ledger.run(&["--patience=1"], "echo done; exit 4").await;

    assert_eq!((ran.code, &*ran.stdout), (Some(4), "done\n"));
    assert!(ran.stderr.starts_with("release-ledger: a report is not kept for later"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    drop(held);
    let kinds: Vec<_> = ledger.events().await.iter().map(|event| event["type"].clone()).collect();
    let expected = ["started", "succeeded", "started", "failed"];
    assert_eq!(kinds, expected.map(|verb| json!(format!("io.releaseledger.deploy.{verb}.v1"))));
}

#[tokio::test]
async fn a_spool_that_hangs_holds_no_deploy_up() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    assert_eq!(ledger.run(&["--patience=1"], "true").await.code, Some(0));
    // Nobody writes to it: whoever reads it waits for ever.
    let hanging = ledger.kept("waiting").join(format!("{:012}-{:032}.json", 0, 0));
    rustix::fs::mkfifoat(rustix::fs::CWD, &hanging, rustix::fs::Mode::RWXU).expect("a pipe");
    ledger.service.start_again().await;

    let ran = ledger.run(&["--patience=1"], "echo done; exit 4").await;

    assert_eq!((ran.code, &*ran.stdout), (Some(4), "done\n"));
    // Whoever comes to it first, beside the command or after it, hangs there; who comes second is told of that one.
    let told = ["hangs: the reports of the deploy may be lost", "another process sends what waits already"];
    assert!(told.iter().any(|told| ran.stderr.contains(told)), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[tokio::test]
async fn a_signal_around_the_commands_end_does_not_keep_its_report_from_being_sent() {
    let ledger = Ledger::start().await;

    let ran = ledger.run(&[], "kill -TERM $PPID; kill -KILL $$").await;

    assert!(ran.code == Some(137) || ran.code == Some(143), "{ran:?}");
    assert_eq!(ledger.events().await[1]["type"], "io.releaseledger.deploy.failed.v1");
}

#[tokio::test]
async fn an_image_without_certificates_deploys_all_the_same() {
    let ledger = Ledger::start().await;
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")];
    let deploy = |url: &str| {
        let arguments = [&DEPLOY, &["--url", url, "--", "echo", "done"][..]].concat();
        ledger.started(PROGRAM, &arguments, &none).outcome()
    };

    let plain = deploy(&ledger.service.url()).await;
    let encrypted = deploy("https://127.0.0.1:1").await;

    assert_eq!((plain.code, &*plain.stdout, &*without_notes(&plain)), (Some(0), "done\n", ""));
    assert_eq!(ledger.events().await.len(), 2);
    assert_eq!((encrypted.code, &*encrypted.stdout), (Some(0), "done\n"));
    assert!(encrypted.stderr.contains("spooled: "), "{}", encrypted.stderr);
    assert!(encrypted.stderr.contains("the HTTP client cannot be set up: "), "{}", encrypted.stderr);
}

#[tokio::test]
async fn whoever_passes_over_the_ends_of_children_gets_the_commands_status() {
    let ledger = Ledger::start().await;
    let deploy = [&["--ignore-signal=CHLD", PROGRAM], &DEPLOY[..], &["--", "true"]].concat();

    let ran = ledger.started("env", &deploy, &[]).outcome().await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(0), ""));
    assert_eq!(ledger.events().await[1]["type"], "io.releaseledger.deploy.succeeded.v1");
}

#[tokio::test]
async fn variables_that_are_empty_say_nothing_and_what_is_misunderstood_ends_with_125() {
    let ledger = Ledger::start().await;
    let home = ledger.servers.folder().join("home");
    let variables = [
        ("RELEASE_LEDGER_TENANT", ""),
        ("RELEASE_LEDGER_SPOOL", ""),
        ("XDG_STATE_HOME", ""),
        ("HOME", home.to_str().expect("a path")),
    ];
    let deploy = [&DEPLOY, &["--", "true"][..]].concat();

    let ran = ledger.started(PROGRAM, &deploy, &variables).outcome().await;
    let misunderstood = ledger.run(&["--nonsense"], "true").await;
    let empty = ledger.run(&["--tenant", ""], "true").await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(0), ""));
    assert_eq!(ledger.events().await.len(), 2);
    assert!(home.join(".local/state/release-ledger/spool").exists());
    assert_eq!(misunderstood.code, Some(125), "{}", misunderstood.stderr);
    assert!(misunderstood.stderr.contains("--nonsense"), "{}", misunderstood.stderr);
    assert_eq!(empty.code, Some(125), "{}", empty.stderr);
}

/// The program, run by a job of GitHub Actions.
struct Running {
    child: Child,
}

impl Running {
    /// Waits until it prints this line.
    async fn says(&mut self, line: &str) {
        let mut output = BufReader::new(self.child.stdout.take().expect("its output"));
        let mut text = String::new();
        output.read_line(&mut text).await.expect("a line");
        assert_eq!(text.trim_end(), line);
        // Closed, it would end whoever writes to it.
        self.child.stdout = Some(output.into_inner());
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let process = id.and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(process, signal).expect("signalled");
    }

    /// The outcome of what ends although its stdin does not.
    async fn ended_by_itself(mut self) -> Outcome {
        let stdin = self.child.stdin.take();
        self.child.wait().await.expect("its status");
        drop(stdin);
        self.outcome().await
    }

    async fn outcome(mut self) -> Outcome {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().await.expect("its output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ledger {
    fn command(&self, arguments: &[&str]) -> Running {
        self.started(PROGRAM, arguments, &[])
    }

    fn started(&self, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let child = Command::new(program)
            .args(arguments)
            .env("RELEASE_LEDGER_URL", self.service.url())
            .env("RELEASE_LEDGER_SPOOL", self.spool())
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_SHA", "6973793ef3442b763e3f66547344994e5c778d6c")
            .env("GITHUB_RUN_ID", "1658821493")
            .env("GITHUB_RUN_ATTEMPT", "2")
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", "acme/web")
            .env("GITHUB_ACTOR", "ada")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Of no terminal: whoever runs the tests in one would stand in the way of SIGINT.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        Running { child: child.expect("the program starts") }
    }

    fn run_command(&self, flags: &[&str], command: &[&str]) -> Running {
        self.command(&[&DEPLOY, flags, &["--"], command].concat())
    }

    async fn run(&self, flags: &[&str], script: &str) -> Outcome {
        self.run_command(flags, &["sh", "-c", script]).outcome().await
    }

    /// What has this name in the ledger's part of the spool.
    fn kept(&self, name: &str) -> PathBuf {
        let folders =
            std::fs::read_dir(self.spool()).expect("a spool").map(|entry| entry.expect("one").path());
        folders.map(|folder| folder.join(name)).find(|path| path.exists()).expect("it was made")
    }

    /// All events, in the ledger's order.
    async fn events(&self) -> Vec<Value> {
        let client = self.service.client();
        client.projections_at(client.position().await.1).await;
        client.entries().await.into_iter().map(|entry| entry["event"].clone()).collect()
    }

    /// What runs in production.
    async fn version(&self) -> String {
        let client = self.service.client();
        client.projections_at(client.position().await.1).await;
        let state = client.get("/v1/environments/production/state").await.ok();
        state["lanes"][0]["release"]["version"].as_str().unwrap_or_default().to_owned()
    }
}
