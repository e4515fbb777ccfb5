//! Records of entries: their keys, headers and values.

use bytes::Bytes;
use chrono::SecondsFormat;
use ledger_adapters::cdevents;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Lane, Payload, TargetName, TenantName};
use ledger_projections::RecordedEntry;
use rdkafka::message::{Header, OwnedHeaders};
use serde::Deserialize;

use crate::sender::Record;
use crate::settings::KeyKind;

/// Media types of values.
const ENTRY: &str = "application/cloudevents+json";
const CDEVENT: &str = "application/cdevents+json";
const LANE_STATE: &str = "application/json";

/// An entry that cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot decode the entry at position {position}: {reason}")]
pub(crate) struct Undecodable {
    position: u64,
    reason: String,
}

/// An entry with its event.
pub(crate) struct Decoded<'e> {
    pub(crate) row: &'e RecordedEntry,
    pub(crate) envelope: Envelope,
    attributes: Attributes,
}

/// Attributes of a stored event that only its bytes have.
#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    traceparent: Option<serde_json::Value>,
}

impl<'e> Decoded<'e> {
    pub(crate) fn new(row: &'e RecordedEntry) -> Result<Self, Undecodable> {
        let error = |reason: String| Undecodable { position: row.position.get(), reason };
        let envelope = Envelope::stored(row.bytes.clone()).map_err(|invalid| error(invalid.to_string()))?;
        let attributes = serde_json::from_slice(&row.bytes).map_err(|invalid| error(invalid.to_string()))?;
        Ok(Self { row, envelope, attributes })
    }

    pub(crate) fn payload(&self) -> &Payload {
        &self.envelope.event().payload
    }

    /// Returns the key of the entry. An event that concerns no lane, or several, has the key of its environment, and an
    /// event without an environment that of the tenant.
    pub(crate) fn key(&self, kind: KeyKind, tenant: &TenantName) -> String {
        let lane = || Some(self.lane()?.to_string());
        let environment = || Some(self.payload().environment()?.to_string());
        let key = match kind {
            KeyKind::Lane => lane().or_else(environment),
            KeyKind::Environment => environment(),
            KeyKind::Tenant => None,
        };
        key.unwrap_or_else(|| tenant.to_string())
    }

    fn lane(&self) -> Option<Lane> {
        let payload = self.payload();
        let target = TargetName::parse(self.row.target.as_deref()?).ok()?;
        Some(Lane {
            environment: payload.environment()?.clone(),
            service: payload.service()?.clone(),
            target,
        })
    }

    /// Returns the headers of every record that the entry causes.
    fn headers(&self, content_type: &str) -> OwnedHeaders {
        let (row, identity) = (self.row, self.envelope.identity());
        let position = row.position.to_string();
        let recorded_at = row.recorded_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let leaf_hash = row.leaf_hash.to_string();
        let always = [
            ("content-type", content_type),
            ("ledger-position", position.as_str()),
            ("ledger-type", self.attributes.event_type.as_str()),
            ("ledger-id", identity.id.as_str()),
            ("ledger-source", identity.source.as_str()),
            ("ledger-leaf-hash", leaf_hash.as_str()),
            ("ledger-recorded-at", recorded_at.as_str()),
        ];
        let traceparent = self.attributes.traceparent.as_ref().and_then(serde_json::Value::as_str);
        let mut headers = OwnedHeaders::new_with_capacity(always.len() + 2);
        for (key, value) in always.into_iter().chain(traceparent.map(|value| ("traceparent", value))) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        headers
    }

    /// Returns the record of the entry, byte for byte as stored.
    pub(crate) fn entry(&self, key: String) -> Record {
        let mut headers = self.headers(ENTRY);
        if let Some(repeats) = self.row.repeats {
            let value = repeats.to_string();
            headers = headers.insert(Header { key: "ledger-repeats", value: Some(value.as_str()) });
        }
        Record { key: Some(key.into_bytes()), value: Some(self.row.bytes.clone()), headers }
    }

    /// Returns the record of the entry as a CDEvent.
    pub(crate) fn cdevent(&self, key: String) -> Record {
        let event = cdevents::write(&self.envelope, self.row.position);
        let value = Bytes::from(event.to_string());
        Record { key: Some(key.into_bytes()), value: Some(value), headers: self.headers(CDEVENT) }
    }

    /// Returns the record of the state of a lane after the entry; without a state, a tombstone.
    pub(crate) fn lane_state(&self, lane: &Lane, state: Option<&serde_json::Value>) -> Record {
        let value = state.map(|state| Bytes::from(state.to_string()));
        Record { key: Some(lane.to_string().into_bytes()), value, headers: self.headers(LANE_STATE) }
    }
}
