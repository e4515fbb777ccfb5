//! A JSON array of events, split before anything in it is read.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why a body is not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It is not a JSON array.
    #[error("the batch is not a JSON array: {0}")]
    NotAnArray(String),
    /// It has too many events.
    #[error("the batch has more than {0} events")]
    TooMany(usize),
}

/// The members of an array. What is beyond the limit is not kept, so that a body of many tiny members
/// costs no more than its own bytes.
pub(super) fn split(json: &[u8], limit: usize) -> Result<Vec<&RawValue>, BatchError> {
    let too_many = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = Members { limit, too_many: &too_many }.deserialize(&mut deserializer);
    members.and_then(|members| deserializer.end().map(|()| members)).map_err(|error| {
        if too_many.get() { BatchError::TooMany(limit) } else { BatchError::NotAnArray(error.to_string()) }
    })
}

struct Members<'c> {
    limit: usize,
    too_many: &'c Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = sequence.next_element()? {
            if members.len() == self.limit {
                self.too_many.set(true);
                return Err(serde::de::Error::custom("too many"));
            }
            members.push(member);
        }
        Ok(members)
    }
}
