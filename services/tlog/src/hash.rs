//! The leaf and node hashes of RFC 6962, section 2.1.
//!
//! Leaves and nodes are hashed with different prefix bytes, so that a node cannot be mistaken for an entry.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The SHA-256 hash of a leaf, a node or a whole tree; displayed as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Hash::LENGTH]);

impl Hash {
    /// The length of a hash in bytes.
    pub const LENGTH: usize = 32;

    /// Returns the bytes of the hash.
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
        f.write_str(&hex::encode(self.0))
    }
}

/// Error: a text is not the 64 hexadecimal digits of a hash.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a hash has 64 hexadecimal digits")]
pub struct ParseHashError(#[source] hex::FromHexError);

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(digits: &str) -> Result<Self, ParseHashError> {
        let mut bytes = [0; Self::LENGTH];
        hex::decode_to_slice(digits, &mut bytes).map_err(ParseHashError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Returns the leaf hash of an entry: SHA-256 over the byte 0x00 and the entry's published bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(entry).finalize().into())
}

/// Returns the leaf hash that stands for an entry missing from the stream: that of the ASCII text
/// `release-ledger gap <position>`, with the position in decimal.
///
/// No entry has this text as its bytes: an entry is a JSON object and starts with `{`.
#[must_use]
pub fn gap_leaf_hash(position: u64) -> Hash {
    leaf_hash(format!("release-ledger gap {position}").as_bytes())
}

/// Returns the hash of the node above two subtrees: SHA-256 over the byte 0x01, the left hash and the right hash.
pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One hasher update instead of three: a large tree spends nearly all its time here.
    let mut bytes = [0x01; 1 + 2 * Hash::LENGTH];
    bytes[1..=Hash::LENGTH].copy_from_slice(&left.0);
    bytes[1 + Hash::LENGTH..].copy_from_slice(&right.0);
    Hash(Sha256::digest(bytes).into())
}

/// Returns the root of a tree without leaves: the SHA-256 of no bytes.
pub(crate) fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hash_is_displayed_as_lower_case_hexadecimal_and_parsed_from_it() {
        let mut bytes = [0; Hash::LENGTH];
        bytes[..2].copy_from_slice(&[0xAB, 0x01]);

        let hash = Hash::from(bytes);

        assert_eq!(hash.to_string(), format!("ab01{}", "0".repeat(60)));
        assert_eq!(hash.as_bytes(), &bytes);
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }

    #[test]
    fn a_text_without_64_hexadecimal_digits_is_not_a_hash() {
        for text in [String::new(), "0".repeat(62), "0".repeat(66), "g".repeat(64)] {
            assert!(text.parse::<Hash>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_node_hash_differs_from_the_leaf_hash_of_its_children() {
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));

        let entry = [left.0, right.0].concat();

        assert_ne!(node_hash(&left, &right), leaf_hash(&entry));
    }

    #[test]
    fn the_gap_leaf_hash_never_changes() {
        assert_eq!(gap_leaf_hash(4711), leaf_hash(b"release-ledger gap 4711"));
        assert_eq!(
            gap_leaf_hash(4711).to_string(),
            "22868807160db72305cb474c8a85c6e0d3434af69ad3a69bee2de3ce2d99d6b0"
        );
    }

    proptest! {
        #[test]
        fn a_gap_leaf_hash_differs_from_that_of_any_entry_and_of_any_other_gap(
            position: u64, other: u64, members in "\\PC{0,64}",
        ) {
            prop_assert_ne!(gap_leaf_hash(position), leaf_hash(format!("{{{members}}}").as_bytes()));
            prop_assert_eq!(gap_leaf_hash(position) == gap_leaf_hash(other), position == other);
        }
    }
}
