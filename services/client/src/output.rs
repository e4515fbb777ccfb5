//! Output on stdout, and notices on stderr.

use std::borrow::Cow;
use std::io::{self, Write as _};

use ledger_domain::escape_unprintable;

/// Writes bytes to stdout, and a line feed if they do not end in one.
///
/// # Errors
/// Stdout cannot be written. A closed pipe, as of `head`, is not an error.
pub(super) fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out.write_all(bytes).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    ignore_broken_pipe(written)
}

/// Writes text for people to stdout, with unprintable characters escaped, so that they cannot control a
/// terminal.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_text(text: &str) -> io::Result<()> {
    print_json_or_text(false, text)
}

/// Writes JSON to stdout unchanged, and other text as [`print_text`] does: its escapes are not valid in JSON.
///
/// # Errors
/// Stdout cannot be written.
pub(super) fn print_json_or_text(json: bool, text: &str) -> io::Result<()> {
    print_bytes(escape_unless_json(json, text).as_bytes())
}

fn escape_unless_json(json: bool, text: &str) -> Cow<'_, str> {
    if json { Cow::Borrowed(text) } else { escape_unprintable(text) }
}

/// Ignores a closed pipe: the reader has read enough.
pub(super) fn ignore_broken_pipe(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a line on stderr with the name of this program, since the line may stand among the output of a
/// command that the program runs.
pub(super) fn print_notice(text: &str) {
    // Ignore a closed stderr.
    let _ = writeln!(io::stderr().lock(), "release-ledger: {}", escape_unprintable(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_in_text_but_never_in_json() {
        let text = "{\"reason\":\"a\u{202e}b\"}";
        assert_eq!(escape_unless_json(true, text), text);
        assert_eq!(escape_unless_json(false, text), "{\"reason\":\"a\\u{202e}b\"}");
    }
}
