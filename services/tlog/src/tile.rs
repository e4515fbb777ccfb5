//! Tiles: runs of up to 256 neighbouring hashes of the tree, the unit of storage.
//!
//! The layout is that of C2SP tlog-tiles with tiles of height 8. The tile at (level, index) holds the roots of the
//! perfect subtrees of 256^level leaves, starting with subtree number 256 × index. Tiles of level 0 therefore hold
//! leaves, and each full tile contributes one hash to the level above. Only the last tile of a level can be partial;
//! the partial tiles of all levels form the tree's right edge.

use crate::hash::Hash;

/// Binary tree levels that one tile level covers.
const TILE_HEIGHT: u32 = 8;

/// Hashes in a full tile.
pub(crate) const TILE_WIDTH: usize = 1 << TILE_HEIGHT;

/// Tile levels of a tree with `u64::MAX` leaves.
pub(crate) const TILE_LEVELS: usize = (u64::BITS / TILE_HEIGHT) as usize;

/// Neighbouring hashes of one level, starting at a multiple of 256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// The number of tile levels below it: 0 for leaves, at most 7.
    pub level: u8,
    /// Its index within the level, from 0.
    pub index: u64,
    /// Its hashes: 256, or 1 to 255 for a tile on the right edge.
    pub hashes: Vec<Hash>,
}

/// A partial tile on the right edge of a tree, without its hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeTile {
    /// The number of tile levels below it: 0 for leaves, at most 7.
    pub level: u8,
    /// Its index within the level, from 0.
    pub index: u64,
    /// Its number of hashes: 1 to 255.
    pub width: usize,
}

impl EdgeTile {
    /// Returns the partial tile of a level in a tree of this size; `None` if the last tile is full or the level empty.
    pub(crate) fn of(size: u64, level: u8) -> Option<Self> {
        let hashes = hash_count(size, level);
        let width = (hashes % TILE_WIDTH as u64) as usize;
        (width > 0).then_some(Self { level, index: hashes / TILE_WIDTH as u64, width })
    }
}

/// Returns the number of hashes that a level holds in a tree of this size.
pub(crate) fn hash_count(size: u64, level: u8) -> u64 {
    size >> (TILE_HEIGHT * u32::from(level))
}
