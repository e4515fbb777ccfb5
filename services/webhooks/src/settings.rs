//! Settings of the deliveries of a process.

use std::time::Duration;

use crate::guard::Network;

/// Settings of the deliveries of a process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// True to deliver to `http` URLs, too.
    pub allow_http: bool,
    /// Networks to whose addresses deliveries may go although they are not public.
    pub allow_networks: Vec<Network>,
    /// Maximum number of deliveries at the same time, over all subscriptions.
    pub parallel_deliveries: usize,
    /// Maximum time of a delivery, from the look-up of the address to the answer. At most [`Settings::MAX_TIMEOUT`].
    pub timeout: Duration,
    /// Longest delay before the first retry.
    pub first_delay: Duration,
    /// Longest delay before any retry, also of one that a receiver demands.
    pub longest_delay: Duration,
    /// Time without a success after which a subscription is disabled.
    pub give_up_after: Duration,
}

impl Settings {
    /// Upper bound of [`Settings::timeout`]: a delivery must end before the lease of its process can expire.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(20);
}
