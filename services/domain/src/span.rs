//! Stretches of time, by the emitters' clocks.

use chrono::{DateTime, Utc};

/// A stretch of time in which something was so, from a time up to before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// When it began.
    pub from: DateTime<Utc>,
    /// When it ended; the end does not belong to it.
    pub until: DateTime<Utc>,
}

impl Span {
    /// Returns the span, or `None` where it would contain no time.
    #[must_use]
    pub fn new(from: DateTime<Utc>, until: DateTime<Utc>) -> Option<Self> {
        (from < until).then_some(Self { from, until })
    }

    /// Returns true if a time lies in it.
    #[must_use]
    pub fn contains(&self, time: DateTime<Utc>) -> bool {
        self.from <= time && time < self.until
    }

    /// Returns what two spans have in common.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.until.min(other.until))
    }
}

/// Joins spans that overlap or touch; the result is sorted.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: i64, until: i64) -> Span {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        Span { from: time(from), until: time(until) }
    }

    #[test]
    fn spans_that_touch_are_one() {
        assert_eq!(joined(vec![span(5, 7), span(1, 3), span(3, 4)]), [span(1, 4), span(5, 7)]);
        assert_eq!(joined(vec![span(1, 9), span(2, 3)]), [span(1, 9)]);
    }
}
