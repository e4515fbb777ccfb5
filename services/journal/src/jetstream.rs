//! The journal on a NATS JetStream stream.
//!
//! Invariant: nothing outside this module knows NATS. Nothing here purges or deletes a stream, and nothing
//! updates one but `restore`, which fills a fresh one.
//!
//! On three nodes the stream's leader answers. One that was halted or cut off, and deposed meanwhile, may
//! answer once more before it learns of it, and then it lacks the newest entries. So what a server *has*
//! is believed, and what it *has not* needs a proof: that the same server knows of what comes after it
//! (`JetStreamJournal::is_gone`). A gap is for ever, and is never told of on less.

mod append;
mod append_expecting;
mod read;
mod restore;
mod server;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, RawMessageError, RawMessageErrorKind, Stream};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use ledger_domain::{Position, TenantName};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    AppendError, Entry, Head, Journal, NewEntry, Outcome, ReadError, Record, Subject, SubjectFilter, Until,
    microseconds,
};

pub use restore::{RestoreError, Restoring};
pub use server::{ServerVersion, VersionError};
pub use stream::StreamSettings;

/// Answers come to subjects that begin with this: a user may be allowed to hear its own only.
const INBOX: &str = "_INBOX_LEDGER";
/// A server that answers no ping for three times as long is given up, and another one is looked for. It may
/// be halted, or its host may be gone without a word: nothing else would tell. One that is merely busy may
/// take a second or two to answer.
const PING: Duration = Duration::from_secs(2);
/// How long a server may take to greet: a halted one never does.
const GREETING: Duration = Duration::from_secs(2);
/// Waits in milliseconds before a head is asked for again that is older than one which was told before.
const STEP_BACK_PAUSES: [u64; 5] = [10, 40, 100, 200, 400];

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
    /// The stream is being restored: it does not yet have all that it is to have.
    #[error("the stream {stream} is being restored: run the restore to its end, or remove the stream")]
    Restoring {
        /// The stream.
        stream: String,
    },
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
    /// How often it broke.
    breaks: watch::Receiver<u64>,
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
        let (broke, breaks) = watch::channel(0);
        let client = options
            .name("release-ledger")
            .custom_inbox_prefix(INBOX)
            .ping_interval(PING)
            .connection_timeout(GREETING)
            .request_timeout(Some(settings.request_timeout))
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected) {
                    broke.send_modify(|breaks| *breaks += 1);
                }
                async move {
                    match event {
                        Event::Connected => info!("connected to NATS"),
                        Event::Closed => info!("no longer connected to NATS"),
                        // A violated permission shows itself as nothing but a timeout elsewhere.
                        other => warn!(event = %other, "NATS connection"),
                    }
                }
            })
            .connect(addresses)
            .await
            .map_err(|source| OpenError::Connect { url: without_credentials(url), source })?;
        ServerVersion::parse(&client.server_info().version)?.check(settings.stream.replicas)?;
        Ok(Self { client, settings, breaks })
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
        let context = self.context();
        let stream = stream::open(&context, &tenant, &self.settings.stream).await?;
        self.journal_on(context, tenant, &stream)
    }

    /// Opens a tenant's journal if its stream is there, and makes none.
    ///
    /// # Errors
    /// The stream that is there does not fit, or JetStream does not answer.
    pub async fn existing_journal(&self, tenant: TenantName) -> Result<Option<JetStreamJournal>, OpenError> {
        let context = self.context();
        let found = stream::find(&context, &tenant, &self.settings.stream).await?;
        found.map(|stream| self.journal_on(context, tenant, &stream)).transpose()
    }

    fn context(&self) -> Context {
        let mut context = async_nats::jetstream::new(self.client.clone());
        context.set_timeout(self.settings.request_timeout);
        context
    }

    fn journal_on(
        &self,
        context: Context,
        tenant: TenantName,
        stream: &Stream,
    ) -> Result<JetStreamJournal, OpenError> {
        let info = stream.cached_info();
        ServerVersion::parse(&self.client.server_info().version)?.check(info.config.num_replicas)?;
        Ok(JetStreamJournal {
            client: self.client.clone(),
            context,
            name: info.config.name.clone(),
            tenant,
            settings: self.settings.stream.clone(),
            request_timeout: self.settings.request_timeout,
            created: microseconds(info.created),
            seen: Arc::default(),
            breaks: self.breaks.clone(),
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
    settings: StreamSettings,
    request_timeout: Duration,
    /// When the stream was made that was opened: another one of its name is another journal.
    created: DateTime<Utc>,
    /// The last position that is known to be given away.
    seen: Arc<AtomicU64>,
    breaks: watch::Receiver<u64>,
}

impl JetStreamJournal {
    async fn stream(&self) -> Result<Stream<()>, ReadError> {
        // Else a question would wait for a server that may never come back.
        if !self.is_connected() {
            return Err(ReadError("there is no connection to NATS".into()));
        }
        self.context.get_stream_no_info(&self.name).await.map_err(unreadable)
    }

    /// What is answered, unless the connection breaks on which it was asked: then no answer comes any more, and
    /// to wait for one until the time is up would keep everybody waiting for a server that is gone.
    async fn ask<T>(&self, asked: impl Future<Output = T>) -> Result<T, ReadError> {
        let mut breaks = self.breaks.clone();
        breaks.mark_unchanged();
        tokio::select! {
            biased;
            answer = asked => Ok(answer),
            Ok(()) = breaks.changed() => Err(ReadError("the connection to NATS broke".into())),
        }
    }

    async fn info(&self) -> Result<Info, ReadError> {
        self.ask(self.stream().await?.get_info()).await?.map_err(unreadable)
    }

    fn saw(&self, position: Position) {
        self.seen.fetch_max(position.get(), Ordering::Relaxed);
    }

    /// Whether nothing is left from one position up to another, and never will be: one answer says both that
    /// the last of them was given away and that all of them are empty. A server that only lags behind
    /// cannot say so.
    async fn is_gone(&self, first: Position, last: Position) -> Result<bool, ReadError> {
        let stream = self.stream().await?;
        let info = self.ask(stream.info_builder().with_deleted(true).fetch()).await?;
        let state = info.map_err(unreadable)?.info.state;
        let (first, last) = (first.get().max(state.first_sequence), last.get());
        if state.last_sequence < last {
            return Ok(false);
        }
        let deleted = state.deleted.unwrap_or_default();
        let empty = deleted.iter().filter(|sequence| (first..=last).contains(*sequence)).count();
        Ok(empty as u64 == (last + 1).saturating_sub(first))
    }

    /// The first entry at or after a position that a filter matches, as the stream's leader knows it.
    async fn first_from(&self, position: Position, filter: &Subject) -> Result<Option<Entry>, ReadError> {
        let stream = self.stream().await?;
        let request = stream.raw_message_builder().sequence(position.get()).next_by_subject(filter.as_str());
        Ok(found(self.ask(request.send()).await?)?.map(entry_of))
    }

    /// The message at a position, as the stream's leader knows it.
    async fn message(&self, position: Position) -> Result<Option<StreamMessage>, ReadError> {
        if position == Position::START {
            return Ok(None);
        }
        let stream = self.stream().await?;
        found(self.ask(stream.get_raw_message(position.get())).await?)
    }
}

fn entry_of(message: StreamMessage) -> Entry {
    Entry {
        position: Position::new(message.sequence),
        recorded_at: restore::recorded_at(Some(&message.headers), message.time),
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
    async fn append(&self, new_entries: &[NewEntry]) -> Vec<Result<Outcome, AppendError>> {
        let answers = append::append(self, new_entries).await;
        answers.iter().flatten().for_each(|outcome| self.saw(outcome.position()));
        answers
    }

    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError> {
        let answer = append_expecting::append_expecting(self, new_entry, head).await;
        answer.iter().for_each(|outcome| self.saw(outcome.position()));
        answer
    }

    async fn head(&self) -> Result<Head, ReadError> {
        let mut pauses = STEP_BACK_PAUSES.into_iter();
        loop {
            let seen = self.seen.load(Ordering::Relaxed);
            let info = self.info().await?;
            let position = Position::new(info.state.last_sequence);
            let head = Head { position, created: microseconds(info.created) };
            if head.created != self.created {
                return Ok(head);
            }
            if position.get() >= seen {
                self.saw(position);
                return Ok(head);
            }
            // A deposed leader, or a journal that has lost its end. Only the second keeps saying so.
            let Some(pause) = pauses.next() else {
                let _ =
                    self.seen.compare_exchange(seen, position.get(), Ordering::Relaxed, Ordering::Relaxed);
                return Ok(head);
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn config_drift(&self) -> Result<Vec<String>, ReadError> {
        Ok(stream::config_drift(&self.tenant, &self.settings, &self.info().await?.config))
    }

    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError> {
        Ok(self.message(position).await?.map(entry_of))
    }

    fn read(
        &self,
        scope: SubjectFilter,
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
