//! Processes that we started, now or in a former life that ended by SIGKILL.
//!
//! A child has its own process group: Ctrl-C in the terminal reaches us and not the child, which we
//! end when its turn has come. A child never outlives its [`Process`]; it does outlive us when we
//! are killed, and is then found again by its command line ([`running`]), never by a kept number
//! alone, which may be someone else's by then.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::Error;
use super::error::file;

/// How often a state is looked at that nobody tells us about.
pub(super) const POLL: Duration = Duration::from_millis(5);
/// How long a server may take to become ready: it may have much to recover.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How much of a log an error shows.
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 20;

/// A child of ours, with its log. Dropping it ends the child and waits for that.
#[derive(Debug)]
pub(super) struct Process {
    program: &'static str,
    child: Child,
    ended: Option<ExitStatus>,
    farewell: Signal,
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// Runs `command` in a process group of its own, with its output appended to `log`. `farewell`
    /// is the signal by which it is ended when dropped.
    ///
    /// # Errors
    /// The log cannot be opened, or the program cannot be run.
    pub(super) fn spawn(
        program: &'static str,
        command: &mut Command,
        log: &Path,
        farewell: Signal,
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
        Ok(Self { program, child, ended: None, farewell, log: log.to_owned(), log_start })
    }

    /// The number of the child.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.ended.is_none() {
            self.ended =
                self.child.try_wait().map_err(file("wait for the process that logs to", &self.log))?;
        }
        Ok(self.ended)
    }

    /// Sends a signal to the child's process group, unless the child has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It may have ended meanwhile: nobody to signal is no error.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Waits until the child has ended by itself; `None` if it has not within this time.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) async fn ended_within(&mut self, time: Duration) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + time;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the child: by `signal`, and if that takes longer than `patience`, by SIGKILL.
    ///
    /// # Errors
    /// It does not end.
    pub(super) async fn end(&mut self, signal: Signal, patience: Duration) -> Result<(), Error> {
        self.signal(signal);
        // One that was paused does not hear until it is resumed.
        self.signal(Signal::CONT);
        if self.ended_within(patience).await?.is_none() {
            tracing::warn!(program = self.program, process.id = self.id(), "does not stop: killed");
            self.signal(Signal::KILL);
            if self.ended_within(GONE_WITHIN).await?.is_none() {
                let pid = Pid::from_child(&self.child).as_raw_nonzero().get();
                return Err(Error::Stubborn { program: self.program, pid });
            }
        }
        Ok(())
    }

    /// The error for a child that ended as `status` says though it should have listened on `port`.
    pub(super) fn exited(&self, status: ExitStatus, port: Option<u16>) -> Error {
        let tail = self.tail();
        match port {
            Some(port) if tail.to_ascii_lowercase().contains("address already in use") => {
                Error::PortTaken { server: self.program, port }
            }
            _ => Error::Exited { program: self.program, status, log: self.log.clone(), tail },
        }
    }

    /// The error for a child that runs and is not ready after [`READY_WITHIN`].
    pub(super) fn not_ready(&self) -> Error {
        Error::NotReady {
            program: self.program,
            seconds: READY_WITHIN.as_secs(),
            log: self.log.clone(),
            tail: self.tail(),
        }
    }

    /// The last lines that this run of the child has logged.
    fn tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut log = File::open(&self.log)?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(self.log_start.max(length.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// What SIGKILL to ourselves does: the child stays, and we forget it.
    #[cfg(test)]
    pub(super) fn abandon(mut self) {
        // A child that has "ended" is left alone.
        self.ended = Some(ExitStatus::default());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.farewell);
        self.signal(Signal::CONT);
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.ended().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL);
                // Nothing more can be done here, and a killed child does end.
                let _ = self.child.wait();
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a destructor cannot await")]
            std::thread::sleep(POLL);
        }
    }
}

/// All running processes whose arguments, the program's name first, are as asked for. Those that
/// have ended and are not yet waited for have no arguments, and are not among them.
pub(super) fn running(which: impl Fn(&[String]) -> bool) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| which(&arguments(*pid)))
        .collect()
}

/// The arguments of a process; none if there is no such process.
pub(super) fn arguments(pid: Pid) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Ends the processes that `which` chooses, whoever started them: by `signal`, and those that take
/// longer than `patience` by SIGKILL. Says how many there were.
///
/// # Errors
/// One does not end.
pub(super) async fn end_all(
    program: &'static str,
    which: impl Fn(&[String]) -> bool,
    signal: Signal,
    patience: Duration,
) -> Result<usize, Error> {
    let mut left = running(which);
    let count = left.len();
    for (signal, time) in [(signal, patience), (Signal::KILL, GONE_WITHIN)] {
        for pid in &left {
            // One that has ended meanwhile is what we want.
            let _ = kill_process(*pid, signal);
            let _ = kill_process(*pid, Signal::CONT);
        }
        let deadline = Instant::now() + time;
        while left.iter().any(|pid| !is_gone(*pid)) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        left.retain(|pid| !is_gone(*pid));
    }
    match left.first() {
        None => Ok(count),
        Some(pid) => Err(Error::Stubborn { program, pid: pid.as_raw_nonzero().get() }),
    }
}

/// Whether a process has ended. It may still wait to be waited for, by a parent that is not us;
/// its files and sockets are closed by then.
fn is_gone(pid: Pid) -> bool {
    matches!(state(Path::new(&format!("/proc/{pid}"))), None | Some('Z' | 'X'))
}

/// Waits until all threads of a process stand still after SIGSTOP, which each obeys when it next
/// leaves the kernel, or until the process has ended.
pub(super) async fn halted(pid: u32) {
    let threads = format!("/proc/{pid}/task");
    let all_stopped = || {
        let mut threads = fs::read_dir(&threads).into_iter().flatten().filter_map(Result::ok);
        threads.all(|thread| matches!(state(&thread.path()), None | Some('T' | 'Z' | 'X')))
    };
    while !all_stopped() {
        tokio::time::sleep(POLL).await;
    }
}

/// The state of a process or thread, by its folder in `/proc`; `None` if there is none.
fn state(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // It follows the name, which is in brackets and may itself contain any.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
