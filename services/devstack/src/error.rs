//! Why a private server did not start or stop.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why a private server did not start or stop. Only [`Error::PortTaken`] and [`Error::InUse`] may
/// pass by themselves; the others need a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed.
    #[error("{program} was not found {place}; install it, for example with `{install}`")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        place: String,
        /// A command that installs it.
        install: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A kept password is not what this module writes.
    #[error("{} holds no password that release-ledger wrote; restore it, or choose another --data-dir", path.display())]
    BadSecret {
        /// The file.
        path: PathBuf,
    },
    /// Another process of ours holds the folder.
    #[error(
        "{} is in use by another release-ledger (process {holder}); stop that one, or choose another --data-dir",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The holder's process id, as it wrote it.
        holder: String,
    },
    /// A Postgres that we did not start runs on the folder.
    #[error(
        "a postgres that release-ledger did not start (process {pid}) runs on {}; stop it, or choose another --data-dir",
        folder.display()
    )]
    Occupied {
        /// The database folder.
        folder: PathBuf,
        /// The server's process id.
        pid: i32,
    },
    /// We are root, and there is nobody else to run Postgres as.
    #[error(
        "postgres refuses to run as root, and /etc/passwd has neither a user `postgres` nor `nobody` to run it as"
    )]
    NoAccount,
    /// The user that Postgres runs as cannot reach its folder.
    #[error(
        "postgres refuses to run as root, so it runs as the user `{user}`, who cannot pass through {}; \
         choose a --data-dir outside of it, such as /var/lib/release-ledger",
        closed.display()
    )]
    Closed {
        /// The folder that is closed.
        closed: PathBuf,
        /// Who cannot pass.
        user: String,
    },
    /// No port of those tried is free.
    #[error("no free port was found on 127.0.0.1")]
    NoPort,
    /// Something else listens on the port.
    #[error("{server} cannot listen on 127.0.0.1:{port}: another process does")]
    PortTaken {
        /// The server.
        server: &'static str,
        /// The port.
        port: u16,
    },
    /// A program could not be run at all.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program ended before it had done what it should.
    #[error("{program} ended too early ({status}); {} ends with:\n{tail}", log.display())]
    Exited {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines of this run.
        tail: String,
    },
    /// A program runs, but is not ready.
    #[error("{program} was not ready within {seconds} s; {} ends with:\n{tail}", log.display())]
    NotReady {
        /// The program.
        program: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The log's last lines of this run.
        tail: String,
    },
    /// A process outlived SIGKILL.
    #[error("{program} (process {pid}) does not end, even when killed")]
    Stubborn {
        /// The program.
        program: &'static str,
        /// Its process id.
        pid: i32,
    },
    /// The new Postgres refuses us.
    #[error("the private postgres on 127.0.0.1:{port} refuses: cannot {action}")]
    Database {
        /// The port.
        port: u16,
        /// What was tried: a verb.
        action: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
}

/// Turns an I/O error into one that says what was tried on which file.
pub(super) fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.to_owned(), source }
}
