//! Settings of the limits of each client.

use figment::value::{Dict, Value};
use ledger_api::RateLimits;
use serde::Deserialize;

/// Limits of each principal, and of each address that fails to authenticate; 0 means no limit.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    requests_per_second: u32,
    burst: u32,
    events_per_second: u32,
    event_burst: u32,
    concurrent_requests: u32,
    failed_authentications_per_minute: u32,
}

impl Limits {
    /// Returns the limits.
    #[must_use]
    pub const fn rates(&self) -> RateLimits {
        RateLimits {
            requests_per_second: self.requests_per_second,
            burst: self.burst,
            events_per_second: self.events_per_second,
            event_burst: self.event_burst,
            concurrent_requests: self.concurrent_requests,
            failed_authentications_per_minute: self.failed_authentications_per_minute,
        }
    }
}

/// Every setting of the limits as a command-line flag.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LimitFlags {
    /// Requests of one principal a second, on average
    #[arg(long, value_name = "N")]
    limits_requests_per_second: Option<u32>,
    /// Requests of one principal at once
    #[arg(long, value_name = "N")]
    limits_burst: Option<u32>,
    /// Events of one principal a second, on average
    #[arg(long, value_name = "N")]
    limits_events_per_second: Option<u32>,
    /// Events of one principal at once
    #[arg(long, value_name = "N")]
    limits_event_burst: Option<u32>,
    /// Requests of one principal in progress
    #[arg(long, value_name = "N")]
    limits_concurrent_requests: Option<u32>,
    /// Failed authentications of one address a minute
    #[arg(long, value_name = "N")]
    limits_failed_authentications_per_minute: Option<u32>,
}

impl LimitFlags {
    /// Returns the given flags as settings of the section `limits`; empty without any.
    pub(super) fn dict(&self) -> Dict {
        let given = [
            ("requests_per_second", self.limits_requests_per_second),
            ("burst", self.limits_burst),
            ("events_per_second", self.limits_events_per_second),
            ("event_burst", self.limits_event_burst),
            ("concurrent_requests", self.limits_concurrent_requests),
            ("failed_authentications_per_minute", self.limits_failed_authentications_per_minute),
        ];
        let given =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        given.collect()
    }
}
