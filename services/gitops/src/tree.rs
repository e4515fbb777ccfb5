//! Differences between two trees.

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::TreeRefIter;
use gix::objs::tree::EntryMode;

use crate::error::Error;

/// A file that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangedFile {
    /// The path.
    pub path: String,
    /// The file in the newer tree; `None` if it is gone.
    pub file: Option<File>,
}

/// A file of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct File {
    pub id: ObjectId,
    pub is_link: bool,
}

/// One entry of a tree.
struct Entry {
    name: Vec<u8>,
    mode: EntryMode,
    id: ObjectId,
}

/// A folder that differs: its path, and its trees before and after.
type Folder = (String, Option<ObjectId>, Option<ObjectId>);

/// Returns the files that differ between two trees, in no particular order. Descends only into folders for which
/// `descend` returns true. Leaves out submodules, and paths that are not UTF-8.
///
/// # Errors
/// A tree cannot be read.
pub(crate) fn changed_files(
    repository: &gix::Repository,
    before: Option<ObjectId>,
    after: ObjectId,
    descend: impl Fn(&str) -> bool,
) -> Result<Vec<ChangedFile>, Error> {
    let mut changed = Vec::new();
    let mut folders: Vec<Folder> = vec![(String::new(), before, Some(after))];
    while let Some((folder, before, after)) = folders.pop() {
        let (old, new) = (entries(repository, before)?, entries(repository, after)?);
        for (old, new) in differences(old, new) {
            let name = old.as_ref().or(new.as_ref()).map(|entry| entry.name.clone()).unwrap_or_default();
            let Ok(name) = name.to_str() else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let (old_tree, new_tree) = (tree(old.as_ref()), tree(new.as_ref()));
            if old_tree != new_tree && descend(&path) {
                folders.push((path.clone(), old_tree, new_tree));
            }
            let (old_file, new_file) = (file(old.as_ref()), file(new.as_ref()));
            if old_file != new_file {
                changed.push(ChangedFile { path, file: new_file });
            }
        }
    }
    Ok(changed)
}

fn entries(repository: &gix::Repository, tree: Option<ObjectId>) -> Result<Vec<Entry>, Error> {
    let Some(id) = tree else { return Ok(Vec::new()) };
    let object = repository.find_tree(id).map_err(|error| Error::object(format!("the tree {id}"), error))?;
    let mut entries = Vec::new();
    for entry in TreeRefIter::from_bytes(&object.data, id.kind()) {
        let entry = entry.map_err(|error| Error::object(format!("the tree {id}"), error))?;
        entries.push(Entry { name: entry.filename.to_vec(), mode: entry.mode, id: entry.oid.to_owned() });
    }
    // Trees sort folders as if their names ended with a slash.
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Pairs the entries of two sorted lists by name, and drops pairs of equal ones.
fn differences(old: Vec<Entry>, new: Vec<Entry>) -> Vec<(Option<Entry>, Option<Entry>)> {
    let mut pairs = Vec::new();
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(one), Some(other)) => one.name.cmp(&other.name),
        };
        let pair = match order {
            std::cmp::Ordering::Less => (old.next(), None),
            std::cmp::Ordering::Greater => (None, new.next()),
            std::cmp::Ordering::Equal => (old.next(), new.next()),
        };
        let is_equal =
            matches!(&pair, (Some(one), Some(other)) if one.id == other.id && one.mode == other.mode);
        if !is_equal {
            pairs.push(pair);
        }
    }
}

fn tree(entry: Option<&Entry>) -> Option<ObjectId> {
    entry.filter(|entry| entry.mode.is_tree()).map(|entry| entry.id)
}

fn file(entry: Option<&Entry>) -> Option<File> {
    let entry = entry.filter(|entry| entry.mode.is_blob_or_symlink())?;
    Some(File { id: entry.id, is_link: entry.mode.is_link() })
}
