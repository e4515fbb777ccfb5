//! A program in a process group of its own, which receives signals and is killed when its value is dropped.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// A process that was started.
pub(crate) struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a command and appends its output to a file.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Self {
        let output = File::options().append(true).create(true).open(log).expect("open the log");
        let errors = output.try_clone().expect("open the log");
        let command = command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        Self { child: command.spawn().expect("start the program"), status: None }
    }

    /// Returns the exit status, or `None` while the process runs.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("read the exit status");
        }
        self.status
    }

    /// Sends a signal to the process group, unless the process has exited.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            // The process may have exited since.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }
}

/// Sends a signal to a process, if it was not killed before.
pub(crate) fn signal(process: &mut Option<Process>, signal: Signal) {
    if let Some(process) = process {
        process.signal(signal);
    }
}

impl Drop for Process {
    /// Kills the process, also a stopped one, and waits for its end.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // Nothing to do about an error: SIGKILL ends the process in any case.
        let _ = self.child.wait();
    }
}
