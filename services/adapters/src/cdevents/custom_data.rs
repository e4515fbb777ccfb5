//! The data of an event beside the specification: the keys of `customData` that the ledger reads.

use ledger_domain::ShortText;
use serde_json::{Map, Value};

use super::json::{member, type_phrase};
use crate::translation::NotUnderstood;

/// The place of the data.
pub(super) const AT: &str = "/customData";

/// The person or workload that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedActor {
    /// `person`, `workload`, or another type; `user` if the message names none.
    pub(super) kind: String,
    /// The name.
    pub(super) name: String,
}

/// The data of an event beside the specification. Data in another format than JSON has no keys.
#[derive(Debug, Clone, Default)]
pub(super) struct CustomData(Map<String, Value>);

impl CustomData {
    /// Creates the data from the value in the message: an object, or a string of other data in base64.
    pub(super) fn new(value: Option<&Value>) -> Result<Self, NotUnderstood> {
        match value {
            None | Some(Value::String(_)) => Ok(Self::default()),
            Some(Value::Object(object)) => Ok(Self(object.clone())),
            Some(other) => {
                let detail = format!("must be an object or a base64 string, not {}", type_phrase(other));
                Err(NotUnderstood::new(AT, detail))
            }
        }
    }

    /// Returns all keys.
    pub(super) const fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the text of a key. A whole number is text; what is absent, `null` or blank is none.
    ///
    /// # Errors
    /// The value is of another type. A number with a fraction is rejected: 1.10 would become 1.1.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, NotUnderstood> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
            Some(Value::Number(_)) => Err(invalid(key, "must be a string, not a number with a fraction")),
            Some(other) => Err(invalid(key, format!("must be a string, not {}", type_phrase(other)))),
        }
    }

    /// Returns the text of a key that names the subject of an event: a service, a slot, a target, a version.
    ///
    /// # Errors
    /// As for [`Self::text`]; or the text is blank. That is the form of a variable that is not set: taken as absent, a
    /// deploy to a slot would be one to the lane, and a check of a service one of the whole environment.
    pub(super) fn scope(&self, key: &str) -> Result<Option<String>, NotUnderstood> {
        match self.0.get(key).and_then(Value::as_str) {
            Some(text) if text.trim().is_empty() => {
                Err(invalid(key, "must not be blank; leave it out, or send null"))
            }
            _ => self.text(key),
        }
    }

    /// Returns the text of a key that names the subject of an event, parsed.
    ///
    /// # Errors
    /// As for [`Self::scope`]; or the text cannot be parsed.
    pub(super) fn parsed_scope<T, E: ToString>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, NotUnderstood> {
        let text = self.scope(key)?;
        text.map(|text| parse(&text).map_err(|error| invalid(key, error.to_string()))).transpose()
    }

    /// Returns the text of a key, parsed.
    ///
    /// # Errors
    /// The value is of another type, or cannot be parsed.
    pub(super) fn parsed<T, E: ToString>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, NotUnderstood> {
        let text = self.text(key)?;
        text.map(|text| parse(&text).map_err(|error| invalid(key, error.to_string()))).transpose()
    }

    /// Returns the text of a key as a line of text.
    ///
    /// # Errors
    /// The value is of another type, or is not a line of text.
    pub(super) fn line(&self, key: &str) -> Result<Option<ShortText>, NotUnderstood> {
        self.parsed(key, ShortText::parse)
    }

    /// Returns the actor: a name, or an object of `type` and `name`. An unusable one is none: it only informs.
    pub(super) fn actor(&self) -> Option<NamedActor> {
        let line = |value: &Value| Some(ShortText::parse(value.as_str()?).ok()?.as_str().to_owned());
        match self.0.get("actor")? {
            Value::Object(actor) => Some(NamedActor {
                kind: actor.get("type").map_or(Some("user".to_owned()), line)?,
                name: line(actor.get("name")?)?,
            }),
            name => Some(NamedActor { kind: "user".to_owned(), name: line(name)? }),
        }
    }
}

/// Returns the fault of a key.
pub(super) fn invalid(key: &str, detail: impl Into<String>) -> NotUnderstood {
    NotUnderstood::new(member(AT, key), detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> CustomData {
        CustomData::new(Some(&value)).expect("custom data")
    }

    #[test]
    fn a_key_is_text_a_whole_number_or_absent() {
        let data = data(json!({"a": "x", "b": 4711, "c": null, "d": " ", "e": 1.1, "f": true, "g": {}}));
        assert_eq!(data.text("a"), Ok(Some("x".to_owned())));
        assert_eq!(data.text("b"), Ok(Some("4711".to_owned())));
        for absent in ["c", "d", "z"] {
            assert_eq!(data.text(absent), Ok(None), "{absent}");
        }
        for invalid in ["e", "f", "g"] {
            assert_eq!(data.text(invalid).expect_err(invalid).pointer, format!("/customData/{invalid}"));
        }
    }

    #[test]
    fn an_actor_is_a_name_or_an_object() {
        let actor = |value| {
            data(json!({ "actor": value })).actor().map(|actor| format!("{}:{}", actor.kind, actor.name))
        };
        assert_eq!(actor(json!("ada")).as_deref(), Some("user:ada"));
        assert_eq!(actor(json!({"type": "person", "name": "ada"})).as_deref(), Some("person:ada"));
        assert_eq!(actor(json!({"name": "ada"})).as_deref(), Some("user:ada"));
        for unusable in
            [json!(null), json!(""), json!(5), json!({"type": "person"}), json!({"type": 1, "name": "a"})]
        {
            assert_eq!(actor(unusable.clone()), None, "{unusable}");
        }
    }

    #[test]
    fn data_is_an_object_or_a_string() {
        assert!(CustomData::new(None).is_ok());
        assert!(CustomData::new(Some(&json!("YQ=="))).is_ok_and(|data| data.members().is_empty()));
        for invalid in [json!([]), json!(1), json!(null)] {
            assert_eq!(CustomData::new(Some(&invalid)).expect_err("invalid").pointer, "/customData");
        }
    }
}
