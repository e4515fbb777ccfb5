//! Limits of the harness.

use std::time::Duration;

/// Upper bound of every wait; only a failing test reaches it.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(60);
