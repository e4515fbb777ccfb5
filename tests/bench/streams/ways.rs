//! Readers of the ways out of the ledger: each notes when an entry arrives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use futures::StreamExt as _;
use ledger_devstack::nats::User;
use ledger_tests::{Servers, Service, nats_client};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{Headers as _, Message as _};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::topics::{LIMIT, POLL, consumer};

/// Times at which entries arrived at a reader.
pub(super) struct Arrivals {
    times: Mutex<HashMap<u64, Instant>>,
    last: watch::Sender<u64>,
}

impl Arrivals {
    fn new() -> Arc<Self> {
        Arc::new(Self { times: Mutex::default(), last: watch::Sender::new(0) })
    }

    /// Notes an entry. A repetition changes nothing.
    fn add(&self, position: u64) {
        let now = Instant::now();
        self.times.lock().expect("no reader panics").entry(position).or_insert(now);
        self.last.send_modify(|last| *last = position.max(*last));
    }

    /// Waits until the entries up to a position have arrived.
    pub(super) async fn wait_for(&self, position: u64) {
        let mut last = self.last.subscribe();
        let arrived = last.wait_for(|last| *last >= position);
        timeout(LIMIT, arrived).await.expect("the entry arrives in time").expect("the sender exists");
    }

    /// Returns true if an entry arrived.
    pub(super) fn has_any(&self) -> bool {
        *self.last.borrow() > 0
    }

    /// Returns the time at which an entry arrived.
    pub(super) fn time_of(&self, position: u64) -> Instant {
        *self.times.lock().expect("no reader panics").get(&position).expect("the entry arrived")
    }
}

/// A way out with its reader.
pub(super) struct WayOut {
    pub(super) name: &'static str,
    pub(super) arrivals: Arc<Arrivals>,
    /// Aborts the reader; the one of a topic ends when nothing else has the arrivals.
    _reader: Option<AbortOnDropHandle<()>>,
}

impl WayOut {
    /// Reads `GET /v1/events/stream` from the beginning.
    pub(super) fn event_stream(service: &Service) -> Self {
        let arrivals = Arrivals::new();
        let reader = tokio::spawn(read_event_stream(service.url(), Arc::clone(&arrivals)));
        let name = "GET /v1/events/stream";
        Self { name, arrivals, _reader: Some(AbortOnDropHandle::new(reader)) }
    }

    /// Subscribes to the entries that the service publishes to NATS.
    pub(super) async fn nats(servers: &Servers) -> Self {
        let arrivals = Arrivals::new();
        let client = nats_client(&servers.nats_url_of(User::Reader)).await;
        let subscriber = client.subscribe("events.default.>").await.expect("the reader may subscribe");
        let reader = tokio::spawn(read_subject(client, subscriber, Arc::clone(&arrivals)));
        Self { name: "NATS", arrivals, _reader: Some(AbortOnDropHandle::new(reader)) }
    }

    /// Consumes a topic from its beginning.
    pub(super) fn topic(broker: &str, topic: &str) -> Self {
        let arrivals = Arrivals::new();
        let (consumer, weak) = (consumer(broker, topic), Arc::downgrade(&arrivals));
        std::thread::spawn(move || read_topic(&consumer, &weak));
        Self { name: "a Kafka topic", arrivals, _reader: None }
    }

    /// Receives webhooks; returns the URL too.
    pub(super) async fn webhook() -> (Self, String) {
        let arrivals = Arrivals::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new().route("/", post(receive)).with_state(Arc::clone(&arrivals));
        let reader = tokio::spawn(async move { axum::serve(listener, routes).await.expect("serve") });
        (Self { name: "a webhook", arrivals, _reader: Some(AbortOnDropHandle::new(reader)) }, url)
    }
}

/// Follows the stream of events, and opens it again if it ends.
async fn read_event_stream(url: String, arrivals: Arc<Arrivals>) {
    // Without a time limit, which would include the body.
    let client = reqwest::Client::new();
    let mut after = 0;
    loop {
        let request = client.get(format!("{url}/v1/events/stream?after={after}"));
        let mut response = request.send().await.expect("a response");
        assert_eq!(response.status(), 200, "the service sends a stream");
        let mut rest: Vec<u8> = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            rest.extend_from_slice(&chunk);
            let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in rest[..end].split(|byte| *byte == b'\n') {
                let Some(id) = line.strip_prefix(b"id: ") else { continue };
                after = std::str::from_utf8(id).expect("UTF-8").parse().expect("a position");
                arrivals.add(after);
            }
            rest.drain(..end);
        }
    }
}

/// Reads a subscription. The client keeps it open.
async fn read_subject(
    _client: async_nats::Client,
    mut subscriber: async_nats::Subscriber,
    arrivals: Arc<Arrivals>,
) {
    while let Some(message) = subscriber.next().await {
        let headers = message.headers.as_ref().expect("headers");
        let position = headers.get("Ledger-Position").expect("a position").as_str();
        arrivals.add(position.parse().expect("a number"));
    }
}

/// Reads a topic until nothing else has the arrivals.
fn read_topic(consumer: &BaseConsumer, arrivals: &Weak<Arrivals>) {
    while let Some(arrivals) = arrivals.upgrade() {
        let Some(Ok(message)) = consumer.poll(POLL) else { continue };
        let headers = message.headers().expect("headers");
        let position = headers.iter().find(|header| header.key == "ledger-position");
        let position = position.and_then(|header| header.value).expect("a position");
        arrivals.add(std::str::from_utf8(position).expect("UTF-8").parse().expect("a number"));
    }
}

async fn receive(State(arrivals): State<Arc<Arrivals>>, body: Bytes) -> StatusCode {
    let entry: Value = serde_json::from_slice(&body).expect("an entry");
    arrivals.add(entry["position"].as_u64().expect("a position"));
    StatusCode::OK
}

/// Waits until each way out has delivered an entry: from then on, it delivers each. `record` records one more.
pub(super) async fn wait_until_all_deliver(ways: &[&WayOut], record: impl AsyncFn(usize)) {
    let begun = async {
        let mut number = 0;
        while !ways.iter().all(|way| way.arrivals.has_any()) {
            record(number).await;
            number += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(LIMIT, begun).await.expect("all ways out deliver");
}
