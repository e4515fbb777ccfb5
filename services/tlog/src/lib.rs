//! The RFC 6962 Merkle tree over a ledger's entries, kept as tiles.
//!
//! Owns what the bytes of an entry become in the tree, and how the tree grows. Pure: no I/O, no
//! clock, no randomness. What is kept is only ever added to: a full tile never changes.

mod hash;
mod tile;
mod tree;

pub use hash::{Hash, gap_leaf_hash, leaf_hash};
pub use tile::{EdgeTile, Tile};
pub use tree::{RestoreError, Tree};
