//! The choices that a fuzzer makes: its bytes, read from the front. After their end, every choice is the first one.

/// Bytes that are read as choices.
#[derive(Debug, Clone)]
pub(crate) struct Choices<'b> {
    bytes: &'b [u8],
}

impl<'b> Choices<'b> {
    pub(crate) const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the next byte; 0 after the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Returns a number below `count`, or 0 if `count` is 0. Takes two bytes for more than 256 numbers.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        let low = usize::from(self.byte());
        let number = if count > 256 { low << 8 | usize::from(self.byte()) } else { low };
        number % count
    }

    /// Returns true in one of `count` cases, and never after the end.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    pub(crate) fn pick<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }

    /// Returns a slice of at most 255 bytes.
    pub(crate) fn slice(&mut self) -> &'b [u8] {
        let length = usize::from(self.byte()).min(self.bytes.len());
        let (slice, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        slice
    }

    /// Returns a slice as text.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.slice()).into_owned()
    }

    /// Returns all bytes that are left.
    pub(crate) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.bytes)
    }
}
