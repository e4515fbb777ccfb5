//! Identities that this process appended last: the history in Postgres always lags a little behind the journal.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_domain::{IdentityKey, Position};
use ledger_journal::KnownHistory;
use ledger_tlog::{Hash, leaf_hash};

/// Cache of the identities that were appended last, at most `capacity`; evicts the oldest first.
pub(crate) struct RecentAppends {
    known: HashMap<IdentityKey, RecentAppend>,
    order: VecDeque<IdentityKey>,
    capacity: usize,
    /// Creation time of the stream that the identities were appended to.
    stream_created: Option<DateTime<Utc>>,
    /// Epoch of the projections' history.
    history_epoch: u64,
    /// Position and bytes of the last entry.
    last: Option<(Position, Bytes)>,
    /// Number of connections to the journal when it was found to have the last entry.
    confirmed: Option<u64>,
}

/// An event that this process appended.
pub(crate) struct RecentAppend {
    pub(crate) position: Position,
    /// [`content_hash`] of its content.
    pub(crate) content: Hash,
}

/// Returns the hash by which the contents of two events of an identity are compared.
pub(crate) fn content_hash(content: &[u8]) -> Hash {
    leaf_hash(content)
}

impl RecentAppends {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            capacity,
            stream_created: None,
            history_epoch: 0,
            last: None,
            confirmed: None,
        }
    }

    /// Sets the creation time of the current stream, if known, and the epoch of the projections' history. Clears
    /// the cache if either has changed: positions and identities belong to one history.
    pub(crate) fn set_stream(&mut self, created: Option<DateTime<Utc>>, history_epoch: u64) {
        let is_other_stream = created.is_some() && self.stream_created != created;
        if is_other_stream || self.history_epoch != history_epoch {
            self.known.clear();
            self.order.clear();
            (self.last, self.confirmed) = (None, None);
            self.stream_created = created;
            self.history_epoch = history_epoch;
        }
    }

    pub(crate) fn get(&self, key: &IdentityKey) -> Option<&RecentAppend> {
        self.known.get(key)
    }

    pub(crate) fn insert(&mut self, key: IdentityKey, position: Position, bytes: &Bytes, content: Hash) {
        if self.last.as_ref().is_none_or(|(last, _)| *last < position) {
            self.last = Some((position, bytes.clone()));
        }
        if self.known.insert(key, RecentAppend { position, content }).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Returns what is known of the stream by the last append; `None` if nothing is.
    pub(crate) fn history(&self) -> Option<KnownHistory> {
        let (position, bytes) = self.last.clone()?;
        Some(KnownHistory::new(self.stream_created?).with_bytes(position, bytes))
    }

    /// Returns true if the journal was found to have the last append over the connection with this number.
    pub(crate) fn is_confirmed(&self, connections: u64) -> bool {
        self.confirmed == Some(connections)
    }

    pub(crate) const fn set_confirmed(&mut self, connections: u64) {
        self.confirmed = Some(connections);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn bytes() -> Bytes {
        Bytes::from_static(b"{}")
    }

    #[test]
    fn a_new_stream_or_history_clears_the_cache() {
        let (key, created) = (IdentityKey(Uuid::from_u128(1)), DateTime::UNIX_EPOCH);
        let later = created + chrono::Duration::seconds(1);
        for other in [(Some(later), 1), (Some(created), 2), (None, 2)] {
            let mut recent = RecentAppends::new(2);
            recent.set_stream(Some(created), 1);
            recent.insert(key, Position::new(1), &bytes(), content_hash(&bytes()));
            for stream in [Some(created), None, Some(created)] {
                recent.set_stream(stream, 1);
            }
            let is_kept = recent.get(&key).is_some() && recent.history().is_some();
            recent.set_stream(other.0, other.1);

            assert!(is_kept);
            assert!(recent.get(&key).is_none() && recent.history().is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_oldest_identity_is_evicted_first() {
        let key = |number| IdentityKey(Uuid::from_u128(number));
        let mut recent = RecentAppends::new(2);
        for number in 1..=3 {
            recent.insert(key(number), Position::new(1), &bytes(), content_hash(&bytes()));
        }
        assert!(recent.get(&key(1)).is_none());
        assert!(recent.get(&key(2)).is_some() && recent.get(&key(3)).is_some());
    }

    #[test]
    fn the_last_append_is_part_of_the_known_history() {
        let mut recent = RecentAppends::new(2);
        recent.set_stream(Some(DateTime::UNIX_EPOCH), 1);
        for number in [1, 3, 2] {
            recent.insert(
                IdentityKey(Uuid::from_u128(number)),
                Position::new(number as u64),
                &bytes(),
                content_hash(&bytes()),
            );
        }

        let expected = KnownHistory::new(DateTime::UNIX_EPOCH).with_bytes(Position::new(3), bytes());
        assert_eq!(recent.history(), Some(expected));
    }
}
