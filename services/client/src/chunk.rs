//! Events that are sent in one request.

use bytes::Bytes;

/// Number of events at which a chunk is full: far below the limit of the service, and few to send again after
/// a failure.
const FULL_CHUNK_EVENTS: usize = 5_000;
/// Bytes at which a chunk is full, for the same reasons.
const FULL_CHUNK_BYTES: usize = 4 << 20;

/// Events of a request, one per line, each with the number that identifies it in messages.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    lines: Bytes,
    numbers: Vec<u64>,
}

impl Chunk {
    /// Returns one JSON object per line. Does not copy the bytes.
    pub(super) fn lines(&self) -> Bytes {
        self.lines.clone()
    }

    pub(super) fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    lines: Vec<u8>,
    numbers: Vec<u64>,
}

impl ChunkBuilder {
    /// Adds an event, which must be JSON. Replaces line breaks by spaces: in JSON they occur only as white
    /// space.
    pub(super) fn push(&mut self, number: u64, event: &[u8]) {
        self.lines.extend(event.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        self.lines.push(b'\n');
        self.numbers.push(number);
    }

    pub(super) fn is_full(&self) -> bool {
        self.numbers.len() >= FULL_CHUNK_EVENTS || self.lines.len() >= FULL_CHUNK_BYTES
    }

    /// Takes the events added since the last call; none if there are none.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        if self.numbers.is_empty() {
            return None;
        }
        let Self { lines, numbers } = std::mem::take(self);
        Some(Chunk { lines: lines.into(), numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_written_as_one_line() {
        let mut builder = ChunkBuilder::default();
        builder.push(1, b"{\n  \"a\":\r\n 1}");
        builder.push(3, b"{}");
        let chunk = builder.take().expect("two events");
        assert_eq!(chunk.lines(), "{   \"a\":   1}\n{}\n".as_bytes());
        assert_eq!(chunk.numbers(), [1, 3]);
        assert!(builder.take().is_none());
    }

    #[test]
    fn a_chunk_is_full_by_number_or_by_size() {
        let mut builder = ChunkBuilder::default();
        builder.push(1, &vec![b' '; FULL_CHUNK_BYTES]);
        assert!(builder.is_full());
        let mut builder = ChunkBuilder::default();
        for number in 0..FULL_CHUNK_EVENTS as u64 {
            assert!(!builder.is_full());
            builder.push(number, b"{}");
        }
        assert!(builder.is_full());
    }
}
