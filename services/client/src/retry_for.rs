//! The time limit for sending events, as a flag.

use std::time::Duration;

/// Time limit for sending one event.
pub(super) const FOR_ONE_EVENT: Duration = Duration::from_secs(5);
/// Time limit for sending many events, such as those of a spool.
pub(super) const FOR_MANY_EVENTS: Duration = Duration::from_secs(60);

/// The flag of commands that send events.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct RetryForArgs {
    /// Time limit for sending, in seconds, while the ledger does not answer [default: 5; 60 for events from stdin and from
    /// the spool]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    retry_for: Option<u64>,
}

impl RetryForArgs {
    /// Returns the time limit.
    pub(super) fn or(self, default: Duration) -> Duration {
        self.retry_for.map_or(default, Duration::from_secs)
    }
}
