//! Time spans, by the emitters' clocks.

use chrono::{DateTime, TimeDelta, Utc};

/// A half-open time span: from a time, inclusive, to another, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Start, inclusive.
    pub from: DateTime<Utc>,
    /// End, exclusive.
    pub until: DateTime<Utc>,
}

impl Span {
    /// Creates a span; `None` if it would be empty.
    #[must_use]
    pub fn new(from: DateTime<Utc>, until: DateTime<Utc>) -> Option<Self> {
        (from < until).then_some(Self { from, until })
    }

    /// Returns true if the span contains a time.
    #[must_use]
    pub fn contains(&self, time: DateTime<Utc>) -> bool {
        self.from <= time && time < self.until
    }

    /// Returns the intersection of two spans; `None` if it is empty.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.until.min(other.until))
    }
}

/// Merges spans that overlap or touch. The result is sorted.
#[must_use]
pub fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.until => last.until = last.until.max(span.until),
            _ => joined.push(span),
        }
    }
    joined
}

/// Returns the duration of the longest span, up to `now`; `None` if there is no span.
#[must_use]
pub fn longest(spans: &[Span], now: DateTime<Utc>) -> Option<TimeDelta> {
    spans.iter().map(|span| span.until.min(now) - span.from).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: i64, until: i64) -> Span {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        Span { from: time(from), until: time(until) }
    }

    #[test]
    fn the_longest_span_ends_now_at_the_latest() {
        let now = span(0, 8).until;
        assert_eq!(longest(&[span(1, 3), span(5, 100)], now), Some(TimeDelta::seconds(3)));
        assert_eq!(longest(&[span(1, 6), span(7, 100)], now), Some(TimeDelta::seconds(5)));
        assert_eq!(longest(&[], now), None);
    }

    #[test]
    fn spans_that_touch_or_overlap_are_merged() {
        assert_eq!(joined(vec![span(5, 7), span(1, 3), span(3, 4)]), [span(1, 4), span(5, 7)]);
        assert_eq!(joined(vec![span(1, 9), span(2, 3)]), [span(1, 9)]);
    }
}
