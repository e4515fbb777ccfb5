//! What every lane runs, now and at any point in the past.
//!
//! A change is *late* when its track already had one that occurred later. The changes of a track that
//! are not late rise in position and in time together, so that the state at a position is one index
//! look-up a track. The state at a time, as known at a position, begins its look-up at the earlier of
//! that time and the change that was known then; it passes over nothing but reports that came late.
//!
//! That suffices for regular lanes. Where a switch waited for its slot's deploy or went to an empty one, where a lane
//! with slots was removed, and where an event was corrected, the whole history of the lane is read.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ledger_domain::retirement::Standing;
use ledger_domain::{
    Artifact, Composition, ConfigDigest, Effect, EnvironmentName, EventId, Lane, LaneFold, Lanes, NameError,
    PointInTime, Position, Release, ServiceName, ShortText, Since, SlotName, TargetName, Track, TrackEntry,
};
use sqlx::PgConnection;

use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::retirements::retirements;
use crate::{Projections, Snapshot};

mod rows;

use self::rows::{
    CORRECT, LOAD, LOAD_IRREGULAR, LOAD_REMOVALS, LOAD_SLOTTED, WRITE, WRITE_CHANGES, WRITE_IRREGULAR,
};
pub(crate) use self::rows::{
    IrregularRows, LaneChangeRows, LoadedTrack, TrackRows, correct, load_irregular, load_removals,
    load_slotted, load_tracks,
};

pub(crate) const STATEMENTS: &[&str] = &[
    PRESENT,
    AT_POSITION,
    AT_TIME,
    CHANGE,
    HISTORY,
    LOAD,
    LOAD_SLOTTED,
    LOAD_IRREGULAR,
    LOAD_REMOVALS,
    WRITE_CHANGES,
    WRITE,
    WRITE_IRREGULAR,
    CORRECT,
];

macro_rules! written {
    ($table:literal) => {
        concat!(
            $table,
            ".position, ",
            $table,
            ".occurred_at, ",
            $table,
            ".event_id, ",
            $table,
            ".switched_to, ",
            $table,
            ".version, ",
            $table,
            ".artifact, ",
            $table,
            ".config, ",
            $table,
            ".infrastructure, ",
            $table,
            ".commit"
        )
    };
}

use written;

const PRESENT: &str = concat!(
    "SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
        i.position IS NOT NULL AS irregular, t.late_position, ",
    written!("t"),
    "
    FROM projection p
    LEFT JOIN environments e ON e.name = $1
    LEFT JOIN tracks t ON t.environment_id = e.environment_id
    LEFT JOIN irregular_lanes i
        ON i.environment_id = t.environment_id AND i.service = t.service AND i.target = t.target"
);

const AT_POSITION: &str = concat!(
    "SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
        i.position IS NOT NULL AS irregular, NULL::bigint AS late_position, ",
    written!("c"),
    "
    FROM projection p
    LEFT JOIN environments e ON e.name = $1
    LEFT JOIN tracks t ON t.environment_id = e.environment_id
    LEFT JOIN irregular_lanes i
        ON i.environment_id = t.environment_id AND i.service = t.service AND i.target = t.target
    LEFT JOIN LATERAL (
        SELECT * FROM lane_changes c
        WHERE c.track_id = t.track_id AND NOT c.late AND c.position <= $2
        ORDER BY c.position DESC LIMIT 1
    ) c ON true"
);

const AT_TIME: &str = concat!(
    "SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
        i.position IS NOT NULL AS irregular, NULL::bigint AS late_position, ",
    written!("c"),
    "
    FROM projection p
    LEFT JOIN environments e ON e.name = $1
    LEFT JOIN tracks t ON t.environment_id = e.environment_id
    LEFT JOIN irregular_lanes i
        ON i.environment_id = t.environment_id AND i.service = t.service AND i.target = t.target
    LEFT JOIN LATERAL (
        SELECT c.occurred_at FROM lane_changes c
        WHERE c.track_id = t.track_id AND NOT c.late AND c.position <= $2
        ORDER BY c.position DESC LIMIT 1
    ) known ON true
    LEFT JOIN LATERAL (
        SELECT * FROM lane_changes c
        WHERE c.track_id = t.track_id AND c.occurred_at <= LEAST($3, known.occurred_at) AND c.position <= $2
            AND known.occurred_at IS NOT NULL
        ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
    ) c ON true"
);

const CHANGE: &str = "SELECT p.position, e.changes, c.position
    FROM projection p
    LEFT JOIN environments e ON e.name = $1
    LEFT JOIN LATERAL (
        SELECT l.position FROM live_changes l
        WHERE l.environment_id = e.environment_id AND l.number = e.changes - $2 LIMIT 1
    ) c ON true";

/// All changes of some lanes that had effect at a position, up to a time.
const HISTORY: &str = concat!(
    "SELECT l.index, t.slot, ",
    written!("c"),
    "
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY l (service, target, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = l.service AND t.target = l.target
    JOIN lane_changes c ON c.track_id = t.track_id AND c.position <= $4 AND c.occurred_at <= $5
        AND (c.corrected_position IS NULL OR c.corrected_position > $4)"
);

/// Which state of an environment is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The point.
    pub at: PointInTime,
    /// As known at this position; `None`: as known at the end of the ledger. It goes with a time,
    /// or with `latest`.
    pub known_at: Option<Position>,
}

impl AsOf {
    /// Now, as known now.
    pub const LATEST: Self = Self { at: PointInTime::Latest, known_at: None };

    /// At a position, and as known there.
    #[must_use]
    pub const fn position(position: Position) -> Self {
        Self { at: PointInTime::Position(position), known_at: None }
    }
}

/// What an environment ran at some point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentState {
    /// The position that the answer is true for: the entries up to it are what it is made from.
    pub position: Position,
    /// The point that was asked for: `latest`, a position, or a time.
    pub at: PointInTime,
    /// The lanes, by service and target; also those that run nothing.
    pub lanes: Vec<LaneState>,
}

/// One lane at some point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: TargetName,
    /// What was written to its tracks.
    pub fold: LaneFold,
    /// The position of the last report that was recorded since its last change and occurred before it: what it says is
    /// hidden. Of the latest state only.
    pub late_report: Option<Position>,
}

impl EnvironmentState {
    /// The lanes, by service and target.
    #[must_use]
    pub fn into_lanes(self) -> Lanes {
        self.lanes.into_iter().map(|lane| ((lane.service, lane.target), lane.fold)).collect()
    }

    /// What ran.
    #[must_use]
    pub fn composition(&self) -> Composition {
        self.lanes
            .iter()
            .filter_map(|lane| {
                let live = lane.fold.live()?.to_owned();
                Some(((lane.service.clone(), lane.target.clone()), live))
            })
            .collect()
    }
}

/// Why a state cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No event ever named the environment.
    #[error("no event has ever named the environment {0}")]
    UnknownEnvironment(EnvironmentName),
    /// The projections are not there yet.
    #[error("position {asked} is asked for, and the projections are at {projections}")]
    NotYet {
        /// The position that was asked for.
        asked: Position,
        /// The position of the projections.
        projections: Position,
    },
    /// The composition has not changed so often.
    #[error("-{asked} is asked for, and the composition of {environment} has changed {changes} times")]
    NoSuchChange {
        /// The environment.
        environment: EnvironmentName,
        /// Changes ago.
        asked: u64,
        /// Changes in all.
        changes: u64,
    },
    /// A position, or a number of changes, says by itself what was known.
    #[error("known_at goes with a time or with latest, not with {0}")]
    KnownAlready(PointInTime),
    /// The database does not answer.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<sqlx::Error> for QueryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

#[derive(sqlx::FromRow)]
struct StateRow {
    projections_position: i64,
    environment_id: Option<i32>,
    service: Option<String>,
    target: Option<String>,
    irregular: bool,
    late_position: Option<i64>,
    #[sqlx(flatten)]
    kept: LaneTrackRow,
}

#[derive(sqlx::FromRow)]
struct HistoryRow {
    index: i64,
    #[sqlx(flatten)]
    kept: LaneTrackRow,
}

/// A track of a lane, with the change that it keeps.
#[derive(sqlx::FromRow)]
pub(crate) struct LaneTrackRow {
    slot: Option<String>,
    #[sqlx(flatten)]
    written: WrittenRow,
}

impl LaneTrackRow {
    /// Has a lane's fold keep the change too.
    pub(crate) fn write_to(&self, fold: &mut LaneFold) -> Result<(), Error> {
        parsed("lane_changes", format!("{:?}", self.written.position), || {
            if let Some(written) = self.written.parse()? {
                fold.insert(track(self.slot.as_deref())?, written);
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
    }
}

/// The change that a track keeps; all null where it had none.
#[derive(sqlx::FromRow)]
struct WrittenRow {
    position: Option<i64>,
    occurred_at: Option<DateTime<Utc>>,
    event_id: Option<String>,
    switched_to: Option<String>,
    version: Option<String>,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

impl WrittenRow {
    fn parse(&self) -> Result<Option<TrackEntry>, Box<dyn std::error::Error>> {
        let (Some(at), Some(occurred_at), Some(event_id)) = (self.position, self.occurred_at, &self.event_id)
        else {
            return Ok(None);
        };
        let effect = match (&self.switched_to, &self.version) {
            (Some(slot), _) => Effect::SwitchedTo(SlotName::parse(slot)?),
            (None, None) => Effect::Removed,
            (None, Some(version)) => {
                let parts = [&self.artifact, &self.config, &self.infrastructure, &self.commit];
                Effect::Deployed(release(version, parts)?)
            }
        };
        let since = Since { occurred_at, position: position(at), event_id: EventId::stored(event_id)? };
        Ok(Some(TrackEntry { effect, since }))
    }
}

/// A release as its columns tell it: version, and artifact, config, infrastructure, commit.
pub(crate) fn release(
    version: &str,
    parts: [&Option<String>; 4],
) -> Result<Release, Box<dyn std::error::Error>> {
    let [artifact, config, infrastructure, commit] = parts.map(Option::as_deref);
    Ok(Release {
        version: ShortText::stored(version)?,
        artifact: artifact.map(Artifact::stored).transpose()?,
        config: config.map(ConfigDigest::parse).transpose()?,
        infrastructure: infrastructure.map(ShortText::stored).transpose()?,
        commit: commit.map(ShortText::stored).transpose()?,
    })
}

/// The columns that tell of a release what its version does not: artifact, config, infrastructure, commit.
pub(crate) fn told(release: Option<&Release>) -> [Option<String>; 4] {
    let parts = release.map_or([""; 5], Release::parts);
    let [_, rest @ ..] = parts.map(|part| (!part.is_empty()).then(|| part.to_owned()));
    rest
}

fn track(slot: Option<&str>) -> Result<Track, NameError> {
    slot.map_or(Ok(Track::Traffic), |slot| SlotName::parse(slot).map(Track::Slot))
}

impl Projections {
    /// What an environment ran at some point.
    ///
    /// # Errors
    /// There is no such point, or the database does not answer.
    pub async fn state(
        &self,
        environment: &EnvironmentName,
        when: AsOf,
    ) -> Result<EnvironmentState, QueryError> {
        let mut connection = self.pool()?.acquire().await?;
        state(&mut connection, environment, when).await
    }

    /// Two states of one snapshot: what `latest` and `-N` mean does not move between them.
    ///
    /// # Errors
    /// There is no such point, or the database does not answer.
    pub async fn two_states(
        &self,
        first: (&EnvironmentName, AsOf),
        second: (&EnvironmentName, AsOf),
    ) -> Result<(EnvironmentState, EnvironmentState), QueryError> {
        let mut snapshot = self.snapshot().await?;
        Ok((snapshot.state(first.0, first.1).await?, snapshot.state(second.0, second.1).await?))
    }
}

impl Snapshot {
    /// What an environment ran at some point.
    ///
    /// # Errors
    /// There is no such point, or the database does not answer.
    pub async fn state(
        &mut self,
        environment: &EnvironmentName,
        when: AsOf,
    ) -> Result<EnvironmentState, QueryError> {
        state(self.connection(), environment, when).await
    }
}

async fn state(
    connection: &mut PgConnection,
    environment: &EnvironmentName,
    when: AsOf,
) -> Result<EnvironmentState, QueryError> {
    let (at, known_at) = match (when.at, when.known_at) {
        (PointInTime::ChangesAgo(changes), None) => {
            (PointInTime::Position(change(connection, environment, changes).await?), None)
        }
        (at @ (PointInTime::Position(_) | PointInTime::ChangesAgo(_)), Some(_)) => {
            return Err(QueryError::KnownAlready(at));
        }
        (at, known_at) => (at, known_at),
    };
    let query = match (at, known_at) {
        (PointInTime::Latest, None) => sqlx::query_as(PRESENT).bind(environment.as_str()),
        (PointInTime::Time(time), known_at) => sqlx::query_as(AT_TIME)
            .bind(environment.as_str())
            .bind(known_at.map_or(i64::MAX, bigint))
            .bind(time),
        (PointInTime::Position(position), _) | (_, Some(position)) => {
            sqlx::query_as(AT_POSITION).bind(environment.as_str()).bind(bigint(position))
        }
        (PointInTime::ChangesAgo(_), None) => return Err(QueryError::KnownAlready(at)),
    };
    let rows: Vec<StateRow> = query.fetch_all(&mut *connection).await?;
    let projections = rows.first().map_or(Position::START, |row| position(row.projections_position));
    let asked = match at {
        PointInTime::Position(position) => position,
        _ => known_at.unwrap_or(projections),
    };
    if asked > projections {
        return Err(QueryError::NotYet { asked, projections });
    }
    let Some(id) = rows.iter().find_map(|row| row.environment_id) else {
        return Err(QueryError::UnknownEnvironment(environment.clone()));
    };
    let time = match at {
        PointInTime::Time(time) => time,
        _ => far_future(),
    };
    let mut folds = lanes(&rows)?;
    let late = late_reports(&rows)?;
    let irregular: Vec<(ServiceName, TargetName)> = irregular(&rows)?;
    if !irregular.is_empty() {
        let histories = histories(connection, id, &irregular, asked, time).await?;
        for (lane, fold) in irregular.into_iter().zip(histories) {
            match fold.changes().is_empty() {
                true => folds.remove(&lane),
                false => folds.insert(lane, fold),
            };
        }
    }
    let standing = retirements(connection, id, asked).await?.at(time);
    let lanes = folds.into_iter().filter_map(|((service, target), fold)| {
        let fold = match standing {
            Standing::Retired(_) => return None,
            Standing::Open(None) => fold,
            Standing::Open(Some(until)) => fold.after(until),
        };
        let late_report = late.get(&(service.clone(), target.clone())).copied();
        (!fold.changes().is_empty()).then_some(LaneState { service, target, fold, late_report })
    });
    Ok(EnvironmentState { position: asked, at, lanes: lanes.collect() })
}

/// After every event, and within what Postgres can hold.
pub(crate) fn far_future() -> DateTime<Utc> {
    const YEAR_9999: i64 = 253_370_764_800;
    DateTime::from_timestamp(YEAR_9999, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The whole histories of lanes, as known at a position and up to a time, in the order of the lanes.
pub(crate) async fn histories(
    connection: &mut PgConnection,
    environment_id: i32,
    lanes: &[(ServiceName, TargetName)],
    known_at: Position,
    until: DateTime<Utc>,
) -> Result<Vec<LaneFold>, Error> {
    let query = sqlx::query_as(HISTORY)
        .bind(environment_id)
        .bind(lanes.iter().map(|(service, _)| service.to_string()).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(_, target)| target.to_string()).collect::<Vec<_>>())
        .bind(bigint(known_at))
        .bind(until);
    let rows: Vec<HistoryRow> = query.fetch_all(connection).await?;
    let mut folds = vec![LaneFold::default(); lanes.len()];
    for row in &rows {
        let index = usize::try_from(row.index).ok().and_then(|index| index.checked_sub(1));
        if let Some(fold) = index.and_then(|index| folds.get_mut(index)) {
            row.kept.write_to(fold)?;
        }
    }
    Ok(folds)
}

fn irregular(rows: &[StateRow]) -> Result<Vec<(ServiceName, TargetName)>, Error> {
    let mut lanes = BTreeSet::new();
    for row in rows.iter().filter(|row| row.irregular) {
        if let (Some(service), Some(target)) = (&row.service, &row.target) {
            lanes.insert(lane_key(service, target)?);
        }
    }
    Ok(lanes.into_iter().collect())
}

/// A lane as its columns name it.
pub(crate) fn lane(environment: &str, service: &str, target: &str) -> Result<Lane, NameError> {
    Ok(Lane {
        environment: EnvironmentName::parse(environment)?,
        service: ServiceName::parse(service)?,
        target: TargetName::parse(target)?,
    })
}

pub(crate) fn lane_key(service: &str, target: &str) -> Result<(ServiceName, TargetName), Error> {
    parsed("tracks", format!("{target}/{service}"), || {
        Ok::<_, NameError>((ServiceName::parse(service)?, TargetName::parse(target)?))
    })
}

/// The position of the change before the last `ago` ones.
async fn change(
    connection: &mut PgConnection,
    environment: &EnvironmentName,
    ago: u64,
) -> Result<Position, QueryError> {
    let query = sqlx::query_as(CHANGE).bind(environment.as_str()).bind(ago.cast_signed());
    let row: (i64, Option<i64>, Option<i64>) = query.fetch_one(connection).await?;
    let (_, Some(changes), found) = row else {
        return Err(QueryError::UnknownEnvironment(environment.clone()));
    };
    let changes = changes.cast_unsigned();
    match found {
        Some(found) => Ok(position(found)),
        None if ago == changes => Ok(Position::START),
        None => Err(QueryError::NoSuchChange { environment: environment.clone(), asked: ago, changes }),
    }
}

fn lanes(rows: &[StateRow]) -> Result<BTreeMap<(ServiceName, TargetName), LaneFold>, Error> {
    let mut folds: BTreeMap<(ServiceName, TargetName), LaneFold> = BTreeMap::new();
    for row in rows {
        let (Some(service), Some(target)) = (&row.service, &row.target) else { continue };
        if row.kept.written.position.is_some() {
            row.kept.write_to(folds.entry(lane_key(service, target)?).or_default())?;
        }
    }
    Ok(folds)
}

fn late_reports(rows: &[StateRow]) -> Result<BTreeMap<(ServiceName, TargetName), Position>, Error> {
    let mut late = BTreeMap::new();
    for row in rows {
        if let (Some(service), Some(target), Some(at)) = (&row.service, &row.target, row.late_position) {
            let last: &mut Position = late.entry(lane_key(service, target)?).or_default();
            *last = position(at).max(*last);
        }
    }
    Ok(late)
}
