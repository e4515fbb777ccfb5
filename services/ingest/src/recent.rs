//! What this process appended last: the history in Postgres is always a little behind.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use ledger_domain::{IdentityKey, Position};
use ledger_projections::Known;

/// The identities that were appended last, at most so many.
pub(crate) struct Recent {
    known: HashMap<IdentityKey, Known>,
    order: VecDeque<IdentityKey>,
    limit: usize,
    stream: Option<DateTime<Utc>>,
}

impl Recent {
    pub(crate) fn new(limit: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), limit, stream: None }
    }

    /// Says when the stream was made that is appended to, if that is known: what was appended to another one is
    /// forgotten.
    pub(crate) fn is_of(&mut self, stream: Option<DateTime<Utc>>) {
        if stream.is_some() && self.stream != stream {
            self.known.clear();
            self.order.clear();
            self.stream = stream;
        }
    }

    pub(crate) fn get(&self, key: &IdentityKey) -> Option<&Known> {
        self.known.get(key)
    }

    pub(crate) fn remember(&mut self, key: IdentityKey, position: Position, leaf_hash: [u8; 32]) {
        if self.known.insert(key, Known { position, leaf_hash: leaf_hash.into() }).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit
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
    fn what_was_appended_to_another_stream_is_forgotten() {
        let (key, made) = (IdentityKey(Uuid::from_u128(1)), DateTime::UNIX_EPOCH);
        let mut recent = Recent::new(2);
        recent.is_of(Some(made));
        recent.remember(key, Position::new(1), [0; 32]);
        for seen in [Some(made), None, Some(made)] {
            recent.is_of(seen);
        }
        let same = recent.get(&key).is_some();
        recent.is_of(Some(made + chrono::Duration::seconds(1)));

        assert_eq!((same, recent.get(&key)), (true, None));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let key = |number| IdentityKey(Uuid::from_u128(number));
        let mut recent = Recent::new(2);
        for number in 1..=3 {
            recent.remember(key(number), Position::new(1), [0; 32]);
        }
        assert_eq!(recent.get(&key(1)), None);
        assert!(recent.get(&key(2)).is_some() && recent.get(&key(3)).is_some());
    }
}
