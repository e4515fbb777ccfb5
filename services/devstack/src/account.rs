//! Whom Postgres runs as when we are root, and what that user can reach. Without being root, we are
//! that user ourselves and nothing here is needed.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::Error;
use super::error::file;

/// Those that may do, in order of preference.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine that is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// The user's name.
    pub(super) name: String,
    /// The user's number.
    pub(super) uid: u32,
    /// The number of the user's group.
    pub(super) gid: u32,
}

impl Account {
    /// Whom Postgres has to run as; `None` if it can run as we do.
    ///
    /// # Errors
    /// We are root, and there is nobody else.
    pub(super) fn for_postgres() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let users = fs::read_to_string(path).map_err(file("read", path))?;
        NAMES.iter().find_map(|name| Self::parse(&users, name)).map(Some).ok_or(Error::NoAccount)
    }

    fn parse(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
        })
    }

    /// Gives the file or folder to this user.
    ///
    /// # Errors
    /// It cannot be given.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(file("change the owner of", path))
    }

    /// Lets this user pass through `folder`, if it is ours; nothing more, and nothing above it.
    ///
    /// # Errors
    /// Its mode cannot be read or changed.
    pub(super) fn let_through(&self, folder: &Path) -> Result<(), Error> {
        let found = fs::metadata(folder).map_err(file("read the mode of", folder))?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if ours && !self.passes(&found) {
            // To the group too: for a member of it, the bits of the others do not count.
            let wider = Permissions::from_mode((found.mode() & 0o7777) | 0o011);
            fs::set_permissions(folder, wider).map_err(file("change the mode of", folder))?;
        }
        Ok(())
    }

    /// Makes sure that this user can pass through `folder`, an absolute path, and all above it.
    /// Judged by mode bits: access lists are not looked at.
    ///
    /// # Errors
    /// A folder is closed: the outermost is named.
    pub(super) fn must_reach(&self, folder: &Path) -> Result<(), Error> {
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        for step in way {
            let found = fs::metadata(step).map_err(file("read the mode of", step))?;
            if !self.passes(&found) {
                return Err(Error::Closed { closed: step.to_owned(), user: self.name.clone() });
            }
        }
        Ok(())
    }

    fn passes(&self, folder: &Metadata) -> bool {
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> Account {
        Account { name: "stranger".into(), uid: 4_000_000, gid: 4_000_000 }
    }

    #[test]
    fn the_outermost_closed_folder_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("a path");
        let closed = root.join("closed");
        fs::create_dir_all(closed.join("data")).expect("folders");
        fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("opened");
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("closed");

        let refused = stranger().must_reach(&closed.join("data")).expect_err("closed");

        assert!(matches!(&refused, Error::Closed { closed: named, .. } if *named == closed), "{refused}");
        assert!(refused.to_string().contains("choose a --data-dir outside of it"), "{refused}");
    }

    #[test]
    fn a_folder_of_ours_is_opened_for_passing_through_and_no_more() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("data");
        fs::create_dir(&inner).expect("a folder");
        fs::set_permissions(&inner, Permissions::from_mode(0o700)).expect("closed");
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).expect("closed");

        stranger().let_through(&inner).expect("opened");

        let mode = |path: &Path| fs::metadata(path).expect("a folder").mode() & 0o7777;
        assert_eq!(mode(&inner), 0o711);
        assert_eq!(mode(root.path()), 0o700);
    }

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:8::/:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";

        assert_eq!(Account::parse(users, "postgres"), None);
        assert_eq!(Account::parse(users, "root"), None);
        assert_eq!(
            Account::parse(users, "nobody"),
            Some(Account { name: "nobody".into(), uid: 65534, gid: 65533 })
        );
    }
}
