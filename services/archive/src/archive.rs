//! Reading an archive, with verification of every byte against the manifests and the checkpoint.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use ledger_domain::{Position, TenantName};
use ledger_journal::Record;
use ledger_tlog::{Hash, Tree};

use crate::manifest::{EdgeTile, Manifest, SEGMENTS_FOLDER, sha256};
use crate::{Checkpoint, Error, Source, Store, segment};

/// Object name of the checkpoint.
pub(crate) const CHECKPOINT_OBJECT: &str = "checkpoint";
/// Maximum number of manifests that are fetched concurrently.
const MAX_CONCURRENT_FETCHES: usize = 8;

/// An archive with manifests and a checkpoint that are consistent.
pub struct Archive {
    store: Store,
    /// Manifests of consecutive segments from position 1; at least one.
    segments: Vec<Manifest>,
    end: Checkpoint,
    unreferenced_files: usize,
}

/// Summary of a valid archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Last position.
    pub position: Position,
    /// Root of the Merkle tree over all positions.
    pub root: Hash,
    /// Number of segments.
    pub segments: usize,
    /// Number of entries.
    pub entries: u64,
    /// Number of gaps.
    pub gaps: u64,
    /// Creation time of the archived stream.
    pub stream_created: DateTime<Utc>,
    /// Number of files that no manifest names: left by an archiver that was killed or overtaken, not yet named, or not
    /// part of the archive.
    pub unreferenced_files: usize,
}

impl Archive {
    /// Reads the manifests and the checkpoint of a tenant's archive, but not yet the segments. If the archive grows
    /// meanwhile, reads it up to an end that it had during the call.
    ///
    /// # Errors
    /// The storage is unavailable, the archive does not exist, or a manifest or the checkpoint is missing, damaged or
    /// inconsistent; the error names the object.
    pub async fn open(store: Store, tenant: &TenantName) -> Result<Self, Error> {
        let mut previous_fault = None;
        loop {
            // Read the checkpoint first: it is written after its manifests, so the listing below contains them.
            let checkpoint = read_checkpoint(&store, tenant).await?;
            let error = match Self::read_manifests(&store, tenant, checkpoint).await {
                Err(error @ (Error::Damaged { .. } | Error::Empty(_))) => error,
                result => return result,
            };
            // A listing is not atomic: it may contain a manifest without the one before it. Retry if the checkpoint
            // has moved meanwhile. A fault that recurs is real: what a listing lacked has been written by then.
            let fault = error.to_string();
            if previous_fault.as_ref() == Some(&fault) || read_checkpoint(&store, tenant).await? == checkpoint
            {
                return Err(error);
            }
            previous_fault = Some(fault);
        }
    }

    /// Reads the manifests, and verifies them against each other and against a checkpoint that was read before.
    async fn read_manifests(
        store: &Store,
        tenant: &TenantName,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self, Error> {
        let (manifests, others): (Vec<String>, Vec<String>) =
            store.list(SEGMENTS_FOLDER).await?.into_iter().partition(|name| name.ends_with(".json"));
        let fetched = stream::iter(&manifests).map(|name| {
            let object = format!("{SEGMENTS_FOLDER}/{name}");
            async move { read_manifest(store, &object, tenant).await }
        });
        let fetched: Vec<Option<Manifest>> = fetched.buffered(MAX_CONCURRENT_FETCHES).try_collect().await?;
        let segments: Vec<Manifest> = fetched.into_iter().flatten().collect();
        let mut previous: Option<&Manifest> = None;
        for manifest in &segments {
            verify_manifest(previous, manifest)?;
            previous = Some(manifest);
        }
        let Some(last) = previous else {
            return Err(match checkpoint {
                Some(checkpoint) => missing_end(Position::START, checkpoint),
                None => Error::Empty(store.location().to_owned()),
            });
        };
        let root = last.tree().map_err(|fault| Error::damaged(last.own_object_name(), fault))?.root();
        let end = Checkpoint { position: Position::new(last.last), root };
        verify_checkpoint(checkpoint, &segments, end)?;
        let referenced: HashSet<&str> =
            segments.iter().filter_map(|manifest| manifest.segment.rsplit('/').next()).collect();
        let unreferenced_files = others.iter().filter(|name| !referenced.contains(name.as_str())).count();
        Ok(Self { store: store.clone(), segments, end, unreferenced_files })
    }

    /// Reads and verifies the whole archive.
    ///
    /// # Errors
    /// Returns the first fault: the file, with the line and the position if they are known.
    pub async fn verify(&self) -> Result<Verified, Error> {
        let mut records = self.read(Position::START);
        let mut gaps = 0;
        while let Some(record) = records.try_next().await? {
            gaps += u64::from(matches!(record, Record::Gap(_)));
        }
        let Checkpoint { position, root } = self.end;
        Ok(Verified {
            position,
            root,
            segments: self.segments.len(),
            entries: position.get() - gaps,
            gaps,
            stream_created: self.segments[0].stream_created,
            unreferenced_files: self.unreferenced_files,
        })
    }

    /// Reads a segment, verifies it against its manifest, and appends its leaves to the tree of the segments before it.
    async fn read_segment(&self, manifest: &Manifest, tree: &mut Tree) -> Result<Vec<Record>, Error> {
        let damaged = |fault: String| Error::damaged(&manifest.segment, fault);
        let file = self.store.get(&manifest.segment).await?;
        let file = file.ok_or_else(|| damaged("missing, but its manifest exists".into()))?;
        let contents = segment::read(&file, Position::new(manifest.first), manifest.text_size);
        let (size, hash) = (file.len() as u64, sha256(&file));
        if size != manifest.size || hash != manifest.sha256 {
            let difference = if size == manifest.size {
                format!("the file's sha256 is {hash}, but the manifest says {}", manifest.sha256)
            } else {
                format!("the file has {size} bytes, but the manifest says {}", manifest.size)
            };
            let first_fault = match contents.fault {
                Some(fault) => fault.to_string(),
                None => format!("all {} lines are readable", contents.records.len()),
            };
            return Err(damaged(format!("{difference}; {first_fault}")));
        }
        if let Some(fault) = contents.fault {
            return Err(damaged(fault.to_string()));
        }
        let mut gaps = 0;
        let mut last_leaf = None;
        for record in &contents.records {
            let leaf = record.leaf_hash();
            gaps += u64::from(matches!(record, Record::Gap(_)));
            tree.append(leaf);
            last_leaf = Some(leaf);
        }
        // Full tiles are not needed here; free their memory.
        drop(tree.take_dirty());
        let comparisons = [
            (
                "number of entries",
                (contents.records.len() as u64 - gaps).to_string(),
                manifest.entries.to_string(),
            ),
            ("number of gaps", gaps.to_string(), manifest.gaps.to_string()),
            ("size of the text", contents.text.len().to_string(), manifest.text_size.to_string()),
            ("text's sha256", sha256(&contents.text), manifest.text_sha256.clone()),
            (
                "last leaf",
                last_leaf.map(|leaf| leaf.to_string()).unwrap_or_default(),
                manifest.last_leaf.clone(),
            ),
            ("root", tree.root().to_string(), manifest.root.clone()),
        ];
        if let Some((name, found, expected)) =
            comparisons.iter().find(|(_, found, expected)| found != expected)
        {
            return Err(damaged(format!("the {name} is {found}, but the manifest says {expected}")));
        }
        if EdgeTile::of(tree) != manifest.edge {
            return Err(Error::damaged(manifest.own_object_name(), "the edge differs from that of the tree"));
        }
        Ok(contents.records)
    }
}

impl Source for Archive {
    fn end(&self) -> Checkpoint {
        self.end
    }

    fn read(&self, after: Position) -> BoxStream<'_, Result<Record, Error>> {
        let start = self.segments.partition_point(|manifest| manifest.last <= after.get());
        stream::try_unfold((start, None), move |(index, tree)| async move {
            let Some(manifest) = self.segments.get(index) else { return Ok(None) };
            let mut tree = match (tree, index.checked_sub(1).map(|previous| &self.segments[previous])) {
                (Some(tree), _) => tree,
                (None, Some(previous)) => {
                    previous.tree().map_err(|fault| Error::damaged(previous.own_object_name(), fault))?
                }
                (None, None) => Tree::new(),
            };
            let records = self.read_segment(manifest, &mut tree).await?;
            let wanted = records.into_iter().filter(move |record| record.position() > after);
            Ok::<_, Error>(Some((stream::iter(wanted.map(Ok)), (index + 1, Some(tree)))))
        })
        .try_flatten()
        .boxed()
    }
}

/// Reads a manifest, and verifies that its name and its tenant are the expected ones; `None` if it does not exist.
pub(crate) async fn read_manifest(
    store: &Store,
    object: &str,
    tenant: &TenantName,
) -> Result<Option<Manifest>, Error> {
    let Some(bytes) = store.get(object).await? else { return Ok(None) };
    let manifest = Manifest::parse(&bytes).map_err(|fault| Error::damaged(object, fault))?;
    if manifest.tenant != tenant.as_str() {
        let fault = format!("belongs to the tenant {}, not to {tenant}", manifest.tenant);
        return Err(Error::damaged(object, fault));
    }
    if manifest.own_object_name() != object {
        let fault = format!("its first position is {}, which does not match its name", manifest.first);
        return Err(Error::damaged(object, fault));
    }
    Ok(Some(manifest))
}

pub(crate) async fn read_checkpoint(store: &Store, tenant: &TenantName) -> Result<Option<Checkpoint>, Error> {
    let Some(bytes) = store.get(CHECKPOINT_OBJECT).await? else { return Ok(None) };
    Checkpoint::parse(&bytes, tenant).map(Some).map_err(|fault| Error::damaged(CHECKPOINT_OBJECT, fault))
}

/// Verifies that a manifest is consistent, and that its segment follows the previous one in the same stream.
fn verify_manifest(previous: Option<&Manifest>, manifest: &Manifest) -> Result<(), Error> {
    let next = previous.map_or(1, |previous| previous.last + 1);
    if manifest.first != next {
        let fault = format!("missing; the next manifest starts at position {}", manifest.first);
        return Err(Error::damaged(Manifest::object_name(Position::new(next)), fault));
    }
    let damaged = |fault: String| Err(Error::damaged(manifest.own_object_name(), fault));
    let (first, last) = (Position::new(manifest.first), Position::new(manifest.last));
    if last < first || manifest.entries.saturating_add(manifest.gaps) != last.get() - first.get() + 1 {
        return damaged(format!(
            "it has {} entries and {} gaps, but covers positions {first} to {last}",
            manifest.entries, manifest.gaps
        ));
    }
    let segment = Manifest::segment_object_name(first, last);
    if manifest.segment != segment {
        return damaged(format!("it names the segment {} instead of {segment}", manifest.segment));
    }
    if manifest.tree_size != manifest.last {
        return damaged(format!(
            "its tree has {} leaves, but it ends at position {last}",
            manifest.tree_size
        ));
    }
    match previous {
        Some(previous) if previous.stream_created != manifest.stream_created => damaged(format!(
            "its stream was created at {}, but that of the previous segment at {}",
            manifest.stream_created, previous.stream_created
        )),
        _ => Ok(()),
    }
}

/// Verifies the checkpoint against the manifests. It is written last, so it may be behind them, or missing beside a
/// single manifest.
fn verify_checkpoint(
    checkpoint: Option<Checkpoint>,
    segments: &[Manifest],
    end: Checkpoint,
) -> Result<(), Error> {
    let Some(checkpoint) = checkpoint else {
        return if segments.len() == 1 {
            Ok(())
        } else {
            Err(Error::damaged(CHECKPOINT_OBJECT, "missing, but there are several segments"))
        };
    };
    if checkpoint.position > end.position {
        return Err(missing_end(end.position, checkpoint));
    }
    let segment = segments.iter().find(|manifest| manifest.last == checkpoint.position.get());
    match segment {
        None => {
            let fault = format!("no segment ends at its position {}", checkpoint.position);
            Err(Error::damaged(CHECKPOINT_OBJECT, fault))
        }
        Some(manifest) if manifest.root != checkpoint.root.to_string() => {
            let (root, object) = (checkpoint.root, manifest.own_object_name());
            let fault = format!("its root is {root}, but {object} says {}", manifest.root);
            Err(Error::damaged(CHECKPOINT_OBJECT, fault))
        }
        Some(_) => Ok(()),
    }
}

/// Returns the error for manifests that end before the checkpoint.
fn missing_end(end: Position, checkpoint: Checkpoint) -> Error {
    let fault = format!(
        "missing; the archive ends at position {end}, but its checkpoint is at position {}",
        checkpoint.position
    );
    Error::damaged(Manifest::object_name(end.next()), fault)
}
