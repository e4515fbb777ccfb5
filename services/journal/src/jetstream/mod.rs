//! The journal on a NATS JetStream stream.
//!
//! Invariant: nothing here updates, purges or deletes a stream, and nothing outside this module
//! knows NATS.

mod append;
mod append_at;
mod read;
mod server;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use futures::stream::BoxStream;
use ledger_domain::{Position, TenantName};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use crate::{
    AppendError, Entry, Head, Journal, Outcome, ReadError, Record, Scope, Subject, Submission, Until,
    microseconds,
};

pub use server::{ServerVersion, VersionError};
pub use stream::StreamSettings;

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the servers are: `nats://host:4222`, several separated by commas.
    pub url: SecretString,
    /// A file with the account's credentials (`.creds`), where the servers want them.
    pub credentials: Option<PathBuf>,
    /// A file with the certificates (PEM) that the servers' are checked against, besides the system's.
    pub certificates: Option<PathBuf>,
    /// How long one request may take, before its outcome is unknown.
    pub request_timeout: Duration,
    /// How the stream is made.
    pub stream: StreamSettings,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers.
    #[error("no NATS server answers at {url}")]
    Connect {
        /// Where, without credentials.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The addresses cannot be read.
    #[error("the journal's URL cannot be read: {0}")]
    Url(std::io::Error),
    /// The credentials cannot be read.
    #[error("the credentials of the journal cannot be read from {path}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server does not do what a ledger needs.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// JetStream does not answer.
    #[error("JetStream does not answer for the stream {stream}: {reason}")]
    JetStream {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
    /// There is no such stream.
    #[error("there is no stream {0}")]
    Absent(String),
    /// A stream of this name exists and is not one that a ledger can be kept in.
    #[error("the stream {stream} exists and does not fit: {}", differences.join("; "))]
    Mismatch {
        /// The stream.
        stream: String,
        /// What differs.
        differences: Vec<String>,
    },
}

/// A connection that the journals of several tenants share.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    settings: Settings,
}

impl Connection {
    /// Connects, and refuses a server that is too old.
    ///
    /// # Errors
    /// Nobody answers, or the server's version does not fit.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let url = settings.url.expose_secret();
        let addresses: Vec<ServerAddr> = url
            .split(',')
            .map(|address| address.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(OpenError::Url)?;
        let mut options = ConnectOptions::new();
        // The client reads hosts from its addresses and leaves what stands before the @.
        if let Some(address) = addresses.iter().find(|address| address.has_user_pass()) {
            let (user, password) = (address.username(), address.password());
            options = options.user_and_password(
                user.unwrap_or_default().to_owned(),
                password.unwrap_or_default().to_owned(),
            );
        }
        if let Some(path) = &settings.credentials {
            let read = options.credentials_file(path).await;
            options = read.map_err(|source| OpenError::Credentials { path: path.clone(), source })?;
        }
        if let Some(path) = &settings.certificates {
            options = options.add_root_certificates(path.clone());
        }
        let client = options
            .name("release-ledger")
            .request_timeout(Some(settings.request_timeout))
            .event_callback(|event| async move {
                match event {
                    Event::Connected => info!("connected to NATS"),
                    Event::Closed => info!("no longer connected to NATS"),
                    // A violated permission shows itself as nothing but a timeout elsewhere.
                    other => warn!(event = %other, "NATS connection"),
                }
            })
            .connect(addresses)
            .await
            .map_err(|source| OpenError::Connect { url: without_credentials(url), source })?;
        ServerVersion::parse(&client.server_info().version)?.check(settings.stream.replicas)?;
        Ok(Self { client, settings })
    }

    /// Whether a server is there now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Opens a tenant's journal; makes its stream if there is none.
    ///
    /// # Errors
    /// The stream that is there does not fit, or JetStream does not answer.
    pub async fn journal(&self, tenant: TenantName) -> Result<JetStreamJournal, OpenError> {
        self.open_journal(tenant, true).await
    }

    /// Opens a tenant's journal that is there already.
    ///
    /// # Errors
    /// There is none, it does not fit, or JetStream does not answer.
    pub async fn existing_journal(&self, tenant: TenantName) -> Result<JetStreamJournal, OpenError> {
        self.open_journal(tenant, false).await
    }

    async fn open_journal(&self, tenant: TenantName, may_make: bool) -> Result<JetStreamJournal, OpenError> {
        let mut context = async_nats::jetstream::new(self.client.clone());
        context.set_timeout(self.settings.request_timeout);
        let stream = stream::open(&context, &tenant, &self.settings.stream, may_make).await?;
        Ok(JetStreamJournal {
            client: self.client.clone(),
            context,
            name: stream.cached_info().config.name.clone(),
            tenant,
            request_timeout: self.settings.request_timeout,
        })
    }
}

fn without_credentials(url: &str) -> String {
    let strip = |one: &str| match (one.split_once("://"), one.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => one.to_owned(),
    };
    url.split(',').map(strip).collect::<Vec<_>>().join(",")
}

/// One tenant's journal.
#[derive(Clone)]
pub struct JetStreamJournal {
    client: Client,
    context: Context,
    name: String,
    tenant: TenantName,
    request_timeout: Duration,
}

impl JetStreamJournal {
    async fn stream(&self) -> Result<Stream<()>, ReadError> {
        // Else a question would wait for a server that may never come back.
        if !self.is_connected() {
            return Err(ReadError("there is no connection to NATS".into()));
        }
        self.context.get_stream_no_info(&self.name).await.map_err(unreadable)
    }

    /// The first entry at or after a position that a filter matches, as the stream's leader knows it.
    async fn first_from(&self, position: Position, filter: &Subject) -> Result<Option<Entry>, ReadError> {
        let stream = self.stream().await?;
        let request = stream.raw_message_builder().sequence(position.get()).next_by_subject(filter.as_str());
        Ok(found(request.send().await)?.map(entry_of))
    }

    /// The message at a position, as the stream's leader knows it.
    async fn message(&self, position: Position) -> Result<Option<StreamMessage>, ReadError> {
        if position == Position::START {
            return Ok(None);
        }
        found(self.stream().await?.get_raw_message(position.get()).await)
    }
}

fn entry_of(message: StreamMessage) -> Entry {
    Entry {
        position: Position::new(message.sequence),
        recorded_at: microseconds(message.time),
        bytes: message.payload,
    }
}

fn found(message: Result<StreamMessage, RawMessageError>) -> Result<Option<StreamMessage>, ReadError> {
    match message {
        Ok(message) => Ok(Some(message)),
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

fn unreadable(error: impl std::error::Error) -> ReadError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // async-nats prints the source in some of its errors and not in others.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    ReadError(text)
}

#[async_trait]
impl Journal for JetStreamJournal {
    async fn append(&self, submissions: &[Submission]) -> Vec<Result<Outcome, AppendError>> {
        append::append(self, submissions).await
    }

    async fn append_at(&self, submission: &Submission, head: Position) -> Result<Outcome, AppendError> {
        append_at::append_at(self, submission, head).await
    }

    async fn head(&self) -> Result<Head, ReadError> {
        let info = self.stream().await?.get_info().await.map_err(unreadable)?;
        Ok(Head { position: Position::new(info.state.last_sequence), created: microseconds(info.created) })
    }

    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError> {
        Ok(self.message(position).await?.map(entry_of))
    }

    fn read(
        &self,
        scope: Scope,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        read::read(self.clone(), scope, after, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_told() {
        assert_eq!(
            without_credentials("nats://ledger:secret@a:4222,nats://b:4222"),
            "nats://a:4222,nats://b:4222"
        );
    }
}
