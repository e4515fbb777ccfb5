//! A quarantine on a JetStream stream, `QUARANTINE_<tenant>`, with a subject for each key and one message for each
//! subject.
//!
//! A message is replaced and never deleted, so that the service needs no permission to delete messages, which NATS
//! cannot limit to some streams. The stream is created with the first message, and again if an operator deletes it. Its own
//! limits are twice those of [`crate::Quarantine`]: in a full stream of three replicas, a server accepts no message, also
//! not the one that replaces another.

use std::time::Duration;

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, RawMessageError, RawMessageErrorKind, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use bytes::Bytes;
use ledger_domain::TenantName;

use super::Settings;
use super::append::{ApiError, PubAck, STORE_FAILED};
use super::stream::is_not_found;
use crate::microseconds;
use crate::quarantine::{QuarantineError, QuarantineItem, QuarantineUsage};
use crate::subject::token;

/// Time after which a message expires.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Maximum size of the stream in bytes.
const MAX_BYTES: i64 = 512 * 1024 * 1024;
/// Maximum number of messages.
const MAX_MESSAGES: i64 = 200_000;

/// Error codes: the last message of the subject is not the expected one, or another message for it is in progress.
const WRONG_LAST_SEQUENCE: [u64; 2] = [10_071, 10_164];

/// A tenant's quarantine on JetStream.
#[derive(Debug)]
pub struct JetStreamQuarantine {
    client: Client,
    request_timeout: Duration,
    context: Context,
    name: String,
    subject: String,
    replicas: usize,
}

impl JetStreamQuarantine {
    pub(super) fn new(client: Client, context: Context, tenant: &TenantName, settings: &Settings) -> Self {
        let name = format!("QUARANTINE_{}", tenant.as_str().replace('.', "="));
        let subject = format!("quarantine.{}", token(tenant.as_str()));
        Self {
            client,
            request_timeout: settings.request_timeout,
            context,
            name,
            subject,
            replicas: settings.stream.replicas,
        }
    }

    fn config(&self) -> Config {
        Config {
            name: self.name.clone(),
            description: Some("Messages for a release ledger that could not be understood.".into()),
            subjects: vec![format!("{}.*", self.subject)],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_age: MAX_AGE,
            max_bytes: MAX_BYTES,
            max_messages: MAX_MESSAGES,
            max_messages_per_subject: 1,
            num_replicas: self.replicas,
            deny_delete: true,
            deny_purge: true,
            allow_direct: true,
            allow_message_ttl: true,
            ..Config::default()
        }
    }

    /// Returns a handle to the stream, which may not exist.
    async fn stream(&self) -> Result<Stream<()>, QuarantineError> {
        self.context.get_stream_no_info(&self.name).await.map_err(unavailable)
    }

    /// Stores content, until it expires after `ttl` if one is given.
    pub(crate) async fn put(
        &self,
        key: &str,
        content: Bytes,
        expected: Option<u64>,
        ttl: Option<Duration>,
    ) -> Result<u64, QuarantineError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.name.as_str());
        if let Some(expected) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        if let Some(ttl) = ttl {
            headers.insert("Nats-TTL", format!("{}s", ttl.as_secs()));
        }
        let subject = format!("{}.{key}", self.subject);
        let request = || {
            let request = Request::new().headers(headers.clone()).payload(content.clone());
            self.client.send_request(subject.clone(), request.timeout(Some(self.request_timeout)))
        };
        let reply = match request().await {
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                self.context.create_stream(self.config()).await.map_err(unavailable)?;
                request().await
            }
            reply => reply,
        };
        let reply = reply.map_err(unavailable)?;
        let ack: PubAck = serde_json::from_slice(&reply.payload).map_err(unavailable)?;
        match ack.error {
            None => Ok(ack.seq),
            Some(error) => Err(put_error(&error)),
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<QuarantineItem>, QuarantineError> {
        let subject = format!("{}.{key}", self.subject);
        found(self.stream().await?.raw_message_builder().last_by_subject(subject).send().await)
    }

    pub(crate) async fn next(&self, after: u64) -> Result<Option<QuarantineItem>, QuarantineError> {
        let (stream, subject) = (self.stream().await?, format!("{}.*", self.subject));
        found(stream.raw_message_builder().sequence(after + 1).next_by_subject(subject).send().await)
    }

    pub(crate) async fn usage(&self) -> Result<QuarantineUsage, QuarantineError> {
        match self.context.get_stream(&self.name).await {
            Ok(stream) => {
                let state = &stream.cached_info().state;
                Ok(QuarantineUsage { messages: state.messages, bytes: state.bytes })
            }
            Err(error) if is_not_found(&error.kind()) => Ok(QuarantineUsage::default()),
            Err(error) => Err(unavailable(error)),
        }
    }
}

/// Returns the item of a message; `None` if there is no such message, or no stream.
fn found(message: Result<StreamMessage, RawMessageError>) -> Result<Option<QuarantineItem>, QuarantineError> {
    match message {
        Ok(message) => Ok(Some(item(message))),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            _ => Err(unavailable(error)),
        },
    }
}

fn item(message: StreamMessage) -> QuarantineItem {
    let key = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
    QuarantineItem {
        key,
        version: message.sequence,
        stored_at: microseconds(message.time),
        content: message.payload,
    }
}

fn put_error(error: &ApiError) -> QuarantineError {
    let text = format!("{} ({})", error.description, error.err_code);
    match error.err_code {
        code if WRONG_LAST_SEQUENCE.contains(&code) => QuarantineError::Changed,
        STORE_FAILED => QuarantineError::Full(text),
        _ => QuarantineError::Unavailable(text),
    }
}

fn unavailable(error: impl ToString) -> QuarantineError {
    QuarantineError::Unavailable(error.to_string())
}
