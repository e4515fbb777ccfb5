//! The growing tree: takes leaves at the right and returns tiles to store.
//!
//! Holds only the right edge. The root of a perfect subtree is computed once, when its last leaf is appended; restoring
//! a tree recomputes the roots within its edge. Nodes above the perfect subtrees are not kept: each leaf changes them.

use std::mem;

use crate::hash::{Hash, empty_root, node_hash};
use crate::tile::{EdgeTile, TILE_LEVELS, TILE_WIDTH, Tile, hash_count};

/// An append-only Merkle tree (RFC 6962, section 2.1) that holds its right edge and the tiles not yet stored.
///
/// [`Tree::take_dirty`] returns a tile only once. If a caller fails to store the returned tiles, it must drop the tree
/// and restore it from the store, or continue with a clone made before the call.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// The hashes of each level's partial tile; empty if the last tile is full.
    edge: [Vec<Hash>; TILE_LEVELS],
    /// The roots of the perfect subtrees that make up the tree, largest first: one for each bit set in `size`.
    peaks: Vec<Hash>,
    /// The tiles that became full since the dirty tiles were last taken.
    full_tiles: Vec<Tile>,
    /// The size of the tree when the dirty tiles were last taken.
    size_at_last_take: u64,
}

/// Failure to restore a tree of a given size from stored tiles. Retrying does not help: the store no longer matches the
/// size that was written with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A tile of the edge is missing.
    #[error("tile {index} of level {level} is missing")]
    Missing {
        /// The tile's level.
        level: u8,
        /// The tile's index within the level.
        index: u64,
    },
    /// A tile has more or fewer hashes than the size requires.
    #[error("tile {index} of level {level} has {found} hashes instead of {expected}")]
    Width {
        /// The tile's level.
        level: u8,
        /// The tile's index within the level.
        index: u64,
        /// The number of hashes that the size requires.
        expected: usize,
        /// The number of hashes that the tile has.
        found: usize,
    },
    /// A tile is not a partial tile on the edge of a tree of this size.
    #[error("tile {index} of level {level} is not on the edge")]
    NotOnEdge {
        /// The tile's level.
        level: u8,
        /// The tile's index within the level.
        index: u64,
    },
    /// A tile occurs twice.
    #[error("tile {index} of level {level} was given twice")]
    Repeated {
        /// The tile's level.
        level: u8,
        /// The tile's index within the level.
        index: u64,
    },
}

impl Tree {
    /// Creates a tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the partial tiles on the right edge of a tree of this size, from level 0 up: the input of
    /// [`Tree::restore`]. A level has none if its last tile is full.
    #[must_use]
    pub fn edge(size: u64) -> Vec<EdgeTile> {
        (0..TILE_LEVELS as u8).filter_map(|level| EdgeTile::of(size, level)).collect()
    }

    /// Restores the tree of this size from exactly the tiles of [`Tree::edge`], in any order. No tile is dirty.
    ///
    /// The hashes themselves are not verified: compare [`Tree::root`] with a known root.
    ///
    /// # Errors
    /// Returns the first tile that is missing, superfluous or not as wide as the size requires.
    pub fn restore(size: u64, tiles: impl IntoIterator<Item = Tile>) -> Result<Self, RestoreError> {
        let mut edge: [Vec<Hash>; TILE_LEVELS] = Default::default();
        for Tile { level, index, hashes } in tiles {
            let expected = expected_width(size, level, index)?;
            if hashes.len() != expected {
                return Err(RestoreError::Width { level, index, expected, found: hashes.len() });
            }
            let slot = &mut edge[usize::from(level)];
            if !slot.is_empty() {
                return Err(RestoreError::Repeated { level, index });
            }
            *slot = hashes;
        }
        for EdgeTile { level, index, .. } in Self::edge(size) {
            if edge[usize::from(level)].is_empty() {
                return Err(RestoreError::Missing { level, index });
            }
        }

        let mut peaks = Vec::new();
        for hashes in edge.iter().rev() {
            for (index, hash) in hashes.iter().enumerate() {
                let peak = merge_peaks(&mut peaks, index, *hash);
                peaks.push(peak);
            }
        }
        Ok(Self { size, edge, peaks, full_tiles: Vec::new(), size_at_last_take: size })
    }

    /// Returns the partial tiles on the right edge with their hashes. [`Tree::restore`] rebuilds the tree from them.
    #[must_use]
    pub fn edge_tiles(&self) -> Vec<Tile> {
        let tiles = Self::edge(self.size).into_iter();
        tiles
            .map(|EdgeTile { level, index, .. }| Tile {
                level,
                index,
                hashes: self.edge[usize::from(level)].clone(),
            })
            .collect()
    }

    /// Returns the number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Computes less than one node hash on average and at most 63.
    ///
    /// # Panics
    /// If the tree already has 2^64 − 1 leaves.
    pub fn append(&mut self, leaf: Hash) {
        let size = self.size.strict_add(1);
        let mut hash = leaf;
        for (level, edge) in (0..).zip(&mut self.edge) {
            let index_in_tile = edge.len();
            edge.push(hash);
            hash = merge_peaks(&mut self.peaks, index_in_tile, hash);
            if edge.len() < TILE_WIDTH {
                break;
            }
            // The tile is full: `hash` is now its root, the next hash of the level above.
            let hashes = mem::replace(edge, Vec::with_capacity(TILE_WIDTH));
            let index = hash_count(self.size, level) / TILE_WIDTH as u64;
            self.full_tiles.push(Tile { level, index, hashes });
        }
        self.peaks.push(hash);
        self.size = size;
    }

    /// Returns the Merkle tree hash of all leaves; without leaves, the SHA-256 of no bytes. Computes at most 63 hashes.
    #[must_use]
    pub fn root(&self) -> Hash {
        let peaks = self.peaks.iter().rev().copied();
        peaks.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }

    /// Returns the tiles that changed since the last call (or since the tree was created or restored), each once and
    /// complete, ordered by level and index. A full tile is returned once and never again.
    ///
    /// A store that upserts them by level and index then holds all tiles of the tree, including the edge at this size.
    /// Full tiles stay in memory until this call.
    #[must_use = "the tree does not return these tiles again"]
    pub fn take_dirty(&mut self) -> Vec<Tile> {
        let mut tiles = mem::take(&mut self.full_tiles);
        for EdgeTile { level, index, .. } in Self::edge(self.size) {
            if hash_count(self.size_at_last_take, level) < hash_count(self.size, level) {
                tiles.push(Tile { level, index, hashes: self.edge[usize::from(level)].clone() });
            }
        }
        tiles.sort_unstable_by_key(|tile| (tile.level, tile.index));
        self.size_at_last_take = self.size;
        tiles
    }
}

/// Returns the number of hashes that an edge tile has in a tree of this size.
fn expected_width(size: u64, level: u8, index: u64) -> Result<usize, RestoreError> {
    let on_edge = |tile: &EdgeTile| (tile.level, tile.index) == (level, index);
    let tile = Tree::edge(size).into_iter().find(on_edge);
    tile.map(|tile| tile.width).ok_or(RestoreError::NotOnEdge { level, index })
}

/// Removes the peaks that `hash`, at this index in its tile, completes to a larger perfect subtree, as a binary counter
/// carries; returns the root of that subtree.
fn merge_peaks(peaks: &mut Vec<Hash>, index_in_tile: usize, hash: Hash) -> Hash {
    let carried = index_in_tile.trailing_ones() as usize;
    let left = peaks.drain(peaks.len() - carried..);
    left.rev().fold(hash, |right, left| node_hash(&left, &right))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::hash::leaf_hash;

    /// A tile store: hashes by level and index, as in the database table.
    #[derive(Default)]
    struct Store(BTreeMap<(u8, u64), Vec<Hash>>);

    impl Store {
        fn upsert(&mut self, tiles: Vec<Tile>) {
            self.0.extend(tiles.into_iter().map(|tile| ((tile.level, tile.index), tile.hashes)));
        }

        fn restore(&self, size: u64) -> Result<Tree, RestoreError> {
            let stored = |tile: EdgeTile| {
                let hashes = self.0.get(&(tile.level, tile.index))?.clone();
                Some(Tile { level: tile.level, index: tile.index, hashes })
            };
            Tree::restore(size, Tree::edge(size).into_iter().filter_map(stored))
        }

        fn level(&self, level: u8) -> Vec<Hash> {
            let tiles = self.0.iter().filter(|((of, _), _)| *of == level);
            tiles.flat_map(|(_, hashes)| hashes.iter().copied()).collect()
        }
    }

    /// A literal implementation of RFC 6962, section 2.1, independent of the code under test except for the leaves.
    fn merkle_tree_hash(leaves: &[Hash]) -> Hash {
        if let [leaf] = leaves {
            return *leaf;
        }
        let mut sha = Sha256::new();
        if !leaves.is_empty() {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha.update([1]);
            sha.update(merkle_tree_hash(left).as_bytes());
            sha.update(merkle_tree_hash(right).as_bytes());
        }
        Hash::from(<[u8; 32]>::from(sha.finalize()))
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn tree_of(leaves: &[Hash]) -> Tree {
        let mut tree = Tree::new();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        tree
    }

    fn tile(level: u8, index: u64, width: usize) -> Tile {
        Tile { level, index, hashes: leaves(width as u64) }
    }

    fn restore_error(size: u64, tiles: impl IntoIterator<Item = Tile>) -> RestoreError {
        Tree::restore(size, tiles).expect_err("an error")
    }

    #[test]
    fn the_root_without_leaves_is_the_sha_256_of_no_bytes() {
        assert_eq!(
            Tree::new().root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn roots_match_the_certificate_transparency_test_vectors() {
        let entries: [&[u8]; 8] =
            [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();

        for (entry, root) in entries.into_iter().zip(roots) {
            tree.append(leaf_hash(entry));

            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn every_root_is_the_merkle_tree_hash_of_the_leaves() {
        let leaves = leaves(65_537);
        let is_compared = |size| size <= 600 || size >= 65_535;
        let mut tree = Tree::new();

        for size in 0..=leaves.len() {
            assert_eq!(tree.size(), size as u64);
            if is_compared(size) {
                assert_eq!(tree.root(), merkle_tree_hash(&leaves[..size]), "{size} leaves");
            }
            leaves.get(size).into_iter().for_each(|leaf| tree.append(*leaf));
        }
    }

    #[test]
    fn a_tile_holds_the_roots_of_the_full_tiles_one_level_below() {
        let leaves = leaves(66_000);
        let (mut tree, mut store) = (Tree::new(), Store::default());

        for batch in leaves.chunks(5_000) {
            batch.iter().for_each(|leaf| tree.append(*leaf));
            let tiles = tree.take_dirty();
            assert!(tiles.is_sorted_by(|a, b| (a.level, a.index) < (b.level, b.index)));
            store.upsert(tiles);
        }

        let roots = |leaves_each| leaves.chunks_exact(leaves_each).map(merkle_tree_hash).collect::<Vec<_>>();
        assert_eq!(store.level(0), leaves);
        assert_eq!(store.level(1), roots(256));
        assert_eq!(store.level(2), roots(65_536));
        assert_eq!(store.level(3), []);
        assert_eq!(store.restore(66_000).expect("a tree").root(), tree.root());
    }

    #[test]
    fn a_tree_restored_at_any_size_continues_like_the_original() {
        let leaves = leaves(900);
        let (mut tree, mut store) = (Tree::new(), Store::default());

        for (size, leaf) in leaves[..=600].iter().enumerate() {
            let mut restored = store.restore(size as u64).expect("a tree");
            let mut original = tree.clone();
            assert_eq!((restored.size(), restored.root()), (original.size(), original.root()));
            assert_eq!(restored.take_dirty(), []);

            for leaf in &leaves[size..size + 300] {
                restored.append(*leaf);
                original.append(*leaf);
            }
            assert_eq!(restored.root(), original.root());
            assert_eq!(restored.take_dirty(), original.take_dirty());

            tree.append(*leaf);
            store.upsert(tree.take_dirty());
        }
    }

    #[test]
    fn only_changed_tiles_are_dirty_and_a_full_tile_only_once() {
        let leaves = leaves(514);
        let mut tree = tree_of(&leaves[..255]);
        assert_eq!(widths(&tree.take_dirty()), [(0, 0, 255)]);
        assert_eq!(tree.take_dirty(), []);

        tree.append(leaves[255]);
        assert_eq!(widths(&tree.take_dirty()), [(0, 0, 256), (1, 0, 1)]);

        tree.append(leaves[256]);
        assert_eq!(widths(&tree.take_dirty()), [(0, 1, 1)]);

        leaves[257..].iter().for_each(|leaf| tree.append(*leaf));
        assert_eq!(widths(&tree.take_dirty()), [(0, 1, 256), (0, 2, 2), (1, 0, 2)]);
        assert_eq!(tree.take_dirty(), []);
    }

    #[test]
    fn restoring_from_the_edge_tiles_gives_the_same_tree() {
        for size in [0, 1, 255, 256, 257, 66_000] {
            let tree = tree_of(&leaves(size));

            let restored = Tree::restore(size, tree.edge_tiles()).expect("a tree");

            assert_eq!((restored.size(), restored.root()), (tree.size(), tree.root()));
            assert_eq!(restored.edge_tiles(), tree.edge_tiles());
        }
    }

    fn widths(tiles: &[Tile]) -> Vec<(u8, u64, usize)> {
        tiles.iter().map(|tile| (tile.level, tile.index, tile.hashes.len())).collect()
    }

    #[test]
    fn the_edge_has_the_base_256_digits_of_the_size_as_widths() {
        let edge = |size| {
            let tiles = Tree::edge(size).into_iter();
            tiles.map(|tile| (tile.level, tile.index, tile.width)).collect::<Vec<_>>()
        };

        assert_eq!(edge(0), []);
        assert_eq!(edge(255), [(0, 0, 255)]);
        assert_eq!(edge(256), [(1, 0, 1)]);
        assert_eq!(edge(0x02_00_03), [(0, 0x02_00, 3), (2, 0, 2)]);
        assert_eq!(edge(u64::MAX).len(), 8);
        assert_eq!(edge(u64::MAX).last(), Some(&(7, 0, 255)));
    }

    #[test]
    fn a_missing_tile_is_reported() {
        assert_eq!(restore_error(1, []), RestoreError::Missing { level: 0, index: 0 });
        assert_eq!(restore_error(514, [tile(0, 2, 2)]), RestoreError::Missing { level: 1, index: 0 });
    }

    #[test]
    fn a_tile_of_the_wrong_width_is_rejected() {
        for found in [0, 1, 3, 256] {
            assert_eq!(
                restore_error(514, [tile(1, 0, 2), tile(0, 2, found)]),
                RestoreError::Width { level: 0, index: 2, expected: 2, found }
            );
        }
    }

    #[test]
    fn a_tile_off_the_edge_is_rejected() {
        for (level, index, width) in [(0, 0, 256), (0, 1, 2), (0, 3, 2), (2, 0, 1), (8, 0, 1), (255, 0, 1)] {
            assert_eq!(
                restore_error(514, [tile(0, 2, 2), tile(1, 0, 2), tile(level, index, width)]),
                RestoreError::NotOnEdge { level, index }
            );
        }
        assert_eq!(restore_error(0, [tile(0, 0, 0)]), RestoreError::NotOnEdge { level: 0, index: 0 });
    }

    #[test]
    fn a_repeated_tile_is_rejected() {
        assert_eq!(
            restore_error(2, [tile(0, 0, 2), tile(0, 0, 2)]),
            RestoreError::Repeated { level: 0, index: 0 }
        );
    }

    #[test]
    #[should_panic(expected = "overflow")]
    fn appending_beyond_the_maximum_size_panics() {
        let tiles = Tree::edge(u64::MAX).into_iter();
        let full = tiles.map(|edge| tile(edge.level, edge.index, edge.width));

        Tree::restore(u64::MAX, full).expect("a tree").append(leaf_hash(b"{}"));
    }

    proptest! {
        #[test]
        fn stored_tiles_match_the_tree_for_any_batch_sizes(
            batches in proptest::collection::vec(0_usize..600, 0..6),
        ) {
            let leaves = leaves(batches.iter().sum::<usize>() as u64);
            let (mut tree, mut store) = (Tree::new(), Store::default());

            let mut remaining = leaves.iter();
            for batch in batches {
                remaining.by_ref().take(batch).for_each(|leaf| tree.append(*leaf));
                store.upsert(tree.take_dirty());

                let restored = store.restore(tree.size()).expect("a tree");
                prop_assert_eq!(restored.root(), tree.root());
                prop_assert_eq!(&store.level(0), &leaves[..tree.size() as usize]);
            }

            prop_assert_eq!(tree.root(), merkle_tree_hash(&leaves));
        }
    }
}
