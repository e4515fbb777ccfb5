//! Identities that this process appended last: the history in Postgres always lags a little behind the journal.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use ledger_domain::{IdentityKey, Position};
use ledger_projections::EntryLocation;

/// Cache of the identities that were appended last, at most `capacity`; evicts the oldest first.
pub(crate) struct RecentAppends {
    known: HashMap<IdentityKey, EntryLocation>,
    order: VecDeque<IdentityKey>,
    capacity: usize,
    /// Creation time of the stream that the identities were appended to.
    stream_created: Option<DateTime<Utc>>,
}

impl RecentAppends {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), capacity, stream_created: None }
    }

    /// Sets the creation time of the current stream, if known. Clears the cache if the stream has changed.
    pub(crate) fn set_stream(&mut self, created: Option<DateTime<Utc>>) {
        if created.is_some() && self.stream_created != created {
            self.known.clear();
            self.order.clear();
            self.stream_created = created;
        }
    }

    pub(crate) fn get(&self, key: &IdentityKey) -> Option<&EntryLocation> {
        self.known.get(key)
    }

    pub(crate) fn insert(&mut self, key: IdentityKey, position: Position, leaf_hash: [u8; 32]) {
        if self.known.insert(key, EntryLocation { position, leaf_hash: leaf_hash.into() }).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_new_stream_clears_the_cache() {
        let (key, created) = (IdentityKey(Uuid::from_u128(1)), DateTime::UNIX_EPOCH);
        let mut recent = RecentAppends::new(2);
        recent.set_stream(Some(created));
        recent.insert(key, Position::new(1), [0; 32]);
        for stream in [Some(created), None, Some(created)] {
            recent.set_stream(stream);
        }
        let is_kept = recent.get(&key).is_some();
        recent.set_stream(Some(created + chrono::Duration::seconds(1)));

        assert_eq!((is_kept, recent.get(&key)), (true, None));
    }

    #[test]
    fn the_oldest_identity_is_evicted_first() {
        let key = |number| IdentityKey(Uuid::from_u128(number));
        let mut recent = RecentAppends::new(2);
        for number in 1..=3 {
            recent.insert(key(number), Position::new(1), [0; 32]);
        }
        assert_eq!(recent.get(&key(1)), None);
        assert!(recent.get(&key(2)).is_some() && recent.get(&key(3)).is_some());
    }
}
