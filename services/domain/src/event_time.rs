//! The order of events.

use chrono::{DateTime, Utc};

use crate::Position;

/// Moment of an event in the sense of decision 0015: its time, then its position. Events count in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime {
    /// Time of the event, by the emitter's clock.
    pub occurred_at: DateTime<Utc>,
    /// Position of the event in the ledger.
    pub position: Position,
}

impl EventTime {
    /// Returns the moment of an event.
    #[must_use]
    pub const fn new(occurred_at: DateTime<Utc>, position: Position) -> Self {
        Self { occurred_at, position }
    }

    /// Returns the moment after all events that occurred up to a time.
    #[must_use]
    pub const fn end_of(time: DateTime<Utc>) -> Self {
        Self::new(time, Position::new(u64::MAX))
    }
}
