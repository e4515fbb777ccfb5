//! A segment's manifest: the expected contents of the segment, and the state of the Merkle tree after it.
//!
//! The file is `{"manifest":{…},"sha256":"…"}`, where the hash covers the bytes of the manifest. A reader detects a
//! change of any byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_tlog::{Hash, RestoreError, Tile, Tree};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// Version of the format of segments and manifests: the only one that this program writes and reads. A version fixes
/// the format of the tree's leaves too; version 1 had leaves without positions and times.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// Folder of the segments and manifests.
pub(crate) const SEGMENTS_FOLDER: &str = "segments";

/// Description of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// [`FORMAT_VERSION`].
    pub(crate) format: u32,
    pub(crate) tenant: String,
    /// Creation time of the stream that was archived.
    pub(crate) stream_created: DateTime<Utc>,
    /// Object name of the segment.
    pub(crate) segment: String,
    /// First position.
    pub(crate) first: u64,
    /// Last position.
    pub(crate) last: u64,
    /// Number of positions that are entries.
    pub(crate) entries: u64,
    /// Number of positions that are gaps.
    pub(crate) gaps: u64,
    /// Size of the compressed file in bytes.
    pub(crate) size: u64,
    /// SHA-256 of the compressed file, in hexadecimal.
    pub(crate) sha256: String,
    /// Size of the text in bytes.
    pub(crate) text_size: u64,
    /// SHA-256 of the text, in hexadecimal.
    pub(crate) text_sha256: String,
    /// Leaf hash of the last position, in hexadecimal.
    pub(crate) last_leaf: String,
    /// Number of leaves of the tree after the last position.
    pub(crate) tree_size: u64,
    /// Root of that tree, in hexadecimal.
    pub(crate) root: String,
    /// Right edge of that tree, from which an archiver continues it.
    pub(crate) edge: Vec<EdgeTile>,
}

/// A partial tile on the right edge of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgeTile {
    level: u8,
    index: u64,
    /// Concatenated hashes, in Base64.
    hashes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    sha256: &'a str,
}

impl Manifest {
    /// Returns the object name of the manifest for the segment that starts at a position. The name does not contain the
    /// last position, so that only one of two concurrent archivers can create it.
    pub(crate) fn object_name(first: Position) -> String {
        format!("{SEGMENTS_FOLDER}/{:020}.json", first.get())
    }

    /// Returns the object name of a segment.
    pub(crate) fn segment_object_name(first: Position, last: Position) -> String {
        format!("{SEGMENTS_FOLDER}/{:020}-{:020}.ndjson.zst", first.get(), last.get())
    }

    /// Returns the object name of this manifest.
    pub(crate) fn own_object_name(&self) -> String {
        Self::object_name(Position::new(self.first))
    }

    /// Returns the bytes of the manifest's file.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let manifest = serde_json::to_string(self)?;
        let hash = sha256(manifest.as_bytes());
        Ok(format!("{{\"manifest\":{manifest},\"sha256\":\"{hash}\"}}\n").into_bytes())
    }

    /// Parses a manifest's file. Rejects all bytes that [`Manifest::to_bytes`] does not produce.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: ManifestFile<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let hash = sha256(file.manifest.get().as_bytes());
        if hash != file.sha256 {
            return Err(format!("the manifest's sha256 is {hash}, but the file says {}", file.sha256));
        }
        let manifest: Self = serde_json::from_str(file.manifest.get()).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT_VERSION {
            return Err(format!(
                "unsupported format {}; this version reads {FORMAT_VERSION}",
                manifest.format
            ));
        }
        match manifest.to_bytes() {
            Ok(canonical) if canonical == bytes => Ok(manifest),
            _ => Err("not in canonical form".into()),
        }
    }

    /// Returns the tree after the segment, to which further leaves can be appended.
    pub(crate) fn tree(&self) -> Result<Tree, String> {
        let tiles = self.edge.iter().map(EdgeTile::tile).collect::<Result<Vec<_>, _>>()?;
        let tree = Tree::restore(self.tree_size, tiles).map_err(|error: RestoreError| error.to_string())?;
        if tree.root().to_string() == self.root {
            Ok(tree)
        } else {
            Err(format!("the edge has the root {}, but the manifest says {}", tree.root(), self.root))
        }
    }
}

impl EdgeTile {
    /// Returns the partial tiles on the right edge of a tree.
    pub(crate) fn of(tree: &Tree) -> Vec<Self> {
        let edge = |tile: Tile| {
            let bytes: Vec<u8> = tile.hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect();
            Self { level: tile.level, index: tile.index, hashes: STANDARD.encode(bytes) }
        };
        tree.edge_tiles().into_iter().map(edge).collect()
    }

    fn tile(&self) -> Result<Tile, String> {
        let bytes = STANDARD.decode(&self.hashes).map_err(|error| error.to_string())?;
        let hashes = bytes.chunks(Hash::LENGTH).map(<[u8; 32]>::try_from);
        let hashes = hashes.map(|hash| hash.map(Hash::from)).collect::<Result<_, _>>();
        let hashes = hashes.map_err(|_| "truncated hash in the edge".to_owned())?;
        Ok(Tile { level: self.level, index: self.index, hashes })
    }
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Hash::from(<[u8; 32]>::from(Sha256::digest(bytes))).to_string()
}

#[cfg(test)]
mod tests {
    use ledger_tlog::leaf_hash;
    use proptest::prelude::*;

    use super::*;

    fn manifest(leaves: u64) -> (Manifest, Tree) {
        let mut tree = Tree::new();
        (0..leaves).for_each(|number| tree.append(leaf_hash(&number.to_le_bytes())));
        let (first, last) = (Position::new(1), Position::new(leaves));
        let manifest = Manifest {
            format: FORMAT_VERSION,
            tenant: "default".into(),
            stream_created: DateTime::UNIX_EPOCH,
            segment: Manifest::segment_object_name(first, last),
            first: 1,
            last: leaves,
            entries: leaves,
            gaps: 0,
            size: 100,
            sha256: sha256(b"file"),
            text_size: 1000,
            text_sha256: sha256(b"text"),
            last_leaf: sha256(b"leaf"),
            tree_size: leaves,
            root: tree.root().to_string(),
            edge: EdgeTile::of(&tree),
        };
        (manifest, tree)
    }

    #[test]
    fn object_names_contain_padded_positions() {
        let (first, last) = (Position::new(1), Position::new(10_000));
        assert_eq!(Manifest::object_name(first), "segments/00000000000000000001.json");
        assert_eq!(
            Manifest::segment_object_name(first, last),
            "segments/00000000000000000001-00000000000000010000.ndjson.zst"
        );
    }

    #[test]
    fn a_newer_format_version_is_rejected() {
        let (mut future, _) = manifest(1);
        future.format = FORMAT_VERSION + 1;

        let error = Manifest::parse(&future.to_bytes().expect("bytes")).expect_err("rejected");

        assert_eq!(error, "unsupported format 3; this version reads 2");
    }

    proptest! {
        #[test]
        fn a_manifest_is_read_back_and_its_tree_can_grow(leaves in 1_u64..700) {
            let (written, mut tree) = manifest(leaves);

            let read = Manifest::parse(&written.to_bytes().expect("bytes")).expect("a manifest");

            prop_assert_eq!(&read, &written);
            let mut restored = read.tree().expect("a tree");
            restored.append(leaf_hash(b"more"));
            tree.append(leaf_hash(b"more"));
            prop_assert_eq!(restored.root(), tree.root());
        }

        #[test]
        fn a_flipped_bit_in_any_byte_is_detected(
            leaves in 1_u64..20,
            index: prop::sample::Index,
            bit in 0..8_u32,
        ) {
            let mut bytes = manifest(leaves).0.to_bytes().expect("bytes");
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;

            prop_assert!(Manifest::parse(&bytes).is_err());
        }
    }
}
