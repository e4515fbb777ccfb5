//! The one clock of the program.

use chrono::{DateTime, Utc};

/// The time now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one clock of the program")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
