//! A segment's manifest: what must be in it, and how the tree goes on after it.
//!
//! The file is `{"manifest":{…},"sha256":"…"}`, where the hash is over the bytes of the manifest; so a byte
//! that is not as it was written is seen, whichever it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_tlog::{Hash, RestoreError, Tile, Tree};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// The form of segments and manifests that this program writes, and reads.
pub(crate) const FORMAT: u32 = 1;

/// The folder of segments and manifests.
pub(crate) const FOLDER: &str = "segments";

/// What is said of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Whose ledger it is.
    pub(crate) tenant: String,
    /// When the stream was created that it was read from.
    pub(crate) stream_created: DateTime<Utc>,
    /// The segment's file.
    pub(crate) segment: String,
    /// Its first position.
    pub(crate) first: u64,
    /// Its last position.
    pub(crate) last: u64,
    /// How many of its positions are entries.
    pub(crate) entries: u64,
    /// How many are gaps.
    pub(crate) gaps: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// The file's SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// Bytes of the text in it.
    pub(crate) text_size: u64,
    /// The text's SHA-256, in hexadecimal.
    pub(crate) text_sha256: String,
    /// The leaf hash at the last position.
    pub(crate) last_leaf: String,
    /// How many leaves the tree has after the last position.
    pub(crate) tree_size: u64,
    /// The root of that tree.
    pub(crate) root: String,
    /// The right edge of that tree, so that it can go on from here.
    pub(crate) edge: Vec<Edge>,
}

/// A partial tile of the tree's right edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edge {
    level: u8,
    index: u64,
    /// Its hashes one after the other, in Base64.
    hashes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    sha256: &'a str,
}

impl Manifest {
    /// The manifest's file of the segment that begins at a position. Its end is not in the name: of two who
    /// write at once, only one has its manifest there.
    pub(crate) fn file(first: Position) -> String {
        format!("{FOLDER}/{:020}.json", first.get())
    }

    /// The file of a segment.
    pub(crate) fn segment_file(first: Position, last: Position) -> String {
        format!("{FOLDER}/{:020}-{:020}.ndjson.zst", first.get(), last.get())
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let manifest = serde_json::to_string(self)?;
        let hash = sha256(manifest.as_bytes());
        Ok(format!("{{\"manifest\":{manifest},\"sha256\":\"{hash}\"}}\n").into_bytes())
    }

    /// Reads the file's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: File<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let hash = sha256(file.manifest.get().as_bytes());
        if hash != file.sha256 {
            return Err(format!("the manifest's sha256 is {hash} and the file says {}", file.sha256));
        }
        let manifest: Self = serde_json::from_str(file.manifest.get()).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("it is of format {}, this program reads {FORMAT}", manifest.format));
        }
        match manifest.bytes() {
            Ok(again) if again == bytes => Ok(manifest),
            _ => Err("it is not written as an archive writes it".into()),
        }
    }

    /// The tree after the segment, ready to grow.
    pub(crate) fn tree(&self) -> Result<Tree, String> {
        let tiles = self.edge.iter().map(Edge::tile).collect::<Result<Vec<_>, _>>()?;
        let tree = Tree::restore(self.tree_size, tiles).map_err(|error: RestoreError| error.to_string())?;
        if tree.root().to_string() == self.root {
            Ok(tree)
        } else {
            Err(format!("its edge makes the root {} and it says {}", tree.root(), self.root))
        }
    }
}

impl Edge {
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
        let hashes = hashes.map_err(|_| "a hash of its edge is cut off".to_owned())?;
        Ok(Tile { level: self.level, index: self.index, hashes })
    }
}

/// The SHA-256 of bytes, in hexadecimal.
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
            format: FORMAT,
            tenant: "default".into(),
            stream_created: DateTime::UNIX_EPOCH,
            segment: Manifest::segment_file(first, last),
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
            edge: Edge::of(&tree),
        };
        (manifest, tree)
    }

    #[test]
    fn a_file_is_named_by_its_positions() {
        let (first, last) = (Position::new(1), Position::new(10_000));
        assert_eq!(Manifest::file(first), "segments/00000000000000000001.json");
        assert_eq!(
            Manifest::segment_file(first, last),
            "segments/00000000000000000001-00000000000000010000.ndjson.zst"
        );
    }

    #[test]
    fn a_form_of_the_future_is_refused() {
        let (mut future, _) = manifest(1);
        future.format = 2;

        let error = Manifest::parse(&future.bytes().expect("bytes")).expect_err("refused");

        assert_eq!(error, "it is of format 2, this program reads 1");
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_was_written_and_the_tree_goes_on(leaves in 1_u64..700) {
            let (written, mut tree) = manifest(leaves);

            let read = Manifest::parse(&written.bytes().expect("bytes")).expect("a manifest");

            prop_assert_eq!(&read, &written);
            let mut restored = read.tree().expect("a tree");
            restored.append(leaf_hash(b"more"));
            tree.append(leaf_hash(b"more"));
            prop_assert_eq!(restored.root(), tree.root());
        }

        #[test]
        fn no_byte_can_be_another(leaves in 1_u64..20, place: prop::sample::Index, bit in 0..8_u32) {
            let mut bytes = manifest(leaves).0.bytes().expect("bytes");
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;

            prop_assert!(Manifest::parse(&bytes).is_err());
        }
    }
}
