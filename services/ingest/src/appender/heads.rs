//! Positions that the journal was known to have reached a moment ago: every later entry is still in the journal's
//! duplicate window.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger_domain::Position;
use tokio::time::Instant;

/// Shortest duplicate window of a journal whose heads are used.
pub(super) const MIN_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Age at which a head is no longer used. An event that reaches the journal up to 80 seconds later, after its look-up
/// and with all attempts to append it, is within [`MIN_DUPLICATE_WINDOW`] of every entry after the head.
const MAX_AGE: Duration = Duration::from_secs(40);
/// Age at which a newer head is noted beside the one in use. Until then the older one is better: the projector has
/// passed it.
const RENEWAL_AGE: Duration = Duration::from_secs(15);

/// Heads of the journal, noted when this process appended. Clones share them.
#[derive(Clone, Default)]
pub(super) struct RecentHeads(Arc<Mutex<Heads>>);

#[derive(Default)]
struct Heads {
    /// Heads hold for one journal.
    journal: JournalMark,
    older: Option<Head>,
    newer: Option<Head>,
}

/// A position, and a time at which the journal had no later entry.
#[derive(Clone, Copy)]
struct Head {
    position: Position,
    at: Instant,
}

/// Detects that the journal may be another one: the number of histories that the projections have had, and the number of
/// connections to the journal.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct JournalMark {
    pub(super) histories: u64,
    pub(super) connections: u64,
}

impl Head {
    fn is_usable(&self, now: Instant) -> bool {
        now.duration_since(self.at) <= MAX_AGE
    }
}

impl RecentHeads {
    /// Notes an entry whose append began at a time: no later entry existed then.
    pub(super) fn note(&self, journal: JournalMark, at: Instant, position: Position) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.journal != journal {
            *heads = Heads { journal, ..Heads::default() };
        }
        let newer = heads.newer;
        match newer {
            Some(newer) if at.duration_since(newer.at) < RENEWAL_AGE => {}
            _ => (heads.older, heads.newer) = (newer, Some(Head { position, at })),
        }
    }

    /// Returns the oldest head that is at most [`MAX_AGE`] old, if one is known of this journal.
    pub(super) fn oldest(&self, journal: JournalMark, now: Instant) -> Option<Position> {
        let heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.journal != journal {
            return None;
        }
        let usable = [heads.older, heads.newer].into_iter().flatten().find(|head| head.is_usable(now));
        usable.map(|head| head.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: JournalMark = JournalMark { histories: 1, connections: 1 };

    #[test]
    fn the_oldest_head_that_is_young_enough_is_used() {
        let (heads, start) = (RecentHeads::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(heads.oldest(JOURNAL, start), None);

        for (seconds, position) in [(0, 10), (1, 11), (20, 20), (30, 30)] {
            heads.note(JOURNAL, after(seconds), Position::new(position));
        }

        let oldest = |seconds| heads.oldest(JOURNAL, after(seconds)).map(Position::get);
        assert_eq!([31, 40, 41, 60, 61].map(oldest), [Some(10), Some(10), Some(20), Some(20), None]);
    }

    #[test]
    fn a_head_holds_for_one_journal() {
        let (heads, now) = (RecentHeads::default(), Instant::now());
        heads.note(JOURNAL, now, Position::new(10));
        let others = [JournalMark { histories: 2, ..JOURNAL }, JournalMark { connections: 2, ..JOURNAL }];

        for other in others {
            assert_eq!(heads.oldest(other, now), None);
        }
        heads.note(others[0], now, Position::new(3));

        assert_eq!(heads.oldest(JOURNAL, now), None);
        assert_eq!(heads.oldest(others[0], now), Some(Position::new(3)));
    }
}
