//! Log of an execution on disk: the steps whose commands have succeeded.
//!
//! The ledger learns of a step only after its command has ended; an executor killed between the two would run
//! the command again. So the end is written here first: by the shell of the command, which may outlive the
//! executor, and by the executor.
//! Invariants: one process at a time holds the log of a rollback. No execution continues while a command of a
//! killed execution still runs: each command has the file `commands` open, and thereby its lock.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_api_types::RollbackBody;
use rustix::io::{FdFlags, fcntl_setfd};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use crate::private_folder::PrivateFolder;

/// Interval for checking if the commands of a killed execution have ended; there is no notification.
const COMMAND_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum size of a file of the log in bytes: a line with a time.
const MAX_FILE_BYTES: u64 = 1_024;

/// The log of one rollback's execution, locked by this process.
#[derive(Debug)]
pub(super) struct StepLog {
    folder: PrivateFolder,
    executor: File,
    commands: File,
}

impl StepLog {
    /// Opens and locks the log of a rollback; a rollback of the same name in another ledger has another log.
    ///
    /// # Errors
    /// Another process holds the log, it cannot be written, or others could change it.
    pub(super) fn open(root: &Path, rollback: &RollbackBody) -> anyhow::Result<Self> {
        let folder =
            PrivateFolder::create(root)?.create_folder("rollbacks")?.create_folder(&key(rollback))?;
        let cannot_write = || format!("cannot write {}", folder.path().display());
        let executor = folder.open_or_create_file("executor").with_context(cannot_write)?;
        if !try_lock(&executor).with_context(cannot_write)? {
            bail!("another process on this machine is already executing rollback {}", rollback.rollback_id);
        }
        let commands = folder.open_or_create_file("commands").with_context(cannot_write)?;
        Ok(Self { folder, executor, commands })
    }

    /// Waits until no command of a killed execution runs; calls `note` if there is one.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub(super) async fn wait_for_commands(&self, note: impl FnOnce(&str)) -> anyhow::Result<()> {
        let mut note = Some(note);
        while !try_lock(&self.commands)? {
            if let Some(note) = note.take() {
                let file = self.folder.path().join("commands");
                note(&format!(
                    "waiting for a step's command that is still running; it has {} open",
                    file.display()
                ));
            }
            sleep(COMMAND_POLL_INTERVAL).await;
        }
        // Commands inherit the file, and keep its lock after this process has ended.
        Ok(fcntl_setfd(&self.commands, FdFlags::empty()).map_err(io::Error::from)?)
    }

    /// Returns the path of the file that marks the success of this lane's step.
    pub(super) fn finished_file(&self, lane: &str) -> PathBuf {
        self.folder.path().join(file_name(lane))
    }

    /// Returns the time at which the command of this lane's step succeeded, if it has. If only its shell has
    /// marked the success, without a time, stores and returns `now`.
    ///
    /// # Errors
    /// The log cannot be read or written.
    pub(super) fn finished_at(
        &self,
        lane: &str,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Option<DateTime<Utc>>> {
        if self.folder.has(&file_name(lane))? { self.mark_finished(lane, now).map(Some) } else { Ok(None) }
    }

    /// Marks the step of this lane as finished, and returns the time: the same with every call, so that the
    /// report of the step is always the same.
    ///
    /// # Errors
    /// The log cannot be read or written.
    pub(super) fn mark_finished(&self, lane: &str, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
        let file = self.finished_file(lane);
        let text = match self.folder.read_text(&file_name(lane), MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        // An incomplete line was being written when its writer was killed: its time has not been used.
        if let Some(line) = text.strip_suffix('\n') {
            let time = DateTime::parse_from_rfc3339(line);
            return Ok(time.with_context(|| format!("{} is damaged", file.display()))?.with_timezone(&Utc));
        }
        self.write(&file_name(lane), now).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(now)
    }

    /// Writes into the file that the shell of the command may have created: the mark must exist all the time.
    fn write(&self, name: &str, time: DateTime<Utc>) -> io::Result<()> {
        let mut file = self.folder.open_or_create_file(name)?;
        file.set_len(0)?;
        writeln!(file, "{}", time.to_rfc3339())?;
        file.sync_all()?;
        self.folder.sync()
    }

    /// Deletes the log, after the rollback has ended.
    pub(super) fn delete(self) {
        // Files that cannot be deleted are never read again.
        let _ = self.folder.delete();
    }
}

impl Drop for StepLog {
    fn drop(&mut self) {
        // Closing is not enough: a background process of a command may have the file open, too.
        let _ = self.commands.unlock();
        let _ = self.executor.unlock();
    }
}

fn file_name(lane: &str) -> String {
    format!("{lane}.finished")
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns a name that is unique to this rollback, also among rollbacks of the same id in a re-created
/// ledger. It does not depend on the URL: one ledger has many.
fn key(rollback: &RollbackBody) -> String {
    let RollbackBody { rollback_id, environment, requested, plan_digest, .. } = rollback;
    // The text of the response.
    let recorded_at = requested.recorded_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let position = requested.position;
    let text = format!("{rollback_id}\n{environment}\n{plan_digest}\n{position}\n{recorded_at}");
    hex::encode(&Sha256::digest(text)[..16])
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    fn opened(root: &Path, recorded_at: &str) -> anyhow::Result<StepLog> {
        StepLog::open(root, &rollback(recorded_at))
    }

    #[test]
    fn a_finished_step_is_stored_with_its_time_for_its_own_rollback_only() {
        let root = tempfile::tempdir().expect("a folder");
        let now = clock::now().trunc_subsecs(6);
        let later = now + TimeDelta::seconds(9);
        let log = opened(root.path(), "2026-08-01T10:00:00Z").expect("opened");
        assert_eq!(log.finished_at("web@eu", now).expect("read"), None);
        log.mark_finished("web@eu", now).expect("written");
        // A shell that outlives its execution creates an empty file.
        fs::write(log.finished_file("api@eu"), "").expect("written");
        drop(log);

        let log = opened(root.path(), "2026-08-01T10:00:00Z").expect("opened again");
        assert_eq!(log.finished_at("web@eu", later).expect("read"), Some(now));
        assert_eq!(log.finished_at("api@eu", now).expect("read"), Some(now));
        assert_eq!(log.finished_at("api@eu", later).expect("read"), Some(now));
        let other = opened(root.path(), "2026-08-02T10:00:00Z").expect("another ledger's");
        assert_eq!(other.finished_at("web@eu", now).expect("read"), None);
        log.delete();
        let log = opened(root.path(), "2026-08-01T10:00:00Z").expect("opened again");
        assert_eq!(log.finished_at("web@eu", now).expect("read"), None);
    }

    #[test]
    fn a_log_is_named_by_the_time_of_the_request_as_the_service_writes_it() {
        for recorded_at in ["2026-08-01T10:00:00Z", "2026-08-01T10:00:00.250Z", "2026-08-01T10:00:00.123456Z"]
        {
            let hash = Sha256::digest(format!("r-1\ndev\nsha256:aa\n9\n{recorded_at}"));
            assert_eq!(key(&rollback(recorded_at)), hex::encode(&hash[..16]));
        }
    }

    #[test]
    fn a_mark_that_is_a_link_is_not_written_through() {
        let root = tempfile::tempdir().expect("a folder");
        let victim = root.path().join("victim");
        fs::write(&victim, "precious").expect("written");
        let log = opened(root.path(), "2026-08-01T10:00:00Z").expect("opened");
        std::os::unix::fs::symlink(&victim, log.finished_file("web@eu")).expect("linked");
        log.mark_finished("web@eu", clock::now()).expect_err("a link");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    }

    #[test]
    fn two_processes_cannot_execute_the_same_rollback() {
        let root = tempfile::tempdir().expect("a folder");
        let _log = opened(root.path(), "2026-08-01T10:00:00Z").expect("opened");
        let second = opened(root.path(), "2026-08-01T10:00:00Z").expect_err("locked");
        assert!(second.to_string().contains("already executing rollback r-1"), "{second}");
    }
}
