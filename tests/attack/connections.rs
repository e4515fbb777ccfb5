//! Connections that send slowly, do not read, do nothing, or follow.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ledger_tests::deploy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::attacks::Outcome;
use crate::target::Target;

/// Bytes of invalid lines that a client sends without reading the answer.
const INVALID_BYTES: usize = 100_000;
/// Bytes of a batch that a client announces.
const ANNOUNCED_BYTES: usize = 16 << 20;
/// Interval between the bytes of a body that drips.
const DRIP_INTERVAL: Duration = Duration::from_secs(1);
/// Time during which the CPU time of idle followers is measured.
const IDLE_PERIOD: Duration = Duration::from_secs(5);
/// Maximum share of a core that idle followers take.
const MAX_IDLE_SHARE: f64 = 0.02;

async fn connect(target: &Target) -> Result<TcpStream, String> {
    TcpStream::connect(target.address()).await.map_err(|error| format!("cannot connect: {error}"))
}

fn head(target: &Target, content_type: &str, length: usize) -> String {
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

/// Followers of rollbacks on an idle ledger.
pub(crate) async fn idle_followers(target: &Target) -> Outcome {
    let mut streams = Vec::new();
    for _ in 0..target.scale.connections.followers {
        let mut stream = connect(target).await?;
        let request = format!("GET /v1/rollbacks/stream HTTP/1.1\r\nHost: {}\r\n\r\n", target.address());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut start = [0; 12];
        let read = timeout(Duration::from_secs(10), stream.read_exact(&mut start)).await;
        if !matches!(read, Ok(Ok(_))) || &start != b"HTTP/1.1 200" {
            return Err(format!("a follower was answered with {:?}", String::from_utf8_lossy(&start)));
        }
    }
    let (before, started) = (target.cpu_seconds(), Instant::now());
    sleep(IDLE_PERIOD).await;
    let share = (target.cpu_seconds() - before) / started.elapsed().as_secs_f64();
    if target.scale.asserts_figures && share > MAX_IDLE_SHARE {
        return Err(format!("{} idle followers take {:.1} % of a core", streams.len(), share * 100.0));
    }
    Ok(format!("{} idle followers: {:.1} % of a core", streams.len(), share * 100.0))
}
