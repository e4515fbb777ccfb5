//! Entries of the ledger in topics: their order, keys, headers and values, and what failures do.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use jsonschema::Validator;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{
    EnvironmentName, EventId, EventRef, Lane, LiveRelease, Position, Release, ServiceName, ShortText,
    SlotName, TargetName, TenantName,
};
use ledger_projections::{Projections, RecordedEntry, SchemaVersion};
use ledger_streams::follower::Sink;
use ledger_tlog::Hash;
use rdkafka::message::OwnedHeaders;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::broker::{Broker, Read};
use crate::KafkaStatus;
use crate::client::ClientEvents;
use crate::kafka_sink::KafkaSink;
use crate::lane_state;
use crate::record::Decoded;
use crate::sender::{Record, Sender};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/kafka");

fn event(id: &str, kind: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": "urn:pipeline",
        "type": format!("io.releaseledger.{kind}.v1"),
        "time": "2026-08-01T12:00:00Z",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": data,
    })
}

fn deployed(id: &str) -> Value {
    let data = json!({"environment": "production", "service": "web", "release": {"version": "v1"}});
    event(id, "deploy.succeeded", data)
}

/// Returns the entry of an event as the projections have it.
fn row(position: u64, event: &Value, target: Option<&str>) -> RecordedEntry {
    let envelope = Envelope::parse(event.to_string().as_bytes()).expect("a valid event");
    RecordedEntry {
        position: Position::new(position),
        recorded_at: DateTime::UNIX_EPOCH,
        occurred_at: envelope.occurred_at(),
        kind: envelope.event().payload.kind(),
        repeats: None,
        recorded_anomalies: Vec::new(),
        first_of: Vec::new(),
        went_live: None,
        target: target.map(str::to_owned),
        targets: Vec::new(),
        leaf_hash: Hash::from([7; 32]),
        bytes: envelope.bytes().clone(),
    }
}

/// Returns projections that no test here reads.
fn projections() -> Projections {
    let settings = ledger_projections::Settings {
        url: "postgres://ledger@127.0.0.1:1/ledger".to_owned().into(),
        connections: 1,
        acquire_timeout: Duration::from_millis(1),
        schema_version: SchemaVersion::CURRENT,
    };
    Projections::new(&settings, TenantName::default()).expect("a valid URL")
}

fn sink(broker: &Broker, more: &str) -> (KafkaSink, KafkaStatus) {
    let settings = broker.settings(&format!("[out.entries]\ntopic = \"entries\"\n{more}"));
    let (setting, status) = (&settings.outbound["entries"], KafkaStatus::default());
    let sink = KafkaSink::open("entries", setting, &settings, projections(), status.clone());
    (sink.expect("valid settings"), status)
}

fn schema(name: &str) -> Validator {
    let text = std::fs::read_to_string(format!("{SCHEMAS}/{name}.json")).expect("a schema");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    jsonschema::draft202012::meta::validate(&document).expect("a valid schema");
    jsonschema::options().build(&document).expect("a valid schema")
}

/// Asserts that a record is what the schemas say.
#[track_caller]
fn assert_fits(record: &Read, value_schema: &str) {
    let headers = record.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let headers = Value::Object(headers.collect());
    let value =
        record.value.as_deref().map_or(Value::Null, |value| serde_json::from_str(value).expect("JSON"));
    for (instance, schema) in [(&headers, schema("headers")), (&value, schema(value_schema))] {
        if let Err(error) = schema.validate(instance) {
            panic!("{instance}: {error}");
        }
    }
}

fn keys(records: &[Read]) -> Vec<&str> {
    records.iter().map(|record| record.key.as_deref().unwrap_or_default()).collect()
}

fn positions(records: &[Read]) -> Vec<&str> {
    records.iter().map(|record| record.header("ledger-position").unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_produced_in_order_unchanged_with_their_lanes_as_keys() {
    let broker = Broker::with_topics(&["entries"]);
    let (mut sink, status) = sink(&broker, "");
    let frozen = event("2", "freeze.started", json!({"environment": "production", "freeze_id": "sale"}));
    let artifact = format!("registry.example/web@sha256:{}", "a".repeat(64));
    let built = event("3", "artifact.built", json!({ "artifact": artifact }));
    let mut rows = vec![row(1, &deployed("1"), Some("eu")), row(5, &frozen, None), row(6, &built, None)];
    rows.push(RecordedEntry { repeats: Some(Position::new(1)), ..row(7, &deployed("1"), None) });

    sink.deliver(&rows).await.expect("delivered");

    let read = broker.read("entries", rows.len()).await;
    let stored: Vec<_> = rows.iter().map(|row| String::from_utf8_lossy(&row.bytes).into_owned()).collect();
    assert_eq!(read.iter().filter_map(|record| record.value.clone()).collect::<Vec<_>>(), stored);
    assert_eq!(keys(&read)[..3], ["production/eu/web", "production", "default"]);
    assert_eq!(positions(&read), ["1", "5", "6", "7"]);
    assert_eq!(read.last().and_then(|record| record.header("ledger-repeats")), Some("1"));
    assert_eq!(read[0].header("ledger-repeats"), None);
    assert_eq!(read[0].header("ledger-id"), Some("1"));
    assert!(read[0].header("traceparent").is_some_and(|value| value.starts_with("00-0af7")));
    read.iter().for_each(|record| assert_fits(record, "entry"));
    assert_eq!(status.fault(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cdevents_leave_out_repeated_entries() {
    let broker = Broker::with_topics(&["entries"]);
    let (mut sink, _) = sink(&broker, "value = \"cdevents\"\nkey = \"tenant\"\n");
    let repeated = RecordedEntry { repeats: Some(Position::new(1)), ..row(2, &deployed("1"), None) };

    let rows = [row(1, &deployed("1"), Some("eu")), repeated, row(3, &deployed("3"), Some("eu"))];
    sink.deliver(&rows).await.expect("delivered");

    let read = broker.read("entries", 2).await;
    assert_eq!(positions(&read), ["1", "3"]);
    assert_eq!(keys(&read), ["default", "default"]);
    read.iter().for_each(|record| assert_fits(record, "cdevents"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_a_lane_has_the_lane_as_key_and_a_lane_that_runs_nothing_a_tombstone() {
    let broker = Broker::with_topics(&["entries"]);
    let settings = broker.settings("");
    let events = ClientEvents { status: KafkaStatus::default().of_part("kafka.out.entries") };
    let mut sender = Sender::open("entries", &settings, events).expect("valid settings");
    let row = row(4, &deployed("4"), Some("eu"));
    let entry = Decoded::new(&row).expect("decodable");
    let lane = Lane {
        environment: EnvironmentName::parse("production").expect("an environment"),
        service: ServiceName::parse("web").expect("a service"),
        target: TargetName::parse("eu").expect("a target"),
    };
    let live = LiveRelease {
        slot: Some(SlotName::parse("blue").expect("a slot")),
        release: Release::of_version(ShortText::parse("v1").expect("a version")),
        since: EventRef {
            occurred_at: DateTime::UNIX_EPOCH,
            position: Position::new(4),
            event_id: EventId::parse("4").expect("an id"),
        },
    };

    let state = lane_state::value(&lane, &live, &row);
    let records = [entry.lane_state(&lane, Some(&state)), entry.lane_state(&lane, None)];
    sender.send_all(&records).await.expect("sent");

    let read = broker.read("entries", 2).await;
    assert_eq!(keys(&read), ["production/eu/web", "production/eu/web"]);
    assert_eq!(read[1].value, None);
    read.iter().for_each(|record| assert_fits(record, "lane-state"));
}

fn record(value: &str) -> Record {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Record { key: Some(b"k".to_vec()), value, headers: OwnedHeaders::new() }
}

fn sender(broker: &Broker) -> Sender {
    let events = ClientEvents { status: KafkaStatus::default().of_part("kafka.out.entries") };
    Sender::open("entries", &broker.settings(""), events).expect("valid settings")
}

fn values(read: &[Read]) -> Vec<&str> {
    read.iter().map(|record| record.value.as_deref().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transient_errors_of_the_broker_delay_records_and_neither_lose_nor_repeat_any() {
    let broker = Broker::with_topics(&["entries"]);
    let transient = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    broker.cluster.request_errors(RDKafkaApiKey::Produce, &[transient; 3]);
    let mut sender = sender(&broker);

    sender.send_all(&["1", "2", "3"].map(record)).await.expect("sent");
    sender.send_all(&["4"].map(record)).await.expect("sent");

    assert_eq!(values(&broker.read("entries", 4).await), ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_records_are_an_error_and_can_be_sent_again() {
    let broker = Broker::with_topics(&["entries"]);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker.cluster.request_errors(RDKafkaApiKey::Produce, &[refused]);
    let mut sender = sender(&broker);
    let records = ["1", "2", "3"].map(record);

    let error = sender.send_all(&records).await.expect_err("refused").to_string();
    broker.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    sender.send_all(&records).await.expect("sent");

    assert!(error.contains("topic entries"), "{error}");
    let read = broker.read("entries", 3).await;
    assert_eq!(values(&read)[read.len() - 3..], ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_for_a_moment_delays_records() {
    let broker = Broker::with_topics(&["entries"]);
    let mut sender = sender(&broker);
    sender.send_all(&["1"].map(record)).await.expect("sent");
    broker.cluster.broker_down(-1).expect("down");

    let records = ["2", "3"].map(record);
    let outage = async {
        sleep(Duration::from_secs(1)).await;
        broker.cluster.broker_up(-1).expect("up");
    };
    let (sent, ()) = tokio::join!(sender.send_all(&records), outage);

    sent.expect("sent");
    assert_eq!(values(&broker.read("entries", 3).await), ["1", "2", "3"]);
}
