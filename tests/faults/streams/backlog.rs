//! The service stops and starts while a topic has a backlog: each message has one effect, and none is set aside.
//!
//! The broker is the mock cluster of librdkafka, as in the story of a group.

use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service, jetstream_as_operator, stream_entries, wait_for_entries};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::load::{assert_one_effect_each, produce_backlog};
use super::part::{self, IN, PROGRAM, WAIT_LIMIT};

/// The mock cluster keeps 5 MiB of each partition.
const PARTITIONS: u64 = 4;
/// Topic of the messages that the ledger does not record.
const DEAD_LETTERS: &str = "dead";
/// Longest stop without requests in progress: the time limits of its stages take 9.5 seconds.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Stops the service by SIGTERM, as soon as it records messages of the backlog, and starts it again. `messages` must be
/// more than it records until it has stopped: at most some thousands each time.
pub(crate) async fn service_stops_with_a_backlog(stops: u64, messages: u64) {
    let began = Instant::now();
    let servers = Servers::start().await;
    let operator = jetstream_as_operator(&servers).await;
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("releases", PARTITIONS as i32, 1).expect("a topic");
    cluster.create_topic(DEAD_LETTERS, 1, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let sections = format!("{IN}dead_letter_topic = \"{DEAD_LETTERS}\"\n");
    let config = part::config(servers.folder(), &brokers, &sections);
    produce_backlog(&brokers, PARTITIONS, messages).await;

    let (mut recorded, mut longest) = (0, Duration::ZERO);
    for _ in 0..stops {
        // It records before it is ready.
        let mut service = Service::start_alive(PROGRAM, &servers, &[&config]).await;
        wait_for_entries(&operator, recorded + 1).await;
        let stopping = Instant::now();
        assert!(service.terminate().await, "the process stops without an error");
        longest = longest.max(stopping.elapsed());
        recorded = stream_entries(&operator).await;
        assert!(recorded < messages, "the stop came after the backlog: {recorded} entries");
    }
    assert!(longest < STOP_LIMIT, "a stop took {longest:?}");

    let service = part::start(&servers, &[&config]).await;
    let client = service.client();
    let repeats = assert_one_effect_each(&client, messages, PARTITIONS).await;
    let quarantine = client.get("/v1/quarantine").await.ok();
    assert_eq!(quarantine["messages"], json!([]), "no message is in the quarantine");
    assert_eq!(dead_letters(brokers).await, 0, "no message is in the dead-letter topic");
    println!(
        "kafka.in: {stops} stops with a backlog, {messages} messages, one effect each, none set aside; {repeats} repeated \
         entries without effect; the longest stop took {:.1} s; {:.0} s",
        longest.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
}

/// Returns the number of records in the dead-letter topic.
async fn dead_letters(brokers: String) -> i64 {
    let count = spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let watermarks = consumer.fetch_watermarks(DEAD_LETTERS, 0, WAIT_LIMIT);
        let (first, end) = watermarks.expect("the topic has watermarks");
        end - first
    });
    count.await.expect("the reader does not panic")
}
