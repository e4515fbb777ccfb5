//! A NATS and a Postgres of a test's own.

use std::ffi::OsString;
use std::path::Path;

use ledger_devstack::nats::User;
use ledger_devstack::{Nats, Postgres, nats, postgres};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::Proxy;
use crate::template::copy_cluster;

/// nats-server and Postgres in a temporary folder. Each can be killed and restarted on the same port with the data that
/// it stored.
pub struct Servers {
    nats: Option<Nats>,
    postgres: Option<Postgres>,
    nats_options: nats::Options,
    postgres_options: postgres::Options,
    postgres_url: String,
    // The last field: the folder must outlive the servers.
    folder: TempDir,
}

fn search() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

impl Servers {
    /// Starts both servers.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
        let nats_options = nats::Options::found_in(search());
        let mut postgres_options = postgres::Options::found_in(search());
        // The data of a new test server need not survive a crash of the machine.
        postgres_options.sync_new = false;
        let (nats, postgres) = (nats_folder(&folder), postgres_folder(&folder));
        copy_cluster(&postgres, &postgres_options).await;
        let (nats, postgres) =
            tokio::join!(Nats::start(&nats, &nats_options), Postgres::start(&postgres, &postgres_options));
        let nats = nats.expect("nats-server starts");
        let postgres = postgres.expect("Postgres starts");
        let nats_options = nats::Options { port: Some(nats.port()), ..nats_options };
        let postgres_options = postgres::Options { port: Some(postgres.port()), ..postgres_options };
        let postgres_url = postgres.url().expose_secret().to_owned();
        let (nats, postgres) = (Some(nats), Some(postgres));
        Self { nats, postgres, nats_options, postgres_options, postgres_url, folder }
    }

    /// Returns the temporary folder, which is removed with the servers.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the URL of NATS for the service.
    #[must_use]
    pub fn nats_url(&self) -> String {
        self.nats_url_of(User::Ledger)
    }

    /// Returns the URL of NATS for a user.
    #[must_use]
    pub fn nats_url_of(&self, user: User) -> String {
        self.nats.as_ref().expect("NATS runs").url_of(user).expose_secret().to_owned()
    }

    /// Returns the URL of NATS through a proxy.
    #[must_use]
    pub fn nats_url_through(&self, proxy: &Proxy) -> String {
        self.nats_url().replace(&self.nats_port().to_string(), &proxy.port().to_string())
    }

    /// Returns the port of NATS on 127.0.0.1.
    #[must_use]
    pub fn nats_port(&self) -> u16 {
        self.nats.as_ref().expect("NATS runs").port()
    }

    /// Returns the process id of nats-server.
    #[must_use]
    pub fn nats_pid(&self) -> u32 {
        self.nats.as_ref().expect("NATS runs").pid()
    }

    /// Returns the URL of Postgres, even while it is down.
    #[must_use]
    pub fn postgres_url(&self) -> String {
        self.postgres_url.clone()
    }

    /// Kills NATS with SIGKILL.
    pub async fn kill_nats(&mut self) {
        self.nats.take().expect("NATS runs").kill().await.expect("NATS is killed");
    }

    /// Restarts NATS with the data that it stored.
    pub async fn start_nats(&mut self) {
        let started = Nats::start(&nats_folder(&self.folder), &self.nats_options).await;
        self.nats = Some(started.expect("nats-server restarts"));
    }

    /// Kills Postgres and all its processes with SIGKILL.
    pub async fn kill_postgres(&mut self) {
        self.postgres.take().expect("Postgres runs").kill().await.expect("Postgres is killed");
    }

    /// Restarts Postgres with the data that it stored.
    pub async fn start_postgres(&mut self) {
        let started = Postgres::start(&postgres_folder(&self.folder), &self.postgres_options).await;
        self.postgres = Some(started.expect("Postgres restarts"));
    }

    /// Returns the process id of the Postgres postmaster.
    #[must_use]
    pub fn postgres_pid(&self) -> u32 {
        self.postgres.as_ref().expect("Postgres runs").pid()
    }

    /// Returns the port of Postgres on 127.0.0.1.
    #[must_use]
    pub fn postgres_port(&self) -> u16 {
        self.postgres_options.port.expect("Postgres was started")
    }

    /// Stops NATS with SIGSTOP: its sockets stay open, but it does not respond.
    pub async fn pause_nats(&self) {
        self.nats.as_ref().expect("NATS runs").pause().await;
    }

    /// Continues NATS with SIGCONT.
    pub fn resume_nats(&self) {
        self.nats.as_ref().expect("NATS runs").resume();
    }

    /// Stops all processes of Postgres with SIGSTOP: their sockets stay open, but they do not respond.
    pub fn pause_postgres(&self) {
        signal_all(self.postgres_pid(), Signal::STOP);
    }

    /// Continues all processes of Postgres with SIGCONT.
    pub fn resume_postgres(&self) {
        signal_all(self.postgres_pid(), Signal::CONT);
    }

    /// Creates an empty database for projections and returns its URL.
    pub async fn fresh_database(&self, name: &str) -> String {
        use sqlx::Connection as _;
        let url = self.postgres_url();
        let mut connection = sqlx::PgConnection::connect(&url).await.expect("connected");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.expect("created");
        url.replace("/ledger?", &format!("/{name}?"))
    }
}

fn nats_folder(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("nats")
}

fn postgres_folder(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("postgres")
}

/// Signals a process and then its children. A stopped parent starts no further children.
fn signal_all(parent: u32, signal: Signal) {
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(parent, signal).expect("signalled");
    let threads = format!("/proc/{0}/task/{0}/children", parent.as_raw_nonzero());
    let children = std::fs::read_to_string(threads).expect("its children");
    for child in children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
        // The child may have exited in the meantime.
        let _ = kill_process(child, signal);
    }
}
