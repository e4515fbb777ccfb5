//! The follower that writes an archive.
//!
//! A segment is written before its manifest, and the manifest before the checkpoint: killed anywhere, what
//! manifests name is there, and the next run goes on after the last of them. Of two archivers that write at
//! once, only one writes the manifest that begins at a position; the other goes on after it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use ledger_domain::{Position, TenantName};
use ledger_journal::{Record, SharedJournal, SubjectFilter, Until};
use ledger_tlog::{Hash, Tree, gap_leaf_hash};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::{CHECKPOINT, leaf_of, read_checkpoint, read_manifest};
use crate::manifest::{Edge, FOLDER, FORMAT, Manifest, sha256};
use crate::{Checkpoint, Error, Store, segment};

/// How long to wait after a failure: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long a stream seems to lack its end before that is believed: longer than another server needs to become its
/// leader.
const BELIEVED: Duration = Duration::from_secs(12);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// When a segment is sealed: at whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// It has this many positions.
    pub entries: u64,
    /// Its text has this many bytes.
    pub bytes: usize,
    /// Its first entry has waited this long; only where an archiver follows.
    pub age: Duration,
}

/// What writes an archive.
pub struct Archiver {
    store: Store,
    journal: SharedJournal,
    tenant: TenantName,
    limits: Limits,
    /// How long a stream seems to lack its end before that is believed.
    believed: Duration,
    /// When the stream was created that is archived.
    created: DateTime<Utc>,
    /// The tree over what is archived.
    tree: Tree,
    /// Its last leaf; empty while there is none.
    last_leaf: String,
    segments: usize,
}

/// How reading a stretch of the journal ended.
enum PassResult {
    /// At its end.
    Ended,
    /// Another archiver was first with what comes next.
    Overtaken,
}

/// A segment that is not sealed.
struct Open {
    text: Vec<u8>,
    first: Position,
    entries: u64,
    gaps: u64,
    last_leaf: Option<Hash>,
    tree: Tree,
    /// When it is sealed at the latest.
    due: Instant,
}

impl Archiver {
    /// Finds where the archive ends, and whether it is of this journal.
    ///
    /// # Errors
    /// The archive's end is damaged, or of another stream; or one of them does not answer.
    pub async fn open(
        store: Store,
        journal: SharedJournal,
        tenant: TenantName,
        limits: Limits,
    ) -> Result<Self, Error> {
        Self::open_patiently(store, journal, tenant, limits, BELIEVED).await
    }

    async fn open_patiently(
        store: Store,
        journal: SharedJournal,
        tenant: TenantName,
        limits: Limits,
        believed: Duration,
    ) -> Result<Self, Error> {
        let created = journal.head().await?.created;
        let (tree, last_leaf) = (Tree::new(), String::new());
        let mut archiver =
            Self { store, journal, tenant, limits, believed, created, tree, last_leaf, segments: 0 };
        archiver.resume().await?;
        Ok(archiver)
    }

    /// How far the archive goes.
    #[must_use]
    pub fn end(&self) -> Checkpoint {
        Checkpoint { position: Position::new(self.tree.size()), root: self.tree.root() }
    }

    /// How many segments were sealed by this.
    #[must_use]
    pub const fn segments(&self) -> usize {
        self.segments
    }

    /// Archives everything that is there now.
    ///
    /// # Errors
    /// The journal cannot be read, or the archive cannot be written. What is sealed stays.
    pub async fn archive(&mut self) -> Result<(), Error> {
        let head = self.journal.head().await?.position;
        let never = CancellationToken::new();
        while let PassResult::Overtaken = self.pass(Until::Position(head), &never).await? {}
        Ok(())
    }

    /// Archives what is there and what comes, until it is told to end; then it seals what it has. What may
    /// pass is tried again.
    ///
    /// # Errors
    /// The archive is damaged, or not of this stream any more.
    pub async fn follow(&mut self, ending: &CancellationToken) -> Result<(), Error> {
        let mut pause = BACK_OFF.0;
        loop {
            let before = self.end().position;
            let error = match self.pass(Until::Forever, ending).await {
                Ok(_) if ending.is_cancelled() => return Ok(()),
                Ok(PassResult::Overtaken | PassResult::Ended) => continue,
                Err(error @ (Error::Store(_) | Error::Journal(_))) => error,
                Err(error) => return Err(error),
            };
            if self.end().position > before {
                pause = BACK_OFF.0;
            }
            warn!(error = &error as &dyn std::error::Error, ?pause, "the archive waits");
            tokio::select! {
                () = ending.cancelled() => return Err(error),
                () = tokio::time::sleep(pause) => pause = BACK_OFF.1.min(pause * 2),
            }
        }
    }

    /// Takes up the archive's end, and sees whether the journal has it.
    async fn resume(&mut self) -> Result<(), Error> {
        // Before the manifests: it is written after them, so another archiver's is told of by what is seen below.
        let checkpoint = read_checkpoint(&self.store, &self.tenant).await?;
        let names = self.store.list(FOLDER).await?;
        let last = names.iter().rfind(|name| name.ends_with(".json"));
        let Some(file) = last.map(|name| format!("{FOLDER}/{name}")) else {
            return match checkpoint {
                None => Ok(()),
                Some(_) => Err(Error::damaged(CHECKPOINT, "it is there, and there are no manifests")),
            };
        };
        let Some(manifest) = read_manifest(&self.store, &file, &self.tenant).await? else {
            return Err(Error::damaged(file, "it is gone"));
        };
        if manifest.stream_created != self.created {
            let (found, ours) = (self.created, manifest.stream_created);
            return Err(Error::Other(format!("the stream was created at {found}, the archive's at {ours}")));
        }
        self.tree = manifest.tree().map_err(|fault| Error::damaged(file, fault))?;
        self.last_leaf = manifest.last_leaf;
        self.recognise_end().await?;
        self.check_in().await
    }

    /// Whether the journal still has what is archived, by its last entry.
    async fn recognise_end(&self) -> Result<(), Error> {
        self.recognise(self.end().position, &self.last_leaf).await
    }

    /// Whether the journal has a leaf at a position. What it lacks is waited for: while another server becomes its
    /// leader, it may know less than before.
    async fn recognise(&self, at: Position, leaf: &str) -> Result<(), Error> {
        let began = Instant::now();
        while let Some(lacking) = self.lacking(at, leaf).await? {
            if began.elapsed() >= self.believed {
                return Err(Error::Other(lacking));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// What the journal lacks of what was read of it, if anything.
    async fn lacking(&self, end: Position, leaf: &str) -> Result<Option<String>, Error> {
        let head = self.journal.head().await?;
        if head.created != self.created {
            let (found, before) = (head.created, self.created);
            return Err(Error::Other(format!(
                "the stream was created at {found}, and was another at {before}"
            )));
        }
        if head.position < end {
            return Ok(Some(format!("the stream ends at position {}, the archive at {end}", head.position)));
        }
        if end == Position::START || leaf == gap_leaf_hash(end.get()).to_string() {
            return Ok(None);
        }
        match self.journal.entry(end).await? {
            Some(entry) if leaf_of(&Record::Entry(entry.clone())).to_string() == leaf => Ok(None),
            Some(_) => Err(Error::Other(format!("the stream has another entry at position {end}"))),
            None => Ok(Some(format!("the stream has no entry at position {end} any more"))),
        }
    }

    async fn pass(&mut self, until: Until, ending: &CancellationToken) -> Result<PassResult, Error> {
        // What came between may have been the end of the stream that is archived, or of a checkpoint on its way.
        self.recognise_end().await?;
        self.check_in().await?;
        let mut records = self.journal.read(SubjectFilter::All, self.end().position, until);
        let mut open = None;
        loop {
            let due = open.as_ref().map_or_else(Instant::now, |open: &Open| open.due);
            let is_waiting = open.is_some() && until == Until::Forever;
            let (is_full, is_over) = tokio::select! {
                record = records.next() => match record {
                    Some(record) => (self.add(&mut open, &record?), false),
                    None => (true, true),
                },
                () = sleep_until(due), if is_waiting => (true, false),
                () = ending.cancelled() => (true, true),
            };
            if is_full
                && let Some(open) = open.take()
                && !self.seal(open).await?
            {
                return Ok(PassResult::Overtaken);
            }
            if is_over {
                return Ok(PassResult::Ended);
            }
        }
    }

    /// Adds a record to the segment that is open; whether that is full now.
    fn add(&self, open: &mut Option<Open>, record: &Record) -> bool {
        let open = open.get_or_insert_with(|| Open {
            text: Vec::new(),
            first: record.position(),
            entries: 0,
            gaps: 0,
            last_leaf: None,
            tree: self.tree.clone(),
            due: Instant::now() + self.limits.age,
        });
        match record {
            Record::Entry(_) => open.entries += 1,
            Record::Gap(_) => open.gaps += 1,
        }
        segment::write_line(record, &mut open.text);
        let leaf = leaf_of(record);
        open.tree.append(leaf);
        open.last_leaf = Some(leaf);
        open.entries + open.gaps >= self.limits.entries || open.text.len() >= self.limits.bytes
    }

    /// Writes a segment, its manifest and the checkpoint; false if another archiver was first.
    async fn seal(&mut self, mut open: Open) -> Result<bool, Error> {
        // What was read came from the stream that is there now, as far as its ends tell.
        let last = Position::new(open.tree.size());
        let last_leaf = open.last_leaf.map(|leaf| leaf.to_string()).unwrap_or_default();
        self.recognise_end().await?;
        self.recognise(last, &last_leaf).await?;
        // Full tiles are of no use here.
        drop(open.tree.take_dirty());
        let segment = Manifest::segment_file(open.first, last);
        let Some(file) = self.write_segment(&segment, &open).await? else {
            return self.give_way(&Manifest::file(open.first)).await;
        };
        let manifest = Manifest {
            format: FORMAT,
            tenant: self.tenant.to_string(),
            stream_created: self.created,
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
            edge: Edge::of(&open.tree),
        };
        let name = manifest.own_file();
        let bytes = manifest.bytes().map_err(|error| Error::damaged(&name, error))?;
        if !self.store.create(&name, bytes.into()).await? {
            return self.give_way(&name).await;
        }
        (self.tree, self.last_leaf) = (open.tree, manifest.last_leaf);
        self.segments += 1;
        self.check_in().await?;
        info!(segment = manifest.segment, root = manifest.root, "sealed");
        Ok(true)
    }

    /// Another archiver has named what comes next: goes on after it.
    async fn give_way(&mut self, manifest: &str) -> Result<bool, Error> {
        info!(manifest, "another archiver was first");
        self.resume().await?;
        Ok(false)
    }

    /// Writes the segment's file; what is there then, or nothing if another archiver was first. One that was left
    /// there without a manifest is kept if it says the same: another archiver may be about to name it.
    async fn write_segment(&self, name: &str, open: &Open) -> Result<Option<Vec<u8>>, Error> {
        let bytes = segment::compress(&open.text).map_err(|error| Error::damaged(name, error))?;
        if self.store.create(name, bytes.clone().into()).await? {
            return Ok(Some(bytes));
        }
        if let Some(there) = self.store.get(name).await? {
            let found = segment::read(&there, open.first, open.text.len() as u64);
            if found.fault.is_none() && found.text == open.text {
                return Ok(Some(there.into()));
            }
        }
        // It may be all that is left of an entry that the stream has lost since.
        if self.store.get(&Manifest::file(open.first)).await?.is_some() {
            return Ok(None);
        }
        warn!(segment = name, "a segment that nothing names is not what it should be: it is written again");
        self.store.replace(name, bytes.clone().into()).await?;
        Ok(Some(bytes))
    }

    /// Writes the checkpoint of the archive's end, if what is there is behind it.
    async fn check_in(&self) -> Result<(), Error> {
        let end = self.end();
        if end.position == Position::START {
            return Ok(());
        }
        let there = read_checkpoint(&self.store, &self.tenant).await?;
        if there.is_some_and(|there| there.position >= end.position) {
            return Ok(());
        }
        let text = end.text(&self.tenant);
        Ok(self.store.replace(CHECKPOINT, text.into_bytes().into()).await?)
    }
}

#[cfg(test)]
mod tests;
