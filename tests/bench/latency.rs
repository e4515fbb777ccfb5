//! How long an event takes from its request to an answer that shows it, at several rates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger_tests::{Servers, Service};
use tokio::time::{MissedTickBehavior, interval};

use crate::PROGRAM;
use crate::load::{Http, get, post, reports, send_all};
use crate::report::Report;
use crate::state::percentile;

const CONNECTIONS: usize = 64;
/// Milliseconds within which half of the peak's load is to be seen.
const GOAL: f64 = 50.0;

/// Single events: first as fast as can be, which is the peak, then at parts of that.
pub(crate) async fn to_be_seen(servers: &Servers, at_peak: usize, seen: usize, report: &mut Report) {
    let service = Service::start(PROGRAM, servers, &[]).await;
    let rates = [10, 50, 80];
    let events = reports(at_peak + rates.len() * (seen * 40 + 20_000));
    let mut requests: Vec<Vec<u8>> =
        events.iter().map(|event| post("application/cloudevents+json", event.bytes())).collect();
    drop(events);
    let rest = requests.split_off(at_peak);
    let took = send_all(&service.url(), requests, CONNECTIONS).await;
    let peak = at_peak as f64 / took.as_secs_f64();
    service.client().projections_at(at_peak as u64).await;

    let rest = Arc::new(rest);
    let next = Arc::new(AtomicUsize::new(0));
    for percent in rates {
        let rate = peak * f64::from(percent) / 100.0;
        let loading = load(&service, Arc::clone(&rest), Arc::clone(&next), rate);
        let took = probe(&service, &rest, &next, seen).await;
        loading.abort();
        let what = |which: &str| format!("{which} from request to visible at {percent} % of {peak:.0}/s");
        report.time(&what("median"), GOAL, percentile(&took, 50), None);
        report.time(&what("p99"), GOAL, percentile(&took, 99), (percent == 50).then_some(1.0));
    }
}

/// Sends requests at a rate, whatever becomes of those before.
fn load(
    service: &Service,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    rate: f64,
) -> tokio_util::task::AbortOnDropHandle<()> {
    let url = service.url();
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut senders = tokio::task::JoinSet::new();
        let each = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
        for sender in 0..CONNECTIONS {
            let (url, requests, next) = (url.clone(), Arc::clone(&requests), Arc::clone(&next));
            senders.spawn(async move {
                let mut http = Http::connect(&url).await;
                tokio::time::sleep(each * sender as u32 / CONNECTIONS as u32).await;
                let mut ticks = interval(each);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                loop {
                    ticks.tick().await;
                    let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    assert_eq!(http.ask(request).await, 201);
                }
            });
        }
        senders.join_all().await;
    }))
}

/// Sends one event after the other beside the load, and asks for each until it is seen.
async fn probe(service: &Service, requests: &[Vec<u8>], next: &AtomicUsize, seen: usize) -> Vec<Duration> {
    let mut http = Http::connect(&service.url()).await;
    let mut took = Vec::with_capacity(seen);
    let mut pace = interval(Duration::from_millis(10));
    while took.len() < seen {
        pace.tick().await;
        let request = &requests[next.fetch_add(1, Ordering::Relaxed)];
        let began = Instant::now();
        assert_eq!(http.ask(request).await, 201);
        let position = http.answered("\"position\":");
        let wanted = get(&format!("/v1/position?wait_for={position}&wait_ms=30000"));
        assert_eq!(http.ask(&wanted).await, 200);
        took.push(began.elapsed());
    }
    took
}
