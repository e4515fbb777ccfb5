//! Load with little CPU of its own: requests are built in advance, and responses are parsed only as far as needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Request};
use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::TenantName;
use ledger_journal::Subject;
use ledger_journal::jetstream::{Connection, Settings, StreamSettings};
use ledger_tests::{Servers, nats_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An event as published to NATS.
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) bytes: Bytes,
}

/// Returns the first `count` reports of the demo history. Requests are excluded: the ledger decides them one by one,
/// which is not measured here.
pub(crate) fn report_events(count: usize) -> Vec<Envelope> {
    let is_report = |event: &Envelope| !event.event().payload.is_command();
    let reports: Vec<_> =
        ledger_demo::history(Some(count * 5 / 4 + 100)).filter(is_report).take(count).collect();
    assert_eq!(reports.len(), count, "the demo history has enough reports");
    reports
}

/// Returns the events as messages with the subjects of a tenant.
pub(crate) fn messages(tenant: &str, events: &[Envelope]) -> Vec<Message> {
    let tenant = TenantName::parse(tenant).expect("the tenant is valid");
    let subject = |event: &Envelope| Subject::of(&tenant, &event.event().payload).as_str().to_owned();
    events.iter().map(|event| Message { subject: subject(event), bytes: event.bytes().clone() }).collect()
}

/// Creates a tenant's stream with the ledger's settings, and returns a plain NATS client.
pub(crate) async fn raw_client(servers: &Servers, tenant: &str) -> async_nats::Client {
    let settings = Settings {
        url: servers.nats_url().into(),
        credentials: None,
        certificates: None,
        client_certificate: None,
        request_timeout: Duration::from_secs(30),
        stream: StreamSettings { replicas: 1, duplicate_window: Duration::from_secs(120) },
    };
    let connection = Connection::open(settings).await.expect("connect");
    connection
        .journal(TenantName::parse(tenant).expect("the tenant is valid"))
        .await
        .expect("create the stream");
    nats_client(&servers.nats_url()).await
}

/// Publishes in atomic batches, one after the other, with only the headers that the protocol requires.
pub(crate) async fn publish_batches(
    client: &async_nats::Client,
    messages: &[Message],
    batch_size: usize,
) -> Duration {
    let began = Instant::now();
    for (number, batch) in messages.chunks(batch_size).enumerate() {
        let id = format!("floor-{number}-{:p}", messages.as_ptr());
        for (index, message) in batch.iter().enumerate() {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            let (subject, bytes) = (message.subject.clone(), message.bytes.clone());
            if index + 1 < batch.len() {
                client.publish_with_headers(subject, headers, bytes).await.expect("publish");
            } else {
                headers.insert("Nats-Batch-Commit", "1");
                let request = Request::new().headers(headers).payload(bytes);
                let answer = client.send_request(subject, request).await.expect("receive the response");
                assert!(!answer.payload.windows(7).any(|bytes| bytes == b"\"error\""), "{answer:?}");
            }
        }
    }
    began.elapsed()
}

/// Returns the bytes of a request that posts events.
pub(crate) fn post(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: ledger\r\nContent-Type: {content_type}\r\nPrefer: return=minimal\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Returns the bytes of a GET request.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: ledger\r\n\r\n").into_bytes()
}

/// Returns the bytes of a POST request with a JSON body.
pub(crate) fn post_json(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: ledger\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Initial size of the buffer for a response; a longer response enlarges it.
const FIRST_BUFFER: usize = 64 << 10;

/// A connection for several requests.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("http://").expect("the URL is http");
        let stream = TcpStream::connect(address).await.expect("connect");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self { stream, buffer: vec![0; FIRST_BUFFER] }
    }

    /// Returns the number after a text in the last response.
    pub(crate) fn number_after(&self, text: &str) -> u64 {
        let after = self.buffer.windows(text.len()).position(|bytes| bytes == text.as_bytes());
        let digits = self.buffer[after.expect("the response contains the text") + text.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    }

    /// Sends a request, reads the response and returns its status.
    pub(crate) async fn send(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("write");
        let mut read = 0;
        let end = loop {
            if read == self.buffer.len() {
                self.buffer.resize(read * 2, 0);
            }
            let more = self.stream.read(&mut self.buffer[read..]).await.expect("read");
            assert!(more > 0, "the service closed the connection");
            read += more;
            if let Some(end) = end_of_response(&self.buffer[..read]) {
                break end;
            }
        };
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while read < end {
            let more = self.stream.read(&mut self.buffer[read..end]).await.expect("read");
            assert!(more > 0, "the service closed the connection");
            read += more;
        }
        let digits = &self.buffer[9..12];
        digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
    }
}

/// Returns the length of a response with its body; `None` if its head is not complete yet.
fn end_of_response(bytes: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length:";
    let mut length = None;
    let mut at = 0;
    loop {
        let line_end = at + bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = &bytes[at..line_end];
        at = line_end + 2;
        if line.is_empty() {
            return Some(at + length.expect("the response has a Content-Length"));
        }
        if line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH) {
            let digits = line[LENGTH.len()..].iter().filter(|byte| byte.is_ascii_digit());
            length = Some(digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')));
        }
    }
}

/// Sends all requests over this many connections, and returns the time. Every response must be 201. One thread sends, so
/// that no time is spent on waking another.
pub(crate) async fn send_all(url: &str, requests: Vec<Vec<u8>>, connections: usize) -> Duration {
    let url = url.to_owned();
    let send = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("create a runtime").block_on(send_concurrently(&url, requests, connections))
    };
    tokio::task::spawn_blocking(send).await.expect("the thread does not panic")
}

async fn send_concurrently(url: &str, requests: Vec<Vec<u8>>, connections: usize) -> Duration {
    let requests = Arc::new(requests);
    let next = Arc::new(AtomicUsize::new(0));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Http::connect(url).await);
    }
    let began = Instant::now();
    let senders = open.into_iter().map(|mut http| {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        tokio::spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                assert_eq!(http.send(request).await, 201);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("no task panics");
    }
    began.elapsed()
}
