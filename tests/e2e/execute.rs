//! Rollbacks, carried out by a command: each step runs to success once, whoever is killed.

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

/// What a step's command does that cannot fail: it notes that it came to its end.
pub(crate) const NOTE: &str = r#"echo "$RELEASE_LEDGER_WAVE $RELEASE_LEDGER_SERVICE $RELEASE_LEDGER_TARGET $RELEASE_LEDGER_ACTION $RELEASE_LEDGER_FROM_VERSION>$RELEASE_LEDGER_TO_VERSION" >> "$NOTES""#;

/// What the commands of a whole execution note.
const STEPS: [&str; 3] =
    ["1 api default redeploy v2>v1", "2 web default redeploy v2>v1", "3 extra default remove v1>"];

#[tokio::test]
async fn a_rollback_is_executed_wave_by_wave() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    story.requested("production", "r-1", wanted).await;

    let done = story.executes("r-1", NOTE, &["--json"]).await;
    let again = story.executes("r-1", NOTE, &[]).await;

    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(story.notes("r-1"), STEPS);
    let rollback: Value = serde_json::from_str(&done.stdout).expect("a rollback");
    assert_eq!((&rollback["phase"], &rollback["progress"]["done"]), (&json!("succeeded"), &json!(3)));
    assert_eq!(story.digest("production", "latest").await, story.digest("production", wanted).await);
    let of_rollback: Vec<_> = story.told("production", "r-1").await;
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
    assert_eq!(story.notes("r-1").len(), 3, "what has succeeded is not carried out again");
}

/// When the executor is killed.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// Before its n-th event comes to the ledger.
    Before(usize),
    /// After its n-th event is recorded, before it learns of that.
    After(usize),
    /// While the command of this service's step runs, which goes on.
    During(&'static str),
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_killed_at_every_step_boundary_runs_each_step_to_success_once() {
    let story = Story::begin().await;
    // started; two deploys with start and end; a removal; succeeded.
    let events = 1..=7;
    let at_reports = events.flat_map(|event| [Death::Before(event), Death::After(event)]);
    let deaths = at_reports.chain(["api", "web", "extra"].map(Death::During));

    for (number, death) in deaths.enumerate() {
        let (environment, rollback) = (format!("env-{number}"), format!("r-{number}"));
        let wanted = story.history(&environment).await;
        story.requested(&environment, &rollback, wanted).await;

        story.killed(&rollback, death).await;
        let resumed = story.executes(&rollback, NOTE, &[]).await;

        assert_eq!(resumed.code, Some(0), "{death:?}: {}", resumed.stderr);
        assert_eq!(story.notes(&rollback), STEPS, "{death:?}: {}", resumed.stderr);
        let wanted = story.digest(&environment, wanted).await;
        assert_eq!(story.digest(&environment, "latest").await, wanted, "{death:?}");
        let told = story.told(&environment, &rollback).await;
        let ends = told.iter().filter(|told| !told.starts_with("deploy.started")).count();
        assert_eq!(ends, 6, "{death:?}: nothing is told twice: {told:?}");
    }
}

#[tokio::test]
async fn a_failed_step_stops_the_execution_and_can_be_resumed() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    story.requested("production", "r-1", wanted).await;
    let failing = format!("[ $RELEASE_LEDGER_SERVICE != web ] || {{ echo no room; exit 3; }}; {NOTE}");

    let stopped = story.executes("r-1", &failing, &[]).await;
    let between = story.rollback("r-1").await;
    let resumed = story.executes("r-1", NOTE, &[]).await;

    assert_eq!(stopped.code, Some(1));
    assert!(stopped.stderr.contains("web@default | no room\n"), "{}", stopped.stderr);
    let last = stopped.stderr.lines().last().expect("an error");
    assert!(last.starts_with("error: web@default: the command ended with exit status: 3; "), "{last}");
    assert!(last.contains("rollback fail r-1"), "{last}");
    let states = between["steps"].as_array().expect("steps").iter();
    let states: Vec<_> = states.map(|step| step["state"].as_str().expect("a state")).collect();
    assert_eq!((&between["phase"], states), (&json!("started"), vec!["done", "failed", "pending"]));
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert_eq!(story.notes("r-1"), STEPS);
}

#[tokio::test]
async fn a_failed_step_lets_others_go_on_if_that_is_wanted_and_then_the_rollback_has_failed() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    story.requested("production", "r-1", wanted).await;
    let failing = format!("[ $RELEASE_LEDGER_SERVICE != api ] || exit 3; {NOTE}");

    let ended = story.executes("r-1", &failing, &["--on-failure=continue", "--parallel=4"]).await;
    let rollback = story.rollback("r-1").await;

    assert_eq!(ended.code, Some(1));
    assert_eq!(story.notes("r-1"), STEPS[1..]);
    assert_eq!(rollback["phase"], "failed");
    assert_eq!(rollback["end_reason"], "api@default: the command ended with exit status: 3");
}

#[tokio::test]
async fn a_rollback_whose_environment_was_changed_by_others_has_failed_and_says_what_differs() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    story.requested("production", "r-1", wanted).await;
    let url = story.service.url();
    let meddling = format!(
        "[ $RELEASE_LEDGER_SERVICE != web ] || {PROGRAM} emit deploy.succeeded --environment production \
         --service api --version v9 --url {url}; {NOTE}"
    );

    let ended = story.executes("r-1", &meddling, &[]).await;
    let rollback = story.rollback("r-1").await;

    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(story.notes("r-1"), STEPS);
    assert_eq!(rollback["phase"], "failed");
    let why = rollback["end_reason"].as_str().expect("a reason");
    assert!(why.contains("api at default runs v9 instead of v1"), "{why}");
}

#[tokio::test]
async fn env_rebuild_makes_an_equal_environment_elsewhere() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    let from = format!("--from=production@{wanted}");
    let arguments = ["env", "rebuild", &from, "--into=dr-site", "--id=r-1", "--json"];

    let made = story.carries_out("r-1", &arguments, NOTE).await;
    let again = story.carries_out("r-1", &arguments, NOTE).await;

    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let answer: Value = serde_json::from_str(&made.stdout).expect("an answer");
    let digest = story.digest("production", wanted).await;
    assert_eq!((&answer["digest"], &answer["source_digest"]), (&digest, &digest));
    assert_eq!(story.digest("dr-site", "latest").await, digest);
    assert_eq!(story.notes("r-1"), ["1 api default add >v1", "1 web default add >v1"]);
    assert_eq!((again.code, again.stdout), (Some(0), made.stdout));
}

#[tokio::test]
async fn env_rebuild_continues_after_a_failed_step_with_the_same_command() {
    let story = Story::begin().await;
    let wanted = story.history("production").await;
    let from = format!("--from=production@{wanted}");
    let arguments = ["env", "rebuild", &from, "--into=dr-site"];
    let failing = format!("[ $RELEASE_LEDGER_SERVICE != web ] || exit 3; {NOTE}");

    let stopped = story.carries_out("made", &arguments, &failing).await;
    let other = story.carries_out("made", &[&arguments[..], &["--reason=a drill"]].concat(), NOTE).await;
    let done = story.carries_out("made", &arguments, NOTE).await;
    let again = story.carries_out("made", &arguments, NOTE).await;

    assert_eq!(stopped.code, Some(1), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("web@default: the command ended with exit status: 3"),
        "{}",
        stopped.stderr
    );
    // Another command does not continue what this one began.
    assert_eq!(other.code, Some(1), "{}", other.stderr);
    assert!(other.stderr.contains("under way"), "{}", other.stderr);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(story.notes("made"), ["1 api default add >v1", "1 web default add >v1"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let client = story.service.client();
    client.projections_at(client.position().await.1).await;
    let rollbacks = client.get("/v1/rollbacks?environment=dr-site").await.ok()["rollbacks"].clone();
    let [rollback] = &rollbacks.as_array().expect("rollbacks")[..] else { panic!("one: {rollbacks}") };
    assert_eq!(rollback["phase"], "succeeded");
    let continued = format!("continuing rollback {}\n", rollback["rollback_id"].as_str().expect("an id"));
    assert!(done.stdout.starts_with(&continued), "{}", done.stdout);
}

#[tokio::test]
async fn the_gate_exits_with_its_answer() {
    let story = Story::begin().await;
    let digest = format!("sha256:{}", "a".repeat(64));
    let client = story.service.client();
    client.recorded(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    let revoked = json!({"artifact": digest, "reason": "a leak", "actor": {"type": "person", "name": "ada"}});
    client.recorded(&event("2", "artifact.revoked", "2026-08-01T10:01:00Z", revoked)).await;
    let artifact = format!("--artifact={digest}");

    let allowed = story.ran(&["gate", "production", "web", "v2", "--requester=ada"]).await;
    let refused = story.ran(&["gate", "production", "web", "v2", &artifact, "--json"]).await;
    let nobody = story.ran(&["gate", "production", "web", "v2", "--url=http://127.0.0.1:1"]).await;

    assert_eq!((allowed.code, &*allowed.stderr), (Some(0), ""), "{}", allowed.stdout);
    assert!(allowed.stdout.starts_with("production position 2: allowed\n"), "{}", allowed.stdout);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.starts_with("error: web v2 may not be deployed to production: "),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.stderr.lines().count(), 1);
    let answer: Value = serde_json::from_str(&refused.stdout).expect("the gate's answer");
    assert_eq!(answer["allowed"], false);
    assert_eq!((nobody.code, nobody.stdout), (Some(2), String::new()));
}

/// A service with environments to roll back.
pub(crate) struct Story {
    pub(crate) service: Service,
    servers: Servers,
}

impl Story {
    pub(crate) async fn begin() -> Self {
        let servers = Servers::start().await;
        let service = Service::start(PROGRAM, &servers, &[]).await;
        Self { service, servers }
    }

    /// An environment that went from one state to another; answers the position of the first.
    pub(crate) async fn history(&self, environment: &str) -> u64 {
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
        self.service.client().recorded_all(&lines).await[2]
    }

    pub(crate) async fn requested(&self, environment: &str, rollback: &str, to: u64) {
        let (id, to) = (format!("--id={rollback}"), format!("--to={to}"));
        let arguments = ["rollback", "request", environment, &id, &to, "--reason=it fails", "--by=ada"];
        let asked = self.ran(&arguments).await;
        assert_eq!(asked.code, Some(0), "{}", asked.stderr);
        assert!(asked.stdout.starts_with(&format!("rollback {rollback} is requested")), "{}", asked.stdout);
    }

    pub(crate) async fn ran(&self, arguments: &[&str]) -> Outcome {
        let url = format!("--url={}", self.service.url());
        let mut arguments = arguments.to_vec();
        if !arguments.iter().any(|argument| argument.starts_with("--url=")) {
            arguments.push(&url);
        }
        Command::start(PROGRAM, &arguments).outcome().await
    }

    pub(crate) async fn executes(&self, rollback: &str, command: &str, more: &[&str]) -> Outcome {
        self.carries_out(rollback, &[&["rollback", "execute", rollback], more].concat(), command).await
    }

    /// Runs what carries out steps by a command.
    async fn carries_out(&self, rollback: &str, arguments: &[&str], command: &str) -> Outcome {
        let more = self.execution(rollback, command);
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        self.ran(&[arguments, &more].concat()).await
    }

    pub(crate) fn execution(&self, rollback: &str, command: &str) -> [String; 3] {
        let notes = self.noted(rollback);
        let state = self.servers.folder().join("state");
        [
            format!("--exec=NOTES={}; {command}", notes.display()),
            format!("--state-dir={}", state.display()),
            "--by=workload:executor".to_owned(),
        ]
    }

    fn noted(&self, rollback: &str) -> PathBuf {
        self.servers.folder().join(format!("{rollback}.notes"))
    }

    /// What the commands noted, in order.
    fn notes(&self, rollback: &str) -> Vec<String> {
        let text = fs::read_to_string(self.noted(rollback)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Executes, and is killed.
    async fn killed(&self, rollback: &str, death: Death) {
        if let Death::During(service) = death {
            // The parent of the command's shell is the executor. The command itself goes on after its death.
            let command =
                format!("[ $RELEASE_LEDGER_SERVICE != {service} ] || kill -9 $PPID; sleep 0.1; {NOTE}");
            let outcome = self.executes(rollback, &command, &[]).await;
            assert_eq!(outcome.code, None, "{death:?}: {}", outcome.stderr);
            return;
        }
        let (url, mut reached) = guarded(&self.service.url(), death).await;
        let more = self.execution(rollback, NOTE);
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        let url = format!("--url={url}");
        let command = Command::start(PROGRAM, &[&["rollback", "execute", rollback, &url], &*more].concat());
        reached.recv().await.expect("the execution comes there");
        command.kill().await;
    }

    /// A rollback as it is at the end of the ledger.
    async fn rollback(&self, rollback: &str) -> Value {
        let client = self.service.client();
        client.projections_at(client.position().await.1).await;
        client.get(&format!("/v1/rollbacks/{rollback}")).await.ok()
    }

    async fn digest(&self, environment: &str, at: impl ToString) -> Value {
        let path = format!("/v1/environments/{environment}/state?at={}", at.to_string());
        self.service.client().get(&path).await.ok()["digest"].clone()
    }

    /// What was told of a rollback, in order.
    async fn told(&self, environment: &str, rollback: &str) -> Vec<String> {
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

/// Where the service is reached through a guard that stops everything at a moment, and what tells of it.
async fn guarded(service: &str, death: Death) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = service.trim_start_matches("http://").to_owned();
    let (sender, reached) = mpsc::channel(1);
    let seen = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("the service");
            tokio::spawn(guard(client, server, death, Arc::clone(&seen), sender.clone()));
        }
    });
    (url, reached)
}

/// Carries requests and answers, and counts the events that are sent, each in a request of its own.
async fn guard(
    mut client: TcpStream,
    mut server: TcpStream,
    death: Death,
    seen: Arc<AtomicUsize>,
    reached: mpsc::Sender<()>,
) {
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut last = false;
    loop {
        tokio::select! {
            Ok(length) = client.read(&mut asked) => {
                if length == 0 {
                    return;
                }
                let request = &asked[..length];
                let is_event = request.starts_with(b"POST ");
                let number = seen.fetch_add(usize::from(is_event), Ordering::SeqCst) + usize::from(is_event);
                match death {
                    Death::Before(event) if is_event && number == event => break,
                    Death::After(event) => last |= is_event && number == event,
                    _ => {}
                }
                server.write_all(request).await.expect("the service reads");
            }
            Ok(length) = server.read(&mut answered) => {
                if last {
                    break;
                }
                if length == 0 || client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
    reached.send(()).await.expect("somebody waits");
    // Nobody hears anything any more, until the one is killed.
    let _ = client.read(&mut asked).await;
}
