//! Messages of brokers that state events as `POST /v1/events` accepts them: in structured, batched or binary mode, or as
//! a CDEvent without a CloudEvent around it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ledger_adapters::translation::NotUnderstood;
use ledger_codec::cloudevents::{BatchError, Envelope, InvalidEvent, MAX_EVENT_BYTES, Reason};

use crate::App;
use crate::foreign::{
    CDEVENTS_MEDIA_TYPE, Message, Unusable, check_message_secrets, is_bare_cdevent, is_cloudevent,
    parse_bare, parse_binary, parse_structured,
};
use crate::problem::{Kind, Problem};

/// Maximum size of a message with one event, in bytes. White space can make it longer than the event.
const EVENT_MESSAGE_LIMIT: usize = MAX_EVENT_BYTES * 4;

/// Form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Structured,
    Batch,
    Binary,
    /// A CDEvent without a CloudEvent around it.
    CdEvent,
}

/// Reads the events of a message. Returns those that are valid, and the first fault, if there is one.
///
/// # Errors
/// The message is too large, or contains a secret.
pub(crate) fn read_events(
    app: &App,
    message: &Message,
) -> Result<(Vec<Envelope>, Option<NotUnderstood>), Problem> {
    let body = &message.body;
    let limit = app.limits.batch_bytes.max(EVENT_MESSAGE_LIMIT);
    if body.len() > limit {
        return Err(Problem::new(Kind::TooLarge, format!("the message exceeds {limit} bytes")));
    }
    check_message_secrets(&message.headers, body).map_err(|secret| Problem::from(&secret))?;
    let event = match form(&message.headers, body) {
        Err(error) => return Ok((Vec::new(), Some(error))),
        Ok(Form::Batch) => return read_batch(app, body),
        Ok(Form::Structured) => parse_structured(app, body),
        Ok(Form::CdEvent) => parse_bare(app, body),
        Ok(Form::Binary) => match attributes(&message.headers) {
            Ok(attributes) => parse_binary(app, &attributes, body),
            Err(error) => return Ok((Vec::new(), Some(error))),
        },
    };
    match event {
        Ok(event) => Ok((vec![event], None)),
        Err(unusable) => Ok((Vec::new(), Some(fault(unusable)?))),
    }
}

fn read_batch(app: &App, body: &Bytes) -> Result<(Vec<Envelope>, Option<NotUnderstood>), Problem> {
    let parts = match Envelope::split_batch(body, app.limits.events) {
        Ok(parts) => parts,
        Err(error @ BatchError::TooMany(_)) => return Err(Problem::new(Kind::TooLarge, error)),
        Err(error @ BatchError::NotAnArray(_)) => {
            return Ok((Vec::new(), Some(NotUnderstood::new("", error.to_string()))));
        }
    };
    let parts: Vec<_> = parts.collect();
    for part in &parts {
        check_message_secrets(&BTreeMap::new(), part).map_err(|secret| Problem::from(&secret))?;
    }
    let (mut events, mut first_fault) = (Vec::new(), None);
    for (index, part) in parts.into_iter().enumerate() {
        match parse_structured(app, &part) {
            Ok(event) => events.push(event),
            Err(unusable) => {
                let NotUnderstood { pointer, detail } = fault(unusable)?;
                first_fault.get_or_insert(NotUnderstood { pointer: format!("/{index}{pointer}"), detail });
            }
        }
    }
    Ok((events, first_fault))
}

/// Returns the fault of an event, with its place.
///
/// # Errors
/// The event is too large.
fn fault(unusable: Unusable) -> Result<NotUnderstood, Problem> {
    match unusable {
        Unusable::NotUnderstood(foreign) => Ok(foreign.1),
        Unusable::Invalid(invalid @ InvalidEvent { reason: Reason::TooLarge(_), .. }) => {
            Err(Problem::from(&invalid))
        }
        Unusable::Invalid(InvalidEvent { reason: Reason::Value { pointer, detail }, .. }) => {
            Ok(NotUnderstood::new(pointer, detail))
        }
        Unusable::Invalid(invalid) => Ok(NotUnderstood::new("", invalid.to_string())),
    }
}

/// Returns the form that the media type states; without one, or as `application/json`, the form that the JSON has.
fn form(headers: &BTreeMap<String, String>, body: &[u8]) -> Result<Form, NotUnderstood> {
    let content_type = headers.get("content-type").map_or("", String::as_str);
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/cloudevents+json" => Ok(Form::Structured),
        "application/cloudevents-batch+json" => Ok(Form::Batch),
        CDEVENTS_MEDIA_TYPE => Ok(Form::CdEvent),
        "" | "application/json" if headers.contains_key("ce-specversion") => Ok(Form::Binary),
        "" | "application/json" if body.trim_ascii_start().first() == Some(&b'[') => Ok(Form::Batch),
        "" | "application/json" if is_cloudevent(body) => Ok(Form::Structured),
        "" | "application/json" if is_bare_cdevent(body) => Ok(Form::CdEvent),
        "" | "application/json" => {
            let detail = "is neither a CloudEvent nor a CDEvent: send a JSON object with specversion, id, source, type, \
                          time and data, or state the form in a header content-type";
            Err(NotUnderstood::new("", detail))
        }
        _ => {
            let detail = format!(
                "content type {media_type:?} is not supported; send application/cloudevents+json, \
                 application/cloudevents-batch+json, application/cdevents+json, or application/json with the attributes \
                 as ce- headers"
            );
            Err(NotUnderstood::new("", detail))
        }
    }
}

/// Returns the attributes of an event in binary mode: the `ce-` headers, and `content-type` as `datacontenttype`.
fn attributes(headers: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, NotUnderstood> {
    if headers.contains_key("ce-datacontenttype") {
        let detail = "ce-datacontenttype must be absent in binary mode: content-type states it";
        return Err(NotUnderstood::new("", detail));
    }
    let attribute = |(name, value): (&String, &String)| match name.strip_prefix("ce-") {
        Some(attribute) => Some((attribute.to_owned(), value.clone())),
        None => (name == "content-type").then(|| ("datacontenttype".to_owned(), value.clone())),
    };
    Ok(headers.iter().filter_map(attribute).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_of(content_type: Option<&str>, ce: bool, body: &str) -> Option<Form> {
        let mut headers = BTreeMap::new();
        if let Some(content_type) = content_type {
            headers.insert("content-type".to_owned(), content_type.to_owned());
        }
        if ce {
            headers.insert("ce-specversion".to_owned(), "1.0".to_owned());
        }
        form(&headers, body.as_bytes()).ok()
    }

    #[test]
    fn the_media_type_decides_the_form_and_without_one_the_object_does() {
        let (event, cdevent) =
            (r#"{"specversion":"1.0"}"#, r#"{"context":{"type":"dev.cdevents.service.deployed.0.2.0"}}"#);
        assert_eq!(
            form_of(Some("Application/CloudEvents+JSON; charset=utf-8"), true, ""),
            Some(Form::Structured)
        );
        assert_eq!(form_of(Some("application/cloudevents-batch+json"), false, "[]"), Some(Form::Batch));
        assert_eq!(form_of(Some("application/cdevents+json"), false, event), Some(Form::CdEvent));
        for json in [None, Some("application/json")] {
            assert_eq!(form_of(json, true, event), Some(Form::Binary), "{json:?}");
            assert_eq!(form_of(json, false, event), Some(Form::Structured), "{json:?}");
            assert_eq!(form_of(json, false, cdevent), Some(Form::CdEvent), "{json:?}");
            assert_eq!(form_of(json, false, "{}"), None, "{json:?}");
            assert_eq!(form_of(json, false, " [{}]"), Some(Form::Batch), "{json:?}");
        }
        assert_eq!(form_of(Some("text/plain"), true, event), None);
    }

    #[test]
    fn content_type_is_an_attribute_in_binary_mode_if_there_is_one() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = BTreeMap::from([header("ce-id", "1"), header("content-type", "application/json")]);
        let expected = vec![header("id", "1"), header("datacontenttype", "application/json")];
        assert_eq!(attributes(&headers), Ok(expected));
        let twice = BTreeMap::from([header("ce-datacontenttype", "application/json")]);
        assert!(attributes(&twice).is_err());
    }
}
