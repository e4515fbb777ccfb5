//! Rates of requests and events for each principal, and of failed authentications for each address.
//!
//! A rate is counted by a bucket that leaks: each unit fills it, and time empties it. A request is admitted while there
//! is room for one more. The events of its body are added while it is read, and may overfill the bucket: their number is
//! not known before, and a limit in the middle of a body would record half of a batch.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger_domain::{Principal, ShortText, TenantName};

/// Maximum number of principals, and of addresses, that are counted at a time.
pub(crate) const MAX_KEYS: usize = 16_384;

/// Limits of rates; 0 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests of one principal a second, on average.
    pub requests_per_second: u32,
    /// Requests of one principal at once.
    pub burst: u32,
    /// Events of one principal a second, on average.
    pub events_per_second: u32,
    /// Events of one principal at once.
    pub event_burst: u32,
    /// Requests of one principal in progress.
    pub concurrent_requests: u32,
    /// Failed authentications of one address a minute.
    pub failed_authentications_per_minute: u32,
}

/// Rate at which a bucket leaks, and its size.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Time in which one unit leaks, in nanoseconds; 0: there is no limit.
    unit: u64,
    /// Units that the bucket holds.
    burst: u64,
}

impl Rate {
    fn new(units: u32, period: Duration, burst: u32) -> Self {
        let nanoseconds = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let unit = nanoseconds.checked_div(units.into()).map_or(0, |unit| unit.max(1));
        Self { unit, burst: burst.max(1).into() }
    }

    /// Time in which a full bucket empties, in nanoseconds.
    const fn window(self) -> u64 {
        self.unit.saturating_mul(self.burst)
    }
}

/// Time at which a bucket is empty, in nanoseconds since the start of the process.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Adds units, even if there is no room for them.
    fn add(&self, rate: Rate, now: u64, units: u64) {
        let added = |empty: u64| Some(empty.max(now).saturating_add(rate.unit.saturating_mul(units)));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }

    /// Adds one unit, or returns the time until there is room for it.
    fn try_add(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        let added = |empty: u64| {
            let after = empty.max(now).saturating_add(rate.unit);
            (after <= now.saturating_add(rate.window())).then_some(after)
        };
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added) {
            Ok(_) => Ok(()),
            Err(empty) => Err(wait(empty, rate, now)),
        }
    }

    /// Returns the time until there is room for one unit; `None` if there is.
    fn wait(&self, rate: Rate, now: u64) -> Option<Duration> {
        Some(wait(self.0.load(Ordering::Relaxed), rate, now)).filter(|wait| !wait.is_zero())
    }

    /// Returns the units that there is room for, and the time until the bucket is empty.
    fn state(&self, rate: Rate, now: u64) -> (u64, Duration) {
        let filled = self.0.load(Ordering::Relaxed).saturating_sub(now);
        let room = rate.window().saturating_sub(filled).checked_div(rate.unit).unwrap_or(rate.burst);
        (room, Duration::from_nanos(filled))
    }
}

fn wait(empty: u64, rate: Rate, now: u64) -> Duration {
    let after = empty.max(now).saturating_add(rate.unit);
    Duration::from_nanos(after.saturating_sub(now.saturating_add(rate.window())))
}

/// Use of the limits by one principal.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: Bucket,
    events: Bucket,
    in_progress: AtomicU32,
}

/// Meter of a request's sender: an extension of requests whose sender has limits.
#[derive(Debug, Clone)]
pub(crate) struct Metered(pub(crate) Arc<Meter>);

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub(crate) struct InProgress(Arc<Meter>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A limit is exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The limit, as the label `bound` of the metrics.
    pub(crate) bound: &'static str,
    /// Time after which to retry.
    pub(crate) wait: Duration,
    pub(crate) detail: String,
}

/// State of one limit, for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) name: &'static str,
    /// Units at once.
    pub(crate) quota: u64,
    /// Time in which these become available again.
    pub(crate) window: Duration,
    /// Units that are available.
    pub(crate) remaining: u64,
    /// Time until all units are available.
    pub(crate) reset: Duration,
}

/// Issuer and subject; and the tenant of a reporter, whose name is its own in each tenant.
type PrincipalKey = (Option<TenantName>, ShortText, ShortText);

/// Counts the requests and events of all principals, and the failed authentications of all addresses.
#[derive(Debug)]
pub struct Rates {
    limits: RateLimits,
    requests: Rate,
    events: Rate,
    failures: Rate,
    /// Returns the time since the start of the process, in nanoseconds.
    clock: fn() -> u64,
    principals: Recent<PrincipalKey, Meter>,
    addresses: Recent<IpAddr, Bucket>,
}

impl Rates {
    /// Creates the counts of a process.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self::with_clock(limits, since_start)
    }

    pub(crate) fn with_clock(limits: RateLimits, clock: fn() -> u64) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let failures = limits.failed_authentications_per_minute;
        Self {
            limits,
            requests: Rate::new(limits.requests_per_second, SECOND, limits.burst),
            events: Rate::new(limits.events_per_second, SECOND, limits.event_burst),
            failures: Rate::new(failures, SECOND * 60, failures),
            clock,
            principals: Recent::new(MAX_KEYS),
            addresses: Recent::new(MAX_KEYS),
        }
    }

    /// Returns what a principal has used.
    pub(crate) fn meter(&self, principal: &Principal) -> Arc<Meter> {
        self.principals.get((None, principal.issuer.clone(), principal.subject.clone()))
    }

    /// Returns what a webhook or a publisher of a broker has used in a tenant.
    pub(crate) fn meter_of_reporter(&self, tenant: &TenantName, principal: &Principal) -> Arc<Meter> {
        self.principals.get((Some(tenant.clone()), principal.issuer.clone(), principal.subject.clone()))
    }

    /// Admits a request, or returns the limit that it exceeds.
    pub(crate) fn admit(&self, meter: &Arc<Meter>, sends_events: bool) -> Result<InProgress, Excess> {
        let RateLimits { requests_per_second, burst, .. } = self.limits;
        let now = (self.clock)();
        meter.requests.try_add(self.requests, now).map_err(|wait| Excess {
            bound: "requests",
            wait,
            detail: format!("more than {requests_per_second} requests a second, or {burst} at once"),
        })?;
        let limit = self.limits.concurrent_requests;
        let in_progress = InProgress(Arc::clone(meter));
        if meter.in_progress.fetch_add(1, Ordering::Relaxed) >= limit && limit > 0 {
            let detail = format!("more than {limit} requests in progress");
            return Err(Excess { bound: "concurrency", wait: Duration::from_secs(1), detail });
        }
        if sends_events {
            self.admit_events(meter)?;
        }
        Ok(in_progress)
    }

    /// Returns the limit of events that a principal exceeds.
    pub(crate) fn admit_events(&self, meter: &Meter) -> Result<(), Excess> {
        let RateLimits { events_per_second, event_burst, .. } = self.limits;
        let Some(wait) = meter.events.wait(self.events, (self.clock)()) else { return Ok(()) };
        Err(Excess {
            bound: "events",
            wait,
            detail: format!("more than {events_per_second} events a second, or {event_burst} at once"),
        })
    }

    /// Counts events that a principal has sent.
    pub(crate) fn add_events(&self, meter: &Meter, events: usize) {
        meter.events.add(self.events, (self.clock)(), events as u64);
    }

    /// Returns the state of the limits of a principal.
    pub(crate) fn quotas(&self, meter: &Meter) -> impl Iterator<Item = Quota> {
        let now = (self.clock)();
        let rates = [("requests", self.requests, &meter.requests), ("events", self.events, &meter.events)];
        rates.into_iter().filter(|(_, rate, _)| rate.unit > 0).map(move |(name, rate, bucket)| {
            let (remaining, reset) = bucket.state(rate, now);
            Quota { name, quota: rate.burst, window: Duration::from_nanos(rate.window()), remaining, reset }
        })
    }

    /// Returns the maximum number of requests of one principal in progress; 0 if there is none.
    pub(crate) const fn concurrent_requests(&self) -> u32 {
        self.limits.concurrent_requests
    }

    /// Returns the limit that an address exceeds, if it has failed to authenticate too often.
    pub(crate) fn check_failures(&self, address: IpAddr) -> Result<(), Excess> {
        let limit = self.limits.failed_authentications_per_minute;
        let failed =
            self.addresses.find(&address).and_then(|bucket| bucket.wait(self.failures, (self.clock)()));
        failed.map_or(Ok(()), |wait| {
            let detail = format!("more than {limit} failed authentications a minute from {address}");
            Err(Excess { bound: "authentications", wait, detail })
        })
    }

    /// Counts a failed authentication.
    pub(crate) fn add_failure(&self, address: IpAddr) {
        self.addresses.get(address).add(self.failures, (self.clock)(), 1);
    }
}

fn since_start() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Values of the keys that were used last. The number of keys is bounded; a key that is forgotten starts again.
#[derive(Debug)]
struct Recent<K, V> {
    limit: usize,
    generations: Mutex<[HashMap<K, Arc<V>>; 2]>,
}

impl<K: Hash + Eq, V: Default> Recent<K, V> {
    fn new(limit: usize) -> Self {
        Self { limit, generations: Mutex::default() }
    }

    /// Returns the value of a key, if it was used recently.
    fn find(&self, key: &K) -> Option<Arc<V>> {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter().find_map(|generation| generation.get(key)).map(Arc::clone)
    }

    /// Returns the value of a key. When half of the keys are new, those that were not used since the last time are
    /// forgotten: this takes constant time, and keeps every key of the last `limit / 2` that were used.
    fn get(&self, key: K) -> Arc<V> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [new, old] = &mut *generations;
        if let Some(value) = new.get(&key) {
            return Arc::clone(value);
        }
        let value = old.remove(&key).unwrap_or_default();
        if new.len() >= self.limit / 2 {
            *old = std::mem::take(new);
        }
        new.insert(key, Arc::clone(&value));
        value
    }
}

#[cfg(test)]
pub(crate) mod tests;
