//! What goes to stdout.

use std::borrow::Cow;
use std::io::{self, Write as _};

use ledger_domain::escape_unprintable;

/// Writes a text and a line feed, if it does not end in one.
///
/// # Errors
/// It cannot be written. A reader who has seen enough, as `head` has, is no error.
pub(super) fn show(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out.write_all(text).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    forgive_closed(written)
}

/// Writes a text for people, with what a terminal would not show, or would obey, as escapes.
///
/// # Errors
/// It cannot be written.
pub(super) fn show_text(text: &str) -> io::Result<()> {
    show_either(false, text)
}

/// Writes a text for programs as it is, where `json` says that it is one, and one for people as [`show_text`] does: an escape for a
/// terminal is none of JSON.
///
/// # Errors
/// It cannot be written.
pub(super) fn show_either(json: bool, text: &str) -> io::Result<()> {
    show(either(json, text).as_bytes())
}

fn either(json: bool, text: &str) -> Cow<'_, str> {
    if json { Cow::Borrowed(text) } else { escape_unprintable(text) }
}

/// A closed pipe is the reader's way to say that it is enough.
pub(super) fn forgive_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says something on stderr, in a line of its own that tells whose it is: it may stand among a command's own.
pub(super) fn tell(text: &str) {
    // Nothing is left to be done where stderr is closed.
    let _ = writeln!(io::stderr().lock(), "release-ledger: {}", escape_unprintable(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_for_people_and_never_in_json() {
        let text = "{\"reason\":\"a\u{202e}b\"}";
        assert_eq!(either(true, text), text);
        assert_eq!(either(false, text), "{\"reason\":\"a\\u{202e}b\"}");
    }
}
