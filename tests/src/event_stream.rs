//! A client of server-sent events.

use std::collections::VecDeque;

use reqwest::Method;
use serde_json::Value;
use tokio::time::timeout;

use crate::Client;
use crate::client::POLL_INTERVAL;
use crate::limits::WAIT_LIMIT;

/// A server-sent event with data.
#[derive(Debug, Clone, PartialEq)]
pub struct SentEvent {
    /// The id, if it has one.
    pub id: Option<u64>,
    /// The name.
    pub name: String,
    /// The data.
    pub data: Value,
}

/// An open stream of server-sent events.
pub struct EventStream {
    response: reqwest::Response,
    received: Vec<u8>,
    ready: VecDeque<SentEvent>,
}

impl EventStream {
    /// Opens a stream; panics if the service rejects it.
    pub async fn open(client: &Client, path: &str) -> Self {
        Self::try_open(client, path, None).await.expect("a stream")
    }

    /// Opens a stream after the last event that was received; `None` if the service does not answer with a stream.
    pub async fn try_open(client: &Client, path: &str, last: Option<u64>) -> Option<Self> {
        let request = client.request(Method::GET, path);
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.ok()?;
        let is_stream =
            response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
        is_stream.then(|| Self { response, received: Vec::new(), ready: VecDeque::new() })
    }

    /// Returns a header of the response; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the next event with data; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let chunk = timeout(WAIT_LIMIT, self.response.chunk()).await.expect("an event or the end");
            self.received.extend_from_slice(&chunk.ok()??);
            let end = self.received.windows(2).rposition(|pair| pair == b"\n\n");
            let Some(end) = end else { continue };
            let complete: Vec<u8> = self.received.drain(..end + 2).collect();
            let text = String::from_utf8(complete).expect("UTF-8");
            self.ready.extend(text.split("\n\n").filter_map(parse));
        }
    }

    /// Returns the next event of an entry; `None` at the end of the stream.
    pub async fn next_entry(&mut self) -> Option<SentEvent> {
        loop {
            let event = self.next().await?;
            if !matches!(event.name.as_str(), "position" | "end") {
                return Some(event);
            }
        }
    }

    /// Returns the positions of the entries until the stream has sent all up to `last`, or has ended.
    pub async fn positions(&mut self, last: u64) -> Vec<u64> {
        let mut positions = Vec::new();
        while let Some(event) = self.next().await {
            if event.name != "position" {
                positions.extend(event.id);
            }
            if event.id >= Some(last) {
                break;
            }
        }
        positions
    }
}

fn parse(event: &str) -> Option<SentEvent> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
    let data = serde_json::from_str(field("data:")?).expect("data is JSON");
    let id = field("id:").map(|id| id.parse().expect("a position"));
    Some(SentEvent { id, name: field("event:").unwrap_or_default().to_owned(), data })
}

/// Follows a stream of entries until it has sent all up to `last`, and returns their positions. It continues after the
/// last id whenever the stream ends, while the service restarts as well.
pub async fn follow_over_restarts(client: &Client, path: &str, mut after: u64, last: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    let followed = async {
        while after < last {
            let Some(mut stream) = EventStream::try_open(client, path, Some(after)).await else {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            };
            while after < last
                && let Some(event) = stream.next().await
            {
                if !matches!(event.name.as_str(), "position" | "end") {
                    positions.extend(event.id);
                }
                after = event.id.unwrap_or(after);
            }
        }
    };
    timeout(2 * WAIT_LIMIT, followed).await.expect("the last entry");
    positions
}
