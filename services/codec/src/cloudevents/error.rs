//! The errors of parsing an event, with the place of the fault.

use ledger_domain::Kind;

use crate::ijson;

/// The maximum size of an event in canonical form, in bytes: C2SP tlog-tiles prefixes an entry with its length in 16
/// bits.
pub const MAX_EVENT_BYTES: usize = 65_535;

/// The rejection of an event, with the event's identity if it could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidEvent {
    /// The event's id, if it is a readable string; cut to 512 characters.
    pub id: Option<String>,
    /// The event's source, if it is a readable string; cut to 512 characters.
    pub source: Option<String>,
    /// The reason for the rejection.
    #[source]
    pub reason: Reason,
}

/// The reason for rejecting an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The event is not JSON.
    #[error("the event {0}")]
    NotJson(String),
    /// The event is JSON that two parsers could read differently, or that nests too deep.
    #[error("the event {0}")]
    NotIJson(String),
    /// The event is larger than [`MAX_EVENT_BYTES`].
    #[error("the event has {0} bytes; the maximum is {MAX_EVENT_BYTES} bytes in canonical form")]
    TooLarge(usize),
    /// The event's type is unknown.
    #[error("{0}")]
    UnknownType(String),
    /// The event's data has a version that was introduced after this program was built.
    #[error("{kind} version {version} is not supported, only versions up to {known}; upgrade the ledger")]
    Newer {
        /// The kind of the event.
        kind: Kind,
        /// The version of its data.
        version: usize,
        /// The latest version that this program supports.
        known: usize,
    },
    /// A value in the event is missing or invalid.
    #[error("{pointer}: {detail}")]
    Value {
        /// The place of the value, as an RFC 6901 JSON pointer.
        pointer: String,
        /// The fault of the value.
        detail: String,
    },
}

impl Reason {
    pub(crate) fn value(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::Value { pointer: pointer.into(), detail: detail.to_string() }
    }
}

impl From<ijson::Error> for Reason {
    fn from(error: ijson::Error) -> Self {
        match error {
            ijson::Error::Syntax(_) => Self::NotJson(error.to_string()),
            _ => Self::NotIJson(error.to_string()),
        }
    }
}

impl From<Reason> for InvalidEvent {
    fn from(reason: Reason) -> Self {
        Self { id: None, source: None, reason }
    }
}
