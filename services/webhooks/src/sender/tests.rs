//! Tests of single deliveries against receivers on this machine.

use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use axum::response::Redirect;
use axum::routing::{any, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Starts a receiver, and returns its address and what its paths `/ok` and `/target` receive.
async fn receiver() -> (SocketAddr, Received) {
    let received = Received::default();
    let seen = Arc::clone(&received);
    let accept = move |headers: HeaderMap, body: Bytes| {
        let seen = Arc::clone(&seen);
        async move {
            seen.lock().expect("no panic").push((headers, body));
            StatusCode::ACCEPTED
        }
    };
    let busy = || async { (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")], "slow\ndown\u{1b}[2J") };
    let routes = Router::new()
        .route("/ok", post(accept.clone()))
        .route("/target", any(accept))
        .route("/hang", post(|| async { std::future::pending::<StatusCode>().await }))
        .route("/busy", post(busy))
        .route("/gone", post(|| async { StatusCode::GONE }))
        .route("/large", post(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "x".repeat(1 << 22)) }))
        .route("/redirect", post(|| async { Redirect::temporary("/target") }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, received)
}

/// Starts a receiver that answers a request with the begin of a response and then hangs. Returns its address.
async fn receiver_that_hangs_after(begin: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        // The client takes a response that arrives before it has sent the request for an error.
        let mut request = [0; 8192];
        let _ = connection.read(&mut request).await.expect("a request");
        connection.write_all(begin).await.expect("written");
        std::future::pending::<()>().await;
    });
    address
}

fn sender(networks: &[&str]) -> Sender {
    let settings = Settings {
        allow_http: true,
        allow_networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
        parallel_deliveries: 1,
        timeout: Duration::from_millis(500),
        first_delay: Duration::from_secs(1),
        longest_delay: Duration::from_secs(600),
        give_up_after: Duration::from_secs(86_400),
    };
    Sender::new(&settings).expect("a client")
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_785_585_600, 0).expect("a time")
}

async fn send(sender: &Sender, url: &str) -> Result<StatusCode, Failure> {
    let url = WebhookUrl::parse(url).expect("a URL");
    let body = Bytes::from_static(b"{}");
    let message = Message { url: &url, id: "msg_1", timestamp: 1_785_585_600, signature: "v1,AAAA", body };
    sender.send(message, now()).await
}

#[tokio::test]
async fn an_entry_arrives_with_the_headers_of_standard_webhooks() {
    let (address, received) = receiver().await;

    let status = send(&sender(&["127.0.0.0/8"]), &format!("http://{address}/ok")).await;

    assert_eq!(status, Ok(StatusCode::ACCEPTED));
    let received = received.lock().expect("no panic");
    let [(headers, body)] = &received[..] else { panic!("one request: {received:?}") };
    assert_eq!(body, "{}");
    for (name, value) in [
        ("content-type", "application/json"),
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1785585600"),
        ("webhook-signature", "v1,AAAA"),
    ] {
        assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (address, received) = receiver().await;

    let failure = send(&sender(&["127.0.0.0/8"]), &format!("http://{address}/redirect")).await;

    let failure = failure.expect_err("a failure");
    assert_eq!(failure.reason, "the receiver answered 307, and redirects are not followed");
    assert!(received.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn an_internal_address_is_not_connected_to() {
    let (address, received) = receiver().await;
    let port = address.port();

    for url in [format!("http://{address}/ok"), format!("http://localhost:{port}/ok")] {
        let failure = send(&sender(&[]), &url).await.expect_err("a failure");
        assert!(failure.reason.contains("which is not public"), "{url}: {}", failure.reason);
    }
    assert!(received.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_fails_in_time() {
    let (address, _) = receiver().await;

    let failure = send(&sender(&["127.0.0.0/8"]), &format!("http://{address}/hang")).await;

    let failure = failure.expect_err("a failure");
    assert_eq!((failure.reason.as_str(), failure.class), ("no answer within 0.5 s", FailureClass::Timeout));
}

#[tokio::test]
async fn a_receiver_that_hangs_after_its_status_has_acknowledged() {
    let address = receiver_that_hangs_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let sender = Sender { timeout: Duration::from_secs(5), ..sender(&["127.0.0.0/8"]) };

    assert_eq!(send(&sender, &format!("http://{address}/")).await, Ok(StatusCode::OK));
}

#[tokio::test]
async fn a_receiver_that_hangs_after_a_failure_keeps_its_status_and_the_demanded_delay() {
    let head = b"HTTP/1.1 503 Busy\r\nretry-after: 9\r\ncontent-length: 9\r\n\r\nhalf";
    let address = receiver_that_hangs_after(head).await;

    let failure = send(&sender(&["127.0.0.0/8"]), &format!("http://{address}/")).await;

    let failure = failure.expect_err("a failure");
    assert_eq!(failure.class, FailureClass::Status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn a_failure_without_an_answer_has_a_class() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let no_tls = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
        std::future::pending::<()>().await;
    });
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let sender = sender(&["127.0.0.0/8"]);

    for (url, class) in [
        (format!("https://{no_tls}/"), FailureClass::Tls),
        (format!("http://{free}/"), FailureClass::Connect),
        ("http://10.0.0.1/".to_owned(), FailureClass::Address),
    ] {
        let failure = send(&sender, &url).await.expect_err("a failure");
        assert_eq!(failure.class, class, "{url}: {}", failure.reason);
    }
}

#[tokio::test]
async fn an_excerpt_is_the_begin_of_the_answer_as_one_escaped_line() {
    let answer = |text: String| Response::from(axum::http::Response::new(text));

    let controls = excerpt(answer("slow\ndown\u{1b}[2J".to_owned())).await;
    let large = excerpt(answer("x".repeat(1 << 22))).await;

    assert_eq!(controls, "slow\\ndown\\u{1b}[2J");
    assert_eq!(large.len(), EXCERPT_BYTES);
}

#[tokio::test]
async fn a_port_of_a_network_is_the_only_one_that_is_connected_to() {
    let ((listed, _), (other, received)) = (receiver().await, receiver().await);
    let sender = sender(&[&format!("127.0.0.1:{}", listed.port()), &format!("[::1]:{}", listed.port())]);

    for host in ["127.0.0.1", "localhost"] {
        let reached = send(&sender, &format!("http://{host}:{}/ok", listed.port())).await;
        let refused = send(&sender, &format!("http://{host}:{}/ok", other.port())).await;
        assert_eq!(reached, Ok(StatusCode::ACCEPTED), "{host}");
        assert_eq!(refused.expect_err("a failure").class, FailureClass::Address, "{host}");
    }
    assert!(received.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_failure_has_the_status_and_the_demanded_delay_and_no_text_of_an_internal_receiver() {
    let (address, _) = receiver().await;
    let sender = sender(&["127.0.0.0/8"]);

    let busy = send(&sender, &format!("http://{address}/busy")).await.expect_err("a failure");
    let large = send(&sender, &format!("http://{address}/large")).await.expect_err("a failure");
    let gone = send(&sender, &format!("http://{address}/gone")).await.expect_err("a failure");

    assert_eq!(busy.detail(), "the receiver answered 429");
    assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
    assert_eq!((large.class.to_string(), large.excerpt.as_str()), ("status 500".to_owned(), ""));
    assert!(gone.is_gone() && !busy.is_gone());
    assert_eq!(gone.detail(), "the receiver answered 410");
}

#[tokio::test]
async fn a_failure_does_not_repeat_the_url() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");

    let url = format!("http://{free}/?token=secret");
    let failure = send(&sender(&["127.0.0.0/8"]), &url).await.expect_err("a failure");

    assert!(!failure.reason.contains("secret"), "{}", failure.reason);
    assert_eq!(failure.status(), None);
}

#[test]
fn a_delay_is_demanded_in_seconds_or_up_to_a_time() {
    let demanded = |value: &str| {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().expect("a value"))]);
        retry_after(&headers, now())
    };
    assert_eq!(demanded("120"), Some(Duration::from_secs(120)));
    let at = now().to_rfc2822();
    assert_eq!(demanded(&at), Some(Duration::ZERO));
    assert_eq!(demanded("Sat, 01 Aug 2026 12:00:30 GMT"), Some(Duration::from_secs(30)));
    for none in ["soon", "-1", "Sat, 01 Aug 2026 11:00:00 GMT"] {
        assert_eq!(demanded(none), None, "{none}");
    }
}
