//! Connections with TLS, to a listener on a free port of 127.0.0.1.

mod client;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Tls;
use crate::Limits;
use client::{Authority, Connection, Folder};

/// Limit that only a failing test reaches.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// Time after which the handler of `/slow` answers.
const SLOW: Duration = Duration::from_millis(300);

const LIMITS: Limits = Limits {
    batch_bytes: 1 << 20,
    events: 100,
    read_timeout: Duration::from_secs(60),
    write_timeout: Duration::from_secs(60),
    min_bytes_per_second: 1,
    question_timeout: Duration::from_secs(60),
    connections: 16,
    body_bytes: 1 << 20,
    answer_bytes: 1 << 20,
    followers: 1,
    followers_of_principal: 1,
};

/// A listener, which ends with the value.
struct Server {
    address: SocketAddr,
    /// Cancelled when an answer of `/endless` is dropped.
    dropped: CancellationToken,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _guard: DropGuard,
}

impl Server {
    async fn start(tls: &Tls, limits: Limits) -> Self {
        let dropped = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let router = router(dropped.clone());
        let task = tokio::spawn(crate::serve(listener, Some(tls.clone()), router, limits, shutdown.clone()));
        Self { address, dropped, _guard: shutdown.clone().drop_guard(), shutdown, task }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }
}

fn router(dropped: CancellationToken) -> Router {
    let slow = || async {
        tokio::time::sleep(SLOW).await;
        "slow"
    };
    let endless = move || async move {
        let guard = dropped.drop_guard();
        Body::from_stream(futures::stream::repeat_with(move || {
            let _guard = &guard;
            Ok::<_, Infallible>(Bytes::from_static(&[0; 16 << 10]))
        }))
    };
    let echo = |body: Bytes| async move { body };
    let quick = get(|| async { "quick" }).post(echo);
    Router::new().route("/", quick).route("/slow", get(slow)).route("/endless", get(endless))
}

/// Waits until the service closes the connection. Returns what was received before.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset is an end, too.
    let _ = timeout(WAIT_LIMIT, stream.read_to_end(&mut received)).await.expect("the service closes");
    received
}

#[tokio::test]
async fn a_client_speaks_http_1_1_over_tls() {
    let authority = Authority::new();
    let folder = Folder::new(&authority);
    let server = Server::start(&Tls::open(folder.files()).expect("valid files"), LIMITS).await;
    let mut connection = authority.client().connect(server.address).await.expect("a handshake");

    assert_eq!(connection.protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(connection.get("/").await.as_deref(), Some("quick"));
    assert_eq!(connection.get("/slow").await.as_deref(), Some("slow"));
    assert_eq!(connection.post("/", "é").await.as_deref(), Some("é"));
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_closes_none() {
    let authority = Authority::new();
    let folder = Folder::new(&authority);
    let tls = Tls::open(folder.files()).expect("valid files");
    let server = Server::start(&tls, LIMITS).await;
    let client = authority.client();
    let mut before = client.connect(server.address).await.expect("a handshake");
    let first = before.certificate();
    assert_eq!(before.get("/").await.as_deref(), Some("quick"));

    folder.write(&authority.issue());
    tls.reload_if_changed().await;

    let mut after = client.connect(server.address).await.expect("a handshake");
    assert_eq!(before.get("/").await.as_deref(), Some("quick"));
    assert_eq!(after.get("/").await.as_deref(), Some("quick"));
    assert_ne!(after.certificate(), first);
}

#[tokio::test]
async fn broken_files_leave_the_certificate_in_use() {
    let authority = Authority::new();
    let folder = Folder::new(&authority);
    let tls = Tls::open(folder.files()).expect("valid files");
    let server = Server::start(&tls, LIMITS).await;
    let client = authority.client();
    let certificate = async || client.connect(server.address).await.expect("a handshake").certificate();
    let first = certificate().await;

    // The certificate of a pair is replaced before its key.
    folder.write_certificate(&authority.issue().certificate);
    tls.reload_if_changed().await;
    let with_another_key = certificate().await;
    folder.write_certificate("no PEM");
    tls.reload_if_changed().await;
    let without_a_certificate = certificate().await;
    folder.remove_certificate();
    tls.reload().await;
    let without_a_file = certificate().await;
    folder.write(&authority.issue());
    tls.reload_if_changed().await;
    let repaired = certificate().await;

    assert_eq!([&with_another_key, &without_a_certificate, &without_a_file], [&first; 3]);
    assert_ne!(repaired, first);
}

#[test]
fn gauges_show_the_expiry_and_a_failed_reload() {
    let authority = Authority::new();
    let folder = Folder::new(&authority);
    let recorder = PrometheusBuilder::new().build_recorder();
    let has = |line: &str| recorder.handle().render().lines().any(|found| found == line);
    metrics::with_local_recorder(&recorder, || {
        let tls = Tls::open(folder.files()).expect("valid files");
        // 2039-02-03, the expiry of what the authority issues.
        assert!(has("ledger_tls_not_after_seconds 2180304000"), "{}", recorder.handle().render());
        assert!(has("ledger_tls_reload_failed 0"));

        folder.write_certificate("no PEM");
        tls.0.reload(false);
        assert!(has("ledger_tls_reload_failed 1"));

        // The files are as they were: they are not tried again.
        metrics::gauge!("ledger_tls_reload_failed").set(5.0);
        tls.0.reload(false);
        assert!(has("ledger_tls_reload_failed 5"));

        folder.write(&authority.issue());
        tls.0.reload(false);
        assert!(has("ledger_tls_reload_failed 0"));
    });
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let folder = Folder::new(&authority);
    let error = |files| super::error_chain(&Tls::open(files).expect_err("rejected"));

    let mut files = folder.files();
    files.key = files.certificate.clone();
    assert!(error(files).contains("certificate.pem has no valid PEM of a private key"));
    folder.write_certificate(&authority.issue().certificate);
    assert!(error(folder.files()).contains("certificate.pem with the key"));
    folder.remove_certificate();
    assert!(error(folder.files()).contains("cannot read"));
}

#[tokio::test]
async fn a_client_certificate_must_be_of_the_client_authority() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let folder = Folder::new(&authority);
    for is_required in [false, true] {
        let files = folder.files_with_client_ca(&clients, is_required);
        let server = Server::start(&Tls::open(files).expect("valid files"), LIMITS).await;
        let answer = async |client: client::Client| {
            let mut connection = client.connect(server.address).await?;
            connection.try_get("/").await
        };

        let without = answer(authority.client()).await;
        let own = answer(authority.client_with(&clients.issue())).await;
        let other = answer(authority.client_with(&others.issue())).await;

        assert_eq!(without.is_ok(), !is_required, "{without:?}");
        assert_eq!(own.expect("an answer"), "quick");
        assert!(other.is_err(), "{other:?}");
    }
}

#[tokio::test]
async fn a_client_of_plain_http_is_disconnected_at_once() {
    let authority = Authority::new();
    let server = Server::start(&Tls::open(Folder::new(&authority).files()).expect("valid"), LIMITS).await;
    let mut stream = server.tcp().await;

    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");

    let received = closed(&mut stream).await;
    assert!(!received.starts_with(b"HTTP"), "{received:?}");
}

#[tokio::test]
async fn a_client_that_closed_its_side_gets_its_answer() {
    let authority = Authority::new();
    let server = Server::start(&Tls::open(Folder::new(&authority).files()).expect("valid"), LIMITS).await;
    // With a message of TLS that says so, and without.
    for says_so in [true, false] {
        let mut connection = authority.client().connect(server.address).await.expect("a handshake");
        connection.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        connection.close_side(says_so).await;

        assert_eq!(connection.answer().await.expect("an answer"), "slow", "{says_so}");
    }
}

#[tokio::test]
async fn an_incomplete_body_of_a_client_that_closed_its_side_is_no_request() {
    let authority = Authority::new();
    let server = Server::start(&Tls::open(Folder::new(&authority).files()).expect("valid"), LIMITS).await;
    for says_so in [true, false] {
        let mut connection = authority.client().connect(server.address).await.expect("a handshake");
        connection.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345").await;
        connection.close_side(says_so).await;

        let answer = connection.answer().await;
        assert_ne!(answer.as_deref().ok(), Some("12345"), "{says_so}");
    }
}

#[tokio::test]
async fn unfinished_handshakes_do_not_use_up_the_connections() {
    let authority = Authority::new();
    let tls = Tls::open(Folder::new(&authority).files()).expect("valid files");
    let server = Server::start(&tls, Limits { connections: 4, ..LIMITS }).await;
    let mut unfinished = Vec::new();
    for _ in 0..32 {
        let mut stream = server.tcp().await;
        // The start of a handshake that is 512 bytes long.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.expect("sent");
        unfinished.push(stream);
    }

    let mut connection = authority.client().connect(server.address).await.expect("a handshake");

    assert_eq!(connection.get("/").await.as_deref(), Some("quick"));
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_in_time_is_ended() {
    let authority = Authority::new();
    let tls = Tls::open(Folder::new(&authority).files()).expect("valid files");
    let server = Server::start(&tls, Limits { read_timeout: Duration::from_millis(100), ..LIMITS }).await;
    let mut stream = server.tcp().await;

    stream.write_all(&[22, 3, 1, 2, 0]).await.expect("sent");

    assert_eq!(closed(&mut stream).await, b"");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_disconnected() {
    let authority = Authority::new();
    let tls = Tls::open(Folder::new(&authority).files()).expect("valid files");
    let server = Server::start(&tls, Limits { write_timeout: Duration::from_millis(200), ..LIMITS }).await;
    let mut connection = authority.client().connect(server.address).await.expect("a handshake");

    connection.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;

    timeout(WAIT_LIMIT, server.dropped.cancelled()).await.expect("the answer ends");
}

#[tokio::test]
async fn a_shutdown_completes_requests_and_does_not_wait_for_handshakes() {
    let authority = Authority::new();
    let server = Server::start(&Tls::open(Folder::new(&authority).files()).expect("valid"), LIMITS).await;
    let mut unfinished = server.tcp().await;
    unfinished.write_all(&[22, 3, 1, 2, 0]).await.expect("sent");
    let mut connection: Connection = authority.client().connect(server.address).await.expect("a handshake");
    connection.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    tokio::time::sleep(SLOW / 3).await;

    server.shutdown.cancel();

    assert_eq!(connection.answer().await.expect("an answer"), "slow");
    timeout(WAIT_LIMIT, server.task).await.expect("the listener ends").expect("no panic");
}
