//! The archiver: writes an archive from a journal, once or continuously.
//!
//! Writes a segment before its manifest, and the manifest before the checkpoint. If the process is killed at any point,
//! every segment that a manifest names exists, and the next run continues after the last manifest. Only one of several
//! concurrent archivers can create the manifest that starts at a position; the others continue after it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use ledger_domain::{Position, TenantName};
use ledger_journal::{Divergence, KnownHistory, Record, SharedJournal, UNCONFIRMED_TIMEOUT, Until};
use ledger_tlog::{Hash, Tree};
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
    /// [`UNCONFIRMED_TIMEOUT`], except in tests.
    unconfirmed_timeout: Duration,
    /// Creation time of the archived stream.
    stream_created: DateTime<Utc>,
    /// Tree over the archived positions.
    tree: Tree,
    /// Leaf hash of the last archived position; `None` before the first segment.
    last_leaf: Option<Hash>,
    sealed_segments: usize,
}

/// End of a pass over the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassEnd {
    /// The head of the journal at the start of the pass.
    Head,
    /// The shutdown of the archiver.
    Shutdown,
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
    last_leaf: Hash,
    /// Tree over the archived positions and this segment.
    tree: Tree,
    /// Time of sealing, if no other limit is reached before.
    deadline: Instant,
}

impl Archiver {
    /// Finds the end of the archive. Each pass over the journal verifies first that the archive belongs to it.
    ///
    /// # Errors
    /// The end of the archive is damaged or belongs to another stream, or the store or the journal is unavailable.
    pub async fn open(
        store: Store,
        journal: SharedJournal,
        tenant: TenantName,
        limits: SegmentLimits,
    ) -> Result<Self, Error> {
        Self::open_with_timeout(store, journal, tenant, limits, UNCONFIRMED_TIMEOUT).await
    }

    async fn open_with_timeout(
        store: Store,
        journal: SharedJournal,
        tenant: TenantName,
        limits: SegmentLimits,
        unconfirmed_timeout: Duration,
    ) -> Result<Self, Error> {
        let stream_created = journal.head().await?.created;
        let mut archiver = Self {
            store,
            journal,
            tenant,
            limits,
            unconfirmed_timeout,
            stream_created,
            tree: Tree::new(),
            last_leaf: None,
            sealed_segments: 0,
        };
        archiver.load_end().await?;
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
    /// The archive does not belong to this stream, the journal cannot be read, or the archive cannot be written. Sealed
    /// segments remain.
    pub async fn archive(&mut self) -> Result<(), Error> {
        let never = CancellationToken::new();
        while let PassResult::Overtaken = self.pass(PassEnd::Head, &never).await? {}
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
            let error = match self.pass(PassEnd::Shutdown, shutdown).await {
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

    /// Loads the end of the archive from its last manifest.
    async fn load_end(&mut self) -> Result<(), Error> {
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
            let (found, known) = (self.stream_created, manifest.stream_created);
            return Err(Error::StreamMismatch(Divergence::Recreated { found, known }));
        }
        self.tree = manifest.tree().map_err(|fault| Error::damaged(&object, fault))?;
        let last_leaf = manifest.last_leaf.parse();
        self.last_leaf = Some(last_leaf.map_err(|fault| Error::damaged(object, fault))?);
        Ok(())
    }

    /// Returns what is known of the stream: its creation time, and the leaf at the end of the archive.
    fn archived_history(&self) -> KnownHistory {
        let history = KnownHistory::new(self.stream_created);
        match self.last_leaf {
            Some(leaf) => history.with_leaf(self.end().position, leaf),
            None => history,
        }
    }

    async fn verify_stream(&self, history: &KnownHistory) -> Result<(), Error> {
        Ok(history.confirm(self.journal.as_ref(), self.unconfirmed_timeout).await?)
    }

    async fn pass(&mut self, end: PassEnd, shutdown: &CancellationToken) -> Result<PassResult, Error> {
        // Since the last pass, the stream may have been replaced, or the write of a checkpoint may have failed.
        let history = self.archived_history();
        self.verify_stream(&history).await?;
        self.update_checkpoint().await?;
        // Read the head only now: a server that lagged behind has caught up.
        let until = match end {
            PassEnd::Head => Until::Position(self.journal.head().await?.position),
            PassEnd::Shutdown => Until::Forever,
        };
        let mut records = self.journal.read_after(history, until);
        let mut open = None;
        loop {
            let deadline = open.as_ref().map_or_else(Instant::now, |open: &OpenSegment| open.deadline);
            let has_deadline = open.is_some() && end == PassEnd::Shutdown;
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
        let leaf = record.leaf_hash();
        let open = open.get_or_insert_with(|| OpenSegment {
            text: Vec::new(),
            first: record.position(),
            entries: 0,
            gaps: 0,
            last_leaf: leaf,
            tree: self.tree.clone(),
            deadline: Instant::now() + self.limits.age,
        });
        match record {
            Record::Entry(_) => open.entries += 1,
            Record::Gap(_) => open.gaps += 1,
        }
        segment::write_line(record, &mut open.text);
        open.tree.append(leaf);
        open.last_leaf = leaf;
        open.entries + open.gaps >= self.limits.entries || open.text.len() >= self.limits.bytes
    }

    /// Writes a segment, its manifest and the checkpoint. Returns false if another archiver sealed it first.
    async fn seal(&mut self, mut open: OpenSegment) -> Result<bool, Error> {
        // Verify that the segment was read from the current stream, as far as the positions at its two ends show.
        let last = Position::new(open.tree.size());
        self.verify_stream(&self.archived_history().with_leaf(last, open.last_leaf)).await?;
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
            last_leaf: open.last_leaf.to_string(),
            tree_size: open.tree.size(),
            root: open.tree.root().to_string(),
            edge: EdgeTile::of(&open.tree),
        };
        let object = manifest.own_object_name();
        let bytes = manifest.to_bytes().map_err(|error| Error::damaged(&object, error))?;
        if !self.store.create(&object, bytes.into()).await? {
            return self.resume_after_other(&object).await;
        }
        (self.tree, self.last_leaf) = (open.tree, Some(open.last_leaf));
        self.sealed_segments += 1;
        self.update_checkpoint().await?;
        info!(segment = manifest.segment, root = manifest.root, "sealed a segment");
        Ok(true)
    }

    /// Continues after the segments of another archiver, which created this manifest first. Returns false for
    /// [`Archiver::seal`].
    async fn resume_after_other(&mut self, manifest: &str) -> Result<bool, Error> {
        info!(manifest, "another archiver sealed the next segment first");
        self.load_end().await?;
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

#[cfg(test)]
mod tests;
