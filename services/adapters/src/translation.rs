//! The result of translating a foreign message.

use std::fmt;

use serde_json::{Map, Value};

/// An event in the ledger's native format: a CloudEvent in structured JSON, whose `data` follows `schemas/events`.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeEvent(pub Map<String, Value>);

/// The meaning of a message for the ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Translation {
    /// The events to record, in order; at least one.
    Events(Vec<NativeEvent>),
    /// The message was understood, and the ledger records nothing for it, for this reason.
    Ignored(String),
    /// Only a part of the message was understood. The rest is quarantined.
    Partial(Box<PartialTranslation>),
}

/// The meaning of a message of which only a part can be understood.
#[derive(Debug, Clone, PartialEq)]
pub struct PartialTranslation {
    /// The events of what was understood, in order; none if the ledger records nothing for it.
    pub events: Vec<NativeEvent>,
    /// Body of a message that contains only what cannot be understood, with the same headers.
    pub rest: Vec<u8>,
    /// The first fault, with its place in `rest`.
    pub fault: NotUnderstood,
}

/// The reason for which an authentic message cannot be understood. The message is quarantined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotUnderstood {
    /// JSON pointer (RFC 6901) to the fault in the message; empty for the message itself.
    pub pointer: String,
    /// The fault, and what to do.
    pub detail: String,
}

impl std::error::Error for NotUnderstood {}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.detail),
            pointer => write!(f, "{pointer}: {}", self.detail),
        }
    }
}

impl NotUnderstood {
    /// Creates the reason from the place of the fault and its description.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}
