//! A broker in this process, with what a test produces and reads.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::settings::Settings;

/// Longest wait for a state. Only a failing test reaches it.
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Interval at which a state is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A record as a consumer reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

impl Read {
    /// Returns a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A cluster of one broker.
pub(super) struct Broker {
    pub(super) cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// Starts a broker with topics of one partition each.
    pub(super) fn with_topics(topics: &[&str]) -> Self {
        let cluster = MockCluster::new(1).expect("a cluster");
        for topic in topics {
            cluster.create_topic(topic, 1, 1).expect("a topic");
        }
        Self { cluster }
    }

    /// Returns settings with this broker.
    pub(super) fn settings(&self, more: &str) -> Settings {
        let servers = self.cluster.bootstrap_servers();
        let text = format!(
            "[properties]\n\"bootstrap.servers\" = \"{servers}\"\n\"session.timeout.ms\" = 6000\n\
             \"statistics.interval.ms\" = 1000\n{more}"
        );
        toml::from_str(&text).expect("valid settings")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.cluster.bootstrap_servers());
        config
    }

    /// Produces values with the key `k`, in order.
    pub(super) async fn produce(&self, topic: &str, values: &[Option<String>]) {
        let producer: FutureProducer = self.config().create().expect("a producer");
        for value in values {
            let mut record = FutureRecord::<str, str>::to(topic).key("k").headers(OwnedHeaders::new());
            if let Some(value) = value {
                record = record.payload(value);
            }
            producer.send(record, WAIT_LIMIT).await.map_err(|(error, _)| error).expect("produced");
        }
    }

    /// Reads the first `count` records of a topic's partition 0.
    pub(super) async fn read(&self, topic: &str, count: usize) -> Vec<Read> {
        let mut config = self.config();
        config.set("group.id", "reader").set("enable.auto.commit", "false");
        let topic = topic.to_owned();
        let read = spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::Beginning).expect("a partition");
            consumer.assign(&list).expect("assigned");
            let mut read = Vec::new();
            let started = std::time::Instant::now();
            while read.len() < count && started.elapsed() < WAIT_LIMIT {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    read.push(copy(&message));
                }
            }
            read
        });
        read.await.expect("the reader does not panic")
    }
}

fn copy(message: &impl Message) -> Read {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        let all = headers.iter();
        all.map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect()
    });
    Read {
        key: message.key().map(text),
        value: message.payload().map(text),
        headers: headers.unwrap_or_default(),
    }
}

/// Returns a structured CloudEvent that says its number.
pub(super) fn numbered(number: usize) -> String {
    format!("{{\"specversion\":\"1.0\",\"number\":{number}}}")
}

/// Returns the number of an event of [`numbered`].
pub(super) fn number_of(body: &Bytes) -> usize {
    let value: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    value["number"].as_u64().and_then(|number| usize::try_from(number).ok()).expect("a number")
}

/// Waits until a condition holds.
pub(super) async fn wait_until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(WAIT_LIMIT, holds).await.expect("the state is reached");
}
