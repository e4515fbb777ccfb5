//! Kafka: messages of topics are recorded, and entries of the ledger are produced to topics.
//!
//! Invariants: only this crate knows Kafka. The offset of a message is committed after its receipt is final and, if it
//! goes to a dead-letter topic, after that topic acknowledged it. A message that must be delivered again holds back the
//! later ones of its partition. Records are produced at least once, in order for each key. No property is ever printed.

mod assignment;
mod client;
mod consumer;
mod dead_letter;
mod flow;
mod kafka_sink;
mod lane_state;
mod message;
mod partition;
mod record;
mod sender;
mod settings;
mod status;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger_domain::TenantName;
use ledger_projections::Projections;
use ledger_streams::follower::Follower;
use ledger_streams::inbound::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::consumer::Inbound;
use crate::kafka_sink::KafkaSink;

pub use settings::{InSetting, KeyKind, OutSetting, Property, Settings, SettingsError, Start, ValueKind};
pub use status::KafkaStatus;

/// Starts a consumer for each `kafka.in`, which runs until `stop` is cancelled. A broker that is down is no error: the
/// consumers try again, and `status` says so. Call it in a Tokio runtime.
///
/// # Errors
/// A property is not valid, or a file that one names cannot be read.
pub fn start_consumers(
    settings: &Settings,
    receiver: Arc<impl Receiver>,
    status: &KafkaStatus,
    stop: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, SettingsError> {
    let receiver: Arc<dyn Receiver> = receiver;
    let inbounds = settings
        .inbound
        .iter()
        .map(|(name, setting)| Inbound::open(name, setting, settings, Arc::clone(&receiver), status.clone()));
    let inbounds = inbounds.collect::<Result<Vec<_>, _>>()?;
    Ok(inbounds.into_iter().map(|inbound| tokio::spawn(inbound.run(stop.clone()))).collect())
}

/// Starts a follower for each `kafka.out`, which runs until `stop` is cancelled. `projections` are those of each tenant
/// in the primary database, and `process` is the identity of this process. Call it in a Tokio runtime.
///
/// # Errors
/// A property is not valid, a file that one names cannot be read, or a tenant has no projections.
pub fn start_followers(
    settings: &Settings,
    projections: &BTreeMap<TenantName, Projections>,
    process: Uuid,
    status: &KafkaStatus,
    stop: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, SettingsError> {
    let mut followers = Vec::new();
    for (name, setting) in &settings.outbound {
        let tenant = &setting.tenant;
        let Some(projections) = projections.get(tenant) else {
            return Err(SettingsError::unknown_tenant(&format!("kafka.out.{name}"), tenant));
        };
        let sink = KafkaSink::open(name, setting, settings, projections.clone(), status.clone())?;
        followers.push(Follower::new(setting.follower(name, process), projections.clone(), sink));
    }
    Ok(followers.into_iter().map(|follower| tokio::spawn(follower.run(stop.clone()))).collect())
}

#[cfg(test)]
mod tests;
