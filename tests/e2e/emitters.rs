//! Emitters that never give up, and remember what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger_tests::{Client, deploy};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long an emitter waits before it sends again what was not acknowledged.
const PAUSE: Duration = Duration::from_millis(10);
/// Events in a bulk request.
const BULK: usize = 40;

/// Clients that send events of their own, one by one and in bulk, until each is acknowledged.
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
        for (name, at_once) in [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("bulk-a", BULK), ("bulk-b", BULK)] {
            let (client, told) = (client.clone(), acknowledged.clone());
            emitting.spawn(emit(client, name, at_once, told, Arc::clone(&stopping)));
        }
        Self { emitting, acknowledged, stopping }
    }

    /// Waits until so many more events are acknowledged.
    pub(crate) async fn acknowledged(&self, more: usize) {
        let wanted = *self.acknowledged.borrow() + more;
        let mut told = self.acknowledged.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(60), told.wait_for(|count| *count >= wanted));
        reached.await.expect("events are acknowledged").expect("emitters emit");
    }

    /// Every event that was acknowledged, by the position that the ledger answered.
    pub(crate) async fn stop(self) -> BTreeMap<u64, Value> {
        self.stopping.store(true, Ordering::Relaxed);
        let events = self.emitting.join_all().await;
        let count: usize = events.iter().map(BTreeMap::len).sum();
        let all: BTreeMap<_, _> = events.into_iter().flatten().collect();
        assert_eq!(all.len(), count, "no position is answered for two events");
        all
    }
}

async fn emit(
    client: Client,
    name: &'static str,
    at_once: usize,
    told: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
) -> BTreeMap<u64, Value> {
    let mut acknowledged = BTreeMap::new();
    let mut number = 0;
    let mut waiting: Vec<Value> = Vec::new();
    // What is not acknowledged must not get lost: an emitter ends only when everything is.
    while !waiting.is_empty() || !stopping.load(Ordering::Relaxed) {
        if waiting.is_empty() {
            waiting.extend((0..at_once).map(|_| {
                number += 1;
                deploy(&format!("{name}-{number}"), "2026-08-01T10:00:00Z", "production", name, "v1")
            }));
        }
        let answers = send(&client, &waiting).await;
        if answers.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        assert_eq!(answers.len(), waiting.len(), "every event is answered");
        let before = acknowledged.len();
        let mut rest = Vec::new();
        for (event, answer) in waiting.into_iter().zip(answers) {
            assert_eq!(answer["id"], event["id"], "answers are in order");
            match answer["position"].as_u64() {
                Some(position) => drop(acknowledged.insert(position, event)),
                None => rest.push(event),
            }
        }
        waiting = rest;
        told.send_modify(|count| *count += acknowledged.len() - before);
    }
    acknowledged
}

/// The answers to the events; none if nothing is known about any.
async fn send(client: &Client, events: &[Value]) -> Vec<Value> {
    let (content_type, body) = match events {
        [one] => ("application/cloudevents+json", one.to_string()),
        many => {
            let lines: Vec<_> = many.iter().map(Value::to_string).collect();
            ("application/x-ndjson", lines.join("\n"))
        }
    };
    let request = client.request("POST".parse().expect("a method"), "/v1/events");
    let sent = Client::try_send(request.header("content-type", content_type).body(body)).await;
    match sent {
        Ok(answer) if answer.status == 201 || answer.status == 207 => answer.lines(),
        Ok(answer) => {
            assert_eq!(answer.status, 503, "{}", answer.text);
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
