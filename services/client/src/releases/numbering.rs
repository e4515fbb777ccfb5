//! The numbers of equal rows: the n-th of them has n.
//!
//! Invariant: memory does not grow with a history whose times never go back. Rows are equal only if their times are,
//! so that of an earlier time nothing is remembered, unless it comes back.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

/// What rows are equal by, as a digest.
pub(super) type Key = [u8; 16];

/// The times of a history that come back after a later one.
#[derive(Debug, Default)]
pub(super) struct ReturningTimes {
    latest: Option<DateTime<Utc>>,
    returning: HashSet<DateTime<Utc>>,
}

impl ReturningTimes {
    /// Adds the next row's time.
    pub(super) fn add(&mut self, time: DateTime<Utc>) {
        if self.latest.is_some_and(|latest| time < latest) {
            self.returning.insert(time);
        } else {
            self.latest = Some(time);
        }
    }
}

/// Numbers rows in their order.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    returning: HashSet<DateTime<Utc>>,
    latest: Option<DateTime<Utc>>,
    of_latest: HashMap<Key, u32>,
    of_returning: HashMap<Key, u32>,
}

impl Numbering {
    /// Of a history with these times. Rows of times that come back unforeseen are numbered from 1 again.
    pub(super) fn of(times: ReturningTimes) -> Self {
        Self { returning: times.returning, ..Self::default() }
    }

    /// Answers the number of the next row among its equals: 1 for the first.
    pub(super) fn next(&mut self, time: DateTime<Utc>, key: Key) -> u32 {
        let numbers = if self.returning.contains(&time) {
            &mut self.of_returning
        } else {
            if self.latest != Some(time) {
                self.latest = Some(time);
                self.of_latest.clear();
            }
            &mut self.of_latest
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
        let mut times = ReturningTimes::default();
        rows.iter().for_each(|(seconds, _)| times.add(time(*seconds)));
        let mut numbering = Numbering::of(times);
        let numbers = rows.iter().map(|(seconds, row)| numbering.next(time(*seconds), [*row; 16])).collect();
        (numbers, numbering.of_latest.len() + numbering.of_returning.len())
    }

    #[test]
    fn equal_rows_are_numbered_in_their_order() {
        assert_eq!(numbers(&[(1, 7), (1, 7), (1, 8), (1, 7), (2, 9)]).0, [1, 2, 1, 3, 1]);
    }

    #[test]
    fn equal_rows_are_found_after_a_later_time_too() {
        assert_eq!(numbers(&[(1, 7), (3, 8), (1, 7), (2, 9), (3, 8), (1, 7)]).0, [1, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn of_times_that_do_not_come_back_nothing_is_remembered() {
        let rows: Vec<_> = (0..1_000).map(|seconds| (seconds, 7)).collect();
        assert_eq!(numbers(&rows), (vec![1; 1_000], 1));
    }
}
