//! Events in the ledger's own format, and what is stored.

use bytes::Bytes;
use ledger_codec::cloudevents::{
    self, Envelope, MAX_EVENT_BYTES, Origin, StoredEntry, check_secrets, decode_header, parse_policy,
    policy_json,
};
use ledger_codec::{gzip, secrets};
use ledger_domain::ShortText;
use serde_json::Value;

use crate::choices::Choices;
use crate::{edit, samples};

/// Parses a new event. What is accepted has canonical bytes that mean the same.
pub(crate) fn event(choices: &mut Choices<'_>) {
    let json = edit::document(samples::events(), choices);
    let envelope = check_event(&json);
    let checked = check_secrets(&json);
    if has_secret(&json) {
        assert!(
            checked.is_err() && envelope.is_none(),
            "a secret is accepted: {}",
            String::from_utf8_lossy(&json)
        );
    }
    check_shown(&format!("{checked:?} {:?}", Envelope::parse(&json).err()), &json);
}

/// Returns true if a text or a member's name in valid JSON is a well-known secret.
pub(crate) fn has_secret(json: &[u8]) -> bool {
    fn is_in(value: &Value) -> bool {
        match value {
            Value::String(text) => secrets::find(text).is_some(),
            Value::Array(items) => items.iter().any(is_in),
            Value::Object(members) => {
                members.iter().any(|(name, value)| secrets::find(name).is_some() || is_in(value))
            }
            _ => false,
        }
    }
    serde_json::from_slice(json).is_ok_and(|value| is_in(&value))
}

/// Checks that an error quotes no secret of the message.
pub(crate) fn check_shown(error: &str, json: &[u8]) {
    let secret = secrets::find(error);
    assert!(secret.is_none(), "{error} quotes {secret:?} of {}", String::from_utf8_lossy(json));
}

/// Checks the properties of every new event.
pub(crate) fn check_event(json: &[u8]) -> Option<Envelope> {
    let envelope = Envelope::parse(json).map_err(|error| error.to_string()).ok()?;
    let shown = String::from_utf8_lossy(json);
    let bytes = envelope.bytes();
    assert!(bytes.len() <= MAX_EVENT_BYTES, "an event of {} bytes: {shown}", bytes.len());
    assert_eq!(Envelope::parse(bytes).as_ref(), Ok(&envelope), "another event after a second parse: {shown}");
    assert_eq!(Envelope::stored(bytes.clone()).as_ref(), Ok(&envelope), "another event when stored: {shown}");
    let entry = StoredEntry::parse(bytes.clone());
    assert!(matches!(&entry, StoredEntry::Event(stored) if **stored == envelope), "{entry:?}: {shown}");
    assert_eq!(&cloudevents::content_of(bytes), envelope.content(), "{shown}");
    check_composed(&envelope, &shown);
    check_binary(&envelope, json);
    Some(envelope)
}

/// Checks that the event itself, encoded again, means the same.
fn check_composed(envelope: &Envelope, shown: &str) {
    let (identity, at) = (envelope.identity().clone(), envelope.occurred_at());
    // The composed form may have more bytes: it writes defaults.
    let Ok(composed) = Envelope::compose(identity, at, envelope.event().clone()) else { return };
    let stored = Envelope::stored(composed.bytes().clone());
    let stored = stored.unwrap_or_else(|error| panic!("a composed event cannot be read: {error}: {shown}"));
    assert_eq!(stored.event(), envelope.event(), "{shown}");
    assert_eq!(stored.identity(), envelope.identity(), "{shown}");
    assert_eq!(stored.occurred_at(), envelope.occurred_at(), "{shown}");
}

/// Checks that an event whose attributes are all texts has the same bytes in binary mode.
fn check_binary(envelope: &Envelope, json: &[u8]) {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(json) else { return };
    members.retain(|_, value| !value.is_null());
    let Some(data) = members.remove("data") else { return };
    if members.values().all(Value::is_string) {
        let attributes =
            members.iter().map(|(name, value)| (&**name, value.as_str().unwrap_or_default().to_owned()));
        let binary = Envelope::from_parts(attributes, data.to_string().as_bytes());
        assert_eq!(binary.as_ref(), Ok(envelope), "binary mode: {}", String::from_utf8_lossy(json));
    }
}

/// Classifies bytes of a stream.
pub(crate) fn stored_entry(choices: &mut Choices<'_>) {
    let bytes = Bytes::from(edit::document(samples::events(), choices));
    let entry = StoredEntry::parse(bytes.clone());
    assert_eq!(entry, StoredEntry::parse(bytes.clone()), "two meanings of {bytes:?}");
    if let StoredEntry::Event(envelope) = entry {
        assert_eq!(envelope.bytes(), &bytes, "stored bytes never change");
        let content = cloudevents::content_of(&bytes);
        assert_eq!(&content, envelope.content(), "{bytes:?}");
        let _ = (envelope.origin(), envelope.content_without_content_type());
        let _ = (envelope.correlation(), envelope.causation());
    }
}

/// Splits a batch. Its parts are those that another parser sees.
pub(crate) fn batch(choices: &mut Choices<'_>) {
    let json = Bytes::from(edit::document(samples::batches(), choices));
    let limit = choices.below(5);
    let Ok(parts) = Envelope::split_batch(&json, limit) else { return };
    let parts: Vec<Bytes> = parts.collect();
    assert!(parts.len() <= limit, "{} parts, and at most {limit} are allowed", parts.len());
    if let Ok(Value::Array(items)) = serde_json::from_slice::<Value>(&json) {
        let parsed = parts.iter().map(|part| serde_json::from_slice::<Value>(part).expect("a part is JSON"));
        assert_eq!(parsed.collect::<Vec<_>>(), items);
    }
    for part in parts {
        check_event(&part);
    }
}

/// Decodes an attribute from a header, and looks for secrets in it.
pub(crate) fn attribute(choices: &mut Choices<'_>) {
    let text = edit::text(
        &["Euro%20%E2%82%AC", "\"a \\\"b\\\" c\"", "run-4711", "AKIAIOSFODNN7", "eyJhbGciOi"],
        choices,
    );
    let decoded = decode_header(&text);
    assert_eq!(decoded, decode_header(&text));
    if !text.contains(['%', '"', '\\']) {
        assert_eq!(decoded.as_ref(), Ok(&text));
    }
    assert_eq!(secrets::find(&text), secrets::find(&text));
    let _ = secrets::find_in_name(&text);
}

/// Parses a policy. What is accepted means the same when written.
pub(crate) fn policy(choices: &mut Choices<'_>) {
    let json = edit::document(samples::policies(), choices);
    if let Ok(policy) = parse_policy(&json) {
        let written = policy_json(&policy);
        let shown = String::from_utf8_lossy(&json);
        assert_eq!(parse_policy(&written), Ok(policy), "{shown}: {}", String::from_utf8_lossy(&written));
    }
}

/// Reads the message that is kept in an event, and what stands in its place in a damaged one.
pub(crate) fn origin(choices: &mut Choices<'_>) {
    let Ok(envelope) = Envelope::parse(choices.pick(samples::events()).to_string().as_bytes()) else {
        return;
    };
    let format = ShortText::parse("hook:github/deployment").expect("a text");
    let message = choices.slice();
    let Ok(translated) = envelope.clone().translated_from(&Origin::new(format, message)) else { return };
    assert_eq!(translated.content(), envelope.content());
    let origin = translated.origin().expect("the origin was added");
    assert_eq!(origin.bytes.as_deref(), Some(message));
    assert_eq!(Envelope::stored(translated.bytes().clone()), Ok(translated.clone()));

    let stored = serde_json::from_slice(translated.bytes()).expect("an event is JSON");
    let damaged = Bytes::from(edit::document(&[stored], choices));
    if let StoredEntry::Event(envelope) = StoredEntry::parse(damaged) {
        let _ = envelope.origin();
    }
}

/// Unpacks bytes within a limit.
pub(crate) fn packed(choices: &mut Choices<'_>) {
    let limit = choices.below(2000);
    let bytes = choices.rest();
    let packed = gzip::compress(bytes);
    let expected = (bytes.len() <= limit).then_some(bytes);
    assert_eq!(gzip::decompress(&packed, limit).as_deref(), expected);
    let unpacked = gzip::decompress(bytes, limit);
    assert!(unpacked.is_none_or(|unpacked| unpacked.len() <= limit));
}
