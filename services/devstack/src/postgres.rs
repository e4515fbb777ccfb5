//! Private Postgres: a single cluster that listens on 127.0.0.1 only and syncs every commit.
//!
//! Its directory contains `lock`, `password`, `postgres.log` and `pgdata/`. Postgres refuses to run as root. In that
//! case another user (`Account`) owns `pgdata` and `password`; that user can traverse the directory but not write to
//! it.

mod cluster;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use self::cluster::{Cluster, ClusterProcesses};
use super::account::Account;
use super::directory::LockedDirectory;
use super::process::Process;
use super::program::{find_on_path, highest_version, is_executable};
use super::{Error, port, secret};

const PROGRAM: &str = "postgres";
const INITDB: &str = "initdb";
/// Name of the superuser and of the database.
const LEDGER: &str = "ledger";
/// Directory in which Debian installs all versions, outside PATH.
pub(super) const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";
/// Time limit for the server to stop, before SIGKILL. It writes dirty buffers to disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a private Postgres.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories to search for `postgres` and `initdb`, in the format of PATH. Debian's directory is searched last.
    pub search: OsString,
    /// Directory of both programs, instead of the first one found.
    pub programs: Option<PathBuf>,
    /// Port on 127.0.0.1, instead of any free one.
    pub port: Option<u16>,
    /// Syncs a new cluster to disk before first use. Durability requires it. It takes most of the time of a first
    /// start, which tests can save because their data need not survive a crash of the machine.
    pub sync_new: bool,
}

impl Options {
    /// Returns options for the first Postgres in `search`, a list in the format of PATH, or else the newest of Debian,
    /// on any free port.
    #[must_use]
    pub fn found_in(search: impl Into<OsString>) -> Self {
        Self { search: search.into(), programs: None, port: None, sync_new: true }
    }

    /// Returns the directory of the `postgres` that these options select.
    ///
    /// # Errors
    /// A program is missing.
    pub fn program_directory(&self) -> Result<PathBuf, Error> {
        let programs = Programs::find(self, Path::new(DEBIAN_VERSIONS))?;
        Ok(programs.postgres.parent().unwrap_or(Path::new("/")).to_owned())
    }
}

/// Running Postgres. Dropping it shuts it down immediately; the next start recovers.
#[derive(Debug)]
pub struct Postgres {
    // Declared before the directory, so that the server exits before the lock is released.
    process: Process,
    processes: ClusterProcesses,
    _directory: LockedDirectory,
    port: u16,
    url: SecretString,
}

impl Postgres {
    /// Starts a server in `directory`, waits until it is ready, and creates its database if it is missing. Creates the
    /// directory and the cluster if they are missing. First stops a server that an earlier, killed process left running
    /// there. Changes no parent directory.
    ///
    /// # Errors
    /// A program is missing, the directory is locked or unusable, or the server fails.
    pub async fn start(directory: &Path, options: &Options) -> Result<Self, Error> {
        let programs = Programs::find(options, Path::new(DEBIAN_VERSIONS))?;
        let account = Account::for_postgres()?;
        let directory = LockedDirectory::acquire(directory)?;
        if let Some(account) = &account {
            account.grant_traversal(directory.path())?;
            account.check_access(directory.path())?;
        }
        let password = secret::load_or_create(&directory.path().join("password"), account.as_ref())?;
        let cluster = Cluster {
            programs,
            account,
            directory: directory.path().to_owned(),
            name: secret::server_name(&password, directory.path()),
        };
        let processes = cluster.processes();
        let orphans = processes.stop(Signal::INT).await?;
        if orphans > 0 {
            tracing::warn!(directory = %directory.path().display(), orphans, "stopped an orphaned postgres");
        }
        cluster.ensure_exists(options.sync_new).await?;
        cluster.remove_stale_pid_file()?;
        let mut attempt = 1;
        let (process, port) = loop {
            let port = options.port.map_or_else(port::find_free, Ok)?;
            match cluster.launch(port).await {
                Ok(process) => break (process, port),
                Err(Error::PortTaken { .. }) if options.port.is_none() && attempt < port::MAX_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        ensure_database(port, &password).await?;
        let url = format!(
            "postgres://{LEDGER}:{}@127.0.0.1:{port}/{LEDGER}?sslmode=disable",
            password.expose_secret()
        );
        let path = directory.path().display();
        tracing::info!(directory = %path, port, process.id = process.id(), "postgres is ready");
        Ok(Self { process, processes, _directory: directory, port, url: url.into() })
    }

    /// Returns the URL for clients, with user, password and database.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Stops the server cleanly: it rolls back open transactions and writes all data to disk.
    ///
    /// # Errors
    /// A process does not exit after SIGKILL.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.process.stop(Signal::INT, STOP_TIMEOUT).await?;
        self.processes.stop(Signal::INT).await?;
        Ok(())
    }

    /// Kills all processes of the server, like a crash of the machine except that the page cache of the operating
    /// system survives, and waits for their exit.
    ///
    /// # Errors
    /// A process does not exit.
    pub async fn kill(mut self) -> Result<(), Error> {
        self.process.stop(Signal::KILL, STOP_TIMEOUT).await?;
        self.processes.stop(Signal::KILL).await?;
        Ok(())
    }

    /// Returns the error of a server that has exited unexpectedly, or `None` if it runs.
    ///
    /// # Errors
    /// The state of the process cannot be read.
    pub fn failure(&mut self) -> Result<Option<Error>, Error> {
        Ok(self.process.exit_status()?.map(|status| self.process.exited(status, None)))
    }

    /// Leaves the server running, as if this process had been killed.
    #[cfg(test)]
    fn abandon(self) {
        self.process.abandon();
    }
}

/// Creates the database if it is missing. Connects like any client, which also verifies that the server accepts
/// connections.
async fn ensure_database(port: u16, password: &SecretString) -> Result<(), Error> {
    let error = |action| move |source| Error::Database { port, action, source };
    // Set every option: a missing one would come from PGHOST or another variable.
    let mut connection: PgConnection = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(LEDGER)
        .password(password.expose_secret())
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
        .map_err(error("connect"))?;
    let found = connection
        .fetch_optional("SELECT 1 FROM pg_database WHERE datname = 'ledger'")
        .await
        .map_err(error("look for the database"))?;
    if found.is_none() {
        connection.execute("CREATE DATABASE ledger").await.map_err(error("create the database"))?;
    }
    connection.close().await.map_err(error("disconnect"))
}

/// Paths of both programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Programs {
    postgres: PathBuf,
    initdb: PathBuf,
}

impl Programs {
    /// Returns the programs that the options select.
    ///
    /// # Errors
    /// They are not installed.
    pub(super) fn find(options: &Options, versions: &Path) -> Result<Self, Error> {
        let missing = |place: String| Error::Missing {
            program: PROGRAM,
            place,
            install: "apt install postgresql".to_owned(),
        };
        if let Some(directory) = &options.programs {
            let programs = Self::in_directory(directory);
            return programs
                .ok_or_else(|| missing(format!("together with initdb in {}", directory.display())));
        }
        // A program on PATH is often a link into the directory of a version, which has the matching initdb.
        let linked = find_on_path(&options.search, PROGRAM).and_then(|found| found.canonicalize().ok());
        let beside = linked.as_deref().and_then(Path::parent).and_then(Self::in_directory);
        let on_path = || {
            let postgres = find_on_path(&options.search, PROGRAM)?;
            Some(Self { postgres, initdb: find_on_path(&options.search, INITDB)? })
        };
        let debian =
            || highest_version(versions, &[PROGRAM, INITDB]).and_then(|bin| Self::in_directory(&bin));
        beside.or_else(on_path).or_else(debian).ok_or_else(|| {
            missing(format!("together with initdb, neither on PATH nor in {}", versions.display()))
        })
    }

    fn in_directory(directory: &Path) -> Option<Self> {
        let (postgres, initdb) = (directory.join(PROGRAM), directory.join(INITDB));
        (is_executable(&postgres) && is_executable(&initdb)).then_some(Self { postgres, initdb })
    }
}

#[cfg(test)]
mod tests;
