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
                "this build of the program has no Kafka: use one with the cargo feature `kafka`, or remove \
                            the section [kafka] from the settings"
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
