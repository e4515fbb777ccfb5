//! A tile: up to 256 neighbouring hashes of the tree, the unit in which it is stored.
//!
//! As in C2SP tlog-tiles with tiles of height 8: the tile at (level, index) holds the roots of the
//! perfect subtrees of 256^level leaves, from number 256 × index on. So tiles of level 0 hold
//! leaves, and a full tile is worth one hash in the level above. Only the last tile of a level can
//! be partial; those tiles together are the tree's right edge.

use crate::Hash;

/// Binary levels of the tree which one level of tiles covers.
const HEIGHT: u32 = 8;

/// Hashes in a full tile.
pub(crate) const FULL: usize = 1 << HEIGHT;

/// Levels of tiles of the largest tree that a `u64` can count.
pub(crate) const LEVELS: usize = (u64::BITS / HEIGHT) as usize;

/// Neighbouring hashes of one level, from the first of their tile on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// How many levels of tiles lie below it: 0 for leaves, at most 7.
    pub level: u8,
    /// Its place in its level, counted from 0.
    pub index: u64,
    /// Its hashes: 256, or 1 to 255 for a tile on the right edge.
    pub hashes: Vec<Hash>,
}

/// A partial tile on the right edge of a tree, without its hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeTile {
    /// How many levels of tiles lie below it: 0 for leaves, at most 7.
    pub level: u8,
    /// Its place in its level, counted from 0.
    pub index: u64,
    /// How many hashes it has: 1 to 255.
    pub width: usize,
}

impl EdgeTile {
    /// The last tile of this level in a tree of this size, unless that tile is full or the level
    /// empty.
    pub(crate) fn of(size: u64, level: u8) -> Option<Self> {
        let hashes = hashes_in(size, level);
        let width = (hashes % FULL as u64) as usize;
        (width > 0).then_some(Self { level, index: hashes / FULL as u64, width })
    }
}

/// How many hashes all tiles of this level hold in a tree of this size.
pub(crate) fn hashes_in(size: u64, level: u8) -> u64 {
    size >> (HEIGHT * u32::from(level))
}
