//! Release points: what an environment ran after each change, and what is thought of it.
//!
//! A point is never stored: it is the change of the composition with its number, and the composition is read
//! off the lanes. What is thought of it is judged when somebody asks, by what was known then.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use ledger_domain::event::Policy;
use ledger_domain::gate::Proving;
use ledger_domain::known_good::{CheckedLane, Evidence, Judgement, Marked, Status, Verdicts, judge};
use ledger_domain::{
    Anchor, Composition, EnvironmentName, EventId, LaneFold, Live, Position, Release, ServiceName, Since,
    TargetName,
};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::database::{Error, bigint, parsed, position};
use crate::lanes::{AskError, KeptRow, When, written};
use crate::marks::Marks;
use crate::verdicts::{Checked, Ran, longest_run};

pub(crate) const STATEMENTS: &[&str] =
    &[LAST_BEFORE, LAST_UNTIL, FIRST_AFTER, CHANGES, BEFORE, RECORDED_AT, DEPLOYS];

/// The number of the last change of the composition up to a position: a search by halves, since numbers and
/// positions rise together.
const LAST_BEFORE: &str = "WITH RECURSIVE search AS (
        SELECT environment_id, 0::bigint AS low, changes AS high FROM environments WHERE environment_id = $1
        UNION ALL
        SELECT s.environment_id,
            CASE WHEN c.position <= $2 THEN m.middle ELSE s.low END,
            CASE WHEN c.position <= $2 THEN s.high ELSE m.middle - 1 END
        FROM search s
        CROSS JOIN LATERAL (SELECT (s.low + s.high + 1) / 2 AS middle) m
        JOIN lane_changes c ON c.environment_id = s.environment_id AND c.change_number = m.middle
        WHERE s.low < s.high
    )
    SELECT low FROM search WHERE low = high";

/// The position of the last change of the composition before any that occurred after a time: a change that
/// was reported late does not bring back what came between.
const LAST_UNTIL: &str = "SELECT c.position FROM lane_changes c
    WHERE c.environment_id = $1 AND c.change_number = coalesce(
        (SELECT min(change_number) - 1 FROM lane_changes
            WHERE environment_id = $1 AND change_number IS NOT NULL AND occurred_at > $2),
        (SELECT changes FROM environments WHERE environment_id = $1)
    )";

/// The first change of the composition that occurred after a time. Reports that came late are out of the order
/// of times, so that none can be passed over.
const FIRST_AFTER: &str = "SELECT min(change_number) FROM lane_changes
    WHERE environment_id = $1 AND change_number IS NOT NULL AND occurred_at > $2";

/// The last deploys of a version of a service, and the next change of the track of each.
const DEPLOYS: &str = concat!(
    "SELECT t.target, n.position AS until_position, t.slot, ",
    written!("c"),
    "
    FROM tracks t
    JOIN lane_changes c ON c.track_id = t.track_id AND c.version = $3 AND NOT c.late
    LEFT JOIN LATERAL (
        SELECT n.position FROM lane_changes n
        WHERE n.track_id = c.track_id AND NOT n.late AND n.position > c.position
        ORDER BY n.position LIMIT 1
    ) n ON true
    WHERE t.environment_id = $1 AND t.service = $2
    ORDER BY c.position DESC LIMIT 20"
);

/// Changes of the composition, the last first.
const CHANGES: &str = "SELECT c.change_number, c.position, c.occurred_at, c.event_id, t.service, t.target
    FROM lane_changes c JOIN tracks t USING (track_id)
    WHERE c.environment_id = $1 AND c.change_number > $2 AND c.change_number <= $3
    ORDER BY c.change_number DESC";

/// What the tracks of lanes kept before a position.
const BEFORE: &str = concat!(
    "SELECT l.index, t.slot, ",
    written!("w"),
    "
    FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY l (service, target, position, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = l.service AND t.target = l.target
    CROSS JOIN LATERAL (
        SELECT * FROM lane_changes c
        WHERE c.track_id = t.track_id AND NOT c.late AND c.position < l.position
        ORDER BY c.position DESC LIMIT 1
    ) w"
);

const RECORDED_AT: &str =
    "SELECT recorded_at FROM events WHERE position <= $1 ORDER BY position DESC LIMIT 1";

/// How many points are read, and their lanes' checks looked up, at a time.
const STRIDE: i64 = 64;

/// By what a point is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// As known at this position; `None`: as known at the end of the ledger.
    pub known_at: Option<Position>,
    /// The time now, up to which a point that still stands has soaked; when `known_at` is given, the time at
    /// which its entry was recorded is taken instead.
    pub now: DateTime<Utc>,
}

/// A release point, with what is thought of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Which change of the environment's composition it is, counted from 1.
    pub number: u64,
    /// The event that made the change.
    pub since: Since,
    /// The lane that changed.
    pub changed: (ServiceName, TargetName),
    /// When the next change of the composition occurred; `None` while it stands.
    pub until: Option<DateTime<Utc>>,
    /// What the environment ran.
    pub composition: Composition,
    /// What is thought of it.
    pub judgement: Judgement,
    /// A person's word on it.
    pub marked: Option<Marked>,
}

#[derive(sqlx::FromRow)]
struct ChangeRow {
    change_number: i64,
    position: i64,
    occurred_at: DateTime<Utc>,
    event_id: String,
    service: String,
    target: String,
}

#[derive(sqlx::FromRow)]
struct DeployRow {
    target: String,
    until_position: Option<i64>,
    #[sqlx(flatten)]
    kept: KeptRow,
}

#[derive(sqlx::FromRow)]
struct BeforeRow {
    index: i64,
    #[sqlx(flatten)]
    kept: KeptRow,
}

/// A change of the composition, as a walk needs it.
#[derive(Debug, Clone)]
struct ChangedLane {
    number: i64,
    since: Since,
    lane: (ServiceName, TargetName),
}

impl ChangeRow {
    fn parse(&self) -> Result<ChangedLane, Error> {
        parsed("lane_changes", self.position, || {
            Ok::<_, Box<dyn std::error::Error>>(ChangedLane {
                number: self.change_number,
                since: Since {
                    occurred_at: self.occurred_at,
                    position: position(self.position),
                    event_id: EventId::parse(&self.event_id)?,
                },
                lane: (ServiceName::parse(&self.service)?, TargetName::parse(&self.target)?),
            })
        })
    }
}

/// A walk over an environment's points, the last first.
pub struct Walk {
    environment: EnvironmentName,
    environment_id: i32,
    known_at: Position,
    now: DateTime<Utc>,
    policy: Policy,
    marks: Marks,
    checked: Checked,
    /// What the environment ran at the next point to be told.
    composition: Composition,
    /// When and where the point after that one began.
    next: Option<Since>,
    /// Points that are read already, each with what its lane ran before.
    ready: VecDeque<(ChangedLane, Option<Live>)>,
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
        believed: Believed,
    ) -> Result<Option<Walk>, AskError> {
        let views = self.position();
        let known_at = believed.known_at.unwrap_or(views);
        if let Some(asked) = [known_at, from].into_iter().find(|asked| *asked > views) {
            return Err(AskError::NotYet { asked, views });
        }
        let Some(environment_id) = self.environment_id(environment).await? else { return Ok(None) };
        let now = match believed.known_at {
            None => believed.now,
            Some(known_at) => {
                let query = sqlx::query_scalar(RECORDED_AT).bind(bigint(known_at));
                query.fetch_optional(self.connection()).await?.unwrap_or(believed.now)
            }
        };
        let from = from.min(known_at);
        let last = self.last_change(environment_id, from).await?;
        let next = change_rows(self.connection(), environment_id, last, last + 1).await?;
        let next = next.into_iter().next().filter(|next| next.since.position <= known_at);
        let at = Anchor::Position(from);
        let state = self.state(environment, When { at, known_at: None }).await?;
        Ok(Some(Walk {
            environment: environment.clone(),
            environment_id,
            known_at,
            now,
            policy: self.policy(environment, known_at).await?.policy,
            marks: self.marks(environment, known_at).await?,
            checked: Checked::default(),
            composition: state.composition(),
            next: next.map(|next| next.since),
            ready: VecDeque::new(),
            unread: last,
        }))
    }

    /// The number of the last change of an environment's composition up to a position; 0 if there is none.
    pub(crate) async fn last_change(&mut self, environment_id: i32, at: Position) -> Result<i64, Error> {
        let query = sqlx::query_scalar(LAST_BEFORE).bind(environment_id).bind(bigint(at));
        Ok(query.fetch_optional(self.connection()).await?.unwrap_or(0))
    }

    /// The position of an environment's last change of composition before any that occurred after a time.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn position_at(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
    ) -> Result<Option<Position>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let query = sqlx::query_scalar(LAST_UNTIL).bind(id).bind(time);
        let found: Option<i64> = query.fetch_optional(self.connection()).await?;
        Ok(found.map(position))
    }

    /// The number of an environment's first change of composition that occurred after a time, as known now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn first_change_after(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
    ) -> Result<Option<u64>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let query = sqlx::query_scalar(FIRST_AFTER).bind(id).bind(time);
        let found: Option<i64> = query.fetch_one(self.connection()).await?;
        Ok(found.map(i64::cast_unsigned))
    }

    /// How a release fared in an environment, in the lanes of its service alone. The same version with the same
    /// artifact is meant, as far as both are known: configuration differs from environment to environment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn proving(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        asked: &Release,
        now: DateTime<Utc>,
    ) -> Result<Proving, Error> {
        let mut proving = Proving { environment: environment.clone(), status: None, position: None };
        let Some(id) = self.environment_id(environment).await? else { return Ok(proving) };
        let query = sqlx::query_as(DEPLOYS).bind(id).bind(service.as_str()).bind(asked.version.as_str());
        let rows: Vec<DeployRow> = query.fetch_all(self.connection()).await?;
        let known_at = self.position();
        let policy = self.policy(environment, known_at).await?.policy;
        let marks = self.marks(environment, known_at).await?;
        for row in rows {
            let Some((release, since)) = row.kept.deployed()? else { continue };
            if release.artifact.is_some() && asked.artifact.is_some() && release.artifact != asked.artifact {
                continue;
            }
            let target = parsed("tracks", since.position, || TargetName::parse(&row.target))?;
            let ran = [Ran { service: service.clone(), target: target.clone(), release }];
            // What only stood in a slot was not tried.
            let Some(stood) = longest_run(self.connection(), id, &ran, known_at, now).await? else {
                continue;
            };
            let verdicts = self.verdicts(environment, &ran, known_at).await?;
            let verdicts = verdicts.into_iter().next().unwrap_or_default();
            let evidence = Evidence {
                lanes: vec![CheckedLane { service, target: &target, changed: true, verdicts: &verdicts }],
                stood,
                stands: row.until_position.is_none(),
                marked: marks.on(since.position, row.until_position.map(position)),
            };
            let status = judge(&policy, &evidence).status;
            if proving.status.is_none() || status == Status::KnownGood {
                proving.status = Some(status);
                proving.position = Some(since.position);
            }
            if status == Status::KnownGood {
                break;
            }
        }
        Ok(proving)
    }

    /// The point that an environment was at, at a position.
    ///
    /// # Errors
    /// There is no such position yet, or the database does not answer.
    pub async fn point(
        &mut self,
        environment: &EnvironmentName,
        at: Position,
        believed: Believed,
    ) -> Result<Option<Point>, AskError> {
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
        believed: Believed,
    ) -> Result<Option<Point>, AskError> {
        let Some(mut walk) = self.points(environment, up_to, believed).await? else { return Ok(None) };
        while let Some(point) = walk.next(self, STRIDE).await? {
            if point.judgement.status == Status::KnownGood {
                return Ok(Some(point));
            }
        }
        Ok(None)
    }
}

impl Walk {
    /// The next point back, if there is one. About so many more are expected to be asked for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn next(&mut self, snapshot: &mut Snapshot, expected: i64) -> Result<Option<Point>, Error> {
        if self.ready.is_empty() {
            self.read(snapshot, expected.clamp(1, STRIDE)).await?;
        }
        let Some((changed, before)) = self.ready.pop_front() else { return Ok(None) };
        let composition = self.composition.clone();
        let (service, target) = changed.lane.clone();
        self.composition.set(service, target, before);
        let until = self.next.replace(changed.since.clone());
        let marked =
            self.marks.on(changed.since.position, until.as_ref().map(|until| until.position)).cloned();
        let ends = until.as_ref().map_or(self.now, |until| until.occurred_at);
        let none = Verdicts::default();
        let lanes = composition.lanes().map(|(service, target, live)| CheckedLane {
            service,
            target,
            changed: (service, target) == (&changed.lane.0, &changed.lane.1),
            verdicts: self.checked.of(service, target, &live.release).unwrap_or(&none),
        });
        let evidence = Evidence {
            lanes: lanes.collect(),
            stood: ends - changed.since.occurred_at,
            stands: until.is_none(),
            marked: marked.as_ref(),
        };
        let judgement = judge(&self.policy, &evidence);
        Ok(Some(Point {
            number: changed.number.cast_unsigned(),
            since: changed.since,
            changed: changed.lane,
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
        let changes = change_rows(snapshot.connection(), self.environment_id, down_to, self.unread).await?;
        let before = before(snapshot.connection(), self.environment_id, &changes).await?;
        self.unread = down_to;
        let mut ran: Vec<Ran> = Vec::new();
        let mut need = |checked: &Checked, service: &ServiceName, target: &TargetName, live: &Live| {
            if checked.of(service, target, &live.release).is_none() {
                let release = live.release.clone();
                ran.push(Ran { service: service.clone(), target: target.clone(), release });
            }
        };
        for (service, target, live) in self.composition.lanes() {
            need(&self.checked, service, target, live);
        }
        for (change, live) in changes.iter().zip(&before) {
            if let Some(live) = live {
                need(&self.checked, &change.lane.0, &change.lane.1, live);
            }
        }
        let verdicts = snapshot.verdicts(&self.environment, &ran, self.known_at).await?;
        for (ran, verdicts) in ran.into_iter().zip(verdicts) {
            self.checked.insert(ran, verdicts);
        }
        self.ready.extend(changes.into_iter().zip(before));
        Ok(())
    }
}

async fn change_rows(
    connection: &mut PgConnection,
    environment_id: i32,
    after: i64,
    up_to: i64,
) -> Result<Vec<ChangedLane>, Error> {
    let query = sqlx::query_as(CHANGES).bind(environment_id).bind(after).bind(up_to);
    let rows: Vec<ChangeRow> = query.fetch_all(connection).await?;
    rows.iter().map(ChangeRow::parse).collect()
}

/// What the lane of each change ran before it.
async fn before(
    connection: &mut PgConnection,
    environment_id: i32,
    changes: &[ChangedLane],
) -> Result<Vec<Option<Live>>, Error> {
    let query = sqlx::query_as(BEFORE)
        .bind(environment_id)
        .bind(changes.iter().map(|change| change.lane.0.to_string()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.lane.1.to_string()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| bigint(change.since.position)).collect::<Vec<_>>());
    let rows: Vec<BeforeRow> = query.fetch_all(connection).await?;
    let mut folds = vec![LaneFold::default(); changes.len()];
    for row in &rows {
        let index = usize::try_from(row.index).ok().and_then(|index| index.checked_sub(1));
        if let Some(fold) = index.and_then(|index| folds.get_mut(index)) {
            row.kept.write_to(fold)?;
        }
    }
    Ok(folds.iter().map(|fold| fold.live().map(Live::to_owned)).collect())
}
