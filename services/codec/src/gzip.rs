//! Compression with gzip (RFC 1952) of messages that are kept as received.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Compresses bytes.
#[must_use]
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// Decompresses bytes; `None` if they are not compressed with gzip, or have more than `limit` bytes.
#[must_use]
pub fn decompress(compressed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(compressed).take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= limit).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_restored_up_to_the_limit() {
        for bytes in [&b""[..], b"{\"a\":1}", &[7; 100_000]] {
            let compressed = compress(bytes);
            assert_eq!(decompress(&compressed, bytes.len()).as_deref(), Some(bytes));
        }
        assert_eq!(decompress(&compress(&[7; 100_000]), 99_999), None);
        assert_eq!(decompress(b"no gzip", 10), None);
    }
}
