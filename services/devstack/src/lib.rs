//! Private servers: a nats-server and a Postgres of our own, in a data folder, for `release-ledger up`
//! and for tests.
//!
//! What always holds:
//! - A folder is held by one process of ours at a time, and by a lock of the kernel's: a crash frees it.
//! - A server ends when the value that stands for it is dropped. When we are killed it stays, and the
//!   next start in its folder stops it first.
//! - Servers listen on 127.0.0.1 only, and want a password, which is random and kept in the folder.
//! - Nothing is changed outside the data folder.
//!
//! Processes are looked for in `/proc`: this is for Linux.

mod account;
mod error;
mod folder;
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
use self::folder::Folder;

/// How both servers are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The nats-server.
    pub nats: nats::Options,
    /// The Postgres.
    pub postgres: postgres::Options,
}

impl Options {
    /// The first programs in `search`, written as PATH is, on any free ports.
    #[must_use]
    pub fn found_in(search: impl Into<OsString>) -> Self {
        let search = search.into();
        Self { nats: nats::Options::found_in(search.clone()), postgres: postgres::Options::found_in(search) }
    }
}

/// Both servers, in one data folder: `nats/` and `postgres/`. Dropping it ends both.
#[derive(Debug)]
pub struct Stack {
    /// The nats-server.
    pub nats: Nats,
    /// The Postgres.
    pub postgres: Postgres,
    /// The data folder; free when all of the stack is gone.
    pub held: Held,
}

/// A data folder that is ours while this lives.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is held, not read")] Folder);

impl Stack {
    /// Starts both servers, at the same time, in the folder `data`, which is made if need be. If
    /// Postgres has to run as another user than we, that user is let through `data` (not into it).
    ///
    /// # Errors
    /// The folder is in use or cannot be used, or a server does not start; then neither runs.
    pub async fn start(data: &Path, options: &Options) -> Result<Self, Error> {
        let folder = Folder::hold(data)?;
        if let Some(account) = Account::for_postgres()? {
            account.let_through(folder.path())?;
        }
        let (nats_folder, postgres_folder) = (folder.path().join("nats"), folder.path().join("postgres"));
        let (nats, postgres) = tokio::try_join!(
            Nats::start(&nats_folder, &options.nats),
            Postgres::start(&postgres_folder, &options.postgres),
        )?;
        Ok(Self { nats, postgres, held: Held(folder) })
    }

    /// Stops both servers: all is written.
    ///
    /// # Errors
    /// One does not end, even when killed.
    pub async fn stop(self) -> Result<(), Error> {
        let Self { nats, postgres, held } = self;
        let (nats, postgres) = tokio::join!(nats.stop(), postgres.stop());
        drop(held);
        nats.and(postgres)
    }

    /// Waits until one of the servers ends by itself, and says why. While both run, it never returns.
    pub async fn failure(&mut self) -> Error {
        loop {
            match (self.nats.failure(), self.postgres.failure()) {
                (Ok(None), Ok(None)) => tokio::time::sleep(Duration::from_millis(200)).await,
                (Ok(Some(error)) | Err(error), _) | (_, Ok(Some(error)) | Err(error)) => return error,
            }
        }
    }
}

/// Where tests look for the servers. (Else, whoever calls us gives the search path.)
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
    async fn both_start_in_a_closed_folder_of_ours_and_stop() {
        let root = tempfile::tempdir().expect("a folder");
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).expect("closed");

        // In a task of its own: what is awaited can be sent between threads.
        let data = root.path().to_owned();
        let stack = tokio::spawn(async move { Stack::start(&data, &options()).await });
        let stack = stack.await.expect("no panic").expect("started");
        stack.stop().await.expect("stopped");

        let names: Vec<String> = ["lock", "nats", "postgres"].map(str::to_owned).into();
        let mut found: Vec<String> = fs::read_dir(root.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        found.sort();
        assert_eq!(found, names);
    }

    #[tokio::test]
    async fn a_second_stack_in_the_folder_is_refused_while_the_first_runs() {
        let root = tempfile::tempdir().expect("a folder");
        let first = Stack::start(root.path(), &options()).await.expect("started");

        let refused = Stack::start(root.path(), &options()).await;
        first.stop().await.expect("stopped");
        let later = Stack::start(root.path(), &options()).await;

        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
        assert!(later.is_ok(), "{later:?}");
    }

    #[tokio::test]
    async fn a_server_that_dies_is_told() {
        let root = tempfile::tempdir().expect("a folder");
        let mut stack = Stack::start(root.path(), &options()).await.expect("started");
        let pid = i32::try_from(stack.nats.pid()).expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a number");

        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        let told = stack.failure().await.to_string();

        assert!(told.starts_with("nats-server ended too early (signal: 9 (SIGKILL))"), "{told}");
    }
}
