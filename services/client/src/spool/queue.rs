//! One ledger's part of the spool: a file an event, named by its place.
//!
//! Invariants: a file in `waiting` is whole and on disk before it is there. Only one process at a time adds,
//! and only one sends. A file leaves `waiting` when the ledger has its event, for `refused`, or if whoever adds
//! it cannot add all and says so; never otherwise.

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

use crate::connection::public;

/// How much may wait: enough for days without a ledger, and little enough for any disk.
const ROOM: Room = Room { events: 10_000, bytes: 64 << 20 };
/// How often it is looked whether another process has sent what it sends: nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Digits of a place in a file's name, so that names sort as places do.
const DIGITS: usize = 12;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
struct Room {
    events: usize,
    bytes: u64,
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The disk or its permissions.
    #[error("{} cannot be {done}", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What was to be done with it.
        done: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is no room for more.
    #[error(
        "the spool {} is full: {events} events with {bytes} bytes wait there; `release-ledger spool send` sends them",
        path.display()
    )]
    Full {
        /// The ledger's folder.
        path: PathBuf,
        /// How many events wait.
        events: usize,
        /// How many bytes they have.
        bytes: u64,
    },
}

/// What waits for one ledger.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    folder: PathBuf,
    ledger: Url,
    room: Room,
}

/// The name of an event's file: its place, and its identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(String);

impl Entry {
    fn new(place: u64, event: &Envelope) -> Self {
        Self(format!("{place:0DIGITS$}-{}.json", event.identity().key().0.simple()))
    }

    fn parse(name: &str) -> Option<Self> {
        let (place, identity) = name.strip_suffix(".json")?.split_once('-')?;
        let digits = place.len() == DIGITS && place.bytes().all(|byte| byte.is_ascii_digit());
        let is_identity = identity.len() == 32 && identity.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits && is_identity).then(|| Self(name.to_owned()))
    }

    fn place(&self) -> u64 {
        self.0[..DIGITS].parse().unwrap_or_default()
    }
}

impl Queue {
    /// What waits for the ledger at a URL, the tenant's part included. Touches no disk.
    pub(crate) fn of(spool: &Path, ledger: &Url) -> Self {
        let ledger = public(ledger);
        let hash = Sha256::digest(ledger.as_str());
        let key: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { folder: spool.join(key), ledger, room: ROOM }
    }

    /// What waits for every ledger that the spool knows; other folders are passed over.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(crate) fn all(spool: &Path) -> Result<Vec<Self>, Error> {
        let mut queues = Vec::new();
        for name in names(spool)? {
            let ledger = fs::read_to_string(spool.join(&name).join("ledger"));
            let Some(ledger) = ledger.ok().and_then(|text| Url::parse(text.trim()).ok()) else { continue };
            queues.push(Self::of(spool, &ledger));
        }
        queues.sort_by(|one, other| one.ledger.cmp(&other.ledger));
        Ok(queues)
    }

    /// The ledger: its URL, without what only its friends may know.
    pub(crate) const fn ledger(&self) -> &Url {
        &self.ledger
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What waits, first things first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn waiting(&self) -> Result<Vec<Entry>, Error> {
        let names = names(&self.waiting_folder())?;
        let mut entries: Vec<_> = names.iter().filter_map(|name| Entry::parse(name)).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    /// How many files were put aside.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn refused(&self) -> Result<usize, Error> {
        let names = names(&self.refused_folder())?;
        Ok(names.iter().filter(|name| !name.ends_with(PROBLEM)).count())
    }

    /// Why an entry was put aside, if it was.
    pub(crate) fn problem_of(&self, entry: &Entry) -> Option<String> {
        let problem = fs::read_to_string(self.refused_folder().join(format!("{}{PROBLEM}", entry.0)));
        problem.ok().map(|text| text.trim_end().to_owned())
    }

    /// Puts events behind all that wait, in their order; they are on disk when this returns.
    ///
    /// # Errors
    /// There is no room for all of them, or the disk does not take them: then none of them waits.
    pub(crate) fn add(&self, events: &[Envelope]) -> Result<Vec<Entry>, Error> {
        self.make()?;
        let path = self.folder.join("adding");
        let adding = open(&path).and_then(|file| file.lock().map(|()| Lock(file)));
        let _adding = adding.map_err(disk(&path, "locked"))?;
        self.name()?;
        let before = self.waiting()?;
        self.check_room(&before, events)?;
        let first = before.last().map_or(1, |entry| entry.place() + 1);
        let mut entries = Vec::with_capacity(events.len());
        for (place, event) in (first..).zip(events) {
            let entry = Entry::new(place, event);
            let put = self.put(&self.path(&entry), event.bytes());
            entries.push(entry);
            if let Err(error) = put {
                self.take_back(&entries);
                return Err(error);
            }
        }
        let folder = self.waiting_folder();
        if let Err(error) = sync(&folder) {
            self.take_back(&entries);
            return Err(disk(&folder, "written")(error));
        }
        Ok(entries)
    }

    /// What the caller is told is not kept must not be sent later. Whoever sends may have been faster, or find it gone.
    fn take_back(&self, entries: &[Entry]) {
        for entry in entries {
            let _ = fs::remove_file(self.path(entry));
        }
    }

    fn make(&self) -> Result<(), Error> {
        for folder in [self.waiting_folder(), self.refused_folder()] {
            // What was deployed where is nobody else's on this machine.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(disk(&folder, "made"))?;
        }
        Ok(())
    }

    /// Says whose it is, for whoever lists the spool.
    fn name(&self) -> Result<(), Error> {
        let path = self.folder.join("ledger");
        if path.exists() { Ok(()) } else { self.put(&path, format!("{}\n", self.ledger).as_bytes()) }
    }

    fn check_room(&self, before: &[Entry], more: &[Envelope]) -> Result<(), Error> {
        let length = |entry: &Entry| fs::metadata(self.path(entry)).map_or(0, |file| file.len());
        let bytes: u64 = before.iter().map(length).sum();
        let added: u64 = more.iter().map(|event| event.bytes().len() as u64).sum();
        if before.len() + more.len() > self.room.events || bytes + added > self.room.bytes {
            return Err(Error::Full { path: self.folder.clone(), events: before.len(), bytes });
        }
        Ok(())
    }

    /// Writes a file so that it is there whole or not at all. What a writer that was killed left is
    /// overwritten: whoever writes holds the lock.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let incoming = self.folder.join("incoming");
        let written = File::create(&incoming)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&incoming, path));
        written.map_err(disk(path, "written"))
    }

    /// Holds what waits, to send it; not if another process does until the deadline.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub(crate) async fn hold(&self, until: Instant) -> Result<Option<QueueLock<'_>>, Error> {
        self.make()?;
        let path = self.folder.join("sending");
        let file = open(&path).map_err(disk(&path, "opened"))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(QueueLock { queue: self, _lock: Lock(file) })),
                Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(LOOK_AGAIN).await,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(disk(&path, "locked")(source)),
            }
        }
    }

    /// Reads an event. Whoever does not hold the queue may find that it is gone.
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

/// What ends the name of the file that says why another was put aside.
const PROBLEM: &str = ".problem";

/// A queue that this process alone takes from.
#[derive(Debug)]
pub(crate) struct QueueLock<'a> {
    queue: &'a Queue,
    _lock: Lock,
}

impl QueueLock<'_> {
    /// The queue.
    pub(crate) const fn queue(&self) -> &Queue {
        self.queue
    }

    /// The event of an entry, as it was kept; or why it is none. Nothing if whoever kept it took it back. Whether the
    /// ledger takes it is the ledger's to say: it may be of a newer program than this one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn event(&self, entry: &Entry) -> Result<Option<Result<Bytes, String>>, Error> {
        let path = self.queue.path(entry);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // It is not ours, and would stand in the way of all others for ever.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::IsADirectory) => {
                return Ok(Some(Err(format!("it cannot be read: {error}"))));
            }
            Err(error) => return Err(disk(&path, "read")(error)),
        };
        Ok(Some(match serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&bytes) {
            Ok(_) => Ok(bytes.into()),
            Err(error) => Err(format!("it is damaged: {error}")),
        }))
    }

    /// Forgets an event that the ledger has. If it is there again after a failure of the machine, it is sent
    /// again, which is harmless.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn done(&self, entry: &Entry) -> Result<(), Error> {
        let path = self.queue.path(entry);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(disk(&path, "removed")),
        }
    }

    /// Puts an event aside for good, with the reason; answers where it is now.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(crate) fn refuse(&self, entry: &Entry, why: &str) -> Result<PathBuf, Error> {
        self.put_aside(&entry.0, why)
    }

    /// Puts aside what is not of the spool; answers what that was, and where it is now.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(crate) fn clear(&self) -> Result<Vec<PathBuf>, Error> {
        let names = names(&self.queue.waiting_folder())?;
        let foreign = names.iter().filter(|name| Entry::parse(name).is_none());
        foreign.map(|name| self.put_aside(name, "it is no event of the spool")).collect()
    }

    fn put_aside(&self, name: &str, why: &str) -> Result<PathBuf, Error> {
        let folder = self.queue.refused_folder();
        // Reason first: whoever finds the event finds the reason, too.
        let (problem, path) = (folder.join(format!("{name}{PROBLEM}")), folder.join(name));
        fs::write(&problem, format!("{why}\n")).map_err(disk(&problem, "written"))?;
        let moved = fs::rename(self.queue.waiting_folder().join(name), &path).and_then(|()| sync(&folder));
        moved.map_err(disk(&path, "written"))?;
        Ok(path)
    }
}

/// Is let go of when it is dropped. Closing alone would not do: what is being started just then has the file
/// open, too.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// What is in a folder, hidden files aside; nothing if it is not there.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let names = listed.map_err(disk(folder, "read"))?;
    let names = names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn disk(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Disk { path: path.to_owned(), done, source }
}

#[cfg(test)]
mod tests;
