//! A local repository: its source, its revisions, its commits.

use std::path::Path;

use chrono::{DateTime, Utc};
use gix::ObjectId;

use crate::error::Error;
use crate::source::source_of_url;

/// Maximum size of a file that is read, in bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// A local git repository, opened for reading.
pub struct Repository {
    pub(crate) inner: gix::Repository,
}

/// A commit of the first-parent history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub id: ObjectId,
    pub tree: ObjectId,
    /// The committer's time.
    pub committed_at: DateTime<Utc>,
}

/// The people's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorship {
    pub author: String,
    /// The first line of the message.
    pub subject: String,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("path", &self.inner.git_dir()).finish()
    }
}

impl Repository {
    /// Opens a repository: a bare one, a work tree or a linked work tree. Reads no configuration but its own.
    ///
    /// # Errors
    /// The path is no repository, or a shallow clone.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let inner = gix::open_opts(path, gix::open::Options::isolated())
            .map_err(|error| Error::Open { path: path.display().to_string(), source: error.into() })?;
        if inner.is_shallow().map_err(|error| Error::object("the list of shallow commits", error))? {
            return Err(Error::Shallow);
        }
        Ok(Self { inner })
    }

    /// Returns the source of events of the remote `origin`: its address as https, without credentials and `.git`. `None` if
    /// there is no such remote, or if it is a local path.
    #[must_use]
    pub fn source(&self) -> Option<String> {
        let url = self.inner.config_snapshot().string("remote.origin.url")?;
        source_of_url(&url.to_string())
    }

    /// Returns the commit of a revision: a branch, a tag, a commit in full, `HEAD`, each with `~N` or `^` after it.
    pub(crate) fn resolve(&self, revision: &str) -> Result<ObjectId, Error> {
        let unknown = || Error::Revision(revision.to_owned());
        let end = revision.find(['~', '^']).unwrap_or(revision.len());
        let (name, suffix) = revision.split_at(end);
        let mut id = match ObjectId::from_hex(name.as_bytes()) {
            Ok(id) => id,
            Err(_) => {
                let reference = self.inner.try_find_reference(name).map_err(|_| unknown())?;
                reference.ok_or_else(unknown)?.into_fully_peeled_id().map_err(|_| unknown())?.detach()
            }
        };
        for _ in 0..generations(suffix).ok_or_else(unknown)? {
            id = self.link(id)?.1.ok_or_else(unknown)?;
        }
        self.link(id)?;
        Ok(id)
    }

    /// Returns a commit and its first parent.
    pub(crate) fn link(&self, id: ObjectId) -> Result<(Link, Option<ObjectId>), Error> {
        let failed = |error: gix::Error| Error::object(format!("the commit {id}"), error);
        let commit = self.inner.find_commit(id).map_err(failed)?;
        let tree = commit.tree_id().map_err(failed)?.detach();
        let seconds = commit.time().map_err(failed)?.seconds;
        // Times before 1970 and after 9999 are no times of the ledger.
        let committed_at = DateTime::from_timestamp(seconds.clamp(0, 253_402_300_799), 0).unwrap_or_default();
        let parent = commit.parent_ids().next().map(gix::Id::detach);
        Ok((Link { id, tree, committed_at }, parent))
    }

    /// Returns the first-parent history of a commit that is newer than `until`, from the oldest commit to the newest.
    /// `None` if `until` is not in it.
    pub(crate) fn first_parents(
        &self,
        head: ObjectId,
        until: Option<ObjectId>,
    ) -> Result<Option<Vec<Link>>, Error> {
        let mut links = Vec::new();
        let mut next = Some(head);
        while let Some(id) = next.filter(|id| Some(*id) != until) {
            let (link, parent) = self.link(id)?;
            links.push(link);
            next = parent;
        }
        links.reverse();
        Ok((next == until).then_some(links))
    }

    pub(crate) fn authorship(&self, id: ObjectId) -> Result<Authorship, Error> {
        let failed = |error: gix::Error| Error::object(format!("the commit {id}"), error);
        let commit = self.inner.find_commit(id).map_err(failed)?;
        let author = commit.author().map_err(failed)?.name.to_string();
        let message = commit.message_raw_sloppy().to_string();
        let subject = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        Ok(Authorship { author, subject: subject.to_owned() })
    }

    /// Returns the content of a file; the inner error is a reason not to read it.
    pub(crate) fn content(&self, id: ObjectId) -> Result<Result<Vec<u8>, String>, Error> {
        let failed = |error: gix::Error| Error::object(format!("the file {id}"), error);
        let size = self.inner.find_header(id).map_err(failed)?.size();
        if size > FILE_LIMIT {
            return Ok(Err(format!("the file has {size} bytes; at most {FILE_LIMIT} are read")));
        }
        let mut blob = self.inner.find_blob(id).map_err(failed)?;
        Ok(Ok(std::mem::take(&mut blob.data)))
    }
}

/// Returns the number of generations of first parents that `~N`, `~`, `^` and their sequences go back.
fn generations(suffix: &str) -> Option<u32> {
    let mut total = 0_u32;
    let mut rest = suffix;
    while let Some(sign) = rest.chars().next() {
        rest = &rest[1..];
        let end = rest.find(['~', '^']).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let count = match (sign, number) {
            (_, "") => 1,
            ('~', number) => number.parse().ok()?,
            // The first parent only: others are not in the history.
            ('^', "1") => 1,
            _ => return None,
        };
        total = total.checked_add(count)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_goes_back_along_first_parents() {
        for (suffix, expected) in [
            ("", Some(0)),
            ("~", Some(1)),
            ("^", Some(1)),
            ("~3", Some(3)),
            ("~2^~", Some(4)),
            ("^1", Some(1)),
            ("^2", None),
            ("~x", None),
            ("^{tree}", None),
        ] {
            assert_eq!(generations(suffix), expected, "{suffix}");
        }
    }
}
