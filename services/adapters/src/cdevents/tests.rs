//! Tests of CDEvents as a whole: samples of every type, effects, envelopes, and what is written.

mod effects;
mod envelopes;
mod faults;
mod official;
mod samples;
mod written;

use ledger_codec::cloudevents::Envelope;
use serde_json::{Value, json};

use super::{Settings, read};
use crate::translation::{NativeEvent, NotUnderstood, Translation};

const DIGEST: &str = "sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc";

/// Returns an event of specification 0.5.1.
fn event(name: &str, version: &str, subject_id: &str, content: &Value, custom: &Value) -> Value {
    json!({
        "context": {
            "specversion": "0.5.1",
            "id": "run-4711",
            "source": "https://ci.example/search-api",
            "type": format!("dev.cdevents.{name}.{version}"),
            "timestamp": "2026-08-01T12:10:02Z",
        },
        "subject": { "id": subject_id, "content": content },
        "customData": custom,
    })
}

fn read_value(message: &Value, settings: &Settings) -> Result<Value, NotUnderstood> {
    read(message.to_string().as_bytes(), settings).map(only)
}

/// Returns the only native event of a translation, which the ledger accepts.
fn only(translation: Translation) -> Value {
    let Translation::Events(events) = translation else { panic!("no event: {translation:?}") };
    let [NativeEvent(event)] = &events[..] else { panic!("not one event: {events:?}") };
    let event = Value::Object(event.clone());
    Envelope::translated(event.to_string().as_bytes()).expect("an event that the ledger accepts");
    event
}

/// Returns the short name of the kind of a native event.
fn kind(native: &Value) -> &str {
    let name = native["type"].as_str().expect("a type");
    name.strip_prefix("io.releaseledger.").and_then(|name| name.strip_suffix(".v1")).expect("a native type")
}
