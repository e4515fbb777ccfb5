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
