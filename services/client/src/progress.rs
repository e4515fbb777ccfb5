//! Progress of a long command: a bar on stderr if stderr is a terminal, and notes.

use std::io::{self, IsTerminal as _, Read, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use ledger_domain::escape_line;

use super::address::hide_credentials;

pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Prints notes only.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Shows how many bytes were read through [`Progress::reading`]; a spinner if their number is unknown.
    pub(super) fn of_bytes(length: Option<u64>) -> Self {
        Self::new(length, "{bar:32} {percent:>3} %  {msg}  {elapsed}", "{spinner}  {msg}  {elapsed}")
    }

    /// Shows a count of recorded events.
    pub(super) fn of_events() -> Self {
        Self::new(None, "", "{spinner}  {msg}  {elapsed}")
    }

    /// Shows how many of a known number of steps are done.
    pub(super) fn of_steps(number: u64) -> Self {
        Self::new(Some(number), "{bar:32} {pos} of {len} steps  {msg}  {elapsed}", "")
    }

    fn new(length: Option<u64>, bar: &str, spinner: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self::hidden();
        }
        let (progress, template) = match length {
            Some(length) => (ProgressBar::new(length), bar),
            None => (ProgressBar::new_spinner(), spinner),
        };
        // An invalid template falls back to the default style.
        Self(match ProgressStyle::with_template(template) {
            Ok(style) => progress.with_style(style),
            Err(_) => progress,
        })
    }

    /// Wraps a reader so that reading moves the bar.
    pub(super) fn reading<R: Read>(&self, reader: R) -> impl Read + use<R> {
        self.0.wrap_read(reader)
    }

    pub(super) fn set_message(&self, message: &str) {
        self.0.set_message(message.to_owned());
        self.0.tick();
    }

    /// Sets how many steps are done, and the message for the current ones.
    pub(super) fn set_position(&self, done: u64, message: &str) {
        self.0.set_position(done);
        self.0.set_message(message.to_owned());
        self.0.tick();
    }

    /// Counts one more step as done.
    pub(super) fn advance(&self) {
        self.0.inc(1);
    }

    pub(super) fn note(&self, text: &str) {
        self.line(&format!("note: {text}"));
    }

    /// Prints a line on stderr, above the bar if there is one. Escapes unprintable characters.
    pub(super) fn line(&self, text: &str) {
        self.output_line(&escape_line(&hide_credentials(text)));
    }

    /// Prints a line of a command of the user on stderr, unchanged: the user's own commands may use the terminal.
    pub(super) fn output_line(&self, text: &str) {
        self.0.suspend(|| {
            // Ignore a closed stderr.
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
