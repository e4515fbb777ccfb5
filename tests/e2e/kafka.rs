//! Kafka in and out, with the program as a process that is killed in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ledger_tests::{KafkaBroker, Servers, Service, deploy, event};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
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

/// A record of a topic.
#[derive(Debug)]
struct Produced {
    key: String,
    /// `None` for a tombstone.
    value: Option<Value>,
    headers: BTreeMap<String, String>,
}

impl Produced {
    fn position(&self) -> u64 {
        self.headers["ledger-position"].parse().expect("a position")
    }
}

/// Reads a topic from its beginning until a record is the last one, or until the time limit.
async fn records(
    broker: &KafkaBroker,
    topic: &'static str,
    is_last: impl Fn(&Produced) -> bool + Send + 'static,
    limit: Duration,
) -> Vec<Produced> {
    let mut config = config(broker);
    config.set("group.id", "reader").set("enable.auto.commit", "false");
    let read = spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
        consumer.assign(&list).expect("assigned");
        let (mut read, started) = (Vec::<Produced>::new(), Instant::now());
        while started.elapsed() < limit && !read.last().is_some_and(&is_last) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = message.headers().expect("headers").iter();
            read.push(Produced {
                key: text(message.key()),
                value: message.payload().map(|value| serde_json::from_slice(value).unwrap_or_default()),
                headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
            });
        }
        read
    });
    read.await.expect("the reader does not panic")
}

/// Reads a topic from its beginning until a record is the last one; returns the value of a header of each.
async fn read(broker: &KafkaBroker, topic: &'static str, header: &'static str, last: String) -> Vec<String> {
    let expected = last.clone();
    let read = records(broker, topic, move |record| record.headers[header] == last, WAIT_LIMIT).await;
    let read: Vec<String> = read.into_iter().map(|record| record.headers[header].clone()).collect();
    assert_eq!(read.last(), Some(&expected), "only {read:?} arrived");
    read
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

/// Writes the settings of outputs, and returns their file.
fn outputs(folder: &Path, broker: &KafkaBroker, sections: &str) -> String {
    let file = folder.join("outputs.toml");
    let address = broker.address();
    let text = format!("[kafka.properties]\n\"bootstrap.servers\" = \"{address}\"\n{sections}");
    std::fs::write(&file, text).expect("written");
    format!("--config={}", file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_states_has_what_each_lane_runs_and_a_tombstone_if_it_runs_nothing() {
    let (servers, broker) = tokio::join!(Servers::start(), KafkaBroker::start(&["states", "environments"]));
    let sections = "[kafka.out.states]\ntopic = \"states\"\nvalue = \"lane-state\"\n\
                    [kafka.out.environments]\ntopic = \"environments\"\nkey = \"environment\"\n";
    let settings = outputs(servers.folder(), &broker, sections);
    let service = Service::start(PROGRAM, &servers, &[&settings]).await;
    let mistaken = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    let mut correction = deploy("4", "2026-08-01T10:00:00Z", "production", "web", "v2");
    correction["data"]["corrects"] = json!({"source": mistaken["source"], "id": "1"});
    let removed = json!({"environment": "production", "service": "api"});
    let retired = json!({"environment": "staging", "reason": "moved"});
    let events = [
        mistaken,
        deploy("2", "2026-08-01T10:01:00Z", "production", "api", "v1"),
        event("3", "deploy.removed", "2026-08-01T10:02:00Z", removed),
        correction,
        deploy("5", "2026-08-01T10:03:00Z", "staging", "web", "v1"),
        event("6", "environment.retired", "2026-08-01T10:04:00Z", retired),
    ];

    for event in &events {
        service.client().record_and_wait(event).await;
    }

    let is_last = |record: &Produced| record.position() == 6;
    let states = records(&broker, "states", is_last, WAIT_LIMIT).await;
    let states: Vec<_> = states
        .iter()
        .map(|record| {
            let version = record.value.as_ref().map(|value| value["release"]["version"].as_str());
            (record.position(), record.key.as_str(), version.map(|version| version.expect("a version")))
        })
        .collect();
    let expected = [
        (1, "production/default/web", Some("v1")),
        (2, "production/default/api", Some("v1")),
        (3, "production/default/api", None),
        (4, "production/default/web", Some("v2")),
        (5, "staging/default/web", Some("v1")),
        (6, "staging/default/web", None),
    ];
    assert_eq!(states, expected);
    let entries = records(&broker, "environments", is_last, WAIT_LIMIT).await;
    let entries: Vec<_> = entries.iter().map(|record| (record.position(), record.key.as_str())).collect();
    let (production, staging) = ("production", "staging");
    let expected =
        [(1, production), (2, production), (3, production), (4, production), (5, staging), (6, staging)];
    assert_eq!(entries, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_starts_now_has_the_entries_that_are_recorded_after_it_has_started() {
    let (servers, broker) = tokio::join!(Servers::start(), KafkaBroker::start(&["later"]));
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let old: Vec<String> = deploys(0..3).collect();
    service.client().record_all(&old).await;
    service.kill().await;
    let sections = "[kafka.out.later]\ntopic = \"later\"\nstart = \"now\"\n";
    let settings = outputs(servers.folder(), &broker, sections);
    let service = Service::start(PROGRAM, &servers, &[&settings]).await;

    let (started, mut last) = (Instant::now(), 0);
    let any = |_: &Produced| true;
    while records(&broker, "later", any, Duration::from_secs(1)).await.is_empty() {
        assert!(started.elapsed() < WAIT_LIMIT, "nothing is produced");
        let id = format!("new-{last}");
        let new = deploy(&id, "2026-08-01T10:00:00Z", "production", "web", &id);
        last = service.client().record_and_wait(&new).await;
    }
    let new = deploy("last", "2026-08-01T10:00:00Z", "production", "web", "last");
    last = service.client().record_and_wait(&new).await;

    let is_last = move |record: &Produced| record.position() == last;
    let produced = records(&broker, "later", is_last, WAIT_LIMIT).await;
    let positions: Vec<u64> = produced.iter().map(Produced::position).collect();
    assert!(positions[0] > 3, "{positions:?}");
    assert_eq!(positions, (positions[0]..=last).collect::<Vec<_>>());
}
