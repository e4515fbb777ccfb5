//! Digests as text.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// A finished SHA-256 as `sha256:` and 64 hexadecimal digits.
pub(crate) fn text(hash: Sha256) -> String {
    hash.finalize().iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
