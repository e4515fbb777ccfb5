//! `release-ledger run`: a deploy is not affected by the recording, and the ledger has its start and its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use ledger_tests::Outcome;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::PROGRAM;
use crate::spool::Ledger;

const DEPLOY: [&str; 4] = ["run", "--environment=production", "--service=web", "--version=v1"];

/// Returns the standard error of a run without the ledger's notes, such as the one about a service's first event.
fn without_notes(ran: &Outcome) -> String {
    let lines = ran.stderr.lines().filter(|line| !line.starts_with("release-ledger: the report: "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_deploy_is_recorded_with_its_duration_exit_code_and_ci_metadata() {
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
async fn a_failed_deploy_is_recorded_and_exits_like_its_command() {
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
async fn a_deploy_runs_while_the_ledger_is_down_and_is_recorded_later() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let ran = ledger.run(&["--retry-for=1"], "echo done; exit 4").await;
    assert_eq!((ran.code, &*ran.stdout), (Some(4), "done\n"));
    assert!(
        ran.stderr.starts_with("release-ledger: spooled: the deploy's reports are in "),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert_eq!(ledger.run(&["--retry-for=1"], "true").await.code, Some(0));

    ledger.service.restart().await;
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
async fn a_killed_run_has_spooled_its_start() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let mut run = ledger.run_command(&[], &["sh", "-c", "echo started; exec cat"]);
    run.wait_for_line("started").await;
    run.child.kill().await.expect("killed");

    ledger.service.restart().await;
    assert_eq!(ledger.command(&["spool", "send"]).outcome().await.code, Some(0));
    assert_eq!(ledger.command(&["spool", "send"]).outcome().await.code, Some(0));
    let events = ledger.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "io.releaseledger.deploy.started.v1");
}

#[tokio::test]
async fn a_strict_deploy_does_not_run_before_its_start_is_recorded() {
    let mut ledger = Ledger::start().await;
    let marker = ledger.servers.folder().join("began");
    let command = format!("touch {}", marker.display());
    ledger.service.kill().await;
    let failed = ledger.run(&["--strict", "--retry-for=1"], &command).await;
    assert_eq!(failed.code, Some(125));
    assert!(
        failed.stderr.starts_with("error: did not run the command: its start is not recorded: "),
        "{}",
        failed.stderr
    );
    assert!(!marker.exists());

    ledger.service.restart().await;
    assert_eq!(ledger.run(&["--strict"], &command).await.code, Some(0));
    assert!(marker.exists());
    // The deploy that did not run is recorded as failed.
    let kinds: Vec<_> = ledger.events().await.iter().map(|event| event["type"].clone()).collect();
    let expected = ["started", "failed", "started", "succeeded"];
    assert_eq!(kinds, expected.map(|verb| json!(format!("io.releaseledger.deploy.{verb}.v1"))));
}

#[tokio::test]
async fn a_strict_deploy_fails_if_its_end_is_not_recorded() {
    let mut ledger = Ledger::start().await;
    let mut run =
        ledger.run_command(&["--strict", "--retry-for=1"], &["sh", "-c", "echo started; cat; exit 0"]);
    run.wait_for_line("started").await;
    ledger.service.kill().await;
    let ran = run.outcome().await;
    assert_eq!(ran.code, Some(125));
    assert!(
        ran.stderr.contains("the command succeeded, but its end is not recorded: spooled: "),
        "{}",
        ran.stderr
    );

    ledger.service.restart().await;
    assert_eq!(ledger.command(&["spool", "send"]).outcome().await.code, Some(0));
    assert_eq!(ledger.version().await, "v1");
}

#[tokio::test]
async fn rule_29_signals_are_forwarded_and_the_end_is_recorded() {
    let ledger = Ledger::start().await;
    for (signal, code, trap) in [
        (rustix::process::Signal::TERM, 143, ""),
        (rustix::process::Signal::INT, 130, "trap - INT; "),
        (rustix::process::Signal::HUP, 129, ""),
        (rustix::process::Signal::QUIT, 131, "ulimit -c 0; "),
        (rustix::process::Signal::TERM, 7, "trap 'exit 7' TERM; "),
        (rustix::process::Signal::HUP, 7, "trap 'exit 7' HUP; "),
    ] {
        // The shell waits in a way that a trap can interrupt.
        let script = format!("exec 3<&0; {trap}cat <&3 & echo started; wait; exit 1");
        let mut run = ledger.run_command(&[], &["sh", "-c", &script]);
        run.wait_for_line("started").await;
        run.signal(signal);
        let ran = run.outcome_with_open_stdin().await;
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
async fn rule_29_under_nohup_a_deploy_and_its_command_ignore_sighup() {
    let ledger = Ledger::start().await;
    let script = ["sh", "-c", "echo started; kill -HUP $$; cat; exit 5"];
    let deploy = [&["--ignore-signal=HUP", PROGRAM], &DEPLOY[..], &["--"], &script[..]].concat();
    let mut run = ledger.start_program("env", &deploy, &[]);
    run.wait_for_line("started").await;

    run.signal(rustix::process::Signal::HUP);
    let ran = run.outcome().await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(5), ""));
    let events = ledger.events().await;
    let failed = &events[1];
    assert_eq!(failed["type"], "io.releaseledger.deploy.failed.v1");
    assert_eq!(failed["data"]["exit_code"], 5);
}

#[tokio::test]
async fn without_a_spool_a_deploy_runs_and_is_recorded() {
    let mut ledger = Ledger::start().await;
    // A file instead of the spool's folder.
    std::fs::write(ledger.spool(), "").expect("written");
    let ran = ledger.run(&[], "echo done").await;
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "done\n"));
    assert!(
        ran.stderr
            .starts_with("release-ledger: cannot spool a report; it is lost unless it can be sent now: "),
        "{}",
        ran.stderr
    );
    assert_eq!(ledger.events().await.len(), 2);

    ledger.service.kill().await;
    let ran = ledger.run(&["--retry-for=1"], "exit 5").await;
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.contains("are neither sent nor spooled: "), "{}", ran.stderr);
}

#[tokio::test]
async fn an_invalid_deploy_is_rejected_before_the_command_runs() {
    let ledger = Ledger::start().await;
    let marker = ledger.servers.folder().join("began");
    let wrong = ledger.run(&["--artifact", "web:latest"], &format!("touch {}", marker.display())).await;
    assert_eq!(wrong.code, Some(125));
    assert!(wrong.stderr.starts_with("error: invalid deploy: --artifact: "), "{}", wrong.stderr);
    assert!(!marker.exists() && !Path::new(&ledger.spool()).exists());
}

#[tokio::test]
async fn a_locked_spool_does_not_delay_a_deploy() {
    let ledger = Ledger::start().await;
    assert_eq!(ledger.run(&[], "true").await.code, Some(0));
    let lock = std::fs::File::open(ledger.spool_path("adding")).expect("opened");
    lock.lock().expect("no other process adds to the spool");

    let ran = ledger.run(&["--retry-for=1"], "echo done; exit 4").await;

    assert_eq!((ran.code, &*ran.stdout), (Some(4), "done\n"));
    assert!(ran.stderr.starts_with("release-ledger: cannot spool a report"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    drop(lock);
    let kinds: Vec<_> = ledger.events().await.iter().map(|event| event["type"].clone()).collect();
    let expected = ["started", "succeeded", "started", "failed"];
    assert_eq!(kinds, expected.map(|verb| json!(format!("io.releaseledger.deploy.{verb}.v1"))));
}

#[tokio::test]
async fn a_hanging_spool_does_not_delay_a_deploy() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    assert_eq!(ledger.run(&["--retry-for=1"], "true").await.code, Some(0));
    // A pipe without a writer: reading it blocks forever.
    let hanging = ledger.spool_path("waiting").join(format!("{:012}-{:032}.json", 0, 0));
    rustix::fs::mkfifoat(rustix::fs::CWD, &hanging, rustix::fs::Mode::RWXU).expect("a pipe");
    ledger.service.restart().await;

    let ran = ledger.run(&["--retry-for=1"], "echo done; exit 4").await;

    assert_eq!((ran.code, &*ran.stdout), (Some(4), "done\n"));
    // The process that reads the spool first blocks; a second process reports that the first one is sending.
    let messages = [
        "does not respond; the deploy's reports may be lost",
        "another process is already sending the spool",
    ];
    assert!(messages.iter().any(|message| ran.stderr.contains(message)), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[tokio::test]
async fn a_signal_at_the_end_of_the_command_does_not_prevent_the_report() {
    let ledger = Ledger::start().await;

    let ran = ledger.run(&[], "kill -TERM $PPID; kill -KILL $$").await;

    assert!(ran.code == Some(137) || ran.code == Some(143), "{ran:?}");
    assert_eq!(ledger.events().await[1]["type"], "io.releaseledger.deploy.failed.v1");
}

#[tokio::test]
async fn a_deploy_works_without_ca_certificates() {
    let ledger = Ledger::start().await;
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")];
    let deploy = |url: &str| {
        let arguments = [&DEPLOY, &["--url", url, "--", "echo", "done"][..]].concat();
        ledger.start_program(PROGRAM, &arguments, &none).outcome()
    };

    let plain = deploy(&ledger.service.url()).await;
    let encrypted = deploy("https://127.0.0.1:1").await;

    assert_eq!((plain.code, &*plain.stdout, &*without_notes(&plain)), (Some(0), "done\n", ""));
    assert_eq!(ledger.events().await.len(), 2);
    assert_eq!((encrypted.code, &*encrypted.stdout), (Some(0), "done\n"));
    assert!(encrypted.stderr.contains("spooled: "), "{}", encrypted.stderr);
    assert!(encrypted.stderr.contains("cannot set up the HTTP client: "), "{}", encrypted.stderr);
}

#[tokio::test]
async fn a_caller_that_ignores_sigchld_gets_the_exit_status_of_the_command() {
    let ledger = Ledger::start().await;
    let deploy = [&["--ignore-signal=CHLD", PROGRAM], &DEPLOY[..], &["--", "true"]].concat();

    let ran = ledger.start_program("env", &deploy, &[]).outcome().await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(0), ""));
    assert_eq!(ledger.events().await[1]["type"], "io.releaseledger.deploy.succeeded.v1");
}

#[tokio::test]
async fn empty_variables_are_ignored_and_invalid_arguments_exit_with_125() {
    let ledger = Ledger::start().await;
    let home = ledger.servers.folder().join("home");
    let variables = [
        ("RELEASE_LEDGER_TENANT", ""),
        ("RELEASE_LEDGER_SPOOL", ""),
        ("XDG_STATE_HOME", ""),
        ("HOME", home.to_str().expect("a path")),
    ];
    let deploy = [&DEPLOY, &["--", "true"][..]].concat();

    let ran = ledger.start_program(PROGRAM, &deploy, &variables).outcome().await;
    let invalid = ledger.run(&["--nonsense"], "true").await;
    let empty = ledger.run(&["--target", ""], "true").await;

    assert_eq!((ran.code, &*without_notes(&ran)), (Some(0), ""));
    assert_eq!(ledger.events().await.len(), 2);
    assert!(home.join(".local/state/release-ledger/spool").exists());
    assert_eq!(invalid.code, Some(125), "{}", invalid.stderr);
    assert!(invalid.stderr.contains("--nonsense"), "{}", invalid.stderr);
    assert_eq!(empty.code, Some(125), "{}", empty.stderr);
}

/// The program, running in a simulated GitHub Actions job.
struct RunningProgram {
    child: Child,
}

impl RunningProgram {
    /// Waits until the program prints this line.
    async fn wait_for_line(&mut self, line: &str) {
        let mut output = BufReader::new(self.child.stdout.take().expect("its output"));
        let mut text = String::new();
        output.read_line(&mut text).await.expect("a line");
        assert_eq!(text.trim_end(), line);
        // Closing the pipe would end a process that writes to it.
        self.child.stdout = Some(output.into_inner());
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let process = id.and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(process, signal).expect("signalled");
    }

    /// Waits for the exit while standard input stays open, and returns the outcome.
    async fn outcome_with_open_stdin(mut self) -> Outcome {
        let stdin = self.child.stdin.take();
        self.child.wait().await.expect("an exit status");
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
    fn command(&self, arguments: &[&str]) -> RunningProgram {
        self.start_program(PROGRAM, arguments, &[])
    }

    fn start_program(&self, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> RunningProgram {
        let child = Command::new(program)
            .args(arguments)
            .env("RELEASE_LEDGER_URL", self.service.url())
            .env("RELEASE_LEDGER_SPOOL", self.spool())
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_SHA", "6973793ef3442b763e3f66547344994e5c778d6c")
            .env("GITHUB_EVENT_NAME", "push")
            .env("GITHUB_RUN_ID", "1658821493")
            .env("GITHUB_RUN_ATTEMPT", "2")
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", "acme/web")
            .env("GITHUB_ACTOR", "ada")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A new process group, without the terminal of the person who runs the tests, which would affect SIGINT.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        RunningProgram { child: child.expect("the program starts") }
    }

    fn run_command(&self, flags: &[&str], command: &[&str]) -> RunningProgram {
        self.command(&[&DEPLOY, flags, &["--"], command].concat())
    }

    async fn run(&self, flags: &[&str], script: &str) -> Outcome {
        self.run_command(flags, &["sh", "-c", script]).outcome().await
    }

    /// Returns the path with this name in the ledger's folder of the spool.
    fn spool_path(&self, name: &str) -> PathBuf {
        let folders =
            std::fs::read_dir(self.spool()).expect("a spool").map(|entry| entry.expect("an entry").path());
        folders.map(|folder| folder.join(name)).find(|path| path.exists()).expect("a path in the spool")
    }

    /// Returns all events in the order of positions.
    async fn events(&self) -> Vec<Value> {
        let client = self.service.client();
        client.wait_for_projections(client.positions().await.1).await;
        client.entries().await.into_iter().map(|entry| entry["event"].clone()).collect()
    }

    /// Returns the version that runs in production.
    async fn version(&self) -> String {
        let client = self.service.client();
        client.wait_for_projections(client.positions().await.1).await;
        let state = client.get("/v1/environments/production/state").await.ok();
        state["lanes"][0]["release"]["version"].as_str().unwrap_or_default().to_owned()
    }
}
