//! Reading input of unknown length with bounded memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use ledger_codec::cloudevents::MAX_EVENT_BYTES;
use serde_json::de::IoRead;
use serde_json::value::RawValue;
use serde_json::{Deserializer, StreamDeserializer};

/// Maximum size of an event or a policy in its JSON text, in bytes: that of a request of one event, in which
/// white space and escapes may take more than in the canonical form.
pub(super) const MAX_JSON_BYTES: usize = MAX_EVENT_BYTES * 4;

/// Reads a whole text of at most [`MAX_JSON_BYTES`].
///
/// # Errors
/// The text is longer, is not UTF-8, or cannot be read.
pub(super) fn read_text(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    reader.take(MAX_JSON_BYTES as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_JSON_BYTES { Err(too_large()) } else { Ok(text) }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {MAX_JSON_BYTES} bytes"))
}

/// The JSON values of a text, one after another, each of at most [`MAX_JSON_BYTES`]. Memory is bounded by one value;
/// white space between values does not count.
pub(super) struct JsonValues<R: Read> {
    values: StreamDeserializer<'static, IoRead<LimitedReader<R>>, Box<RawValue>>,
    limit: Rc<Limit>,
}

/// The limit of the value that is being read.
#[derive(Debug)]
struct Limit {
    remaining: Cell<usize>,
    is_inside_value: Cell<bool>,
}

impl Limit {
    fn reset(&self) {
        self.remaining.set(MAX_JSON_BYTES);
        self.is_inside_value.set(false);
    }
}

struct LimitedReader<R> {
    reader: R,
    limit: Rc<Limit>,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.limit.remaining.get();
        if remaining == 0 {
            return Err(too_large());
        }
        let length = buffer.len().min(remaining);
        let length = self.reader.read(&mut buffer[..length])?;
        if self.limit.is_inside_value.get() || !buffer[..length].trim_ascii().is_empty() {
            self.limit.is_inside_value.set(true);
            self.limit.remaining.set(remaining - length);
        }
        Ok(length)
    }
}

impl<R: Read> JsonValues<R> {
    pub(super) fn new(reader: R) -> Self {
        let limit = Rc::new(Limit { remaining: Cell::new(0), is_inside_value: Cell::new(false) });
        limit.reset();
        let reader = LimitedReader { reader, limit: Rc::clone(&limit) };
        Self { values: Deserializer::from_reader(reader).into_iter(), limit }
    }
}

impl<R: Read> Iterator for JsonValues<R> {
    type Item = serde_json::Result<Box<RawValue>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.limit.reset();
        self.values.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that repeats a text without end, and fails the test if more than a few megabytes are read.
    struct Endless {
        text: &'static [u8],
        read: usize,
    }

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.text[self.read % self.text.len()];
                self.read += 1;
            }
            assert!(self.read < 8 << 20, "the reader reads on and on");
            Ok(buffer.len())
        }
    }

    #[test]
    fn an_endless_value_is_rejected_after_its_limit() {
        for (start, repeated) in
            [("[\"", "x"), ("\"", "\\u0041"), ("", "["), ("", "1"), ("", "{\"a\":"), ("", "[ "), ("[", " ")]
        {
            let start = format!("{{\"a\":1}}\n{start}");
            let endless = Endless { text: repeated.as_bytes(), read: 0 };
            let mut values = JsonValues::new(start.as_bytes().chain(endless));
            assert_eq!(values.next().expect("a value").expect("JSON").get(), "{\"a\":1}");
            values.next().expect("a value").expect_err("it does not end");
        }
        let error = read_text(Endless { text: b"x", read: 0 }).expect_err("it does not end");
        assert_eq!(error.to_string(), "it is larger than 262140 bytes");
    }

    #[test]
    fn each_value_has_the_whole_limit_and_white_space_between_values_does_not_count() {
        let value = format!("\"{}\"", "x".repeat(MAX_JSON_BYTES - 3));
        let text = format!("{value}{}{value} {value}", " \n".repeat(MAX_JSON_BYTES));
        let values: Vec<_> = JsonValues::new(text.as_bytes()).collect();
        assert_eq!(values.len(), 3);
        assert!(values.iter().all(|read| read.as_ref().is_ok_and(|read| read.get() == value)));

        let longer = format!("\"{}\"", "x".repeat(MAX_JSON_BYTES));
        let error = JsonValues::new(longer.as_bytes()).next().expect("a value").expect_err("too large");
        assert!(error.is_io() && error.to_string().contains("larger than 262140 bytes"), "{error}");
    }
}
