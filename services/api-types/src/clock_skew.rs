//! Clock skews of emitters.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Emitters with clocks that are ahead.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClockSkewsBody {
    /// Ledger position that the response reflects.
    pub position: u64,
    /// The 100 emitters with the largest skew, in descending order.
    pub clock_skews: Vec<ClockSkewBody>,
}

/// Clock skew of an emitter: how much later its events occurred, by its own clock, than the stream recorded them. This
/// is a lower bound.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClockSkewBody {
    /// CloudEvents source of the emitter.
    pub source: String,
    /// Largest skew, in milliseconds.
    pub max_ahead_ms: i64,
    /// Skew of the last event that was ahead, in milliseconds.
    pub last_ahead_ms: i64,
    /// Position of that event.
    pub last_position: u64,
    /// Number of events that were ahead by more than a second.
    pub events: u64,
}
