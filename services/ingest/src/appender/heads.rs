//! Positions that the journal was known to have reached a moment ago: every later entry is still in the journal's
//! duplicate window.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::Journal;
use ledger_projections::Projections;

use super::clock_reading::ClockReading;

/// Shortest duplicate window of a journal whose heads are used.
pub(super) const MIN_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Age at which a head is no longer used. An event that reaches the journal up to [`MAX_OUTCOME_AGE`] after its look-up is
/// within [`MIN_DUPLICATE_WINDOW`] of every entry after the head.
const MAX_AGE: Duration = Duration::from_secs(40);
/// Age of a look-up at which the journal's answer is no longer trusted: it may have recorded the event after the
/// duplicate window.
pub(super) const MAX_OUTCOME_AGE: Duration =
    MIN_DUPLICATE_WINDOW.saturating_sub(MAX_AGE).saturating_sub(CLOCK_DIFFERENCE);
/// Largest difference of the clocks of two servers of the journal that is expected: each measures the duplicate window by
/// the times that another one has assigned.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(10);
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
    at: ClockReading,
}

/// Detects that the journal may be another one: the epoch of the projections' history, and the number of connections
/// to the journal.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct JournalMark {
    pub(super) history_epoch: u64,
    pub(super) connections: u64,
}

impl JournalMark {
    /// Returns the mark of the journal that is connected now, and of the history of some projections.
    pub(super) fn of(projections: &Projections, journal: &dyn Journal) -> Self {
        Self { history_epoch: projections.history_epoch(), connections: journal.connections() }
    }
}

impl Head {
    fn is_usable(&self, now: ClockReading) -> bool {
        now.is_within(MAX_AGE, self.at)
    }
}

impl RecentHeads {
    /// Notes an entry whose append began at a time: no later entry existed then.
    pub(super) fn note(&self, journal: JournalMark, at: ClockReading, position: Position) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.journal != journal {
            *heads = Heads { journal, ..Heads::default() };
        }
        let newer = heads.newer;
        match newer {
            Some(newer) if at.is_within(RENEWAL_AGE, newer.at) => {}
            _ => (heads.older, heads.newer) = (newer, Some(Head { position, at })),
        }
    }

    /// Returns the oldest head that is at most [`MAX_AGE`] old, if one is known of this journal.
    pub(super) fn oldest(&self, journal: JournalMark, now: ClockReading) -> Option<Position> {
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
    use chrono::{DateTime, TimeDelta};
    use tokio::time::Instant;

    use super::*;

    const JOURNAL: JournalMark = JournalMark { history_epoch: 1, connections: 1 };

    fn start() -> ClockReading {
        ClockReading { monotonic: Instant::now(), wall: DateTime::UNIX_EPOCH }
    }

    /// Returns a later reading; both clocks run.
    fn after(start: ClockReading, seconds: u32) -> ClockReading {
        ClockReading {
            monotonic: start.monotonic + Duration::from_secs(seconds.into()),
            wall: start.wall + TimeDelta::seconds(seconds.into()),
        }
    }

    #[test]
    fn the_oldest_head_that_is_young_enough_is_used() {
        let (heads, start) = (RecentHeads::default(), start());
        assert_eq!(heads.oldest(JOURNAL, start), None);

        for (seconds, position) in [(0, 10), (1, 11), (20, 20), (30, 30)] {
            heads.note(JOURNAL, after(start, seconds), Position::new(position));
        }

        let oldest = |seconds| heads.oldest(JOURNAL, after(start, seconds)).map(Position::get);
        assert_eq!([31, 40, 41, 60, 61].map(oldest), [Some(10), Some(10), Some(20), Some(20), None]);
    }

    #[test]
    fn a_head_of_before_a_suspension_is_too_old_by_the_wall_clock() {
        let (heads, start) = (RecentHeads::default(), start());
        heads.note(JOURNAL, start, Position::new(10));
        let resumed = |seconds| ClockReading { wall: start.wall + TimeDelta::seconds(seconds), ..start };

        assert_eq!(heads.oldest(JOURNAL, resumed(40)), Some(Position::new(10)));
        assert_eq!(heads.oldest(JOURNAL, resumed(41)), None);
        // The age is unknown: the clock was set back.
        assert_eq!(heads.oldest(JOURNAL, resumed(-1)), None);
        heads.note(JOURNAL, resumed(180), Position::new(20));

        assert_eq!(heads.oldest(JOURNAL, resumed(180)), Some(Position::new(20)));
    }

    #[test]
    fn a_head_holds_for_one_journal() {
        let (heads, now) = (RecentHeads::default(), start());
        heads.note(JOURNAL, now, Position::new(10));
        let others = [JournalMark { history_epoch: 2, ..JOURNAL }, JournalMark { connections: 2, ..JOURNAL }];

        for other in others {
            assert_eq!(heads.oldest(other, now), None);
        }
        heads.note(others[0], now, Position::new(3));

        assert_eq!(heads.oldest(JOURNAL, now), None);
        assert_eq!(heads.oldest(others[0], now), Some(Position::new(3)));
    }
}
