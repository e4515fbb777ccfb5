//! The time from the request of an event to a response that includes it, at several rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};
use tokio::time::{MissedTickBehavior, interval};

use crate::PROGRAM;
use crate::load::{Http, get, post, report_events, send_all};
use crate::report::Report;
use crate::state::percentile;

const CONNECTIONS: usize = 64;
/// Goal for the p99 at half of the peak rate, in milliseconds.
const GOAL_MS: f64 = 50.0;

/// Sends single events, first at the maximum rate, then at parts of it, and measures `probes` events at each part.
pub(crate) async fn until_visible(servers: &Servers, at_peak: usize, probes: usize, report: &mut Report) {
    let service = Service::start(PROGRAM, servers, &[]).await;
    let percentages = [10, 50, 80];
    let events = report_events(at_peak + percentages.len() * (probes * 40 + 20_000));
    let mut requests: Vec<Vec<u8>> =
        events.iter().map(|event| post("application/cloudevents+json", event.bytes())).collect();
    drop(events);
    let rest = requests.split_off(at_peak);
    let time = send_all(&service.url(), requests, CONNECTIONS).await;
    let peak = at_peak as f64 / time.as_secs_f64();
    service.client().wait_for_projections(at_peak as u64).await;

    let rest = Arc::new(rest);
    let next = Arc::new(AtomicUsize::new(0));
    for percent in percentages {
        let rate = peak * f64::from(percent) / 100.0;
        let load = start_load(&service, Arc::clone(&rest), Arc::clone(&next), rate);
        let times = probe(&service, &rest, &next, probes).await;
        load.abort();
        let name =
            |statistic: &str| format!("{statistic} from request to visible at {percent} % of {peak:.0}/s");
        report.time(&name("median"), GOAL_MS, percentile(&times, 50), None);
        report.time(&name("p99"), GOAL_MS, percentile(&times, 99), (percent == 50).then_some(1.0));
    }
}

/// Sends requests at this rate, independent of the times of earlier responses.
pub(crate) fn start_load(
    service: &Service,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    rate: f64,
) -> tokio_util::task::AbortOnDropHandle<()> {
    let url = service.url();
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut senders = tokio::task::JoinSet::new();
        let period = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
        for sender in 0..CONNECTIONS {
            let (url, requests, next) = (url.clone(), Arc::clone(&requests), Arc::clone(&next));
            senders.spawn(async move {
                let mut http = Http::connect(&url).await;
                tokio::time::sleep(period * sender as u32 / CONNECTIONS as u32).await;
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                loop {
                    ticks.tick().await;
                    let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    assert_eq!(http.send(request).await, 201);
                }
            });
        }
        senders.join_all().await;
    }))
}

/// Sends one event after the other beside the load, waits until each is visible, and returns the times.
async fn probe(service: &Service, requests: &[Vec<u8>], next: &AtomicUsize, probes: usize) -> Vec<Duration> {
    let mut http = Http::connect(&service.url()).await;
    let mut times = Vec::with_capacity(probes);
    let mut pace = interval(Duration::from_millis(10));
    while times.len() < probes {
        pace.tick().await;
        let request = &requests[next.fetch_add(1, Ordering::Relaxed)];
        let began = Instant::now();
        assert_eq!(http.send(request).await, 201);
        let position = http.number_after("\"position\":");
        let wait = get(&format!("/v1/position?wait_for={position}&wait_ms=30000"));
        assert_eq!(http.send(&wait).await, 200);
        times.push(began.elapsed());
    }
    times
}
