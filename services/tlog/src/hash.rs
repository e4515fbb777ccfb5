//! The leaf and node hashes of RFC 6962, section 2.1, and the data of the ledger's leaves.
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

/// Returns the leaf hash of RFC 6962 of some data: SHA-256 over the byte 0x00 and the data.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(data).finalize().into())
}

/// Returns the leaf hash of an entry, in version 1 of the format. Its data is the ASCII text
/// `release-ledger entry v1`, the position, and the time of recording in microseconds since 1970, both in decimal,
/// each with a line feed; then the entry's bytes.
///
/// The leaf therefore covers all that the stream states about an entry. A leaf of another version starts with another
/// line.
#[must_use]
pub fn entry_leaf_hash(position: u64, recorded_at_micros: i64, bytes: &[u8]) -> Hash {
    let head = format!("release-ledger entry v1\n{position}\n{recorded_at_micros}\n");
    let sha = Sha256::new().chain_update([0x00]).chain_update(head);
    Hash(sha.chain_update(bytes).finalize().into())
}

/// Returns the leaf hash that stands for an entry missing from the stream, in version 1 of the format. Its data is the
/// ASCII text `release-ledger gap v1`, and the position in decimal, each with a line feed.
///
/// No entry has this leaf, also not one with the same text as its bytes: the first line differs.
#[must_use]
pub fn gap_leaf_hash(position: u64) -> Hash {
    leaf_hash(format!("release-ledger gap v1\n{position}\n").as_bytes())
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
    fn the_format_of_leaves_never_changes() {
        assert_eq!(gap_leaf_hash(4711), leaf_hash(b"release-ledger gap v1\n4711\n"));
        assert_eq!(
            entry_leaf_hash(7, 1_785_578_400_000_001, b"{}"),
            leaf_hash(b"release-ledger entry v1\n7\n1785578400000001\n{}")
        );
        assert_eq!(entry_leaf_hash(7, -1, b""), leaf_hash(b"release-ledger entry v1\n7\n-1\n"));
    }

    proptest! {
        #[test]
        fn a_leaf_hash_covers_position_time_and_bytes(
            one: (u64, i64, Vec<u8>), other: (u64, i64, Vec<u8>), which in 0..4_u8,
        ) {
            // Differs from `one` in at most one part, or in all of them.
            let other = match which {
                0 => (other.0, one.1, one.2.clone()),
                1 => (one.0, other.1, one.2.clone()),
                2 => (one.0, one.1, other.2),
                _ => other,
            };
            let leaf = |(position, micros, bytes): &(u64, i64, Vec<u8>)| entry_leaf_hash(*position, *micros, bytes);

            prop_assert_eq!(leaf(&one) == leaf(&other), one == other);
        }

        #[test]
        fn a_gap_leaf_hash_differs_from_that_of_any_entry_and_of_any_other_gap(
            position: u64, other: u64, micros: i64,
        ) {
            let text = format!("release-ledger gap v1\n{position}\n");

            prop_assert_ne!(gap_leaf_hash(position), entry_leaf_hash(position, micros, text.as_bytes()));
            prop_assert_eq!(gap_leaf_hash(position) == gap_leaf_hash(other), position == other);
        }
    }
}
