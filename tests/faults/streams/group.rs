//! Two processes of one consumer group, one of which leaves and joins under load.
//!
//! The broker is the mock cluster of librdkafka: `tansu` does not give the partitions of a member that has left to the
//! others.

use std::time::{Duration, Instant};

use ledger_tests::{Random, Servers};
use rdkafka::mocking::MockCluster;
use tokio::time::sleep;

use super::load::{Load, assert_one_effect_each};
use super::part::{self, IN, REBALANCES, RECORDED, counted, wait_until_counted};

const PARTITIONS: u64 = 4;
/// Part of the seed's random numbers that this story draws.
const PART: u64 = 103;

/// Stops the second process at random moments, in turn by SIGTERM and by SIGKILL, and starts it again, except after the
/// last time: then the first process records the messages of all partitions.
pub(crate) async fn group_rebalances(seed: u64, departures: u64) {
    let began = Instant::now();
    let servers = Servers::start().await;
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("releases", PARTITIONS as i32, 1).expect("a topic");
    let config = part::config(servers.folder(), &cluster.bootstrap_servers(), IN);
    let flags = [config.as_str()];
    let (first, mut second) = tokio::join!(part::start(&servers, &flags), part::start(&servers, &flags));
    let client = first.client();
    let load = Load::to_topic(&cluster.bootstrap_servers(), PARTITIONS);

    let mut random = Random::of(seed, &[PART]);
    for departure in 1..=departures {
        wait_until_counted(&second.client(), RECORDED).await;
        sleep(Duration::from_millis(random.below(1_500))).await;
        if departure.is_multiple_of(2) {
            second.kill().await;
        } else {
            assert!(second.terminate().await, "the process stops without an error");
        }
        if departure < departures {
            second.restart().await;
        }
    }
    let messages = load.stop().await;

    let repeats = assert_one_effect_each(&client, messages, PARTITIONS).await;
    let rebalances = counted(&client, REBALANCES).await;
    assert!(rebalances >= departures as f64, "{rebalances} rebalances of the process that stays");
    println!(
        "kafka.in: {departures} departures of one of two consumers, {rebalances} rebalances of the other, {messages} \
         messages, one effect each; {repeats} repeated entries without effect; {:.0} s",
        began.elapsed().as_secs_f64()
    );
}
