//! Splits a JSON array of events without parsing the events.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The reason why a body is not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The body is not a JSON array.
    #[error("the batch is not a JSON array: {0}")]
    NotAnArray(String),
    /// The array has more events than allowed.
    #[error("the batch has more than {0} events")]
    TooMany(usize),
}

/// Returns the elements of an array. Stops at the limit, so that a body of many tiny elements takes no more memory than
/// its own bytes.
pub(super) fn split(json: &[u8], limit: usize) -> Result<Vec<&RawValue>, BatchError> {
    let too_many = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let elements = Elements { limit, too_many: &too_many }.deserialize(&mut deserializer);
    elements.and_then(|elements| deserializer.end().map(|()| elements)).map_err(|error| {
        if too_many.get() { BatchError::TooMany(limit) } else { BatchError::NotAnArray(error.to_string()) }
    })
}

struct Elements<'c> {
    limit: usize,
    too_many: &'c Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element()? {
            if elements.len() == self.limit {
                self.too_many.set(true);
                return Err(serde::de::Error::custom("too many"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
