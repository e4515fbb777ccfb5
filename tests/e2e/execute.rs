//! Rollbacks executed by a command: each step succeeds exactly once, even if the executor is killed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledger_tests::{Command, Outcome, Servers, Service, deploy, event};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::PROGRAM;

/// The command of a step that succeeds: appends a line to the notes.
pub(crate) const NOTE_STEP: &str = r#"echo "$RELEASE_LEDGER_WAVE $RELEASE_LEDGER_SERVICE $RELEASE_LEDGER_TARGET $RELEASE_LEDGER_ACTION $RELEASE_LEDGER_FROM_VERSION>$RELEASE_LEDGER_TO_VERSION" >> "$NOTES""#;

/// The notes of a complete execution.
const EXPECTED_NOTES: [&str; 3] =
    ["1 api default redeploy v2>v1", "2 web default redeploy v2>v1", "3 extra default remove v1>"];

#[tokio::test]
async fn a_rollback_is_executed_wave_by_wave() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    setup.request_rollback("production", "r-1", target).await;

    let done = setup.execute("r-1", NOTE_STEP, &["--json"]).await;
    let again = setup.execute("r-1", NOTE_STEP, &[]).await;

    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(setup.notes("r-1"), EXPECTED_NOTES);
    let rollback: Value = serde_json::from_str(&done.stdout).expect("a rollback");
    assert_eq!((&rollback["phase"], &rollback["progress"]["done"]), (&json!("succeeded"), &json!(3)));
    assert_eq!(setup.digest("production", "latest").await, setup.digest("production", target).await);
    let of_rollback: Vec<_> = setup.rollback_events("production", "r-1").await;
    assert_eq!(
        of_rollback,
        [
            "rollback.requested",
            "rollback.started",
            "deploy.started api",
            "deploy.succeeded api",
            "deploy.started web",
            "deploy.succeeded web",
            "deploy.removed extra",
            "rollback.succeeded",
        ]
    );
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(setup.notes("r-1").len(), 3, "completed steps are not repeated");
}

/// The moment at which the executor is killed.
#[derive(Debug, Clone, Copy)]
enum KillPoint {
    /// Before the ledger receives its n-th event.
    BeforeEvent(usize),
    /// After its n-th event is recorded, before it receives the response.
    AfterEvent(usize),
    /// While the command of this service's step runs; the command itself continues.
    DuringStep(&'static str),
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_killed_at_any_point_completes_each_step_once_when_resumed() {
    let setup = Setup::start().await;
    // rollback.started, a start and an end of two deploys, a removal, rollback.succeeded.
    let events = 1..=7;
    let around_events =
        events.flat_map(|event| [KillPoint::BeforeEvent(event), KillPoint::AfterEvent(event)]);
    let kill_points = around_events.chain(["api", "web", "extra"].map(KillPoint::DuringStep));

    for (number, kill_point) in kill_points.enumerate() {
        let (environment, rollback) = (format!("env-{number}"), format!("r-{number}"));
        let target = setup.record_history(&environment).await;
        setup.request_rollback(&environment, &rollback, target).await;

        setup.execute_and_kill(&rollback, kill_point).await;
        let resumed = setup.execute(&rollback, NOTE_STEP, &[]).await;

        assert_eq!(resumed.code, Some(0), "{kill_point:?}: {}", resumed.stderr);
        assert_eq!(setup.notes(&rollback), EXPECTED_NOTES, "{kill_point:?}: {}", resumed.stderr);
        let target = setup.digest(&environment, target).await;
        assert_eq!(setup.digest(&environment, "latest").await, target, "{kill_point:?}");
        let events = setup.rollback_events(&environment, &rollback).await;
        let ends = events.iter().filter(|event| !event.starts_with("deploy.started")).count();
        assert_eq!(ends, 6, "{kill_point:?}: no end is reported twice: {events:?}");
    }
}

#[tokio::test]
async fn a_failed_step_stops_the_execution_and_can_be_resumed() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    setup.request_rollback("production", "r-1", target).await;
    let failing = format!("[ $RELEASE_LEDGER_SERVICE != web ] || {{ echo no room; exit 3; }}; {NOTE_STEP}");

    let stopped = setup.execute("r-1", &failing, &[]).await;
    let between = setup.rollback("r-1").await;
    let resumed = setup.execute("r-1", NOTE_STEP, &[]).await;

    assert_eq!(stopped.code, Some(1));
    assert!(stopped.stderr.contains("web@default | no room\n"), "{}", stopped.stderr);
    let last = stopped.stderr.lines().last().expect("an error");
    assert!(last.starts_with("error: web@default: the command ended with exit status: 3; "), "{last}");
    assert!(last.contains("rollback fail r-1"), "{last}");
    let states = between["steps"].as_array().expect("steps").iter();
    let states: Vec<_> = states.map(|step| step["state"].as_str().expect("a state")).collect();
    assert_eq!((&between["phase"], states), (&json!("started"), vec!["done", "failed", "pending"]));
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert_eq!(setup.notes("r-1"), EXPECTED_NOTES);
}

#[tokio::test]
async fn with_on_failure_continue_the_other_steps_run_and_the_rollback_fails() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    setup.request_rollback("production", "r-1", target).await;
    let failing = format!("[ $RELEASE_LEDGER_SERVICE != api ] || exit 3; {NOTE_STEP}");

    let ended = setup.execute("r-1", &failing, &["--on-failure=continue", "--parallel=4"]).await;
    let rollback = setup.rollback("r-1").await;

    assert_eq!(ended.code, Some(1));
    assert_eq!(setup.notes("r-1"), EXPECTED_NOTES[1..]);
    assert_eq!(rollback["phase"], "failed");
    assert_eq!(rollback["end_reason"], "api@default: the command ended with exit status: 3");
}

#[tokio::test]
async fn a_rollback_fails_with_the_differences_if_the_environment_changed_meanwhile() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    setup.request_rollback("production", "r-1", target).await;
    let url = setup.service.url();
    let interfering = format!(
        "[ $RELEASE_LEDGER_SERVICE != web ] || {PROGRAM} emit deploy.succeeded --environment production \
         --service api --version v9 --url {url}; {NOTE_STEP}"
    );

    let ended = setup.execute("r-1", &interfering, &[]).await;
    let rollback = setup.rollback("r-1").await;

    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(setup.notes("r-1"), EXPECTED_NOTES);
    assert_eq!(rollback["phase"], "failed");
    let reason = rollback["end_reason"].as_str().expect("a reason");
    assert!(reason.contains("api at default runs v9 instead of v1"), "{reason}");
}

#[tokio::test]
async fn env_rebuild_creates_an_identical_environment() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    let from = format!("--from=production@{target}");
    let arguments = ["env", "rebuild", &from, "--into=dr-site", "--id=r-1", "--json"];

    let rebuilt = setup.run_with_exec("r-1", &arguments, NOTE_STEP).await;
    let again = setup.run_with_exec("r-1", &arguments, NOTE_STEP).await;

    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.stderr);
    let result: Value = serde_json::from_str(&rebuilt.stdout).expect("a result");
    let digest = setup.digest("production", target).await;
    assert_eq!((&result["digest"], &result["source_digest"]), (&digest, &digest));
    assert_eq!(setup.digest("dr-site", "latest").await, digest);
    assert_eq!(setup.notes("r-1"), ["1 api default add >v1", "1 web default add >v1"]);
    assert_eq!((again.code, again.stdout), (Some(0), rebuilt.stdout));
}

#[tokio::test]
async fn env_rebuild_continues_after_a_failed_step_with_the_same_command() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    let from = format!("--from=production@{target}");
    let arguments = ["env", "rebuild", &from, "--into=dr-site"];
    let failing = format!("[ $RELEASE_LEDGER_SERVICE != web ] || exit 3; {NOTE_STEP}");

    let stopped = setup.run_with_exec("rebuilt", &arguments, &failing).await;
    let other =
        setup.run_with_exec("rebuilt", &[&arguments[..], &["--reason=a drill"]].concat(), NOTE_STEP).await;
    let done = setup.run_with_exec("rebuilt", &arguments, NOTE_STEP).await;
    let again = setup.run_with_exec("rebuilt", &arguments, NOTE_STEP).await;

    assert_eq!(stopped.code, Some(1), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("web@default: the command ended with exit status: 3"),
        "{}",
        stopped.stderr
    );
    // A different command does not continue the rollback of this one.
    assert_eq!(other.code, Some(1), "{}", other.stderr);
    assert!(other.stderr.contains("under way"), "{}", other.stderr);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(setup.notes("rebuilt"), ["1 api default add >v1", "1 web default add >v1"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let client = setup.service.client();
    client.wait_for_projections(client.positions().await.1).await;
    let rollbacks = client.get("/v1/rollbacks?environment=dr-site").await.ok()["rollbacks"].clone();
    let [rollback] = &rollbacks.as_array().expect("rollbacks")[..] else { panic!("one: {rollbacks}") };
    assert_eq!(rollback["phase"], "succeeded");
    let continued = format!("continuing rollback {}\n", rollback["rollback_id"].as_str().expect("an id"));
    assert!(done.stdout.starts_with(&continued), "{}", done.stdout);
}

#[tokio::test]
async fn the_gate_command_exits_with_the_decision() {
    let setup = Setup::start().await;
    let digest = format!("sha256:{}", "a".repeat(64));
    let client = setup.service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    let revoked = json!({"artifact": digest, "reason": "a leak", "actor": {"type": "person", "name": "ada"}});
    client.record_and_wait(&event("2", "artifact.revoked", "2026-08-01T10:01:00Z", revoked)).await;
    let artifact = format!("--artifact={digest}");

    let allowed = setup.run(&["gate", "production", "web", "v2", "--requester=ada"]).await;
    let denied = setup.run(&["gate", "production", "web", "v2", &artifact, "--json"]).await;
    let unreachable = setup.run(&["gate", "production", "web", "v2", "--url=http://127.0.0.1:1"]).await;

    assert_eq!((allowed.code, &*allowed.stderr), (Some(0), ""), "{}", allowed.stdout);
    assert!(allowed.stdout.starts_with("production position 2: allowed\n"), "{}", allowed.stdout);
    assert_eq!(denied.code, Some(1), "{}", denied.stderr);
    assert!(
        denied.stderr.starts_with("error: web v2 may not be deployed to production: "),
        "{}",
        denied.stderr
    );
    assert_eq!(denied.stderr.lines().count(), 1);
    let decision: Value = serde_json::from_str(&denied.stdout).expect("a decision");
    assert_eq!(decision["allowed"], false);
    assert_eq!((unreachable.code, unreachable.stdout), (Some(2), String::new()));
}

/// A service and its servers, with helpers for rollbacks.
pub(crate) struct Setup {
    pub(crate) service: Service,
    servers: Servers,
}

impl Setup {
    pub(crate) async fn start() -> Self {
        let servers = Servers::start().await;
        let service = Service::start(PROGRAM, &servers, &[]).await;
        Self { service, servers }
    }

    /// Records a history that changes an environment from one state to another; returns the position of the first.
    pub(crate) async fn record_history(&self, environment: &str) -> u64 {
        let id = |number: u32| format!("{environment}-{number}");
        let release = |number, service, version| {
            deploy(&id(number), &format!("2026-08-01T10:0{number}:00Z"), environment, service, version)
        };
        let policy = json!({"environment": environment, "policy": {"dependencies": {"web": ["api"]}}});
        let events = [
            event(&id(0), "environment.declared", "2026-08-01T10:00:00Z", policy),
            release(1, "api", "v1"),
            release(2, "web", "v1"),
            release(3, "api", "v2"),
            release(4, "web", "v2"),
            release(5, "extra", "v1"),
        ];
        let lines: Vec<_> = events.iter().map(Value::to_string).collect();
        self.service.client().record_all(&lines).await[2]
    }

    pub(crate) async fn request_rollback(&self, environment: &str, rollback: &str, to: u64) {
        let (id, to) = (format!("--id={rollback}"), format!("--to={to}"));
        let arguments = ["rollback", "request", environment, &id, &to, "--reason=it fails", "--by=ada"];
        let requested = self.run(&arguments).await;
        assert_eq!(requested.code, Some(0), "{}", requested.stderr);
        assert!(
            requested.stdout.starts_with(&format!("rollback {rollback} is requested")),
            "{}",
            requested.stdout
        );
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Outcome {
        let url = format!("--url={}", self.service.url());
        let mut arguments = arguments.to_vec();
        if !arguments.iter().any(|argument| argument.starts_with("--url=")) {
            arguments.push(&url);
        }
        Command::start(PROGRAM, &arguments).outcome().await
    }

    pub(crate) async fn execute(&self, rollback: &str, command: &str, more: &[&str]) -> Outcome {
        self.run_with_exec(rollback, &[&["rollback", "execute", rollback], more].concat(), command).await
    }

    /// Runs a command that executes steps with a shell command.
    async fn run_with_exec(&self, rollback: &str, arguments: &[&str], command: &str) -> Outcome {
        let more = self.exec_flags(rollback, command);
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        self.run(&[arguments, &more].concat()).await
    }

    pub(crate) fn exec_flags(&self, rollback: &str, command: &str) -> [String; 3] {
        let notes = self.notes_path(rollback);
        let state = self.servers.folder().join("state");
        [
            format!("--exec=NOTES={}; {command}", notes.display()),
            format!("--state-dir={}", state.display()),
            "--by=workload:executor".to_owned(),
        ]
    }

    fn notes_path(&self, rollback: &str) -> PathBuf {
        self.servers.folder().join(format!("{rollback}.notes"))
    }

    /// Returns the lines that the steps' commands wrote, in order.
    fn notes(&self, rollback: &str) -> Vec<String> {
        let text = fs::read_to_string(self.notes_path(rollback)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Executes a rollback and kills the executor.
    async fn execute_and_kill(&self, rollback: &str, kill_point: KillPoint) {
        if let KillPoint::DuringStep(service) = kill_point {
            // The parent of the command's shell is the executor. The command continues when the executor is dead.
            let command =
                format!("[ $RELEASE_LEDGER_SERVICE != {service} ] || kill -9 $PPID; sleep 0.1; {NOTE_STEP}");
            let outcome = self.execute(rollback, &command, &[]).await;
            assert_eq!(outcome.code, None, "{kill_point:?}: {}", outcome.stderr);
            return;
        }
        let (url, mut reached) = start_guard(&self.service.url(), kill_point).await;
        let more = self.exec_flags(rollback, NOTE_STEP);
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        let url = format!("--url={url}");
        let command = Command::start(PROGRAM, &[&["rollback", "execute", rollback, &url], &*more].concat());
        reached.recv().await.expect("the execution reaches the kill point");
        command.kill().await;
    }

    /// Returns a rollback, projected up to the head of the ledger.
    async fn rollback(&self, rollback: &str) -> Value {
        let client = self.service.client();
        client.wait_for_projections(client.positions().await.1).await;
        client.get(&format!("/v1/rollbacks/{rollback}")).await.ok()
    }

    async fn digest(&self, environment: &str, at: impl ToString) -> Value {
        let path = format!("/v1/environments/{environment}/state?at={}", at.to_string());
        self.service.client().get(&path).await.ok()["digest"].clone()
    }

    /// Returns the events of a rollback, in order.
    async fn rollback_events(&self, environment: &str, rollback: &str) -> Vec<String> {
        let path = format!("/v1/events?environment={environment}&limit=1000");
        let page = self.service.client().get(&path).await.ok();
        let events = page["events"].as_array().expect("events").iter().map(|entry| &entry["event"]);
        let of_rollback = events.filter(|event| event["data"]["rollback_id"] == rollback);
        let words = of_rollback.map(|event| {
            let kind = event["type"].as_str().expect("a type").trim_start_matches("io.releaseledger.");
            let service = event["data"]["service"].as_str().unwrap_or_default();
            format!("{} {service}", kind.trim_end_matches(".v1")).trim_end().to_owned()
        });
        words.collect()
    }
}

/// Starts a proxy that stops forwarding at a kill point; returns its URL and a channel that is notified then.
async fn start_guard(service: &str, kill_point: KillPoint) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = service.trim_start_matches("http://").to_owned();
    let (sender, reached) = mpsc::channel(1);
    let event_count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("the service");
            tokio::spawn(guard(client, server, kill_point, Arc::clone(&event_count), sender.clone()));
        }
    });
    (url, reached)
}

/// Forwards requests and responses, and counts the events that are sent, each in its own request.
async fn guard(
    mut client: TcpStream,
    mut server: TcpStream,
    kill_point: KillPoint,
    event_count: Arc<AtomicUsize>,
    reached: mpsc::Sender<()>,
) {
    let (mut sent, mut received) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut last = false;
    loop {
        tokio::select! {
            Ok(length) = client.read(&mut sent) => {
                if length == 0 {
                    return;
                }
                let request = &sent[..length];
                let is_event = request.starts_with(b"POST ");
                let added = usize::from(is_event);
                let number = event_count.fetch_add(added, Ordering::SeqCst) + added;
                match kill_point {
                    KillPoint::BeforeEvent(event) if is_event && number == event => break,
                    KillPoint::AfterEvent(event) => last |= is_event && number == event,
                    _ => {}
                }
                server.write_all(request).await.expect("the service reads");
            }
            Ok(length) = server.read(&mut received) => {
                if last {
                    break;
                }
                if length == 0 || client.write_all(&received[..length]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
    reached.send(()).await.expect("the test waits");
    // Forward nothing more until the executor is killed.
    let _ = client.read(&mut sent).await;
}
