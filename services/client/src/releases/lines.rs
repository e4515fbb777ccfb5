//! Numbered lines of a text that is plain or gzip.
//!
//! Invariants: memory is bounded by the longest accepted line; a longer line is skipped and reported.
//! Consecutive gzip members form one text; zero padding after the last member, as from tapes and block
//! devices, is ignored. A byte order mark before a line is not part of the line.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;

/// Maximum length of a line in bytes; a row is far shorter.
pub(super) const LINE_LIMIT: u64 = 65_536;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line that could not be read.
#[derive(Debug)]
pub(super) enum LineError {
    /// The line is too long. The lines after it can be read.
    TooLong,
    /// Neither this line nor a later one can be read.
    Unreadable(io::Error),
}

/// The non-empty lines of a text.
pub(super) struct Lines<'r> {
    reader: Box<dyn BufRead + Send + 'r>,
    number: u64,
    text: Vec<u8>,
}

impl<'r> Lines<'r> {
    /// Opens a text; detects gzip by its first bytes.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub(super) fn new(mut text: impl BufRead + Send + 'r) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        text.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(text);
        let reader: Box<dyn BufRead + Send + 'r> =
            if is_gzip { Box::new(BufReader::new(GzipMembers::new(whole))) } else { Box::new(whole) };
        Ok(Self { reader, number: 0, text: Vec::with_capacity(512) })
    }

    /// Returns the number of the last line read, counted from 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next non-empty line.
    ///
    /// # Errors
    /// The line is too long, or cannot be read.
    pub(super) fn read(&mut self) -> Result<Option<&[u8]>, LineError> {
        loop {
            self.text.clear();
            self.number += 1;
            let mut limited = self.reader.by_ref().take(LINE_LIMIT + 1);
            let length = limited.read_until(b'\n', &mut self.text).map_err(LineError::Unreadable)?;
            if length == 0 {
                return Ok(None);
            }
            if length as u64 > LINE_LIMIT {
                if !self.text.ends_with(b"\n") {
                    self.reader.skip_until(b'\n').map_err(LineError::Unreadable)?;
                }
                return Err(LineError::TooLong);
            }
            let start = if self.text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            if !self.text[start..].trim_ascii().is_empty() {
                return Ok(Some(self.text[start..].trim_ascii()));
            }
        }
    }
}

/// Reader of the text of several gzip members, each optionally followed by zero padding.
struct GzipMembers<R> {
    /// The current member; none at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let length = member.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { break };
            if has_more_than_zeros(&mut rest)? {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Skips zeros; returns true if anything else follows.
fn has_more_than_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let length = bytes.len();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        reader.consume(zeros);
        if length == 0 || zeros < length {
            return Ok(length > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Returns each line with its number, or the error.
    fn read(text: &[u8]) -> Vec<(u64, String)> {
        let mut lines = Lines::new(text).expect("bytes");
        let mut found = Vec::new();
        loop {
            let line = match lines.read() {
                Ok(None) => return found,
                Ok(Some(line)) => String::from_utf8_lossy(line).into_owned(),
                Err(LineError::TooLong) => "too long".to_owned(),
                Err(LineError::Unreadable(error)) => {
                    found.push((lines.number(), error.to_string()));
                    return found;
                }
            };
            found.push((lines.number(), line));
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn lines(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(number, line)| (*number, (*line).to_owned())).collect()
    }

    #[test]
    fn byte_order_marks_carriage_returns_and_empty_lines_are_ignored() {
        let expected = lines(&[(1, "a"), (4, "b"), (5, "c")]);
        let text = b"\xef\xbb\xbfa\r\n\r\n \n\xef\xbb\xbfb\nc";
        assert_eq!(read(text), expected);
        assert_eq!(read(&gzip(text)), expected);
        assert_eq!(read(b""), []);
        assert_eq!(read(b"\xef\xbb\xbf"), []);
    }

    #[test]
    fn rule_30_gzip_members_form_one_text_and_zero_padding_is_ignored() {
        let members = [gzip(b"a\nb"), gzip(b""), gzip(b"c\nd\n")].concat();
        let expected = lines(&[(1, "a"), (2, "bc"), (3, "d")]);
        assert_eq!(read(&members), expected);
        assert_eq!(read(&[members.clone(), vec![0; 100_000]].concat()), expected);
        let padded = [gzip(b"a\n"), vec![0; 512], gzip(b"b\n"), vec![0; 512]].concat();
        assert_eq!(read(&padded), lines(&[(1, "a"), (2, "b")]));
    }

    #[test]
    fn damage_after_a_gzip_member_ends_the_lines() {
        let whole = gzip(b"a\nb\n");
        let cut = &whole[..whole.len() - 4];
        assert_eq!(read(cut).last().map(|(number, _)| *number), Some(3));
        assert_eq!(
            read(&[&whole[..], b"more than a header"].concat()).last(),
            Some(&(3, "invalid gzip header".to_owned()))
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let limit = usize::try_from(LINE_LIMIT).expect("a small number");
        let text =
            format!("a\n{}\nb\n{}\nc\n{}", "x".repeat(3 * limit), "y".repeat(limit), "z".repeat(limit + 1));
        assert_eq!(
            read(text.as_bytes()),
            lines(&[(1, "a"), (2, "too long"), (3, "b"), (4, "too long"), (5, "c"), (6, "too long")])
        );
    }
}
