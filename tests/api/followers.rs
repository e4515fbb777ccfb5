//! Followers that deliver entries to another system: leases, positions, and order after failures.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ledger_domain::Position;
use ledger_projections::{EventFilter, Projections, RecordedEntry};
use ledger_streams::follower::{DeliveryError, Follower, FollowerSettings, Sink, StartAt};
use ledger_tests::{Client, InProcess, deploy};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Upper bound of every wait; only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);
const EXPIRED: Duration = Duration::ZERO;

/// A system that keeps the positions of what it received. While it is broken, it takes a part of a delivery.
#[derive(Clone)]
struct Receiving {
    positions: watch::Sender<Vec<u64>>,
    broken: Arc<Mutex<u32>>,
}

impl Receiving {
    fn new() -> Self {
        Self { positions: watch::Sender::new(Vec::new()), broken: Arc::default() }
    }

    /// Fails this many deliveries after the first entry of each.
    fn break_for(&self, deliveries: u32) {
        *self.broken.lock().expect("no panic") = deliveries;
    }

    async fn until_last_is(&self, position: u64) -> Vec<u64> {
        let mut positions = self.positions.subscribe();
        let received = positions.wait_for(|positions| positions.last() == Some(&position));
        timeout(WAIT_LIMIT, received).await.expect("the entry arrives").expect("a sender").clone()
    }
}

#[async_trait]
impl Sink for Receiving {
    async fn deliver(&mut self, entries: &[RecordedEntry]) -> Result<(), DeliveryError> {
        let fails = {
            let mut broken = self.broken.lock().expect("no panic");
            let fails = *broken > 0;
            *broken = broken.saturating_sub(1);
            fails
        };
        let taken = if fails { 1 } else { entries.len() };
        let received = entries.iter().take(taken).map(|entry| entry.position.get());
        self.positions.send_modify(|positions| positions.extend(received));
        if fails { Err(DeliveryError("the system is broken".into())) } else { Ok(()) }
    }
}

fn settings(start: StartAt) -> FollowerSettings {
    let (name, filter) = ("test/one".to_owned(), EventFilter::default());
    FollowerSettings { name, filter, start, page_size: 100, process: Uuid::from_u128(1) }
}

/// Starts a follower that ends with the guard.
fn follow(projections: &Projections, start: StartAt, sink: &Receiving) -> Running {
    let cancelled = CancellationToken::new();
    let follower = Follower::new(settings(start), projections.clone(), sink.clone());
    let task = tokio::spawn(follower.run(cancelled.clone()));
    Running { cancelled, task }
}

struct Running {
    cancelled: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.cancelled.cancel();
        timeout(WAIT_LIMIT, self.task).await.expect("the follower stops").expect("no panic");
    }
}

/// Records this many deploys, and returns the position of the last once the projections have it.
async fn record(client: &Client, ids: std::ops::Range<u32>) -> u64 {
    let mut position = 0;
    for id in ids {
        let event = deploy(&format!("d{id}"), "2026-08-01T10:00:00Z", "production", "web", &format!("v{id}"));
        position = client.record(&event).await.ok()["position"].as_u64().expect("a position");
    }
    client.wait_for_projections(position).await;
    position
}

#[tokio::test]
async fn one_process_holds_a_lease_until_it_expires_or_is_released() {
    let service = InProcess::start(&[]).await;
    let projections = service.projections().await;
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let acquire = async |holder, duration| {
        projections.acquire_lease("kafka/out", holder, duration).await.expect("an answer")
    };

    let first = acquire(one, LONG).await.expect("the lease is free");
    let refused = acquire(other, LONG).await;
    let by_the_same_process = acquire(one, LONG).await;
    let renewed = projections.renew_lease(&first).await.expect("an answer").expect("held");
    projections.release_lease(renewed).await.expect("an answer");
    let expired = acquire(other, EXPIRED).await.expect("released");
    let taken_over = acquire(one, LONG).await.expect("expired");
    let late_renewal = projections.renew_lease(&expired).await.expect("an answer");

    assert_eq!((refused, by_the_same_process, late_renewal), (None, None, None));
    assert_eq!([first.epoch(), expired.epoch(), taken_over.epoch()], [1, 2, 3]);
    assert!(first.remaining() > LONG / 2 && expired.remaining().is_zero());
}

#[tokio::test]
async fn a_renewal_of_an_expired_lease_takes_it_from_no_other_process() {
    let service = InProcess::start(&[]).await;
    let projections = service.projections().await;
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let acquire = async |holder| {
        let lease = projections.acquire_lease("kafka/out", holder, EXPIRED).await.expect("an answer");
        lease.expect("the lease is free")
    };

    let lost = acquire(one).await;
    let expired = acquire(other).await;
    let of_the_former = projections.renew_lease(&lost).await.expect("an answer");
    let of_the_last = projections.renew_lease(&expired).await.expect("an answer");

    assert_eq!(of_the_former, None);
    assert_eq!(of_the_last.map(|lease| lease.epoch()), Some(expired.epoch()));
}

#[tokio::test]
async fn a_position_advances_only_under_the_lease_and_from_the_stored_position() {
    let service = InProcess::start(&[]).await;
    let projections = service.projections().await;
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let acquired = async |holder, duration| {
        let lease = projections.acquire_lease("out", holder, duration).await.expect("an answer");
        lease.expect("the lease is free")
    };
    let lost = acquired(one, EXPIRED).await;
    let held = acquired(other, LONG).await;
    let advance = async |lease, from, to| {
        projections.advance_leased("out", lease, from, Position::new(to)).await.expect("an answer")
    };
    let at = async || projections.follower_checkpoint("out").await.expect("an answer");

    let without_start = advance(&held, at().await, 5).await;
    projections.start_follower("out", Position::new(3)).await.expect("an answer");
    projections.start_follower("out", Position::new(9)).await.expect("an answer");
    let from = at().await;
    let by_the_former = advance(&lost, from, 5).await;
    let by_the_holder = advance(&held, from, 5).await;
    let again = advance(&held, from, 7).await;

    assert_eq!(from.position, Position::new(3));
    assert_eq!((without_start, by_the_former, by_the_holder, again), (false, false, true, false));
    assert_eq!(at().await.position, Position::new(5));
}

#[tokio::test]
async fn entries_are_delivered_in_order_from_the_start_that_is_set_and_continue_after_a_restart() {
    let service = InProcess::start(&[]).await;
    let (client, projections) = (service.client(), service.projections().await);
    let sink = Receiving::new();
    let last = record(&client, 0..5).await;

    let follower = follow(&projections, StartAt::After(Position::new(2)), &sink);
    sink.until_last_is(last).await;
    follower.stop().await;
    let last = record(&client, 5..8).await;
    let follower = follow(&projections, StartAt::Beginning, &sink);
    let received = sink.until_last_is(last).await;
    follower.stop().await;

    assert_eq!(received, (3..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failed_delivery_is_repeated_from_the_stored_position() {
    let service = InProcess::start(&[]).await;
    let (client, projections) = (service.client(), service.projections().await);
    let sink = Receiving::new();
    sink.break_for(2);
    let last = record(&client, 0..3).await;

    let follower = follow(&projections, StartAt::Beginning, &sink);
    let received = sink.until_last_is(last).await;
    follower.stop().await;

    assert_eq!(received, [1, 1, 1, 2, 3]);
}

#[tokio::test]
async fn a_follower_that_starts_now_leaves_out_what_was_recorded_before() {
    let service = InProcess::start(&[]).await;
    let (client, projections) = (service.client(), service.projections().await);
    let sink = Receiving::new();
    let before = record(&client, 0..3).await;
    let follower = follow(&projections, StartAt::Now, &sink);
    let stored = async {
        while projections.follower_checkpoint("test/one").await.expect("an answer").position.get() != before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT_LIMIT, stored).await.expect("the follower starts");

    let last = record(&client, 3..5).await;
    let received = sink.until_last_is(last).await;
    follower.stop().await;

    assert_eq!(received, (before + 1..=last).collect::<Vec<_>>());
}

/// A system that takes at most two entries at once.
struct Narrow(Receiving);

#[async_trait]
impl Sink for Narrow {
    async fn deliver(&mut self, entries: &[RecordedEntry]) -> Result<(), DeliveryError> {
        if entries.len() > 2 {
            return Err(DeliveryError("too many entries".into()));
        }
        self.0.deliver(entries).await
    }
}

#[tokio::test]
async fn a_system_that_does_not_take_long_deliveries_gets_shorter_ones() {
    let service = InProcess::start(&[]).await;
    let (client, projections) = (service.client(), service.projections().await);
    let sink = Receiving::new();
    let last = record(&client, 0..9).await;

    let cancelled = CancellationToken::new();
    let follower = Follower::new(settings(StartAt::Beginning), projections, Narrow(sink.clone()));
    let task = tokio::spawn(follower.run(cancelled.clone()));
    let received = sink.until_last_is(last).await;
    Running { cancelled, task }.stop().await;

    assert_eq!(received, (1..=last).collect::<Vec<_>>());
}

/// A system that never answers.
struct Silent(watch::Sender<bool>);

#[async_trait]
impl Sink for Silent {
    async fn deliver(&mut self, _entries: &[RecordedEntry]) -> Result<(), DeliveryError> {
        self.0.send_replace(true);
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_delivery_that_does_not_end_is_cut_off_at_the_stop_and_keeps_its_lease() {
    let service = InProcess::start(&[]).await;
    let (client, projections) = (service.client(), service.projections().await);
    record(&client, 0..1).await;
    let (delivers, mut delivering) = watch::channel(false);

    let cancelled = CancellationToken::new();
    let follower = Follower::new(settings(StartAt::Beginning), projections.clone(), Silent(delivers));
    let task = tokio::spawn(follower.run(cancelled.clone()));
    timeout(WAIT_LIMIT, delivering.wait_for(|delivers| *delivers)).await.expect("in time").expect("a sender");
    Running { cancelled, task }.stop().await;
    let next = projections.acquire_lease("test/one", Uuid::from_u128(2), LONG).await.expect("an answer");

    assert_eq!(next, None, "what was in flight may still arrive");
}
