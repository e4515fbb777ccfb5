//! Release points: what an environment ran after each change, and the status of that.
//!
//! A point is the change of the composition with its number, or a time. Its status is not stored: it is judged when
//! somebody asks, by what was known then.

use std::collections::{BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, Utc};
use ledger_domain::event::Policy;
use ledger_domain::known_good::{CheckResults, CheckedLane, Evidence, Judgement, Marked, Status, judge};
use ledger_domain::{
    Composition, CompositionId, EnvironmentName, LiveRelease, PointInTime, Position, ServiceName, Since,
    TargetName,
};

use crate::Snapshot;
use crate::postgres::{Error, bigint};
use crate::queries::marks::Marks;
use crate::queries::point_at_time::Stood;
use crate::tables::check_results::{CheckResultCache, LaneRelease};
use crate::tables::lanes::{AsOf, QueryError};
use crate::tables::live::{self, CompositionChange, composition_changes, first_change_after};

pub(crate) const STATEMENTS: &[&str] = &[RECORDED_AT];

const RECORDED_AT: &str =
    "SELECT recorded_at FROM events WHERE position <= $1 ORDER BY position DESC LIMIT 1";

/// How many points are read, and their lanes' checks looked up, at a time.
const STRIDE: i64 = 64;

/// By what a point is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsKnownAt {
    /// As known at this position; `None`: as known at the end of the ledger.
    pub known_at: Option<Position>,
    /// The time up to which a point that still stands has soaked.
    pub now: DateTime<Utc>,
}

/// A release point, with its status.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Which change of the environment's composition it is, counted from 1; `None` where a time named it.
    pub number: Option<u64>,
    /// The event that made the change; where a time named the point, the last one that shaped the composition.
    pub since: Since,
    /// The lanes with whose change it began.
    pub changed: Vec<(ServiceName, TargetName)>,
    /// When the composition began to stand.
    pub stood_from: DateTime<Utc>,
    /// When the next change of the composition occurred; `None` while it stands.
    pub until: Option<DateTime<Utc>>,
    /// What the environment ran.
    pub composition: Composition,
    /// Its status, and why.
    pub judgement: Judgement,
    /// The mark on its composition.
    pub marked: Option<Marked>,
}

/// A walk over an environment's points, the last first.
pub struct PointCursor {
    environment: EnvironmentName,
    environment_id: i32,
    known_at: Position,
    now: DateTime<Utc>,
    policy: Policy,
    marks: Marks,
    checked: CheckResultCache,
    /// The results for compositions that were looked up.
    of_compositions: HashMap<CompositionId, CheckResults>,
    /// What the environment ran at the next point to be told.
    composition: Composition,
    /// When and where the point after that one began.
    next: Option<Since>,
    /// Points that are read already, each with what its lane ran before.
    ready: VecDeque<CompositionChange>,
    /// The number of the last point that is not read yet.
    unread: i64,
}

impl Snapshot {
    /// A walk over the points of an environment back from the one that stood at a position, judged by the
    /// policy and the evidence that was known. Nothing where no event ever named the environment.
    ///
    /// # Errors
    /// There is no such position yet, or the database does not answer.
    pub async fn points(
        &mut self,
        environment: &EnvironmentName,
        from: Position,
        believed: AsKnownAt,
    ) -> Result<Option<PointCursor>, QueryError> {
        let projections = self.position();
        let known_at = believed.known_at.unwrap_or(projections);
        if let Some(asked) = [known_at, from].into_iter().find(|asked| *asked > projections) {
            return Err(QueryError::NotYet { asked, projections });
        }
        let Some(environment_id) = self.environment_id(environment).await? else { return Ok(None) };
        let now = believed.now;
        let from = from.min(known_at);
        let last = self.last_change(environment_id, from).await?;
        let next = composition_changes(self.connection(), environment_id, last, last + 1).await?;
        let next = next.into_iter().next().filter(|next| next.since.position <= known_at);
        let at = PointInTime::Position(from);
        let state = self.state(environment, AsOf { at, known_at: None }).await?;
        Ok(Some(PointCursor {
            environment: environment.clone(),
            environment_id,
            known_at,
            now,
            policy: self.policy(environment, known_at).await?.policy,
            marks: self.marks(environment, known_at).await?,
            checked: CheckResultCache::default(),
            of_compositions: HashMap::new(),
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

    /// Returns the position of the change of an environment's composition that is so many changes before the last one, as known
    /// at a position; [`Position::START`] where it had not begun.
    ///
    /// # Errors
    /// There are not so many, or the database does not answer.
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
            return Err(QueryError::NoSuchChange { environment, asked: ago, changes: last.cast_unsigned() });
        };
        let changes = composition_changes(self.connection(), id, number - 1, number).await?;
        Ok(changes.first().map_or(Position::START, |change| change.since.position))
    }

    /// Returns the number of an environment's first change of composition that occurred after a time, as known now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn first_change_after(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
    ) -> Result<Option<u64>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let found = first_change_after(self.connection(), id, time).await?;
        Ok(found.map(i64::cast_unsigned))
    }

    /// Returns what an environment ran at a time, as known at a position, as a point of its own: whether it was ever recorded as a
    /// change or not. `None` where nothing had occurred by then.
    ///
    /// # Errors
    /// There is no such environment or position, or the database does not answer.
    pub async fn point_at(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
        believed: AsKnownAt,
    ) -> Result<Option<Point>, QueryError> {
        let known_at = believed.known_at.unwrap_or(self.position());
        let when = AsOf { at: PointInTime::Time(time), known_at: Some(known_at) };
        let state = self.state(environment, when).await?;
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let composition = state.composition();
        let Stood { from, until, since, changed } =
            self.stood(environment, id, time, known_at, &composition).await?;
        // Of a change whose event cannot be told, the last one before it is named.
        let last = state.lanes.iter().flat_map(|lane| lane.fold.changes());
        let last = last.map(|(_, written)| &written.since).filter(|since| since.occurred_at <= from);
        let last = last.max_by(|one, other| one.order(other)).cloned();
        let Some(since) = since.or(last) else { return Ok(None) };
        let now = believed.now;
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
        let of_composition = self.composition_verdicts(environment, &[id], known_at).await?.remove(&id);
        let policy = self.policy(environment, known_at).await?.policy;
        let marked = self.marks(environment, known_at).await?.on(id).cloned();
        let lanes = ran.iter().zip(&results).map(|(ran, verdicts)| CheckedLane {
            service: &ran.service,
            target: &ran.target,
            changed: changed.iter().any(|lane| (&lane.0, &lane.1) == (&ran.service, &ran.target)),
            verdicts,
        });
        let none = CheckResults::default();
        let evidence = Evidence {
            lanes: lanes.collect(),
            composition: of_composition.as_ref().unwrap_or(&none),
            stood: until.unwrap_or(now) - from,
            stands: until.is_none(),
            marked: marked.as_ref(),
        };
        let judgement = judge(&policy, &evidence);
        Ok(Some(Point {
            number: None,
            since,
            changed,
            stood_from: from,
            until,
            composition,
            judgement,
            marked,
        }))
    }

    /// Returns by what a question is judged that is asked as known at a position, if one is given: then the time is that at which
    /// the position's entry was recorded.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn believed(
        &mut self,
        known_at: Option<Position>,
        now: DateTime<Utc>,
    ) -> Result<AsKnownAt, Error> {
        let Some(position) = known_at else { return Ok(AsKnownAt { known_at, now }) };
        let query = sqlx::query_scalar(RECORDED_AT).bind(bigint(position));
        let now = query.fetch_optional(self.connection()).await?.unwrap_or(now);
        Ok(AsKnownAt { known_at, now })
    }

    /// The point that an environment was at, at a position.
    ///
    /// # Errors
    /// There is no such position yet, or the database does not answer.
    pub async fn point(
        &mut self,
        environment: &EnvironmentName,
        at: Position,
        believed: AsKnownAt,
    ) -> Result<Option<Point>, QueryError> {
        match self.points(environment, at, believed).await? {
            Some(mut walk) => Ok(walk.next(self, 1).await?),
            None => Ok(None),
        }
    }

    /// The last known-good point of an environment up to a position.
    ///
    /// # Errors
    /// There is no such position yet, or the database does not answer.
    pub async fn last_known_good(
        &mut self,
        environment: &EnvironmentName,
        up_to: Position,
        believed: AsKnownAt,
    ) -> Result<Option<Point>, QueryError> {
        let Some(mut walk) = self.points(environment, up_to, believed).await? else { return Ok(None) };
        while let Some(point) = walk.next(self, STRIDE).await? {
            if point.judgement.status == Status::KnownGood {
                return Ok(Some(point));
            }
        }
        Ok(None)
    }
}

impl PointCursor {
    /// The next point back, if there is one. About so many more are expected to be asked for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn next(&mut self, snapshot: &mut Snapshot, expected: i64) -> Result<Option<Point>, Error> {
        if self.ready.is_empty() {
            self.read(snapshot, expected.clamp(1, STRIDE)).await?;
        }
        let Some(change) = self.ready.pop_front() else { return Ok(None) };
        let composition = self.composition.clone();
        let changed: BTreeSet<_> = change.lanes.iter().map(|(lane, _)| lane.clone()).collect();
        for ((service, target), before) in change.lanes {
            self.composition.set(service, target, before);
        }
        let until = self.next.replace(change.since.clone());
        let marked = self.marks.on(change.composition).cloned();
        let ends = until.as_ref().map_or(self.now, |until| until.occurred_at);
        let none = CheckResults::default();
        let lanes = composition.lanes().map(|(service, target, live)| CheckedLane {
            service,
            target,
            changed: changed.iter().any(|lane| (&lane.0, &lane.1) == (service, target)),
            verdicts: self.checked.of(service, target, &live.release).unwrap_or(&none),
        });
        let evidence = Evidence {
            lanes: lanes.collect(),
            composition: self.of_compositions.get(&change.composition).unwrap_or(&none),
            stood: ends - change.since.occurred_at,
            stands: until.is_none(),
            marked: marked.as_ref(),
        };
        let judgement = judge(&self.policy, &evidence);
        Ok(Some(Point {
            number: Some(change.number.cast_unsigned()),
            stood_from: change.since.occurred_at,
            since: change.since,
            changed: changed.into_iter().collect(),
            until: until.map(|until| until.occurred_at),
            composition,
            judgement,
            marked,
        }))
    }

    /// Reads some more points, and looks up the checks of all that they ran.
    async fn read(&mut self, snapshot: &mut Snapshot, stride: i64) -> Result<(), Error> {
        if self.unread == 0 {
            return Ok(());
        }
        let down_to = (self.unread - stride).max(0);
        let connection = snapshot.connection();
        let changes = composition_changes(connection, self.environment_id, down_to, self.unread).await?;
        self.unread = down_to;
        let mut ran: Vec<LaneRelease> = Vec::new();
        let mut need =
            |checked: &CheckResultCache, service: &ServiceName, target: &TargetName, live: &LiveRelease| {
                if checked.of(service, target, &live.release).is_none() {
                    let release = live.release.clone();
                    ran.push(LaneRelease { service: service.clone(), target: target.clone(), release });
                }
            };
        for (service, target, live) in self.composition.lanes() {
            need(&self.checked, service, target, live);
        }
        for ((service, target), live) in changes.iter().flat_map(|change| &change.lanes) {
            if let Some(live) = live {
                need(&self.checked, service, target, live);
            }
        }
        let verdicts = snapshot.verdicts(&self.environment, &ran, self.known_at).await?;
        for (ran, verdicts) in ran.into_iter().zip(verdicts) {
            self.checked.insert(ran, verdicts);
        }
        let ids: BTreeSet<CompositionId> = changes.iter().map(|change| change.composition).collect();
        let ids: Vec<_> = ids.into_iter().filter(|id| !self.of_compositions.contains_key(id)).collect();
        let found = snapshot.composition_verdicts(&self.environment, &ids, self.known_at).await?;
        self.of_compositions.extend(ids.into_iter().map(|id| (id, CheckResults::default())));
        self.of_compositions.extend(found);
        self.ready.extend(changes);
        Ok(())
    }
}
