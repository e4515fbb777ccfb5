//! Eligibility of a process to project for a tenant.

use std::time::Duration;

use tokio::time::Instant;

/// Delay before this process retries a tenant after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Initial and maximum time of ineligibility for a tenant after a failure.
pub(crate) const INELIGIBLE_BACKOFF: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(600));

/// Eligibility of this process to project for a tenant, based on its own failures.
pub(crate) struct Eligibility {
    /// Earliest time of the next attempt.
    pub(crate) retry_at: Instant,
    /// Earliest end of ineligibility. While ineligible, the process is no handover target, which would only fail again.
    pub(crate) ineligible_until: Option<Instant>,
    pub(crate) backoff: Duration,
}

impl Eligibility {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { retry_at: now, ineligible_until: None, backoff: INELIGIBLE_BACKOFF.0 }
    }

    /// Records a failure that only another attempt can show to be over.
    pub(crate) fn record_failure(&mut self, at: Instant) {
        self.record_unreadable_journal(at);
        self.ineligible_until = Some(at + self.backoff);
        self.backoff = (self.backoff * 2).min(INELIGIBLE_BACKOFF.1);
    }

    /// Records that the journal could not be read. Reading its head shows when that is over.
    pub(crate) fn record_unreadable_journal(&mut self, at: Instant) {
        self.retry_at = at + RETRY_DELAY;
        self.ineligible_until = self.ineligible_until.max(Some(at + INELIGIBLE_BACKOFF.0));
    }
}
