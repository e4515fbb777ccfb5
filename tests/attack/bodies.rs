//! Bodies of valid events, which are large, wait for their end, or name what no path can hold.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ledger_tests::{Client, Response, deploy, rollback_request};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::attacks::Outcome;
use crate::connections::{connect, head};
use crate::history::deploy_many;
use crate::target::Target;

const LINES: &str = "application/x-ndjson";
/// Size of a large event, just below the maximum.
const LARGE_EVENT_BYTES: usize = 60_000;
/// Number of large events in a body that waits for its end.
const WAITING_EVENTS: usize = 100;
/// Number of large events in a complete body.
const COMPLETE_EVENTS: usize = 200;
/// Longest wait until the service takes a line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the line of a large event.
fn large_line(prefix: &str, number: usize) -> String {
    let id = format!("{prefix}-{number}");
    let mut event = deploy(&id, "2026-08-01T10:00:00Z", "large", prefix, &id);
    event["filler"] = "x".repeat(LARGE_EVENT_BYTES).into();
    format!("{event}\n")
}

/// Begins a body of large events, which never ends.
async fn begin_body(target: &Target, prefix: &str) -> Result<TcpStream, String> {
    let mut stream = connect(target).await?;
    let head = head(target, LINES, WAITING_EVENTS * (LARGE_EVENT_BYTES + 1_000));
    // The service may refuse the body before it has read all of it.
    let mut is_open = stream.write_all(head.as_bytes()).await.is_ok();
    for number in 0..WAITING_EVENTS {
        let line = large_line(prefix, number);
        is_open =
            is_open && matches!(timeout(WRITE_TIMEOUT, stream.write_all(line.as_bytes())).await, Ok(Ok(())));
    }
    Ok(stream)
}

/// Bodies of large events that do not end.
pub(crate) async fn lines_that_wait(target: &Target) -> Outcome {
    let begin = |number: usize| async move { begin_body(target, &format!("waiting-{number}")).await };
    let bodies = (0..target.scale.connections.dripping).map(begin);
    let streams: Result<Vec<TcpStream>, String> = join_all(bodies).await.into_iter().collect();
    let streams = streams?;
    sleep(Duration::from_secs(2)).await;
    let answered = target.client.record(&deploy("after", "2026-08-01T10:00:00Z", "a", "web", "v1")).await;
    if answered.status != 201 {
        return Err(format!("another client's event was answered with {}", answered.text));
    }
    Ok(format!("{} bodies of {WAITING_EVENTS} large lines: {} MiB", streams.len(), target.memory_mib()))
}

/// Complete bodies of large events, many at a time.
pub(crate) async fn bodies_of_large_events(target: &Target) -> Outcome {
    let started = Instant::now();
    let record = |number: u64| async move {
        let prefix = format!("large-{number}");
        let lines: Vec<String> = (0..COMPLETE_EVENTS).map(|number| large_line(&prefix, number)).collect();
        target.client.post("/v1/events", LINES, lines.concat()).await
    };
    let responses = join_all((0..target.scale.large_bodies).map(record)).await;
    // Beyond the bound of all bodies, some are refused.
    if let Some(failed) = responses.iter().find(|response| !matches!(response.status, 201 | 503)) {
        return Err(format!("a body was answered with {}: {}", failed.status, failed.text));
    }
    let recorded = responses.iter().filter(|response| response.status == 201).count();
    Ok(format!("{recorded} of {} bodies recorded in {:.1?}", responses.len(), started.elapsed()))
}

async fn request(client: &Client, id: &str) -> Response {
    let body = rollback_request("-1", id).to_string();
    client.post("/v1/environments/production/rollbacks", "application/json", body).await
}

/// Rollbacks with names that no path can hold, and then one with another name.
pub(crate) async fn names_that_no_path_can_hold(target: &Target) -> Outcome {
    let client = &target.client;
    deploy_many(client, "production", 1, 2).await;
    for id in ["stream", ".", ".."] {
        let refused = request(client, id).await;
        if !(400..500).contains(&refused.status) {
            return Err(format!("{id:?} was answered with {}: {}", refused.status, refused.text));
        }
    }
    let requested = request(client, "r-1").await;
    if requested.status != 201 {
        return Err(format!("another request was answered with {}: {}", requested.status, requested.text));
    }
    Ok("3 names were refused, and the next request was recorded".to_owned())
}
