//! Kafka in and out, with the program as a process that is killed in between.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ledger_tests::{KafkaBroker, Servers, Service, deploy};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::PROGRAM;

/// Longest wait for a record. Only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Maximum number of entries of one delivery: what a kill can cause to be repeated.
const PAGE: usize = 500;

/// Writes the settings of a topic that is read and one that is written, and returns their file.
fn settings(folder: &Path, broker: &KafkaBroker) -> PathBuf {
    let file = folder.join("ledger.toml");
    let text = format!(
        "[kafka.properties]\n\"bootstrap.servers\" = \"{}\"\n\"session.timeout.ms\" = 6000\n\
         [kafka.in.releases]\ntopics = [\"releases\"]\ngroup = \"ledger\"\ndead_letter_topic = \"dead\"\n\
         [kafka.out.entries]\ntopic = \"entries\"\n",
        broker.address()
    );
    std::fs::write(&file, text).expect("written");
    file
}

fn config(broker: &KafkaBroker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address());
    config
}

async fn produce(broker: &KafkaBroker, values: impl IntoIterator<Item = String>) {
    let producer: FutureProducer = config(broker).create().expect("a producer");
    for value in values {
        let content_type = Header { key: "content-type", value: Some("application/cloudevents+json") };
        let headers = OwnedHeaders::new().insert(content_type);
        let record = FutureRecord::to("releases").key("web").payload(&value).headers(headers);
        producer.send(record, WAIT_LIMIT).await.map_err(|(error, _)| error).expect("produced");
    }
}

fn deploys(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    numbers.map(|number| {
        let (id, version) = (format!("e-{number}"), format!("v{number}"));
        deploy(&id, "2026-08-01T10:00:00Z", "production", "web", &version).to_string()
    })
}

/// Reads a topic from its beginning until a record is the last one; returns the value of a header of each.
async fn read(broker: &KafkaBroker, topic: &'static str, header: &'static str, last: String) -> Vec<String> {
    let mut config = config(broker);
    config.set("group.id", "reader").set("enable.auto.commit", "false");
    let read = spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
        consumer.assign(&list).expect("assigned");
        let (mut read, started) = (Vec::new(), Instant::now());
        while read.last() != Some(&last) {
            assert!(started.elapsed() < WAIT_LIMIT, "only {read:?} arrived");
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let headers = message.headers().expect("headers");
            let value = headers.iter().find(|found| found.key == header).and_then(|found| found.value);
            read.push(String::from_utf8_lossy(value.expect("the header")).into_owned());
        }
        read
    });
    read.await.expect("the reader does not panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_recorded_and_entries_produced_in_order_although_the_service_is_killed() {
    let (servers, broker) =
        tokio::join!(Servers::start(), KafkaBroker::start(&["releases", "entries", "dead"]));
    let file = settings(servers.folder(), &broker);
    let mut service = Service::start(PROGRAM, &servers, &[&format!("--config={}", file.display())]).await;

    produce(&broker, deploys(0..40)).await;
    service.client().wait_for_head(10).await;
    service.kill().await;
    produce(&broker, deploys(40..60)).await;
    service.restart().await;
    let client = service.client();
    client.wait_for_head(60).await;
    client.wait_for_projections(60).await;

    let entries = client.entries().await;
    let ids: Vec<_> = entries.iter().filter_map(|entry| entry["event"]["id"].as_str()).collect();
    assert_eq!(ids, (0..60).map(|number| format!("e-{number}")).collect::<Vec<_>>());
    let produced = read(&broker, "entries", "ledger-position", "60".to_owned()).await;
    let produced: Vec<u64> = produced.iter().map(|text| text.parse().expect("a position")).collect();
    // A consumer that drops repeats by position sees every entry once, in order.
    let mut seen = 0;
    let mut news = produced.clone();
    news.retain(|position| {
        let is_new = *position > seen;
        seen = seen.max(*position);
        is_new
    });
    assert_eq!(news, (1..=60).collect::<Vec<_>>());
    assert!(produced.len() - news.len() <= PAGE, "{produced:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_event_goes_to_the_dead_letter_topic() {
    let (servers, broker) =
        tokio::join!(Servers::start(), KafkaBroker::start(&["releases", "entries", "dead"]));
    let file = settings(servers.folder(), &broker);
    let service = Service::start(PROGRAM, &servers, &[&format!("--config={}", file.display())]).await;

    let wrong = Value::from("no event").to_string();
    produce(&broker, [wrong].into_iter().chain(deploys(0..1))).await;
    service.client().wait_for_head(1).await;

    assert_eq!(read(&broker, "dead", "ledger-offset", "0".to_owned()).await, ["0"]);
}
