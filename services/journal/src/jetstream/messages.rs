//! Messages that no stream stores: requests of publishers with their responses, and entries that are published to
//! subscribers.
//!
//! The subject of a request is `ingest.<tenant>.<publisher>`, and may have further parts. The permissions of NATS users tie
//! the publisher to a user. The requester chooses the subject of the response. A response must not reach JetStream or a
//! stream in the name of the service: it is sent to an inbox only, and the service's own user may send it only to the
//! subjects that the server makes up for requests of another account.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use ledger_domain::TenantName;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::{INBOX_PREFIX, read_error};
use crate::ReadError;
use crate::subject::token;

/// Name of the queue group in which the processes of the service share requests.
const QUEUE_GROUP: &str = "release-ledger";
/// Prefixes of the subjects to which responses are sent: inboxes, and what a server makes up for requests of another
/// account.
const REPLY_PREFIXES: [&str; 2] = ["_INBOX", "_R_."];

/// A message that a publisher sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerMessage {
    /// Part of the subject that the permissions tie to the publisher's user.
    pub publisher: String,
    /// Headers by name in lower case, without those of NATS itself. Values of a repeated header are joined.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Bytes,
}

impl BrokerMessage {
    /// Returns the message, or `None` if the subject names no publisher.
    pub(super) fn new(message: &async_nats::Message) -> Option<Self> {
        let publisher = message.subject.split('.').nth(2)?.to_owned();
        let mut headers = BTreeMap::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            let name = AsRef::<str>::as_ref(name).to_ascii_lowercase();
            if !name.starts_with("nats-") {
                let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
                headers.insert(name, values.join(", "));
            }
        }
        Some(Self { publisher, headers, body: message.payload.clone() })
    }

    /// Returns the bytes that the message takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + headers.sum::<usize>()
    }
}

/// Messages that publishers send to a tenant.
pub struct Requests {
    client: Client,
    subscriber: Subscriber,
}

impl Requests {
    pub(super) async fn subscribe(client: &Client, tenant: &TenantName) -> Result<Self, ReadError> {
        let subject = format!("ingest.{}.>", token(tenant.as_str()));
        let subscriber = client.queue_subscribe(subject, QUEUE_GROUP.to_owned()).await;
        Ok(Self { client: client.clone(), subscriber: subscriber.map_err(read_error)? })
    }

    /// Waits for the next message; `None` if the connection is closed. It can be cancelled without losing a message.
    pub async fn next(&mut self) -> Option<Request> {
        loop {
            let message = self.subscriber.next().await?;
            let Some(content) = BrokerMessage::new(&message) else { continue };
            let reply = message.reply.map(|reply| reply.to_string()).filter(|reply| is_inbox(reply));
            return Some(Request { content, client: self.client.clone(), reply });
        }
    }

    /// Stops further messages from arriving.
    pub async fn unsubscribe(&mut self) {
        if let Err(error) = self.subscriber.unsubscribe().await {
            debug!(%error, "cannot unsubscribe");
        }
    }
}

/// Returns true for a subject to which a response may be sent: none of a stream, of JetStream, or of the service's own
/// requests.
fn is_inbox(reply: &str) -> bool {
    REPLY_PREFIXES.iter().any(|prefix| reply.starts_with(prefix))
        && reply.split('.').next() != Some(INBOX_PREFIX)
}

/// A message whose publisher may wait for the response.
pub struct Request {
    content: BrokerMessage,
    client: Client,
    reply: Option<String>,
}

impl Request {
    /// Returns the message.
    #[must_use]
    pub const fn content(&self) -> &BrokerMessage {
        &self.content
    }

    /// Sends the response, if the publisher waits for one.
    pub async fn respond(self, content_type: &str, body: Bytes) {
        let Some(reply) = self.reply else { return };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type);
        if let Err(error) = self.client.publish_with_headers(reply, headers, body).await {
            debug!(%error, "cannot send a response; the publisher will send the message again");
        }
    }
}

/// A message for subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Parts of the subject, of which each becomes one part: a dot in it is escaped.
    pub subject: Vec<String>,
    /// Last parts of the subject, which dots separate.
    pub suffix: String,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Bytes,
}

impl Outgoing {
    fn subject(&self) -> String {
        let parts = self.subject.iter().map(|part| token(part));
        let parts: Vec<String> = parts.chain([self.suffix.clone()]).collect();
        parts.join(".")
    }
}

/// Publishes messages to those who are subscribed at the time. No stream stores them.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    disconnects: watch::Receiver<u64>,
    timeout: Duration,
    /// Subject of a request that changes nothing.
    probe: String,
}

impl Publisher {
    pub(super) fn new(
        client: Client,
        disconnects: watch::Receiver<u64>,
        timeout: Duration,
        stream: &str,
    ) -> Self {
        Self { client, disconnects, timeout, probe: format!("$JS.API.STREAM.INFO.{stream}") }
    }

    /// Publishes messages in order, and returns after a server has received all of them.
    ///
    /// # Errors
    /// There is no connection, or it was lost meanwhile: a part of the messages may be published.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), ReadError> {
        if self.client.connection_state() != async_nats::connection::State::Connected {
            return Err(ReadError("no connection to NATS".to_owned()));
        }
        let mut disconnects = self.disconnects.clone();
        disconnects.mark_unchanged();
        let connects = || self.client.statistics().connects.load(Ordering::Relaxed);
        let connection = connects();
        let published = async {
            for message in messages {
                let mut headers = HeaderMap::new();
                for (name, value) in &message.headers {
                    headers.insert(*name, value.as_str());
                }
                let published = self.client.publish_with_headers(message.subject(), headers, message.body);
                published.await.map_err(read_error)?;
            }
            // A flush empties only the buffer of the client. A server handles what a connection sends in order: once it
            // has responded over the same connection, it has the messages.
            self.client.request(self.probe.clone(), Bytes::new()).await.map_err(read_error)?;
            match connects() == connection {
                true => Ok(()),
                false => Err(ReadError("lost the connection to NATS".to_owned())),
            }
        };
        tokio::select! {
            biased;
            Ok(()) = disconnects.changed() => Err(ReadError("lost the connection to NATS".to_owned())),
            published = timeout(self.timeout, published) => {
                published.unwrap_or_else(|_| Err(ReadError("the connection to NATS does not take messages".to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Message;

    use super::*;

    fn message(subject: &str, headers: HeaderMap) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: Bytes::from_static(b"{}"),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_response_is_sent_to_inboxes_of_others_only() {
        for inbox in ["_INBOX.a.b", "_INBOX_ci.a", "_R_.abc.def"] {
            assert!(is_inbox(inbox), "{inbox}");
        }
        for other in
            ["ledger.default.production.web.deploy.succeeded", "$JS.API.STREAM.DELETE.LEDGER_default"]
        {
            assert!(!is_inbox(other), "{other}");
        }
        assert!(!is_inbox("_INBOX_LEDGER.a.b"), "the service's own requests");
    }

    #[test]
    fn the_third_part_of_the_subject_is_the_publisher() {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/json");
        headers.insert("Nats-Msg-Id", "1");
        headers.append("ce-note", "a");
        headers.append("ce-note", "b");

        let message =
            BrokerMessage::new(&message("ingest.default.ci.deploys.web", headers)).expect("a publisher");

        assert_eq!(message.publisher, "ci");
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [header("content-type", "application/json"), header("ce-note", "a, b")];
        assert_eq!(message.headers, BTreeMap::from(expected));
    }

    #[test]
    fn a_dot_in_a_name_does_not_split_the_subject() {
        let outgoing = Outgoing {
            subject: vec!["events".into(), "acme".into(), "prod.eu".into()],
            suffix: "deploy.succeeded".into(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        assert_eq!(outgoing.subject(), "events.acme.prod%2Eeu.deploy.succeeded");
    }
}
