//! Events that are sent in one request.

use bytes::Bytes;

/// Sizes at which a request is large enough: far below what the service takes at once, and so that
/// little is sent again after a failure.
const EVENTS: usize = 5_000;
const BYTES: usize = 4 << 20;

/// Events on their way, one a line, each with the number by which a person finds it.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    lines: Bytes,
    numbers: Vec<u64>,
}

impl Chunk {
    /// One JSON object a line. Cheap: sent again, it is not copied.
    pub(super) fn lines(&self) -> Bytes {
        self.lines.clone()
    }

    pub(super) fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

/// A chunk being filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    lines: Vec<u8>,
    numbers: Vec<u64>,
}

impl Filling {
    /// Adds an event, which must be JSON. JSON has line breaks only where white space may be, so
    /// they become spaces.
    pub(super) fn push(&mut self, number: u64, event: &[u8]) {
        self.lines.extend(event.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        self.lines.push(b'\n');
        self.numbers.push(number);
    }

    pub(super) fn is_full(&self) -> bool {
        self.numbers.len() >= EVENTS || self.lines.len() >= BYTES
    }

    /// What was added since the last time, if anything was.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        if self.numbers.is_empty() {
            return None;
        }
        let filled = std::mem::take(self);
        Some(Chunk { lines: filled.lines.into(), numbers: filled.numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_however_it_was_written() {
        let mut filling = Filling::default();
        filling.push(1, b"{\n  \"a\":\r\n 1}");
        filling.push(3, b"{}");
        let chunk = filling.take().expect("two events");
        assert_eq!(chunk.lines(), "{   \"a\":   1}\n{}\n".as_bytes());
        assert_eq!(chunk.numbers(), [1, 3]);
        assert!(filling.take().is_none());
    }

    #[test]
    fn a_chunk_is_full_by_number_or_by_size() {
        let mut filling = Filling::default();
        filling.push(1, &vec![b' '; BYTES]);
        assert!(filling.is_full());
        let mut filling = Filling::default();
        for number in 0..EVENTS as u64 {
            assert!(!filling.is_full());
            filling.push(number, b"{}");
        }
        assert!(filling.is_full());
    }
}
