//! Messages of topics: each is recorded in order, and committed once it needs no redelivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ledger_streams::inbound::{InboundMessage, Receipt, Receiver, Route};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, numbered, wait_until};
use super::receiver::{FakeReceiver, recorded};
use crate::{KafkaStatus, start_consumers};

const IN: &str = "[in.releases]\ntopics = [\"releases\"]\ngroup = \"ledger\"\n";
const WITH_DEAD_LETTERS: &str =
    "[in.releases]\ntopics = [\"releases\"]\ngroup = \"ledger\"\ndead_letter_topic = \"dead\"\n";

/// A running consumer.
struct Running {
    stop: CancellationToken,
    status: KafkaStatus,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(broker: &Broker, settings: &str, receiver: &Arc<FakeReceiver>) -> Self {
        let (stop, status) = (CancellationToken::new(), KafkaStatus::default());
        let tasks = start_consumers(&broker.settings(settings), Arc::clone(receiver), &status, &stop);
        Self { stop, status, tasks: tasks.expect("valid settings") }
    }

    /// Stops the consumer, which commits what is settled.
    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.expect("the consumer does not panic");
        }
    }
}

fn rejected(problem: &str, detail: &str) -> Receipt {
    Receipt::Rejected { problem: problem.to_owned(), detail: detail.to_owned(), has_secret: false }
}

fn values(numbers: std::ops::Range<usize>) -> Vec<Option<String>> {
    numbers.map(|number| Some(numbered(number))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_recorded_in_order_and_not_again_after_a_restart() {
    let broker = Broker::with_topics(&["releases"]);
    broker.produce("releases", &values(0..20)).await;

    let first = FakeReceiver::recording();
    let running = Running::start(&broker, IN, &first);
    assert_eq!(first.wait_for_settled(20).await, Vec::from_iter(0..20));
    running.stop().await;
    broker.produce("releases", &values(20..21)).await;
    let second = FakeReceiver::recording();
    let running = Running::start(&broker, IN, &second);

    assert_eq!(second.wait_for_settled(1).await, [20]);
    assert_eq!(first.settled().len(), 20);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_must_be_delivered_again_holds_back_the_later_ones() {
    let broker = Broker::with_topics(&["releases"]);
    broker.produce("releases", &values(0..10)).await;
    let receiver = FakeReceiver::new(|number, before| match (number, before) {
        (3, 0..2) | (7, 0) => Receipt::Retry("the stream does not answer".to_owned()),
        _ => recorded(),
    });

    let running = Running::start(&broker, IN, &receiver);

    assert_eq!(receiver.wait_for_settled(10).await, Vec::from_iter(0..10));
    let status = running.status.clone();
    wait_until(|| status.fault().is_none()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_settled_is_delivered_to_the_next_consumer() {
    let broker = Broker::with_topics(&["releases"]);
    broker.produce("releases", &values(0..5)).await;
    let first = FakeReceiver::new(|number, _| match number {
        0..2 => recorded(),
        _ => Receipt::Retry("the stream does not answer".to_owned()),
    });

    let running = Running::start(&broker, IN, &first);
    assert_eq!(first.wait_for_settled(2).await, [0, 1]);
    let status = running.status.clone();
    wait_until(|| status.fault().is_some_and(|fault| fault.contains("does not answer"))).await;
    running.stop().await;
    let second = FakeReceiver::recording();
    let running = Running::start(&broker, IN, &second);

    assert_eq!(second.wait_for_settled(3).await, [2, 3, 4]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_not_recorded_goes_to_the_dead_letter_topic_and_stops_nothing() {
    let broker = Broker::with_topics(&["releases", "dead"]);
    let mut produced = values(0..3);
    produced.insert(1, None);
    broker.produce("releases", &produced).await;
    let receiver = FakeReceiver::new(|number, _| match number {
        1 => rejected("invalid-event", "no type"),
        _ => recorded(),
    });

    let running = Running::start(&broker, WITH_DEAD_LETTERS, &receiver);

    assert_eq!(receiver.wait_for_settled(3).await, [0, 1, 2]);
    let dead = broker.read("dead", 2).await;
    assert_eq!((dead[0].key.as_deref(), dead[0].value.as_deref()), (Some("k"), None));
    assert!(dead[0].header("ledger-error").is_some_and(|error| error.contains("tombstone")));
    assert_eq!(dead[1].value, Some(numbered(1)));
    let named = ["ledger-problem", "ledger-error", "ledger-topic", "ledger-partition", "ledger-offset"];
    let found = named.map(|name| dead[1].header(name));
    assert_eq!(found, ["invalid-event", "no type", "releases", "0", "2"].map(Some));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_dead_letter_topic_does_not_accept_for_its_size_leaves_its_place_there() {
    let broker = Broker::with_topics(&["releases", "dead"]);
    broker.produce("releases", &values(0..2)).await;
    // The page of both is refused, and then the first alone.
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    broker.cluster.request_errors(RDKafkaApiKey::Produce, &[too_large; 2]);
    let receiver = FakeReceiver::new(|_, _| rejected("invalid-event", "no type"));

    let running = Running::start(&broker, WITH_DEAD_LETTERS, &receiver);

    let dead = broker.read("dead", 2).await;
    let found: Vec<_> = dead.iter().map(|dead| (dead.header("ledger-offset"), dead.value.clone())).collect();
    assert_eq!(found, [(Some("0"), None), (Some("1"), Some(numbered(1)))]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_that_are_not_acknowledged_hold_back_the_offset() {
    let broker = Broker::with_topics(&["releases", "dead"]);
    broker.produce("releases", &values(0..2)).await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker.cluster.request_errors(RDKafkaApiKey::Produce, &[refused; 200]);
    let rejecting = || FakeReceiver::new(|_, _| rejected("p", "d"));

    let first = rejecting();
    let running = Running::start(&broker, WITH_DEAD_LETTERS, &first);
    let status = running.status.clone();
    wait_until(|| status.fault().is_some_and(|fault| fault.contains("dead letters"))).await;
    running.stop().await;
    broker.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let second = rejecting();
    let running = Running::start(&broker, WITH_DEAD_LETTERS, &second);

    let dead = broker.read("dead", 2).await;
    assert_eq!(
        dead.iter().map(|dead| dead.header("ledger-offset")).collect::<Vec<_>>(),
        [Some("0"), Some("1")]
    );
    assert_eq!(second.settled(), [0, 1]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_is_a_fault_and_its_messages_arrive_later() {
    let broker = Broker::with_topics(&["releases"]);
    broker.produce("releases", &values(0..3)).await;
    broker.cluster.broker_down(-1).expect("down");
    let receiver = FakeReceiver::recording();

    let running = Running::start(&broker, IN, &receiver);
    let status = running.status.clone();
    wait_until(|| status.fault().is_some_and(|fault| fault.starts_with("kafka.in.releases: "))).await;
    broker.cluster.broker_up(-1).expect("up");

    assert_eq!(receiver.wait_for_settled(3).await, [0, 1, 2]);
    wait_until(|| status.fault().is_none()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_beyond_the_bound_are_received_after_those_before_them() {
    let broker = Broker::with_topics(&["releases"]);
    broker.produce("releases", &values(0..200)).await;
    let receiver = FakeReceiver::recording();
    // Room for a few messages: the partition is paused and resumed many times.
    let mut settings = broker.settings(IN);
    settings.max_buffered_bytes = 8_000;

    let (stop, status) = (CancellationToken::new(), KafkaStatus::default());
    let tasks = start_consumers(&settings, Arc::clone(&receiver), &status, &stop).expect("valid settings");

    assert_eq!(receiver.wait_for_settled(200).await, Vec::from_iter(0..200));
    Running { stop, status, tasks }.stop().await;
}

/// A write path that panics once.
struct Panicking {
    then: Arc<FakeReceiver>,
    has_panicked: AtomicBool,
}

#[async_trait]
impl Receiver for Panicking {
    async fn receive(&self, route: &Route, messages: Vec<InboundMessage>) -> Vec<Receipt> {
        assert!(self.has_panicked.swap(true, Ordering::Relaxed), "a defect");
        self.then.receive(route, messages).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_of_a_worker_that_panics_are_recorded_by_its_successor() {
    let broker = Broker::with_topics(&["releases"]);
    broker.produce("releases", &values(0..3)).await;
    let then = FakeReceiver::recording();
    let receiver = Arc::new(Panicking { then: Arc::clone(&then), has_panicked: AtomicBool::new(false) });

    let (stop, status) = (CancellationToken::new(), KafkaStatus::default());
    let tasks = start_consumers(&broker.settings(IN), receiver, &status, &stop).expect("valid settings");

    assert_eq!(then.wait_for_settled(3).await, [0, 1, 2]);
    wait_until(|| status.fault().is_none()).await;
    Running { stop, status, tasks }.stop().await;
}
