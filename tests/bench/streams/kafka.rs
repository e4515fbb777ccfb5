//! Rates of Kafka in and out, each compared with a plain loop over the same records.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ledger_codec::cloudevents::Envelope;
use ledger_tests::{KafkaBroker, Servers, Service};
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use tokio::task::{JoinHandle, spawn_blocking};

use super::topics::{LIMIT, TopicRecord, consume, produce};
use super::{BATCH_EVENTS, DATABASE};
use crate::PROGRAM;
use crate::cpu::{Measured, Meter};
use crate::ingest::{lines, mebibytes};
use crate::load::{post, report_events, send_all};
use crate::report::{Cost, Report};

/// Connections of the batches over HTTP: as many as `ops/bench` uses for them.
const BATCH_CONNECTIONS: usize = 8;
/// Minimum ratio of a rate to the lower one of a plain loop and of batches over HTTP.
const GOAL: f64 = 0.7;

/// Measures batches over HTTP, `kafka.in` and then `kafka.out` with `count` events.
pub(super) async fn rates(servers: &Servers, count: usize, report: &mut Report) {
    let broker = KafkaBroker::start(&["releases", "dead", "entries", "copies"]).await;
    produce(broker.address(), "releases", &event_records(count)).await;
    let rate = |time: Duration| count as f64 / time.as_secs_f64();

    let batches = batch_rate(&report_events(count)).await;
    let (floor, _) = start_consumer(&broker, "releases", count).await.expect("the consumer ends");
    let inbound =
        "[kafka.in.releases]\ntopics = [\"releases\"]\ngroup = \"ledger\"\ndead_letter_topic = \"dead\"\n";
    let mut meter = Meter::start(servers).await;
    let before = meter.sample(Measured::Nothing, DATABASE).await;
    let service = start(servers, &broker, "in", inbound).await;
    let recorded = time_until_recorded(&service, count as u64).await;
    report.rate("events/s, batches over HTTP, against a consumer loop", rate(floor), batches, None);
    let lower = rate(floor).min(batches);
    let name = "events/s, kafka.in, against the lower of loop and batches";
    report.rate(name, lower, rate(recorded), Some(GOAL));
    service.client().wait_for_projections(count as u64).await;
    let after = meter.sample(Measured::Service(service.pid()), DATABASE).await;
    let (name, per_event) =
        ("kafka.in, without the broker".to_owned(), before.until(&after).per_event(count));
    report.cost(Cost { name, program: "ours", per_event, goal: None });
    report.size("peak memory, kafka.in", 200.0, mebibytes(service.peak_memory()));
    drop(service);

    // The consumer waits for the first record: the time includes neither its start nor that of the service.
    let consumer = start_consumer(&broker, "entries", count);
    let before = meter.sample(Measured::Nothing, DATABASE).await;
    let service = start(servers, &broker, "out", "[kafka.out.entries]\ntopic = \"entries\"\n").await;
    let (delivered, entries) = consumer.await.expect("the consumer ends");
    let memory = mebibytes(service.peak_memory());
    let after = meter.sample(Measured::Service(service.pid()), DATABASE).await;
    let (name, per_event) =
        ("kafka.out, without the broker".to_owned(), before.until(&after).per_event(count));
    report.cost(Cost { name, program: "ours", per_event, goal: None });
    drop(service);
    let records: Vec<_> = entries.iter().map(TopicRecord::of).collect();
    let floor = produce(broker.address(), "copies", &records).await;
    report.rate("events/s, batches over HTTP, against a producer loop", rate(floor), batches, None);
    let lower = rate(floor).min(batches);
    let name = "entries/s, kafka.out, against the lower of loop and batches";
    report.rate(name, lower, rate(delivered), Some(GOAL));
    report.size("peak memory, kafka.out", 200.0, memory);
}

/// Returns the rate at which a service with servers of its own records events in batches over HTTP. It projects them,
/// as those with Kafka do.
async fn batch_rate(events: &[Envelope]) -> f64 {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let requests = events.chunks(BATCH_EVENTS).map(|batch| post("application/x-ndjson", &lines(batch)));
    let time = send_all(&service.url(), requests.collect(), BATCH_CONNECTIONS).await;
    events.len() as f64 / time.as_secs_f64()
}

/// Writes settings of Kafka to a file.
pub(super) fn settings(folder: &Path, broker: &KafkaBroker, name: &str, parts: &str) -> PathBuf {
    let file = folder.join(format!("{name}.toml"));
    let text = format!("[kafka.properties]\n\"bootstrap.servers\" = \"{}\"\n{parts}", broker.address());
    std::fs::write(&file, text).expect("write the settings");
    file
}

async fn start(servers: &Servers, broker: &KafkaBroker, name: &str, parts: &str) -> Service {
    let file = settings(servers.folder(), broker, name, parts);
    Service::start(PROGRAM, servers, &[&format!("--config={}", file.display())]).await
}

/// Returns events as records of a topic, as a pipeline produces them.
fn event_records(count: usize) -> Vec<TopicRecord> {
    let record = |value: Vec<u8>| {
        let content_type = Header { key: "content-type", value: Some("application/cloudevents+json") };
        TopicRecord { key: b"shop".to_vec(), value, headers: OwnedHeaders::new().insert(content_type) }
    };
    report_events(count).iter().map(|event| record(event.bytes().to_vec())).collect()
}

fn start_consumer(
    broker: &KafkaBroker,
    topic: &'static str,
    count: usize,
) -> JoinHandle<(Duration, Vec<OwnedMessage>)> {
    let address = broker.address().to_owned();
    spawn_blocking(move || consume(&address, topic, count))
}

/// Returns the time from the first recorded event to the last one: a consumer joins its group for seconds before.
async fn time_until_recorded(service: &Service, count: u64) -> Duration {
    let (client, started) = (service.client(), Instant::now());
    let mut began = started;
    loop {
        let asked = Instant::now();
        let (_, head) = client.positions().await;
        if head == 0 {
            began = asked;
        } else if head >= count {
            return began.elapsed();
        }
        assert!(started.elapsed() < LIMIT, "{head} of {count} events are recorded");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
