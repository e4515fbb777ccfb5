//! Fixed-size keys of what rows are about.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The first 16 bytes of SHA-256 over a word and parts, each preceded by its length in bytes (big-endian,
/// 64 bits), marked as an RFC 9562 version 8 UUID.
pub(crate) fn key(word: &str, parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in std::iter::once(&word).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Uuid::new_v8(bytes)
}
