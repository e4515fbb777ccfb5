//! When a composition began to stand, and when it ended.

use chrono::{DateTime, Utc};
use ledger_domain::{
    Composition, EnvironmentName, EventId, LiveRelease, PointInTime, Position, ServiceName, Since, TargetName,
};

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::lanes::{AsOf, QueryError, histories, lane_key};
use crate::tables::live::{composition_changes, reorderings};
use crate::tables::retirements::retirements;

pub(crate) const STATEMENTS: &[&str] = &[AROUND, TIMES, LANES_CHANGED, LAST_AT];

/// The last change of the composition up to a time, and when the first after it occurred.
const AROUND: &str = "SELECT
    (SELECT number FROM live_changes WHERE environment_id = $1 AND occurred_at <= $2 AND position <= $3
        ORDER BY occurred_at DESC, number DESC LIMIT 1),
    (SELECT occurred_at FROM live_changes WHERE environment_id = $1 AND occurred_at > $2 AND position <= $3
        ORDER BY occurred_at, number LIMIT 1)";

/// When anything changed in an environment's lanes.
const TIMES: &str = "SELECT DISTINCT occurred_at FROM (
        SELECT occurred_at FROM lane_changes WHERE environment_id = $1 AND position <= $2
        UNION ALL
        SELECT occurred_at FROM retirements WHERE environment_id = $1 AND position <= $2
    ) c ORDER BY 1";

/// The lanes that have a change of exactly this time, and how many changes those are.
const LANES_CHANGED: &str = "SELECT t.service, t.target, count(*)
    FROM tracks t JOIN lane_changes c USING (track_id)
    WHERE t.environment_id = $1 AND c.occurred_at = $2 AND c.position <= $3
    GROUP BY t.service, t.target";

/// The last event that shaped an environment's composition at exactly this time.
const LAST_AT: &str = "SELECT position, event_id FROM (
        SELECT position, event_id FROM lane_changes
        WHERE environment_id = $1 AND occurred_at = $2 AND position <= $3 AND corrected_position IS NULL
        UNION ALL
        SELECT position, event_id FROM retirements
        WHERE environment_id = $1 AND occurred_at = $2 AND position <= $3
    ) c ORDER BY position DESC LIMIT 1";

/// How long a composition stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stood {
    /// When it began to stand.
    pub(crate) from: DateTime<Utc>,
    /// When the next change of the composition occurred; `None` while it stands.
    pub(crate) until: Option<DateTime<Utc>>,
    /// The event that it began with, where that can be told.
    pub(crate) since: Option<Since>,
    /// The lanes that it began with: those that ran something else, or nothing, just before.
    pub(crate) changed: Vec<(ServiceName, TargetName)>,
}

impl Snapshot {
    /// Returns how long the composition that ran at a time stood, as known at a position. A composition that stood for no time
    /// at all, between two changes of one time, ends the one before it.
    pub(crate) async fn stood(
        &mut self,
        environment: &EnvironmentName,
        id: i32,
        time: DateTime<Utc>,
        known_at: Position,
        composition: &Composition,
    ) -> Result<Stood, QueryError> {
        if reorderings(self.connection(), id, known_at).await?.is_empty() {
            return Ok(self.stood_in_order(id, time, known_at).await?);
        }
        let query = sqlx::query_scalar(TIMES).bind(id).bind(bigint(known_at));
        let times: Vec<DateTime<Utc>> = query.fetch_all(self.connection()).await?;
        let split = times.partition_point(|other| *other <= time);
        let mut stood = Stood { from: time, until: None, since: None, changed: Vec::new() };
        for index in (0..split).rev() {
            let before = self.composition_before(environment, &times[..index], known_at).await?;
            let mut passed = vec![before.clone()];
            passed.extend(self.passed_at(id, times[index], known_at, before).await?);
            stood.from = times[index];
            let other = passed.iter().rfind(|other| !other.runs_the_same(composition));
            if let Some(other) = other {
                let lanes = other.diff(composition).into_iter();
                stood.changed = lanes.map(|lane| (lane.service.clone(), lane.target.clone())).collect();
                break;
            }
        }
        if split > 0 {
            let query = sqlx::query_as(LAST_AT).bind(id).bind(stood.from).bind(bigint(known_at));
            let last: Option<(i64, String)> = query.fetch_optional(self.connection()).await?;
            if let Some((at, event_id)) = last {
                let event_id = parsed("lane_changes", at, || EventId::stored(&event_id))?;
                stood.since = Some(Since { occurred_at: stood.from, position: position(at), event_id });
            }
        }
        for index in split..times.len() {
            let after = self.composition_before(environment, &times[..=index], known_at).await?;
            let mut passed = self.passed_at(id, times[index], known_at, composition.clone()).await?;
            passed.push(after);
            if passed.iter().any(|other| !other.runs_the_same(composition)) {
                stood.until = Some(times[index]);
                break;
            }
        }
        Ok(stood)
    }

    /// As [`Snapshot::stood`], of an environment whose changes were recorded in the order in which they occurred.
    async fn stood_in_order(
        &mut self,
        id: i32,
        time: DateTime<Utc>,
        known_at: Position,
    ) -> Result<Stood, Error> {
        type Around = (Option<i64>, Option<DateTime<Utc>>);
        let query = sqlx::query_as(AROUND).bind(id).bind(time).bind(bigint(known_at));
        let (number, until): Around = query.fetch_one(self.connection()).await?;
        let last = match number {
            Some(number) => composition_changes(self.connection(), id, number - 1, number).await?.pop(),
            None => None,
        };
        Ok(match last {
            Some(last) => Stood {
                from: last.since.occurred_at,
                until,
                since: Some(last.since),
                changed: last.lanes.into_iter().map(|(lane, _)| lane).collect(),
            },
            None => Stood { from: time, until, since: None, changed: Vec::new() },
        })
    }

    /// Returns what ran after the last of these times.
    async fn composition_before(
        &mut self,
        environment: &EnvironmentName,
        times: &[DateTime<Utc>],
        known_at: Position,
    ) -> Result<Composition, QueryError> {
        let Some(last) = times.last() else { return Ok(Composition::default()) };
        let when = AsOf { at: PointInTime::Time(*last), known_at: Some(known_at) };
        Ok(self.state(environment, when).await?.composition())
    }

    /// Returns the compositions after each change of exactly this time, in the order of their positions, where there is more than
    /// one: all but the last stood for no time at all.
    async fn passed_at(
        &mut self,
        id: i32,
        time: DateTime<Utc>,
        known_at: Position,
        before: Composition,
    ) -> Result<Vec<Composition>, Error> {
        let mut passed = Vec::new();
        if retirements(self.connection(), id, known_at).await?.retires_at(time) {
            passed.push(Composition::default());
        }
        let query = sqlx::query_as(LANES_CHANGED).bind(id).bind(time).bind(bigint(known_at));
        let rows: Vec<(String, String, i64)> = query.fetch_all(self.connection()).await?;
        if rows.iter().map(|(.., changes)| changes).sum::<i64>() < 2 {
            return Ok(passed);
        }
        let lanes: Result<Vec<_>, _> =
            rows.iter().map(|(service, target, _)| lane_key(service, target)).collect();
        let lanes = lanes?;
        let folds = histories(self.connection(), id, &lanes, known_at, time).await?;
        let mut steps: Vec<(Since, usize, Option<LiveRelease>)> = Vec::new();
        for (lane, fold) in folds.iter().enumerate() {
            let at_time = fold.steps().into_iter().filter(|(since, _)| since.occurred_at == time);
            steps
                .extend(at_time.map(|(since, live)| (since.clone(), lane, live.map(|live| live.to_owned()))));
        }
        steps.sort_by_key(|(since, ..)| since.position);
        let mut composition = before;
        for (_, lane, live) in steps {
            let (service, target) = lanes[lane].clone();
            composition.set(service, target, live);
            passed.push(composition.clone());
        }
        Ok(passed)
    }
}
