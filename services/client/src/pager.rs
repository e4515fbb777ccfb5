//! The pager: shows output that is longer than the terminal, a screen at a time.
//!
//! Invariants: only output to a terminal is paged, and only after the first write. A pager that cannot be started, or that
//! the user quits, is no failure. It has ended when the value is dropped, so that nothing else writes to the terminal
//! meanwhile.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{ignore_broken_pipe, is_closed, is_stdout_closed, print_bytes, print_notice};
use crate::environment;

/// Stdout, through the pager if it is a terminal.
pub(super) enum Pager {
    /// Not started yet.
    Wanted,
    /// Output goes to stdout.
    Off,
    Running(Running),
}

/// A process that shows what is written to it.
pub(super) struct Running {
    child: Child,
    /// Set until the output ends.
    stdin: Option<ChildStdin>,
}

impl Pager {
    /// Returns stdout, through the pager that the environment names if one is wanted and stdout is a terminal.
    pub(super) fn new(is_wanted: bool) -> Self {
        if is_wanted && io::stdout().is_terminal() { Self::Wanted } else { Self::Off }
    }

    /// Writes bytes, and a line feed if they do not end in one. A pager that has ended is not an error.
    ///
    /// # Errors
    /// The pager or stdout cannot be written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if matches!(self, Self::Wanted) {
            *self = environment::pager().and_then(|words| start(&words)).map_or(Self::Off, Self::Running);
        }
        let Self::Running(Running { stdin: Some(stdin), .. }) = self else { return print_bytes(bytes) };
        let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
        ignore_broken_pipe(stdin.write_all(bytes).and_then(|()| stdin.write_all(end)))
    }

    /// Returns true if the reader of the output has ended.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Running(Running { stdin: Some(stdin), .. }) => is_closed(stdin),
            Self::Running(_) => true,
            Self::Wanted | Self::Off => is_stdout_closed(),
        }
    }
}

/// Starts a pager; says why not if that fails, unless the system has no `less`.
fn start(words: &[String]) -> Option<Running> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    // A pager under sudo must not offer a shell.
    command.args(arguments).stdin(Stdio::piped()).env("LESSSECURE", "1");
    if !environment::has_less_options() {
        // Quit if the output fits the screen, show colours, and leave the output on the screen.
        command.env("LESS", "FRX");
    }
    match command.spawn() {
        Ok(mut child) => {
            // Ctrl-C is for the pager: without this handler, it would end this process and leave the terminal to both
            // the pager and the shell.
            if Handle::try_current().is_ok() {
                drop(signal(SignalKind::interrupt()));
            }
            let stdin = child.stdin.take();
            Some(Running { child, stdin })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && program == environment::DEFAULT_PAGER => {
            None
        }
        Err(error) => {
            print_notice(&format!("cannot start the pager {program}: {error}; set PAGER, or NO_PAGER=1"));
            None
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input.
        drop(self.stdin.take());
        // The output is written: how the pager ended does not matter.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(script: &str) -> Pager {
        let words = ["sh", "-c", script].map(str::to_owned);
        Pager::Running(start(&words).expect("a shell"))
    }

    #[test]
    fn a_pager_reads_everything_and_has_ended_afterwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let shown = folder.path().join("shown");
        let mut pager = running(&format!("cat > '{}'", shown.display()));
        assert!(!pager.is_closed());
        pager.write(b"one").expect("written");
        pager.write(b"two\n").expect("written");
        drop(pager);
        assert_eq!(std::fs::read_to_string(shown).expect("shown"), "one\ntwo\n");
    }

    #[test]
    fn a_pager_that_the_user_quits_is_no_error() {
        let mut pager = running("exit 1");
        let more = vec![b'x'; 1 << 20];
        pager.write(&more).expect("the pager has ended");
        assert!(pager.is_closed());
        pager.write(&more).expect("the pager has ended");
    }

    #[test]
    fn a_program_that_does_not_exist_shows_nothing() {
        assert!(start(&["/no/such/pager".to_owned()]).is_none());
        assert!(start(&[]).is_none());
    }
}
