//! What an execution remembers on disk: which steps' commands have ended well.
//!
//! The ledger learns of a step when its command has ended; whoever is killed between the two would run it
//! again. So its end is written here first: by the command's own shell, which may outlive us, and by us.
//! Invariants: one process at a time holds the memory of a rollback. While a command of a killed execution
//! still runs, nobody goes on: each has the file `commands` open, and with it a lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use rustix::io::{FdFlags, fcntl_setfd};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use crate::rollback::RollbackBody;

/// How often it is looked whether commands of a killed execution have ended: nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The memory of one rollback's execution, held by this process.
#[derive(Debug)]
pub(super) struct StepLog {
    folder: PathBuf,
    executor: File,
    commands: File,
}

impl StepLog {
    /// Holds the memory of a rollback: of this very one, and not of one with its name in another ledger.
    ///
    /// # Errors
    /// Another process holds it, or it cannot be written.
    pub(super) fn hold(root: &Path, rollback: &RollbackBody) -> anyhow::Result<Self> {
        let folder = root.join("rollbacks").join(key(rollback));
        let cannot = || format!("{} cannot be written", folder.display());
        fs::create_dir_all(&folder).with_context(cannot)?;
        let executor = open(&folder.join("executor")).with_context(cannot)?;
        if !locked(&executor).with_context(cannot)? {
            bail!("another process on this machine executes rollback {} already", rollback.rollback_id);
        }
        let commands = open(&folder.join("commands")).with_context(cannot)?;
        Ok(Self { folder, executor, commands })
    }

    /// Waits until no command of a killed execution runs any more; `note` is told if there is one.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub(super) async fn alone(&self, note: impl FnOnce(&str)) -> anyhow::Result<()> {
        let mut note = Some(note);
        while !locked(&self.commands)? {
            if let Some(note) = note.take() {
                let file = self.folder.join("commands");
                note(&format!("waits for a step's command that still runs; it has {} open", file.display()));
            }
            sleep(LOOK_AGAIN).await;
        }
        // Commands get it from us, and hold it when we are gone.
        Ok(fcntl_setfd(&self.commands, FdFlags::empty()).map_err(io::Error::from)?)
    }

    /// The file that says that the command of this lane's step has ended well. Its name is not empty.
    pub(super) fn mark(&self, lane: &str) -> PathBuf {
        self.folder.join(format!("{lane}.finished"))
    }

    /// When the command of this lane's step ended well, if it has. Where only its shell has noted that it
    /// did, it is `now` from now on.
    ///
    /// # Errors
    /// The memory cannot be read or written.
    pub(super) fn finished(&self, lane: &str, now: DateTime<Utc>) -> anyhow::Result<Option<DateTime<Utc>>> {
        if self.mark(lane).try_exists()? { self.finish(lane, now).map(Some) } else { Ok(None) }
    }

    /// Remembers for good that the command of this lane's step has ended well, and answers when it did: the
    /// same time whenever it is asked, so that its report is the same.
    ///
    /// # Errors
    /// The memory cannot be read or written.
    pub(super) fn finish(&self, lane: &str, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
        let mark = self.mark(lane);
        let text = match fs::read_to_string(&mark) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", mark.display())),
        };
        // A line that is not whole was being written when its writer was killed: nobody has used it.
        if let Some(line) = text.strip_suffix('\n') {
            let time = DateTime::parse_from_rfc3339(line);
            return Ok(time.with_context(|| format!("{} is damaged", mark.display()))?.with_timezone(&Utc));
        }
        self.write(&mark, now).with_context(|| format!("{} cannot be written", mark.display()))?;
        Ok(now)
    }

    fn write(&self, mark: &Path, time: DateTime<Utc>) -> io::Result<()> {
        let mut file = File::create(mark)?;
        writeln!(file, "{}", time.to_rfc3339())?;
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }

    /// Forgets everything: the rollback has ended.
    pub(super) fn forget(self) {
        // What stays is never read again: the rollback has ended.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for StepLog {
    fn drop(&mut self) {
        // Closing would not do: what a command left running in the background has the file open, too.
        let _ = self.commands.unlock();
        let _ = self.executor.unlock();
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What tells this rollback from every other, also from one with its name in a ledger that was made anew. By
/// which URL the ledger is reached is no part of it: one ledger has many.
fn key(rollback: &RollbackBody) -> String {
    let RollbackBody { rollback_id, environment, requested, plan_digest, .. } = rollback;
    let (position, recorded_at) = (requested.position, &requested.recorded_at);
    let text = format!("{rollback_id}\n{environment}\n{plan_digest}\n{position}\n{recorded_at}");
    Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{SubsecRound as _, TimeDelta};

    use super::*;
    use crate::clock;
    use crate::query::read;

    fn rollback(recorded_at: &str) -> RollbackBody {
        let json = format!(
            r#"{{"rollback_id":"r-1","environment":"dev","position":9,"phase":"started",
                "initiated_by":{{"type":"person","name":"ada"}},
                "requested":{{"position":9,"recorded_at":"{recorded_at}"}},"to":1,"plan_digest":"sha256:aa",
                "approvals":{{"wanted":0,"granted":0}},"progress":{{"done":0,"failed":0,"total":1}}}}"#
        );
        read(json.as_bytes()).expect("a rollback")
    }

    fn held(root: &Path, recorded_at: &str) -> anyhow::Result<StepLog> {
        StepLog::hold(root, &rollback(recorded_at))
    }

    #[test]
    fn a_finished_step_is_remembered_with_its_time_and_of_its_own_rollback_only() {
        let root = tempfile::tempdir().expect("a folder");
        let now = clock::now().trunc_subsecs(6);
        let later = now + TimeDelta::seconds(9);
        let memory = held(root.path(), "2026-08-01T10:00:00Z").expect("held");
        assert_eq!(memory.finished("web@eu", now).expect("read"), None);
        memory.finish("web@eu", now).expect("written");
        // As the shell of a command does that outlived its execution.
        fs::write(memory.mark("api@eu"), "").expect("written");
        drop(memory);

        let memory = held(root.path(), "2026-08-01T10:00:00Z").expect("held again");
        assert_eq!(memory.finished("web@eu", later).expect("read"), Some(now));
        assert_eq!(memory.finished("api@eu", now).expect("read"), Some(now));
        assert_eq!(memory.finished("api@eu", later).expect("read"), Some(now));
        let other = held(root.path(), "2026-08-02T10:00:00Z").expect("another ledger's");
        assert_eq!(other.finished("web@eu", now).expect("read"), None);
        memory.forget();
        let memory = held(root.path(), "2026-08-01T10:00:00Z").expect("held again");
        assert_eq!(memory.finished("web@eu", now).expect("read"), None);
    }

    #[test]
    fn two_do_not_execute_one_rollback_at_once() {
        let root = tempfile::tempdir().expect("a folder");
        let _memory = held(root.path(), "2026-08-01T10:00:00Z").expect("held");
        let second = held(root.path(), "2026-08-01T10:00:00Z").expect_err("held already");
        assert!(second.to_string().contains("r-1 already"), "{second}");
    }
}
