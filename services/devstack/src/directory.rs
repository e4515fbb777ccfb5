//! Locked data directories of private servers.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::Error;
use super::error::file;

/// Directory that this process has locked until the value is dropped.
///
/// The kernel holds the lock and releases it when the process exits for any reason.
#[derive(Debug)]
pub(super) struct LockedDirectory {
    path: PathBuf,
    lock: File,
}

impl LockedDirectory {
    /// Creates the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// The directory cannot be created, or another process has locked it.
    pub(super) fn acquire(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(file("create the directory", directory))?;
        // Servers are recognised by the path of their directory, so it must be unique.
        let path = fs::canonicalize(directory).map_err(file("resolve", directory))?;
        let lock_path = path.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(file("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(file("read", &lock_path))?;
                return Err(Error::InUse { directory: path, holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(file("lock", &lock_path)(error)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(file("write", &lock_path))?;
        Ok(Self { path, lock })
    }

    /// Returns the absolute path, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread has just forked shares the open file, and with it
        // the lock, until it executes its program.
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_and_can_be_locked_again_after_release() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join("data");

        let first = LockedDirectory::acquire(&path).expect("locked");
        let second = LockedDirectory::acquire(&path).expect_err("already locked");
        drop(first);
        let third = LockedDirectory::acquire(&path);

        let message = second.to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert!(third.is_ok());
    }
}
