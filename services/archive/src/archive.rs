//! An archive, read: every byte of it is held against what its manifests and its checkpoint say.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use ledger_domain::{Position, TenantName};
use ledger_journal::Record;
use ledger_tlog::{Hash, Tree, gap_leaf_hash, leaf_hash};

use crate::manifest::{Edge, FOLDER, Manifest, sha256};
use crate::restore::Source;
use crate::{Checkpoint, Error, Store, segment};

/// The checkpoint's object.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Manifests that are fetched at a time.
const AT_ONCE: usize = 8;

/// An archive whose manifests and checkpoint fit together.
pub struct Archive {
    store: Store,
    /// In order, without a hole; never none.
    segments: Vec<Manifest>,
    end: Checkpoint,
    unnamed: usize,
}

/// What was found in an archive that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its last position.
    pub position: Position,
    /// The root of the tree over everything up to it.
    pub root: Hash,
    /// How many segments it has.
    pub segments: usize,
    /// How many entries.
    pub entries: u64,
    /// How many gaps.
    pub gaps: u64,
    /// When the stream was created that it is of.
    pub stream_created: DateTime<Utc>,
    /// Files that no manifest names: left by an archiver that was killed or was second, about to be named, or not the
    /// archive's.
    pub unnamed: usize,
}

impl Archive {
    /// Reads the manifests and the checkpoint of a tenant's archive, not yet the segments. One that grows
    /// meanwhile is read up to where it ended at some moment in between.
    ///
    /// # Errors
    /// Names what is missing, damaged, or does not fit to what is before it.
    pub async fn open(store: Store, tenant: &TenantName) -> Result<Self, Error> {
        let mut before = None;
        loop {
            // Before the manifests: it is written after them, so what it tells of is seen below.
            let checkpoint = read_checkpoint(&store, tenant).await?;
            let error = match Self::look(&store, tenant, checkpoint).await {
                Err(error @ (Error::Damaged { .. } | Error::Empty(_))) => error,
                looked => return looked,
            };
            // The folder is not seen at one moment: a manifest may be there, and the one before it not. But what was
            // missing then is not missing again.
            let told = error.to_string();
            if before.as_ref() == Some(&told) || read_checkpoint(&store, tenant).await? == checkpoint {
                return Err(error);
            }
            before = Some(told);
        }
    }

    /// What is there after the checkpoint was read.
    async fn look(store: &Store, tenant: &TenantName, checkpoint: Option<Checkpoint>) -> Result<Self, Error> {
        let (manifests, others): (Vec<String>, Vec<String>) =
            store.list(FOLDER).await?.into_iter().partition(|name| name.ends_with(".json"));
        let fetched = stream::iter(&manifests).map(|name| {
            let file = format!("{FOLDER}/{name}");
            async move { read_manifest(store, &file, tenant).await }
        });
        let fetched: Vec<Option<Manifest>> = fetched.buffered(AT_ONCE).try_collect().await?;
        let segments: Vec<Manifest> = fetched.into_iter().flatten().collect();
        let mut before: Option<&Manifest> = None;
        for manifest in &segments {
            follows(before, manifest)?;
            before = Some(manifest);
        }
        let Some(last) = before else {
            return Err(match checkpoint {
                Some(checkpoint) => ends_early(Position::START, checkpoint),
                None => Error::Empty(store.place().to_owned()),
            });
        };
        let root = last.tree().map_err(|fault| Error::damaged(last.own_file(), fault))?.root();
        let end = Checkpoint { position: Position::new(last.last), root };
        judge_checkpoint(checkpoint, &segments, end)?;
        let named: HashSet<&str> =
            segments.iter().filter_map(|manifest| manifest.segment.rsplit('/').next()).collect();
        let unnamed = others.iter().filter(|name| !named.contains(name.as_str())).count();
        Ok(Self { store: store.clone(), segments, end, unnamed })
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Names the first thing that is wrong: the file, and the line and position where that can be told.
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
            unnamed: self.unnamed,
        })
    }

    /// The records of a segment, when all of them are what they should be; the tree grows by them.
    async fn segment(&self, manifest: &Manifest, tree: &mut Tree) -> Result<Vec<Record>, Error> {
        let bad = |fault: String| Error::damaged(&manifest.segment, fault);
        let file = self.store.get(&manifest.segment).await?;
        let file = file.ok_or_else(|| bad("it is missing, and there is a manifest of it".into()))?;
        let found = segment::read(&file, Position::new(manifest.first), manifest.text_size);
        let (size, hash) = (file.len() as u64, sha256(&file));
        if size != manifest.size || hash != manifest.sha256 {
            let difference = if size == manifest.size {
                format!("the file's sha256 is {hash} and the manifest says {}", manifest.sha256)
            } else {
                format!("the file has {size} bytes and the manifest says {}", manifest.size)
            };
            let readable = match found.fault {
                Some(fault) => fault.to_string(),
                None => format!("all its {} lines can be read", found.records.len()),
            };
            return Err(bad(format!("{difference}; {readable}")));
        }
        if let Some(fault) = found.fault {
            return Err(bad(fault.to_string()));
        }
        let mut gaps = 0;
        let mut last_leaf = None;
        for record in &found.records {
            let leaf = leaf_of(record);
            gaps += u64::from(matches!(record, Record::Gap(_)));
            tree.append(leaf);
            last_leaf = Some(leaf);
        }
        // Full tiles are of no use here.
        drop(tree.take_dirty());
        let told = [
            ("entries", (found.records.len() as u64 - gaps).to_string(), manifest.entries.to_string()),
            ("gaps", gaps.to_string(), manifest.gaps.to_string()),
            ("bytes of text", found.text.len().to_string(), manifest.text_size.to_string()),
            ("text's sha256", sha256(&found.text), manifest.text_sha256.clone()),
            (
                "last leaf",
                last_leaf.map(|leaf| leaf.to_string()).unwrap_or_default(),
                manifest.last_leaf.clone(),
            ),
            ("root", tree.root().to_string(), manifest.root.clone()),
        ];
        if let Some((what, found, said)) = told.iter().find(|(_, found, said)| found != said) {
            return Err(bad(format!("the {what} is {found} and the manifest says {said}")));
        }
        if Edge::of(tree) != manifest.edge {
            return Err(Error::damaged(manifest.own_file(), "its edge is not that of the tree"));
        }
        Ok(found.records)
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
            let mut tree = match (tree, index.checked_sub(1).map(|before| &self.segments[before])) {
                (Some(tree), _) => tree,
                (None, Some(before)) => {
                    before.tree().map_err(|fault| Error::damaged(before.own_file(), fault))?
                }
                (None, None) => Tree::new(),
            };
            let records = self.segment(manifest, &mut tree).await?;
            let wanted = records.into_iter().filter(move |record| record.position() > after);
            Ok::<_, Error>(Some((stream::iter(wanted.map(Ok)), (index + 1, Some(tree)))))
        })
        .try_flatten()
        .boxed()
    }
}

impl Manifest {
    /// Its own file.
    pub(crate) fn own_file(&self) -> String {
        Self::file(Position::new(self.first))
    }
}

/// The leaf of a record in the tree.
pub(crate) fn leaf_of(record: &Record) -> Hash {
    match record {
        Record::Entry(entry) => leaf_hash(&entry.bytes),
        Record::Gap(position) => gap_leaf_hash(position.get()),
    }
}

/// A manifest that is what its name and its tenant say; `None` if it is not there.
pub(crate) async fn read_manifest(
    store: &Store,
    file: &str,
    tenant: &TenantName,
) -> Result<Option<Manifest>, Error> {
    let Some(bytes) = store.get(file).await? else { return Ok(None) };
    let manifest = Manifest::parse(&bytes).map_err(|fault| Error::damaged(file, fault))?;
    if manifest.tenant != tenant.as_str() {
        return Err(Error::damaged(file, format!("it is of the tenant {}, not {tenant}", manifest.tenant)));
    }
    if manifest.own_file() != file {
        return Err(Error::damaged(file, format!("its first position is {}", manifest.first)));
    }
    Ok(Some(manifest))
}

pub(crate) async fn read_checkpoint(store: &Store, tenant: &TenantName) -> Result<Option<Checkpoint>, Error> {
    let Some(bytes) = store.get(CHECKPOINT).await? else { return Ok(None) };
    Checkpoint::parse(&bytes, tenant).map(Some).map_err(|fault| Error::damaged(CHECKPOINT, fault))
}

/// Whether a manifest goes on where the one before it ends.
fn follows(before: Option<&Manifest>, manifest: &Manifest) -> Result<(), Error> {
    let next = before.map_or(1, |before| before.last + 1);
    if manifest.first != next {
        let fault = format!("it is missing: the next manifest begins at position {}", manifest.first);
        return Err(Error::damaged(Manifest::file(Position::new(next)), fault));
    }
    let bad = |fault: String| Err(Error::damaged(manifest.own_file(), fault));
    let (first, last) = (Position::new(manifest.first), Position::new(manifest.last));
    if last < first || manifest.entries.saturating_add(manifest.gaps) != last.get() - first.get() + 1 {
        return bad(format!(
            "it has {} entries and {} gaps, from {first} to {last}",
            manifest.entries, manifest.gaps
        ));
    }
    if manifest.segment != Manifest::segment_file(first, last) {
        return bad(format!("it names {}, which is not how its segment is called", manifest.segment));
    }
    if manifest.tree_size != manifest.last {
        return bad(format!("its tree has {} leaves, and it ends at {last}", manifest.tree_size));
    }
    match before {
        Some(before) if before.stream_created != manifest.stream_created => bad(format!(
            "it is of a stream created at {}, and what is before it of one created at {}",
            manifest.stream_created, before.stream_created
        )),
        _ => Ok(()),
    }
}

/// Whether the checkpoint says what the manifests say. It may be behind them: it is written last.
fn judge_checkpoint(
    checkpoint: Option<Checkpoint>,
    segments: &[Manifest],
    end: Checkpoint,
) -> Result<(), Error> {
    let Some(checkpoint) = checkpoint else {
        return if segments.len() == 1 {
            Ok(())
        } else {
            Err(Error::damaged(CHECKPOINT, "it is missing, and there are segments"))
        };
    };
    if checkpoint.position > end.position {
        return Err(ends_early(end.position, checkpoint));
    }
    let segment = segments.iter().find(|manifest| manifest.last == checkpoint.position.get());
    match segment {
        None => {
            let fault = format!("it is of position {}, where no segment ends", checkpoint.position);
            Err(Error::damaged(CHECKPOINT, fault))
        }
        Some(manifest) if manifest.root != checkpoint.root.to_string() => {
            let (root, file) = (checkpoint.root, manifest.own_file());
            Err(Error::damaged(CHECKPOINT, format!("its root is {root}, and {file} says {}", manifest.root)))
        }
        Some(_) => Ok(()),
    }
}

fn ends_early(end: Position, checkpoint: Checkpoint) -> Error {
    let fault = format!(
        "it is missing: the archive ends at position {end}, and its checkpoint is of position {}",
        checkpoint.position
    );
    Error::damaged(Manifest::file(end.next()), fault)
}
