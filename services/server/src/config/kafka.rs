//! Settings of Kafka. A build without Kafka only finds out whether there are any.

/// Settings of Kafka.
#[cfg(feature = "kafka")]
pub(crate) type KafkaSettings = ledger_kafka::Settings;

/// Settings of Kafka, which this build cannot read.
#[cfg(not(feature = "kafka"))]
pub(crate) type KafkaSettings = serde::de::IgnoredAny;
