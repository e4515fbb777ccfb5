//! The period of a freeze.

use chrono::{DateTime, Utc};

/// Period in which a freeze holds, by the times at which its events occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreezePeriod {
    /// Time of the start.
    pub started_at: DateTime<Utc>,
    /// Time at which the freeze ends automatically; `None`: it ends only when it is lifted.
    pub until: Option<DateTime<Utc>>,
    /// Time at which the freeze was lifted, if it was.
    pub lifted_at: Option<DateTime<Utc>>,
}

impl FreezePeriod {
    /// Returns true if the freeze holds at a time. The end is exclusive. SQL statements have the same rule in
    /// `services/projections/sql/fragments/freeze_holds.sql`.
    #[must_use]
    pub fn holds_at(&self, time: DateTime<Utc>) -> bool {
        let is_before = |end: Option<DateTime<Utc>>| end.is_none_or(|end| time < end);
        self.started_at <= time && is_before(self.until) && is_before(self.lifted_at)
    }
}
