//! Folders on disk that only this user can change.
//!
//! Invariants: a folder is opened without following a link, and belongs to the user who runs the program, root
//! included; no other user may write to it. Everything in it is reached through the open folder, so that a folder
//! renamed or replaced meanwhile changes nothing. New folders have mode 0700 and new files 0600.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::process::geteuid;

/// Mode of new folders, and of new files.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Permission of the group and of others to write.
const OTHERS_WRITE: Mode = Mode::WGRP.union(Mode::WOTH);

/// A folder cannot be used.
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
    /// The folder is a symbolic link.
    #[error("{} is a symbolic link; name the folder that it leads to", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The folder belongs to another user.
    #[error("{} belongs to another user (uid {owner}); use a folder of your own", path.display())]
    OtherOwner {
        /// The folder.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// Others can write to the folder.
    #[error("others can write to {0}; use another folder, or run `chmod go-w {0}`", path.display())]
    WritableByOthers {
        /// The folder.
        path: PathBuf,
    },
}

pub(crate) fn io_error(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), operation, source }
}

/// An open folder that only this user can change.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    folder: OwnedFd,
    path: PathBuf,
}

impl PrivateFolder {
    /// Opens a folder; returns none if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be opened, or others can change it.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        // A path that ends in a slash would follow a link.
        let path: PathBuf = path.components().collect();
        Self::open_at(CWD, &path.clone(), path, "open")
    }

    /// Opens a folder, and creates it and its parents if they are missing.
    ///
    /// # Errors
    /// The folder cannot be created or opened, or others can change it.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let path: PathBuf = path.components().collect();
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let created = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(parent);
            created.map_err(io_error(&path, "create"))?;
        }
        Self::create_at(CWD, &path.clone(), path)
    }

    /// Opens a folder in this one; returns none if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be opened, or others can change it.
    pub(crate) fn open_folder(&self, name: &str) -> Result<Option<Self>, Error> {
        Self::open_at(self.folder.as_fd(), Path::new(name), self.path.join(name), "open")
    }

    /// Opens a folder in this one, and creates it if it is missing.
    ///
    /// # Errors
    /// The folder cannot be created or opened, or others can change it.
    pub(crate) fn create_folder(&self, name: &str) -> Result<Self, Error> {
        Self::create_at(self.folder.as_fd(), Path::new(name), self.path.join(name))
    }

    fn create_at(parent: std::os::fd::BorrowedFd<'_>, name: &Path, path: PathBuf) -> Result<Self, Error> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(FOLDER_MODE)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io_error(&path, "create")(error.into())),
        }
        let opened = Self::open_at(parent, name, path.clone(), "create")?;
        opened.ok_or_else(|| io_error(&path, "create")(ErrorKind::NotFound.into()))
    }

    fn open_at(
        parent: std::os::fd::BorrowedFd<'_>,
        name: &Path,
        path: PathBuf,
        operation: &'static str,
    ) -> Result<Option<Self>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => {
                let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink) {
                    return Err(Error::Link { path });
                }
                return Err(io_error(&path, operation)(error.into()));
            }
        };
        let found = rustix::fs::fstat(&folder).map_err(|error| io_error(&path, operation)(error.into()))?;
        if found.st_uid != geteuid().as_raw() {
            return Err(Error::OtherOwner { path, owner: found.st_uid });
        }
        if Mode::from_raw_mode(found.st_mode).intersects(OTHERS_WRITE) {
            return Err(Error::WritableByOthers { path });
        }
        Ok(Some(Self { folder, path }))
    }

    /// The path by which the folder was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names of what is in the folder, without hidden files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let read = || -> rustix::io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.folder)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            Ok(names)
        };
        let mut names = read().map_err(|error| io_error(&self.path, "read")(error.into()))?;
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::from_raw_mode(FILE_MODE))?;
        Ok(file.into())
    }

    /// Opens a file for reading and writing, and creates it if it is missing. Keeps its contents.
    ///
    /// # Errors
    /// The file cannot be opened, or is a link.
    pub(crate) fn open_or_create_file(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// The file cannot be read, is a link, or is larger.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_file(name, OFlags::RDONLY)?;
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a file of at most `limit` bytes as text.
    ///
    /// # Errors
    /// The file cannot be read, is a link, is larger, or is not UTF-8.
    pub(crate) fn read_text(&self, name: &str, limit: u64) -> io::Result<String> {
        let bytes = self.read(name, limit)?;
        String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Creates a file with these contents, synced to disk. Replaces a file of this name, and never writes into it.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.remove(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Writes a file atomically and synced to disk: a reader finds either the old contents or these. Concurrent writers
    /// must hold a lock.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!(".{name}.new");
        self.write_new(&new, bytes)?;
        self.rename(&new, self, name)?;
        self.sync()
    }

    /// Returns the size of a file in bytes; 0 if it does not exist.
    pub(crate) fn size(&self, name: &str) -> u64 {
        let found = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
        found.map_or(0, |found| u64::try_from(found.st_size).unwrap_or_default())
    }

    /// Returns true if a file of this name exists.
    ///
    /// # Errors
    /// The folder cannot be searched.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves a file to another folder and name, and replaces a file there.
    ///
    /// # Errors
    /// The file cannot be moved.
    pub(crate) fn rename(&self, name: &str, folder: &Self, new_name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.folder, name, &folder.folder, new_name)?)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    /// Syncs the names in the folder to disk.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.folder)?)
    }

    /// Deletes the folder with everything in it.
    ///
    /// # Errors
    /// Something cannot be deleted.
    pub(crate) fn delete(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it exists").mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn new_folders_and_files_are_private() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a/b/");
        let folder = PrivateFolder::create(&path).expect("created");
        let inner = folder.create_folder("c").expect("created");
        inner.write_new("new", b"1").expect("written");
        inner.open_or_create_file("lock").expect("opened");

        for (name, expected) in [("a", 0o700), ("a/b", 0o700), ("a/b/c", 0o700), ("a/b/c/new", 0o600)] {
            assert_eq!(mode(&root.path().join(name)), expected, "{name}");
        }
        assert_eq!(mode(&root.path().join("a/b/c/lock")), 0o600);
        assert!(PrivateFolder::open(&root.path().join("missing")).expect("checked").is_none());
        assert!(folder.open_folder("missing").expect("checked").is_none());
    }

    #[test]
    fn a_folder_that_others_can_change_is_rejected() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("folder");
        fs::create_dir(&path).expect("created");
        for (bits, is_rejected) in
            [(0o777, true), (0o1777, true), (0o770, true), (0o702, true), (0o755, false)]
        {
            set_mode(&path, bits);
            let opened = PrivateFolder::open(&path);
            match (opened, is_rejected) {
                (Err(error @ Error::WritableByOthers { .. }), true) => {
                    let text = error.to_string();
                    assert!(
                        text.starts_with("others can write to ") && text.contains("chmod go-w"),
                        "{text}"
                    );
                }
                (Ok(Some(_)), false) => {}
                (other, _) => panic!("{bits:o}: {other:?}"),
            }
        }
    }

    /// Only root can create a folder of another user; the test says nothing for others.
    #[test]
    fn a_folder_of_another_user_is_rejected_also_as_root() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("folder");
        fs::create_dir(&path).expect("created");
        set_mode(&path, 0o700);
        if std::os::unix::fs::chown(&path, Some(4_000_000), None).is_err() {
            return;
        }
        for opened in [PrivateFolder::open(&path).map(drop), PrivateFolder::create(&path).map(drop)] {
            assert!(matches!(opened, Err(Error::OtherOwner { owner: 4_000_000, .. })), "{opened:?}");
        }
    }

    #[test]
    fn no_link_is_followed() {
        let root = tempfile::tempdir().expect("a folder");
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        let folder = PrivateFolder::create(&real).expect("created");
        symlink(&real, &link).expect("linked");
        for path in [link.clone(), root.path().join("link/")] {
            let opened = PrivateFolder::open(&path).map(drop);
            assert!(matches!(opened, Err(Error::Link { .. })), "{opened:?}");
            let created = PrivateFolder::create(&path).map(drop);
            assert!(matches!(created, Err(Error::Link { .. })), "{created:?}");
        }

        let victim = root.path().join("victim");
        fs::write(&victim, "precious").expect("written");
        symlink(&victim, real.join("file")).expect("linked");
        assert!(folder.read("file", 100).is_err());
        assert!(folder.open_or_create_file("file").is_err());
        folder.write_new("file", b"ours").expect("written");
        assert_eq!(folder.read("file", 100).expect("read"), b"ours");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    }

    #[test]
    fn a_folder_that_is_replaced_stays_the_one_that_was_checked() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("folder");
        let folder = PrivateFolder::create(&path).expect("created");
        fs::rename(&path, root.path().join("moved")).expect("moved");
        fs::create_dir(&path).expect("created");

        folder.write_new("file", b"1").expect("written");
        folder.rename("file", &folder, "renamed").expect("renamed");

        assert!(root.path().join("moved/renamed").exists() && !path.join("renamed").exists());
        assert_eq!(folder.names().expect("read"), ["renamed"]);
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = PrivateFolder::create(root.path()).expect("opened");
        folder.write_new("file", b"12345").expect("written");
        assert!(folder.has("file").expect("checked") && !folder.has("other").expect("checked"));
        assert_eq!((folder.size("file"), folder.size("other")), (5, 0));
        assert_eq!(folder.read("file", 5).expect("read"), b"12345");
        assert_eq!(folder.read("file", 4).expect_err("too large").to_string(), "it is larger than 4 bytes");
    }
}
