//! The queue of one ledger in the spool: one file per event, named by its sequence number.
//!
//! Invariants: a file is complete and synced before it appears in `waiting`. One process at a time adds, and
//! one sends. A file leaves `waiting` only if the ledger has recorded its event, if it is moved to `refused`,
//! or if the process that adds it cannot add all its events and reports that.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use reqwest::Url;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use crate::connection::without_credentials;

/// Capacity of a queue: enough for days without a ledger, and small enough for any disk.
const CAPACITY: Capacity = Capacity { events: 10_000, bytes: 64 << 20 };
/// Interval for trying the lock of another process that sends; there is no notification.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Digits of a sequence number in a file name, so that names sort by number.
const SEQUENCE_DIGITS: usize = 12;

/// Limits of a queue.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    events: usize,
    bytes: u64,
}

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation, as a verb.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
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
    folder: PathBuf,
    ledger: Url,
    capacity: Capacity,
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
        Self { folder: spool.join(key), ledger, capacity: CAPACITY }
    }

    /// Returns the queues of all ledgers in the spool; ignores other folders.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(crate) fn all(spool: &Path) -> Result<Vec<Self>, Error> {
        let mut queues = Vec::new();
        for name in file_names(spool)? {
            let ledger = fs::read_to_string(spool.join(&name).join("ledger"));
            let Some(ledger) = ledger.ok().and_then(|text| Url::parse(text.trim()).ok()) else { continue };
            queues.push(Self::new(spool, &ledger));
        }
        queues.sort_by(|one, other| one.ledger.cmp(&other.ledger));
        Ok(queues)
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
        let names = file_names(&self.waiting_folder())?;
        let mut entries: Vec<_> = names.iter().filter_map(|name| Entry::parse(name)).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    /// Returns the number of files in `refused`, without the files with reasons.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn refused_count(&self) -> Result<usize, Error> {
        let names = file_names(&self.refused_folder())?;
        Ok(names.iter().filter(|name| !name.ends_with(REASON_SUFFIX)).count())
    }

    /// Returns the reason why an entry was moved to `refused`, if it was.
    pub(crate) fn rejection_reason(&self, entry: &Entry) -> Option<String> {
        let reason = fs::read_to_string(self.refused_folder().join(format!("{}{REASON_SUFFIX}", entry.0)));
        reason.ok().map(|text| text.trim_end().to_owned())
    }

    /// Adds events after all that wait, in order; they are synced to disk when this returns.
    ///
    /// # Errors
    /// The queue has no room for all events, or the disk fails; then none is added.
    pub(crate) fn add(&self, events: &[Envelope]) -> Result<Vec<Entry>, Error> {
        self.create_folders()?;
        let path = self.folder.join("adding");
        let lock = open(&path).and_then(|file| file.lock().map(|()| FileLock(file)));
        let _lock = lock.map_err(io_error(&path, "lock"))?;
        self.write_ledger_url()?;
        let before = self.waiting()?;
        self.check_capacity(&before, events)?;
        let first = before.last().map_or(1, |entry| entry.sequence() + 1);
        let mut entries = Vec::with_capacity(events.len());
        for (sequence, event) in (first..).zip(events) {
            let entry = Entry::new(sequence, event);
            let written = self.write_atomically(&self.path(&entry), event.bytes());
            entries.push(entry);
            if let Err(error) = written {
                self.remove_added(&entries);
                return Err(error);
            }
        }
        let folder = self.waiting_folder();
        if let Err(error) = sync(&folder) {
            self.remove_added(&entries);
            return Err(io_error(&folder, "write")(error));
        }
        Ok(entries)
    }

    /// Removes entries that were added before a failure: events that are reported as not added must not be
    /// sent later. A sender may have been faster, so a missing file is no error.
    fn remove_added(&self, entries: &[Entry]) {
        for entry in entries {
            let _ = fs::remove_file(self.path(entry));
        }
    }

    fn create_folders(&self) -> Result<(), Error> {
        for folder in [self.waiting_folder(), self.refused_folder()] {
            // The events are private to this user.
            let created = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            created.map_err(io_error(&folder, "create"))?;
        }
        Ok(())
    }

    /// Writes the URL of the ledger, for listing the spool.
    fn write_ledger_url(&self) -> Result<(), Error> {
        let path = self.folder.join("ledger");
        if path.exists() {
            Ok(())
        } else {
            self.write_atomically(&path, format!("{}\n", self.ledger).as_bytes())
        }
    }

    fn check_capacity(&self, before: &[Entry], more: &[Envelope]) -> Result<(), Error> {
        let length = |entry: &Entry| fs::metadata(self.path(entry)).map_or(0, |file| file.len());
        let bytes: u64 = before.iter().map(length).sum();
        let added: u64 = more.iter().map(|event| event.bytes().len() as u64).sum();
        if before.len() + more.len() > self.capacity.events || bytes + added > self.capacity.bytes {
            return Err(Error::Full { path: self.folder.clone(), events: before.len(), bytes });
        }
        Ok(())
    }

    /// Writes a file atomically. Overwrites the temporary file of a killed writer: the caller holds the lock.
    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let incoming = self.folder.join("incoming");
        let written = File::create(&incoming)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&incoming, path));
        written.map_err(io_error(path, "write"))
    }

    /// Locks the queue for sending; returns none if another process holds the lock until the deadline.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub(crate) async fn lock(&self, deadline: Instant) -> Result<Option<QueueLock<'_>>, Error> {
        self.create_folders()?;
        let path = self.folder.join("sending");
        let file = open(&path).map_err(io_error(&path, "open"))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(QueueLock { queue: self, _lock: FileLock(file) })),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_POLL_INTERVAL).await,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(io_error(&path, "lock")(source)),
            }
        }
    }

    /// Reads an event. Without the lock of the queue, the file may be missing.
    pub(crate) fn read(&self, entry: &Entry) -> io::Result<Bytes> {
        fs::read(self.path(entry)).map(Bytes::from)
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.waiting_folder().join(&entry.0)
    }

    fn waiting_folder(&self) -> PathBuf {
        self.folder.join("waiting")
    }

    fn refused_folder(&self) -> PathBuf {
        self.folder.join("refused")
    }
}

/// The suffix of the file that contains the reason why an entry was refused.
const REASON_SUFFIX: &str = ".problem";

/// The exclusive right to remove entries from a queue.
#[derive(Debug)]
pub(crate) struct QueueLock<'a> {
    queue: &'a Queue,
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
        let path = self.queue.path(entry);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // A foreign file would block all others for ever.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::IsADirectory) => {
                return Ok(Some(Err(format!("cannot read the file: {error}"))));
            }
            Err(error) => return Err(io_error(&path, "read")(error)),
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
        let path = self.queue.path(entry);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(io_error(&path, "remove")),
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
        let names = file_names(&self.queue.waiting_folder())?;
        let foreign = names.iter().filter(|name| Entry::parse(name).is_none());
        foreign.map(|name| self.move_to_refused(name, "the file is not an event of the spool")).collect()
    }

    fn move_to_refused(&self, name: &str, reason: &str) -> Result<PathBuf, Error> {
        let folder = self.queue.refused_folder();
        // Write the reason first: an event in `refused` always has one.
        let (reason_file, path) = (folder.join(format!("{name}{REASON_SUFFIX}")), folder.join(name));
        fs::write(&reason_file, format!("{reason}\n")).map_err(io_error(&reason_file, "write"))?;
        let moved = fs::rename(self.queue.waiting_folder().join(name), &path).and_then(|()| sync(&folder));
        moved.map_err(io_error(&path, "write"))?;
        Ok(path)
    }
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

/// Returns the file names in a folder, without hidden files; none if the folder does not exist.
fn file_names(folder: &Path) -> Result<Vec<String>, Error> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let names = listed.map_err(io_error(folder, "read"))?;
    let names = names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn io_error(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), operation, source }
}

#[cfg(test)]
mod tests;
