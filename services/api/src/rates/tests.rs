//! Tests of rates, in a time that only tests advance.

use std::cell::Cell;
use std::collections::BTreeMap;

use ledger_domain::PrincipalKind;

use super::*;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// Returns counts in the time of the current thread.
pub(crate) fn rates(limits: RateLimits) -> Rates {
    Rates::with_clock(limits, || NOW.get())
}

pub(crate) fn advance(time: Duration) {
    NOW.set(NOW.get() + u64::try_from(time.as_nanos()).expect("a short time"));
}

const LIMITS: RateLimits = RateLimits {
    requests_per_second: 2,
    burst: 3,
    events_per_second: 10,
    event_burst: 100,
    concurrent_requests: 2,
    failed_authentications_per_minute: 2,
};

fn principal(subject: &str) -> Principal {
    let text = |text: &str| ShortText::parse(text).expect("a text");
    Principal {
        kind: PrincipalKind::Workload,
        issuer: text("https://ci.example"),
        subject: text(subject),
        name: text("ci"),
        claims: BTreeMap::new(),
    }
}

fn exceeded(rates: &Rates, subject: &str, sends_events: bool) -> Option<(&'static str, u128)> {
    let admitted = rates.admit(&rates.meter(&principal(subject)), sends_events);
    admitted.err().map(|excess| (excess.bound, excess.wait.as_millis()))
}

#[test]
fn a_burst_is_admitted_and_then_the_rate() {
    let rates = rates(LIMITS);
    let ask = || exceeded(&rates, "a", false);

    assert_eq!([ask(), ask(), ask()], [None; 3]);
    assert_eq!(ask(), Some(("requests", 500)));
    advance(Duration::from_millis(400));
    assert_eq!(ask(), Some(("requests", 100)));
    advance(Duration::from_millis(100));
    assert_eq!(ask(), None);
    assert_eq!(ask(), Some(("requests", 500)));
    advance(Duration::from_secs(3600));
    assert_eq!([ask(), ask(), ask(), ask()], [None, None, None, Some(("requests", 500))]);
}

#[test]
fn other_principals_are_unaffected() {
    let rates = rates(LIMITS);
    for _ in 0..4 {
        exceeded(&rates, "a", false);
    }
    assert!(exceeded(&rates, "a", false).is_some());
    assert_eq!(exceeded(&rates, "b", false), None);
}

#[test]
fn events_beyond_the_limit_delay_the_next_events_and_no_questions() {
    let rates = rates(LIMITS);
    let meter = rates.meter(&principal("a"));
    assert_eq!(exceeded(&rates, "a", true), None);

    rates.add_events(&meter, 120);

    assert_eq!(exceeded(&rates, "a", true), Some(("events", 2_100)));
    assert_eq!(exceeded(&rates, "a", false), None);
    let states: Vec<_> =
        rates.quotas(&meter).map(|quota| (quota.name, quota.quota, quota.remaining)).collect();
    assert_eq!(states, [("requests", 3, 0), ("events", 100, 0)]);
    advance(Duration::from_millis(2_100));
    assert_eq!(exceeded(&rates, "a", true), None);
}

#[test]
fn requests_in_progress_are_bounded() {
    let rates = rates(RateLimits { requests_per_second: 0, ..LIMITS });
    let meter = rates.meter(&principal("a"));
    let (first, _second) =
        (rates.admit(&meter, false).expect("a place"), rates.admit(&meter, false).expect("a place"));

    assert_eq!(exceeded(&rates, "a", false), Some(("concurrency", 1_000)));
    assert_eq!(exceeded(&rates, "b", false), None);
    drop(first);
    assert_eq!(exceeded(&rates, "a", false), None);
}

#[test]
fn failed_authentications_of_an_address_are_bounded() {
    let rates = rates(LIMITS);
    let (address, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    rates.add_failure(address);
    assert_eq!(rates.check_failures(address), Ok(()));
    rates.add_failure(address);

    assert_eq!(rates.check_failures(address).map_err(|excess| excess.wait), Err(Duration::from_secs(30)));
    assert_eq!(rates.check_failures(other), Ok(()));
    advance(Duration::from_secs(30));
    assert_eq!(rates.check_failures(address), Ok(()));
}

#[test]
fn zero_means_no_limit() {
    let rates = rates(RateLimits {
        requests_per_second: 0,
        burst: 0,
        events_per_second: 0,
        event_burst: 0,
        concurrent_requests: 0,
        failed_authentications_per_minute: 0,
    });
    let (meter, address) = (rates.meter(&principal("a")), IpAddr::from([10, 0, 0, 1]));
    let mut in_progress = Vec::new();
    for _ in 0..10_000 {
        rates.add_events(&meter, 1_000_000);
        rates.add_failure(address);
        in_progress.push(rates.admit(&meter, true).expect("no limit"));
    }
    assert_eq!(rates.check_failures(address), Ok(()));
    assert_eq!(rates.quotas(&meter).count(), 0);
}

#[test]
fn the_number_of_keys_is_bounded_and_keys_in_use_are_kept() {
    let recent = Recent::<usize, AtomicU32>::new(100);
    let kept = recent.get(0);
    for key in 1..10_000 {
        recent.get(key);
        assert!(Arc::ptr_eq(&kept, &recent.get(0)), "{key}");
        let generations = recent.generations.lock().expect("no panic");
        assert!(generations.iter().map(HashMap::len).sum::<usize>() <= 100, "{key}");
    }
    assert!(recent.find(&1).is_none());
    assert!(recent.find(&9_999).is_some());
}

#[test]
fn a_reporter_has_limits_of_its_own_in_each_tenant() {
    let rates = rates(LIMITS);
    let (one, other) =
        (TenantName::parse("one").expect("a name"), TenantName::parse("other").expect("a name"));
    let of = |tenant| rates.meter_of_reporter(tenant, &principal("a"));

    assert!(Arc::ptr_eq(&of(&one), &of(&one)));
    assert!(!Arc::ptr_eq(&of(&one), &of(&other)));
    assert!(!Arc::ptr_eq(&of(&one), &rates.meter(&principal("a"))));
}
