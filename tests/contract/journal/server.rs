//! A private nats-server for a test, and connections to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{Context, stream};
use ledger_devstack::nats::User;
use ledger_devstack::{Error, Nats, nats};
use ledger_domain::TenantName;
use ledger_journal::SharedJournal;
use ledger_journal::jetstream::{Connection, JetStreamJournal, Settings, StreamSettings};
use ledger_tests::{Cluster, STREAM, nats_client};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::helpers::with_timeout;

/// A nats-server that can be killed and restarted on the same port with the data that it stored.
pub(super) struct Server {
    nats: Option<Nats>,
    options: nats::Options,
    // The last field: the folder must outlive the server.
    folder: TempDir,
}

impl Server {
    pub(super) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
        let program = std::env::var_os("RELEASE_LEDGER_TEST_NATS").map(Into::into);
        let search = std::env::var_os("PATH").unwrap_or_default();
        let options = nats::Options { program, ..nats::Options::found_in(search) };
        let nats = Nats::start(folder.path(), &options).await.expect("nats-server starts");
        let options = nats::Options { port: Some(nats.port()), ..options };
        Self { nats: Some(nats), options, folder }
    }

    pub(super) fn nats(&self) -> &Nats {
        self.nats.as_ref().expect("nats-server runs")
    }

    /// Sends SIGKILL and waits for the process to exit.
    pub(super) async fn kill(&mut self) {
        self.nats.take().expect("nats-server runs").kill().await.expect("nats-server is killed");
    }

    pub(super) async fn restart(&mut self) {
        let started = async {
            loop {
                match Nats::start(self.folder.path(), &self.options).await {
                    // While the server was down, another test's server may have taken its port.
                    Err(Error::PortTaken { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                    started => return started.expect("nats-server restarts"),
                }
            }
        };
        self.nats = Some(with_timeout(started).await);
    }

    /// Returns the folder with the files of the streams. They are complete only while the server is down.
    pub(super) fn store(&self) -> PathBuf {
        self.folder.path().join("jetstream")
    }

    /// Opens a new connection.
    pub(super) async fn connection(&self) -> Connection {
        Connection::open(self.settings()).await.expect("connected")
    }

    /// Opens the default tenant's journal through a new connection.
    pub(super) async fn journal(&self) -> SharedJournal {
        shared(open_journal(&self.connection().await).await)
    }

    /// Returns the settings for this server.
    pub(super) fn settings(&self) -> Settings {
        settings(self.nats().url().expose_secret())
    }

    /// Returns the settings for this server through a proxy on another port.
    pub(super) fn settings_through(&self, port: u16) -> Settings {
        let url = self.nats().url().expose_secret();
        settings(&url.replace(&format!(":{}", self.nats().port()), &format!(":{port}")))
    }

    /// Returns a JetStream context with the operator's permissions.
    pub(super) async fn raw(&self) -> Context {
        let url = self.nats().url_of(User::Operator);
        async_nats::jetstream::new(nats_client(url.expose_secret()).await)
    }

    /// Changes the default tenant's stream with the operator's permissions.
    pub(super) async fn update(&self, change: impl FnOnce(&mut stream::Config)) {
        update(&self.raw().await, change).await;
    }
}

/// Changes the default tenant's stream with the operator's permissions.
pub(super) async fn update(raw: &Context, change: impl FnOnce(&mut stream::Config)) {
    let mut config = raw.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();
    change(&mut config);
    raw.update_stream(config).await.expect("the server accepts the change");
}

/// Opens the default tenant's journal.
pub(super) async fn open_journal(connection: &Connection) -> JetStreamJournal {
    connection.journal(TenantName::default()).await.expect("a journal")
}

/// Opens the default tenant's journal through a new connection with this request timeout.
pub(super) async fn journal_with_timeout(settings: Settings, request_timeout: Duration) -> SharedJournal {
    let connection = Connection::open(Settings { request_timeout, ..settings }).await.expect("connected");
    shared(open_journal(&connection).await)
}

pub(super) fn shared(journal: JetStreamJournal) -> SharedJournal {
    Arc::new(journal)
}

/// Returns the settings of tests for this URL.
pub(super) fn settings(url: &str) -> Settings {
    Settings {
        url: SecretString::from(url.to_owned()),
        credentials: None,
        certificates: None,
        client_certificate: None,
        request_timeout: Duration::from_secs(20),
        stream: stream_settings(),
    }
}

/// Opens the default tenant's journal on three nodes through a new connection.
pub(super) async fn replicated(cluster: &Cluster) -> SharedJournal {
    let settings = settings(&cluster.url(User::Ledger));
    let stream = StreamSettings { replicas: 3, ..stream_settings() };
    let request_timeout = Duration::from_secs(2);
    let connection = Connection::open(Settings { stream, request_timeout, ..settings }).await;
    let connection = connection.expect("connected");
    shared(open_journal(&connection).await)
}

pub(super) const fn stream_settings() -> StreamSettings {
    StreamSettings { replicas: 1, duplicate_window: Duration::from_secs(120) }
}
