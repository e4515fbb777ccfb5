//! Records of CSV text with the numbers of their lines.

/// The records of a text after its header row.
pub(super) struct Records<'t> {
    reader: ::csv::Reader<&'t [u8]>,
    lines: LineNumbers<'t>,
    record: ::csv::StringRecord,
}

/// Counts lines up to places that only move forward.
struct LineNumbers<'t> {
    text: &'t str,
    at: usize,
    line: u64,
}

impl<'t> Records<'t> {
    /// Starts to read a text; fields lose white space at their ends.
    pub(super) fn new(text: &'t str, delimiter: u8) -> Self {
        let mut builder = ::csv::ReaderBuilder::new();
        builder.delimiter(delimiter).trim(::csv::Trim::All);
        let lines = LineNumbers { text, at: 0, line: 1 };
        Self { reader: builder.from_reader(text.as_bytes()), lines, record: ::csv::StringRecord::new() }
    }

    /// Returns the names of the columns.
    ///
    /// # Errors
    /// The header row cannot be read.
    pub(super) fn headers(&mut self) -> Result<Vec<String>, String> {
        let headers = self.reader.headers().map_err(|error| error.to_string())?;
        Ok(headers.iter().map(str::to_owned).collect())
    }

    /// Reads the next record: the number of its first line, and its fields or the reason for which it cannot be read.
    pub(super) fn next(&mut self) -> Option<(u64, Result<&::csv::StringRecord, String>)> {
        let start = self.reader.position().byte();
        let line = self.lines.of(usize::try_from(start).unwrap_or(usize::MAX));
        match self.reader.read_record(&mut self.record) {
            Ok(true) => Some((line, Ok(&self.record))),
            Ok(false) => None,
            Err(error) => Some((line, Err(unreadable(&error)))),
        }
    }
}

impl LineNumbers<'_> {
    /// Returns the line on which the first text after a place stands. The reader's own numbers are those of the line
    /// before if lines end with CR and LF, or if empty lines come in between.
    fn of(&mut self, place: usize) -> u64 {
        let bytes = self.text.as_bytes();
        let mut start = place.clamp(self.at, bytes.len());
        start += bytes[start..].iter().take_while(|byte| matches!(**byte, b'\r' | b'\n')).count();
        let newlines = bytes[self.at..start].iter().filter(|byte| **byte == b'\n').count();
        self.line += newlines as u64;
        self.at = start;
        self.line
    }
}

fn unreadable(error: &::csv::Error) -> String {
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} fields, and the header row {expected_len}")
        }
        _ => format!("the row cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        let mut records = Records::new(text, b',');
        records.headers().expect("a header row");
        let mut rows = Vec::new();
        while let Some((line, record)) = records.next() {
            let fields = record.map(|record| record.iter().collect::<Vec<_>>().join("|"));
            rows.push(format!("{line} {}", fields.unwrap_or_else(|error| error)));
        }
        rows
    }

    #[test]
    fn rows_have_the_numbers_of_their_lines_with_every_line_ending() {
        let text = "a,b\n1, 2 \n\n\"x\ny\",3\n4\n5,6";
        let expected = ["2 1|2", "4 x\ny|3", "6 the row has 1 fields, and the header row 2", "7 5|6"];
        assert_eq!(rows(text), expected);
        let with_crlf = rows(&text.replace('\n', "\r\n"));
        assert_eq!(with_crlf, expected.map(|row| row.replace("x\ny", "x\r\ny")));
        assert!(rows("a,b\r\n").is_empty());
        assert!(rows("a,b").is_empty());
        assert_eq!(rows("\r\n\r\na,b\r\n1,2\r\n"), ["4 1|2"]);
    }
}
