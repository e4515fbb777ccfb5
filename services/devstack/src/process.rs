//! Server processes that this process started, or that an earlier, killed one left running.
//!
//! A child has its own process group, so that Ctrl-C in the terminal reaches only this process, which stops the child
//! in order. A child never outlives its [`Process`]. If this process is killed, the child keeps running. A later start
//! finds it by its command line and its working directory ([`find_processes`]), not by a stored process id, which
//! another process may have by then, or which is in a copy of the directory, too.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
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

/// Identity of a directory: every path to it has the same, and a copy of it has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Process of this machine, as it was found: a process id alone may belong to another process later.
#[derive(Debug)]
pub(super) struct RunningProcess {
    pid: Pid,
    /// Start time, in ticks since the machine started.
    started: u64,
    arguments: Vec<String>,
    /// Working directory; `None` if this process may not read it.
    directory: Option<DirectoryId>,
}

impl RunningProcess {
    /// Reads a process; `None` if it does not exist, or has no arguments, as a zombie.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        let started = start_time(pid)?;
        let arguments = arguments(pid);
        let directory = DirectoryId::of(Path::new(&format!("/proc/{pid}/cwd")));
        // Another process may have got the id meanwhile.
        (start_time(pid) == Some(started) && !arguments.is_empty()).then_some(Self {
            pid,
            started,
            arguments,
            directory,
        })
    }

    /// Returns the arguments, program name first.
    pub(super) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Returns true if the working directory is one of these, or `None` if it is unknown.
    pub(super) fn works_in(&self, directories: &[&Path]) -> Option<bool> {
        let own = self.directory?;
        Some(directories.iter().filter_map(|path| DirectoryId::of(path)).any(|directory| directory == own))
    }

    fn is_gone(&self) -> bool {
        start_time(self.pid) != Some(self.started) || has_exited(self.pid)
    }

    /// Sends a signal, unless the process has exited.
    fn signal(&self, signal: Signal) {
        if !self.is_gone() {
            // The process may exit concurrently: a missing process is not an error.
            let _ = kill_process(self.pid, signal);
        }
    }
}

/// Returns all running processes that match `predicate`.
pub(super) fn find_processes(predicate: impl Fn(&RunningProcess) -> bool) -> Vec<RunningProcess> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter_map(RunningProcess::read)
        .filter(|process| predicate(process))
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
    predicate: impl Fn(&RunningProcess) -> bool,
    signal: Signal,
    timeout: Duration,
) -> Result<usize, Error> {
    let mut remaining = find_processes(predicate);
    let count = remaining.len();
    for (signal, timeout) in [(signal, timeout), (Signal::KILL, KILL_TIMEOUT)] {
        for process in &remaining {
            process.signal(signal);
            process.signal(Signal::CONT);
        }
        let deadline = Instant::now() + timeout;
        while remaining.iter().any(|process| !process.is_gone()) && Instant::now() < deadline {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        remaining.retain(|process| !process.is_gone());
    }
    match remaining.first() {
        None => Ok(count),
        Some(process) => Err(Error::StillRunning { program, pid: process.pid.as_raw_pid() }),
    }
}

/// Returns true if a process has exited. A zombie counts: its parent has not waited for it yet, but its files and
/// sockets are closed.
fn has_exited(pid: Pid) -> bool {
    matches!(state(Path::new(&format!("/proc/{pid}"))), None | Some('Z' | 'X'))
}

/// Returns the start time of a process, in ticks since the machine started; `None` if the process does not exist.
fn start_time(pid: Pid) -> Option<u64> {
    // The 22nd field; the first of `stat_fields` is the third.
    stat_fields(Path::new(&format!("/proc/{pid}")))?.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
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
    stat_fields(directory)?.chars().next()
}

/// Reads the fields of a process or thread that follow its name. The name is in parentheses and may contain
/// parentheses itself.
fn stat_fields(directory: &Path) -> Option<String> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a process that runs until it is dropped, and finds it.
    fn sleeping(log: &Path, directory: &Path) -> (Process, RunningProcess) {
        let mut command = Command::new("sleep");
        command.arg("600").current_dir(directory);
        let process = Process::spawn("sleep", &mut command, log, Signal::KILL).expect("started");
        // The kernel sets the arguments a moment after the program starts.
        let found = std::iter::repeat_with(|| RunningProcess::read(Pid::from_child(&process.child)))
            .flatten()
            .find(|found| found.arguments() == ["sleep", "600"])
            .expect("the program starts");
        (process, found)
    }

    #[test]
    fn a_process_is_found_by_its_arguments_and_its_working_directory() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (here, copy) = (root.path().join("here"), root.path().join("copy"));
        for directory in [&here, &copy] {
            fs::create_dir(directory).expect("directory created");
        }
        let (_process, found) = sleeping(&root.path().join("log"), &here);

        assert_eq!(found.works_in(&[&here]), Some(true));
        assert_eq!(found.works_in(&[&copy, &root.path().join("missing")]), Some(false));
        fs::rename(&here, root.path().join("moved")).expect("moved");
        assert_eq!(found.works_in(&[&root.path().join("moved")]), Some(true));
    }

    #[test]
    fn a_process_with_the_same_id_and_another_start_time_is_another_process() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (_process, mut found) = sleeping(&root.path().join("log"), root.path());
        assert!(!found.is_gone());

        found.started += 1;
        assert!(found.is_gone());
        found.signal(Signal::KILL);
        assert!(!has_exited(found.pid), "the signal reached another process");
    }
}
