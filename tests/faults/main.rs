//! Fault injection under load, driven by a seed. Checks that every acknowledged event is stored once and at its
//! position, that the projections match the log, and that the Merkle tree covers exactly the log.
//!
//! This test runs one short round. `ops/faults` runs for a given time. The stories of streams have short versions here,
//! and long ones in `ops/faults --streams`.

#![expect(clippy::print_stdout, reason = "a run prints its progress")]

mod check;
mod database;
mod disk;
mod generator;
mod lanes;
mod load;
mod merkle;
mod nats;
mod observations;
mod plan;
mod process;
mod queries;
mod report;
mod rollbacks;
mod run;
mod service;
mod shared;
mod stack;
mod streams;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plan::{LONG, Shape, Stint, Topology};
use report::Report;

/// Seed of the short run.
const SEED: u64 = 1;

/// Sizes of the short run.
const SHORT: Shape =
    Shape { rounds: 1, load: Duration::from_secs(10), faults: (6, 6), topologies: &[Topology::OneNode] };

#[tokio::test(flavor = "multi_thread")]
async fn under_faults_no_acknowledged_event_is_lost_duplicated_or_moved() {
    println!("seed {SEED}: `ops/faults --seed {SEED}` runs longer with this seed");
    let report = Arc::new(Report::new());

    let result = run::run(&Stint::plan(SEED, 1, &SHORT), SystemTime::now().into(), &report).await;

    println!("{}", report.table());
    result.unwrap_or_else(|violations| panic!("{violations}"));
}

/// Kills of a process, and departures from a consumer group, in the short stories of streams.
const KILLS: u64 = 3;
const DEPARTURES: u64 = 2;
/// Stops of the service with a backlog in the short story, and the messages of the backlog.
const STOPS: u64 = 2;
const BACKLOG: u64 = 8_000;
/// Duration of the short outage of Kafka's brokers.
const BROKER_OUTAGE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn each_message_has_one_effect_in_order_although_its_consumer_is_killed() {
    streams::consumer_is_killed(SEED, KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_each_entry_in_order_although_its_producer_is_killed() {
    streams::producer_is_killed(SEED, KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_has_one_effect_in_order_while_a_consumer_leaves_and_joins_its_group() {
    streams::group_rebalances(SEED, DEPARTURES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_backlog_has_one_effect_and_none_is_set_aside_although_the_service_stops() {
    streams::service_stops_with_a_backlog(STOPS, BACKLOG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_recorded_and_produced_after_an_outage_of_the_brokers() {
    streams::broker_is_down(BROKER_OUTAGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_follower_of_many_misses_or_repeats_an_entry_over_a_kill_and_a_rebuild() {
    streams::clients_follow().await;
}

#[test]
fn the_plan_depends_on_the_seed_only() {
    let plan = |seed| (1..20).map(|number| Stint::plan(seed, number, &LONG)).collect::<Vec<_>>();

    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7), plan(8));
}

#[test]
fn generated_events_depend_on_the_seed_only() {
    let generated = || {
        let start = SystemTime::UNIX_EPOCH.into();
        let random = ledger_tests::Random::seeded(7);
        let mut generator = generator::Generator::new(random, "a".into(), true, start);
        (0..50).flat_map(|_| generator.next().events).map(|event| event.bytes).collect::<Vec<_>>()
    };

    assert_eq!(generated(), generated());
}
