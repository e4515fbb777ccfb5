//! CDEvents inside CloudEvents: structured, binary and batch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::schema::Spec;
use super::super::{is_cdevent, read_batch, read_binary, read_structured};
use super::samples::samples;
use super::{Settings, only, read_value};

fn sample() -> Value {
    let mut samples = samples(Spec::V0_5).into_iter();
    samples.find(|it| it["context"]["type"] == "dev.cdevents.service.deployed.0.3.0").expect("a sample")
}

fn wrapped(message: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": message["context"]["id"],
        "source": message["context"]["source"],
        "type": message["context"]["type"],
        "subject": message["subject"]["id"],
        "time": "2026-08-01T14:10:02.381+02:00",
        "datacontenttype": "application/json; charset=utf-8",
        "dataschema": null,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": message,
    })
}

fn structured(event: &Value) -> Result<Value, String> {
    read_structured(event.to_string().as_bytes(), &Settings::default())
        .map(only)
        .map_err(|error| error.pointer)
}

fn attributes(event: &Value) -> Vec<(&str, String)> {
    let members = event.as_object().expect("an object").iter().filter(|(name, _)| *name != "data");
    members.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?.to_owned()))).collect()
}

#[test]
fn an_event_is_the_same_bare_structured_and_binary() {
    for spec in Spec::ALL {
        for message in samples(spec) {
            let mut event = wrapped(&message);
            event["time"] = message["context"]["timestamp"].clone();
            let bare = read_value(&message, &Settings::default()).expect("a sample");
            assert_eq!(structured(&event).as_ref(), Ok(&bare));
            let data = message.to_string();
            let binary = read_binary(attributes(&event), data.as_bytes(), &Settings::default());
            assert_eq!(binary.map(only), Ok(bare));
        }
    }
}

#[test]
fn an_attribute_that_contradicts_the_context_is_rejected() {
    for (name, value) in [
        ("id", json!("other")),
        ("source", json!("other")),
        ("type", json!("dev.cdevents.service.removed.0.3.0")),
        ("subject", json!("other")),
        ("time", json!("2026-08-01T12:10:02.382Z")),
        ("time", json!("yesterday")),
        ("time", json!(5)),
        ("specversion", json!("0.3")),
        ("specversion", json!(null)),
        ("id", json!(null)),
        ("datacontenttype", json!("application/xml")),
        ("data_base64", json!("e30=")),
    ] {
        let mut event = wrapped(&sample());
        event[name] = value.clone();
        assert_eq!(structured(&event), Err(format!("/{name}")), "{value}");
    }
    let mut event = wrapped(&sample());
    event["subject"] = json!(null);
    event.as_object_mut().expect("an object").remove("time");
    assert!(structured(&event).is_ok());
}

/// cdviz-collector writes headers without encoding them, and the service decodes headers.
#[test]
fn an_attribute_in_a_header_may_be_the_value_of_the_context_decoded() {
    for (value, header) in [
        ("https://ci.example/a%2Fb", "https://ci.example/a/b"),
        ("https://ci.example/a%2520b", "https://ci.example/a%20b"),
        ("https://ci.example/a%20b", "https://ci.example/a b"),
    ] {
        for name in ["id", "source"] {
            let mut message = sample();
            message["context"][name] = json!(value);
            let bare = read_value(&message, &Settings::default()).expect("a sample");
            let data = message.to_string();
            for attribute in [value, header] {
                let mut event = wrapped(&message);
                event[name] = json!(attribute);
                let binary = read_binary(attributes(&event), data.as_bytes(), &Settings::default());
                assert_eq!(binary.map(only).as_ref(), Ok(&bare), "{name} {attribute}");
            }
            let mut event = wrapped(&message);
            event[name] = json!("https://ci.example/other");
            let other = read_binary(attributes(&event), data.as_bytes(), &Settings::default());
            assert_eq!(other.expect_err("another").pointer, format!("/{name}"));
        }
    }
    let mut message = sample();
    message["context"]["id"] = json!("a%2Fb");
    let mut event = wrapped(&message);
    event["id"] = json!("a/b");
    assert_eq!(structured(&event), Err("/id".to_owned()), "nothing decodes the members of JSON");
}

#[test]
fn a_fault_in_the_data_has_its_place_in_the_envelope() {
    let mut event = wrapped(&sample());
    event["data"]["subject"]["content"]["artifactId"] = json!("");
    assert_eq!(structured(&event), Err("/data/subject/content/artifactId".to_owned()));
    event["data"] = json!("text");
    assert_eq!(structured(&event), Err("/data".to_owned()));
    event.as_object_mut().expect("an object").remove("data");
    assert_eq!(structured(&event), Err("/data".to_owned()));
}

#[test]
fn data_may_be_base64() {
    let mut event = wrapped(&sample());
    let data = event.as_object_mut().expect("an object").remove("data").expect("data");
    event["data_base64"] = json!(STANDARD.encode(data.to_string()));
    assert_eq!(structured(&event), structured(&wrapped(&sample())));
    event["data_base64"] = json!("%");
    assert_eq!(structured(&event), Err("/data_base64".to_owned()));
}

#[test]
fn a_header_that_occurs_twice_is_rejected() {
    let event = wrapped(&sample());
    let twice = attributes(&event).into_iter().chain([("id", "other".to_owned())]);
    let data = sample().to_string();
    let error = read_binary(twice, data.as_bytes(), &Settings::default()).expect_err("twice");
    assert_eq!(error.pointer, "/id");
}

#[test]
fn the_events_of_a_batch_are_read_independently() {
    let mut bad = wrapped(&sample());
    bad["data"]["context"]["id"] = json!("other");
    let batch = json!([wrapped(&sample()), bad, 5]).to_string();
    let results = read_batch(batch.as_bytes(), 3, &Settings::default()).expect("a batch");
    let pointers: Vec<_> =
        results.into_iter().map(|result| result.map(only).err().map(|error| error.pointer)).collect();
    assert_eq!(pointers, [None, Some("/1/id".to_owned()), Some("/2".to_owned())]);
    assert!(read_batch(batch.as_bytes(), 2, &Settings::default()).is_err());
    assert!(read_batch(b"{}", 2, &Settings::default()).is_err());
}

#[test]
fn a_batch_may_be_larger_than_one_event() {
    let events: Vec<Value> = (0..500).map(|_| wrapped(&sample())).collect();
    let batch = Value::Array(events).to_string();
    assert!(batch.len() > 400_000);
    let results = read_batch(batch.as_bytes(), 500, &Settings::default()).expect("a batch");
    assert!(results.iter().all(Result::is_ok));
}

#[test]
fn a_type_tells_a_cdevent_from_others() {
    assert!(is_cdevent("dev.cdevents.service.deployed.0.3.0") && is_cdevent("dev.cdeventsx.a-b.c.0.1.0"));
    assert!(!is_cdevent("io.releaseledger.deploy.succeeded.v1") && !is_cdevent("dev.cdevents"));
}
