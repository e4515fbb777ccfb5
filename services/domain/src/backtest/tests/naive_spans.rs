//! Spans of time, found by examining every second.

use super::time;
use crate::span::Span;

/// Returns the spans of the seconds at which a condition holds. If it holds at the last second, it holds from then on.
pub(super) fn spans_where(last_second: i64, holds: impl Fn(i64) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut from = None;
    for second in 0..=last_second {
        match (from, holds(second)) {
            (None, true) => from = Some(second),
            (Some(since), false) => {
                spans.push(Span { from: time(since), until: time(second) });
                from = None;
            }
            _ => {}
        }
    }
    let until = chrono::DateTime::<chrono::Utc>::MAX_UTC;
    spans.extend(from.map(|since| Span { from: time(since), until }));
    spans
}
