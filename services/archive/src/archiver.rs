//! The archiver: writes an archive from a journal, once or continuously.
//!
//! Writes a segment before its manifest, and the manifest before the checkpoint. If the process is killed at any point,
//! every segment that a manifest names exists, and the next run continues after the last manifest. Only one of several
//! concurrent archivers can create the manifest that starts at a position; the others continue after it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use ledger_domain::{Position, TenantName};
use ledger_journal::{Record, SharedJournal, SubjectFilter, Until};
use ledger_tlog::{Hash, Tree, gap_leaf_hash};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::{CHECKPOINT_OBJECT, read_checkpoint, read_manifest};
use crate::manifest::{EdgeTile, FORMAT_VERSION, Manifest, SEGMENTS_FOLDER, sha256};
use crate::{Checkpoint, Error, Store, segment};

/// Initial delay before a retry; doubles with each failure.
const INITIAL_RETRY_BACKOFF: Duration = Duration::from_millis(200);
/// Maximum delay before a retry.
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(10);
/// Time after which a stream that appears to lack an entry is taken to have lost it. Longer than the election of a new
/// stream leader, which may lag behind the old one at first.
const MISSING_ENTRY_TIMEOUT: Duration = Duration::from_secs(12);
/// Delay between two checks for an entry that the stream appears to lack.
const MISSING_ENTRY_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Bounds of a segment. An archiver seals a segment as soon as it reaches one of them.
#[derive(Debug, Clone, Copy)]
pub struct SegmentLimits {
    /// Number of positions.
    pub entries: u64,
    /// Size of the text in bytes, before compression.
    pub bytes: usize,
    /// Time since the first entry was added; applies only to [`Archiver::follow`].
    pub age: Duration,
}

/// A writer of an archive.
pub struct Archiver {
    store: Store,
    journal: SharedJournal,
    tenant: TenantName,
    limits: SegmentLimits,
    /// [`MISSING_ENTRY_TIMEOUT`], except in tests.
    missing_entry_timeout: Duration,
    /// Creation time of the archived stream.
    stream_created: DateTime<Utc>,
    /// Tree over the archived positions.
    tree: Tree,
    /// Leaf hash of the last archived position; empty before the first segment.
    last_leaf: String,
    sealed_segments: usize,
}

/// Result of one pass over the journal.
enum PassResult {
    /// At the end of the journal or at shutdown.
    Ended,
    /// Another archiver sealed the next segment first.
    Overtaken,
}

/// A segment that is not sealed yet.
struct OpenSegment {
    text: Vec<u8>,
    first: Position,
    entries: u64,
    gaps: u64,
    last_leaf: Option<Hash>,
    /// Tree over the archived positions and this segment.
    tree: Tree,
    /// Time of sealing, if no other limit is reached before.
    deadline: Instant,
}

impl Archiver {
    /// Finds the end of the archive, and verifies that the archive belongs to this journal.
    ///
    /// # Errors
    /// The end of the archive is damaged or belongs to another stream, or the store or the journal is unavailable.
    pub async fn open(
        store: Store,
        journal: SharedJournal,
        tenant: TenantName,
        limits: SegmentLimits,
    ) -> Result<Self, Error> {
        Self::open_with_timeout(store, journal, tenant, limits, MISSING_ENTRY_TIMEOUT).await
    }

    async fn open_with_timeout(
        store: Store,
        journal: SharedJournal,
        tenant: TenantName,
        limits: SegmentLimits,
        missing_entry_timeout: Duration,
    ) -> Result<Self, Error> {
        let stream_created = journal.head().await?.created;
        let mut archiver = Self {
            store,
            journal,
            tenant,
            limits,
            missing_entry_timeout,
            stream_created,
            tree: Tree::new(),
            last_leaf: String::new(),
            sealed_segments: 0,
        };
        archiver.resume().await?;
        Ok(archiver)
    }

    /// Returns the end of the archive.
    #[must_use]
    pub fn end(&self) -> Checkpoint {
        Checkpoint { position: Position::new(self.tree.size()), root: self.tree.root() }
    }

    /// Returns the number of segments that this archiver has sealed.
    #[must_use]
    pub const fn segments(&self) -> usize {
        self.sealed_segments
    }

    /// Archives everything up to the current head of the journal.
    ///
    /// # Errors
    /// The journal cannot be read, or the archive cannot be written. Sealed segments remain.
    pub async fn archive(&mut self) -> Result<(), Error> {
        let head = self.journal.head().await?.position;
        let never = CancellationToken::new();
        while let PassResult::Overtaken = self.pass(Until::Position(head), &never).await? {}
        Ok(())
    }

    /// Archives existing and new entries until `shutdown` is cancelled, then seals the open segment. Retries while the
    /// store or the journal is unavailable.
    ///
    /// # Errors
    /// The archive is damaged or no longer belongs to this stream, or the store or the journal was unavailable at
    /// shutdown.
    pub async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut backoff = INITIAL_RETRY_BACKOFF;
        loop {
            let before = self.end().position;
            let error = match self.pass(Until::Forever, shutdown).await {
                Ok(_) if shutdown.is_cancelled() => return Ok(()),
                Ok(PassResult::Overtaken | PassResult::Ended) => continue,
                Err(error @ (Error::Store(_) | Error::Journal(_))) => error,
                Err(error) => return Err(error),
            };
            if self.end().position > before {
                backoff = INITIAL_RETRY_BACKOFF;
            }
            warn!(error = &error as &dyn std::error::Error, ?backoff, "archiving failed; retrying");
            tokio::select! {
                () = shutdown.cancelled() => return Err(error),
                () = sleep(backoff) => backoff = MAX_RETRY_BACKOFF.min(backoff * 2),
            }
        }
    }

    /// Loads the end of the archive from its last manifest, verifies that the journal contains it, and updates the
    /// checkpoint.
    async fn resume(&mut self) -> Result<(), Error> {
        // Read the checkpoint first: it is written after its manifests, so the listing below contains them.
        let checkpoint = read_checkpoint(&self.store, &self.tenant).await?;
        let names = self.store.list(SEGMENTS_FOLDER).await?;
        let last = names.iter().rfind(|name| name.ends_with(".json"));
        let Some(object) = last.map(|name| format!("{SEGMENTS_FOLDER}/{name}")) else {
            return match checkpoint {
                None => Ok(()),
                Some(_) => Err(Error::damaged(CHECKPOINT_OBJECT, "exists, but there are no manifests")),
            };
        };
        let Some(manifest) = read_manifest(&self.store, &object, &self.tenant).await? else {
            return Err(Error::damaged(object, "deleted after it was listed"));
        };
        if manifest.stream_created != self.stream_created {
            return Err(created_mismatch(self.stream_created, manifest.stream_created));
        }
        self.tree = manifest.tree().map_err(|fault| Error::damaged(object, fault))?;
        self.last_leaf = manifest.last_leaf;
        self.verify_end().await?;
        self.update_checkpoint().await
    }

    /// Verifies that the journal still has the last archived position.
    async fn verify_end(&self) -> Result<(), Error> {
        self.verify_leaf(self.end().position, &self.last_leaf).await
    }

    /// Verifies that the journal has a leaf at a position. Waits for it up to `missing_entry_timeout`, because a new
    /// stream leader may lag behind the old one at first.
    async fn verify_leaf(&self, position: Position, leaf: &str) -> Result<(), Error> {
        let start = Instant::now();
        while let Some(missing) = self.find_missing(position, leaf).await? {
            if start.elapsed() >= self.missing_entry_timeout {
                return Err(Error::StreamMismatch(missing));
            }
            sleep(MISSING_ENTRY_POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Returns a description of the loss if the journal lacks a position that was read before, and `None` if the
    /// journal has this leaf there. A stream that was created again, or has another entry there, is an error.
    async fn find_missing(&self, position: Position, leaf: &str) -> Result<Option<String>, Error> {
        let head = self.journal.head().await?;
        if head.created != self.stream_created {
            return Err(created_mismatch(head.created, self.stream_created));
        }
        if head.position < position {
            let missing =
                format!("the stream ends at position {}, but had position {position}", head.position);
            return Ok(Some(missing));
        }
        if position == Position::START || leaf == gap_leaf_hash(position.get()).to_string() {
            return Ok(None);
        }
        match self.journal.entry(position).await? {
            Some(entry) if segment::record_leaf(&Record::Entry(entry.clone())).to_string() == leaf => {
                Ok(None)
            }
            Some(_) => {
                Err(Error::StreamMismatch(format!("the stream has a different entry at position {position}")))
            }
            None => Ok(Some(format!("the stream no longer has the entry at position {position}"))),
        }
    }

    async fn pass(&mut self, until: Until, shutdown: &CancellationToken) -> Result<PassResult, Error> {
        // Since the last pass, the stream may have been replaced, or the write of a checkpoint may have failed.
        self.verify_end().await?;
        self.update_checkpoint().await?;
        let mut records = self.journal.read(SubjectFilter::All, self.end().position, until);
        let mut open = None;
        loop {
            let deadline = open.as_ref().map_or_else(Instant::now, |open: &OpenSegment| open.deadline);
            let has_deadline = open.is_some() && until == Until::Forever;
            let (is_full, is_last) = tokio::select! {
                record = records.next() => match record {
                    Some(record) => (self.add(&mut open, &record?), false),
                    None => (true, true),
                },
                () = sleep_until(deadline), if has_deadline => (true, false),
                () = shutdown.cancelled() => (true, true),
            };
            if is_full
                && let Some(open) = open.take()
                && !self.seal(open).await?
            {
                return Ok(PassResult::Overtaken);
            }
            if is_last {
                return Ok(PassResult::Ended);
            }
        }
    }

    /// Adds a record to the open segment. Returns true if the segment is full.
    fn add(&self, open: &mut Option<OpenSegment>, record: &Record) -> bool {
        let open = open.get_or_insert_with(|| OpenSegment {
            text: Vec::new(),
            first: record.position(),
            entries: 0,
            gaps: 0,
            last_leaf: None,
            tree: self.tree.clone(),
            deadline: Instant::now() + self.limits.age,
        });
        match record {
            Record::Entry(_) => open.entries += 1,
            Record::Gap(_) => open.gaps += 1,
        }
        segment::write_line(record, &mut open.text);
        let leaf = segment::record_leaf(record);
        open.tree.append(leaf);
        open.last_leaf = Some(leaf);
        open.entries + open.gaps >= self.limits.entries || open.text.len() >= self.limits.bytes
    }

    /// Writes a segment, its manifest and the checkpoint. Returns false if another archiver sealed it first.
    async fn seal(&mut self, mut open: OpenSegment) -> Result<bool, Error> {
        // Verify that the segment was read from the current stream, as far as the positions at its two ends show.
        let last = Position::new(open.tree.size());
        let last_leaf = open.last_leaf.map(|leaf| leaf.to_string()).unwrap_or_default();
        self.verify_end().await?;
        self.verify_leaf(last, &last_leaf).await?;
        // Full tiles are not needed here; free their memory.
        drop(open.tree.take_dirty());
        let segment = Manifest::segment_object_name(open.first, last);
        let Some(file) = self.write_segment(&segment, &open).await? else {
            return self.resume_after_other(&Manifest::object_name(open.first)).await;
        };
        let manifest = Manifest {
            format: FORMAT_VERSION,
            tenant: self.tenant.to_string(),
            stream_created: self.stream_created,
            segment,
            first: open.first.get(),
            last: last.get(),
            entries: open.entries,
            gaps: open.gaps,
            size: file.len() as u64,
            sha256: sha256(&file),
            text_size: open.text.len() as u64,
            text_sha256: sha256(&open.text),
            last_leaf,
            tree_size: open.tree.size(),
            root: open.tree.root().to_string(),
            edge: EdgeTile::of(&open.tree),
        };
        let object = manifest.own_object_name();
        let bytes = manifest.to_bytes().map_err(|error| Error::damaged(&object, error))?;
        if !self.store.create(&object, bytes.into()).await? {
            return self.resume_after_other(&object).await;
        }
        (self.tree, self.last_leaf) = (open.tree, manifest.last_leaf);
        self.sealed_segments += 1;
        self.update_checkpoint().await?;
        info!(segment = manifest.segment, root = manifest.root, "sealed a segment");
        Ok(true)
    }

    /// Continues after the segments of another archiver, which created this manifest first. Returns false for
    /// [`Archiver::seal`].
    async fn resume_after_other(&mut self, manifest: &str) -> Result<bool, Error> {
        info!(manifest, "another archiver sealed the next segment first");
        self.resume().await?;
        Ok(false)
    }

    /// Writes a segment's file. Returns the stored bytes, or `None` if another archiver sealed the segment first.
    ///
    /// Keeps an existing file with the same text, even if no manifest names it: another archiver may be about to name
    /// it.
    async fn write_segment(&self, object: &str, open: &OpenSegment) -> Result<Option<Vec<u8>>, Error> {
        let bytes = segment::compress(&open.text).map_err(|error| Error::damaged(object, error))?;
        if self.store.create(object, bytes.clone().into()).await? {
            return Ok(Some(bytes));
        }
        if let Some(existing) = self.store.get(object).await? {
            let contents = segment::read(&existing, open.first, open.text.len() as u64);
            if contents.fault.is_none() && contents.text == open.text {
                return Ok(Some(existing.into()));
            }
        }
        // Never overwrite a sealed segment: it may have the only copy of an entry that the stream has since lost.
        if self.store.get(&Manifest::object_name(open.first)).await?.is_some() {
            return Ok(None);
        }
        warn!(segment = object, "overwriting a segment file that differs and that no manifest names");
        self.store.replace(object, bytes.clone().into()).await?;
        Ok(Some(bytes))
    }

    /// Writes the checkpoint for the end of the archive, unless the stored one has reached it.
    async fn update_checkpoint(&self) -> Result<(), Error> {
        let end = self.end();
        if end.position == Position::START {
            return Ok(());
        }
        let stored = read_checkpoint(&self.store, &self.tenant).await?;
        if stored.is_some_and(|stored| stored.position >= end.position) {
            return Ok(());
        }
        let text = end.to_text(&self.tenant);
        Ok(self.store.replace(CHECKPOINT_OBJECT, text.into_bytes().into()).await?)
    }
}

fn created_mismatch(found: DateTime<Utc>, archived: DateTime<Utc>) -> Error {
    Error::StreamMismatch(format!("the stream was created at {found}, the archived one at {archived}"))
}

#[cfg(test)]
mod tests;
