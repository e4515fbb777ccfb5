//! The brokers of Kafka are down for a while: everything is recorded and produced afterwards.
//!
//! The broker is the mock cluster of librdkafka, which closes its connections and listens no more; `tansu` would lose
//! what it has in memory.

use std::time::{Duration, Instant};

use ledger_tests::Servers;
use rdkafka::mocking::MockCluster;
use tokio::time::sleep;

use super::load::{Load, assert_one_effect_each};
use super::part::{self, DELIVERED, IN, OUT, RECORDED, wait_until_counted};
use super::topic::{PAGE, assert_complete};

/// The mock cluster keeps 5 MiB of each partition.
const PARTITIONS: u64 = 4;
/// Events that are recorded at once.
const BATCH: u64 = 2;

/// Stops the only broker for a time, while messages are produced and events are recorded by HTTP.
pub(crate) async fn broker_is_down(time: Duration) {
    let began = Instant::now();
    let servers = Servers::start().await;
    let cluster = MockCluster::new(1).expect("a cluster");
    for topic in ["releases", "entries"] {
        cluster.create_topic(topic, PARTITIONS as i32, 1).expect("a topic");
    }
    let brokers = cluster.bootstrap_servers();
    let config = part::config(servers.folder(), &brokers, &format!("{IN}{OUT}"));
    let service = part::start(&servers, &[&config]).await;
    let client = service.client();
    let to_topic = Load::to_topic(&brokers, PARTITIONS);
    let to_service = Load::to_service(client.clone(), BATCH);
    wait_until_counted(&client, RECORDED).await;
    wait_until_counted(&client, DELIVERED).await;

    cluster.broker_down(-1).expect("the broker stops");
    tokio::join!(sleep(time), client.wait_until_not_ready("kafka"));
    cluster.broker_up(-1).expect("the broker starts");
    let (messages, events) = (to_topic.stop().await, to_service.stop().await);

    let repeated_entries = assert_one_effect_each(&client, messages, PARTITIONS).await;
    let repeats = assert_complete(&brokers, PARTITIONS as i32, &client).await;
    // One page may have reached the broker before the outage, and one after it when its time limit ended.
    assert!(repeats <= 2 * PAGE, "{repeats} repeats after one outage");
    client.wait_until_ready().await;
    println!(
        "kafka: brokers down for {:.0} s, {messages} messages in, one effect each; {repeated_entries} repeated entries \
         without effect; {} entries out, each key complete and in order, {repeats} repeats; {:.0} s",
        time.as_secs_f64(),
        messages + events + repeated_entries,
        began.elapsed().as_secs_f64()
    );
}
