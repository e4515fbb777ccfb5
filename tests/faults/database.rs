//! Postgres, which can be killed, stopped and started again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ledger_devstack::{Postgres, postgres};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;

/// A Postgres with a folder of its own.
pub(crate) struct Database {
    folder: PathBuf,
    options: postgres::Options,
    url: String,
    server: Option<Postgres>,
    /// Whether it is to run.
    wanted: bool,
}

impl Database {
    /// Starts one.
    pub(crate) async fn start(folder: &Path) -> Self {
        let path: OsString = std::env::var_os("PATH").unwrap_or_default();
        let mut options = postgres::Options::found_in(path);
        options.sync_new = false;
        let server = Postgres::start(folder, &options).await.expect("Postgres starts");
        options.port = Some(server.port());
        let url = server.url().expose_secret().to_owned();
        Self { folder: folder.to_owned(), options, url, server: Some(server), wanted: true }
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.options.port.expect("it was started")
    }

    /// SIGKILL to all its processes.
    pub(crate) async fn kill(&mut self) {
        self.wanted = false;
        if let Some(server) = self.server.take() {
            server.kill().await.expect("Postgres is killed");
        }
    }

    /// Starts it again with what it had stored; says why it does not.
    pub(crate) async fn start_again(&mut self) -> Option<String> {
        self.wanted = true;
        match Postgres::start(&self.folder, &self.options).await {
            Ok(server) => {
                self.server = Some(server);
                None
            }
            Err(error) => Some(format!("Postgres does not start: {error}").replace('\n', " | ")),
        }
    }

    /// SIGSTOP to all its processes.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT to all its processes.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let Some(first) = self.server.as_ref().map(Postgres::pid) else { return };
        // The first process first: stopped, it starts no others.
        for pid in std::iter::once(first).chain(children(first)) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Starts it again if it ended by itself, and says how it did.
    pub(crate) async fn mind(&mut self) -> Option<String> {
        if !self.wanted {
            return None;
        }
        let ended = match self.server.as_mut().map(Postgres::failure) {
            Some(Ok(None)) => return None,
            Some(Ok(Some(error)) | Err(error)) => format!("Postgres ended by itself: {error}"),
            None => "Postgres is started once more".to_owned(),
        };
        if let Some(server) = self.server.take() {
            // What it left behind must be gone before another is started.
            server.kill().await.expect("Postgres is killed");
        }
        let started = self.start_again().await;
        Some(format!("{ended} {}", started.unwrap_or_default()).replace('\n', " | "))
    }
}

/// The processes that a process started.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| parent_of(*number) == Some(parent)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which is in brackets: the state, then the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
