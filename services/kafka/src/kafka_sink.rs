//! Delivers entries of the ledger to a topic.

use std::time::Duration;

use async_trait::async_trait;
use ledger_domain::TenantName;
use ledger_projections::{Projections, RecordedEntry};
use ledger_streams::follower::{DELIVERY_TIME, DeliveryError, Sink};
use metrics::counter;
use tokio::time::timeout;

use crate::client::ClientEvents;
use crate::lane_state::{self, Compositions};
use crate::record::Decoded;
use crate::sender::{DISCARD_TIMEOUT, Record, SEND_TIMEOUT, Sender};
use crate::settings::{KeyKind, OutSetting, Settings, SettingsError, ValueKind};
use crate::status::{Cause, KafkaStatus, PartStatus};

/// Time limit of the queries for the records of a delivery.
const QUERY_TIMEOUT: Duration = Duration::from_secs(4);

// A delivery ends within the time that the lease leaves.
const _: () = assert!(
    QUERY_TIMEOUT.as_secs() + SEND_TIMEOUT.as_secs() + DISCARD_TIMEOUT.as_secs() < DELIVERY_TIME.as_secs()
);

/// Topic to which the entries of a tenant are delivered.
pub(crate) struct KafkaSink {
    tenant: TenantName,
    key: KeyKind,
    value: ValueKind,
    projections: Projections,
    sender: Sender,
    status: PartStatus,
}

impl KafkaSink {
    /// Creates the sink of `kafka.out.NAME`, without connecting. `projections` state what lanes run.
    ///
    /// # Errors
    /// A property is not valid, or a file cannot be read.
    pub(crate) fn open(
        name: &str,
        setting: &OutSetting,
        settings: &Settings,
        projections: Projections,
        status: KafkaStatus,
    ) -> Result<Self, SettingsError> {
        let status = status.of_part(&format!("kafka.out.{name}"));
        let events = ClientEvents { status: status.clone() };
        Ok(Self {
            tenant: setting.tenant.clone(),
            key: setting.key,
            value: setting.value,
            projections,
            sender: Sender::open(&setting.topic, settings, events)?,
            status,
        })
    }

    /// Returns the records of entries, in their order.
    async fn records(&self, entries: &[RecordedEntry]) -> Result<Vec<Record>, DeliveryError> {
        let mut compositions = Compositions::default();
        let mut records = Vec::with_capacity(entries.len());
        for row in entries {
            // A repeated entry has no effect; only a copy of the history has it.
            if row.repeats.is_some() && self.value != ValueKind::Entry {
                continue;
            }
            let entry = Decoded::new(row).map_err(|error| DeliveryError(error.to_string()))?;
            match self.value {
                ValueKind::Entry => records.push(entry.entry(entry.key(self.key, &self.tenant))),
                ValueKind::Cdevents => records.push(entry.cdevent(entry.key(self.key, &self.tenant))),
                ValueKind::LaneState => {
                    let changes = compositions.changes(&self.projections, &entry).await;
                    let changes = changes.map_err(|error| DeliveryError(error.to_string()))?;
                    records.extend(changes.iter().map(|(lane, live)| {
                        let state = live.as_ref().map(|live| lane_state::value(lane, live, row));
                        entry.lane_state(lane, state.as_ref())
                    }));
                }
            }
        }
        Ok(records)
    }

    async fn try_deliver(&mut self, entries: &[RecordedEntry]) -> Result<usize, DeliveryError> {
        let records = timeout(QUERY_TIMEOUT, self.records(entries)).await.map_err(|_| {
            DeliveryError(format!("the queries for the records did not end within {QUERY_TIMEOUT:?}"))
        })??;
        if !records.is_empty() {
            let sent = self.sender.send_all(&records).await;
            sent.map_err(|error| DeliveryError(error.to_string()))?;
        }
        Ok(records.len())
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn deliver(&mut self, entries: &[RecordedEntry]) -> Result<(), DeliveryError> {
        let delivered = self.try_deliver(entries).await;
        let part = self.status.part().to_owned();
        match delivered {
            Ok(records) => {
                self.status.clear(Cause::Delivery);
                counter!("ledger_kafka_records_total", "part" => part).increment(records as u64);
                Ok(())
            }
            Err(error) => {
                self.status.set(Cause::Delivery, &error.to_string());
                counter!("ledger_kafka_errors_total", "part" => part).increment(1);
                Err(error)
            }
        }
    }
}
