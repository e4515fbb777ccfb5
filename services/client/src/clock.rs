//! The only clock of the program.

use chrono::{DateTime, Utc};

/// Returns the current time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the only clock of the program")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
