//! Kafka in a build with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_api::{BrokerReceiver, HealthCheck, TenantWebhook};
use ledger_domain::TenantName;
use ledger_kafka::{KafkaStatus, Settings, start_consumers, start_followers};
use ledger_projections::Projections;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, Tasks};
use crate::config::{Config, Role};

/// Kafka, as the settings name it.
pub(crate) struct Kafka {
    settings: Option<Settings>,
    runs_consumers: bool,
    runs_followers: bool,
    status: KafkaStatus,
}

/// Reports faults of Kafka.
struct Check(KafkaStatus);

impl HealthCheck for Check {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn fault(&self) -> Option<String> {
        self.0.fault()
    }
}

impl Kafka {
    /// Checks the settings.
    pub(crate) fn open(config: &Config, hooks: &BTreeMap<String, TenantWebhook>) -> Result<Self, Error> {
        if let Some(settings) = &config.kafka {
            let hooks = hooks.iter().map(|(name, hook)| (name.clone(), hook.tenant.clone())).collect();
            settings.check(&config.tenants, &hooks)?;
        }
        Ok(Self {
            settings: config.kafka.clone(),
            runs_consumers: config.roles.contains(&Role::Http),
            runs_followers: config.roles.contains(&Role::Projector),
            status: KafkaStatus::default(),
        })
    }

    /// Returns what the readiness of the process reports.
    pub(crate) fn checks(&self) -> Vec<Arc<dyn HealthCheck>> {
        match &self.settings {
            Some(_) => vec![Arc::new(Check(self.status.clone()))],
            None => Vec::new(),
        }
    }

    /// Starts the consumers and followers of this process. `projections` are those of each tenant in the primary
    /// database.
    pub(crate) fn start(
        self,
        app: &Arc<ledger_api::App>,
        projections: &BTreeMap<TenantName, Projections>,
        process: Uuid,
        stop: &CancellationToken,
    ) -> Result<Tasks, Error> {
        let mut tasks = Tasks::default();
        let Some(settings) = &self.settings else { return Ok(tasks) };
        if self.runs_consumers {
            let receiver = Arc::new(BrokerReceiver::new(Arc::clone(app)));
            tasks.consumers = start_consumers(settings, receiver, &self.status, stop)?;
        }
        if self.runs_followers {
            tasks.followers = start_followers(settings, projections, process, &self.status, stop)?;
        }
        Ok(tasks)
    }
}
