//! Concurrent readers during ingest, without and with a rebuild of the projections at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger_tests::{Command, Servers, Service};

use crate::PROGRAM;
use crate::load::{Http, get, post, report_events};
use crate::projection::fill;
use crate::report::Report;
use crate::state::{analyse, percentile};

const READERS: usize = 64;
/// Events per second that are ingested during the queries.
const INGEST_RATE: u32 = 200;

/// Queries of the readers: name and path.
const QUERIES: [(&str, &str); 3] = [
    ("state", "/v1/environments/production/state"),
    ("history page", "/v1/events?environment=production&limit=50"),
    ("diff", "/v1/environments/production/diff?from=-50"),
];

/// Measures queries of 64 readers, first without a rebuild, `count` of them in total, then during one.
pub(crate) async fn during_rebuild(servers: &Servers, size: usize, count: usize, report: &mut Report) {
    fill(servers, "default", size).await;
    let service = Service::start(PROGRAM, servers, &["--projections-grace-seconds=5"]).await;
    service.client().wait_for_projections(size as u64).await;
    analyse(servers, "default").await;
    let _ingest = ingest(&service);

    let without = read(&service, count, None).await;
    let (journal, projections) = (
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    );
    let rebuild = ["projections", "rebuild", &journal, &projections, "--log-filter=warn"];
    let is_rebuilding = Arc::new(AtomicBool::new(true));
    let running = {
        let (command, is_rebuilding) = (Command::start(PROGRAM, &rebuild), Arc::clone(&is_rebuilding));
        tokio::spawn(async move {
            let outcome = command.outcome().await;
            is_rebuilding.store(false, Ordering::Relaxed);
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
        })
    };
    let during = read(&service, count, Some(is_rebuilding)).await;
    running.await.expect("the rebuild succeeds");

    for ((query, _), (without, during)) in QUERIES.iter().zip(without.iter().zip(&during)) {
        let name =
            |statistic: &str| format!("{statistic} of a {query}, 64 readers and ingest, during a rebuild");
        report.time(&name("median"), percentile(without, 50), percentile(during, 50), None);
        report.time(&name("p99"), percentile(without, 99), percentile(during, 99), Some(2.0));
    }
    report.size(
        "peak memory, 64 readers and ingest during a rebuild",
        200.0,
        crate::ingest::mebibytes(service.peak_memory()),
    );
}

fn ingest(service: &Service) -> tokio_util::task::AbortOnDropHandle<()> {
    let url = service.url();
    let requests: Vec<_> = report_events(60_000)
        .iter()
        .rev()
        .map(|event| post("application/cloudevents+json", event.bytes()))
        .collect();
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut http = Http::connect(&url).await;
        let mut pace = tokio::time::interval(Duration::from_secs(1) / INGEST_RATE);
        for request in &requests {
            pace.tick().await;
            // Duplicates of the history get 200.
            let status = http.send(request).await;
            assert!(status == 201 || status == 200, "{status}");
        }
    }))
}

/// Returns the times of each query: of `count` queries in total or, with `during`, until that is false.
async fn read(service: &Service, count: usize, during: Option<Arc<AtomicBool>>) -> Vec<Vec<Duration>> {
    let remaining = Arc::new(AtomicUsize::new(count));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let (url, remaining, during) = (service.url(), Arc::clone(&remaining), during.clone());
        readers.spawn(async move {
            let query = reader % QUERIES.len();
            let request = get(QUERIES[query].1);
            let mut http = Http::connect(&url).await;
            let mut times = Vec::new();
            loop {
                let is_done = match &during {
                    Some(during) => !during.load(Ordering::Relaxed),
                    None => remaining
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remaining| {
                            remaining.checked_sub(1)
                        })
                        .is_err(),
                };
                if is_done {
                    return (query, times);
                }
                let began = Instant::now();
                assert_eq!(http.send(&request).await, 200, "no request fails");
                times.push(began.elapsed());
            }
        });
    }
    let mut all = vec![Vec::new(); QUERIES.len()];
    for (query, times) in readers.join_all().await {
        all[query].extend(times);
    }
    all
}
