//! Documents in JSON.

use std::fmt;
use std::rc::Rc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Node;

/// Maximum depth of collections in collections.
const NESTING_LIMIT: usize = 128;

/// The members of an object in order, repeated ones included.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Parses a document.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    node(text, NESTING_LIMIT).map_err(|error| format!("the file is not JSON: {error}"))
}

fn node(text: &str, depth: usize) -> Result<Node, String> {
    let depth = depth.checked_sub(1).ok_or("too many levels")?;
    let parse_error = |error: serde_json::Error| error.to_string();
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(parse_error)?;
            let members = members.into_iter();
            let members = members.map(|(name, value)| Ok((name, Rc::new(node(value.get(), depth)?))));
            Ok(Node::Mapping(members.collect::<Result<_, String>>()?))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(parse_error)?;
            let items = items.into_iter().map(|value| Ok(Rc::new(node(value.get(), depth)?)));
            Ok(Node::Sequence(items.collect::<Result<_, String>>()?))
        }
        Some(b'"') => {
            Ok(Node::Scalar { text: serde_json::from_str(text).map_err(parse_error)?, is_bare: false })
        }
        _ => {
            let value: &RawValue = serde_json::from_str(text).map_err(parse_error)?;
            match value.get() {
                "null" => Ok(Node::Null),
                spelling => Ok(Node::Scalar { text: spelling.to_owned(), is_bare: true }),
            }
        }
    }
}
