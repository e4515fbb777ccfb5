//! Streams: the time from the request of an event to its arrival at each way out, beside ingest, and the rates of the
//! ways in and out.
//!
//! A time begins when the request of the event is sent. Its floor is the time until the projections show the same event.
//! The parts with Kafka need the broker `tansu`, and are left out without it.

mod kafka;
mod topics;
mod ways;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use ledger_tests::{Command, KafkaBroker, Servers, Service, deploy};
use tokio::time::interval;

use crate::PROGRAM;
use crate::cpu::{Measured, Meter};
use crate::ingest::mebibytes;
use crate::latency::start_load;
use crate::load::{Http, get, post, report_events, send_all};
use crate::report::{Cost, Report};
use crate::state::percentile;
use ways::{WayOut, wait_until_all_deliver};

const CONNECTIONS: usize = 64;
/// Events of a request that records several.
const BATCH_EVENTS: usize = 500;
/// Database of the projections.
const DATABASE: &str = "ledger";
/// Environment of the measured events: the subscription of the webhook takes only these, since a webhook is sent one
/// entry at a time.
const ENVIRONMENT: &str = "measured";
const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A measured event.
struct Probe {
    position: u64,
    sent: Instant,
    /// Time from the request until the projections show it.
    visible: Duration,
}

/// Measures all ways out with `at_peak` events and then `probes` events at half of the peak rate; then Kafka with
/// `at_peak` events.
pub(crate) async fn in_and_out(at_peak: usize, probes: usize, report: &mut Report) {
    let has_broker = has_broker();
    ways_out(&Servers::start().await, at_peak, probes, has_broker, report).await;
    if has_broker {
        kafka::rates(&Servers::start().await, at_peak, report).await;
    }
}

/// Returns true if the broker is installed.
fn has_broker() -> bool {
    let found = std::process::Command::new("tansu").arg("--version").output().is_ok();
    if !found {
        println!("left out: Kafka, since tansu is not on PATH; ops/test installs it");
    }
    found
}

async fn ways_out(servers: &Servers, at_peak: usize, probes: usize, has_broker: bool, report: &mut Report) {
    let broker = match has_broker {
        true => Some(KafkaBroker::start(&["entries"]).await),
        false => None,
    };
    let service = start(servers, broker.as_ref()).await;
    let (webhook, url) = WayOut::webhook().await;
    subscribe(&service, &url).await;
    let mut ways = vec![WayOut::event_stream(&service), WayOut::nats(servers).await];
    ways.extend(broker.as_ref().map(|broker| WayOut::topic(broker.address(), "entries")));
    let all: Vec<&WayOut> = ways.iter().chain([&webhook]).collect();
    wait_until_all_deliver(&all, async |number| {
        service.client().record(&measured_event("first", number)).await.ok();
    })
    .await;

    let events = report_events(at_peak + probes * 40 + 20_000);
    let mut requests: Vec<Vec<u8>> =
        events.iter().map(|event| post("application/cloudevents+json", event.bytes())).collect();
    drop(events);
    let rest = Arc::new(requests.split_off(at_peak));
    let peak = deliver_at_peak(servers, &service, &ways, requests, report).await;

    let load = start_load(&service, rest, Arc::new(AtomicUsize::new(0)), peak / 2.0);
    let measured = probe(&service, probes).await;
    drop(load);
    let last = measured.last().expect("there are probes").position;
    let visible: Vec<Duration> = measured.iter().map(|probe| probe.visible).collect();
    for way in &all {
        way.arrivals.wait_for(last).await;
        let time = |probe: &Probe| way.arrivals.time_of(probe.position).saturating_duration_since(probe.sent);
        let times: Vec<Duration> = measured.iter().map(time).collect();
        let name = |statistic: &str| format!("{statistic} from request to {}, at half of the peak", way.name);
        report.time(&name("median"), percentile(&visible, 50), percentile(&times, 50), None);
        report.time(&name("p99"), percentile(&visible, 99), percentile(&times, 99), None);
    }
    webhook_rate(&service, &webhook, &url, probes, report).await;
    report.size("peak memory, delivering to all ways out", 200.0, mebibytes(service.peak_memory()));
}

/// Starts a service with all ways out.
async fn start(servers: &Servers, broker: Option<&KafkaBroker>) -> Service {
    let secret = servers.folder().join("webhook.secret");
    std::fs::write(&secret, format!("whsec_{KEY}\n")).expect("write the secret");
    let webhooks = format!("[webhooks.secrets.bench]\nfiles = [{secret:?}]\n");
    let file = match broker {
        Some(broker) => {
            let parts = format!("[kafka.out.entries]\ntopic = \"entries\"\n{webhooks}");
            kafka::settings(servers.folder(), broker, "streams", &parts)
        }
        None => {
            let file = servers.folder().join("streams.toml");
            std::fs::write(&file, webhooks).expect("write the settings");
            file
        }
    };
    let config = format!("--config={}", file.display());
    let flags = [
        &*config,
        "--webhooks-allow-http=true",
        "--webhooks-allow-networks=127.0.0.0/8",
        "--nats-publish-tenants=default",
    ];
    Service::start(PROGRAM, servers, &flags).await
}

/// Creates the subscription of the webhook.
async fn subscribe(service: &Service, url: &str) {
    let (ledger, environment) = (format!("--url={}", service.url()), format!("--environment={ENVIRONMENT}"));
    let arguments =
        ["subscription", "create", "bench", url, "--secret=bench", "--by=bench", &*environment, &*ledger];
    let outcome = Command::start(PROGRAM, &arguments).outcome().await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

/// Returns a deploy to the environment of the measured events.
fn measured_event(group: &str, number: usize) -> serde_json::Value {
    let id = format!("{group}-{number}");
    deploy(&id, "2026-01-05T10:00:00Z", ENVIRONMENT, "web", &format!("v-{id}"))
}

/// Sends requests as fast as possible, and reports the rate at which each way out delivered them. Returns the rate at
/// which they were recorded.
async fn deliver_at_peak(
    servers: &Servers,
    service: &Service,
    ways: &[WayOut],
    requests: Vec<Vec<u8>>,
    report: &mut Report,
) -> f64 {
    let (events, count) = (requests.len(), requests.len() as f64);
    let mut meter = Meter::start(servers).await;
    let measured = Measured::Service(service.pid());
    let before = meter.sample(measured, DATABASE).await;
    let began = Instant::now();
    let peak = count / send_all(&service.url(), requests, CONNECTIONS).await.as_secs_f64();
    let (_, head) = service.client().positions().await;
    for way in ways {
        way.arrivals.wait_for(head).await;
        let time = way.arrivals.time_of(head).saturating_duration_since(began);
        let name = format!("entries/s to {}, while events are recorded at the peak rate", way.name);
        report.rate(&name, peak, count / time.as_secs_f64(), None);
    }
    let cpu = before.until(&meter.sample(measured, DATABASE).await);
    let (name, per_event) = ("singles, delivered to the ways out".to_owned(), cpu.per_event(events));
    report.cost(Cost { name, program: "ours", per_event, goal: None });
    peak
}

/// Sends one event after the other beside the load, and waits until each is visible.
async fn probe(service: &Service, probes: usize) -> Vec<Probe> {
    let mut http = Http::connect(&service.url()).await;
    let mut measured = Vec::with_capacity(probes);
    let mut pace = interval(Duration::from_millis(10));
    for number in 0..probes {
        let event = measured_event("probe", number).to_string();
        let request = post("application/cloudevents+json", event.as_bytes());
        pace.tick().await;
        let sent = Instant::now();
        assert_eq!(http.send(&request).await, 201);
        let position = http.number_after("\"position\":");
        let wait = get(&format!("/v1/position?wait_for={position}&wait_ms=30000"));
        assert_eq!(http.send(&wait).await, 200);
        measured.push(Probe { position, sent, visible: sent.elapsed() });
    }
    measured
}

/// Measures the deliveries of one subscription, compared with requests to the same receiver, one after the other.
async fn webhook_rate(service: &Service, webhook: &WayOut, url: &str, count: usize, report: &mut Report) {
    let client = service.client();
    let lines: Vec<String> = (0..count).map(|number| measured_event("rate", number).to_string()).collect();
    let (began, mut last) = (Instant::now(), 0);
    for batch in lines.chunks(BATCH_EVENTS) {
        last = client.record_all(batch).await.into_iter().fold(last, u64::max);
    }
    webhook.arrivals.wait_for(last).await;
    let delivered = webhook.arrivals.time_of(last).saturating_duration_since(began);

    let body = client.text(&format!("/v1/events/{last}")).await;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut http = Http::connect(url).await;
    let began = Instant::now();
    for _ in 0..count {
        assert_eq!(http.send(request.as_bytes()).await, 200);
    }
    let floor = began.elapsed();
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    let name = "entries/s to a webhook, against requests one after the other";
    report.rate(name, rate(floor), rate(delivered), None);
}
