//! The command that deploys: run as if it were run alone, and how it ends.

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

/// The status that shells give to a command that is not found, and to one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// How the command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its status as a shell tells it.
    pub(super) code: u8,
    /// What went wrong, if anything.
    pub(super) why: Option<String>,
}

impl Ended {
    pub(super) fn not_begun(why: &str) -> Self {
        Self { code: NOT_RUN, why: Some(why.to_owned()) }
    }

    /// The program is named, and its arguments, which may be secret, are not.
    fn of(program: &str, status: ExitStatus) -> Self {
        let code = match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, signal) => u8::try_from(128 + signal.unwrap_or_default()).unwrap_or(u8::MAX),
        };
        Self { code, why: (code != 0).then(|| format!("{program} ended with {status}")) }
    }
}

/// The signals that are passed on to the command. One that this process was started with ignored, as HUP under `nohup`,
/// is not caught: the command inherits that, and ignores it as it would if it were run alone.
pub(super) struct Signals {
    terminate: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
    quit: Option<unix::Signal>,
}

impl Signals {
    /// Catches them: from now on they do not end this process.
    pub(super) fn catch() -> io::Result<Self> {
        // A parent may ignore CHLD, and that is inherited: the command would end without a status.
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
            () = received(&mut self.terminate) => Signal::TERM,
            () = received(&mut self.interrupt) => Signal::INT,
            () = received(&mut self.hangup) => Signal::HUP,
            () = received(&mut self.quit) => Signal::QUIT,
        }
    }

    /// Passes over those that have come.
    pub(super) fn forget(&mut self) {
        while self.next().now_or_never().is_some() {}
    }
}

/// Waits for the signal; for ever where it is not caught.
async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Runs the command to its end.
pub(super) async fn run(command: &[OsString], signals: &mut Signals) -> Ended {
    let [program, arguments @ ..] = command else { return Ended::not_begun("there is no command") };
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
            let why = format!("{name} cannot be run: {error}");
            super::tell(&why);
            return Ended { code, why: Some(why) };
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => return match status {
                Ok(status) => Ended::of(&name, status),
                Err(error) => Ended::not_begun(&format!("how {name} ended is not known: {error}")),
            },
            signal = signals.next() => pass_on(&child, signal),
        }
    }
}

/// Passes a signal on, unless the command has it already: Ctrl-C and Ctrl-\ reach all that run in the terminal, and
/// twice they mean more than once.
fn pass_on(child: &Child, signal: Signal) {
    if matches!(signal, Signal::INT | Signal::QUIT) && is_in_terminal() {
        return;
    }
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // What has just ended cannot be reached any more.
    let _ = process.map(|process| kill_process(process, signal));
}

/// Whether this process is in the foreground of a terminal.
fn is_in_terminal() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(command: &[&str]) -> Ended {
        let command: Vec<_> = command.iter().map(OsString::from).collect();
        let mut signals = Signals::catch().expect("signals");
        run(&command, &mut signals).await
    }

    fn badly(code: u8, why: &str) -> Ended {
        Ended { code, why: Some(why.to_owned()) }
    }

    #[tokio::test]
    async fn a_status_is_told_as_a_shell_tells_it() {
        assert_eq!(ended(&["true"]).await, Ended { code: 0, why: None });
        assert_eq!(ended(&["sh", "-c", "exit 3"]).await, badly(3, "sh ended with exit status: 3"));
        assert_eq!(
            ended(&["/bin/sh", "-c", "kill -KILL $$"]).await,
            badly(137, "sh ended with signal: 9 (SIGKILL)")
        );
    }

    #[tokio::test]
    async fn what_cannot_be_run_has_a_status_of_its_own() {
        let missing = ended(&["/nowhere/deploy", "--token=secret"]).await;
        assert_eq!(missing, badly(127, "deploy cannot be run: No such file or directory (os error 2)"));
        assert_eq!(ended(&["/etc"]).await.code, 126);
    }
}
