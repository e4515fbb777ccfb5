//! Values of events: constants, and values that are taken from a delivery.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::hooks::time;
use crate::translation::NotUnderstood;

/// A value of an event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Template {
    /// The value itself.
    Constant(Value),
    /// A value of the delivery.
    Reference(Reference),
    /// Texts, one after the other.
    Concat(Vec<Template>),
    /// An array.
    Array(Vec<Template>),
    /// An object.
    Object(BTreeMap<String, Template>),
}

/// A value of the delivery.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Its place, an RFC 6901 pointer.
    pub pointer: String,
    /// The value if it is absent or null.
    pub default: Option<Value>,
    /// Replacements by its text.
    pub map: Option<BTreeMap<String, Value>>,
    /// Its conversion.
    #[serde(rename = "as")]
    pub conversion: Option<Conversion>,
}

/// A conversion of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conversion {
    /// An integer or a boolean to a text.
    Text,
    /// Seconds since 1970 to a time.
    Unix,
    /// Milliseconds since 1970 to a time.
    UnixMs,
}

impl TryFrom<Value> for Template {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => {
                items.into_iter().map(Self::try_from).collect::<Result<_, _>>().map(Self::Array)
            }
            Value::Object(members) if members.contains_key("pointer") => {
                let reference: Reference =
                    serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())?;
                check_pointer(&reference.pointer)?;
                Ok(Self::Reference(reference))
            }
            Value::Object(members) if members.contains_key("concat") => {
                match (members.len(), members.get("concat")) {
                    (1, Some(Value::Array(parts))) => {
                        parts.iter().cloned().map(Self::try_from).collect::<Result<_, _>>().map(Self::Concat)
                    }
                    _ => Err("concat is an array, and has no other members beside it".to_owned()),
                }
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| Ok((name, Self::try_from(value)?)));
                members.collect::<Result<_, String>>().map(Self::Object)
            }
            constant => Ok(Self::Constant(constant)),
        }
    }
}

/// Checks the syntax of an RFC 6901 pointer.
pub(super) fn check_pointer(pointer: &str) -> Result<(), String> {
    if pointer.is_empty() || pointer.starts_with('/') {
        Ok(())
    } else {
        Err(format!("the pointer {pointer:?} must start with /"))
    }
}

impl Template {
    /// Returns the value for a delivery; `None` if it is left out.
    pub(in crate::hooks) fn value(&self, body: &Value) -> Result<Option<Value>, NotUnderstood> {
        match self {
            Self::Constant(value) => Ok(Some(value.clone()).filter(|value| !value.is_null())),
            Self::Reference(reference) => reference.value(body),
            Self::Concat(parts) => {
                let texts: Result<Option<Vec<_>>, _> =
                    parts.iter().map(|part| part.text(body)).collect::<Result<_, _>>();
                Ok(texts?.map(|texts| Value::String(texts.concat())))
            }
            Self::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.extend(item.value(body)?);
                }
                Ok(Some(Value::Array(values)))
            }
            Self::Object(members) => {
                let mut values = Map::new();
                for (name, member) in members {
                    if let Some(value) = member.value(body)? {
                        values.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(values))
                    .filter(|value| value.as_object().is_some_and(|it| !it.is_empty())))
            }
        }
    }

    /// Returns the value as a text; `None` if it is left out. An integer is written in digits. A number with a fraction is
    /// no text: 1.10 and 1.1 are one number, and two versions.
    pub(in crate::hooks) fn text(&self, body: &Value) -> Result<Option<String>, NotUnderstood> {
        self.value(body)?.map(|value| as_text(&value, self.place())).transpose()
    }

    fn place(&self) -> &str {
        match self {
            Self::Reference(reference) => &reference.pointer,
            _ => "",
        }
    }
}

impl Reference {
    fn value(&self, body: &Value) -> Result<Option<Value>, NotUnderstood> {
        let found = body.pointer(&self.pointer).filter(|value| !value.is_null());
        let Some(found) = found else { return Ok(self.default.clone()) };
        if let Some(map) = &self.map {
            let text = as_text(found, &self.pointer)?;
            let replaced = map.get(&text).or(self.default.as_ref());
            return replaced.cloned().map(Some).ok_or_else(|| {
                let text: String = text.chars().take(64).collect();
                NotUnderstood::new(self.pointer.as_str(), format!("{text:?} is not in the map of the rule"))
            });
        }
        match self.conversion {
            None => Ok(Some(found.clone())),
            Some(Conversion::Text) => as_text(found, &self.pointer).map(|text| Some(Value::String(text))),
            Some(unit) => {
                let number = found.as_i64();
                let at = match unit {
                    Conversion::UnixMs => number.and_then(DateTime::from_timestamp_millis),
                    _ => number.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
                };
                let at = at.ok_or_else(|| {
                    NotUnderstood::new(self.pointer.as_str(), "must be an integer: a time since 1970")
                })?;
                Ok(Some(Value::String(time::format(at))))
            }
        }
    }
}

fn as_text(value: &Value, pointer: &str) -> Result<String, NotUnderstood> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        _ => Err(NotUnderstood::new(pointer, "must be a text, an integer or a boolean")),
    }
}
