//! HTTP/1.1: what RFC 9110 and RFC 9112 ask of a server like this one. Each test names the section.

use ledger_tests::{Client, InProcess, RawAnswer, RawConnection, deploy};
use reqwest::Method;
use serde_json::Value;

const STRUCTURED: &str = "content-type: application/cloudevents+json\r\n";

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", "v1")
}

/// Returns a request with these header lines, each with its line feed.
fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{headers}{length}\r\n{body}")
}

/// Sends one request on a new connection, and returns the answer.
async fn answer(service: &InProcess, request: impl AsRef<[u8]>) -> RawAnswer {
    let mut connection = service.connect().await;
    connection.send(request).await;
    connection.answer().await.expect("an answer")
}

async fn status(service: &InProcess, request: impl AsRef<[u8]>) -> u16 {
    answer(service, request).await.status
}

/// RFC 9112, section 3.2.
#[tokio::test]
async fn a_request_has_exactly_one_valid_host() {
    let service = InProcess::start(&[]).await;
    let with = |hosts: &str| format!("GET /livez HTTP/1.1\r\n{hosts}\r\n");

    for wrong in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nHost: b\r\n",
        "host:\r\n",
        "host: a b\r\n",
        "host: u@a\r\n",
    ] {
        let answer = answer(&service, with(wrong)).await;
        assert_eq!((answer.status, &*answer.problem()), (400, "invalid-parameter"), "{wrong:?}");
    }
    for host in ["localhost", "LEDGER.example:8080", "127.0.0.1:1", "[::1]:80"] {
        assert_eq!(status(&service, with(&format!("host: {host}\r\n"))).await, 200, "{host}");
    }
    assert_eq!(status(&service, "GET /livez HTTP/1.0\r\n\r\n").await, 200, "HTTP/1.0 has no Host");
}

/// RFC 9110, section 7.4, and RFC 9112, section 3.2.2.
#[tokio::test]
async fn a_request_to_another_host_is_misdirected() {
    let service = InProcess::start(&["--http-allowed-hosts=loopback,ledger.example"]).await;
    let to = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");

    for host in ["localhost:8080", "127.0.0.1", "[::1]:1", "Ledger.Example:443"] {
        assert_eq!(status(&service, to("/livez", host)).await, 200, "{host}");
    }
    for host in ["evil.example", "ledger.example.evil.example", "10.0.0.1"] {
        let answer = answer(&service, to("/v1/position", host)).await;
        assert_eq!((answer.status, &*answer.problem()), (421, "host-not-allowed"), "{host}");
    }
    let absolute = answer(&service, to("http://evil.example/livez", "localhost")).await;
    assert_eq!(absolute.status, 421, "the target of the request takes precedence over Host");
}

/// RFC 9110, section 10.1.1.
#[tokio::test]
async fn a_client_that_expects_100_sends_its_body_only_if_the_service_reads_it() {
    let service = InProcess::start(&["--http-max-batch-bytes=1000"]).await;
    let expecting = |kind: &str, length: usize| {
        let headers = format!("content-type: {kind}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n");
        request("POST", "/v1/events", &headers, "")
    };
    let batch = "application/cloudevents-batch+json";

    assert_eq!(status(&service, expecting(batch, 1_001)).await, 413);
    assert_eq!(status(&service, expecting("application/cloudevents+json", 400_000)).await, 413);
    assert_eq!(status(&service, expecting("text/plain", 10)).await, 415);

    let body = format!("[{}]", web("1"));
    let mut connection = service.connect().await;
    connection.send(expecting(batch, body.len())).await;
    assert_eq!(connection.answer().await.map(|answer| answer.status), Some(100));
    connection.send(body).await;
    assert_eq!(connection.answer().await.map(|answer| answer.status), Some(201));
}

/// RFC 9112, section 9.6: a client may end its side after its last request.
#[tokio::test]
async fn a_client_that_ends_its_side_receives_the_answers_to_its_requests() {
    let service = InProcess::start(&[]).await;
    let requests = [
        request("GET", "/v1/position", "", ""),
        request("POST", "/v1/events", STRUCTURED, &web("1").to_string()),
        request("GET", "/openapi.json", "", ""),
    ];
    for request in &requests {
        let mut connection = service.connect().await;
        connection.send(request).await;
        connection.end().await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("an answer to {request}"));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        assert_eq!(answer.body.len().to_string(), answer.header("content-length"));
        assert_eq!(connection.closed().await, "");
    }
    let mut pipelined = service.connect().await;
    pipelined.send(requests.concat()).await;
    pipelined.end().await;
    for _ in &requests {
        assert!(pipelined.answer().await.is_some());
    }
}

/// RFC 9112, section 8: such a message is incomplete.
#[tokio::test]
async fn a_body_that_ends_early_is_incomplete() {
    let service = InProcess::start(&[]).await;
    let mut connection = service.connect().await;
    let started = std::time::Instant::now();

    connection.send("POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n").await;
    connection.send(format!("{STRUCTURED}\r\n{{\"id\":")).await;
    connection.end().await;
    let received = connection.closed().await;

    assert!(received.is_empty() || received.contains("incomplete-body"), "{received}");
    assert!(started.elapsed().as_secs() < 4, "the service does not wait for more");
    assert_eq!(service.client().positions().await.1, 0);
}

/// RFC 9110, sections 8.3.1 and 8.4.1.
#[tokio::test]
async fn media_types_and_content_codings_are_compared_without_case() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let post = async |path: &str, kind: &str, body: String| client.post(path, kind, body).await.status;
    let gate = r#"{"service":"web","release":{"version":"v1"}}"#.to_owned();

    assert_eq!(
        post("/v1/events", "Application/CloudEvents+JSON; Charset=UTF-8", web("1").to_string()).await,
        201
    );
    assert_eq!(post("/v1/events", "APPLICATION/X-NDJSON", web("2").to_string()).await, 201);
    client.wait_for_projections(2).await;
    assert_eq!(post("/v1/environments/production/gate", "Application/Json;charset=utf-8", gate).await, 200);
    let identity = format!("{STRUCTURED}content-encoding: Identity\r\n");
    assert_eq!(status(&service, request("POST", "/v1/events", &identity, &web("3").to_string())).await, 201);
}

/// RFC 9110, sections 13.1.2 and 15.4.5.
#[tokio::test]
async fn an_entry_that_the_client_has_is_not_sent_again() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1")).await;
    let tag = client.get("/v1/events/1").await.header("etag").to_owned();
    let conditional = async |method: Method, tags: &str| {
        Client::send(client.request(method, "/v1/events/1").header("if-none-match", tags)).await
    };

    for tags in [&*tag, "*", &format!("\"other\", {tag}"), &format!("W/{tag}"), &format!("\"a,b\",{tag}")] {
        for method in [Method::GET, Method::HEAD] {
            let response = conditional(method, tags).await;
            assert_eq!((response.status, &*response.text), (304, ""), "{tags}");
            assert_eq!(response.header("etag"), tag);
            assert!(!response.header("cache-control").is_empty());
        }
    }
    for tags in ["\"other\"", "W/\"other\", \"another\"", tag.trim_matches('"')] {
        assert_eq!(conditional(Method::GET, tags).await.status, 200, "{tags}");
    }
}

/// RFC 9110, section 9.3.2.
#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1")).await;

    for path in
        ["/v1/events/1", "/v1/environments/production/state", "/v1/events/9", "/livez", "/openapi.json"]
    {
        let mut connection = service.connect().await;
        connection.send(request("GET", path, "", "")).await;
        let get = connection.answer().await.expect("an answer");
        connection.send(request("HEAD", path, "", "")).await;
        let head = connection.answer_to_head().await.expect("an answer");
        connection.send(request("GET", "/livez", "", "")).await;
        let next = connection.answer().await.expect("an answer");

        let same = ["content-length", "content-type", "etag", "cache-control", "ledger-position"];
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(same.map(|name| head.header(name)), same.map(|name| get.header(name)), "{path}");
        assert_eq!(next.status, 200, "no body follows the head");
    }
}

/// RFC 9110, section 15.5.6.
#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_answered_with_those_it_has() {
    let service = InProcess::start(&[]).await;

    for (method, path, allowed) in [
        ("DELETE", "/v1/events", "get,head,post"),
        ("OPTIONS", "/v1/position", "get,head"),
        ("GET", "/v1/backtests", "post"),
        ("BREW", "/livez", "get,head"),
    ] {
        let answer = answer(&service, request(method, path, "", "")).await;
        let mut found: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        found.sort_unstable();
        assert_eq!((answer.status, found.join(",").as_str()), (405, allowed), "{method} {path}");
    }
}

/// RFC 9112, section 9.3.2: answers have the order of the requests.
#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_order() {
    let service = InProcess::start(&[]).await;
    let mut connection = service.connect().await;
    let requests: String =
        (0..200)
            .map(|number| {
                if number % 2 == 0 { request("GET", "/livez", "", "") } else { request("GET", "/no", "", "") }
            })
            .collect();

    connection.send(requests).await;

    for number in 0..200 {
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, if number % 2 == 0 { 200 } else { 404 }, "answer {number}");
    }
    assert!(connection.is_drained());
}

/// RFC 9112, sections 6.3 and 7.1.
#[tokio::test]
async fn the_body_of_a_request_ends_where_its_framing_says() {
    let service = InProcess::start(&[]).await;
    let event = web("1").to_string();
    let (first, rest) = event.split_at(30);
    let chunks = format!("{:x}\r\n{first}\r\n{:X};ext=1\r\n{rest}\r\n0\r\n\r\n", first.len(), rest.len());
    let chunked =
        request("POST", "/v1/events", &format!("{STRUCTURED}transfer-encoding: Chunked\r\n"), "") + &chunks;
    let mut connection = service.connect().await;

    connection.send(chunked + &request("GET", "/livez", "", "GET /no HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    connection.send(request("GET", "/v1/position", "", "")).await;

    assert_eq!(connection.answer().await.map(|answer| answer.status), Some(201));
    assert_eq!(connection.answer().await.map(|answer| answer.status), Some(200));
    // The body of the GET before is no request: the connection continues after it, or it is closed.
    assert!(connection.answer().await.is_none_or(|answer| answer.json()["head"] == 1));
}

/// RFC 9112, sections 2.2, 3, 5.1, 5.2, 6.1 and 6.3: what two parsers may read differently is refused.
#[tokio::test]
async fn an_ambiguous_request_is_refused() {
    let service = InProcess::start(&[]).await;
    let with = |headers: &str| {
        format!("POST /v1/events HTTP/1.1\r\nhost: a\r\n{STRUCTURED}{headers}\r\n{}", web("1"))
    };
    let length = web("1").to_string().len();

    for wrong in [
        with(&format!("content-length: {length}\r\ncontent-length: {}\r\n", length - 1)),
        with(&format!("content-length: {length}, {}\r\n", length - 1)),
        with(&format!("content-length: +{length}\r\n")),
        with("content-length: -1\r\n"),
        with("content-length: 0x10\r\n"),
        with("content-length: 99999999999999999999\r\n"),
        with("transfer-encoding: xchunked\r\n"),
        with("transfer-encoding: chunked, identity\r\n"),
        with(&format!("content-length : {length}\r\n")),
        with(&format!("x: 1\r\n folded\r\ncontent-length: {length}\r\n")),
        with(&format!("no colon\r\ncontent-length: {length}\r\n")),
        "GET  /livez HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /livez HTTP/1.1 \r\nhost: a\r\n\r\n".to_owned(),
        "GET /livez\r\nhost: a\r\n\r\n".to_owned(),
        "GET /livez HTTP/2.0\r\nhost: a\r\n\r\n".to_owned(),
        "GET /li\rvez HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
    ] {
        let mut connection = service.connect().await;
        connection.send(&wrong).await;
        connection.end().await;
        let received = connection.closed().await;
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 400 "), "{wrong:?}: {received}");
    }
    assert_eq!(service.client().positions().await.1, 0);
}

/// RFC 9110, section 6.6.1, RFC 9112, section 9.3, and what browsers ask.
#[tokio::test]
async fn every_answer_has_a_date_and_says_what_a_client_may_do_with_it() {
    let service = InProcess::start(&[]).await;
    service.client().record_and_wait(&web("1")).await;

    for (path, status, caching) in [
        ("/v1/position", 200, "no-store"),
        ("/v1/events/1", 200, "private, no-cache"),
        ("/v1/events/9", 404, "no-store"),
        ("/no", 404, "no-store"),
        ("/livez", 200, "no-store"),
    ] {
        let answer = answer(&service, request("GET", path, "", "")).await;
        assert_eq!((answer.status, answer.header("cache-control")), (status, caching), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("date").ends_with("gmt"), "{path}");
    }
}

/// RFC 9112, section 9.3.
#[tokio::test]
async fn a_connection_is_kept_unless_the_client_says_otherwise() {
    let service = InProcess::start(&[]).await;
    let is_kept = async |head: &str| {
        let mut connection: RawConnection = service.connect().await;
        connection.send(format!("GET /livez {head}\r\n\r\n")).await;
        connection.answer().await.expect("an answer");
        connection.send(request("GET", "/livez", "", "")).await;
        connection.answer().await.is_some()
    };

    assert!(is_kept("HTTP/1.1\r\nhost: a").await);
    assert!(!is_kept("HTTP/1.1\r\nhost: a\r\nconnection: Close").await);
    assert!(!is_kept("HTTP/1.0").await);
    assert!(is_kept("HTTP/1.0\r\nconnection: keep-alive").await);
}

/// RFC 9110, section 13.1.1.
#[tokio::test]
async fn a_condition_that_cannot_be_evaluated_is_rejected() {
    let service = InProcess::start(&[]).await;
    service.client().record_and_wait(&web("1")).await;
    let body = r#"{"to":"-1","reason":"r","initiated_by":{"type":"person","name":"mia"}}"#;
    let post = |conditions: &str| {
        let headers = format!("content-type: application/json\r\n{conditions}");
        request("POST", "/v1/environments/production/rollbacks", &headers, body)
    };

    for wrong in ["if-match: 1\r\n", "if-match: \"1\"\r\nif-match: \"2\"\r\n", "if-match: \"1\", \"2\"\r\n"] {
        assert_eq!(status(&service, post(wrong)).await, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_time_is_within_the_years_that_its_form_can_express() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1")).await;
    let state = async |time: &str| {
        let path = format!("/v1/environments/production/state?at={}", time.replace('+', "%2B"));
        client.get(&path).await.status
    };

    assert_eq!(state("9999-12-31T23:59:59Z").await, 200);
    for wrong in ["9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z", "+10000-01-01T00:00:00Z"] {
        assert_eq!(state(wrong).await, 400, "{wrong}");
    }
    assert_eq!(state("0000-01-01T00:00:00+00:01").await, 400);
}

#[tokio::test]
async fn a_stream_cannot_begin_after_the_end_of_the_ledger() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    client.record_and_wait(&web("1")).await;
    let follow = async |last: &str| {
        Client::send(client.request(Method::GET, "/v1/rollbacks/stream").header("last-event-id", last)).await
    };

    let beyond = follow("2").await;
    let by_parameter = client.get("/v1/rollbacks/stream?after=2").await;

    assert_eq!((beyond.status, beyond.problem()), (400, "position-ahead"));
    assert_eq!((by_parameter.status, by_parameter.problem()), (400, "position-ahead"));
}
