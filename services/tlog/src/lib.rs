//! The RFC 6962 Merkle tree over a ledger's entries, stored as tiles.
//!
//! Defines the leaf hashes of entries and gaps, and how the tree grows. Pure: no I/O, no clock, no randomness. Stored
//! data is append-only: a full tile never changes.

mod hash;
mod tile;
mod tree;

pub use hash::{Hash, ParseHashError, entry_leaf_hash, gap_leaf_hash, leaf_hash};
pub use tile::{EdgeTile, Tile};
pub use tree::{RestoreError, Tree};
