//! Reads of the history, as auditors see them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::PrincipalBody;

/// Read of the history of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReadBody {
    /// Identifier.
    pub read: String,
    /// Time at which the request was admitted.
    pub began_at: DateTime<Utc>,
    /// Time at which the answer ended; absent while it is being sent, and if the process ended first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Tenant whose history was read.
    pub tenant: String,
    /// Sender of the request, without claims.
    pub principal: PrincipalBody,
    /// Id of the request, as in its answer and in the access log.
    pub request_id: String,
    /// Path of the route: `/v1/events`.
    pub route: String,
    /// Query of the request, as it was sent; beyond 512 characters, with the length and the SHA-256 of the rest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// True for an export: an answer with more than 100 entries, or a stream that began more than 100 positions before the
    /// end of the history.
    pub export: bool,
    /// Status of the answer; absent if it is not known yet, or if the request ended before its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Number of entries that the answer shows.
    pub entries: u64,
    /// Lowest position of these entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_position: Option<u64>,
    /// Highest position of these entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_position: Option<u64>,
}

/// Page of reads.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReadsBody {
    /// Reads, latest first.
    pub reads: Vec<ReadBody>,
    /// Value of `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
