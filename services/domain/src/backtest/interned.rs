//! Interned values and compact lists: keep a long history in little memory.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{Artifact, Release, ShortText};

/// The number of a value in the interner that issued it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(NonZeroU32);

impl Id {
    /// Converts an index. Saturates at `u32::MAX`: so many distinct values do not fit into memory.
    fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.unwrap_or(NonZeroU32::MAX))
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A set that stores each distinct value once and numbers it.
#[derive(Debug)]
pub(super) struct Interner<T> {
    ids: HashMap<Arc<T>, Id>,
    items: Vec<Arc<T>>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::new(), items: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// Interns a value; returns its id, and true if the value is new.
    pub(super) fn intern_full(&mut self, item: &T) -> (Id, bool) {
        if let Some(id) = self.ids.get(item) {
            return (*id, false);
        }
        let id = Id::from_index(self.items.len());
        let item = Arc::new(item.clone());
        self.ids.insert(Arc::clone(&item), id);
        self.items.push(item);
        (id, true)
    }

    /// Interns a value; returns its id.
    pub(super) fn intern(&mut self, item: &T) -> Id {
        self.intern_full(item).0
    }

    /// Returns the id of a value that has been interned.
    pub(super) fn id_of(&self, item: &T) -> Option<Id> {
        self.ids.get(item).copied()
    }

    /// Returns the value with an id.
    pub(super) fn get(&self, id: Id) -> &T {
        &self.items[id.index()]
    }
}

/// Interned releases, indexed by version and by artifact. Two spellings of the same release have two ids.
#[derive(Debug, Default)]
pub(super) struct Releases {
    interner: Interner<Release>,
    /// The other spellings of each release that has some.
    other_spellings: HashMap<Id, Vec<Id>>,
    by_version: HashMap<ShortText, Vec<Id>>,
    /// By a hash of each key of the artifact. Different keys may have the same hash.
    by_artifact: HashMap<u64, Vec<Id>>,
}

impl Releases {
    pub(super) fn intern(&mut self, release: &Release) -> Id {
        let (id, is_new) = self.interner.intern_full(release);
        if is_new {
            let of_version = self.by_version.entry(release.version.clone()).or_default();
            for other in of_version.iter().filter(|other| self.interner.get(**other).is_same(release)) {
                self.other_spellings.entry(*other).or_default().push(id);
                self.other_spellings.entry(id).or_default().push(*other);
            }
            of_version.push(id);
            for key in release.artifact.iter().flat_map(Artifact::keys) {
                self.by_artifact.entry(hash(&key)).or_default().push(id);
            }
        }
        id
    }

    pub(super) fn id_of(&self, release: &Release) -> Option<Id> {
        self.interner.id_of(release)
    }

    pub(super) fn get(&self, id: Id) -> &Release {
        self.interner.get(id)
    }

    /// Returns all spellings of a release, itself included.
    pub(super) fn spellings(&self, id: Id) -> Vec<Id> {
        std::iter::once(id).chain(self.other_spellings.get(&id).into_iter().flatten().copied()).collect()
    }

    /// Returns true if both are the same release, or both are nothing.
    pub(super) fn is_same(&self, one: Option<Id>, other: Option<Id>) -> bool {
        let other_spellings = || self.other_spellings.get(&one?);
        one == other || other.zip(other_spellings()).is_some_and(|(other, of_one)| of_one.contains(&other))
    }

    /// Returns the releases with a version.
    pub(super) fn of_version(&self, version: &ShortText) -> &[Id] {
        self.by_version.get(version).map_or(&[], Vec::as_slice)
    }

    /// Returns the releases that state the same artifact.
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

/// Appends to a list that usually stays short. Up to four items, the list takes no more memory than it needs.
pub(super) fn push_compact<T>(list: &mut Vec<T>, item: T) {
    if list.len() < 4 {
        list.reserve_exact(1);
    }
    list.push(item);
}
