//! Entries that are published to NATS, for subscribers. No stream stores them.

use async_trait::async_trait;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::TenantName;
use ledger_journal::jetstream::{Outgoing, Publisher};
use ledger_projections::RecordedEntry;
use ledger_streams::follower::{DeliveryError, Sink};

/// Name of the follower.
pub(super) const FOLLOWER: &str = "nats/entries";
/// Maximum number of entries that are published together.
pub(super) const PAGE_SIZE: u32 = 500;
/// Part of the subject of an event without an environment. No name starts with it.
const NO_ENVIRONMENT: &str = "_";
/// Media type of the stored form.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Publishes the entries of a tenant.
pub(super) struct EntrySink {
    pub(super) tenant: TenantName,
    pub(super) publisher: Publisher,
}

#[async_trait]
impl Sink for EntrySink {
    async fn deliver(&mut self, entries: &[RecordedEntry]) -> Result<(), DeliveryError> {
        let messages = entries.iter().map(|entry| outgoing(&self.tenant, entry)).collect();
        let published = self.publisher.publish(messages).await;
        published.map_err(|error| DeliveryError(error.to_string()))
    }
}

/// Returns the message of an entry: `events.<tenant>.<environment>.<family>.<verb>`.
fn outgoing(tenant: &TenantName, entry: &RecordedEntry) -> Outgoing {
    let envelope = Envelope::stored(entry.bytes.clone()).ok();
    let environment = envelope.as_ref().and_then(|envelope| envelope.event().payload.environment());
    let environment = environment.map_or(NO_ENVIRONMENT, |environment| environment.as_str());
    let mut headers = vec![
        ("Ledger-Position", entry.position.to_string()),
        ("Ledger-Type", entry.kind.name().to_owned()),
        ("Ledger-Leaf-Hash", entry.leaf_hash.to_string()),
        ("content-type", CONTENT_TYPE.to_owned()),
    ];
    headers.extend(entry.repeats.map(|position| ("Ledger-Repeats", position.to_string())));
    Outgoing {
        subject: vec!["events".to_owned(), tenant.to_string(), environment.to_owned()],
        suffix: entry.kind.name().to_owned(),
        headers,
        body: entry.bytes.clone(),
    }
}
