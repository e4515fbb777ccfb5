//! Events that a story records: as messages of a topic, or by HTTP. Each has a number, on which its lane depends.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{Client, deploy};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::part::WAIT_LIMIT;

/// Interval at which messages or a batch of events are sent.
const PACE: Duration = Duration::from_millis(20);
/// Messages of each interval.
const MESSAGES: u64 = 2;
/// Number of lanes of the events that are recorded by HTTP.
const LANES: u64 = 8;
/// Interval at which the history is read until it has all messages.
const READ_INTERVAL: Duration = Duration::from_millis(250);

/// A sender of numbered events, which runs until it is stopped.
pub(super) struct Load {
    stop: CancellationToken,
    task: JoinHandle<u64>,
}

impl Load {
    /// Produces messages to the topic `releases`: message n goes to partition n modulo `partitions`, and is about the
    /// lane of that partition.
    pub(super) fn to_topic(brokers: &str, partitions: u64) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(produce(brokers.to_owned(), partitions, stop.clone()));
        Self { stop, task }
    }

    /// Records events by HTTP, `batch` at once, about several lanes.
    pub(super) fn to_service(client: Client, batch: u64) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(record(client, batch, stop.clone()));
        Self { stop, task }
    }

    /// Stops sending, and returns the number of events. The broker or the service has acknowledged all of them.
    pub(super) async fn stop(self) -> u64 {
        self.stop.cancel();
        let stopped = timeout(WAIT_LIMIT, self.task).await.expect("the last events are acknowledged");
        stopped.expect("the sender does not panic")
    }
}

/// Produces this many messages to the topic `releases`, like [`Load::to_topic`], and waits until the broker has
/// acknowledged all of them.
pub(super) async fn produce_backlog(brokers: &str, partitions: u64, messages: u64) {
    let producer = producer(brokers);
    let reports = (0..messages).map(|number| send(&producer, partitions, number)).collect();
    timeout(WAIT_LIMIT, acknowledged(reports)).await.expect("the broker acknowledges the backlog");
}

async fn produce(brokers: String, partitions: u64, stop: CancellationToken) -> u64 {
    let producer = producer(&brokers);
    let (mut sent, mut reports, mut pace) = (0, Vec::new(), interval(PACE));
    while !stop.is_cancelled() {
        pace.tick().await;
        reports.extend((sent..sent + MESSAGES).map(|number| send(&producer, partitions, number)));
        sent += MESSAGES;
    }
    acknowledged(reports).await;
    sent
}

fn producer(brokers: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("acks", "all");
    config.create().expect("a producer")
}

/// Sends the message with this number. Returns the report of its delivery.
fn send(producer: &FutureProducer, partitions: u64, number: u64) -> DeliveryFuture {
    let partition = number % partitions;
    let (key, service) = (partition.to_string(), format!("web-{partition}"));
    let value = event(&format!("m-{number}"), &service);
    let content_type = Header { key: "content-type", value: Some("application/cloudevents+json") };
    let record = FutureRecord::<str, str>::to("releases")
        .partition(i32::try_from(partition).expect("a partition"))
        .key(&key)
        .payload(&value)
        .headers(OwnedHeaders::new().insert(content_type));
    producer.send_result(record).map_err(|(error, _)| error).expect("the queue has room")
}

/// Waits until the broker has acknowledged all messages.
async fn acknowledged(reports: Vec<DeliveryFuture>) {
    for report in reports {
        let report = report.await.expect("the producer reports");
        report.map_err(|(error, _)| error).expect("the broker acknowledges");
    }
}

async fn record(client: Client, batch: u64, stop: CancellationToken) -> u64 {
    let (mut sent, mut pace) = (0, interval(PACE));
    while !stop.is_cancelled() {
        pace.tick().await;
        let lines = (sent..sent + batch)
            .map(|number| event(&format!("h-{number}"), &format!("api-{}", number % LANES)))
            .collect::<Vec<_>>();
        let response = client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await;
        assert_eq!(response.status, 201, "{}", response.text);
        sent += batch;
    }
    sent
}

fn event(id: &str, service: &str) -> String {
    deploy(id, "2026-08-01T10:00:00Z", "production", service, &format!("v-{id}")).to_string()
}

/// Waits until the history has all messages, and asserts that each has one effect, in the order of its partition.
/// Returns the number of entries that repeat one.
pub(super) async fn assert_one_effect_each(client: &Client, messages: u64, partitions: u64) -> u64 {
    let all_recorded = async {
        loop {
            let (_, head) = client.positions().await;
            client.wait_for_projections(head).await;
            let (effects, repeats) = effects(client, partitions).await;
            if effects == messages {
                return repeats;
            }
            assert!(effects < messages, "{effects} effects of {messages} messages");
            sleep(READ_INTERVAL).await;
        }
    };
    let recorded = timeout(WAIT_LIMIT, all_recorded).await;
    recorded.unwrap_or_else(|_| panic!("not all of {messages} messages are recorded"))
}

/// Returns the numbers of messages with an effect, and of entries that repeat a message.
async fn effects(client: &Client, partitions: u64) -> (u64, u64) {
    let (mut effects, mut repeats) = (0, 0);
    // Number of the next message of each partition: none may be missing, doubled or out of order.
    let mut next: BTreeMap<u64, u64> = (0..partitions).map(|partition| (partition, partition)).collect();
    for entry in client.entries().await {
        let id = entry["event"]["id"].as_str().expect("an id");
        let Some(number) = id.strip_prefix("m-") else { continue };
        let number: u64 = number.parse().expect("a number");
        if !entry["repeats"].is_null() {
            repeats += 1;
            continue;
        }
        let expected = next.get_mut(&(number % partitions)).expect("a partition");
        assert_eq!(number, *expected, "the next effect of partition {}", number % partitions);
        *expected += partitions;
        effects += 1;
    }
    (effects, repeats)
}
