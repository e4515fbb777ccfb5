//! The journal on a NATS JetStream stream.
//!
//! Invariant: nothing outside this module depends on NATS. Nothing here purges or deletes a stream, and only
//! `restore`, which fills a fresh one, updates a stream.
//!
//! On three nodes the stream's leader answers. A leader that was paused or partitioned, and deposed meanwhile, may
//! answer once more before it learns of that, and then lacks the newest entries. So the presence of an entry is
//! trusted, but its absence needs proof: the same server must have something later, or report the positions as
//! deleted (`JetStreamJournal::is_permanently_empty`). A gap is permanent, and is never reported on less.

mod append;
mod append_expecting;
mod messages;
mod quarantine;
mod read;
mod restore;
mod server;
mod stream;
mod work_queue;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    AppendError, Entry, Head, Journal, KnownHistory, NewEntry, Outcome, ReadError, Record, Subject,
    SubjectFilter, Until, microseconds,
};

pub use messages::{BrokerMessage, Outgoing, Publisher, Request, Requests};
pub use quarantine::JetStreamQuarantine;
pub use restore::{RestoreError, RestoreSession};
pub use server::{ServerVersion, VersionError};
pub use stream::StreamSettings;
pub use work_queue::{QueuedMessage, WorkQueue};

/// Subject prefix of replies, so that a NATS user can be limited to its own inbox.
const INBOX_PREFIX: &str = "_INBOX_LEDGER";
/// Interval between pings. After three intervals without an answer the client reconnects to another server: a paused
/// server, or one on a vanished host, does not close the connection. A busy server may take a second or two.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum time for the handshake of a connection, which a paused server never completes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages that wait for each subscription of the connection of the journals. Only responses arrive over it.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;
/// Messages of others that wait for each subscription. The client drops further ones: their publishers get no response.
const MESSAGE_CAPACITY: usize = 256;
/// Maximum time for which a publisher waits until the connection takes its messages.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Delays in milliseconds before a head is read again that is older than one already seen.
const HEAD_RETRY_DELAYS_MS: [u64; 5] = [10, 40, 100, 200, 400];

/// Settings of a connection and of the streams that it opens.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Server URL: `nats://host:4222`, several separated by commas.
    pub url: SecretString,
    /// Credentials file (`.creds`) of the account, if the servers require one.
    pub credentials: Option<PathBuf>,
    /// File with root certificates (PEM) that are trusted instead of the system's. With it, connections use TLS only.
    pub certificates: Option<PathBuf>,
    /// Files of the certificate of this client and of its key (PEM). With it, connections use TLS only.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Maximum time for one request. After it the outcome is unknown.
    pub request_timeout: Duration,
    /// Settings of new streams.
    pub stream: StreamSettings,
}

/// Reason why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server accepts the connection.
    #[error("no NATS server answers at {url}")]
    Connect {
        /// Server URL, without credentials.
        url: String,
        /// The cause.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The URL is malformed.
    #[error("invalid NATS URL: {0}")]
    Url(std::io::Error),
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials file {path}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The server's version does not support what a ledger needs.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// JetStream does not answer, or rejects the request.
    #[error("JetStream request for the stream {stream} failed: {reason}")]
    JetStream {
        /// The stream.
        stream: String,
        /// The cause.
        reason: String,
    },
    /// The stream is being restored and is still incomplete.
    #[error("the stream {stream} is being restored; run the restore to its end, or remove the stream")]
    RestoreSession {
        /// The stream.
        stream: String,
    },
    /// A stream of this name exists, and its settings do not meet a ledger's requirements.
    #[error("the stream {stream} exists and its settings do not fit: {}", differences.join("; "))]
    Mismatch {
        /// The stream.
        stream: String,
        /// The settings that differ.
        differences: Vec<String>,
    },
}

/// A connection that the journals of several tenants share.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    settings: Settings,
    /// Number of disconnects so far.
    disconnects: watch::Receiver<u64>,
}

impl Connection {
    /// Connects, and checks the server's version.
    ///
    /// # Errors
    /// No server answers, or its version is too old.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(settings, SUBSCRIPTION_CAPACITY).await
    }

    /// Connects for messages of others, which must not delay the requests of the journals: over another connection, and
    /// with fewer messages in memory.
    ///
    /// # Errors
    /// As for [`Connection::open`].
    pub async fn open_for_messages(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(settings, MESSAGE_CAPACITY).await
    }

    async fn open_with(settings: Settings, capacity: usize) -> Result<Self, OpenError> {
        let url = settings.url.expose_secret();
        let addresses: Vec<ServerAddr> = url
            .split(',')
            .map(|address| address.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(OpenError::Url)?;
        let options = connect_options(&settings, &addresses).await?;
        let (disconnected, disconnects) = watch::channel(0);
        let client = options
            .name("release-ledger")
            .custom_inbox_prefix(INBOX_PREFIX)
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(settings.request_timeout))
            .subscription_capacity(capacity)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected) {
                    disconnected.send_modify(|count| *count += 1);
                }
                async move {
                    match event {
                        Event::Connected => info!("connected to NATS"),
                        Event::Closed => info!("disconnected from NATS"),
                        // A permission violation appears only here; the request itself just times out.
                        other => warn!(event = %other, "NATS connection event"),
                    }
                }
            })
            .connect(addresses)
            .await
            .map_err(|source| OpenError::Connect { url: without_credentials(url), source })?;
        ServerVersion::parse(&client.server_info().version)?.check(settings.stream.replicas)?;
        Ok(Self { client, settings, disconnects })
    }

    /// Returns true if the client is connected to a server now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Opens a tenant's journal, and creates its stream if it does not exist.
    ///
    /// # Errors
    /// The existing stream does not fit, or JetStream does not answer.
    pub async fn journal(&self, tenant: TenantName) -> Result<JetStreamJournal, OpenError> {
        let context = self.context();
        let stream = stream::open(&context, &tenant, &self.settings.stream).await?;
        self.journal_on(context, tenant, &stream)
    }

    /// Returns a tenant's quarantine. Its stream is created with the first message.
    #[must_use]
    pub fn quarantine(&self, tenant: &TenantName) -> JetStreamQuarantine {
        JetStreamQuarantine::new(self.client.clone(), self.context(), tenant, &self.settings)
    }

    /// Subscribes to the messages that are published for a tenant and answered. The subscriptions of all processes share
    /// them.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn requests(&self, tenant: &TenantName) -> Result<Requests, ReadError> {
        Requests::subscribe(&self.client, tenant).await
    }

    /// Opens the work queue of a tenant, and creates its stream if it does not exist. Only one process may use it at a
    /// time: opening it ends its use by others.
    ///
    /// # Errors
    /// The existing stream does not fit, or JetStream does not answer.
    pub async fn work_queue(
        &self,
        tenant: &TenantName,
        max_bytes: u64,
        epoch: i64,
    ) -> Result<WorkQueue, OpenError> {
        let replicas = self.settings.stream.replicas;
        WorkQueue::open(&self.context(), self.disconnects.clone(), tenant, (max_bytes, replicas), epoch).await
    }

    /// Returns a publisher of messages for a tenant that no stream stores.
    #[must_use]
    pub fn publisher(&self, tenant: &TenantName) -> Publisher {
        let timeout = self.settings.request_timeout.min(PUBLISH_TIMEOUT);
        Publisher::new(self.client.clone(), self.disconnects.clone(), timeout, &stream::name_of(tenant))
    }

    /// Opens a tenant's journal if its stream exists; `None` if it does not.
    ///
    /// # Errors
    /// The existing stream does not fit, or JetStream does not answer.
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
            highest_seen: Arc::default(),
            has_drifted: Arc::default(),
            disconnects: self.disconnects.clone(),
        })
    }
}

/// Returns options with the credentials and the encryption of the settings.
async fn connect_options(settings: &Settings, addresses: &[ServerAddr]) -> Result<ConnectOptions, OpenError> {
    let mut options = ConnectOptions::new();
    // async-nats ignores the credentials in a server address.
    if let Some(address) = addresses.iter().find(|address| address.has_user_pass()) {
        let (user, password) = (address.username(), address.password());
        options = options
            .user_and_password(user.unwrap_or_default().to_owned(), password.unwrap_or_default().to_owned());
    }
    if let Some(path) = &settings.credentials {
        let loaded = options.credentials_file(path).await;
        options = loaded.map_err(|source| OpenError::Credentials { path: path.clone(), source })?;
    }
    if let Some(path) = &settings.certificates {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &settings.client_certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    // Otherwise a server that denies having TLS, or someone in its place, would receive the password in plain text.
    // Also for servers that another server names: their addresses have no scheme.
    let has_tls = settings.certificates.is_some() || settings.client_certificate.is_some();
    if has_tls || addresses.iter().any(ServerAddr::tls_required) {
        options = options.require_tls(true);
    }
    Ok(options)
}

fn without_credentials(url: &str) -> String {
    let strip = |address: &str| match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => address.to_owned(),
    };
    url.split(',').map(strip).collect::<Vec<_>>().join(",")
}

/// One tenant's journal on JetStream.
#[derive(Clone)]
pub struct JetStreamJournal {
    client: Client,
    context: Context,
    name: String,
    tenant: TenantName,
    settings: StreamSettings,
    request_timeout: Duration,
    /// Creation time of the opened stream. A stream with the same name and another creation time is another journal.
    created: DateTime<Utc>,
    /// Highest position that is known to be assigned.
    highest_seen: Arc<AtomicU64>,
    /// True if the settings of the stream did not fit when they were last read.
    has_drifted: Arc<AtomicBool>,
    disconnects: watch::Receiver<u64>,
}

impl JetStreamJournal {
    async fn stream(&self) -> Result<Stream<()>, ReadError> {
        // Fail fast: otherwise the request would wait for a server that may never return.
        if !self.is_connected() {
            return Err(ReadError("no connection to NATS".into()));
        }
        self.context.get_stream_no_info(&self.name).await.map_err(read_error)
    }

    /// Waits for a response unless the connection is lost: then the response cannot arrive any more, and waiting for
    /// the timeout would only delay the caller.
    async fn while_connected<T>(&self, response: impl Future<Output = T>) -> Result<T, ReadError> {
        let mut disconnects = self.disconnects.clone();
        disconnects.mark_unchanged();
        tokio::select! {
            biased;
            response = response => Ok(response),
            Ok(()) = disconnects.changed() => Err(ReadError("lost the connection to NATS".into())),
        }
    }

    async fn info(&self) -> Result<Info, ReadError> {
        let info = self.while_connected(self.stream().await?.get_info()).await?.map_err(read_error)?;
        self.has_drifted.store(!self.drift_of(&info).is_empty(), Ordering::Relaxed);
        Ok(info)
    }

    fn drift_of(&self, info: &Info) -> Vec<String> {
        stream::config_drift(&self.tenant, &self.settings, &info.config)
    }

    fn note_position(&self, position: Position) {
        self.highest_seen.fetch_max(position.get(), Ordering::Relaxed);
    }

    /// Returns true if the positions from `first` to `last` are empty and stay so. One response proves both that `last`
    /// was assigned and that all of them are deleted; a server that lags behind cannot give it.
    async fn is_permanently_empty(&self, first: Position, last: Position) -> Result<bool, ReadError> {
        let stream = self.stream().await?;
        let info = self.while_connected(stream.info_builder().with_deleted(true).fetch()).await?;
        let state = info.map_err(read_error)?.info.state;
        let (first, last) = (first.get().max(state.first_sequence), last.get());
        if state.last_sequence < last {
            return Ok(false);
        }
        let deleted = state.deleted.unwrap_or_default();
        let empty = deleted.iter().filter(|sequence| (first..=last).contains(*sequence)).count();
        Ok(empty as u64 == (last + 1).saturating_sub(first))
    }

    /// Returns the first matching entry at or after a position, as known to the stream's leader.
    async fn first_entry_from(
        &self,
        position: Position,
        filter: &Subject,
    ) -> Result<Option<Entry>, ReadError> {
        let stream = self.stream().await?;
        let request = stream.raw_message_builder().sequence(position.get()).next_by_subject(filter.as_str());
        Ok(optional_message(self.while_connected(request.send()).await?)?.map(entry_of))
    }

    /// Returns the message at a position, as known to the stream's leader.
    async fn message(&self, position: Position) -> Result<Option<StreamMessage>, ReadError> {
        if position == Position::START {
            return Ok(None);
        }
        let stream = self.stream().await?;
        optional_message(self.while_connected(stream.get_raw_message(position.get())).await?)
    }
}

fn entry_of(message: StreamMessage) -> Entry {
    Entry {
        position: Position::new(message.sequence),
        recorded_at: restore::recorded_at(Some(&message.headers), message.time),
        bytes: message.payload,
    }
}

fn optional_message(
    message: Result<StreamMessage, RawMessageError>,
) -> Result<Option<StreamMessage>, ReadError> {
    match message {
        Ok(message) => Ok(Some(message)),
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(read_error(error)),
    }
}

fn read_error(error: impl std::error::Error) -> ReadError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some errors of async-nats already include their source in the text.
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
        let outcomes = append::append(self, new_entries).await;
        outcomes.iter().flatten().for_each(|outcome| self.note_position(outcome.position()));
        outcomes
    }

    async fn append_expecting(&self, new_entry: &NewEntry, head: Position) -> Result<Outcome, AppendError> {
        let result = append_expecting::append_expecting(self, new_entry, head).await;
        result.iter().for_each(|outcome| self.note_position(outcome.position()));
        result
    }

    async fn head(&self) -> Result<Head, ReadError> {
        let mut delays = HEAD_RETRY_DELAYS_MS.into_iter();
        loop {
            let highest_seen = self.highest_seen.load(Ordering::Relaxed);
            let info = self.info().await?;
            let position = Position::new(info.state.last_sequence);
            let head = Head { position, created: microseconds(info.created) };
            if head.created != self.created {
                return Ok(head);
            }
            if position.get() >= highest_seen {
                self.note_position(position);
                return Ok(head);
            }
            // Either a deposed leader answered, or the stream has lost its end. Only in the second case does the head
            // stay behind.
            let Some(delay) = delays.next() else {
                let _ = self.highest_seen.compare_exchange(
                    highest_seen,
                    position.get(),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                return Ok(head);
            };
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }

    async fn config_drift(&self) -> Result<Vec<String>, ReadError> {
        Ok(self.drift_of(&self.info().await?))
    }

    async fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError> {
        Ok(self.message(position).await?.map(entry_of))
    }

    fn read(
        &self,
        filter: SubjectFilter,
        after: Position,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        read::read(self.clone(), filter, after, until)
    }

    fn read_after(
        &self,
        history: KnownHistory,
        until: Until,
    ) -> BoxStream<'static, Result<Record, ReadError>> {
        read::read_after(self.clone(), history, until)
    }

    fn connections(&self) -> u64 {
        // The client counts a connection before it reads the first message of it.
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn duplicate_window(&self) -> Duration {
        // The window in the settings may be another one than that of the stream.
        if self.has_drifted.load(Ordering::Relaxed) { Duration::ZERO } else { self.settings.duplicate_window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_removed_from_urls() {
        assert_eq!(
            without_credentials("nats://ledger:secret@a:4222,nats://b:4222"),
            "nats://a:4222,nats://b:4222"
        );
    }
}
