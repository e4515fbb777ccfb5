//! The queue of one ledger in the spool: one file per event, named by its sequence number.
//!
//! Invariants: a file is complete and synced before it appears in `waiting`. One process at a time adds, and
//! one sends. A file leaves `waiting` only if the ledger has recorded its event, if it is moved to `refused`,
//! or if the process that adds it cannot add all its events and reports that.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use reqwest::Url;
use rustix::io::Errno;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use crate::address::without_credentials;
use crate::private_folder::{self, PrivateFolder, io_error};

/// Capacity of a queue: enough for days without a ledger, and small enough for any disk.
const CAPACITY: Capacity = Capacity { events: 10_000, bytes: 64 << 20 };
/// Maximum size of a file that is read, in bytes; an event is far smaller, also one of a newer program.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Interval for trying the lock of another process that sends; there is no notification.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Digits of a sequence number in a file name, so that names sort by number.
const SEQUENCE_DIGITS: usize = 12;
/// Names of the folders in the folder of a queue.
const WAITING: &str = "waiting";
const REFUSED: &str = "refused";

/// Limits of a queue.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    events: usize,
    bytes: u64,
}

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A folder or a file of the spool cannot be used.
    #[error(transparent)]
    Folder(#[from] private_folder::Error),
    /// The queue is full.
    #[error(
        "the spool {} is full: {events} events with {bytes} bytes are waiting; send them with \
         `release-ledger spool send`",
        path.display()
    )]
    Full {
        /// The folder of the queue.
        path: PathBuf,
        /// Number of waiting events.
        events: usize,
        /// Size of the waiting events in bytes.
        bytes: u64,
    },
}

/// The events that wait for one ledger.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    spool: PathBuf,
    /// The name of the queue's folder in the spool.
    key: String,
    folder: PathBuf,
    ledger: Url,
    capacity: Capacity,
}

/// The open folders of a queue.
#[derive(Debug)]
struct Folders {
    queue: PrivateFolder,
    waiting: PrivateFolder,
    refused: PrivateFolder,
}

/// The file name of an event: its sequence number and its identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(String);

impl Entry {
    fn new(sequence: u64, event: &Envelope) -> Self {
        Self(format!("{sequence:0SEQUENCE_DIGITS$}-{}.json", event.identity().key().0.simple()))
    }

    fn parse(name: &str) -> Option<Self> {
        let (sequence, identity) = name.strip_suffix(".json")?.split_once('-')?;
        let is_sequence =
            sequence.len() == SEQUENCE_DIGITS && sequence.bytes().all(|byte| byte.is_ascii_digit());
        let is_identity = identity.len() == 32 && identity.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_sequence && is_identity).then(|| Self(name.to_owned()))
    }

    fn sequence(&self) -> u64 {
        self.0[..SEQUENCE_DIGITS].parse().unwrap_or_default()
    }
}

impl Queue {
    /// Returns the queue of the ledger at a URL, which includes the tenant. Does not access the disk.
    pub(crate) fn new(spool: &Path, ledger: &Url) -> Self {
        let ledger = without_credentials(ledger);
        let hash = Sha256::digest(ledger.as_str());
        let key = hex::encode(&hash[..16]);
        Self { spool: spool.to_owned(), folder: spool.join(&key), key, ledger, capacity: CAPACITY }
    }

    /// Returns the queues of all ledgers in the spool; ignores other folders.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(crate) fn all(spool: &Path) -> Result<Vec<Self>, Error> {
        let Some(folder) = PrivateFolder::open(spool)? else { return Ok(Vec::new()) };
        let mut queues = Vec::new();
        for name in folder.names()? {
            let Ok(Some(queue)) = folder.open_folder(&name) else { continue };
            let ledger = queue.read_text("ledger", MAX_FILE_BYTES);
            let Some(ledger) = ledger.ok().and_then(|text| Url::parse(text.trim()).ok()) else { continue };
            queues.push(Self::new(spool, &ledger));
        }
        queues.sort_by(|one, other| one.ledger.cmp(&other.ledger));
        Ok(queues)
    }

    /// Opens the folders; returns none if one does not exist.
    fn open_folders(&self) -> Result<Option<Folders>, Error> {
        let Some(spool) = PrivateFolder::open(&self.spool)? else { return Ok(None) };
        let Some(queue) = spool.open_folder(&self.key)? else { return Ok(None) };
        let Some(waiting) = queue.open_folder(WAITING)? else { return Ok(None) };
        let Some(refused) = queue.open_folder(REFUSED)? else { return Ok(None) };
        Ok(Some(Folders { queue, waiting, refused }))
    }

    fn create_folders(&self) -> Result<Folders, Error> {
        let queue = PrivateFolder::create(&self.spool)?.create_folder(&self.key)?;
        let (waiting, refused) = (queue.create_folder(WAITING)?, queue.create_folder(REFUSED)?);
        Ok(Folders { queue, waiting, refused })
    }

    /// The URL of the ledger, without credentials.
    pub(crate) const fn ledger(&self) -> &Url {
        &self.ledger
    }

    /// The folder of the queue.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the waiting entries in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn waiting(&self) -> Result<Vec<Entry>, Error> {
        self.open_folders()?.map_or(Ok(Vec::new()), |folders| folders.entries())
    }

    /// Returns the number of files in `refused`, without the files with reasons.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn refused_count(&self) -> Result<usize, Error> {
        let Some(folders) = self.open_folders()? else { return Ok(0) };
        let names = folders.refused.names()?;
        Ok(names.iter().filter(|name| !name.ends_with(REASON_SUFFIX)).count())
    }

    /// Returns the reason why an entry was moved to `refused`, if it was.
    pub(crate) fn rejection_reason(&self, entry: &Entry) -> Option<String> {
        let folders = self.open_folders().ok().flatten()?;
        let reason = folders.refused.read_text(&format!("{}{REASON_SUFFIX}", entry.0), MAX_FILE_BYTES);
        reason.ok().map(|text| text.trim_end().to_owned())
    }

    /// Adds events after all that wait, in order; they are synced to disk when this returns.
    ///
    /// # Errors
    /// The queue has no room for all events, or the disk fails; then none is added.
    pub(crate) fn add(&self, events: &[Envelope]) -> Result<Vec<Entry>, Error> {
        let folders = self.create_folders()?;
        let lock =
            folders.queue.open_or_create_file("adding").and_then(|file| file.lock().map(|()| FileLock(file)));
        let _lock = lock.map_err(io_error(&self.folder.join("adding"), "lock"))?;
        folders.write_ledger_url(&self.ledger)?;
        let before = folders.entries()?;
        self.check_capacity(&folders, &before, events)?;
        let first = before.last().map_or(1, |entry| entry.sequence() + 1);
        let mut entries = Vec::with_capacity(events.len());
        for (sequence, event) in (first..).zip(events) {
            let entry = Entry::new(sequence, event);
            let written = folders.write_atomically(&folders.waiting, &entry.0, event.bytes());
            entries.push(entry);
            if let Err(error) = written {
                folders.remove_added(&entries);
                return Err(error);
            }
        }
        if let Err(error) = folders.waiting.sync() {
            folders.remove_added(&entries);
            return Err(io_error(folders.waiting.path(), "write")(error).into());
        }
        Ok(entries)
    }

    fn check_capacity(&self, folders: &Folders, before: &[Entry], more: &[Envelope]) -> Result<(), Error> {
        let bytes: u64 = before.iter().map(|entry| folders.waiting.size(&entry.0)).sum();
        let added: u64 = more.iter().map(|event| event.bytes().len() as u64).sum();
        if before.len() + more.len() > self.capacity.events || bytes + added > self.capacity.bytes {
            return Err(Error::Full { path: self.folder.clone(), events: before.len(), bytes });
        }
        Ok(())
    }

    /// Locks the queue for sending; returns none if another process holds the lock until the deadline.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub(crate) async fn lock(&self, deadline: Instant) -> Result<Option<QueueLock<'_>>, Error> {
        let folders = self.create_folders()?;
        let path = self.folder.join("sending");
        let file = folders.queue.open_or_create_file("sending").map_err(io_error(&path, "open"))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(QueueLock { queue: self, folders, _lock: FileLock(file) })),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_POLL_INTERVAL).await,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(io_error(&path, "lock")(source).into()),
            }
        }
    }

    /// Reads an event. Without the lock of the queue, the file may be missing.
    pub(crate) fn read(&self, entry: &Entry) -> Option<Bytes> {
        let folders = self.open_folders().ok().flatten()?;
        folders.waiting.read(&entry.0, MAX_FILE_BYTES).ok().map(Bytes::from)
    }
}

impl Folders {
    /// Returns the waiting entries in order.
    fn entries(&self) -> Result<Vec<Entry>, Error> {
        let names = self.waiting.names()?;
        let mut entries: Vec<_> = names.iter().filter_map(|name| Entry::parse(name)).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    /// Removes entries that were added before a failure: events that are reported as not added must not be
    /// sent later. A sender may have been faster, so a missing file is no error.
    fn remove_added(&self, entries: &[Entry]) {
        for entry in entries {
            let _ = self.waiting.remove(&entry.0);
        }
    }

    /// Writes the URL of the ledger, for listing the spool.
    fn write_ledger_url(&self, ledger: &Url) -> Result<(), Error> {
        match self.queue.has("ledger") {
            Ok(true) => Ok(()),
            Ok(false) => self.write_atomically(&self.queue, "ledger", format!("{ledger}\n").as_bytes()),
            Err(error) => Err(io_error(&self.queue.path().join("ledger"), "read")(error).into()),
        }
    }

    /// Writes a file atomically. Replaces the temporary file of a killed writer: the caller holds the lock.
    fn write_atomically(&self, folder: &PrivateFolder, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let incoming = "incoming";
        let written = self.queue.write_new(incoming, bytes);
        let written = written.and_then(|()| self.queue.rename(incoming, folder, name));
        Ok(written.map_err(io_error(&folder.path().join(name), "write"))?)
    }
}

/// The suffix of the file that contains the reason why an entry was refused.
const REASON_SUFFIX: &str = ".problem";

/// The exclusive right to remove entries from a queue.
#[derive(Debug)]
pub(crate) struct QueueLock<'a> {
    queue: &'a Queue,
    folders: Folders,
    _lock: FileLock,
}

impl QueueLock<'_> {
    /// The queue.
    pub(crate) const fn queue(&self) -> &Queue {
        self.queue
    }

    /// Returns the event of an entry as it was added, an error if the file contains no event, or none if the
    /// process that added it has removed it. Does not validate the event: it may come from a newer version of
    /// this program, and the ledger decides.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn event(&self, entry: &Entry) -> Result<Option<Result<Bytes, String>>, Error> {
        let bytes = match self.folders.waiting.read(&entry.0, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // A foreign file would block all others for ever.
            Err(error) if is_foreign(&error) => {
                return Ok(Some(Err(format!("cannot read the file: {error}"))));
            }
            Err(error) => {
                return Err(io_error(&self.folders.waiting.path().join(&entry.0), "read")(error).into());
            }
        };
        Ok(Some(match serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&bytes) {
            Ok(_) => Ok(bytes.into()),
            Err(error) => Err(format!("the file is damaged: {error}")),
        }))
    }

    /// Removes the entry of a recorded event. If it reappears after a machine failure, it is sent again,
    /// which is harmless.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), Error> {
        match self.folders.waiting.remove(&entry.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.map_err(io_error(&self.folders.waiting.path().join(&entry.0), "remove"))?),
        }
    }

    /// Moves an entry to `refused`, with the reason; returns its new path.
    ///
    /// # Errors
    /// The file cannot be moved.
    pub(crate) fn refuse(&self, entry: &Entry, reason: &str) -> Result<PathBuf, Error> {
        self.move_to_refused(&entry.0, reason)
    }

    /// Moves files that are not entries to `refused`; returns their new paths.
    ///
    /// # Errors
    /// A file cannot be moved.
    pub(crate) fn refuse_foreign_files(&self) -> Result<Vec<PathBuf>, Error> {
        let names = self.folders.waiting.names()?;
        let foreign = names.iter().filter(|name| Entry::parse(name).is_none());
        foreign.map(|name| self.move_to_refused(name, "the file is not an event of the spool")).collect()
    }

    fn move_to_refused(&self, name: &str, reason: &str) -> Result<PathBuf, Error> {
        let Folders { waiting, refused, .. } = &self.folders;
        // Write the reason first: an event in `refused` always has one.
        let (reason_file, path) = (format!("{name}{REASON_SUFFIX}"), refused.path().join(name));
        let written = refused.write_new(&reason_file, format!("{reason}\n").as_bytes());
        written.map_err(io_error(&refused.path().join(&reason_file), "write"))?;
        let moved = waiting.rename(name, refused, name).and_then(|()| refused.sync());
        moved.map_err(io_error(&path, "write"))?;
        Ok(path)
    }
}

/// Returns true if a file cannot be read because of what it is: a folder, a link, a file of another user or one
/// that is too large.
fn is_foreign(error: &io::Error) -> bool {
    let is_link = Errno::from_io_error(error) == Some(Errno::LOOP);
    is_link
        || matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::IsADirectory | ErrorKind::FileTooLarge
        )
}

/// A file lock, released on drop. Closing the file would not be enough: a child process that is just being
/// started has it open, too.
#[derive(Debug)]
struct FileLock(File);

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests;
