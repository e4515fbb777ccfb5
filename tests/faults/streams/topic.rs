//! The topic `entries`, read from its beginning, and compared with the history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ledger_tests::Client;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::part::WAIT_LIMIT;

const TOPIC: &str = "entries";
/// Maximum number of entries of one delivery, as `ops/guides/kafka.md` states it: what a kill can cause to be repeated.
pub(super) const PAGE: u64 = 500;
/// Longest wait for one record.
const POLL: Duration = Duration::from_millis(100);
/// Time without a further record after which a topic has no more, once all entries have arrived.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// A record of an entry.
struct Record {
    partition: i32,
    key: String,
    position: u64,
}

/// Waits until the topic has all entries, and asserts that each key has those of its lane, in their order, beside
/// repeats of what was in flight. Returns the number of repeats.
pub(super) async fn assert_complete(brokers: &str, partitions: i32, client: &Client) -> u64 {
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let history = client.entries().await;
    let positions: BTreeSet<u64> = history.iter().map(position).collect();
    let brokers = brokers.to_owned();
    let records = spawn_blocking(move || read(&brokers, partitions, &positions)).await;
    check(&records.expect("the reader does not panic"), &history)
}

fn position(entry: &Value) -> u64 {
    entry["position"].as_u64().expect("a position")
}

/// Reads all partitions until these positions have arrived, and nothing follows. The records of a partition have their
/// order.
fn read(brokers: &str, partitions: i32, positions: &BTreeSet<u64>) -> Vec<Record> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "reader").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let (mut records, mut missing) = (Vec::new(), positions.clone());
    let (started, mut last) = (Instant::now(), Instant::now());
    while !missing.is_empty() || last.elapsed() < QUIET_TIME {
        assert!(missing.is_empty() || started.elapsed() < WAIT_LIMIT, "missing positions: {missing:?}");
        let Some(Ok(message)) = consumer.poll(POLL) else { continue };
        let headers = message.headers().expect("headers");
        let value = headers.iter().find(|header| header.key == "ledger-position");
        let value = value.and_then(|header| header.value).expect("a position");
        let position: u64 = String::from_utf8_lossy(value).parse().expect("a number");
        let key = String::from_utf8_lossy(message.key().expect("a key")).into_owned();
        missing.remove(&position);
        records.push(Record { partition: message.partition(), key, position });
        last = Instant::now();
    }
    records
}

/// Compares records with the history. Returns the number of repeats.
fn check(records: &[Record], history: &[Value]) -> u64 {
    let mut expected: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for entry in history {
        let service = entry["event"]["data"]["service"].as_str().expect("a service");
        expected.entry(service).or_default().push(position(entry));
    }
    let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut partitions: BTreeMap<&str, i32> = BTreeMap::new();
    let mut highest: BTreeMap<i32, u64> = BTreeMap::new();
    let mut repeats = 0;
    for Record { partition, key, position } in records {
        let first = *partitions.entry(key.as_str()).or_insert(*partition);
        assert_eq!(first, *partition, "the partition of key {key}");
        let highest = highest.entry(*partition).or_default();
        // Only the last page can be in flight: its positions follow one another.
        assert!(position + PAGE > *highest, "position {position} follows {highest}");
        *highest = (*position).max(*highest);
        // The key of a lane is environment, target and service.
        let service = key.rsplit('/').next().expect("a service");
        let seen = found.entry(service).or_default();
        // A consumer drops repeats by position: so does this one.
        match seen.last() {
            Some(last) if position <= last => repeats += 1,
            _ => seen.push(*position),
        }
    }
    assert!(found == expected, "the topic differs from the history: {}", difference(&found, &expected));
    repeats
}

/// Describes the first lane that differs.
fn difference(found: &BTreeMap<&str, Vec<u64>>, expected: &BTreeMap<&str, Vec<u64>>) -> String {
    for (service, positions) in expected {
        if found.get(service) != Some(positions) {
            return format!("lane of {service}: {:?}, not {positions:?}", found.get(service));
        }
    }
    "it has further lanes".to_owned()
}
