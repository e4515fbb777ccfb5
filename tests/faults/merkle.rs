//! The Merkle tree of RFC 6962, section 2.1, independent of the ledger's own implementation.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

/// Returns the leaf hash of an entry.
pub(crate) fn leaf(position: u64, recorded_at: DateTime<Utc>, bytes: &[u8]) -> Hash {
    let head = format!("release-ledger entry v1\n{position}\n{}\n", recorded_at.timestamp_micros());
    sha256(&[&[0], head.as_bytes(), bytes])
}

/// Returns the root hash of the tree over these leaves.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            // The left part has the largest power of two that is smaller than the number of leaves.
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], &root(left), &root(right)])
        }
    }
}

/// Returns a hash in lower-case hexadecimal.
pub(crate) fn hexadecimal(hash: &[u8]) -> String {
    hex::encode(hash)
}

fn sha256(parts: &[&[u8]]) -> Hash {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}
