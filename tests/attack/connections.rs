//! Connections that send slowly, do not read, or do nothing.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ledger_tests::deploy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::attacks::Outcome;
use crate::target::{Target, raise_limit_of_files};

/// Bytes of invalid lines that a client sends without reading the answer.
const INVALID_BYTES: usize = 100_000;
/// Bytes of a batch that a client announces.
const ANNOUNCED_BYTES: usize = 16 << 20;
/// Interval between the bytes of a body that drips.
const DRIP_INTERVAL: Duration = Duration::from_secs(1);

/// Opens a connection to the service.
pub(crate) async fn connect(target: &Target) -> Result<TcpStream, String> {
    TcpStream::connect(target.address()).await.map_err(|error| format!("cannot connect: {error}"))
}

/// Returns the head of a request that records events.
pub(crate) fn head(target: &Target, content_type: &str, length: usize) -> String {
    format!(
        "POST /v1/events HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n",
        target.address()
    )
}

/// Requests with long answers that the client does not read.
pub(crate) async fn answers_that_are_not_read(target: &Target) -> Outcome {
    let lines = "x\n".repeat(INVALID_BYTES / 2);
    let request = head(target, "application/x-ndjson", lines.len()) + &lines;
    let mut streams = Vec::new();
    for _ in 0..target.scale.connections.unread {
        let mut stream = connect(target).await?;
        // The service may refuse the request before it has read all of it.
        let _ = timeout(Duration::from_secs(10), stream.write_all(request.as_bytes())).await;
        streams.push(stream);
    }
    sleep(Duration::from_secs(2)).await;
    let held = target.memory_mib();
    let answered = target.client.record(&deploy("after", "2026-08-01T10:00:00Z", "a", "web", "v1")).await;
    if answered.status != 201 {
        return Err(format!("another client's event was answered with {}", answered.text));
    }
    Ok(format!("{} connections: {held} MiB", streams.len()))
}

/// Bodies that are nearly complete, and then drip.
pub(crate) async fn bodies_that_drip(target: &Target) -> Outcome {
    let started = Instant::now();
    let body = vec![b' '; ANNOUNCED_BYTES - 1_000_000];
    let drips = (0..target.scale.connections.dripping).map(|_| async {
        let mut stream = connect(target).await?;
        let head = head(target, "application/cloudevents-batch+json", ANNOUNCED_BYTES);
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return Ok(started.elapsed());
        }
        let mut answer = [0; 1];
        while started.elapsed() < target.scale.connections.drip_timeout {
            if timeout(DRIP_INTERVAL, stream.read(&mut answer)).await.is_ok() {
                return Ok(started.elapsed());
            }
            if stream.write_all(b" ").await.is_err() {
                return Ok(started.elapsed());
            }
        }
        Err("a body still drips".to_owned())
    });
    let ended: Result<Vec<Duration>, String> = join_all(drips).await.into_iter().collect();
    let last = ended?.into_iter().max().unwrap_or_default();
    Ok(format!("{} bodies, the last was refused after {last:.0?}", target.scale.connections.dripping))
}

/// Connections that do nothing.
pub(crate) async fn idle_connections(target: &Target) -> Outcome {
    raise_limit_of_files()?;
    let mut streams = Vec::new();
    for _ in 0..target.scale.connections.idle {
        // Beyond a limit, the service may refuse connections.
        if let Ok(stream) = TcpStream::connect(target.address()).await {
            streams.push(stream);
        }
    }
    let started = Instant::now();
    let answered = timeout(Duration::from_secs(10), target.client.get("/readyz")).await;
    let Ok(answered) = answered else { return Err("/readyz was not answered within 10 s".to_owned()) };
    if answered.status != 200 {
        return Err(format!("/readyz was answered with {}: {}", answered.status, answered.text));
    }
    Ok(format!("{} connections: /readyz was answered after {:.0?}", streams.len(), started.elapsed()))
}
