//! What goes to stdout.

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
    show(escape_unprintable(text).as_bytes())
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
