//! The service within the test's process, over a journal in memory and a real Postgres: for tests of rules, SQL and
//! handlers, which need neither NATS nor a process that can be killed.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{Args as _, FromArgMatches as _};
use ledger_api::BrokerReceiver;
use ledger_devstack::{Postgres, postgres};
use ledger_domain::TenantName;
use ledger_journal::{MemoryJournal, Quarantine, SharedJournal};
use ledger_projections::{Projections, SchemaVersion, Settings};
use metrics_exporter_prometheus::PrometheusBuilder;
use release_ledger::app::{App, JournalOpener};
use release_ledger::clock;
use release_ledger::config::{Config, Flags};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Client;
use crate::client::POLL_INTERVAL;
use crate::connection::RawConnection;
use crate::limits::WAIT_LIMIT;
use crate::template::copy_cluster;

/// A service on a free port of 127.0.0.1, which ends with the value. Its `/metrics` is empty, because the recorder of
/// metrics is global to a process.
pub struct InProcess {
    url: String,
    receiver: BrokerReceiver,
    _shutdown: DropGuard,
    postgres: Postgres,
    // The last field: the folder must outlive the server.
    _folder: TempDir,
}

impl InProcess {
    /// Starts the service with these flags of `serve`, and waits until it is ready.
    pub async fn start(flags: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
        let directory = folder.path().join("postgres");
        let search: OsString = std::env::var_os("PATH").unwrap_or_default();
        let options = postgres::Options { sync_new: false, ..postgres::Options::found_in(search) };
        copy_cluster(&directory, &options).await;
        let postgres = Postgres::start(&directory, &options).await.expect("Postgres starts");
        let config = config(&postgres, flags);
        let open_journal: JournalOpener = Arc::new(|tenant| {
            let journal: SharedJournal = Arc::new(MemoryJournal::new(tenant, clock::now));
            let quarantine = Arc::new(Quarantine::in_memory(clock::now));
            Box::pin(std::future::ready(Ok((journal, quarantine))))
        });
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let app = App::with_journals(&config, metrics, open_journal).await.expect("the service starts");
        let (url, receiver) = (format!("http://{}", app.address()), app.receiver());
        let shutdown = CancellationToken::new();
        tokio::spawn(app.serve(shutdown.clone()));
        let shutdown = shutdown.drop_guard();
        let service = Self { url, receiver, _shutdown: shutdown, postgres, _folder: folder };
        let client = service.client();
        let ready = async {
            while !client.is_ready().await {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(WAIT_LIMIT, ready).await.expect("the service becomes ready");
        service
    }

    /// Returns the URL of the service, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens a connection on which a test sends what it wants.
    pub async fn connect(&self) -> RawConnection {
        RawConnection::open(&self.url).await
    }

    /// Returns the receiver of messages of brokers.
    #[must_use]
    pub const fn receiver(&self) -> &BrokerReceiver {
        &self.receiver
    }

    /// Returns a client of the service.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Returns the projections of the default tenant, over connections of their own.
    pub async fn projections(&self) -> Projections {
        let settings = Settings {
            url: self.postgres.url().clone(),
            connections: 4,
            acquire_timeout: WAIT_LIMIT,
            schema_version: SchemaVersion::CURRENT,
        };
        let projections = Projections::new(&settings, TenantName::default()).expect("projections");
        projections.activate_live().await.expect("a live generation");
        projections
    }

    /// Returns the URL of Postgres.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        self.postgres.url().expose_secret()
    }

    /// Returns a client that sends a token.
    #[must_use]
    pub fn client_with(&self, token: &str) -> Client {
        self.client().with_token(token)
    }
}

fn config(postgres: &Postgres, flags: &[&str]) -> Config {
    let url = format!("--projections-url={}", postgres.url().expose_secret());
    let has_settings = flags.iter().any(|flag| flag.starts_with("--config="));
    let open = (!has_settings).then_some("--access-authentication=off");
    let own: Vec<&str> = ["serve", "--listen=127.0.0.1:0", &url].into_iter().chain(open).collect();
    let matches = Flags::augment_args(clap::Command::new("serve")).get_matches_from(own.iter().chain(flags));
    let flags = Flags::from_arg_matches(&matches).expect("flags of serve");
    Config::read(&flags).expect("settings")
}
