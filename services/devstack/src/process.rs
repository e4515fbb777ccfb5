//! Server processes that this process started, or that an earlier, killed one left running.
//!
//! A child has its own process group, so that Ctrl-C in the terminal reaches only this process, which stops the child
//! in order. A child never outlives its [`Process`]. If this process is killed, the child keeps running. A later start
//! finds it by its command line ([`find_processes`]), not by a stored process id, which another process may have by
//! then.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::Error;
use super::error::file;

/// Interval of polling for state changes without a notification.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Time limit for a server to become ready; it may have to recover much data.
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(120);
/// Time limit for a process to exit after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a child to exit on drop, before SIGKILL.
const DROP_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum part of a log that an error shows.
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 20;

/// Child process with its log. Dropping it stops the child and waits for its exit.
#[derive(Debug)]
pub(super) struct Process {
    program: &'static str,
    child: Child,
    exit_status: Option<ExitStatus>,
    drop_signal: Signal,
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// Runs `command` in its own process group and appends its output to `log`. Dropping the process sends
    /// `drop_signal`.
    ///
    /// # Errors
    /// The log cannot be opened, or the program cannot be executed.
    pub(super) fn spawn(
        program: &'static str,
        command: &mut Command,
        log: &Path,
        drop_signal: Signal,
    ) -> Result<Self, Error> {
        let output = File::options().append(true).create(true).open(log).map_err(file("open", log))?;
        let log_start = output.metadata().map_err(file("read", log))?.len();
        let errors = output.try_clone().map_err(file("open", log))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: command.get_program().into(), source })?;
        Ok(Self { program, child, exit_status: None, drop_signal, log: log.to_owned(), log_start })
    }

    /// Returns the process id of the child.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status of the child if it has exited.
    ///
    /// # Errors
    /// The status cannot be read.
    pub(super) fn exit_status(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.exit_status.is_none() {
            self.exit_status =
                self.child.try_wait().map_err(file("wait for the process that logs to", &self.log))?;
        }
        Ok(self.exit_status)
    }

    /// Sends a signal to the child's process group, unless the child has exited.
    pub(super) fn signal(&self, signal: Signal) {
        if self.exit_status.is_none() {
            // The child may exit concurrently: a missing process is not an error.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Waits until the child exits, for at most `timeout`. Returns `None` if it still runs then.
    ///
    /// # Errors
    /// The status cannot be read.
    pub(super) async fn wait_for_exit(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.exit_status()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops the child with `signal`, and with SIGKILL if that takes longer than `timeout`.
    ///
    /// # Errors
    /// The child does not exit after SIGKILL.
    pub(super) async fn stop(&mut self, signal: Signal, timeout: Duration) -> Result<(), Error> {
        self.signal(signal);
        // A paused process handles signals only after it resumes.
        self.signal(Signal::CONT);
        if self.wait_for_exit(timeout).await?.is_none() {
            tracing::warn!(
                program = self.program,
                process.id = self.id(),
                "process does not stop; killing it"
            );
            self.signal(Signal::KILL);
            if self.wait_for_exit(KILL_TIMEOUT).await?.is_none() {
                let pid = Pid::from_child(&self.child).as_raw_nonzero().get();
                return Err(Error::StillRunning { program: self.program, pid });
            }
        }
        Ok(())
    }

    /// Returns the error for a child that exited with `status` instead of listening on `port`.
    pub(super) fn exited(&self, status: ExitStatus, port: Option<u16>) -> Error {
        let tail = self.tail();
        match port {
            Some(port) if tail.to_ascii_lowercase().contains("address already in use") => {
                Error::PortTaken { server: self.program, port }
            }
            _ => Error::Exited { program: self.program, status, log: self.log.clone(), tail },
        }
    }

    /// Returns the error for a child that runs but is not ready after [`STARTUP_TIMEOUT`].
    pub(super) fn not_ready(&self) -> Error {
        Error::NotReady {
            program: self.program,
            seconds: STARTUP_TIMEOUT.as_secs(),
            log: self.log.clone(),
            tail: self.tail(),
        }
    }

    /// Returns the last lines that this run of the child has logged.
    fn tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut log = File::open(&self.log)?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(self.log_start.max(length.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("(cannot read the log: {error})"));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Leaves the child running, as if this process had been killed.
    #[cfg(test)]
    pub(super) fn abandon(mut self) {
        // Drop does not signal a child with an exit status.
        self.exit_status = Some(ExitStatus::default());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.drop_signal);
        self.signal(Signal::CONT);
        let deadline = Instant::now() + DROP_TIMEOUT;
        while self.exit_status().is_ok_and(|status| status.is_none()) {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL);
                // The child exits after SIGKILL; an error here cannot be handled.
                let _ = self.child.wait();
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a destructor cannot await")]
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Returns all running processes with arguments, program name first, that match `predicate`. Zombies have no arguments,
/// so they are not included.
pub(super) fn find_processes(predicate: impl Fn(&[String]) -> bool) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| predicate(&arguments(*pid)))
        .collect()
}

/// Returns the arguments of a process, or none if it does not exist.
pub(super) fn arguments(pid: Pid) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Stops all processes that match `predicate`, regardless of their parent: with `signal`, and with SIGKILL if that
/// takes longer than `timeout`. Returns their number.
///
/// # Errors
/// A process does not exit after SIGKILL.
pub(super) async fn stop_all(
    program: &'static str,
    predicate: impl Fn(&[String]) -> bool,
    signal: Signal,
    timeout: Duration,
) -> Result<usize, Error> {
    let mut remaining = find_processes(predicate);
    let count = remaining.len();
    for (signal, timeout) in [(signal, timeout), (Signal::KILL, KILL_TIMEOUT)] {
        for pid in &remaining {
            // A process that has exited meanwhile is not an error.
            let _ = kill_process(*pid, signal);
            let _ = kill_process(*pid, Signal::CONT);
        }
        let deadline = Instant::now() + timeout;
        while remaining.iter().any(|pid| !is_gone(*pid)) && Instant::now() < deadline {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        remaining.retain(|pid| !is_gone(*pid));
    }
    match remaining.first() {
        None => Ok(count),
        Some(pid) => Err(Error::StillRunning { program, pid: pid.as_raw_nonzero().get() }),
    }
}

/// Returns true if a process has exited. A zombie counts: its parent has not waited for it yet, but its files and
/// sockets are closed.
fn is_gone(pid: Pid) -> bool {
    matches!(state(Path::new(&format!("/proc/{pid}"))), None | Some('Z' | 'X'))
}

/// Waits until all threads of a process have stopped after SIGSTOP, or the process has exited. Each thread stops when
/// it next leaves the kernel.
pub(super) async fn wait_until_stopped(pid: u32) {
    let threads = format!("/proc/{pid}/task");
    let all_stopped = || {
        let mut threads = fs::read_dir(&threads).into_iter().flatten().filter_map(Result::ok);
        threads.all(|thread| matches!(state(&thread.path()), None | Some('T' | 'Z' | 'X')))
    };
    while !all_stopped() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Reads the state of a process or thread from its directory in `/proc`. Returns `None` if it does not exist.
fn state(directory: &Path) -> Option<char> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    // The state follows the name, which is in parentheses and may contain parentheses itself.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
