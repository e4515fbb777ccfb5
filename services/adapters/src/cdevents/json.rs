//! Strict JSON: a message that two parsers could read differently is rejected.

use std::fmt;

use ledger_codec::cloudevents::{self, MAX_EVENT_BYTES, Reason};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::translation::NotUnderstood;

/// The maximum size of a message in bytes.
const MAX_MESSAGE_BYTES: usize = MAX_EVENT_BYTES * 4;

/// Parses a message that is an object. Rejects well-known secrets first, so that no other error repeats one.
pub(super) fn parse_object(message: &[u8]) -> Result<Map<String, Value>, NotUnderstood> {
    if message.len() > MAX_MESSAGE_BYTES {
        let detail = format!("has {} bytes; the maximum is {MAX_MESSAGE_BYTES} bytes", message.len());
        return Err(NotUnderstood::new("", detail));
    }
    check_secrets(message)?;
    match parse(message)? {
        Value::Object(object) => Ok(object),
        other => Err(NotUnderstood::new("", format!("must be an object, not {}", type_phrase(&other)))),
    }
}

/// Parses JSON of any type and size.
pub(super) fn parse(message: &[u8]) -> Result<Value, NotUnderstood> {
    let mut deserializer = serde_json::Deserializer::from_slice(message);
    let value = Strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| NotUnderstood::new("", format!("is not valid JSON: {error}")))
}

/// Checks that JSON contains no well-known secret: what the ledger records is permanent.
pub(super) fn check_secrets(json: &[u8]) -> Result<(), NotUnderstood> {
    cloudevents::check_secrets(json).map_err(|reason| rejected("", reason))
}

/// Returns the rejection by the codec as one of the message, with the place below `at`.
pub(super) fn rejected(at: &str, reason: Reason) -> NotUnderstood {
    match reason {
        Reason::Value { pointer, detail } => NotUnderstood::new(format!("{at}{pointer}"), detail),
        other => NotUnderstood::new(at, other.to_string()),
    }
}

/// Returns the type of a value with its article.
pub(super) const fn type_phrase(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Returns the JSON pointer to a member of the object at a pointer.
pub(super) fn member(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[derive(Clone, Copy)]
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if object.contains_key(&name) {
                // The name may be a secret, which no error repeats.
                return Err(de::Error::custom("an object has a member twice"));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_occurs_twice_is_rejected() {
        let error = parse(br#"{"outcome": "failure", "outcome": "success"}"#).expect_err("twice");
        assert!(error.detail.contains("a member twice at line 1"), "{error}");
    }

    #[test]
    fn what_is_not_one_json_object_is_rejected() {
        for text in ["", "{", "{} {}", "[]", "null", "\"a\"", "{\"a\": 1e999}", "\u{feff}{}"] {
            assert!(parse_object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse_object(&[b'{', 0xff, b'}']).is_err());
        assert!(parse_object(&vec![b'['; 100_000]).is_err());
        assert!(parse_object(&vec![b' '; MAX_MESSAGE_BYTES + 1]).is_err());
    }
}
