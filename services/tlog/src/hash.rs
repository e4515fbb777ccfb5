//! What the tree is made of: the hashes of RFC 6962, section 2.1.
//!
//! Leaves and nodes are hashed under different first bytes, so that no node passes for an entry.

use std::fmt;

use sha2::{Digest, Sha256};

/// The SHA-256 of a leaf, a node or a whole tree; shown as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Hash::LENGTH]);

impl Hash {
    /// Bytes of a hash.
    pub const LENGTH: usize = 32;

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl From<[u8; Hash::LENGTH]> for Hash {
    fn from(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The leaf of an entry: SHA-256 over the byte 0x00 and the entry's bytes as they were published.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(entry).finalize().into())
}

/// The leaf in the place of an entry which the stream has lost: the leaf hash of the ASCII text
/// `release-ledger gap <position>`, with the position in decimal.
///
/// That text is not the bytes of any entry, since an entry is a JSON object and starts with `{`.
#[must_use]
pub fn gap_leaf_hash(position: u64) -> Hash {
    leaf_hash(format!("release-ledger gap {position}").as_bytes())
}

/// The node above two subtrees: SHA-256 over the byte 0x01, the left hash and the right one.
pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One update of the hasher instead of three: all that a large tree does is this.
    let mut bytes = [0x01; 1 + 2 * Hash::LENGTH];
    bytes[1..=Hash::LENGTH].copy_from_slice(&left.0);
    bytes[1 + Hash::LENGTH..].copy_from_slice(&right.0);
    Hash(Sha256::digest(bytes).into())
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub(crate) fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hash_is_shown_as_lower_case_hexadecimal() {
        let mut bytes = [0; Hash::LENGTH];
        bytes[..2].copy_from_slice(&[0xAB, 0x01]);

        let hash = Hash::from(bytes);

        assert_eq!(hash.to_string(), format!("ab01{}", "0".repeat(60)));
        assert_eq!(hash.as_bytes(), &bytes);
    }

    #[test]
    fn a_node_does_not_pass_for_an_entry() {
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));

        let entry = [left.0, right.0].concat();

        assert_ne!(node_hash(&left, &right), leaf_hash(&entry));
    }

    #[test]
    fn the_leaf_of_a_gap_is_the_same_for_ever() {
        assert_eq!(gap_leaf_hash(4711), leaf_hash(b"release-ledger gap 4711"));
        assert_eq!(
            gap_leaf_hash(4711).to_string(),
            "22868807160db72305cb474c8a85c6e0d3434af69ad3a69bee2de3ce2d99d6b0"
        );
    }

    proptest! {
        #[test]
        fn the_leaf_of_a_gap_is_that_of_no_entry_and_of_no_other_gap(
            position: u64, other: u64, members in "\\PC{0,64}",
        ) {
            prop_assert_ne!(gap_leaf_hash(position), leaf_hash(format!("{{{members}}}").as_bytes()));
            prop_assert_eq!(gap_leaf_hash(position) == gap_leaf_hash(other), position == other);
        }
    }
}
