//! Concurrent readers while events come in, without and with projections being filled anew beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger_tests::{Command, Servers, Service};

use crate::PROGRAM;
use crate::load::{Http, get, post, reports};
use crate::projection::fill;
use crate::report::Report;
use crate::state::{analyse, percentile};

const READERS: usize = 64;
/// Events a second that come in meanwhile.
const RATE: u32 = 200;

/// What each reader asks.
const QUESTIONS: [(&str, &str); 3] = [
    ("state", "/v1/environments/production/state"),
    ("history page", "/v1/events?environment=production&limit=50"),
    ("diff", "/v1/environments/production/diff?from=-50"),
];

/// So many answers to 64 readers at once, first with nothing beside them, then with a rebuild.
pub(crate) async fn beside_a_rebuild(servers: &Servers, size: usize, answers: usize, report: &mut Report) {
    fill(servers, "default", size).await;
    let service = Service::start(PROGRAM, servers, &["--projections-grace-seconds=5"]).await;
    service.client().projections_at(size as u64).await;
    analyse(servers, "default").await;
    let _ingest = ingest(&service);

    let alone = read(&service, answers, None).await;
    let (journal, projections) = (
        format!("--journal-url={}", servers.nats_url()),
        format!("--projections-url={}", servers.postgres_url()),
    );
    let rebuild = ["projections", "rebuild", &journal, &projections, "--log-filter=warn"];
    let rebuilding = Arc::new(AtomicBool::new(true));
    let running = {
        let (command, rebuilding) = (Command::start(PROGRAM, &rebuild), Arc::clone(&rebuilding));
        tokio::spawn(async move {
            let outcome = command.outcome().await;
            rebuilding.store(false, Ordering::Relaxed);
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
        })
    };
    let beside = read(&service, answers, Some(rebuilding)).await;
    running.await.expect("the rebuild ends well");

    for ((name, _), (alone, beside)) in QUESTIONS.iter().zip(alone.iter().zip(&beside)) {
        let what = |which: &str| format!("{which} of a {name}, 64 readers and ingest, beside a rebuild");
        report.time(&what("median"), percentile(alone, 50), percentile(beside, 50), None);
        report.time(&what("p99"), percentile(alone, 99), percentile(beside, 99), Some(2.0));
    }
    report.size(
        "peak memory, 64 readers, ingest and a rebuild beside",
        200.0,
        crate::ingest::mebibytes(service.peak_memory()),
    );
}

fn ingest(service: &Service) -> tokio_util::task::AbortOnDropHandle<()> {
    let url = service.url();
    let requests: Vec<_> = reports(60_000)
        .iter()
        .rev()
        .map(|event| post("application/cloudevents+json", event.bytes()))
        .collect();
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut http = Http::connect(&url).await;
        let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
        for request in &requests {
            pace.tick().await;
            // What the history has already is answered 200.
            let status = http.ask(request).await;
            assert!(status == 201 || status == 200, "{status}");
        }
    }))
}

/// How long answers took, question by question: until there are so many, or as long as something goes on.
async fn read(service: &Service, answers: usize, during: Option<Arc<AtomicBool>>) -> Vec<Vec<Duration>> {
    let left = Arc::new(AtomicUsize::new(answers));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let (url, left, during) = (service.url(), Arc::clone(&left), during.clone());
        readers.spawn(async move {
            let question = reader % QUESTIONS.len();
            let request = get(QUESTIONS[question].1);
            let mut http = Http::connect(&url).await;
            let mut took = Vec::new();
            loop {
                let enough = match &during {
                    Some(during) => !during.load(Ordering::Relaxed),
                    None => left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_err(),
                };
                if enough {
                    return (question, took);
                }
                let began = Instant::now();
                assert_eq!(http.ask(&request).await, 200, "no request fails");
                took.push(began.elapsed());
            }
        });
    }
    let mut all = vec![Vec::new(); QUESTIONS.len()];
    for (question, took) in readers.join_all().await {
        all[question].extend(took);
    }
    all
}
