//! What all clients of librdkafka have in common: their properties, their log, their errors and their statistics.

use std::fs;

use metrics::{counter, gauge};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaConfRes;
use tracing::{debug, error, info, warn};

use crate::settings::{Settings, SettingsError};
use crate::status::{Cause, PartStatus};

/// Properties that the settings may replace.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "release-ledger"),
    // New topics and partitions are found within this time.
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("statistics.interval.ms", "5000"),
    // A broker may close an idle connection; that is no fault.
    ("log.connection.close", "false"),
];

/// Returns the properties of a client: defaults, those of the settings, and `fixed`, each in place of those before.
///
/// # Errors
/// A file cannot be read, or librdkafka does not know a property or its value.
pub(crate) fn config(
    settings: &Settings,
    defaults: &[(&str, &str)],
    fixed: &[(&str, &str)],
) -> Result<ClientConfig, SettingsError> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Info);
    for (name, value) in DEFAULTS.iter().chain(defaults) {
        config.set(*name, *value);
    }
    for (name, value) in &settings.properties {
        config.set(name.as_str(), value.expose());
    }
    for (name, path) in &settings.property_files {
        let place = || format!("kafka.property_files.{name:?}");
        let value = fs::read_to_string(path).map_err(|error| {
            SettingsError::new(place(), format_args!("cannot read {}: {error}", path.display()))
        })?;
        config.set(name.as_str(), value.trim_end());
    }
    for (name, value) in fixed {
        config.set(*name, *value);
    }
    config.create_native_config().map_err(|error| invalid(&error))?;
    Ok(config)
}

/// Returns the error of a client that cannot be created.
pub(crate) fn invalid(error: &KafkaError) -> SettingsError {
    SettingsError::new("kafka.properties", describe(error))
}

/// Describes an error, without the value of a property.
pub(crate) fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            format!("{name} is not a property of librdkafka")
        }
        KafkaError::ClientConfig(_, _, name, _) => format!("the value of {name} is not valid"),
        other => other.to_string(),
    }
}

/// Receives the log, the errors and the statistics of a client.
#[derive(Debug, Clone)]
pub(crate) struct ClientEvents {
    pub(crate) status: PartStatus,
}

impl ClientEvents {
    /// Sets the lag of each partition that the client reads.
    fn set_lag(&self, statistics: &Statistics) {
        for topic in statistics.topics.values() {
            let read = topic.partitions.values().filter(|partition| {
                partition.partition >= 0 && partition.fetch_state == "active" && partition.consumer_lag >= 0
            });
            for partition in read {
                let part = self.status.part().to_owned();
                let number = partition.partition.to_string();
                let lag = partition.consumer_lag as f64;
                gauge!("ledger_kafka_lag_messages", "part" => part, "topic" => topic.topic.clone(),
                    "partition" => number)
                .set(lag);
            }
        }
    }
}

impl ClientContext for ClientEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let part = self.status.part();
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => error!(part, facility, text = message, "librdkafka"),
            RDKafkaLogLevel::Warning => warn!(part, facility, text = message, "librdkafka"),
            RDKafkaLogLevel::Notice => info!(part, facility, text = message, "librdkafka"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(part, facility, text = message, "librdkafka");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let part = self.status.part();
        let code = error.rdkafka_error_code();
        warn!(part, error = describe(&error), reason, "Kafka reports an error");
        counter!("ledger_kafka_errors_total", "part" => part.to_owned()).increment(1);
        match code {
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::Resolve,
            ) => self.status.set(Cause::Connection, reason),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::InvalidTopic,
            ) => self.status.set(Cause::Topic, reason),
            Some(RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::InvalidGroupId) => {
                self.status.set(Cause::Group, reason);
            }
            _ => {}
        }
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.status.clear(Cause::Connection);
        }
        self.set_lag(&statistics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::KafkaStatus;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).expect("valid settings")
    }

    #[test]
    fn the_settings_replace_defaults_but_not_what_the_service_fixes() {
        let settings = settings("[properties]\n\"client.id\" = \"mine\"\n\"linger.ms\" = 7\n");
        let config = config(&settings, &[("linger.ms", "5")], &[("acks", "all")]).expect("valid properties");

        assert_eq!(config.get("client.id"), Some("mine"));
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("acks"), Some("all"));
    }

    #[test]
    fn a_value_is_read_from_a_file_without_its_line_feed() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(file.path(), "hunter2\n").expect("written");
        let text = format!("[properties]\n[property_files]\n\"sasl.password\" = {:?}\n", file.path());
        let config = config(&settings(&text), &[], &[]).expect("valid properties");

        assert_eq!(config.get("sasl.password"), Some("hunter2"));
    }

    #[test]
    fn an_error_names_the_property_or_the_file() {
        let error = |text: &str| config(&settings(text), &[], &[]).err().map(|error| error.to_string());

        let value = error("[properties]\n\"client.dns.lookup\" = \"hunter2\"\n").expect("rejected");
        assert!(value.contains("client.dns.lookup") && !value.contains("hunter2"), "{value}");
        let unknown = error("[properties]\n\"no.such\" = 1\n").expect("rejected");
        assert!(unknown.contains("no.such"), "{unknown}");
        let missing = error("[properties]\n[property_files]\n\"sasl.password\" = \"/no/such\"\n");
        assert!(missing.is_some_and(|error| error.contains("cannot read /no/such")));
    }

    #[test]
    fn a_broker_that_is_down_is_a_fault_until_one_is_up() {
        let status = KafkaStatus::default();
        let events = ClientEvents { status: status.of_part("kafka.in.a") };

        events.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(status.fault().as_deref(), Some("kafka.in.a: 1/1 brokers are down"));
        events.stats(Statistics::default());
        assert!(status.fault().is_some());

        let broker = rdkafka::statistics::Broker { state: "UP".to_owned(), ..Default::default() };
        let brokers = [("b".to_owned(), broker)].into();
        events.stats(Statistics { brokers, ..Default::default() });
        assert_eq!(status.fault(), None);
    }
}
