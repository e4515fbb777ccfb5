//! Values that are kept once, however often they are told.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::{Line, Release};

/// The number of a value in the table that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

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
    /// The number of a value, and whether it is new.
    fn enter(&mut self, item: &T) -> (Id, bool) {
        if let Some(id) = self.ids.get(item) {
            return (*id, false);
        }
        // Whoever has four thousand million values has no memory left for them.
        let id = Id(u32::try_from(self.items.len()).unwrap_or(u32::MAX));
        let item = Arc::new(item.clone());
        self.ids.insert(Arc::clone(&item), id);
        self.items.push(item);
        (id, true)
    }

    /// The number of a value.
    pub(super) fn id(&mut self, item: &T) -> Id {
        self.enter(item).0
    }

    /// The value with a number.
    pub(super) fn get(&self, id: Id) -> &T {
        &self.items[id.0 as usize]
    }
}

/// Releases by number, and the numbers of each version's.
#[derive(Debug, Default)]
pub(super) struct Releases {
    table: Table<Release>,
    by_version: HashMap<Line, Vec<Id>>,
}

impl Releases {
    pub(super) fn id(&mut self, release: &Release) -> Id {
        let (id, is_new) = self.table.enter(release);
        if is_new {
            self.by_version.entry(release.version.clone()).or_default().push(id);
        }
        id
    }

    pub(super) fn get(&self, id: Id) -> &Release {
        self.table.get(id)
    }

    /// All that were told of a version.
    pub(super) fn of_version(&self, version: &Line) -> &[Id] {
        self.by_version.get(version).map_or(&[], Vec::as_slice)
    }
}
