//! Clients that retry until every event is acknowledged, and return the acknowledged positions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger_tests::{Client, deploy};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Delay before an emitter sends unacknowledged events again.
const RETRY_DELAY: Duration = Duration::from_millis(10);
/// Number of events in a bulk request.
const BULK_SIZE: usize = 40;

/// Clients that send events, one by one and in bulk, until each is acknowledged.
pub(crate) struct Emitters {
    emitting: JoinSet<BTreeMap<u64, Value>>,
    acknowledged: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
}

impl Emitters {
    pub(crate) fn start(client: &Client) -> Self {
        let acknowledged = watch::Sender::new(0);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut emitting = JoinSet::new();
        for (name, batch_size) in
            [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("bulk-a", BULK_SIZE), ("bulk-b", BULK_SIZE)]
        {
            let (client, count) = (client.clone(), acknowledged.clone());
            emitting.spawn(emit(client, name, batch_size, count, Arc::clone(&stopping)));
        }
        Self { emitting, acknowledged, stopping }
    }

    /// Waits until this many more events are acknowledged.
    pub(crate) async fn acknowledged(&self, more: usize) {
        let expected = *self.acknowledged.borrow() + more;
        let mut count = self.acknowledged.subscribe();
        let reached =
            tokio::time::timeout(Duration::from_secs(60), count.wait_for(|count| *count >= expected));
        reached.await.expect("events are acknowledged").expect("emitters emit");
    }

    /// Stops the emitters and returns every acknowledged event by its position.
    pub(crate) async fn stop(self) -> BTreeMap<u64, Value> {
        self.stopping.store(true, Ordering::Relaxed);
        let events = self.emitting.join_all().await;
        let count: usize = events.iter().map(BTreeMap::len).sum();
        let all: BTreeMap<_, _> = events.into_iter().flatten().collect();
        assert_eq!(all.len(), count, "no position is returned for two events");
        all
    }
}

async fn emit(
    client: Client,
    name: &'static str,
    batch_size: usize,
    acknowledged_count: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
) -> BTreeMap<u64, Value> {
    let mut acknowledged = BTreeMap::new();
    let mut number = 0;
    let mut pending: Vec<Value> = Vec::new();
    // An emitter stops only when all its events are acknowledged.
    while !pending.is_empty() || !stopping.load(Ordering::Relaxed) {
        if pending.is_empty() {
            pending.extend((0..batch_size).map(|_| {
                number += 1;
                deploy(&format!("{name}-{number}"), "2026-08-01T10:00:00Z", "production", name, "v1")
            }));
        }
        let results = send(&client, &pending).await;
        if results.is_empty() {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        }
        assert_eq!(results.len(), pending.len(), "every event has a result");
        let before = acknowledged.len();
        let mut rest = Vec::new();
        for (event, result) in pending.into_iter().zip(results) {
            assert_eq!(result["id"], event["id"], "results are in order");
            match result["position"].as_u64() {
                Some(position) => drop(acknowledged.insert(position, event)),
                None => rest.push(event),
            }
        }
        pending = rest;
        acknowledged_count.send_modify(|count| *count += acknowledged.len() - before);
    }
    acknowledged
}

/// Returns the results of the events; empty if none is known.
async fn send(client: &Client, events: &[Value]) -> Vec<Value> {
    let (content_type, body) = match events {
        [one] => ("application/cloudevents+json", one.to_string()),
        many => {
            let lines: Vec<_> = many.iter().map(Value::to_string).collect();
            ("application/x-ndjson", lines.join("\n"))
        }
    };
    let request = client.request("POST".parse().expect("a method"), "/v1/events");
    let response = Client::try_send(request.header("content-type", content_type).body(body)).await;
    match response {
        Ok(response) if response.status == 201 || response.status == 207 => response.lines(),
        Ok(response) => {
            assert_eq!(response.status, 503, "{}", response.text);
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
