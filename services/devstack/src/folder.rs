//! Folders of private servers: each is held by at most one process of ours.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::Error;
use super::error::file;

/// A folder that no other process of ours uses while this value lives.
///
/// The lock is the kernel's: it goes with its holder, however that ends.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the folder if need be, and holds it.
    ///
    /// # Errors
    /// It cannot be made, or is held by someone else.
    pub(super) fn hold(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
        // One name for one folder: servers are recognised by it.
        let path = fs::canonicalize(folder).map_err(file("find", folder))?;
        let name = path.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(file("open", &name))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(file("read", &name))?;
                return Err(Error::InUse { folder: path, holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(file("lock", &name)(error)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(file("write", &name))?;
        Ok(Self { path, lock })
    }

    /// Where it is: absolute, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing would do, were it not for a child that another thread has just forked: until it
        // has become another program, it has our open files, and with them the lock.
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_free_again_afterwards() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("data");

        let first = Folder::hold(&path).expect("held");
        let second = Folder::hold(&path).expect_err("held already");
        drop(first);
        let third = Folder::hold(&path);

        let told = second.to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        assert!(third.is_ok());
    }
}
