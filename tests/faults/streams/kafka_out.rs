//! A topic has every entry in order, although the process that produces it is killed. The broker is `tansu`.

use std::time::{Duration, Instant};

use ledger_tests::{KafkaBroker, Random, Servers};
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;

use super::load::Load;
use super::part::{self, DELIVERED, OUT, wait_until_counted};
use super::topic::{PAGE, assert_complete};

const PARTITIONS: i32 = 4;
/// Events that are recorded at once.
const BATCH: u64 = 64;
/// Part of the seed's random numbers that this story draws.
const PART: u64 = 102;
/// Of this many kills, one is followed by the real end of the lease, which takes 30 s.
const LEASE_END: u64 = 5;

/// Kills the producer while events are recorded, each time shortly after it has begun to deliver what waits. The lease
/// of a killed process ends after 30 s; except for each fifth kill, the story ends it at once.
pub(crate) async fn producer_is_killed(seed: u64, kills: u64) {
    let began = Instant::now();
    let topics = [("entries", PARTITIONS)];
    let (servers, broker) = tokio::join!(Servers::start(), KafkaBroker::start_with_partitions(&topics));
    let config = part::config(servers.folder(), broker.address(), OUT);
    let recorder = part::start(&servers, &[]).await;
    let mut producer = part::start(&servers, &[&config]).await;
    let load = Load::to_service(recorder.client(), BATCH);

    let mut random = Random::of(seed, &[PART]);
    for kill in 1..=kills {
        wait_until_counted(&producer.client(), DELIVERED).await;
        sleep(Duration::from_millis(random.below(150))).await;
        producer.kill().await;
        if !kill.is_multiple_of(LEASE_END) {
            end_lease(&servers).await;
        }
        producer.restart().await;
    }
    wait_until_counted(&producer.client(), DELIVERED).await;
    let events = load.stop().await;

    let repeats = assert_complete(broker.address(), PARTITIONS, &recorder.client()).await;
    assert!(repeats <= kills * PAGE, "{repeats} repeats after {kills} kills");
    println!(
        "kafka.out: {kills} kills of the producer, {events} entries, each key complete and in order; {repeats} \
         repeats, at most {PAGE} possible after each kill; {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

/// Ends the lease of the process that was killed, as time does.
async fn end_lease(servers: &Servers) {
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let query = "UPDATE release_ledger.leases SET expires_at = '-infinity' WHERE name = 'kafka/entries'";
    let ended = sqlx::query(query).execute(&mut connection).await.expect("the lease ends");
    assert_eq!(ended.rows_affected(), 1, "leases of the output");
}
