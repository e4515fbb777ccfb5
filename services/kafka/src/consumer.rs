//! The consumer of the topics of one `kafka.in`. It has a thread, because librdkafka calls back and blocks while it
//! rebalances; each partition has a task, which records its messages.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ledger_streams::inbound::Receiver;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::assignment::Assignment;
use crate::client::{self, ClientEvents, describe};
use crate::flow::Bound;
use crate::sender::Sender;
use crate::settings::{InSetting, Settings, SettingsError};
use crate::status::{Cause, KafkaStatus, PartStatus};
use crate::worker::Recorder;

/// Properties that the settings may replace.
const DEFAULTS: &[(&str, &str)] = &[
    // A new group begins with the oldest messages: none is left out.
    ("auto.offset.reset", "earliest"),
    // Messages that librdkafka fetches in advance, for all partitions together.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.queue.backoff.ms", "100"),
];

/// Longest wait of the thread for a message.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Interval at which offsets are committed, and paused partitions are checked.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which topics are checked that were not usable, and time limit of a check.
const TOPIC_CHECK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// Delay before a consumer that failed is replaced.
const REPLACE_DELAY: Duration = Duration::from_secs(2);
/// Time limit for leaving the group.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Consumer of the topics of one `kafka.in`.
pub(crate) struct Inbound {
    topics: Vec<String>,
    config: ClientConfig,
    recorder: Arc<Recorder>,
    status: PartStatus,
    bound: Bound,
}

impl Inbound {
    /// Creates the consumer of `kafka.in.NAME`, without connecting.
    ///
    /// # Errors
    /// A property is not valid, or a file cannot be read.
    pub(crate) fn open(
        name: &str,
        setting: &InSetting,
        settings: &Settings,
        receiver: Arc<dyn Receiver>,
        status: KafkaStatus,
    ) -> Result<Self, SettingsError> {
        let status = status.of_part(&format!("kafka.in.{name}"));
        let fixed = [
            ("group.id", setting.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("partition.assignment.strategy", "cooperative-sticky"),
        ];
        let config = client::config(settings, DEFAULTS, &fixed)?;
        // Reports what librdkafka finds only when it creates a client, such as a certificate that it cannot read.
        let probe: KafkaResult<BaseConsumer> = without_group(&config).create();
        probe.map_err(|error| client::invalid(&error))?;
        let dead_letters = setting.dead_letter_topic.as_deref().map(|topic| {
            Sender::open_dead_letters(topic, settings, ClientEvents { status: status.clone() })
                .map(Mutex::new)
        });
        let recorder = Recorder {
            receiver,
            route: setting.route(name),
            dead_letters: dead_letters.transpose()?,
            status: status.clone(),
        };
        let bound = Bound { bytes: settings.max_buffered_bytes };
        Ok(Self { topics: setting.topics.clone(), config, recorder: Arc::new(recorder), status, bound })
    }

    /// Consumes until the token is cancelled, and leaves the group. Returns after a time limit even if the broker does
    /// not answer.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (ended, mut end) = oneshot::channel();
        let (runtime, thread_stop) = (Handle::current(), stop.clone());
        let (part, status) = (self.status.part().to_owned(), self.status.clone());
        let spawned = thread::Builder::new().name("kafka-in".to_owned()).spawn(move || {
            self.consume(&runtime, &thread_stop);
            // Releases the write path, which waits for it at shutdown.
            drop(self);
            // The receiver is gone if the time limit has passed.
            let _ = ended.send(());
        });
        if let Err(error) = spawned {
            error!(part, %error, "cannot start the thread of a consumer");
            return status
                .set(Cause::Connection, "the thread of the consumer cannot start; restart the process");
        }
        tokio::select! {
            () = stop.cancelled() => {
                if timeout(STOP_TIMEOUT, end).await.is_err() {
                    warn!(part, "consumer did not leave its group in time");
                }
            }
            _ = &mut end => {
                if !stop.is_cancelled() {
                    error!(part, "the thread of a consumer failed");
                    status.set(Cause::Connection, "the thread of the consumer failed; restart the process");
                }
            }
        }
    }

    /// Consumes until the token is cancelled. A consumer that librdkafka declares unusable is replaced.
    fn consume(&self, runtime: &Handle, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let Err(error) = self.consume_once(runtime, stop) else { return };
            let reason = describe(&error);
            warn!(part = self.status.part(), error = reason, "consumer failed; replacing it");
            self.status.set(Cause::Connection, &reason);
            runtime.block_on(async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(REPLACE_DELAY) => {}
                }
            });
        }
    }

    /// Consumes until the token is cancelled.
    ///
    /// # Errors
    /// The consumer cannot be used any more.
    fn consume_once(&self, runtime: &Handle, stop: &CancellationToken) -> KafkaResult<()> {
        let events = ClientEvents { status: self.status.clone() };
        let assignment = Assignment::new(events, Arc::clone(&self.recorder), self.bound, runtime.clone());
        let consumer: BaseConsumer<Assignment> = self.config.create_with_context(assignment)?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        let assignment = Arc::clone(consumer.context());
        let (mut committed_at, mut checked_at) = (Instant::now(), Instant::now());
        while !stop.is_cancelled() {
            match consumer.poll(POLL_INTERVAL) {
                Some(Ok(message)) => assignment.accept(&consumer, &message),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                // The client's context has reported the error.
                Some(Err(_)) | None => {}
            }
            if committed_at.elapsed() >= COMMIT_INTERVAL {
                committed_at = Instant::now();
                assignment.restart_workers();
                assignment.control_flow(&consumer);
                assignment.commit(&consumer);
            }
            if checked_at.elapsed() >= TOPIC_CHECK.0 {
                self.check_topics(&consumer);
                checked_at = Instant::now();
            }
        }
        // Dropping the consumer revokes its partitions, and leaves the group.
        assignment.stop();
        Ok(())
    }

    /// Clears the fault of a topic once all topics exist.
    fn check_topics(&self, consumer: &BaseConsumer<Assignment>) {
        if !self.status.has(Cause::Topic) {
            return;
        }
        let exists = |topic: &String| {
            let Ok(metadata) = consumer.fetch_metadata(Some(topic.as_str()), TOPIC_CHECK.1) else {
                return false;
            };
            let mut found = metadata.topics().iter().filter(|found| found.name() == topic.as_str());
            found.any(|found| found.error().is_none() && !found.partitions().is_empty())
        };
        if self.topics.iter().all(exists) {
            self.status.clear(Cause::Topic);
        }
    }
}

/// Returns the properties without the group: a client without one does not have to leave it.
fn without_group(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.remove("group.id");
    config
}
