//! The time from the request of an event to a response that includes it, at several rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};
use tokio::time::{MissedTickBehavior, interval};

use crate::PROGRAM;
use crate::cpu::{Measured, Meter};
use crate::ingest::{MEMORY_LIMIT, mebibytes};
use crate::load::{Http, get, post, report_events, send_all};
use crate::report::{Cost, Report};
use crate::state::percentile;

const CONNECTIONS: usize = 64;
/// Measured parts of the peak rate in per cent, the limit of their times in milliseconds, and true if the p99 has to stay
/// within it.
const LOADS: [(u32, f64, bool); 3] = [(10, 20.0, false), (50, 20.0, true), (80, 40.0, true)];
/// Database of the projections.
const DATABASE: &str = "ledger";

/// Sends single events, first at the maximum rate, then at parts of it, and measures `probes` events at each part.
pub(crate) async fn until_visible(servers: &Servers, at_peak: usize, probes: usize, report: &mut Report) {
    let service = Service::start(PROGRAM, servers, &[]).await;
    let mut meter = Meter::start(servers).await;
    let events = report_events(at_peak + LOADS.len() * (probes * 60 + 20_000));
    let mut requests: Vec<Vec<u8>> =
        events.into_iter().map(|event| post("application/cloudevents+json", event.bytes())).collect();
    let rest = requests.split_off(at_peak);
    let time = send_all(&service.url(), requests, CONNECTIONS).await;
    let peak = at_peak as f64 / time.as_secs_f64();
    service.client().wait_for_projections(at_peak as u64).await;

    let rest = Arc::new(rest);
    let next = Arc::new(AtomicUsize::new(0));
    for (percent, limit, is_goal) in LOADS {
        let rate = peak * f64::from(percent) / 100.0;
        let measured = Measured::Service(service.pid());
        let (before, first) = (meter.sample(measured, DATABASE).await, next.load(Ordering::Relaxed));
        let began = Instant::now();
        let load = start_load(&service, Arc::clone(&rest), Arc::clone(&next), rate);
        let times = probe(&service, &rest, &next, probes).await;
        load.abort();
        let sent = next.load(Ordering::Relaxed) - first;
        let achieved = sent as f64 / began.elapsed().as_secs_f64();
        let cpu = before.until(&meter.sample(measured, DATABASE).await);
        let name = |figure: &str| format!("{figure} at {percent} % of the peak");
        report.rate(&name("events/s, against the peak,"), peak, achieved, None);
        let (part, per_event) = (name("request to visible"), cpu.per_event(sent));
        report.cost(Cost { name: part, program: "ours", per_event, goal: None });
        report.time(&name("median from request to visible"), limit, percentile(&times, 50), None);
        let goal = is_goal.then_some(1.0);
        report.time(&name("p99 from request to visible"), limit, percentile(&times, 99), goal);
    }
    report.size("peak memory, request to visible", MEMORY_LIMIT, mebibytes(service.peak_memory()));
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
