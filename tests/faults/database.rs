//! A Postgres server that can be killed, paused and restarted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ledger_devstack::{Postgres, postgres};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;

/// A Postgres server with a folder of its own.
pub(crate) struct Database {
    folder: PathBuf,
    options: postgres::Options,
    url: String,
    server: Option<Postgres>,
    /// False from a kill to the restart.
    should_run: bool,
}

impl Database {
    /// Starts a server with a new database in this folder.
    pub(crate) async fn start(folder: &Path) -> Self {
        let path: OsString = std::env::var_os("PATH").unwrap_or_default();
        let mut options = postgres::Options::found_in(path);
        options.sync_new = false;
        let server = Postgres::start(folder, &options).await.expect("start Postgres");
        options.port = Some(server.port());
        let url = server.url().expose_secret().to_owned();
        Self { folder: folder.to_owned(), options, url, server: Some(server), should_run: true }
    }

    /// Returns the URL for clients.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Returns the port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.options.port.expect("`start` sets the port")
    }

    /// Sends SIGKILL to all its processes.
    pub(crate) async fn kill(&mut self) {
        self.should_run = false;
        if let Some(server) = self.server.take() {
            server.kill().await.expect("kill Postgres");
        }
    }

    /// Starts it with the data that it has stored. Returns an error message if it does not start.
    pub(crate) async fn restart(&mut self) -> Option<String> {
        self.should_run = true;
        match Postgres::start(&self.folder, &self.options).await {
            Ok(server) => {
                self.server = Some(server);
                None
            }
            Err(error) => Some(format!("Postgres does not start: {error}").replace('\n', " | ")),
        }
    }

    /// Sends SIGSTOP to all its processes.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT to all its processes.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let Some(first) = self.server.as_ref().map(Postgres::pid) else { return };
        // The postmaster first: once stopped, it starts no more processes.
        for pid in std::iter::once(first).chain(children(first)) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // The process may have exited.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Restarts it if it exited, and returns a note about the reason.
    pub(crate) async fn restart_if_exited(&mut self) -> Option<String> {
        if !self.should_run {
            return None;
        }
        let reason = match self.server.as_mut().map(Postgres::failure) {
            Some(Ok(None)) => return None,
            Some(Ok(Some(error)) | Err(error)) => format!("Postgres exited: {error}"),
            None => "another attempt to start Postgres".to_owned(),
        };
        if let Some(server) = self.server.take() {
            // Its remaining processes must end before another server starts.
            server.kill().await.expect("kill Postgres");
        }
        let error = self.restart().await;
        Some(format!("{reason} {}", error.unwrap_or_default()).replace('\n', " | "))
    }
}

/// Returns the processes that a process started.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| parent_of(*number) == Some(parent)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which is in parentheses: the state, then the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
