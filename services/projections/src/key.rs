//! Fixed-size keys for the subjects of rows.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Returns a UUID (RFC 9562, version 8) from the first 16 bytes of SHA-256 over a domain tag and parts. The length of
/// each, in bytes (64 bits, big-endian), precedes it.
pub(crate) fn key(domain: &str, parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in std::iter::once(&domain).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Uuid::new_v8(bytes)
}
