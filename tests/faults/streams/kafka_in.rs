//! Messages have one effect each, although their consumer is killed. The broker is `tansu`.

use std::time::{Duration, Instant};

use ledger_tests::{KafkaBroker, Random, Servers};
use tokio::time::sleep;

use super::load::{Load, assert_one_effect_each};
use super::part::{self, IN};

const PARTITIONS: u64 = 4;
/// Part of the seed's random numbers that this story draws.
const PART: u64 = 101;

/// Kills the consumer at random moments while messages are produced. Half of the kills hit a process that records
/// messages; the others may hit one that joins its group. A broker gives the partitions of a killed process to another
/// one after `session.timeout.ms`.
pub(crate) async fn consumer_is_killed(seed: u64, kills: u64) {
    let began = Instant::now();
    let topics = [("releases", PARTITIONS as i32)];
    let (servers, broker) = tokio::join!(Servers::start(), KafkaBroker::start_with_partitions(&topics));
    let config = part::config(servers.folder(), broker.address(), IN);
    let mut service = part::start(&servers, &[&config]).await;
    let client = service.client();
    let load = Load::to_topic(broker.address(), PARTITIONS);

    let mut random = Random::of(seed, &[PART]);
    let mut recorded = 0;
    for kill in 0..kills {
        if kill.is_multiple_of(2) {
            client.wait_for_head(recorded + 1).await;
        }
        sleep(Duration::from_millis(random.below(1_500))).await;
        (_, recorded) = client.positions().await;
        service.kill().await;
        service.restart().await;
    }
    client.wait_for_head(recorded + 1).await;
    let messages = load.stop().await;

    let repeats = assert_one_effect_each(&client, messages, PARTITIONS).await;
    println!(
        "kafka.in: {kills} kills of the consumer, {messages} messages, one effect each; {repeats} repeated entries \
         without effect; {:.0} s",
        began.elapsed().as_secs_f64()
    );
}
