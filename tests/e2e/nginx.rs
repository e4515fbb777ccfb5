//! The service behind nginx: with nginx's own defaults, and with the configuration of the guides.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use ledger_tests::{Client, Command, EventStream, Service, at, deploy, free_port};
use reqwest::StatusCode;
use tokio::process::Child;

use crate::PROGRAM;
use crate::execute::{NOTE_STEP, Setup};
use crate::tls::Authority;

const PROXIES: &str = include_str!("../../ops/guides/proxies.md");
const LIVE: &str = include_str!("../../ops/guides/live.md");

/// A running nginx. It is killed on drop.
struct Nginx(#[expect(dead_code, reason = "held until the end of the test")] Child);

impl Nginx {
    /// Starts nginx with a folder of its own below `parent`, and with `servers` in the block `http`.
    fn start(parent: &Path, servers: &str) -> Self {
        let folder = parent.join("nginx");
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.display();
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("  {name}_temp_path {path}/{name};\n"))
            .concat();
        // One process: the worker processes of root are another user's, who cannot enter the folder.
        let config = format!(
            "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nerror_log {path}/error.log;\nevents {{}}\n\
             http {{\n  access_log off;\n{folders}{servers}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).expect("written");
        let nginx = tokio::process::Command::new("nginx")
            .args(["-p", &path.to_string(), "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            // Before it reads the configuration, it warns about a default log that it may not write.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Self(nginx.expect("nginx starts; ops/test installs it"))
    }
}

/// Returns true if the installed nginx has the directive `http2`, which came with 1.25.1.
fn has_http2_directive() -> bool {
    let output = std::process::Command::new("nginx").arg("-v").output().expect("nginx runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let version = text.trim().rsplit('/').next().expect("a version").split(' ').next().expect("a version");
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().expect("a number")).collect();
    numbers >= vec![1, 25, 1]
}

/// Returns the first block of nginx's configuration in a document.
fn nginx_block(document: &str) -> &str {
    let (_, rest) = document.split_once("```nginx").expect("a block");
    let (_, block) = rest.split_once('\n').expect("a line");
    block.split_once("```").expect("its end").0
}

/// Replaces a text that the configuration must contain.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replace(from, to)
}

/// Waits until the service answers through the proxy.
async fn wait_until_ready(url: &str, more: &[&str]) {
    let arguments = [&["position", "--wait=60", "--url", url], more].concat();
    let outcome = Command::start(PROGRAM, &arguments).outcome().await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

/// Records deploys one after the other, and expects each from the command that follows before the next is recorded.
async fn record_and_follow(service: &Service, followed: &mut Command, from: u64) {
    for number in from..from + 3 {
        let version = format!("nginx-{number}");
        let event = deploy(&version, &at(number), "staging", "web", &version);
        service.client().record(&event).await.ok();
        followed.line_with(&version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_watched_rollbacks_arrive_at_once_through_an_nginx_with_its_defaults() {
    let setup = Setup::start().await;
    let target = setup.record_history("production").await;
    let (service, port) = (&setup.service, free_port());
    let servers = format!(
        "  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {}; }} }}",
        service.url().trim_end_matches('/')
    );
    let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
    let _nginx = Nginx::start(folder.path(), &servers);
    let url = format!("http://127.0.0.1:{port}");
    wait_until_ready(&url, &[]).await;

    let client = Client::new(&url);
    let mut stream = EventStream::open(&client, "/v1/events/stream?environment=staging").await;
    let mut followed = Command::start(PROGRAM, &["history", "--follow", "--json", "--url", &url]);
    record_and_follow(service, &mut followed, 1).await;
    for number in 1..=3 {
        let entry = stream.next_entry().await.expect("an entry");
        assert_eq!(entry.data["event"]["id"], format!("nginx-{number}"), "{:?}", entry.data);
    }

    setup.request_rollback("production", "r-1", target).await;
    let mut watch = Command::start(PROGRAM, &["rollback", "watch", "r-1", "--url", &url]);
    watch.line_with("rollback.requested r-1").await;
    let done = setup.execute("r-1", NOTE_STEP, &[]).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    watch.line_with("rollback r-1 of production has succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_block_of_the_guide_serves_questions_and_streams_over_tls_and_hides_the_metrics() {
    let setup = Setup::start().await;
    let (service, port) = (&setup.service, free_port());
    let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority");
    let (certificate, key) = authority.issue("ledger");
    let upstream = service.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let block = replaced(nginx_block(PROXIES), "server 127.0.0.1:8080;", &format!("server {upstream};"));
    let block = replaced(&block, "listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"));
    let block = replaced(&block, "/etc/nginx/tls/ledger.crt", &certificate);
    let block = replaced(&block, "/etc/nginx/tls/ledger.key", &key);
    let block = if has_http2_directive() { block } else { replaced(&block, "http2 on;", "") };
    // The location of the other guide, in the same server.
    let locations = format!("{}\n  location / {{", nginx_block(LIVE));
    let block = replaced(&block, "  location / {", &locations);
    let _nginx = Nginx::start(folder.path(), &block);
    let (url, ca) = (format!("https://127.0.0.1:{port}"), format!("--ca-file={}", authority.ca()));
    wait_until_ready(&url, &[&ca]).await;

    let mut followed = Command::start(PROGRAM, &["history", "--follow", "--json", "--url", &url, &ca]);
    record_and_follow(service, &mut followed, 1).await;
    let emit =
        ["emit", "deploy.succeeded", "--environment=staging", "--service=web", "--version=v9", "--url", &url];
    let emitted = Command::start(PROGRAM, &[&emit[..], &[&ca]].concat()).outcome().await;
    assert_eq!(emitted.code, Some(0), "{}", emitted.stderr);
    followed.line_with("v9").await;

    let root =
        reqwest::Certificate::from_pem(&fs::read(authority.ca()).expect("read")).expect("a certificate");
    let client = reqwest::Client::builder().add_root_certificate(root).build().expect("a client");
    let status =
        async |path: &str| client.get(format!("{url}{path}")).send().await.expect("an answer").status();
    assert_eq!(status("/readyz").await, StatusCode::OK);
    assert_eq!(status("/metrics").await, StatusCode::NOT_FOUND);
}
