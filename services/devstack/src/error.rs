//! Errors of private servers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Error of starting or stopping a private server. Only [`Error::PortTaken`] and [`Error::InUse`] can resolve on retry;
/// the others need an operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed.
    #[error("{program} was not found {place}; install it, for example with `{install}`")]
    Missing {
        /// Program name.
        program: &'static str,
        /// Places that were searched.
        place: String,
        /// Command that installs it.
        install: String,
    },
    /// Neither server is installed.
    #[error("{nats}; {postgres}")]
    MissingBoth {
        /// Error of the search for the nats-server.
        nats: Box<Error>,
        /// Error of the search for Postgres.
        postgres: Box<Error>,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// Attempted action, a verb.
        action: &'static str,
        /// Path concerned.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A password file has unexpected contents.
    #[error(
        "{} does not contain a password of release-ledger; restore it, or choose another --data-dir",
        path.display()
    )]
    InvalidPasswordFile {
        /// Password file.
        path: PathBuf,
    },
    /// Another release-ledger process has locked the directory.
    #[error(
        "{} is in use by another release-ledger (process {holder}); stop it, or choose another --data-dir",
        directory.display()
    )]
    InUse {
        /// Directory concerned.
        directory: PathBuf,
        /// Process id in the lock file.
        holder: String,
    },
    /// A Postgres that this crate did not start runs on the directory.
    #[error(
        "a postgres that release-ledger did not start (process {pid}) runs on {}; \
         stop it, or choose another --data-dir",
        directory.display()
    )]
    ForeignPostgres {
        /// Data directory of the cluster.
        directory: PathBuf,
        /// Process id of the server.
        pid: i32,
    },
    /// The current user is root, and no unprivileged user exists to run Postgres.
    #[error(
        "postgres cannot run as root, and /etc/passwd has none of the users {candidates}; create one of them"
    )]
    NoUnprivilegedUser {
        /// Names of the users that were looked up, separated by commas.
        candidates: String,
    },
    /// The user that Postgres runs as cannot reach its data directory.
    #[error(
        "postgres cannot run as root, so it runs as the user `{user}`, which cannot traverse {}; \
         choose a --data-dir outside of it, such as /var/lib/release-ledger",
        directory.display()
    )]
    Inaccessible {
        /// Directory that the user cannot traverse.
        directory: PathBuf,
        /// User name.
        user: String,
    },
    /// All ports that were tried are in use.
    #[error("cannot find a free port on 127.0.0.1")]
    NoPort,
    /// Another process listens on the port.
    #[error("{server} cannot listen on 127.0.0.1:{port}: the port is in use")]
    PortTaken {
        /// Server program.
        server: &'static str,
        /// Port number.
        port: u16,
    },
    /// A program cannot be executed.
    #[error("cannot execute {}", program.display())]
    Spawn {
        /// Path of the program.
        program: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A program exited before it completed or became ready.
    #[error("{program} exited unexpectedly ({status}); {} ends with:\n{tail}", log.display())]
    Exited {
        /// Program name.
        program: &'static str,
        /// Exit status.
        status: ExitStatus,
        /// Log file.
        log: PathBuf,
        /// Last lines of this run in the log.
        tail: String,
    },
    /// A program did not become ready in time.
    #[error("{program} was not ready within {seconds} s; {} ends with:\n{tail}", log.display())]
    NotReady {
        /// Program name.
        program: &'static str,
        /// Time limit, in seconds.
        seconds: u64,
        /// Log file.
        log: PathBuf,
        /// Last lines of this run in the log.
        tail: String,
    },
    /// A process did not exit after SIGKILL.
    #[error("{program} (process {pid}) did not exit after SIGKILL")]
    StillRunning {
        /// Program name.
        program: &'static str,
        /// Process id.
        pid: i32,
    },
    /// The new Postgres rejects a connection or a statement.
    #[error("private postgres on 127.0.0.1:{port}: cannot {action}")]
    Database {
        /// Port number.
        port: u16,
        /// Attempted action, a verb.
        action: &'static str,
        /// Cause.
        source: sqlx::Error,
    },
}

/// Returns a function that adds the attempted action and the path to an I/O error.
pub(super) fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.to_owned(), source }
}
