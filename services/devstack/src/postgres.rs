//! A private Postgres: one cluster, on 127.0.0.1 only, synced at every commit, for us alone.
//!
//! In its folder: `lock`, `password`, `postgres.log` and `pgdata/`. Postgres refuses to run as root;
//! then `pgdata` and `password` are given to another user (`Account`), who can pass through the
//! folder but not write to it.

mod cluster;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use self::cluster::{Cluster, Marks};
use super::account::Account;
use super::folder::Folder;
use super::process::Process;
use super::program::{highest_version, is_program, on_path};
use super::{Error, port, secret};

const PROGRAM: &str = "postgres";
const INITDB: &str = "initdb";
/// The superuser and the database.
const NAME: &str = "ledger";
/// Where Debian puts its versions, none of them on PATH.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How long the server may take to stop before it is killed: it writes out what it has in memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a private Postgres is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folders in which `postgres` and `initdb` are looked for, written as PATH is; Debian's own
    /// folder comes after them.
    pub search: OsString,
    /// The folder of both programs, if not the first that is found.
    pub programs: Option<PathBuf>,
    /// The port on 127.0.0.1, if not any that is free.
    pub port: Option<u16>,
    /// Whether a new cluster is synced to disk before it is used. Needed for what we promise; it is
    /// most of the time that a first start takes, and tests whose machine does not crash can save it.
    pub sync_new: bool,
}

impl Options {
    /// The first Postgres in `search`, written as PATH is, else Debian's newest, on any free port.
    #[must_use]
    pub fn found_in(search: impl Into<OsString>) -> Self {
        Self { search: search.into(), programs: None, port: None, sync_new: true }
    }
}

/// A running Postgres. Dropping it shuts it down at once: the next start recovers.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder: the server ends before its folder is free.
    process: Process,
    marks: Marks,
    _folder: Folder,
    port: u16,
    url: SecretString,
}

impl Postgres {
    /// Starts a server in `folder`, which is made and filled if need be, waits until it answers, and
    /// makes sure that its database exists. A server that a killed process of ours left behind there
    /// is stopped first. Of the folders above, none is changed.
    ///
    /// # Errors
    /// There are no such programs, the folder cannot be used or is in use, or the server fails.
    pub async fn start(folder: &Path, options: &Options) -> Result<Self, Error> {
        let programs = Programs::find(options, Path::new(DEBIAN))?;
        let account = Account::for_postgres()?;
        let folder = Folder::hold(folder)?;
        if let Some(account) = &account {
            account.let_through(folder.path())?;
            account.must_reach(folder.path())?;
        }
        let password = secret::kept(&folder.path().join("password"), account.as_ref())?;
        let cluster = Cluster {
            programs,
            account,
            folder: folder.path().to_owned(),
            name: secret::server_name(&password),
        };
        let marks = cluster.marks();
        let orphans = marks.end(Signal::INT).await?;
        if orphans > 0 {
            tracing::warn!(folder = %folder.path().display(), orphans, "stopped a postgres left behind");
        }
        cluster.fill(options.sync_new).await?;
        cluster.clear_pid_file()?;
        let mut attempt = 1;
        let (process, port) = loop {
            let port = options.port.map_or_else(port::free, Ok)?;
            match cluster.launch(port).await {
                Ok(process) => break (process, port),
                Err(Error::PortTaken { .. }) if options.port.is_none() && attempt < port::ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        make_database(port, &password).await?;
        let url =
            format!("postgres://{NAME}:{}@127.0.0.1:{port}/{NAME}?sslmode=disable", password.expose_secret());
        tracing::info!(folder = %folder.path().display(), port, process.id = process.id(), "postgres is ready");
        Ok(Self { process, marks, _folder: folder, port, url: url.into() })
    }

    /// Where clients connect, user, password and database included.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server's first process, the postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Stops the server: open transactions are rolled back, and all is written.
    ///
    /// # Errors
    /// It does not end, even when killed.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.process.end(Signal::INT, PATIENCE).await?;
        self.marks.end(Signal::INT).await?;
        Ok(())
    }

    /// Kills the server and all its processes as a crash of the machine does, as far as one can
    /// without losing the system's own memory, and waits until they are gone.
    ///
    /// # Errors
    /// One does not end.
    pub async fn kill(mut self) -> Result<(), Error> {
        self.process.end(Signal::KILL, PATIENCE).await?;
        self.marks.end(Signal::KILL).await?;
        Ok(())
    }

    /// Why the server does not run any more, if it ended by itself.
    ///
    /// # Errors
    /// The system does not say whether it runs.
    pub fn failure(&mut self) -> Result<Option<Error>, Error> {
        Ok(self.process.ended()?.map(|status| self.process.exited(status, None)))
    }

    /// As if we were killed: the server stays.
    #[cfg(test)]
    fn abandon(self) {
        self.process.abandon();
    }
}

/// Creates the database if it is absent, over the road that every client takes: this is also the
/// proof that the server answers.
async fn make_database(port: u16, password: &SecretString) -> Result<(), Error> {
    let refused = |action| move |source| Error::Database { port, action, source };
    // Set in full: what is left out would come from PGHOST and its like.
    let mut connection: PgConnection = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(NAME)
        .password(password.expose_secret())
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
        .map_err(refused("connect"))?;
    let found = connection
        .fetch_optional("SELECT 1 FROM pg_database WHERE datname = 'ledger'")
        .await
        .map_err(refused("look for the database"))?;
    if found.is_none() {
        connection.execute("CREATE DATABASE ledger").await.map_err(refused("create the database"))?;
    }
    connection.close().await.map_err(refused("disconnect"))
}

/// Both programs.
#[derive(Debug, PartialEq, Eq)]
struct Programs {
    postgres: PathBuf,
    initdb: PathBuf,
}

impl Programs {
    fn find(options: &Options, versions: &Path) -> Result<Self, Error> {
        let missing =
            |place: String| Error::Missing { program: PROGRAM, place, install: "apt install postgresql" };
        if let Some(folder) = &options.programs {
            let there = Self::both_in(folder);
            return there.ok_or_else(|| missing(format!("together with initdb in {}", folder.display())));
        }
        // What is on PATH is often a link into a version's folder, where its own initdb is.
        let linked = on_path(&options.search, PROGRAM).and_then(|found| found.canonicalize().ok());
        let beside = linked.as_deref().and_then(Path::parent).and_then(Self::both_in);
        let on_path = || {
            let postgres = on_path(&options.search, PROGRAM)?;
            Some(Self { postgres, initdb: on_path(&options.search, INITDB)? })
        };
        let debian = || highest_version(versions, &[PROGRAM, INITDB]).and_then(|bin| Self::both_in(&bin));
        beside.or_else(on_path).or_else(debian).ok_or_else(|| {
            missing(format!("together with initdb, neither on PATH nor in {}", versions.display()))
        })
    }

    fn both_in(folder: &Path) -> Option<Self> {
        let (postgres, initdb) = (folder.join(PROGRAM), folder.join(INITDB));
        (is_program(&postgres) && is_program(&initdb)).then_some(Self { postgres, initdb })
    }
}

#[cfg(test)]
mod tests;
