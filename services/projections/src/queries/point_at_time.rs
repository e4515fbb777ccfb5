//! Spans of compositions by time: when a composition began and when the next change ended it.

use chrono::{DateTime, Utc};
use ledger_domain::{
    Composition, EnvironmentName, EventId, EventRef, LiveRelease, Position, ServiceName, TargetName,
};

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::{AsOf, QueryError, load_histories, parse_lane_key};
use crate::tables::live::{composition_changes, reorderings};
use crate::tables::retirements::retirements;

/// Span in which a composition was live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompositionSpan {
    /// Time at which it went live.
    pub(crate) from: DateTime<Utc>,
    /// Time of the next composition change; `None` while it is live.
    pub(crate) until: Option<DateTime<Utc>>,
    /// Event that made it live, if known.
    pub(crate) since: Option<EventRef>,
    /// Lanes that changed when it went live: they ran another release, or nothing, just before.
    pub(crate) changed: Vec<(ServiceName, TargetName)>,
}

impl Snapshot {
    /// Returns the span of the composition that ran at a time, as known at a position. A composition that was live for
    /// no time, between two changes with the same time, still ends the one before it.
    pub(crate) async fn composition_span(
        &mut self,
        environment: &EnvironmentName,
        id: i32,
        time: DateTime<Utc>,
        known_at: Position,
        composition: &Composition,
    ) -> Result<CompositionSpan, QueryError> {
        if reorderings(self.connection(), id, known_at).await?.is_empty() {
            return Ok(self.composition_span_in_order(id, time, known_at).await?);
        }
        let query = sqlx::query_scalar(sql!("point_at_time/change_times")).bind(id).bind(bigint(known_at));
        let times: Vec<DateTime<Utc>> = query.fetch_all(self.connection()).await?;
        let split = times.partition_point(|other| *other <= time);
        let mut span = CompositionSpan { from: time, until: None, since: None, changed: Vec::new() };
        for index in (0..split).rev() {
            let before = self.composition_at_last(environment, &times[..index], known_at).await?;
            let mut earlier = vec![before.clone()];
            earlier.extend(self.transient_compositions(id, times[index], known_at, before).await?);
            span.from = times[index];
            let other = earlier.iter().rfind(|other| !other.runs_the_same(composition));
            if let Some(other) = other {
                let lanes = other.diff(composition).into_iter();
                span.changed = lanes.map(|lane| (lane.service.clone(), lane.target.clone())).collect();
                break;
            }
        }
        if split > 0 {
            let query = sqlx::query_as(sql!("point_at_time/last_event_at"))
                .bind(id)
                .bind(span.from)
                .bind(bigint(known_at));
            let last: Option<(i64, String)> = query.fetch_optional(self.connection()).await?;
            if let Some((at, event_id)) = last {
                let event_id = parsed("lane_changes", at, || EventId::stored(&event_id))?;
                span.since = Some(EventRef { occurred_at: span.from, position: position(at), event_id });
            }
        }
        for index in split..times.len() {
            let after = self.composition_at_last(environment, &times[..=index], known_at).await?;
            let mut later =
                self.transient_compositions(id, times[index], known_at, composition.clone()).await?;
            later.push(after);
            if later.iter().any(|other| !other.runs_the_same(composition)) {
                span.until = Some(times[index]);
                break;
            }
        }
        Ok(span)
    }

    /// Does the same as [`Snapshot::composition_span`] for an environment without reorderings: changes occurred in the
    /// order in which they were recorded.
    async fn composition_span_in_order(
        &mut self,
        id: i32,
        time: DateTime<Utc>,
        known_at: Position,
    ) -> Result<CompositionSpan, Error> {
        type Around = (Option<i64>, Option<DateTime<Utc>>);
        let query =
            sqlx::query_as(sql!("point_at_time/changes_around")).bind(id).bind(time).bind(bigint(known_at));
        let (number, until): Around = query.fetch_one(self.connection()).await?;
        let last = match number {
            Some(number) => composition_changes(self.connection(), id, number - 1, number).await?.pop(),
            None => None,
        };
        Ok(match last {
            Some(last) => CompositionSpan {
                from: last.since.occurred_at,
                until,
                since: Some(last.since),
                changed: last.lanes.into_iter().map(|(lane, _)| lane).collect(),
            },
            None => CompositionSpan { from: time, until, since: None, changed: Vec::new() },
        })
    }

    /// Returns the composition at the last of these times; the empty one if there are none.
    async fn composition_at_last(
        &mut self,
        environment: &EnvironmentName,
        times: &[DateTime<Utc>],
        known_at: Position,
    ) -> Result<Composition, QueryError> {
        let Some(last) = times.last() else { return Ok(Composition::default()) };
        let as_of = AsOf::Time { time: *last, known_at: Some(known_at) };
        Ok(self.state(environment, as_of).await?.composition())
    }

    /// Returns the composition after each change at exactly this time, ordered by position, if there are several
    /// changes: all but the last were live for no time.
    pub(crate) async fn transient_compositions(
        &mut self,
        id: i32,
        time: DateTime<Utc>,
        known_at: Position,
        before: Composition,
    ) -> Result<Vec<Composition>, Error> {
        let mut compositions = Vec::new();
        let retirements = retirements(self.connection(), id, known_at).await?;
        if retirements.retires_at(time) {
            compositions.push(Composition::default());
        }
        let query =
            sqlx::query_as(sql!("point_at_time/lanes_changed_at")).bind(id).bind(time).bind(bigint(known_at));
        let rows: Vec<(String, String, i64)> = query.fetch_all(self.connection()).await?;
        if rows.iter().map(|(.., changes)| changes).sum::<i64>() < 2 {
            return Ok(compositions);
        }
        let lanes: Result<Vec<_>, _> =
            rows.iter().map(|(service, target, _)| parse_lane_key(service, target)).collect();
        let lanes = lanes?;
        let folds = load_histories(self.connection(), id, &lanes, known_at, time).await?;
        let mut steps: Vec<(EventRef, usize, Option<LiveRelease>)> = Vec::new();
        let standing = retirements.at(time);
        for (lane, fold) in folds.iter().enumerate() {
            let fold = fold.without_discarded_changes(standing);
            let at_time = fold.steps().into_iter().filter(|(since, _)| since.occurred_at == time);
            steps
                .extend(at_time.map(|(since, live)| (since.clone(), lane, live.map(|live| live.to_owned()))));
        }
        steps.sort_by_key(|(since, ..)| since.position);
        let mut composition = before;
        for (_, lane, live) in steps {
            let (service, target) = lanes[lane].clone();
            composition.set(service, target, live);
            compositions.push(composition.clone());
        }
        Ok(compositions)
    }
}
