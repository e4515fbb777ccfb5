//! What a person sees while events are sent: a bar on stderr if it is a terminal, and a note when
//! the service does not take them.

use std::io::{self, IsTerminal as _, Read, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Nothing but notes.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Of what is read through [`Progress::reading`], in bytes; without their number, only that
    /// there is progress.
    pub(super) fn of_bytes(length: Option<u64>) -> Self {
        Self::new(length, "{bar:32} {percent:>3} %  {msg}  {elapsed}", "{spinner}  {msg}  {elapsed}")
    }

    /// Of events, which are counted as they are recorded.
    pub(super) fn of_events() -> Self {
        Self::new(None, "", "{spinner}  {msg}  {elapsed}")
    }

    /// Of steps, whose number is known.
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
        // A template that is wrong would show itself as the default one.
        Self(match ProgressStyle::with_template(template) {
            Ok(style) => progress.with_style(style),
            Err(_) => progress,
        })
    }

    /// A reader whose reads move the bar.
    pub(super) fn reading<R: Read>(&self, reader: R) -> impl Read + use<R> {
        self.0.wrap_read(reader)
    }

    pub(super) fn recorded(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    /// How many steps are done, and what is under way.
    pub(super) fn at(&self, done: u64, what: &str) {
        self.0.set_position(done);
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    /// One more step is done.
    pub(super) fn advance(&self) {
        self.0.inc(1);
    }

    pub(super) fn note(&self, text: &str) {
        self.line(&format!("note: {text}"));
    }

    /// A line on stderr, above the bar if there is one.
    pub(super) fn line(&self, text: &str) {
        self.0.suspend(|| {
            // Nothing is left to be done where stderr is closed.
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
