//! Values that are kept once, however often they are reported.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{Artifact, Release, ShortText};

/// The number of a value in the table that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(NonZeroU32);

impl Id {
    /// Four thousand million distinct values do not fit into memory.
    fn of_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.unwrap_or(NonZeroU32::MAX))
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Values by number.
#[derive(Debug)]
pub(super) struct Table<T> {
    ids: HashMap<Arc<T>, Id>,
    items: Vec<Arc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: HashMap::new(), items: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// Returns the number of a value, and whether it is new.
    pub(super) fn enter(&mut self, item: &T) -> (Id, bool) {
        if let Some(id) = self.ids.get(item) {
            return (*id, false);
        }
        let id = Id::of_index(self.items.len());
        let item = Arc::new(item.clone());
        self.ids.insert(Arc::clone(&item), id);
        self.items.push(item);
        (id, true)
    }

    /// Returns the number of a value.
    pub(super) fn id(&mut self, item: &T) -> Id {
        self.enter(item).0
    }

    /// Returns the number of a value, if it has one.
    pub(super) fn find(&self, item: &T) -> Option<Id> {
        self.ids.get(item).copied()
    }

    /// Returns the value with a number.
    pub(super) fn get(&self, id: Id) -> &T {
        &self.items[id.index()]
    }
}

/// Releases by number, and the numbers of those with a version or an artifact.
#[derive(Debug, Default)]
pub(super) struct Releases {
    table: Table<Release>,
    by_version: HashMap<ShortText, Vec<Id>>,
    /// By a hash of each key of the artifact. Two keys may have one hash.
    by_artifact: HashMap<u64, Vec<Id>>,
}

impl Releases {
    pub(super) fn id(&mut self, release: &Release) -> Id {
        let (id, is_new) = self.table.enter(release);
        if is_new {
            self.by_version.entry(release.version.clone()).or_default().push(id);
            for key in release.artifact.iter().flat_map(Artifact::keys) {
                self.by_artifact.entry(hash(&key)).or_default().push(id);
            }
        }
        id
    }

    pub(super) fn find(&self, release: &Release) -> Option<Id> {
        self.table.find(release)
    }

    pub(super) fn get(&self, id: Id) -> &Release {
        self.table.get(id)
    }

    /// Returns all that were reported of a version.
    pub(super) fn of_version(&self, version: &ShortText) -> &[Id] {
        self.by_version.get(version).map_or(&[], Vec::as_slice)
    }

    /// Returns all that state the same artifact.
    pub(super) fn of_artifact(&self, artifact: &Artifact) -> Vec<Id> {
        let keys = artifact.keys();
        let mut found: Vec<Id> =
            keys.iter().filter_map(|key| self.by_artifact.get(&hash(key))).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found.retain(|id| self.get(*id).artifact.as_ref().is_some_and(|own| own.is_same(artifact)));
        found
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
