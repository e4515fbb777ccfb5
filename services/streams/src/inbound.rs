//! Messages that arrive from a broker, and what became of each.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use ledger_domain::{Position, TenantName};

/// Form in which a message states its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents, in the structured, batched or binary mode that the headers state, or a CDEvent without a CloudEvent
    /// around it: as `POST /v1/events` accepts them.
    Events,
    /// The payload of the webhook with this name in the settings. Its signature is not checked: the broker authenticates
    /// the publisher.
    Hook(String),
}

/// Way by which messages arrive: it decides the ledger, the format, and in whose name they are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Tenant whose ledger records the events.
    pub tenant: TenantName,
    /// Format of the messages.
    pub format: Format,
    /// Broker, as the issuer of the publisher's identity: `release-ledger:kafka` or `release-ledger:nats`.
    pub issuer: &'static str,
    /// Publisher: the route's name in the settings, or the part of the subject that the broker's permissions tie to it.
    pub publisher: String,
}

/// A message as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundMessage {
    /// Headers by name in lower case. Attributes of a CloudEvent in binary mode have the prefix `ce-`, and the media type
    /// of the body is `content-type`, as in the HTTP binding, regardless of how the broker's binding names them. Their values are
    /// those of the broker's binding: percent-encoded from NATS, as in the HTTP binding, and not from Kafka.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Bytes,
}

/// Result of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// All its events are entries, recorded now or earlier, at these positions.
    Recorded(Vec<Position>),
    /// The ledger records nothing for it, for this reason.
    Ignored(String),
    /// It cannot be understood, or some of its events are not accepted: it is in quarantine.
    Quarantined {
        /// Id in the quarantine.
        id: String,
        /// Reason.
        detail: String,
    },
    /// It is not accepted and not kept: it is invalid, too large, contains a secret, or its publisher may not send it.
    Rejected {
        /// Slug of the problem, as in the API: `invalid-event`.
        problem: String,
        /// Reason.
        detail: String,
        /// True if the message contains a secret: no part of it may be copied.
        has_secret: bool,
    },
    /// Nothing, or not everything, is known to be recorded: deliver it again. Messages after it in the same batch are
    /// [`Receipt::Retry`] too, so that the order is kept.
    Retry(String),
}

impl Receipt {
    /// Returns true if the broker need not deliver the message again.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Retry(_))
    }
}

/// Records messages: the write path, as the brokers see it.
#[async_trait]
pub trait Receiver: Send + Sync + 'static {
    /// Records the events of the messages of one route in order, and returns a receipt for each message, in order.
    ///
    /// Events of consecutive messages are appended together. Once a message must be delivered again, no later message of
    /// the call is recorded.
    async fn receive(&self, route: &Route, messages: Vec<InboundMessage>) -> Vec<Receipt>;
}
