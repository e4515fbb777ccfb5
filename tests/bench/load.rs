//! Load that costs as little as can be: requests are made beforehand, answers are hardly read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::{HeaderMap, Request};
use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Family, Kind, TenantName};
use ledger_journal::Subject;
use ledger_journal::jetstream::{Connection, Settings, StreamSettings};
use ledger_tests::{Servers, nats_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An event as NATS gets it.
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) bytes: Bytes,
}

/// So many reports of the demo history; its requests are judged one by one, which is not what is measured.
pub(crate) fn reports(count: usize) -> Vec<Envelope> {
    let requests = [Family::Rollback, Family::ReleasePoint, Family::Approval, Family::Freeze];
    let is_report = |event: &Envelope| {
        let kind = event.event().payload.kind();
        kind != Kind::EnvironmentDeclared && !requests.contains(&kind.family())
    };
    let reports: Vec<_> =
        ledger_demo::history(Some(count * 5 / 4 + 100)).filter(is_report).take(count).collect();
    assert_eq!(reports.len(), count, "the demo has enough reports");
    reports
}

/// The same bytes under the subjects of a tenant.
pub(crate) fn messages(tenant: &str, events: &[Envelope]) -> Vec<Message> {
    let tenant = TenantName::parse(tenant).expect("a tenant");
    let subject = |event: &Envelope| Subject::of(&tenant, &event.event().payload).as_str().to_owned();
    events.iter().map(|event| Message { subject: subject(event), bytes: event.bytes().clone() }).collect()
}

/// A stream as ours, and a plain client beside it.
pub(crate) async fn raw_client(servers: &Servers, tenant: &str) -> async_nats::Client {
    let settings = Settings {
        url: servers.nats_url().into(),
        credentials: None,
        certificates: None,
        request_timeout: Duration::from_secs(30),
        stream: StreamSettings { replicas: 1, duplicate_window: Duration::from_secs(120) },
    };
    let connection = Connection::open(settings).await.expect("connected");
    connection.journal(TenantName::parse(tenant).expect("a tenant")).await.expect("a stream");
    nats_client(&servers.nats_url()).await
}

/// Publishes in atomic batches, one after the other, with no more headers than the protocol needs.
pub(crate) async fn publish_batches(
    client: &async_nats::Client,
    messages: &[Message],
    members: usize,
) -> Duration {
    let began = Instant::now();
    for (number, batch) in messages.chunks(members).enumerate() {
        let id = format!("floor-{number}-{:p}", messages.as_ptr());
        for (index, message) in batch.iter().enumerate() {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            let (subject, bytes) = (message.subject.clone(), message.bytes.clone());
            if index + 1 < batch.len() {
                client.publish_with_headers(subject, headers, bytes).await.expect("published");
            } else {
                headers.insert("Nats-Batch-Commit", "1");
                let request = Request::new().headers(headers).payload(bytes);
                let answer = client.send_request(subject, request).await.expect("an answer");
                assert!(!answer.payload.windows(7).any(|bytes| bytes == b"\"error\""), "{answer:?}");
            }
        }
    }
    began.elapsed()
}

/// Publishes one by one, so many at a time, each acknowledged.
pub(crate) async fn publish_singles(
    client: &async_nats::Client,
    messages: Vec<Message>,
    at_a_time: usize,
) -> Duration {
    let context = jetstream::new(client.clone());
    let messages = Arc::new(messages);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let publishers = (0..at_a_time).map(|_| {
        let (context, messages, next) = (context.clone(), Arc::clone(&messages), Arc::clone(&next));
        tokio::spawn(async move {
            while let Some(message) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                let publish = context.publish(message.subject.clone(), message.bytes.clone());
                publish.await.expect("published").await.expect("acknowledged");
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.expect("no panic");
    }
    began.elapsed()
}

/// A request, ready to be written.
pub(crate) fn post(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: ledger\r\nContent-Type: {content_type}\r\nPrefer: return=minimal\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request, ready to be written.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: ledger\r\n\r\n").into_bytes()
}

/// A request with a JSON body, ready to be written.
pub(crate) fn post_json(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: ledger\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One connection that is kept.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("http://").expect("http");
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: vec![0; 1 << 20] }
    }

    /// The number after some text in the answer that was read last.
    pub(crate) fn answered(&self, text: &str) -> u64 {
        let after = self.buffer.windows(text.len()).position(|bytes| bytes == text.as_bytes());
        let digits = self.buffer[after.expect("it is in the answer") + text.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    }

    /// Writes a request and reads its answer; answers the status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("written");
        let mut read = 0;
        let end = loop {
            if read == self.buffer.len() {
                self.buffer.resize(read * 2, 0);
            }
            let more = self.stream.read(&mut self.buffer[read..]).await.expect("read");
            assert!(more > 0, "the service closed the connection");
            read += more;
            let Some(head) = self.buffer[..read].windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&self.buffer[..head]).expect("a head").to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1).expect("a length");
            let length: usize =
                length.split("\r\n").next().expect("a length").trim().parse().expect("a number");
            break head + 4 + length;
        };
        while read < end {
            if self.buffer.len() < end {
                self.buffer.resize(end, 0);
            }
            read += self.stream.read(&mut self.buffer[read..end]).await.expect("read");
        }
        let status = std::str::from_utf8(&self.buffer[9..12]).expect("a status");
        status.parse().expect("a number")
    }
}

/// Sends all requests over so many connections; each must be answered 201.
pub(crate) async fn send_all(url: &str, requests: Vec<Vec<u8>>, connections: usize) -> Duration {
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
                assert_eq!(http.ask(request).await, 201);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("no panic");
    }
    began.elapsed()
}
