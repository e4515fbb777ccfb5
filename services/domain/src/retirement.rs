//! Retirement of environments: a retired environment has no lanes, and its earlier changes are discarded for good.

use chrono::{DateTime, Utc};

use crate::span::Span;
use crate::{EventTime, Position};

/// The declarations and retirements of an environment, ordered by `(occurred_at, position)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retirements {
    /// Time, position, and true for a retirement or false for a declaration.
    events: Vec<(DateTime<Utc>, Position, bool)>,
}

/// The retirement status of an environment at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetirementStatus {
    /// The environment is retired, by the event at this position.
    Retired(Position),
    /// The environment is not retired. Changes from before this time are discarded; `None`: it was never retired.
    Active(Option<DateTime<Utc>>),
}

impl RetirementStatus {
    /// Returns the position of the event that retired the environment, if it is retired.
    #[must_use]
    pub const fn retired_by(self) -> Option<Position> {
        match self {
            Self::Retired(position) => Some(position),
            Self::Active(_) => None,
        }
    }

    /// Returns true if a change or an observation at a time counts: the environment is not retired, and the time is not
    /// before the declaration that ended its last retirement.
    #[must_use]
    pub fn includes(self, occurred_at: DateTime<Utc>) -> bool {
        match self {
            Self::Retired(_) => false,
            Self::Active(declared_at) => declared_at.is_none_or(|declared_at| declared_at <= occurred_at),
        }
    }
}

impl Retirements {
    /// Adds an event: `retires` is true for `environment.retired`, and false for `environment.declared`.
    pub fn add(&mut self, occurred_at: DateTime<Utc>, position: Position, retires: bool) {
        let at = EventTime::new(occurred_at, position);
        let index = self.events.partition_point(|other| EventTime::new(other.0, other.1) < at);
        self.events.insert(index, (occurred_at, position, retires));
    }

    /// Returns true if the environment was never retired.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.iter().all(|(.., retires)| !retires)
    }

    /// Returns true if a retirement starts at exactly this time, even one of no duration.
    #[must_use]
    pub fn retires_at(&self, time: DateTime<Utc>) -> bool {
        self.spans().iter().any(|retired| retired.from == time)
    }

    /// Returns the status at a time.
    #[must_use]
    pub fn at(&self, time: DateTime<Utc>) -> RetirementStatus {
        self.status_after(self.events.partition_point(|(at, ..)| *at <= time))
    }

    /// Returns the status after all events.
    #[must_use]
    pub fn last(&self) -> RetirementStatus {
        self.status_after(self.events.len())
    }

    /// Returns true for a time before the end of the last retirement: if it has not ended, for every time.
    #[must_use]
    pub fn is_before_end_of_last(&self, time: DateTime<Utc>) -> bool {
        match self.last() {
            RetirementStatus::Retired(_) => true,
            RetirementStatus::Active(Some(end)) => time < end,
            RetirementStatus::Active(None) => false,
        }
    }

    /// Returns the time of the last retirement, if there was one.
    #[must_use]
    pub fn last_retired(&self) -> Option<DateTime<Utc>> {
        self.spans().last().map(|retired| retired.from)
    }

    /// Returns the moment of the first retirement that starts after a time.
    #[must_use]
    pub fn first_after(&self, time: DateTime<Utc>) -> Option<EventTime> {
        let mut is_retired = false;
        for (at, position, retires) in &self.events {
            if *retires && !is_retired && *at > time {
                return Some(EventTime::new(*at, *position));
            }
            is_retired = *retires;
        }
        None
    }

    fn status_after(&self, count: usize) -> RetirementStatus {
        let mut standing = RetirementStatus::Active(None);
        for (at, position, retires) in &self.events[..count] {
            standing = match (standing, retires) {
                (RetirementStatus::Active(_), true) => RetirementStatus::Retired(*position),
                (RetirementStatus::Retired(_), false) => RetirementStatus::Active(Some(*at)),
                (standing, _) => standing,
            };
        }
        standing
    }

    /// Returns the spans in which the environment was retired. If it was declared again at the time of its retirement,
    /// the span has no duration, and yet earlier changes are discarded.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut since = None;
        for (at, _, retires) in &self.events {
            match (since, retires) {
                (None, true) => since = Some(*at),
                (Some(from), false) => {
                    spans.push(Span { from, until: *at });
                    since = None;
                }
                _ => {}
            }
        }
        spans.extend(since.and_then(|from| Span::new(from, DateTime::<Utc>::MAX_UTC)));
        spans
    }

    /// Cuts the span in which a release or a composition ran: it ends at the first retirement after its start. Returns
    /// `None` if the environment was retired at the start of the span.
    #[must_use]
    pub fn cut(&self, span: Span) -> Option<Span> {
        let spans = self.spans();
        if spans.iter().any(|retired| retired.contains(span.from)) {
            return None;
        }
        let end = spans.iter().map(|retired| retired.from).filter(|from| *from > span.from).min();
        Span::new(span.from, end.map_or(span.until, |end| span.until.min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn retirements(events: &[(i64, bool)]) -> Retirements {
        let mut added = Retirements::default();
        for ((at, retires), position) in events.iter().zip(1..) {
            added.add(time(*at), Position::new(position), *retires);
        }
        added
    }

    #[test]
    fn an_environment_is_retired_until_it_is_declared_again() {
        let retirements = retirements(&[(10, false), (20, true), (25, true), (30, false)]);
        assert_eq!(retirements.at(time(19)), RetirementStatus::Active(None));
        assert_eq!(retirements.at(time(20)), RetirementStatus::Retired(Position::new(2)));
        assert_eq!(retirements.at(time(30)), RetirementStatus::Active(Some(time(30))));
        let span = |from, until| Span { from: time(from), until: time(until) };
        assert_eq!(retirements.cut(span(15, 40)), Some(span(15, 20)));
        assert_eq!(retirements.cut(span(22, 40)), None);
        assert_eq!(retirements.cut(span(31, 40)), Some(span(31, 40)));
        assert_eq!(retirements.first_after(time(19)), Some(EventTime::new(time(20), Position::new(2))));
        assert_eq!(retirements.first_after(time(20)), None);
    }

    #[test]
    fn only_events_since_the_last_declaration_count() {
        let retired = RetirementStatus::Retired(Position::new(2));
        assert_eq!(retired.retired_by(), Some(Position::new(2)));
        assert!(!retired.includes(time(40)));
        let declared_again = RetirementStatus::Active(Some(time(30)));
        assert_eq!(declared_again.retired_by(), None);
        assert_eq!([29, 30].map(|at| declared_again.includes(time(at))), [false, true]);
        assert!(RetirementStatus::Active(None).includes(time(0)));
    }

    #[test]
    fn a_retirement_ends_the_span_even_if_the_environment_is_declared_again_at_once() {
        let retirements = retirements(&[(20, true), (20, false)]);
        let span = |from, until| Span { from: time(from), until: time(until) };
        assert_eq!(retirements.last(), RetirementStatus::Active(Some(time(20))));
        assert_eq!(retirements.cut(span(15, 40)), Some(span(15, 20)));
        assert_eq!(retirements.cut(span(20, 40)), Some(span(20, 40)));
    }

    #[test]
    fn the_order_of_events_does_not_matter() {
        assert_eq!(
            retirements(&[(20, true), (10, false)]).last(),
            RetirementStatus::Retired(Position::new(1))
        );
        assert_eq!(retirements(&[(30, false), (20, true)]).last(), RetirementStatus::Active(Some(time(30))));
    }
}
