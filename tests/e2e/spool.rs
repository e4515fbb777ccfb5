//! The spool: events that cannot be sent are sent first next time, in order, once, and with their own times.

use std::path::PathBuf;

use ledger_tests::{Client, Command, Outcome, Servers, Service};
use serde_json::{Value, json};

use crate::PROGRAM;

#[tokio::test]
async fn events_spooled_during_an_outage_are_recorded_first_with_their_own_times() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    for (id, time) in [("first", "2026-08-01T12:00:00Z"), ("second", "2026-08-01T12:01:00Z")] {
        let spooled = ledger.emit(id, &["--time", time]).await;
        assert_eq!((spooled.code, &*spooled.stdout), (Some(0), ""), "{}", spooled.stderr);
        assert!(spooled.stderr.starts_with("release-ledger: spooled: 1 event in "), "{}", spooled.stderr);
        assert_eq!(spooled.stderr.lines().count(), 1);
    }
    let list = ledger.list().await;
    assert_eq!((&list[0]["waiting"], &list[0]["since"]), (&json!(2), &json!("2026-08-01T12:00:00Z")));
    assert_eq!(list[0]["ledger"], format!("{}/v1", ledger.service.url()));

    ledger.service.restart().await;
    let third = ledger.emit("third", &["--time", "2026-08-01T12:02:00Z"]).await;

    assert_eq!((third.code, &*third.stdout), (Some(0), "recorded at position 3\n"), "{}", third.stderr);
    let recorded = [
        ("first", "2026-08-01T12:00:00Z"),
        ("second", "2026-08-01T12:01:00Z"),
        ("third", "2026-08-01T12:02:00Z"),
    ];
    assert_eq!(ledger.ids_and_times().await, recorded.map(|(id, time)| (id.to_owned(), time.to_owned())));
    assert_eq!(ledger.list().await, json!([]));
}

#[tokio::test]
async fn a_command_that_cannot_be_sent_fails_and_is_not_spooled() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let freeze = ["emit", "freeze.started", "--environment=production", "--retry-for=1", "--id=f-1"];
    let freeze = ledger.arguments(&[&freeze[..], &["--data={\"freeze_id\":\"peak\"}"]].concat());
    let freeze: Vec<_> = freeze.iter().map(String::as_str).collect();

    let alone = Command::start(PROGRAM, &freeze).outcome().await;
    let command = ledger_tests::event(
        "f-2",
        "freeze.started",
        "2026-08-01T12:00:00Z",
        json!({"environment": "dev", "freeze_id": "peak"}),
    );
    let among_others = ledger.emit_lines(&format!("{}\n{command}\n{}\n", event("one"), event("two"))).await;

    assert_eq!((alone.code, &*alone.stdout), (Some(1), ""), "{}", alone.stderr);
    assert!(
        alone.stderr.starts_with("error: freeze.started is not recorded, and commands are never spooled")
    );
    assert_eq!(alone.stderr.lines().count(), 1, "{}", alone.stderr);
    assert_eq!(among_others.code, Some(1));
    let failure = "1 of 3 events are not recorded, the first is event 2: freeze.started is a command";
    assert!(among_others.stderr.contains(failure), "{}", among_others.stderr);
    assert_eq!(ledger.list().await[0]["waiting"], 2);

    ledger.service.restart().await;
    // A command is sent immediately, before the spooled events.
    assert_eq!(Command::start(PROGRAM, &freeze).outcome().await.stdout, "recorded at position 1\n");
    assert_eq!(ledger.send(&[]).await.code, Some(0));
    assert_eq!(ledger.ids().await, ["f-1", "one", "two"]);
}

#[tokio::test]
async fn a_strict_emit_fails_and_spools_the_event() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let failed = ledger.emit("one", &["--strict"]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("error: 1 event spooled and not yet recorded"), "{}", failed.stderr);
    let unsent = ledger.send(&["--retry-for=1"]).await;
    assert_eq!(unsent.code, Some(1));
    assert!(unsent.stderr.contains("0 events sent, 1 event remaining"), "{}", unsent.stderr);

    ledger.service.restart().await;
    let sent = ledger.send(&[]).await;

    assert_eq!((sent.code, &*sent.stdout), (Some(0), "1 event sent\n"), "{}", sent.stderr);
    assert_eq!(ledger.ids().await, ["one"]);
}

#[tokio::test]
async fn events_from_stdin_are_spooled_individually_and_invalid_lines_are_reported() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let spooled =
        ledger.emit_lines(&format!("{}\n{{\"id\":\"no\"}}\n{}\n", event("one"), event("two"))).await;
    assert_eq!(spooled.code, Some(1));
    assert!(spooled.stdout.starts_with("not recorded: "), "{}", spooled.stdout);
    assert!(spooled.stderr.contains("2 events in "), "{}", spooled.stderr);
    assert!(
        spooled.stderr.contains("1 of 3 events are not recorded, the first is event 2"),
        "{}",
        spooled.stderr
    );

    ledger.service.restart().await;
    assert_eq!(ledger.send(&[]).await.code, Some(0));
    assert_eq!(ledger.ids().await, ["one", "two"]);
}

#[tokio::test]
async fn permanently_rejected_events_are_set_aside_and_do_not_block_others() {
    let mut ledger = Ledger::start().await;
    assert_eq!(ledger.emit("same", &["--version", "v1"]).await.code, Some(0));
    ledger.service.kill().await;
    for (id, version) in [("before", "v1"), ("same", "v2"), ("after", "v1")] {
        assert_eq!(ledger.emit(id, &["--version", version]).await.code, Some(0));
    }
    ledger.truncate(0);

    ledger.service.restart().await;
    let sent = ledger.send(&[]).await;

    assert_eq!(sent.code, Some(1));
    assert!(sent.stderr.contains("the file is damaged"), "{}", sent.stderr);
    assert!(sent.stderr.contains("rejected permanently"), "{}", sent.stderr);
    assert!(sent.stderr.contains("1 event sent, 2 events rejected permanently"), "{}", sent.stderr);
    assert_eq!(ledger.ids().await, ["same", "after"]);
    let list = ledger.list().await;
    assert_eq!((&list[0]["waiting"], &list[0]["refused"]), (&json!(0), &json!(2)));
    assert_eq!(ledger.send(&[]).await.code, Some(0));
}

#[tokio::test]
async fn concurrent_emits_send_the_spool_and_their_own_events_once() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    for id in ["1", "2", "3"] {
        assert_eq!(ledger.emit(id, &[]).await.code, Some(0));
    }
    ledger.service.restart().await;

    let started: Vec<_> = ["4", "5", "6", "7"].map(|id| ledger.start_emit(id, &["--retry-for=30"])).into();
    for emit in started {
        let outcome = emit.outcome().await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stdout.starts_with("recorded at position "), "{} {}", outcome.stdout, outcome.stderr);
    }

    let mut ids = ledger.ids().await;
    assert_eq!(ids[..3], ["1", "2", "3"]);
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test]
async fn a_killed_sender_loses_and_repeats_nothing() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let ids: Vec<_> = (0..2_000).map(|number| format!("{number:04}")).collect();
    let lines: Vec<_> = ids.iter().map(|id| event(id).to_string()).collect();
    let spooled = ledger.emit_lines(&lines.join("\n")).await;
    assert_eq!(spooled.code, Some(0), "{}", spooled.stderr);
    ledger.service.restart().await;
    // The state after a sender that was killed between sending an event and removing it from the spool.
    ledger.client().record_all(&lines[..1]).await;

    ledger.start_send(&[]).kill().await;
    let sender = ledger.start_send(&[]);
    ledger.client().wait_for_head(2).await;
    sender.kill().await;
    let sent = ledger.send(&[]).await;

    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert_eq!(ledger.ids().await, ids);
    assert_eq!(ledger.list().await, json!([]));
}

#[tokio::test]
async fn spooled_events_are_sent_only_to_their_own_ledger() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    assert_eq!(ledger.emit("here", &[]).await.code, Some(0));
    let elsewhere = ["--url", "http://127.0.0.1:1"];
    assert_eq!(ledger.emit("there", &elsewhere).await.code, Some(0));

    ledger.service.restart().await;
    let sent = ledger.send(&[]).await;

    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert!(sent.stderr.contains("1 event for http://127.0.0.1:1/v1 left in the spool"), "{}", sent.stderr);
    assert_eq!(ledger.ids().await, ["here"]);
}

fn event(id: &str) -> Value {
    ledger_tests::deploy(id, "2026-08-01T12:00:00Z", "production", "web", "v1")
}

/// A service with a spool.
pub(crate) struct Ledger {
    pub(crate) service: Service,
    pub(crate) servers: Servers,
}

impl Ledger {
    pub(crate) async fn start() -> Self {
        let servers = Servers::start().await;
        Self { service: Service::start(PROGRAM, &servers, &[]).await, servers }
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.servers.folder().join("spool")
    }

    fn flags(&self) -> [String; 2] {
        [format!("--url={}", self.service.url()), format!("--spool={}", self.spool().display())]
    }

    fn arguments(&self, words: &[&str]) -> Vec<String> {
        let mut arguments: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let is_given = |flag: &str| words.contains(&flag);
        arguments.extend(
            self.flags().into_iter().filter(|flag| !(flag.starts_with("--url") && is_given("--url"))),
        );
        arguments
    }

    fn start_emit(&self, id: &str, more: &[&str]) -> Command {
        let mut words =
            vec!["emit", "deploy.succeeded", "--environment=production", "--service=web", "--id", id];
        if !more.contains(&"--version") {
            words.push("--version=v1");
        }
        if !more.iter().any(|flag| flag.starts_with("--retry-for")) {
            words.push("--retry-for=1");
        }
        words.extend(more);
        let arguments = self.arguments(&words);
        Command::start(PROGRAM, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn emit(&self, id: &str, more: &[&str]) -> Outcome {
        self.start_emit(id, more).outcome().await
    }

    /// Emits events from standard input.
    async fn emit_lines(&self, lines: &str) -> Outcome {
        let file = self.servers.folder().join("events");
        std::fs::write(&file, lines).expect("written");
        let script = format!("exec \"$0\" \"$@\" < {}", file.display());
        let arguments = self.arguments(&["-c", &script, PROGRAM, "emit", "-", "--retry-for=1"]);
        Command::start("sh", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).outcome().await
    }

    fn start_send(&self, more: &[&str]) -> Command {
        let arguments = self.arguments(&[&["spool", "send"], more].concat());
        Command::start(PROGRAM, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn send(&self, more: &[&str]) -> Outcome {
        self.start_send(more).outcome().await
    }

    /// Returns the ledgers in the output of `spool list`.
    async fn list(&self) -> Value {
        let spool = format!("--spool={}", self.spool().display());
        ledger_tests::run(PROGRAM, &["spool", "list", "--json", &spool]).await["ledgers"].clone()
    }

    /// Truncates a spooled file to half its size.
    fn truncate(&self, index: usize) {
        let mut files = Vec::new();
        for queue in std::fs::read_dir(self.spool()).expect("a spool") {
            let waiting = queue.expect("a queue").path().join("waiting");
            files.extend(std::fs::read_dir(waiting).expect("files").map(|file| file.expect("a file").path()));
        }
        files.sort_unstable();
        let text = std::fs::read(&files[index]).expect("read");
        std::fs::write(&files[index], &text[..text.len() / 2]).expect("written");
    }

    fn client(&self) -> Client {
        self.service.client()
    }

    /// Returns the ids and times of all entries in the order of positions.
    async fn ids_and_times(&self) -> Vec<(String, String)> {
        let head = self.client().positions().await.1;
        self.client().wait_for_projections(head).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = self.client().entries().await;
        entries.iter().map(|entry| (text(&entry["event"]["id"]), text(&entry["event"]["time"]))).collect()
    }

    async fn ids(&self) -> Vec<String> {
        self.ids_and_times().await.into_iter().map(|(id, _)| id).collect()
    }
}
