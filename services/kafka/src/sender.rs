//! Produces records to a topic, all or an error: after an error nothing is in flight.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::client::{self, ClientEvents};
use crate::settings::{Settings, SettingsError};

/// Time limit of a call of [`Sender::send_all`], except for [`DISCARD_TIMEOUT`].
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(12);
/// Time limit for closing the connections of a client that failed.
pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(3);

/// Properties that the settings may replace.
const DEFAULTS: &[(&str, &str)] = &[
    ("linger.ms", "5"),
    // That of Java's clients: a key has the same partition for all producers.
    ("partitioner", "murmur2_random"),
];

/// Properties that keep the order: no record is written twice or after a later one by one client. An error that would
/// leave out a record ends the client. [`SEND_TIMEOUT`] comes before the time limit of single records: all are given up
/// at once, so that none follows one that was given up.
const FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("enable.gapless.guarantee", "true"),
    ("acks", "all"),
    ("message.timeout.ms", "60000"),
    ("request.timeout.ms", "10000"),
    ("socket.timeout.ms", "10000"),
    // A topic that does not exist is reported within SEND_TIMEOUT.
    ("topic.metadata.propagation.max.ms", "5000"),
];

/// Maximum size of a record of a dead-letter topic, in bytes: that of librdkafka. The topic's own limit decides.
const DEAD_LETTER_BYTES: (&str, &str) = ("message.max.bytes", "1000000000");

/// A record to produce.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) key: Option<Vec<u8>>,
    /// Value; `None` for a tombstone.
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: OwnedHeaders,
}

/// Reason why not all records are known to be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The broker has not acknowledged all records in time.
    #[error("topic {topic} did not acknowledge within {SEND_TIMEOUT:?}")]
    TimedOut { topic: String },
    /// The broker or the client refuses a record.
    #[error("cannot produce to topic {topic}: {reason}")]
    Refused { topic: String, reason: String },
    /// A record is larger than the broker or the client accepts.
    #[error("cannot produce to topic {topic}: {reason}; raise max.message.bytes of the topic")]
    TooLarge { topic: String, reason: String },
}

/// Producer of one topic.
pub(crate) struct Sender {
    topic: String,
    config: ClientConfig,
    events: ClientEvents,
    client: Option<Client>,
}

impl Sender {
    /// Creates a producer. It connects on its own.
    ///
    /// # Errors
    /// A property is not valid.
    pub(crate) fn open(
        topic: &str,
        settings: &Settings,
        events: ClientEvents,
    ) -> Result<Self, SettingsError> {
        Self::with(topic, settings, FIXED, events)
    }

    /// Creates a producer of a dead-letter topic: what a broker delivered may be larger than what the settings let this
    /// service produce elsewhere.
    ///
    /// # Errors
    /// A property is not valid.
    pub(crate) fn open_dead_letters(
        topic: &str,
        settings: &Settings,
        events: ClientEvents,
    ) -> Result<Self, SettingsError> {
        let fixed: Vec<_> = FIXED.iter().copied().chain([DEAD_LETTER_BYTES]).collect();
        Self::with(topic, settings, &fixed, events)
    }

    fn with(
        topic: &str,
        settings: &Settings,
        fixed: &[(&str, &str)],
        events: ClientEvents,
    ) -> Result<Self, SettingsError> {
        let config = client::config(settings, DEFAULTS, fixed)?;
        let client = Client::create(&config, &events).map_err(|error| client::invalid(&error))?;
        Ok(Self { topic: topic.to_owned(), config, events, client: Some(client) })
    }

    /// Produces all records in order, and returns after the broker has acknowledged them. Returns within
    /// [`SEND_TIMEOUT`] and [`DISCARD_TIMEOUT`]. After an error, some of the records may have been written.
    ///
    /// # Errors
    /// Not all records are known to be written; nothing is in flight.
    pub(crate) async fn send_all(&mut self, records: &[Record]) -> Result<(), SendError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::create(&self.config, &self.events).map_err(|error| self.refused(&error))?,
        };
        let outcome = timeout(SEND_TIMEOUT, client.produce(&self.topic, records)).await;
        let error = match outcome {
            Ok(Ok(())) => {
                self.client = Some(client);
                return Ok(());
            }
            Ok(Err(error)) => self.refused(&error),
            Err(_) => SendError::TimedOut { topic: self.topic.clone() },
        };
        client.discard().await;
        Err(error)
    }

    fn refused(&self, error: &KafkaError) -> SendError {
        let (topic, reason) = (self.topic.clone(), client::describe(error));
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::MessageBatchTooLarge,
            ) => SendError::TooLarge { topic, reason },
            _ => SendError::Refused { topic, reason },
        }
    }
}

/// Client of librdkafka. What it has in flight is given up when it is dropped.
struct Client(Option<FutureProducer<ClientEvents>>);

impl Client {
    fn create(config: &ClientConfig, events: &ClientEvents) -> Result<Self, KafkaError> {
        let producer: FutureProducer<ClientEvents> = config.create_with_context(events.clone())?;
        Ok(Self(Some(producer)))
    }

    async fn produce(&self, topic: &str, records: &[Record]) -> Result<(), KafkaError> {
        let Some(producer) = &self.0 else { return Err(KafkaError::Canceled) };
        let mut reports = Vec::with_capacity(records.len());
        for record in records {
            let headers = record.headers.clone();
            let mut future_record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
            if let Some(key) = &record.key {
                future_record = future_record.key(key.as_slice());
            }
            if let Some(value) = &record.value {
                future_record = future_record.payload(&value[..]);
            }
            reports.push(producer.send_result(future_record).map_err(|(error, _)| error)?);
        }
        for report in reports {
            match report.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(error),
                Err(_) => return Err(KafkaError::Canceled),
            }
        }
        Ok(())
    }

    /// Gives up what is in flight and closes the connections.
    async fn discard(mut self) {
        if let Some(producer) = self.0.take() {
            producer.purge(PurgeConfig::default().queue().inflight());
            // Waits for the threads of the client.
            let closed = timeout(DISCARD_TIMEOUT, spawn_blocking(move || drop(producer))).await;
            if closed.is_err() {
                tracing::warn!("a Kafka producer takes long to close its connections");
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(producer) = self.0.take() {
            producer.purge(PurgeConfig::default().queue().inflight());
            thread::spawn(move || drop(producer));
        }
    }
}
