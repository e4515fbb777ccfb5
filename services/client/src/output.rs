//! Output on stdout, and notices on stderr.
//!
//! Invariant: what a service answers, and what an event contains, cannot control a terminal: control characters,
//! bidirectional controls and invisible characters are escaped. JSON has its own escapes for them, so that it stays
//! the same JSON.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use ledger_domain::{escape_line, escape_unprintable, is_format};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;

use super::address::hide_credentials;

/// Returns the text of an error as it may be shown: without the credentials of URLs, and with unprintable characters
/// escaped, except for line feeds and tabs.
#[must_use]
pub fn printable(error: &str) -> String {
    escape_unprintable(&hide_credentials(error)).into_owned()
}

/// Writes bytes to stdout, and a line feed if they do not end in one. A closed pipe, as of `head`, is not an error.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out.write_all(bytes).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    ignore_broken_pipe(written)
}

/// Writes text for people to stdout, with unprintable characters escaped.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_text(text: &str) -> io::Result<()> {
    print_bytes(escape_unprintable(text).as_bytes())
}

/// Writes JSON to stdout, with unprintable characters as escapes of JSON.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_json(json: &[u8]) -> io::Result<()> {
    print_bytes(shown_json(json).as_bytes())
}

/// Returns JSON as it may be shown: with unprintable characters as escapes of JSON.
#[must_use]
pub fn shown_json(json: &[u8]) -> String {
    escape_json(&String::from_utf8_lossy(json)).into_owned()
}

/// Writes JSON or other text to stdout: see [`print_json`] and [`print_text`].
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_json_or_text(json: bool, text: &str) -> io::Result<()> {
    if json { print_json(text.as_bytes()) } else { print_text(text) }
}

/// Width of a terminal that does not state its size, in columns.
const DEFAULT_WIDTH: usize = 80;

/// Returns the width of the terminal at stdout, in columns, at least 1; `None`: stdout is no terminal.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    Some(width.unwrap_or(DEFAULT_WIDTH))
}

/// Writes a file for other programs to stdout: unchanged, unless stdout is a terminal.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_file(bytes: &[u8]) -> io::Result<()> {
    print_bytes(&shown_file(bytes))
}

/// Returns a file for other programs as it may be written to stdout.
pub(super) fn shown_file(bytes: &[u8]) -> Cow<'_, [u8]> {
    if io::stdout().is_terminal() {
        Cow::Owned(escape_unprintable(&String::from_utf8_lossy(bytes)).into_owned().into_bytes())
    } else {
        Cow::Borrowed(bytes)
    }
}

/// Returns JSON with unprintable characters as `\u202e`. In JSON, these occur in strings only.
fn escape_json(json: &str) -> Cow<'_, str> {
    let is_unprintable = |c: char| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || is_format(c);
    if !json.contains(is_unprintable) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unprintable(c) {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            escaped.extend(units.map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Ignores a closed pipe: the reader has read enough.
pub(super) fn ignore_broken_pipe(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Returns true if stdout is a pipe, as of `head`, whose reader is gone. A command without an end must look: while it
/// has nothing to write, no write fails.
pub(super) fn is_stdout_closed() -> bool {
    is_closed(&io::stdout())
}

/// Returns true if a pipe has no reader any more.
pub(super) fn is_closed(pipe: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let closed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().intersects(closed)
}

/// Prints one line on stderr with the name of this program, since the line may stand among the output of a command
/// that the program runs.
pub(super) fn print_notice(text: &str) {
    // Ignore a closed stderr.
    let _ = writeln!(io::stderr().lock(), "release-ledger: {}", escape_line(&hide_credentials(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprintable_characters_in_json_become_escapes_of_json() {
        let json = "{\"reason\":\"a\u{202e}b\u{9b}\u{e0061}é 😀\"}\r\n";
        let escaped = escape_json(json);
        assert_eq!(escaped, "{\"reason\":\"a\\u202eb\\u009b\\udb40\\udc61é 😀\"}\r\n");
        let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON");
        assert_eq!(parse(&escaped), parse(json));
        assert!(matches!(escape_json("{\"a\":\"é\\u202e\"}"), Cow::Borrowed(_)));
        // A proxy's page is no JSON, and cannot control the terminal either.
        assert_eq!(escape_json("<b>\u{1b}[2J"), "<b>\\u001b[2J");
    }

    #[test]
    fn an_error_shows_neither_credentials_nor_control_characters() {
        assert_eq!(
            printable("cannot reach http://ci:s3cret@h/\u{1b}[2J\n"),
            "cannot reach http://***@h/\\u{1b}[2J\n"
        );
    }
}
