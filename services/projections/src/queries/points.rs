//! Release points: the composition of an environment after each change, and its status.
//!
//! A point is a composition change, identified by its number, or a time. Its status is not stored: a query judges it by
//! what is known at the requested position.

use std::collections::{BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, Utc};
use ledger_domain::event::Policy;
use ledger_domain::known_good::{CheckResults, CheckedLane, Evidence, Judgement, Marked, judge};
use ledger_domain::{
    Composition, CompositionId, EnvironmentName, EventRef, LiveRelease, Position, ServiceName, TargetName,
};

use crate::Snapshot;
use crate::long_computation::compute;
use crate::postgres::{Error, bigint};
use crate::queries::marks::Marks;
use crate::queries::point_at_time::CompositionSpan;
use crate::sql::sql;
use crate::tables::check_results::CheckResultCache;
use crate::tables::lane_releases::LaneRelease;
use crate::tables::lanes::{AsOf, QueryError};
use crate::tables::live::{self, CompositionChange, composition_changes, first_change_after};

/// Maximum number of points to read in one batch, with the check results of their lanes.
pub(crate) const PAGE_SIZE: i64 = 64;
/// Number of compositions whose check results a cursor keeps. It forgets all of them beyond that.
const MAX_CACHED_COMPOSITIONS: usize = 4_096;

/// Position and time by which a point is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsKnownAt {
    /// Position as known at which the point is judged; `None`: the end of the ledger.
    pub known_at: Option<Position>,
    /// Time up to which a point that is still live has soaked.
    pub now: DateTime<Utc>,
}

/// Release point, with its status.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Number of the composition change, counted from 1; `None` if a time identifies the point.
    pub number: Option<u64>,
    /// Event that made the change. If a time identifies the point: the last event that affected the composition.
    pub since: EventRef,
    /// Lanes that changed when the point began.
    pub changed: Vec<(ServiceName, TargetName)>,
    /// Time at which the composition went live.
    pub live_from: DateTime<Utc>,
    /// Time of the next composition change; `None` while the composition is live.
    pub until: Option<DateTime<Utc>>,
    /// Composition that the environment ran.
    pub composition: Composition,
    /// Status of the point, with its reasons.
    pub judgement: Judgement,
    /// Mark on its composition, if any.
    pub marked: Option<Marked>,
}

/// Cursor over an environment's points, latest first.
pub struct PointCursor {
    environment: EnvironmentName,
    environment_id: i32,
    known_at: Position,
    now: DateTime<Utc>,
    policy: Policy,
    marks: Marks,
    lane_results: CheckResultCache,
    /// Results for the compositions that were read.
    composition_results: HashMap<CompositionId, CheckResults>,
    /// Composition of the next point to return.
    composition: Composition,
    /// Event that began the point after that one.
    next: Option<EventRef>,
    /// Points that are read and not returned yet, each with the releases that its lanes ran before.
    ready: VecDeque<CompositionChange>,
    /// Number of the latest point that is not read yet; 0 if all are read.
    unread: i64,
}

impl Snapshot {
    /// Returns a cursor that goes back from the point that was live at a position. Points are judged by the policy and
    /// the evidence known at `as_known`. Returns `None` if no event names the environment.
    ///
    /// # Errors
    /// The position is not projected yet, or the database query fails.
    pub async fn points(
        &mut self,
        environment: &EnvironmentName,
        from: Position,
        as_known: AsKnownAt,
    ) -> Result<Option<PointCursor>, QueryError> {
        let projections = self.position();
        let known_at = as_known.known_at.unwrap_or(projections);
        if let Some(asked) = [known_at, from].into_iter().find(|asked| *asked > projections) {
            return Err(QueryError::NotProjected { asked, projections });
        }
        let Some(environment_id) = self.environment_id(environment).await? else { return Ok(None) };
        let now = as_known.now;
        let from = from.min(known_at);
        let last = self.last_change(environment_id, from).await?;
        let next = composition_changes(self.connection(), environment_id, last, last + 1).await?;
        let next = next.into_iter().next().filter(|next| next.since.position <= known_at);
        let state = self.state(environment, AsOf::Position(from)).await?;
        Ok(Some(PointCursor {
            environment: environment.clone(),
            environment_id,
            known_at,
            now,
            policy: self.policy(environment, known_at).await?.policy,
            marks: self.marks(environment, known_at).await?,
            lane_results: CheckResultCache::default(),
            composition_results: HashMap::new(),
            composition: state.composition(),
            next: next.map(|next| next.since),
            ready: VecDeque::new(),
            unread: last,
        }))
    }

    /// Returns the number of the last change of an environment's composition up to a position; 0 if there is none.
    pub(crate) async fn last_change(&mut self, environment_id: i32, at: Position) -> Result<i64, Error> {
        live::last_change(self.connection(), environment_id, at).await
    }

    /// Returns the position of the composition change that is `ago` changes before the last one, as known at a
    /// position; [`Position::START`] if that is before the first change.
    ///
    /// # Errors
    /// There are fewer changes, or the database query fails.
    pub async fn changes_ago(
        &mut self,
        environment: &EnvironmentName,
        ago: u64,
        known_at: Position,
    ) -> Result<Position, QueryError> {
        let Some(id) = self.environment_id(environment).await? else {
            return Err(QueryError::UnknownEnvironment(environment.clone()));
        };
        let last = self.last_change(id, known_at).await?;
        let number =
            i64::try_from(ago).ok().and_then(|ago| last.checked_sub(ago)).filter(|number| *number >= 0);
        let Some(number) = number else {
            let environment = environment.clone();
            return Err(QueryError::TooFewChanges { environment, asked: ago, changes: last.cast_unsigned() });
        };
        let changes = composition_changes(self.connection(), id, number - 1, number).await?;
        Ok(changes.first().map_or(Position::START, |change| change.since.position))
    }

    /// Returns the position of a change of an environment's composition, by its number from 1, as known at a position.
    ///
    /// # Errors
    /// There are fewer changes, or the database query fails.
    pub async fn change(
        &mut self,
        environment: &EnvironmentName,
        number: u64,
        known_at: Position,
    ) -> Result<Position, QueryError> {
        let Some(id) = self.environment_id(environment).await? else {
            return Err(QueryError::UnknownEnvironment(environment.clone()));
        };
        let last = self.last_change(id, known_at).await?;
        let Some(wanted) = i64::try_from(number).ok().filter(|number| *number <= last) else {
            let environment = environment.clone();
            return Err(QueryError::TooFewChanges {
                environment,
                asked: number,
                changes: last.cast_unsigned(),
            });
        };
        let changes = composition_changes(self.connection(), id, wanted - 1, wanted).await?;
        Ok(changes.first().map_or(Position::START, |change| change.since.position))
    }

    /// Returns the number of the first change of an environment's composition that occurred after a time, as known now.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn first_change_after(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
    ) -> Result<Option<u64>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let found = first_change_after(self.connection(), id, time).await?;
        Ok(found.map(i64::cast_unsigned))
    }

    /// Returns the composition of an environment at a time, as known at a position, as a point. The composition need
    /// not have been recorded as a change. Returns `None` if nothing had occurred by that time.
    ///
    /// # Errors
    /// There is no such environment or position, or the database query fails.
    pub async fn point_at(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
        as_known: AsKnownAt,
    ) -> Result<Option<Point>, QueryError> {
        let known_at = as_known.known_at.unwrap_or(self.position());
        let as_of = AsOf::Time { time, known_at: Some(known_at) };
        let state = self.state(environment, as_of).await?;
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let composition = state.composition();
        let CompositionSpan { from, until, since, changed } =
            self.composition_span(environment, id, time, known_at, &composition).await?;
        // If the event of the change is unknown, use the last change up to that time.
        let last = state.lanes.iter().flat_map(|lane| lane.fold.changes());
        let last = last.map(|(_, written)| &written.since).filter(|since| since.occurred_at <= from);
        let last = last.max_by(|one, other| one.order(other)).cloned();
        let Some(since) = since.or(last) else { return Ok(None) };
        let now = as_known.now;
        let ran: Vec<LaneRelease> = composition
            .lanes()
            .map(|(service, target, live)| LaneRelease {
                service: service.clone(),
                target: target.clone(),
                release: live.release.clone(),
            })
            .collect();
        let results = self.verdicts(environment, &ran, known_at).await?;
        let id = composition.id();
        let composition_results = self.composition_verdicts(environment, &[id], known_at).await?.remove(&id);
        let policy = self.policy(environment, known_at).await?.policy;
        let marked = self.marks(environment, known_at).await?.on(id).cloned();
        let changed_lanes = lane_set(&changed);
        let lanes = ran.iter().zip(&results).map(|(ran, results)| CheckedLane {
            service: &ran.service,
            target: &ran.target,
            changed: changed_lanes.contains(&(&ran.service, &ran.target)),
            verdicts: results,
        });
        let none = CheckResults::default();
        let evidence = Evidence {
            lanes: lanes.collect(),
            composition: composition_results.as_ref().unwrap_or(&none),
            stood: until.unwrap_or(now) - from,
            stands: until.is_none(),
            marked: marked.as_ref(),
        };
        let judgement = judge(&policy, &evidence);
        Ok(Some(Point {
            number: None,
            since,
            changed,
            live_from: from,
            until,
            composition,
            judgement,
            marked,
        }))
    }

    /// Returns the position and time by which to judge a point. If `known_at` is given, the time is the one at which
    /// the entry at that position, or the last entry before it, was recorded; otherwise it is `now`.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn believed(
        &mut self,
        known_at: Option<Position>,
        now: DateTime<Utc>,
    ) -> Result<AsKnownAt, Error> {
        let Some(position) = known_at else { return Ok(AsKnownAt { known_at, now }) };
        let query = sqlx::query_scalar(sql!("events/recorded_at")).bind(bigint(position));
        let now = query.fetch_optional(self.connection()).await?.unwrap_or(now);
        Ok(AsKnownAt { known_at, now })
    }

    /// Returns the position of the last entry that was recorded up to a time; the start if there is none. The stream
    /// records in order, so a few look-ups by position find it. If its clock was set back, several positions fit, and
    /// one of them is returned.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn position_recorded_by(&mut self, time: DateTime<Utc>) -> Result<Position, Error> {
        let (mut before, mut after) = (0, self.position().get().saturating_add(1));
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            let query = sqlx::query_scalar(sql!("events/recorded_at")).bind(bigint(Position::new(middle)));
            let recorded_at: Option<DateTime<Utc>> = query.fetch_optional(self.connection()).await?;
            if recorded_at.is_some_and(|recorded_at| recorded_at > time) {
                after = middle;
            } else {
                before = middle;
            }
        }
        Ok(Position::new(before))
    }

    /// Returns the point that was live in an environment at a position.
    ///
    /// # Errors
    /// The position is not projected yet, or the database query fails.
    pub async fn point(
        &mut self,
        environment: &EnvironmentName,
        at: Position,
        as_known: AsKnownAt,
    ) -> Result<Option<Point>, QueryError> {
        match self.points(environment, at, as_known).await? {
            Some(mut points) => Ok(points.next(self, 1).await?),
            None => Ok(None),
        }
    }
}

impl PointCursor {
    pub(crate) const fn environment_id(&self) -> i32 {
        self.environment_id
    }

    pub(crate) const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Moves back so that the next point is the one with a number, or the end if that is 0. Returns true if the cursor
    /// moved; points that are near are read one by one.
    pub(crate) async fn skip_to(&mut self, snapshot: &mut Snapshot, number: i64) -> Result<bool, QueryError> {
        let unread = self.ready.back().map_or(self.unread, |oldest| oldest.number - 1);
        if unread - number < PAGE_SIZE {
            return Ok(false);
        }
        self.ready.clear();
        self.unread = number;
        if number > 0 {
            let connection = snapshot.connection();
            let changes =
                composition_changes(connection, self.environment_id, number - 1, number + 1).await?;
            let since = |wanted: i64| {
                let change = changes.iter().find(|change| change.number == wanted);
                change.map(|change| change.since.clone())
            };
            let at = since(number).map_or(Position::START, |since| since.position);
            self.next = since(number + 1);
            self.composition = snapshot.state(&self.environment, AsOf::Position(at)).await?.composition();
        }
        Ok(true)
    }

    /// Returns the next point back, if there is one. `expected` is the number of points that the caller expects to read
    /// from here on; it sets the size of a batch.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn next(&mut self, snapshot: &mut Snapshot, expected: i64) -> Result<Option<Point>, Error> {
        if self.ready.is_empty() {
            self.read_batch(snapshot, expected.clamp(1, PAGE_SIZE)).await?;
        }
        let Some(change) = self.ready.pop_front() else { return Ok(None) };
        Ok(Some(compute(self.composition.len(), || self.point_of(change))))
    }

    /// Returns the point that a change began, and moves the cursor before it.
    fn point_of(&mut self, change: CompositionChange) -> Point {
        let composition = self.composition.clone();
        let changed: Vec<_> = change.lanes.iter().map(|(lane, _)| lane.clone()).collect();
        for ((service, target), before) in change.lanes {
            self.composition.set(service, target, before);
        }
        let until = self.next.replace(change.since.clone());
        let marked = self.marks.on(change.composition).cloned();
        let end = until.as_ref().map_or(self.now, |until| until.occurred_at);
        let none = CheckResults::default();
        let changed_lanes = lane_set(&changed);
        let lanes = composition.lanes().map(|(service, target, live)| CheckedLane {
            service,
            target,
            changed: changed_lanes.contains(&(service, target)),
            verdicts: self.lane_results.get(service, target, &live.release).unwrap_or(&none),
        });
        let evidence = Evidence {
            lanes: lanes.collect(),
            composition: self.composition_results.get(&change.composition).unwrap_or(&none),
            stood: end - change.since.occurred_at,
            stands: until.is_none(),
            marked: marked.as_ref(),
        };
        let judgement = judge(&self.policy, &evidence);
        Point {
            number: Some(change.number.cast_unsigned()),
            live_from: change.since.occurred_at,
            since: change.since,
            changed,
            until: until.map(|until| until.occurred_at),
            composition,
            judgement,
            marked,
        }
    }

    /// Reads the next batch of points, with the check results of their lanes and compositions.
    async fn read_batch(&mut self, snapshot: &mut Snapshot, size: i64) -> Result<(), Error> {
        if self.unread == 0 {
            return Ok(());
        }
        if self.composition_results.len() > MAX_CACHED_COMPOSITIONS {
            self.composition_results.clear();
            self.lane_results = CheckResultCache::default();
        }
        let down_to = (self.unread - size).max(0);
        let connection = snapshot.connection();
        let changes = composition_changes(connection, self.environment_id, down_to, self.unread).await?;
        self.unread = down_to;
        let mut ran: Vec<LaneRelease> = Vec::new();
        let mut add_missing =
            |cache: &CheckResultCache, service: &ServiceName, target: &TargetName, live: &LiveRelease| {
                if cache.get(service, target, &live.release).is_none() {
                    let release = live.release.clone();
                    ran.push(LaneRelease { service: service.clone(), target: target.clone(), release });
                }
            };
        for (service, target, live) in self.composition.lanes() {
            add_missing(&self.lane_results, service, target, live);
        }
        for ((service, target), live) in changes.iter().flat_map(|change| &change.lanes) {
            if let Some(live) = live {
                add_missing(&self.lane_results, service, target, live);
            }
        }
        let results = snapshot.verdicts(&self.environment, &ran, self.known_at).await?;
        for (ran, results) in ran.into_iter().zip(results) {
            self.lane_results.insert(ran, results);
        }
        let ids: BTreeSet<CompositionId> = changes.iter().map(|change| change.composition).collect();
        let ids: Vec<_> = ids.into_iter().filter(|id| !self.composition_results.contains_key(id)).collect();
        let found = snapshot.composition_verdicts(&self.environment, &ids, self.known_at).await?;
        self.composition_results.extend(ids.into_iter().map(|id| (id, CheckResults::default())));
        self.composition_results.extend(found);
        self.ready.extend(changes);
        Ok(())
    }
}

fn lane_set(lanes: &[(ServiceName, TargetName)]) -> BTreeSet<(&ServiceName, &TargetName)> {
    lanes.iter().map(|(service, target)| (service, target)).collect()
}
