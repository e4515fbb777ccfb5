//! Entries of the ledger, and references to them.

use chrono::{DateTime, Utc};
use ledger_domain::EventRef;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::access::PrincipalBody;
use crate::actor::{ActorBody, ActorRequest};

/// Entry of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(bound = "")]
pub struct EntryBody<E = Box<RawValue>> {
    /// Position of the entry.
    pub position: u64,
    /// Time at which the stream stored it.
    pub recorded_at: DateTime<Utc>,
    /// Leaf hash in the Merkle tree, in hexadecimal: SHA-256 of a zero byte, the lines `release-ledger entry v1`,
    /// `position` and `recorded_at` in microseconds since 1970, each with a line feed, and the event's bytes.
    #[serde(default)]
    #[schema(required)]
    pub leaf_hash: String,
    /// Position of the earlier entry with the same identity. A repeat has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// Contradictions with the ledger's earlier state: `late`, `removed_nothing`, `switched_to_empty_slot`,
    /// `switch_pending`, `during_freeze`, `ambiguous_target`, `straddles_change`, `counts_contradict`,
    /// `environment_retired`, `corrects_nothing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<String>,
    /// Kinds of names that this entry introduces: `environment`, `service`, `target`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new: Vec<String>,
    /// Version that its lane runs from here on, if the event changed it (by a deploy or a traffic switch).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub went_live: Option<String>,
    /// Target concerned, even if the event names none and the service has only this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Candidate targets, if the event names none and the service has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// If the lane returns to a release that it ran before another one: the position at which that release last went
    /// live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns_to: Option<u64>,
    /// Position of the event that corrects it: from that position on, this entry has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected_by: Option<u64>,
    /// Milliseconds by which it occurred after it was recorded, a lower bound of the emitter's clock skew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Authenticated sender of the event; absent if the service did not authenticate its clients when it was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalBody>,
    /// Actor by the sender. Absent without a principal: then the event's data has an actor that is only claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ActorRequest>)]
    pub actor: Option<ActorBody>,
    /// The CloudEvent, byte for byte as stored.
    #[schema(value_type = Object)]
    pub event: E,
}

/// Page of the history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(bound = "")]
pub struct EventsBody<E = Box<RawValue>> {
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Time that the parameter `since` resolved to, if it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Time that the parameter `until` resolved to, if it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Entries, by position, in the order asked for.
    #[schema(value_type = Vec<EntryBody>)]
    pub events: Vec<EntryBody<E>>,
    /// Cursor of the next page: pass it as `after`, or as `before` if the page is in descending order. Absent on the last
    /// page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Reference to an entry.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EntryRefBody {
    /// Position of the entry.
    pub position: u64,
    /// Time at which the stream stored it.
    pub recorded_at: DateTime<Utc>,
}

/// Reference to an event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventRefBody {
    /// Its position.
    pub position: u64,
    /// Time at which it occurred, by the emitter's clock.
    pub occurred_at: DateTime<Utc>,
    /// Its CloudEvents id.
    #[serde(default)]
    #[schema(required)]
    pub event_id: String,
}

impl From<&EventRef> for EventRefBody {
    fn from(since: &EventRef) -> Self {
        Self {
            position: since.position.get(),
            occurred_at: since.occurred_at,
            event_id: since.event_id.as_str().to_owned(),
        }
    }
}
