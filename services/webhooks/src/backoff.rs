//! Delays before retries: exponential, with full jitter, so that many subscriptions of one receiver do not retry at once.

use std::time::Duration;

/// Shortest delay.
const SHORTEST: Duration = Duration::from_millis(100);

/// Bounds of the delays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// Returns the longest delay after a number of failures in a row.
    fn ceiling(self, failures: u32) -> Duration {
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1));
        let ceiling = doubled.and_then(|factor| self.first.checked_mul(factor));
        ceiling.unwrap_or(self.longest).min(self.longest)
    }

    /// Returns the delay after a number of failures in a row: a random part of the ceiling, but at least what the receiver
    /// demands. `random` is any number. Never longer than `longest`.
    pub(crate) fn delay(self, failures: u32, random: u32, demanded: Option<Duration>) -> Duration {
        let part = f64::from(random) / f64::from(u32::MAX);
        let jittered = self.ceiling(failures).mul_f64(part).max(SHORTEST);
        jittered.max(demanded.unwrap_or_default()).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(600) };

    #[test]
    fn the_ceiling_doubles_up_to_the_longest_delay() {
        let seconds = |failures| BACKOFF.ceiling(failures).as_secs();
        assert_eq!([1, 2, 3, 4, 10, 11].map(seconds), [1, 2, 4, 8, 512, 600]);
        for failures in [32, 33, 34, u32::MAX] {
            assert_eq!(seconds(failures), 600);
        }
    }

    #[test]
    fn a_delay_is_anywhere_below_the_ceiling() {
        for failures in 1..=40 {
            assert_eq!(BACKOFF.delay(failures, 0, None), SHORTEST);
            assert_eq!(BACKOFF.delay(failures, u32::MAX, None), BACKOFF.ceiling(failures));
            let middle = BACKOFF.delay(failures, u32::MAX / 2, None);
            assert!(middle >= SHORTEST && middle <= BACKOFF.ceiling(failures), "{failures}: {middle:?}");
        }
    }

    #[test]
    fn a_receiver_may_demand_a_longer_delay_within_the_bound() {
        let demanded = |seconds| BACKOFF.delay(1, u32::MAX, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!([0, 30, 600, 601, u64::MAX].map(demanded), [1, 30, 600, 600, 600]);
    }

    #[test]
    fn the_longest_delay_also_bounds_the_shortest() {
        let short = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
        assert_eq!(short.delay(1, 0, None), Duration::from_millis(50));
    }
}
