//! Plain producers and consumers of Kafka, without the ledger.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Upper bound of every wait; only a failing run reaches it.
pub(super) const LIMIT: Duration = Duration::from_secs(600);
/// Longest wait of a poll.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// A record to produce.
pub(super) struct TopicRecord {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) headers: OwnedHeaders,
}

impl TopicRecord {
    /// Copies a record that was consumed.
    pub(super) fn of(message: &OwnedMessage) -> Self {
        Self {
            key: message.key().expect("a key").to_vec(),
            value: message.payload().expect("a value").to_vec(),
            headers: message.headers().expect("headers").clone(),
        }
    }
}

fn config(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    config
}

/// Returns a consumer of a topic's only partition, from its beginning, without a group.
pub(super) fn consumer(broker: &str, topic: &str) -> BaseConsumer {
    let mut config = config(broker);
    config.set("group.id", "bench").set("enable.auto.commit", "false");
    // The broker may answer a fetch only after this time, also if records arrive earlier.
    config.set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("assigned");
    consumer
}

/// Consumes `count` records from the beginning of a topic. Returns the time from the first one to the last one, and the
/// records.
pub(super) fn consume(broker: &str, topic: &str, count: usize) -> (Duration, Vec<OwnedMessage>) {
    let consumer = consumer(broker, topic);
    let (mut records, started) = (Vec::with_capacity(count), Instant::now());
    let mut began = started;
    while records.len() < count {
        assert!(started.elapsed() < LIMIT, "{} of {count} records arrived", records.len());
        let Some(Ok(message)) = consumer.poll(POLL) else { continue };
        if records.is_empty() {
            began = Instant::now();
        }
        records.push(message.detach());
    }
    (began.elapsed(), records)
}

/// Produces records with the properties that the ledger sets. Returns the time until the broker has acknowledged all.
pub(super) async fn produce(broker: &str, topic: &str, records: &[TopicRecord]) -> Duration {
    let mut config = config(broker);
    config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5");
    let producer: FutureProducer = config.create().expect("a producer");
    // Connects before the time is measured.
    producer.client().fetch_metadata(Some(topic), LIMIT).expect("the topic exists");
    let began = Instant::now();
    let mut reports = Vec::with_capacity(records.len());
    for record in records {
        let sent = FutureRecord::<[u8], [u8]>::to(topic).headers(record.headers.clone());
        let sent = producer.send_result(sent.key(&record.key[..]).payload(&record.value[..]));
        reports.push(sent.map_err(|(error, _)| error).expect("the queue has room"));
    }
    for report in reports {
        let report = report.await.expect("the producer reports");
        report.map_err(|(error, _)| error).expect("the broker acknowledges");
    }
    began.elapsed()
}
