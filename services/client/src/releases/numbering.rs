//! Numbers equal rows: the n-th among equal rows has the number n.
//!
//! Invariant: memory does not grow with a history in order of time. Equal rows have equal times, so the
//! counters of a time are dropped at the next time, unless the time recurs.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

/// Digest of the content that makes rows equal.
pub(super) type Key = [u8; 16];

/// The times of a history that occur after a later time.
#[derive(Debug, Default)]
pub(super) struct RecurringTimes {
    latest: Option<DateTime<Utc>>,
    recurring: HashSet<DateTime<Utc>>,
}

impl RecurringTimes {
    /// Adds the time of the next row.
    pub(super) fn add(&mut self, time: DateTime<Utc>) {
        if self.latest.is_some_and(|latest| time < latest) {
            self.recurring.insert(time);
        } else {
            self.latest = Some(time);
        }
    }
}

/// Counters of equal rows.
#[derive(Debug, Default)]
pub(super) struct RowNumbering {
    recurring: HashSet<DateTime<Utc>>,
    latest: Option<DateTime<Utc>>,
    latest_counts: HashMap<Key, u32>,
    recurring_counts: HashMap<Key, u32>,
}

impl RowNumbering {
    /// Creates the counters for a history with these recurring times. Rows of a time that recurs without
    /// being among them are numbered from 1 again.
    pub(super) fn new(times: RecurringTimes) -> Self {
        Self { recurring: times.recurring, ..Self::default() }
    }

    /// Returns the number of the next row among equal rows, starting with 1.
    pub(super) fn next(&mut self, time: DateTime<Utc>, key: Key) -> u32 {
        let numbers = if self.recurring.contains(&time) {
            &mut self.recurring_counts
        } else {
            if self.latest != Some(time) {
                self.latest = Some(time);
                self.latest_counts.clear();
            }
            &mut self.latest_counts
        };
        let number = numbers.entry(key).or_default();
        *number += 1;
        *number
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn numbers(rows: &[(i64, u8)]) -> (Vec<u32>, usize) {
        let time = |seconds: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let mut times = RecurringTimes::default();
        rows.iter().for_each(|(seconds, _)| times.add(time(*seconds)));
        let mut numbering = RowNumbering::new(times);
        let numbers = rows.iter().map(|(seconds, row)| numbering.next(time(*seconds), [*row; 16])).collect();
        (numbers, numbering.latest_counts.len() + numbering.recurring_counts.len())
    }

    #[test]
    fn equal_rows_are_numbered_in_order() {
        assert_eq!(numbers(&[(1, 7), (1, 7), (1, 8), (1, 7), (2, 9)]).0, [1, 2, 1, 3, 1]);
    }

    #[test]
    fn equal_rows_are_counted_across_later_times() {
        assert_eq!(numbers(&[(1, 7), (3, 8), (1, 7), (2, 9), (3, 8), (1, 7)]).0, [1, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn counters_of_a_time_that_does_not_recur_are_dropped() {
        let rows: Vec<_> = (0..1_000).map(|seconds| (seconds, 7)).collect();
        assert_eq!(numbers(&rows), (vec![1; 1_000], 1));
    }
}
