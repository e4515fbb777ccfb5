//! Messages of other tools: what a delivery meant, and what is in quarantine.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::PrincipalBody;
use crate::event_result::EventResult;

/// Meaning of a delivered message.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryBody {
    /// `recorded`: its events are in `events`, with their positions. `ignored`: the ledger records nothing for it, for
    /// the reason in `detail`. `quarantined`: it or a part of it could not be understood, for the reason in `detail`,
    /// and is kept.
    pub status: String,
    /// The outcome of each event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventResult>,
    /// Reason why it was ignored or quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// JSON pointer to the fault in a quarantined message; empty for the whole message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Id of the quarantined message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_id: Option<String>,
}

/// Message in quarantine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedBody {
    /// Its id, which depends on its source and its content.
    pub id: String,
    /// Cursor: pass it as `after` to list those after it.
    #[serde(default)]
    #[schema(required)]
    pub cursor: u64,
    /// Time at which it was stored last.
    pub stored_at: DateTime<Utc>,
    /// Way by which it arrived: `cdevents`, or `hook:` and the hook's name.
    #[serde(default)]
    #[schema(required)]
    pub source: String,
    /// `waiting`, `retried` or `discarded`. The last two are kept for an hour.
    #[serde(default)]
    #[schema(required)]
    pub state: String,
    /// JSON pointer to the fault in the message; empty for the whole message.
    #[serde(default)]
    #[schema(required)]
    pub pointer: String,
    /// Fault, and what to do.
    #[serde(default)]
    #[schema(required)]
    pub detail: String,
    /// Sender of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalBody>,
    /// Size of the message in bytes.
    #[serde(default)]
    #[schema(required)]
    pub size: u64,
    /// Headers of the message that its translation reads. Only when one message is asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The message in Base64. Only when one message is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Positions of the events that a retry recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<u64>,
}

/// Page of the messages in quarantine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QuarantineBody {
    /// Messages, in the order in which they were stored.
    pub messages: Vec<QuarantinedBody>,
    /// Cursor of the next page: pass it as `after`. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Request to discard a message in quarantine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardRequest {
    /// Reason, for the history.
    pub reason: String,
}
