//! A flood of requests by one principal, while the times of another are measured.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use ledger_tests::{Client, deploy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::attacks::Outcome;
use crate::target::Target;

/// Connections of the flood, each of which sends its next request after the answer to the last one.
const CONNECTIONS: usize = 64;
/// Pause of the other principal between two events, so that it stays below its own limit.
const INTERVAL: Duration = Duration::from_millis(10);
/// Requests of one principal that the service accepts by default: at once, and a second.
const ACCEPTED: (u64, u64) = (1_000, 200);
/// Maximum time until the flood reaches its limit.
const MAX_UNTIL_LIMITED: Duration = Duration::from_secs(30);
/// Maximum ratio of the other principal's p99 during the flood to that before it.
const MAX_RATIO: u32 = 2;
/// Time that the p99 may have beyond the ratio: the flood and the service share the cores of one machine.
const FLOOR: Duration = Duration::from_millis(20);

/// Answers to the flood.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    limited: AtomicU64,
    /// Answers with another status, and connections that ended.
    other: AtomicU64,
    /// Notified of the first limited request.
    is_limited: Notify,
}

impl Counts {
    fn add(&self, status: u16) {
        match status {
            200 | 201 => self.accepted.fetch_add(1, Ordering::Relaxed),
            429 => {
                self.is_limited.notify_one();
                self.limited.fetch_add(1, Ordering::Relaxed)
            }
            _ => self.other.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// One principal sends events and reads the history as fast as it can; another one records.
pub(crate) async fn flood_by_one_principal(target: &Target) -> Outcome {
    let Some(token) = target.attacker_token() else { return Err("the attacker has no token".to_owned()) };
    let client = target.new_client();
    let before = p99(&client, "before", target.scale.flooded).await?;
    let (counts, stop) = (Arc::new(Counts::default()), CancellationToken::new());
    let started = Instant::now();
    let flood = start(target.address(), token, Arc::clone(&counts), stop.clone());
    let limited = timeout(MAX_UNTIL_LIMITED, counts.is_limited.notified()).await;
    let during = p99(&client, "during", target.scale.flooded).await;
    stop.cancel();
    flood.await.map_err(|error| format!("the flood failed: {error}"))?;
    let (elapsed, during) = (started.elapsed(), during?);

    let [accepted, limited_requests, other] =
        [&counts.accepted, &counts.limited, &counts.other].map(|count| count.load(Ordering::Relaxed));
    // A slow build on a busy machine may not answer enough to reach the limit.
    if limited.is_err() && target.scale.asserts_figures {
        return Err(format!("{accepted} requests of one principal were accepted, and none was limited"));
    }
    let (at_once, a_second) = ACCEPTED;
    let allowed = at_once + a_second * (elapsed.as_secs() + 1) + CONNECTIONS as u64;
    if accepted > allowed {
        return Err(format!("{accepted} requests of one principal were accepted in {elapsed:.1?}"));
    }
    let figures = format!(
        "{accepted} requests accepted, {limited_requests} limited, {other} others in {elapsed:.1?}; p99 of another \
         principal {before:.1?} before, {during:.1?} during the flood"
    );
    if target.scale.asserts_figures && during > before * MAX_RATIO + FLOOR {
        return Err(figures);
    }
    Ok(figures)
}

/// Records events, one after the other, and returns the time within which 99 of 100 were acknowledged.
async fn p99(client: &Client, phase: &str, count: usize) -> Result<Duration, String> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let id = format!("{phase}-{number}");
        let event = deploy(&id, "2026-08-01T10:00:00Z", "measured", "web", &id);
        let started = Instant::now();
        let answered = client.record(&event).await;
        times.push(started.elapsed());
        if answered.status != 201 {
            let (status, text) = (answered.status, answered.text);
            return Err(format!("an event of another principal was answered with {status}: {text}"));
        }
        sleep(INTERVAL).await;
    }
    times.sort_unstable();
    times.get(count * 99 / 100).copied().ok_or_else(|| "no event was measured".to_owned())
}

/// Starts the flood on a thread of its own, so that it delays the measurement as little as possible.
fn start(address: String, token: String, counts: Arc<Counts>, stop: CancellationToken) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let flood = (0..CONNECTIONS).map(|number| flood(&address, &token, number, &counts, &stop));
        runtime.expect("a runtime").block_on(join_all(flood));
    })
}

/// Sends requests over one connection, and over another one if it ends.
async fn flood(address: &str, token: &str, number: usize, counts: &Counts, stop: &CancellationToken) {
    let mut sent = 0;
    while !stop.is_cancelled() {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            counts.add(0);
            tokio::task::yield_now().await;
            continue;
        };
        let mut received = Vec::new();
        while !stop.is_cancelled() {
            sent += 1;
            let request = request(address, token, number, sent);
            let answered = async {
                stream.write_all(request.as_bytes()).await?;
                status(&mut stream, &mut received).await
            };
            let Ok(status) = answered.await else {
                counts.add(0);
                break;
            };
            counts.add(status);
        }
    }
}

/// Returns a request: half of the connections send events, and the others read the history.
fn request(address: &str, token: &str, number: usize, sent: u64) -> String {
    let head = format!("Host: {address}\r\nAuthorization: Bearer {token}\r\n");
    if number.is_multiple_of(2) {
        return format!("GET /v1/events?limit=100 HTTP/1.1\r\n{head}\r\n");
    }
    let id = format!("flood-{number}-{sent}");
    let body = deploy(&id, "2026-08-01T10:00:00Z", "flooded", "web", &id).to_string();
    let length = body.len();
    format!(
        "POST /v1/events HTTP/1.1\r\n{head}Content-Type: application/cloudevents+json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Receives an answer, and returns its status.
async fn status(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<u16, Error> {
    let invalid = || Error::from(ErrorKind::InvalidData);
    let end = loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        receive(stream, received).await?;
    };
    let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).ok_or_else(invalid)?;
    while received.len() < end + length {
        receive(stream, received).await?;
    }
    received.drain(..end + length);
    Ok(status)
}

/// Receives some bytes.
async fn receive(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), Error> {
    match stream.read_buf(received).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
