//! Pace of a client: ends the wait for one that sends a body, or takes an answer, too slowly.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Time for which the service waits for a client. Waiting uses it up, and each byte restores some, up to the initial
/// time: so a single pause cannot be longer than that, and on average the client must keep the minimum rate.
#[derive(Debug)]
pub(crate) struct Pace {
    initial: Duration,
    left: Duration,
    bytes_per_second: u64,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) const fn new(initial: Duration, bytes_per_second: u64) -> Self {
        Self { initial, left: initial, bytes_per_second, waiting_since: None, timer: None }
    }

    /// Waits for the client: returns `Ready` once it was too slow. The task is woken then.
    pub(crate) fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline(Instant::now());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context)
    }

    /// Records that the client sent or took bytes.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.advance_at(bytes, Instant::now());
    }

    /// Restores the initial time: the service does not wait for the client any more.
    pub(crate) const fn restore(&mut self) {
        self.left = self.initial;
        self.waiting_since = None;
    }

    /// Returns the time at which the client is too slow, unless it sends or takes bytes before. The wait begins at
    /// `now`, unless it has begun already.
    fn deadline(&mut self, now: Instant) -> Instant {
        *self.waiting_since.get_or_insert(now) + self.left
    }

    fn advance_at(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
        let earned = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.max(1) as f64);
        self.left = self.initial.min(self.left.saturating_add(earned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace::new(30 * SECOND, 1_000)
    }

    /// Returns the seconds until a client that sends `bytes` each `pause` seconds is too slow, at most 10,000.
    fn lasts(bytes: usize, pause: u32) -> u64 {
        let mut pace = pace();
        let started = Instant::now();
        let mut now = started;
        while now < started + 10_000 * SECOND {
            let deadline = pace.deadline(now);
            now += pause * SECOND;
            if deadline <= now {
                return (deadline - started).as_secs();
            }
            pace.advance_at(bytes, now);
        }
        10_000
    }

    #[test]
    fn a_client_that_drips_is_too_slow_after_the_initial_time() {
        assert_eq!(lasts(1, 7), 30);
    }

    #[test]
    fn a_client_at_the_minimum_rate_is_never_too_slow() {
        assert_eq!(lasts(10_000, 10), 10_000);
    }

    #[test]
    fn a_client_below_the_minimum_rate_is_too_slow_in_the_end() {
        assert_eq!(lasts(9_000, 10), 210);
    }

    #[test]
    fn many_bytes_do_not_allow_a_pause_longer_than_the_initial_time() {
        let (mut pace, now) = (pace(), Instant::now());

        pace.advance_at(1 << 30, now);

        assert_eq!(pace.deadline(now), now + 30 * SECOND);
    }

    #[test]
    fn time_in_which_the_service_does_not_wait_does_not_count() {
        let (mut pace, now) = (pace(), Instant::now());
        assert_eq!(pace.deadline(now), now + 30 * SECOND);

        pace.restore();

        assert_eq!(pace.deadline(now + 29 * SECOND), now + 59 * SECOND);
    }
}
