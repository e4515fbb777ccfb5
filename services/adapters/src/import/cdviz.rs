//! Rows of a cdviz lake: the columns `id`, `timestamp` and `payload` with a CDEvent, as CSV or one JSON object a line.
//!
//! Only the CDEvent is translated; the other columns belong to the lake.

use serde_json::Value;

use super::imported::{Collector, Imported};
use super::json_stream::items;
use super::records::Records;
use crate::translation::{NotUnderstood, Translation};

/// Translates exported rows. `read_cdevent` translates a bare CDEvent.
pub fn read(
    file: &str,
    mut read_cdevent: impl FnMut(&[u8]) -> Result<Translation, NotUnderstood>,
) -> Imported {
    let mut collector = Collector::default();
    if file.trim_start().starts_with(['{', '[']) {
        for (row, item) in (1..).zip(items(file)) {
            match item.and_then(payload_of) {
                Ok(payload) => collector.add(row, read_cdevent(payload.as_bytes())),
                Err(detail) => collector.problem(row, detail),
            }
        }
    } else {
        read_table(file, &mut collector, read_cdevent);
    }
    collector.finish()
}

/// Returns the CDEvent of a row in JSON: an object, or a text that contains one.
fn payload_of(row: Value) -> Result<String, String> {
    match row {
        Value::Object(mut members) => match members.remove("payload") {
            Some(Value::String(text)) => Ok(text),
            Some(payload @ Value::Object(_)) => Ok(payload.to_string()),
            _ => Err("the row has no payload with a CDEvent".to_owned()),
        },
        _ => Err("the row is no object".to_owned()),
    }
}

fn read_table(
    file: &str,
    collector: &mut Collector,
    mut read_cdevent: impl FnMut(&[u8]) -> Result<Translation, NotUnderstood>,
) {
    let mut records = Records::new(file, b',');
    let payload = match records.headers() {
        Ok(headers) => headers.iter().position(|name| name == "payload"),
        Err(error) => return collector.problem(1, format!("the header row cannot be read: {error}")),
    };
    let Some(payload) = payload else {
        return collector.problem(1, "the header row has no column payload");
    };
    while let Some((row, record)) = records.next() {
        match record {
            Ok(record) => {
                collector.add(row, read_cdevent(record.get(payload).unwrap_or_default().as_bytes()));
            }
            Err(detail) => collector.problem(row, detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger_codec::cloudevents::Envelope;
    use serde_json::json;

    use super::*;
    use crate::translation::NativeEvent;

    /// Stands in for the reader of CDEvents.
    fn read_cdevent(message: &[u8]) -> Result<Translation, NotUnderstood> {
        let fault = |detail: String| NotUnderstood::new("", detail);
        let message: Value = serde_json::from_slice(message).map_err(|error| fault(error.to_string()))?;
        let context = &message["context"];
        let Value::Object(event) = json!({
            "specversion": "1.0", "id": context["id"], "source": context["source"], "time": context["timestamp"],
            "type": "io.releaseledger.deploy.succeeded.v1",
            "data": { "environment": "production", "service": "web", "release": { "version": "v1" } },
        }) else {
            return Err(fault("no object".to_owned()));
        };
        Envelope::translated(Value::Object(event.clone()).to_string().as_bytes())
            .map_err(|error| NotUnderstood::new("/context", error.to_string()))?;
        Ok(Translation::Events(vec![NativeEvent(event)]))
    }

    fn cdevent(id: &str) -> Value {
        let context = json!({ "id": id, "source": "/ci", "timestamp": "2026-08-01T12:00:00Z" });
        json!({ "context": context, "note": "a \"b\", c\nd" })
    }

    fn rows(file: &str) -> (Vec<(u64, String)>, Vec<u64>) {
        let imported = read(file, read_cdevent);
        let id = |event: &NativeEvent| event.0["id"].as_str().unwrap_or_default().to_owned();
        let events = imported.events.iter().map(|event| (event.row, id(&event.event))).collect();
        (events, imported.problems.iter().map(|note| note.row).collect())
    }

    #[test]
    fn rows_in_json_have_their_cdevent_as_an_object_or_as_text() {
        let lines = [
            json!({ "id": 1, "timestamp": "2026-08-01T12:00:01Z", "payload": cdevent("a") }),
            json!({ "id": 2, "payload": cdevent("b").to_string() }),
            json!({ "id": 3, "payload": null }),
            json!({ "id": 4, "payload": {} }),
            json!({ "id": 9, "payload": cdevent("a") }),
        ];
        let file: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let expected = (vec![(1, "a".to_owned()), (2, "b".to_owned())], vec![3, 4]);
        assert_eq!(rows(&file), expected);
        assert_eq!(rows(&Value::from(lines.to_vec()).to_string()), expected);
    }

    #[test]
    fn the_reader_of_cdevents_reads_the_payload() {
        let payload = json!({
            "context": {
                "version": "0.4.1", "id": "a1", "source": "/ci", "type": "dev.cdevents.service.deployed.0.2.0",
                "timestamp": "2026-08-01T12:00:00Z",
            },
            "subject": {
                "id": "web", "type": "service",
                "content": { "environment": { "id": "production" }, "artifactId": "pkg:generic/web@1.2.3" },
            },
        });
        let file = json!({ "id": 1, "timestamp": "2026-08-01T12:00:01Z", "payload": payload }).to_string();
        let settings = crate::cdevents::Settings::default();
        let imported = read(&file, |message| crate::cdevents::read(message, &settings));
        assert!(imported.problems.is_empty(), "{:?}", imported.problems);
        let event = &imported.events[0].event.0;
        assert_eq!(event["type"], "io.releaseledger.deploy.succeeded.v1");
        assert_eq!((&event["source"], &event["id"]), (&json!("/ci"), &json!("a1")));
    }

    #[test]
    fn rows_in_csv_have_their_cdevent_quoted() {
        let quoted = |id: &str| format!("\"{}\"", cdevent(id).to_string().replace('"', "\"\""));
        let file = format!(
            "id,timestamp,payload\r\n1,x,{}\r\n2,x,not json\r\n3,{}\r\n4,x,{}\r\n",
            quoted("a"),
            quoted("b"),
            quoted("c")
        );
        assert_eq!(rows(&file), (vec![(2, "a".to_owned()), (5, "c".to_owned())], vec![3, 4]));
        assert_eq!(rows("id,timestamp\n1,x\n"), (vec![], vec![1]));
        assert_eq!(rows(""), (vec![], vec![1]));
    }
}
