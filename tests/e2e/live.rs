//! Following the ledger: over restarts and rebuilds, with clients that read nothing, and by the command.

use std::process::Stdio;
use std::time::Duration;

use ledger_tests::{
    Command, EventStream, Servers, Service, at, deploy, follow_over_restarts, projections_schema,
};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::PROGRAM;

/// Upper bound of every wait; only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Returns deploys with these numbers, one a line: odd ones to staging, even ones to production.
fn deploys(numbers: std::ops::Range<u64>) -> Vec<String> {
    let line = |number: u64| {
        let environment = if number.is_multiple_of(2) { "production" } else { "staging" };
        deploy(&format!("d-{number}"), &at(number), environment, "web", &format!("v{number}")).to_string()
    };
    numbers.map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_miss_and_repeat_nothing_over_a_restart_and_a_rebuild() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--projections-grace-seconds=1"]).await;
    let client = service.client();
    client.record_all(&deploys(1..201)).await;
    let last = 600;
    let paths = ["/v1/events/stream", "/v1/events/stream?environment=production"];
    let followers = paths.map(|path| {
        let client = client.clone();
        tokio::spawn(async move { follow_over_restarts(&client, path, 0, last).await })
    });
    let mut registry = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let before = projections_schema(&mut registry, "default").await;

    client.record_all(&deploys(201..301)).await;
    service.kill().await;
    service.restart().await;
    client.record_all(&deploys(301..401)).await;
    let urls = [
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    ];
    let rebuild = ["projections", "rebuild", &urls[0], &urls[1], "--log-filter=warn"];
    let rebuild = Command::start(PROGRAM, &rebuild);
    client.record_all(&deploys(401..501)).await;
    let rebuilt = rebuild.outcome().await;
    assert!(service.terminate().await);
    service.restart().await;
    client.record_all(&deploys(501..601)).await;

    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_ne!(projections_schema(&mut registry, "default").await, before);
    let [all, production] = followers;
    assert_eq!(all.await.expect("a follower"), (1..=last).collect::<Vec<_>>());
    assert_eq!(production.await.expect("a follower"), (2..=last).step_by(2).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_that_read_nothing_take_a_bounded_amount_of_memory_and_delay_no_other() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut connection = service.connect().await;
        connection.send("GET /v1/events/stream?after=0 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        silent.push(connection);
    }
    client.wait_for_metric("ledger_http_followers", 50.0).await;
    let mut stream = EventStream::open(&client, "/v1/events/stream?after=0").await;
    let count = 600;
    let reader = tokio::spawn(async move { stream.positions(count).await });

    for first in (1..=count).step_by(100) {
        let lines = (first..first + 100).map(|number| {
            let mut event = deploy(&number.to_string(), &at(1), "production", "web", "v1");
            event["filler"] = "x".repeat(20_000).into();
            event.to_string()
        });
        client.record_all(&lines.collect::<Vec<_>>()).await;
    }

    assert_eq!(reader.await.expect("a follower"), (1..=count).collect::<Vec<_>>());
    let megabytes = service.peak_memory() >> 20;
    assert!(megabytes < 400, "{megabytes} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_disconnected_and_counted() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--http-write-timeout-seconds=1"]).await;
    let client = service.client();
    let mut silent = service.connect().await;
    silent.send("GET /v1/events/stream?after=0 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.wait_for_metric("ledger_http_followers", 1.0).await;
    let closed = "ledger_http_streams_closed_total{reason=\"slow_client\"}";
    assert_eq!(client.metric(closed).await, Some(0.0));

    // More than the buffers of both sockets take.
    for first in (1..=1_000).step_by(100) {
        let lines = (first..first + 100).map(|number: u64| {
            let mut event = deploy(&number.to_string(), &at(1), "production", "web", "v1");
            event["filler"] = "x".repeat(20_000).into();
            event.to_string()
        });
        client.record_all(&lines.collect::<Vec<_>>()).await;
    }

    client.wait_for_metric(closed, 1.0).await;
    client.wait_for_metric("ledger_http_followers", 0.0).await;
    client.wait_for_metric("ledger_http_slow_clients_total{direction=\"answer\"}", 1.0).await;
}

/// A running `history --follow`. It is killed on drop.
struct Followed {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Followed {
    fn start(service: &Service, more: &[&str]) -> Self {
        let mut child = tokio::process::Command::new(PROGRAM)
            .args(["history", "--follow", &format!("--url={}", service.url())])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(WAIT_LIMIT, self.lines.next_line()).await.expect("a line");
        line.expect("its output can be read").expect("the command continues")
    }

    async fn position(&mut self) -> Option<u64> {
        let entry: Value = serde_json::from_str(&self.line().await).expect("an entry");
        entry["position"].as_u64()
    }

    fn interrupt(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("the command runs");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("SIGINT is sent");
    }

    /// Closes the output, waits for the end of the command, and returns its exit status and stderr.
    async fn outcome(self) -> (Option<i32>, String) {
        let Self { mut child, lines } = self;
        drop(lines);
        let status = timeout(WAIT_LIMIT, child.wait()).await.expect("the command ends");
        let mut stderr = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut stderr).await.expect("its errors");
        (status.expect("an exit status").code(), stderr)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_follow_continues_over_a_restart_until_it_is_interrupted() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_all(&deploys(1..6)).await;
    let mut all = Followed::start(&service, &["--json", "--after=2"]);
    let mut production = Followed::start(&service, &["--json", "--after=0", "--environment=production"]);

    for position in 3..=5 {
        assert_eq!(all.position().await, Some(position));
    }
    assert_eq!((production.position().await, production.position().await), (Some(2), Some(4)));
    service.kill().await;
    service.restart().await;
    client.record_all(&deploys(6..9)).await;
    for position in 6..=8 {
        assert_eq!(all.position().await, Some(position));
    }
    assert_eq!((production.position().await, production.position().await), (Some(6), Some(8)));

    for followed in [all, production] {
        followed.interrupt();
        let mut followed = followed;
        let rest = timeout(WAIT_LIMIT, followed.lines.next_line()).await.expect("the end");
        assert_eq!(rest.expect("its output can be read"), None, "nothing is printed twice");
        let (code, stderr) = followed.outcome().await;
        assert_eq!(code, Some(130), "{stderr}");
        assert_eq!(stderr.matches("lost the event stream").count(), 1, "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_follow_prints_the_latest_entries_and_ends_quietly_with_its_reader() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&deploys(1..31)).await;
    let mut followed = Followed::start(&service, &["--limit=3"]);

    let header = followed.line().await;
    let lines = [followed.line().await, followed.line().await, followed.line().await];

    assert!(header.starts_with("position  time "), "{header}");
    for (line, position) in lines.iter().zip(28..) {
        assert!(line.starts_with(&format!("{position} ")) && line.contains("deploy.succeeded"), "{line}");
    }
    assert_eq!(followed.outcome().await, (Some(0), String::new()));
}

#[tokio::test]
async fn history_follow_rejects_what_it_cannot_do() {
    for (arguments, code, words) in [
        (&["--wait-for=1"][..], 2, "--wait-for"),
        (&["--after=1", "--limit=2"][..], 2, "--limit"),
        (&["--url=http://127.0.0.1:1"][..], 1, "no release ledger answers"),
    ] {
        let arguments = [&["history", "--follow"], arguments].concat();
        let outcome = Command::start(PROGRAM, &arguments).outcome().await;
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
}
