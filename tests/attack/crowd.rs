//! Very many connections at once: most do nothing, others drip, and a client connects between them.

use std::time::{Duration, Instant};

use ledger_tests::deploy;
use rustix::process::{Resource, getrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::attacks::Outcome;
use crate::target::{Target, raise_limit_of_files};

/// Open files of this program besides the connections of the attack.
const OWN_FILES: u64 = 256;
/// Time limit of a connection and of an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Interval between the bytes of a connection that drips.
const DRIP_INTERVAL: Duration = Duration::from_secs(1);
/// Pause of the client between two events.
const INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time of an event of the client, with a connection of its own.
const MAX_ACKNOWLEDGED: Duration = Duration::from_secs(1);
/// Maximum memory that the service takes for the connections, in MiB.
const MAX_MEMORY_MIB: u64 = 300;

/// Idle and dripping connections, as many as this machine lets the program open, while a client records.
pub(crate) async fn idle_and_dripping_connections(target: &Target) -> Outcome {
    raise_limit_of_files()?;
    let (idle, dripping) = target.scale.connections.crowd;
    let dripping = dripping.min(open_files(dripping));
    let idle = open_files(idle + dripping).saturating_sub(dripping);
    let before = target.memory_mib();
    let stop = CancellationToken::new();
    let drips = drip(target, dripping, &stop).await?;
    let mut streams = Vec::with_capacity(idle);
    for _ in 0..idle {
        // Beyond a limit, the service may refuse connections.
        if let Ok(Ok(stream)) = timeout(LIMIT, TcpStream::connect(target.address())).await {
            streams.push(stream);
        }
    }
    let recorded = record(target, target.scale.crowded_events).await;
    let (held, memory) = (target.client.metric("ledger_http_connections").await, target.memory_mib());
    stop.cancel();
    let again = drips.await.map_err(|error| format!("the drips failed: {error}"))?;
    let slowest = recorded?;
    let figures = format!(
        "{} idle and {dripping} dripping connections opened, {again} opened again, {} held by the service: slowest event \
         {slowest:.0?}, {} MiB more",
        streams.len(),
        held.unwrap_or_default(),
        memory.saturating_sub(before)
    );
    let is_bounded = slowest <= MAX_ACKNOWLEDGED && memory.saturating_sub(before) <= MAX_MEMORY_MIB;
    if target.scale.asserts_figures && !is_bounded {
        return Err(figures);
    }
    Ok(figures)
}

/// Returns the number of connections, at most `wanted`, that the limit of open files lets this program open.
fn open_files(wanted: usize) -> usize {
    let available = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(available.saturating_sub(OWN_FILES)).map_or(wanted, |available| available.min(wanted))
}

/// Opens connections that send a byte of a request from time to time, until `stop` is cancelled. A task opens another
/// one for each that ends, and returns their number.
async fn drip(target: &Target, count: usize, stop: &CancellationToken) -> Result<JoinHandle<usize>, String> {
    let (address, stop) = (target.address(), stop.clone());
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let opened = begin_request(&address, number).await;
        streams.push(opened.map_err(|error| format!("cannot connect: {error}"))?);
    }
    Ok(tokio::spawn(async move {
        let mut again = 0;
        while timeout(DRIP_INTERVAL, stop.cancelled()).await.is_err() {
            for (number, stream) in streams.iter_mut().enumerate() {
                if stream.write_all(b"a").await.is_err()
                    && let Ok(opened) = begin_request(&address, number).await
                {
                    *stream = opened;
                    again += 1;
                }
            }
        }
        again
    }))
}

/// Sends the beginning of a request: half of the connections drip a header, and the others a body.
async fn begin_request(address: &str, number: usize) -> std::io::Result<TcpStream> {
    let mut stream = timeout(LIMIT, TcpStream::connect(address)).await??;
    let start = if number.is_multiple_of(2) {
        format!("GET /v1/position HTTP/1.1\r\nHost: {address}\r\nX-Drip: ")
    } else {
        format!(
            "POST /v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: 1000000\r\n\r\n"
        )
    };
    stream.write_all(start.as_bytes()).await?;
    Ok(stream)
}

/// Records events, each over a connection of its own, and returns the longest time from connecting to the answer.
async fn record(target: &Target, count: usize) -> Result<Duration, String> {
    let mut slowest = Duration::ZERO;
    for number in 0..count {
        let id = format!("crowd-{number}");
        let body = deploy(&id, "2026-08-01T10:00:00Z", "crowded", "web", &id).to_string();
        let (address, length) = (target.address(), body.len());
        let request = format!(
            "POST /v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/cloudevents+json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let started = Instant::now();
        let answered = timeout(LIMIT, async {
            let mut connection = target.service.connect().await;
            connection.send(request).await;
            connection.answer().await
        });
        match answered.await {
            Ok(Some(answer)) if answer.status == 201 => slowest = slowest.max(started.elapsed()),
            Ok(answer) => return Err(format!("event {number} of a client was answered with {answer:?}")),
            Err(_) => return Err(format!("event {number} of a client was not answered within {LIMIT:?}")),
        }
        sleep(INTERVAL).await;
    }
    Ok(slowest)
}
