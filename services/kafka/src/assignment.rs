//! The partitions that the group assigns to a consumer, each with its worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::client::{ClientEvents, describe};
use crate::flow::{Bound, Flow};
use crate::message::Received;
use crate::partition::{Buffered, Partition};
use crate::status::Cause;
use crate::worker::{Recorder, Worker};

/// Time for the workers of partitions that are revoked to complete what the write path has received.
const COMPLETION_TIME: Duration = Duration::from_secs(4);

/// Topic and number of a partition.
type Key = (String, i32);

/// A partition that is assigned to this process.
struct Assigned {
    partition: Arc<Partition>,
    worker: JoinHandle<()>,
    cancelled: CancellationToken,
    is_paused: bool,
    /// Offset that was last committed, as far as requests are known not to have failed.
    committed: Option<i64>,
}

/// The assignment of a consumer. All methods run on the consumer's thread.
pub(crate) struct Assignment {
    pub(crate) events: ClientEvents,
    recorder: Arc<Recorder>,
    bound: Bound,
    buffered: Buffered,
    runtime: Handle,
    partitions: Mutex<BTreeMap<Key, Assigned>>,
    /// True if a request to commit has failed.
    commit_failed: AtomicBool,
    /// True once the consumer leaves its group for good.
    is_stopping: AtomicBool,
}

impl Assignment {
    pub(crate) fn new(events: ClientEvents, recorder: Arc<Recorder>, bound: Bound, runtime: Handle) -> Self {
        Self {
            events,
            recorder,
            bound,
            buffered: Buffered::default(),
            runtime,
            partitions: Mutex::default(),
            commit_failed: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<Key, Assigned>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that the consumer leaves its group: its last commit does not wait for the broker's answer, which may
    /// never arrive. Closing the consumer does, for a while.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Takes a message of an assigned partition.
    pub(crate) fn accept(&self, consumer: &BaseConsumer<Self>, message: &BorrowedMessage<'_>) {
        let received = Received::new(message, &self.recorder.route.format);
        let key = (message.topic().to_owned(), message.partition());
        let partitions = self.partitions();
        // A message of a partition that was revoked is for its next owner.
        let Some(assigned) = partitions.get(&key) else { return };
        assigned.partition.push(received);
        let flow = self.decide(assigned, partitions.len());
        drop(partitions);
        if flow == Flow::Pause {
            self.control_flow(consumer);
        }
    }

    fn decide(&self, assigned: &Assigned, partitions: usize) -> Flow {
        let own = assigned.partition.bytes();
        self.bound.decide(assigned.is_paused, own, partitions, self.buffered.bytes())
    }

    /// Starts the workers of partitions again that ended although their partition is assigned: they panicked.
    pub(crate) fn restart_workers(&self) {
        for ((topic, number), assigned) in &mut *self.partitions() {
            if assigned.worker.is_finished() && !assigned.cancelled.is_cancelled() {
                let part = self.events.status.part();
                error!(part, topic, partition = number, "the worker of a partition failed; restarting it");
                self.events
                    .status
                    .of_partition(topic, *number)
                    .set(Cause::Ledger, "the worker of a partition failed");
                assigned.worker = self.start_worker(&assigned.partition, &assigned.cancelled);
            }
        }
    }

    fn start_worker(&self, partition: &Arc<Partition>, cancelled: &CancellationToken) -> JoinHandle<()> {
        let worker = Worker {
            status: self.events.status.of_partition(&partition.topic, partition.number),
            partition: Arc::clone(partition),
            recorder: Arc::clone(&self.recorder),
            cancelled: cancelled.clone(),
        };
        self.runtime.spawn(worker.run())
    }

    /// Pauses and resumes partitions, so that their messages stay within the bound.
    pub(crate) fn control_flow(&self, consumer: &BaseConsumer<Self>) {
        let mut partitions = self.partitions();
        let count = partitions.len();
        let (mut paused, mut resumed) = (TopicPartitionList::new(), TopicPartitionList::new());
        for ((topic, number), assigned) in &mut *partitions {
            match self.decide(assigned, count) {
                Flow::Pause => {
                    paused.add_partition(topic, *number);
                    assigned.is_paused = true;
                }
                Flow::Resume => {
                    resumed.add_partition(topic, *number);
                    assigned.is_paused = false;
                }
                Flow::Keep => {}
            }
        }
        drop(partitions);
        let part = self.events.status.part();
        gauge!("ledger_kafka_buffered_bytes", "part" => part.to_owned()).set(self.buffered.bytes() as f64);
        let results = [
            (paused.count() > 0).then(|| consumer.pause(&paused)),
            (resumed.count() > 0).then(|| consumer.resume(&resumed)),
        ];
        for error in results.into_iter().flatten().filter_map(Result::err) {
            warn!(part, error = describe(&error), "cannot pause or resume partitions");
        }
    }

    /// Requests to commit what was settled since the last request, and again what a failed request stated.
    pub(crate) fn commit(&self, consumer: &BaseConsumer<Self>) {
        let again = self.commit_failed.swap(false, Ordering::Relaxed);
        let mut offsets = Vec::new();
        for (key, assigned) in &mut *self.partitions() {
            let Some(settled) = assigned.partition.settled() else { continue };
            if again || assigned.committed != Some(settled) {
                assigned.committed = Some(settled);
                offsets.push((key.clone(), settled));
            }
        }
        self.commit_offsets(consumer, &offsets, CommitMode::Async);
    }

    fn commit_offsets(&self, consumer: &BaseConsumer<Self>, offsets: &[(Key, i64)], mode: CommitMode) {
        if offsets.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        let added = offsets.iter().try_for_each(|((topic, number), offset)| {
            list.add_partition_offset(topic, *number, Offset::Offset(*offset))
        });
        if let Err(error) = added.and_then(|()| consumer.commit(&list, mode)) {
            self.report_commit(&error);
        }
    }

    /// The messages of a commit that failed may be delivered again; their events are recorded once.
    fn report_commit(&self, error: &KafkaError) {
        let part = self.events.status.part();
        warn!(part, error = describe(error), "cannot commit offsets; retrying");
        counter!("ledger_kafka_errors_total", "part" => part.to_owned()).increment(1);
        self.commit_failed.store(true, Ordering::Relaxed);
    }

    /// Starts a worker for each new partition.
    fn assign(&self, list: &TopicPartitionList) {
        let mut partitions = self.partitions();
        for element in list.elements() {
            let (topic, number) = (element.topic().to_owned(), element.partition());
            if partitions.contains_key(&(topic.clone(), number)) {
                continue;
            }
            let partition = Arc::new(Partition::new(topic.clone(), number, self.buffered.clone()));
            let cancelled = CancellationToken::new();
            let worker = self.start_worker(&partition, &cancelled);
            let assigned = Assigned { partition, worker, cancelled, is_paused: false, committed: None };
            partitions.insert((topic, number), assigned);
        }
        info!(part = self.events.status.part(), assigned = partitions.len(), "partitions are assigned");
    }

    /// Ends the work on partitions that are revoked: completes or drops what is in progress, and commits what is settled.
    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let mut revoked = Vec::new();
        {
            let mut partitions = self.partitions();
            for element in list.elements() {
                let key = (element.topic().to_owned(), element.partition());
                revoked.extend(partitions.remove_entry(&key));
            }
        }
        for (_, assigned) in &revoked {
            assigned.cancelled.cancel();
        }
        self.runtime.block_on(async {
            let deadline = Instant::now() + COMPLETION_TIME;
            for (_, assigned) in &mut revoked {
                if timeout_at(deadline, &mut assigned.worker).await.is_err() {
                    // Its messages are delivered again, and their events are recorded once.
                    assigned.worker.abort();
                }
            }
        });
        // What held these partitions back is a fault of their next owner.
        for ((topic, number), _) in &revoked {
            let status = self.events.status.of_partition(topic, *number);
            status.clear(Cause::Ledger);
            status.clear(Cause::Delivery);
        }
        let part = self.events.status.part();
        let (mut offsets, mut paused) = (Vec::new(), TopicPartitionList::new());
        for ((topic, number), assigned) in revoked {
            if assigned.is_paused {
                paused.add_partition(&topic, number);
            }
            let (name, partition) = (topic.clone(), number.to_string());
            // Its next owner measures the lag.
            gauge!("ledger_kafka_lag_messages", "part" => part.to_owned(), "topic" => name,
                "partition" => partition)
            .set(0.0);
            if let Some(settled) = assigned.partition.settled() {
                offsets.push(((topic, number), settled));
            }
        }
        info!(part, revoked = list.count(), "partitions are revoked");
        // Another process may own partitions that were lost, and commit its own offsets.
        if !consumer.assignment_lost() {
            let is_stopping = self.is_stopping.load(Ordering::Relaxed);
            let mode = if is_stopping { CommitMode::Async } else { CommitMode::Sync };
            self.commit_offsets(consumer, &offsets, mode);
        }
        // librdkafka keeps the pause for the next assignment. To resume a partition that is not paused would lose what
        // it has fetched.
        if paused.count() > 0
            && let Err(error) = consumer.resume(&paused)
        {
            warn!(part, error = describe(&error), "cannot resume partitions that are revoked");
        }
    }
}

impl ClientContext for Assignment {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.events.stats(statistics);
    }
}

impl ConsumerContext for Assignment {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let part = self.events.status.part();
        counter!("ledger_kafka_rebalances_total", "part" => part.to_owned()).increment(1);
        match rebalance {
            Rebalance::Assign(list) => {
                self.events.status.clear(Cause::Group);
                self.assign(list);
            }
            Rebalance::Revoke(list) => self.revoke(consumer, list),
            Rebalance::Error(error) => warn!(part, error = describe(error), "rebalance failed"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.report_commit(&error);
        }
    }
}
