//! Unprivileged user for Postgres if this process is root, and the directories which that user can reach. If this
//! process is not root, Postgres runs as the same user and this module does nothing.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::Error;
use super::error::file;

/// Candidate users, in order of preference.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Unprivileged user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// User name.
    pub(super) name: String,
    /// User id.
    pub(super) uid: u32,
    /// Id of the primary group.
    pub(super) gid: u32,
}

impl Account {
    /// Returns the user that Postgres must run as, or `None` if it can run as the current user.
    ///
    /// # Errors
    /// The current user is root, and no candidate exists.
    pub(super) fn for_postgres() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let passwd = fs::read_to_string(path).map_err(file("read", path))?;
        CANDIDATES
            .iter()
            .find_map(|name| Self::parse(&passwd, name))
            .map(Some)
            .ok_or_else(|| Error::NoUnprivilegedUser { candidates: CANDIDATES.join(", ") })
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
        })
    }

    /// Makes this user the owner of a file or directory.
    ///
    /// # Errors
    /// The owner cannot be changed.
    pub(super) fn take_ownership(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(file("change the owner of", path))
    }

    /// Grants this user search permission on `directory` if the current user owns it. Grants nothing else, and changes
    /// no parent directory.
    ///
    /// # Errors
    /// The mode cannot be read or changed.
    pub(super) fn grant_traversal(&self, directory: &Path) -> Result<(), Error> {
        let metadata = fs::metadata(directory).map_err(file("read the mode of", directory))?;
        let owned = metadata.uid() == rustix::process::geteuid().as_raw();
        if owned && !self.can_traverse(&metadata) {
            // Include the group: for its members, the bits for others do not apply.
            let wider = Permissions::from_mode((metadata.mode() & 0o7777) | 0o011);
            fs::set_permissions(directory, wider).map_err(file("change the mode of", directory))?;
        }
        Ok(())
    }

    /// Checks that this user can traverse `directory`, an absolute path, and all its parents. Checks mode bits only,
    /// not access control lists.
    ///
    /// # Errors
    /// Names the outermost directory that the user cannot traverse.
    pub(super) fn check_access(&self, directory: &Path) -> Result<(), Error> {
        let mut ancestors: Vec<&Path> = directory.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            let metadata = fs::metadata(ancestor).map_err(file("read the mode of", ancestor))?;
            if !self.can_traverse(&metadata) {
                return Err(Error::Inaccessible { directory: ancestor.to_owned(), user: self.name.clone() });
            }
        }
        Ok(())
    }

    fn can_traverse(&self, directory: &Metadata) -> bool {
        let bit = if directory.uid() == self.uid {
            0o100
        } else if directory.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        directory.mode() & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_user() -> Account {
        Account { name: "other".into(), uid: 4_000_000, gid: 4_000_000 }
    }

    #[test]
    fn the_outermost_inaccessible_directory_is_named() {
        let root = tempfile::tempdir().expect("temporary directory");
        let root = root.path().canonicalize().expect("canonical path");
        let closed = root.join("closed");
        fs::create_dir_all(closed.join("data")).expect("directories created");
        fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("opened");
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("closed");

        let error = other_user().check_access(&closed.join("data")).expect_err("closed");

        assert!(matches!(&error, Error::Inaccessible { directory, .. } if *directory == closed), "{error}");
        assert!(error.to_string().contains("choose a --data-dir outside of it"), "{error}");
    }

    #[test]
    fn only_an_owned_directory_becomes_traversable_and_its_parent_does_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        let inner = root.path().join("data");
        fs::create_dir(&inner).expect("temporary directory");
        fs::set_permissions(&inner, Permissions::from_mode(0o700)).expect("closed");
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).expect("closed");

        other_user().grant_traversal(&inner).expect("opened");

        let mode = |path: &Path| fs::metadata(path).expect("temporary directory").mode() & 0o7777;
        assert_eq!(mode(&inner), 0o711);
        assert_eq!(mode(root.path()), 0o700);
    }

    #[test]
    fn a_user_is_found_by_its_whole_name_and_never_root() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:8::/:/bin/sh\n\
            daemon:x:2:3::/:/bin/false\n";

        assert_eq!(Account::parse(passwd, "postgres"), None);
        assert_eq!(Account::parse(passwd, "root"), None);
        assert_eq!(Account::parse(passwd, "daemon"), Some(Account { name: "daemon".into(), uid: 2, gid: 3 }));
    }
}
