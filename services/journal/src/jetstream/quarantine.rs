//! A quarantine on a JetStream stream, `QUARANTINE_<tenant>`, with a subject for each key and one message for each
//! subject.
//!
//! A message is replaced and never deleted, so that the service needs no permission to delete messages, which NATS
//! cannot limit to some streams. The stream is created with the first message, and refuses messages when it is full: the
//! sender has to send them again.

use std::time::Duration;

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, RawMessageErrorKind, RetentionPolicy, StorageType, Stream,
};
use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use ledger_domain::TenantName;
use tokio::sync::OnceCell;

use super::Settings;
use super::append::{ApiError, PubAck, STORE_FAILED};
use super::stream::is_not_found;
use crate::microseconds;
use crate::quarantine::{QuarantineError, QuarantineItem, QuarantineUsage};
use crate::subject::token;

/// Time after which a message expires.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Maximum size of the stream in bytes.
const MAX_BYTES: i64 = 256 * 1024 * 1024;
/// Maximum number of messages.
const MAX_MESSAGES: i64 = 100_000;

/// Error code: the last message of the subject is not the expected one.
const WRONG_LAST_SEQUENCE: u64 = 10_071;

/// A tenant's quarantine on JetStream.
#[derive(Debug)]
pub struct JetStreamQuarantine {
    client: Client,
    request_timeout: Duration,
    context: Context,
    name: String,
    subject: String,
    replicas: usize,
    stream: OnceCell<Stream>,
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
            stream: OnceCell::new(),
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

    /// Returns the stream; `None` if it does not exist.
    async fn existing(&self) -> Result<Option<&Stream>, QuarantineError> {
        let found = self
            .stream
            .get_or_try_init(|| async {
                match self.context.get_stream(&self.name).await {
                    Ok(stream) => Ok(stream),
                    Err(error) if is_not_found(&error.kind()) => Err(None),
                    Err(error) => Err(Some(unavailable(error))),
                }
            })
            .await;
        match found {
            Ok(stream) => Ok(Some(stream)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    async fn create(&self) -> Result<(), QuarantineError> {
        let created = self.stream.get_or_try_init(|| self.context.create_stream(self.config())).await;
        created.map(drop).map_err(unavailable)
    }

    /// Stores content, until it expires after `ttl` if one is given.
    pub(crate) async fn put(
        &self,
        key: &str,
        content: Bytes,
        expected: Option<u64>,
        ttl: Option<Duration>,
    ) -> Result<u64, QuarantineError> {
        if self.existing().await?.is_none() {
            self.create().await?;
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.name.as_str());
        if let Some(expected) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        if let Some(ttl) = ttl {
            headers.insert("Nats-TTL", format!("{}s", ttl.as_secs()));
        }
        let subject = format!("{}.{key}", self.subject);
        let request = Request::new().headers(headers).payload(content).timeout(Some(self.request_timeout));
        let reply = self.client.send_request(subject, request).await.map_err(unavailable)?;
        let ack: PubAck = serde_json::from_slice(&reply.payload).map_err(unavailable)?;
        match ack.error {
            None => Ok(ack.seq),
            Some(error) => Err(put_error(&error)),
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<QuarantineItem>, QuarantineError> {
        let Some(stream) = self.existing().await? else { return Ok(None) };
        let subject = format!("{}.{key}", self.subject);
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(item(message))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    pub(crate) async fn next(&self, after: u64) -> Result<Option<QuarantineItem>, QuarantineError> {
        let Some(stream) = self.existing().await? else { return Ok(None) };
        match stream.get_first_raw_message_by_subject(format!("{}.*", self.subject), after + 1).await {
            Ok(message) => Ok(Some(item(message))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    pub(crate) async fn usage(&self) -> Result<QuarantineUsage, QuarantineError> {
        let Some(stream) = self.existing().await? else { return Ok(QuarantineUsage::default()) };
        let state = stream.get_info().await.map_err(unavailable)?.state;
        Ok(QuarantineUsage { messages: state.messages, bytes: state.bytes })
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
        WRONG_LAST_SEQUENCE => QuarantineError::Changed,
        STORE_FAILED => QuarantineError::Full(text),
        _ => QuarantineError::Unavailable(text),
    }
}

fn unavailable(error: impl ToString) -> QuarantineError {
    QuarantineError::Unavailable(error.to_string())
}
