//! Work queue: a stream, `INBOX_<tenant>`, that keeps messages of publishers until they are handled.
//!
//! The acknowledgement of JetStream tells a publisher that its message is durable. One process at a time reads the queue,
//! through a consumer that it creates: all messages that are left, in order. If the order is in doubt, because the
//! connection or a message was lost, the reader ends, and its successor begins again at the first message that is left. So
//! messages are delivered in order, and some of them again, and never one before an earlier one that was not delivered.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode, Message};
use futures::StreamExt as _;
use ledger_domain::TenantName;
use tokio::sync::watch;
use tracing::warn;

use super::messages::BrokerMessage;
use super::stream::is_not_found;
use super::{OpenError, read_error};
use crate::ReadError;
use crate::subject::token;

/// Name of the consumer: the permissions of other users exclude it. A new one replaces that of a process with an earlier
/// lease.
const CONSUMER: &str = "ledger";
/// Start of the consumer's description, before the epoch of its reader's lease.
const EPOCH: &str = "epoch ";
/// Number of messages that are pulled at a time: less than what a subscription holds.
const PULL_BATCH_SIZE: usize = 100;
/// Maximum number of messages that are delivered and not acknowledged.
const MAX_UNACKNOWLEDGED: i64 = 2_000;
/// Time after which the server delivers a message again. The reader holds a message that cannot be recorded yet; if it
/// dies, its successor does not wait for this time.
const ACK_WAIT: Duration = Duration::from_secs(60 * 60);
/// Time after which the server deletes a consumer that no process uses.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(5 * 60);

/// The messages that are left in a work queue.
pub struct WorkQueue {
    messages: pull::Stream,
    disconnects: watch::Receiver<u64>,
    /// Number of messages received.
    received: u64,
}

/// A message of a work queue.
pub struct QueuedMessage {
    content: BrokerMessage,
    message: Message,
}

impl QueuedMessage {
    /// Returns the message.
    #[must_use]
    pub const fn content(&self) -> &BrokerMessage {
        &self.content
    }

    /// Removes the message from the queue. If the acknowledgement is lost, the message is delivered again.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn acknowledge(&self) -> Result<(), ReadError> {
        self.message.ack().await.map_err(|error| ReadError(error.to_string()))
    }
}

fn name_of(tenant: &TenantName) -> String {
    format!("INBOX_{}", tenant.as_str().replace('.', "="))
}

fn subject_of(tenant: &TenantName) -> String {
    format!("inbox.{}.>", token(tenant.as_str()))
}

fn config(tenant: &TenantName, (max_bytes, replicas): (u64, usize)) -> Config {
    Config {
        name: name_of(tenant),
        description: Some("Messages that a release ledger has not handled yet.".into()),
        subjects: vec![subject_of(tenant)],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        max_messages: -1,
        max_messages_per_subject: -1,
        num_replicas: replicas,
        ..Config::default()
    }
}

impl WorkQueue {
    pub(super) async fn open(
        context: &Context,
        mut disconnects: watch::Receiver<u64>,
        tenant: &TenantName,
        limits: (u64, usize),
        epoch: i64,
    ) -> Result<Self, OpenError> {
        disconnects.mark_unchanged();
        let expected = config(tenant, limits);
        let name = expected.name.clone();
        let failed = |reason: String| OpenError::JetStream { stream: name.clone(), reason };
        let stream = match context.get_stream(&name).await {
            Ok(stream) => stream,
            Err(error) if is_not_found(&error.kind()) => {
                let created = context.create_stream(expected.clone()).await;
                created.map_err(|error| failed(error.to_string()))?
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let differences = differences(&expected, &stream.cached_info().config);
        if !differences.is_empty() {
            return Err(OpenError::Mismatch { stream: name.clone(), differences });
        }
        // A process that was paused after it acquired its lease must not end the consumer of its successor.
        if let Ok(found) = stream.consumer_info(CONSUMER).await
            && epoch_of(found.config.description.as_deref()) > Some(epoch)
        {
            return Err(failed("a process with a later lease reads it".to_owned()));
        }
        match context.delete_consumer_from_stream(CONSUMER, &name).await {
            Ok(_) => {}
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {}
                _ => return Err(failed(error.to_string())),
            },
        }
        let consumer = pull::Config {
            name: Some(CONSUMER.to_owned()),
            description: Some(format!("{EPOCH}{epoch}")),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: MAX_UNACKNOWLEDGED,
            filter_subject: subject_of(tenant),
            inactive_threshold: INACTIVE_THRESHOLD,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(consumer).await.map_err(|error| failed(error.to_string()))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL_BATCH_SIZE)
            .heartbeat(Duration::from_secs(5))
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { messages, disconnects, received: 0 })
    }

    /// Waits for the next message. It can be cancelled without losing a message.
    ///
    /// # Errors
    /// The order is in doubt, because the connection or the consumer was lost: open the queue again, after every message
    /// that was received is handled or given up.
    pub async fn next(&mut self) -> Result<QueuedMessage, ReadError> {
        loop {
            let message = tokio::select! {
                biased;
                changed = self.disconnects.changed() => {
                    let reason = if changed.is_ok() { "lost the connection to NATS" } else { "the connection is closed" };
                    return Err(ReadError(reason.to_owned()));
                }
                message = self.messages.next() => message,
            };
            let message =
                message.ok_or_else(|| ReadError("the consumer ended".to_owned()))?.map_err(read_error)?;
            let sequence = message.info().map_err(|error| ReadError(error.to_string()))?.consumer_sequence;
            self.received += 1;
            if self.received != sequence {
                return Err(ReadError("a message was lost on the way".to_owned()));
            }
            match BrokerMessage::new(&message.message) {
                Some(content) => return Ok(QueuedMessage { content, message }),
                // The subjects of the stream do not permit it.
                None => warn!(subject = %message.subject, "a message of the work queue names no publisher"),
            }
        }
    }
}

/// Returns the epoch that the description of a consumer states.
fn epoch_of(description: Option<&str>) -> Option<i64> {
    description?.strip_prefix(EPOCH)?.parse().ok()
}

/// Describes the settings with which messages may be lost. The operator may choose the size and the replicas.
fn differences(expected: &Config, found: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    macro_rules! compare {
        ($($field:ident),+) => {$(
            if expected.$field != found.$field {
                differences.push(format!(
                    "{} is {:?} and must be {:?}", stringify!($field), found.$field, expected.$field
                ));
            }
        )+};
    }
    compare!(subjects, retention, storage, discard, max_age, max_messages, max_messages_per_subject);
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_of_a_later_lease_is_recognised() {
        assert!(epoch_of(Some("epoch 12")) > Some(9));
        assert!(epoch_of(Some("epoch 9")) <= Some(9));
        assert!(epoch_of(Some("mine")) <= Some(9));
        assert!(epoch_of(None) <= Some(9));
    }

    #[test]
    fn a_queue_that_may_drop_messages_does_not_fit() {
        let expected = config(&TenantName::default(), (1 << 20, 1));
        let dropping =
            Config { discard: DiscardPolicy::Old, max_age: Duration::from_secs(60), ..expected.clone() };
        assert_eq!(differences(&expected, &dropping).len(), 2);
        let larger = Config { max_bytes: 1 << 30, num_replicas: 3, ..expected.clone() };
        assert_eq!(differences(&expected, &larger), [""; 0]);
    }
}
