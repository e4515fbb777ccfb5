//! Kafka in a build without it: settings of Kafka are an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_api::{HealthCheck, TenantWebhook};
use ledger_domain::TenantName;
use ledger_projections::Projections;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, Tasks};
use crate::config::Config;

/// No Kafka.
pub(crate) struct Kafka;

impl Kafka {
    /// Checks that the settings name no Kafka.
    pub(crate) fn open(config: &Config, _hooks: &BTreeMap<String, TenantWebhook>) -> Result<Self, Error> {
        match config.kafka {
            None => Ok(Self),
            Some(_) => Err(
                "this build of the program has no Kafka: use one with the cargo feature `kafka`, or remove the section \
                 [kafka] from the settings"
                    .into(),
            ),
        }
    }

    /// Returns nothing: there is nothing to report.
    pub(crate) fn checks(&self) -> Vec<Arc<dyn HealthCheck>> {
        Vec::new()
    }

    /// Starts nothing.
    pub(crate) fn start(
        self,
        _app: &Arc<ledger_api::App>,
        _projections: &BTreeMap<TenantName, Projections>,
        _process: Uuid,
        _stop: &CancellationToken,
    ) -> Result<Tasks, Error> {
        Ok(Tasks::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn open(settings: &str) -> Result<Kafka, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), format!("access.authentication = \"off\"\n{settings}")).expect("written");
        let config = Config::read(&Flags::of_file(Some(file.path().to_owned()))).expect("valid settings");
        Kafka::open(&config, &BTreeMap::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_build_without_kafka_rejects_its_settings_and_says_why() {
        let error = open("[kafka.properties]\n\"bootstrap.servers\" = \"kafka:9092\"\n").err();
        let error = error.expect("rejected");
        assert!(error.contains("has no Kafka") && error.contains("[kafka]"), "{error}");
    }

    #[test]
    fn a_build_without_kafka_has_nothing_to_report_and_can_be_started_like_one_with_it() {
        let kafka = open("").expect("no settings of Kafka");
        assert!(kafka.checks().is_empty());
        // As the service calls it.
        let _: fn(_, &Arc<_>, &BTreeMap<_, _>, Uuid, &CancellationToken) -> _ = Kafka::start;
    }
}
