//! Followers: what they cost on an idle ledger, and how much slower single events are with them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ledger_tests::deploy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::attacks::Outcome;
use crate::connections::connect;
use crate::target::{Target, raise_limit_of_files};

/// Clients that record single events at a time.
const CLIENTS: usize = 4;
/// Time after the last follower joined in which the service completes the joins.
const SETTLING_PERIOD: Duration = Duration::from_secs(1);
/// Time during which the CPU time of idle followers is measured.
const IDLE_PERIOD: Duration = Duration::from_secs(5);
/// Maximum share of a core that idle followers take.
const MAX_IDLE_SHARE: f64 = 0.02;
/// Minimum rate of single events with followers, as a share of the rate without.
const MIN_RATE: f64 = 0.9;

/// Followers of rollbacks, on an idle ledger and while others record single events.
pub(crate) async fn followers(target: &Target) -> Outcome {
    raise_limit_of_files()?;
    // The first events create what later ones use.
    events_per_second(target, "first").await;
    let before = events_per_second(target, "before").await;
    let streams = follow(target).await?;
    let count = streams.len();
    target.client.wait_for_metric("ledger_http_followers", count as f64).await;
    let idle = idle_share(target).await;
    let with = events_per_second(target, "with").await;
    drop(streams);
    target.client.wait_for_metric("ledger_http_followers", 0.0).await;
    let after = events_per_second(target, "after").await;
    let without = f64::midpoint(before, after);
    let figures = format!(
        "{count} followers: idle {:.1} % of a core (limit {:.0} %), {with:.0} single events/s beside {without:.0} without: \
         {:.2} (limit {MIN_RATE})",
        idle * 100.0,
        MAX_IDLE_SHARE * 100.0,
        with / without,
    );
    let is_within_limits = idle <= MAX_IDLE_SHARE && with >= without * MIN_RATE;
    if target.scale.asserts_figures && !is_within_limits { Err(figures) } else { Ok(figures) }
}

/// Opens the streams, and reads them until they are dropped.
async fn follow(target: &Target) -> Result<JoinSet<()>, String> {
    let mut streams = JoinSet::new();
    for _ in 0..target.scale.connections.followers {
        let mut stream = connect(target).await?;
        let request = format!("GET /v1/rollbacks/stream HTTP/1.1\r\nHost: {}\r\n\r\n", target.address());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut start = [0; 12];
        let read = timeout(Duration::from_secs(10), stream.read_exact(&mut start)).await;
        if !matches!(read, Ok(Ok(_))) || &start != b"HTTP/1.1 200" {
            return Err(format!("a follower was answered with {:?}", String::from_utf8_lossy(&start)));
        }
        streams.spawn(read_all(stream));
    }
    Ok(streams)
}

async fn read_all(mut stream: TcpStream) {
    let mut received = [0; 1_024];
    while matches!(stream.read(&mut received).await, Ok(1..)) {}
}

/// Returns the share of a core that the service takes.
async fn idle_share(target: &Target) -> f64 {
    sleep(SETTLING_PERIOD).await;
    let (before, started) = (target.cpu_seconds(), Instant::now());
    sleep(IDLE_PERIOD).await;
    (target.cpu_seconds() - before) / started.elapsed().as_secs_f64()
}

/// Returns the rate at which some clients record one event after another.
async fn events_per_second(target: &Target, phase: &str) -> f64 {
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|client| async move {
        let mut recorded = 0_u64;
        while started.elapsed() < target.scale.rate_period {
            let id = format!("{phase}-{client}-{recorded}");
            target.client.record(&deploy(&id, "2026-08-01T10:00:00Z", "production", "web", &id)).await.ok();
            recorded += 1;
        }
        recorded
    });
    let recorded: u64 = join_all(clients).await.into_iter().sum();
    recorded as f64 / started.elapsed().as_secs_f64()
}
