//! Times on two clocks: one of them may stand still while the process is suspended, or be set.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// A time on the monotonic clock, which stands still while a machine is suspended, and on the wall clock, which
/// continues then but may be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    pub(super) monotonic: Instant,
    pub(super) wall: DateTime<Utc>,
}

impl ClockReading {
    pub(super) fn now(clock: fn() -> DateTime<Utc>) -> Self {
        Self { monotonic: Instant::now(), wall: clock() }
    }

    /// Returns true if at most `age` has passed since an earlier reading, by both clocks. If the wall clock was set
    /// back, the age is unknown, and the result is false.
    pub(super) fn is_within(self, age: Duration, earlier: Self) -> bool {
        let by_wall = (self.wall - earlier.wall).to_std();
        self.monotonic.duration_since(earlier.monotonic) <= age && by_wall.is_ok_and(|passed| passed <= age)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_age_is_the_longer_one_of_both_clocks_and_unknown_if_the_wall_clock_was_set_back() {
        let start = ClockReading { monotonic: Instant::now(), wall: DateTime::UNIX_EPOCH };
        let is_within = |monotonic, wall| {
            let later = ClockReading {
                monotonic: start.monotonic + Duration::from_secs(monotonic),
                wall: start.wall + TimeDelta::seconds(wall),
            };
            later.is_within(Duration::from_secs(10), start)
        };

        assert!(is_within(0, 0) && is_within(10, 10) && is_within(1, 10));
        assert!(!is_within(11, 10) && !is_within(0, 11) && !is_within(0, -1));
    }
}
