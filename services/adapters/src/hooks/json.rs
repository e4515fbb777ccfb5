//! A reader of foreign JSON that reports the place of a fault.
//!
//! A member that is `null` is absent, and so is a text that is empty: senders use them alike. Members that the reader
//! is not asked for are tolerated.

use serde_json::Value;

use crate::translation::NotUnderstood;

/// A value in a message and its place, an RFC 6901 pointer.
#[derive(Debug, Clone)]
pub(super) struct Node<'v> {
    value: &'v Value,
    pointer: String,
}

impl<'v> Node<'v> {
    /// Creates the reader of a whole message.
    pub(super) const fn root(value: &'v Value) -> Self {
        Self { value, pointer: String::new() }
    }

    /// Creates the reader of a value that stands at another place than it has in its own document.
    pub(super) const fn at(value: &'v Value, pointer: String) -> Self {
        Self { value, pointer }
    }

    /// Returns the value.
    pub(super) const fn value(&self) -> &'v Value {
        self.value
    }

    /// Returns the place of a member.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }

    /// Returns a fault of this value.
    pub(super) fn fault(&self, detail: impl Into<String>) -> NotUnderstood {
        NotUnderstood::new(self.pointer.clone(), detail)
    }

    /// Returns a fault of a member.
    pub(super) fn fault_in(&self, name: &str, detail: impl Into<String>) -> NotUnderstood {
        NotUnderstood::new(self.place(name), detail)
    }

    /// Returns a member; `None` if it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Self { value, pointer: self.place(name) })
    }

    /// Returns a required object.
    pub(super) fn object(&self, name: &str) -> Result<Self, NotUnderstood> {
        self.optional_object(name)?.ok_or_else(|| self.fault_in(name, "is required, and must be an object"))
    }

    /// Returns an object that may be absent.
    pub(super) fn optional_object(&self, name: &str) -> Result<Option<Self>, NotUnderstood> {
        match self.get(name) {
            Some(node) if !node.value.is_object() => Err(node.wrong_type("an object")),
            node => Ok(node),
        }
    }

    /// Returns a required text, which is not empty.
    pub(super) fn text(&self, name: &str) -> Result<&'v str, NotUnderstood> {
        self.optional_text(name)?.ok_or_else(|| self.fault_in(name, "is required, and must be a text"))
    }

    /// Returns a text that may be absent, null or empty.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'v str>, NotUnderstood> {
        match self.get(name) {
            None => Ok(None),
            Some(node) => match node.value {
                Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.trim().is_empty())),
                _ => Err(node.wrong_type("a text")),
            },
        }
    }

    /// Returns a text that decorates an event, such as a URL; `None` if it is anything else.
    pub(super) fn hint(&self, name: &str) -> Option<&'v str> {
        self.value.get(name)?.as_str().filter(|text| !text.trim().is_empty())
    }

    /// Returns a required identifier: an integer or a text.
    pub(super) fn id(&self, name: &str) -> Result<String, NotUnderstood> {
        self.optional_id(name)?
            .ok_or_else(|| self.fault_in(name, "is required, and must be an integer or a text"))
    }

    /// Returns an identifier that may be absent: an integer or a text.
    pub(super) fn optional_id(&self, name: &str) -> Result<Option<String>, NotUnderstood> {
        match self.get(name) {
            None => Ok(None),
            Some(node) => match node.value {
                Value::String(text) if text.trim().is_empty() => Ok(None),
                Value::String(text) => Ok(Some(text.clone())),
                Value::Number(number) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
                _ => Err(node.wrong_type("an integer or a text")),
            },
        }
    }

    /// Returns a flag; false if it is absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, NotUnderstood> {
        match self.get(name) {
            None => Ok(false),
            Some(node) => node.value.as_bool().ok_or_else(|| node.wrong_type("true or false")),
        }
    }

    /// Returns the items of an array; none if it is absent.
    pub(super) fn items(&self, name: &str) -> Result<Vec<Self>, NotUnderstood> {
        let Some(node) = self.get(name) else { return Ok(Vec::new()) };
        let Some(items) = node.value.as_array() else { return Err(node.wrong_type("an array")) };
        let item = |(index, value)| Self { value, pointer: format!("{}/{index}", node.pointer) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Returns the fault of a value that has another type.
    fn wrong_type(&self, expected: &str) -> NotUnderstood {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.fault(format!("must be {expected}, not {found}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_and_empty_members_are_absent() {
        let message = json!({"a": null, "b": "", "c": " ", "d": "x"});
        let root = Node::root(&message);
        for name in ["a", "b", "c", "e"] {
            assert_eq!(root.optional_text(name), Ok(None), "{name}");
        }
        assert_eq!(root.text("d"), Ok("x"));
        assert_eq!(root.text("a").map_err(|error| error.pointer), Err("/a".to_owned()));
    }

    #[test]
    fn a_member_of_the_wrong_type_is_a_fault_at_its_place() {
        let message = json!({"a/b": {"c": [{"d": 1.5}]}});
        let root = Node::root(&message);
        let items = root.object("a/b").and_then(|node| node.items("c")).expect("an array");
        let error = items[0].id("d").expect_err("no identifier");
        assert_eq!(error.to_string(), "/a~1b/c/0/d: must be an integer or a text, not a number");
        assert_eq!(items[0].hint("d"), None);
    }

    #[test]
    fn an_identifier_is_an_integer_or_a_text() {
        let message = json!({"a": 18_446_744_073_709_551_615_u64, "b": "x"});
        let root = Node::root(&message);
        assert_eq!(root.id("a").as_deref(), Ok("18446744073709551615"));
        assert_eq!(root.id("b").as_deref(), Ok("x"));
    }
}
