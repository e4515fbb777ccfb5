//! A program as a process of its own group, which gets signals and is gone with the value that holds it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// A running process.
pub(crate) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Runs a command, whose output goes to the end of a file.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Self {
        let output = File::options().append(true).create(true).open(log).expect("a log");
        let errors = output.try_clone().expect("a log");
        let command = command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        Self { child: command.spawn().expect("the program starts"), ended: None }
    }

    /// How it ended by itself, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the system tells");
        }
        self.ended
    }

    /// Sends a signal to the process and what it started, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // It may have ended meanwhile.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }
}

/// Sends a signal to a process that may have been killed.
pub(crate) fn signal(process: &mut Option<Process>, signal: Signal) {
    if let Some(process) = process {
        process.signal(signal);
    }
}

impl Drop for Process {
    /// SIGKILL, and the end of the process, also of one that is stopped.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // A killed process ends.
        let _ = self.child.wait();
    }
}
