//! RFC 6962, section 2.1, word for word: it shares nothing with the ledger's own tree.

use sha2::{Digest, Sha256};

/// A SHA-256.
pub(crate) type Sha = [u8; 32];

/// The hash of a leaf.
pub(crate) fn leaf(bytes: &[u8]) -> Sha {
    sha256(&[&[0], bytes])
}

/// The hash of a tree.
pub(crate) fn root(leaves: &[Sha]) -> Sha {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            // The largest power of two that is smaller than the number of leaves.
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], &root(left), &root(right)])
        }
    }
}

/// A hash as it is written.
pub(crate) fn hexadecimal(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(parts: &[&[u8]]) -> Sha {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}
