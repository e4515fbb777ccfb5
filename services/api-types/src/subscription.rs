//! Subscriptions: webhooks to which entries are delivered, and their deliveries.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::entry::EntryRefBody;

/// Subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionBody {
    /// Its name.
    pub subscription: String,
    /// Address of the receiver.
    pub url: String,
    /// Name of the signing secret in the settings of the service.
    #[serde(default)]
    #[schema(required)]
    pub secret: String,
    /// Filter of the entries that are delivered.
    #[serde(default)]
    #[schema(required)]
    pub filter: SubscriptionFilterBody,
    /// Position of the event that created it.
    #[serde(default)]
    #[schema(required)]
    pub created_position: u64,
    /// Position of the event that stated its present settings.
    #[serde(default)]
    #[schema(required)]
    pub settings_position: u64,
    /// The event with which the service gave up the deliveries; absent if it delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<DisabledBody>,
    /// State of the deliveries. Only when one subscription is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatusBody>,
}

/// Filter of a subscription: an entry has to meet every given condition.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionFilterBody {
    /// Environment of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Service of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Types of events, such as `deploy.succeeded`; absent: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

/// End of the deliveries of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DisabledBody {
    /// Position of the event that records it.
    pub position: u64,
    /// Reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// State of the deliveries of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryStatusBody {
    /// Position up to which every entry that passes the filter is delivered.
    pub delivered_position: u64,
    /// The next entry to deliver; absent if all are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<EntryRefBody>,
    /// Number of failed attempts since the last success.
    #[serde(default)]
    #[schema(required)]
    pub failures: u32,
    /// Time of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
    /// Time of the next attempt, after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Last attempt; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<AttemptBody>,
}

/// Attempt to deliver an entry.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptBody {
    /// Position of the entry.
    pub position: u64,
    /// Time at which the attempt began.
    pub attempted_at: DateTime<Utc>,
    /// Milliseconds until the answer or the failure.
    #[serde(default)]
    #[schema(required)]
    pub duration_ms: u64,
    /// HTTP status of the answer; absent without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Reason of the failure, with the begin of the answer; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Subscriptions of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionsBody {
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Subscriptions, by name.
    pub subscriptions: Vec<SubscriptionBody>,
}

/// Last attempts of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptsBody {
    /// The last hundred attempts, latest first.
    pub deliveries: Vec<AttemptBody>,
}
