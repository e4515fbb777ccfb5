//! The deploy command: runs it as if it ran alone, and returns its result.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use futures::FutureExt as _;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};

use crate::environment;

/// Exit statuses that shells use for a command that is not found, and for one that cannot be run.
const NOT_FOUND_STATUS: u8 = 127;
const NOT_RUNNABLE_STATUS: u8 = 126;

/// The exit status of the command, and the failure if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandResult {
    /// The exit status as a shell reports it.
    pub(crate) code: u8,
    pub(crate) failure: Option<String>,
}

impl CommandResult {
    pub(crate) fn not_started(failure: &str) -> Self {
        Self { code: NOT_RUNNABLE_STATUS, failure: Some(failure.to_owned()) }
    }

    /// Names the program but not its arguments, which may be secret.
    fn of(program: &str, status: ExitStatus) -> Self {
        let code = match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, signal) => u8::try_from(128 + signal.unwrap_or_default()).unwrap_or(u8::MAX),
        };
        Self { code, failure: (code != 0).then(|| format!("{program} ended with {status}")) }
    }
}

/// Signals that are forwarded to the command. A signal that this process was started with ignored, as HUP
/// under `nohup`, is not caught: the command inherits that and ignores it as if it ran alone.
pub(super) struct Signals {
    terminate: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
    quit: Option<unix::Signal>,
}

impl Signals {
    /// Catches the signals: from now on they do not end this process.
    pub(super) fn catch() -> io::Result<Self> {
        // A parent may ignore CHLD, which is inherited: without a handler, the command would end without a
        // status.
        drop(signal(SignalKind::child())?);
        let ignored = environment::ignored_signals();
        let caught = |kind: SignalKind| {
            let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        Ok(Self {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hangup: caught(SignalKind::hangup())?,
            quit: caught(SignalKind::quit())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            () = receive(&mut self.terminate) => Signal::TERM,
            () = receive(&mut self.interrupt) => Signal::INT,
            () = receive(&mut self.hangup) => Signal::HUP,
            () = receive(&mut self.quit) => Signal::QUIT,
        }
    }

    /// Discards the signals received so far.
    pub(super) fn discard_pending(&mut self) {
        while self.next().now_or_never().is_some() {}
    }
}

/// Waits for the signal; never returns if the signal is not caught.
async fn receive(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Runs the command to its end.
pub(super) async fn run(command: &[OsString], signals: &mut Signals) -> CommandResult {
    let [program, arguments @ ..] = command else { return CommandResult::not_started("no command given") };
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            let code =
                if error.kind() == io::ErrorKind::NotFound { NOT_FOUND_STATUS } else { NOT_RUNNABLE_STATUS };
            let failure = format!("cannot run {name}: {error}");
            super::print_notice(&failure);
            return CommandResult { code, failure: Some(failure) };
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => return match status {
                Ok(status) => CommandResult::of(&name, status),
                Err(error) => CommandResult::not_started(&format!("cannot tell how {name} ended: {error}")),
            },
            signal = signals.next() => forward(&child, signal),
        }
    }
}

/// Forwards a signal, unless the command has received it already: Ctrl-C and Ctrl-\ reach every process in
/// the terminal, and programs take a second one as a stronger request.
fn forward(child: &Child, signal: Signal) {
    if matches!(signal, Signal::INT | Signal::QUIT) && is_foreground() {
        return;
    }
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // The command may have ended in the meantime.
    let _ = process.map(|process| kill_process(process, signal));
}

/// Returns true if this process is in the foreground of a terminal.
fn is_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn result_of(command: &[&str]) -> CommandResult {
        let command: Vec<_> = command.iter().map(OsString::from).collect();
        let mut signals = Signals::catch().expect("signals");
        run(&command, &mut signals).await
    }

    fn failed(code: u8, failure: &str) -> CommandResult {
        CommandResult { code, failure: Some(failure.to_owned()) }
    }

    #[tokio::test]
    async fn the_exit_status_follows_the_shell_convention() {
        assert_eq!(result_of(&["true"]).await, CommandResult { code: 0, failure: None });
        assert_eq!(result_of(&["sh", "-c", "exit 3"]).await, failed(3, "sh ended with exit status: 3"));
        assert_eq!(
            result_of(&["/bin/sh", "-c", "kill -KILL $$"]).await,
            failed(137, "sh ended with signal: 9 (SIGKILL)")
        );
    }

    #[tokio::test]
    async fn a_command_that_cannot_be_run_has_its_own_exit_status() {
        let missing = result_of(&["/nowhere/deploy", "--token=secret"]).await;
        assert_eq!(missing, failed(127, "cannot run deploy: No such file or directory (os error 2)"));
        assert_eq!(result_of(&["/etc"]).await.code, 126);
    }
}
