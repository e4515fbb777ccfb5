//! Lane states: what every lane runs, now and at any point in the past.
//!
//! A change is *late* if its track already has a change that occurred later. The changes of a track that are not late
//! rise in position and in time together, so the state at a position takes one index look-up per track. For the state
//! at a time, as known at a position, the look-up starts at the earlier of that time and the time of the last change
//! that is not late at that position; it skips only late reports.
//!
//! This is sufficient for regular lanes. Queries read the whole history of irregular lanes: a switch waited for a
//! deploy to its slot or went to an empty slot, a lane with slots was removed, or an event was corrected.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ledger_domain::{
    Artifact, Composition, ConfigDigest, Effect, EnvironmentName, EventId, EventRef, Lane, LaneFold, Lanes,
    NameError, PointInTime, Position, Release, ServiceName, ShortText, SlotName, TargetName, Track,
    TrackEntry,
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
    LATEST_STATE,
    STATE_AT_POSITION,
    STATE_AT_TIME,
    CHANGES_AGO,
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

macro_rules! entry_columns {
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

use entry_columns;

const LATEST_STATE: &str = concat!(
    "SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
        i.position IS NOT NULL AS irregular, t.late_position, ",
    entry_columns!("t"),
    "
    FROM projection p
    LEFT JOIN environments e ON e.name = $1
    LEFT JOIN tracks t ON t.environment_id = e.environment_id
    LEFT JOIN irregular_lanes i
        ON i.environment_id = t.environment_id AND i.service = t.service AND i.target = t.target"
);

const STATE_AT_POSITION: &str = concat!(
    "SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
        i.position IS NOT NULL AS irregular, NULL::bigint AS late_position, ",
    entry_columns!("c"),
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

const STATE_AT_TIME: &str = concat!(
    "SELECT p.position AS projections_position, e.environment_id, t.service, t.target, t.slot,
        i.position IS NOT NULL AS irregular, NULL::bigint AS late_position, ",
    entry_columns!("c"),
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

const CHANGES_AGO: &str = "SELECT p.position, e.changes, c.position
    FROM projection p
    LEFT JOIN environments e ON e.name = $1
    LEFT JOIN LATERAL (
        SELECT l.position FROM live_changes l
        WHERE l.environment_id = e.environment_id AND l.number = e.changes - $2 LIMIT 1
    ) c ON true";

/// Selects all changes of some lanes that have effect as known at a position, up to a time.
const HISTORY: &str = concat!(
    "SELECT l.index, t.slot, ",
    entry_columns!("c"),
    "
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY l (service, target, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = l.service AND t.target = l.target
    JOIN lane_changes c ON c.track_id = t.track_id AND c.position <= $4 AND c.occurred_at <= $5
        AND (c.corrected_position IS NULL OR c.corrected_position > $4)"
);

/// Selects a state of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// Point in time.
    pub at: PointInTime,
    /// State as known at this position; `None`: as known at the end of the ledger. Valid only with a time or with
    /// `latest`.
    pub known_at: Option<Position>,
}

impl AsOf {
    /// The latest state, as known at the end of the ledger.
    pub const LATEST: Self = Self { at: PointInTime::Latest, known_at: None };

    /// Selects the state at a position, as known at that position.
    #[must_use]
    pub const fn position(position: Position) -> Self {
        Self { at: PointInTime::Position(position), known_at: None }
    }
}

/// State of an environment at a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentState {
    /// Position up to which entries are applied in this state.
    pub position: Position,
    /// Point in time: `latest`, a position or a time. A number of changes is resolved to a position.
    pub at: PointInTime,
    /// Lanes, sorted by service and target, including those that run nothing.
    pub lanes: Vec<LaneState>,
}

/// State of a lane at a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// Service of the lane.
    pub service: ServiceName,
    /// Target of the lane.
    pub target: TargetName,
    /// Changes of the lane's tracks.
    pub fold: LaneFold,
    /// Position of the last report that was recorded after the lane's last change but occurred before it, and is
    /// therefore hidden. Set only in the latest state.
    pub late_report: Option<Position>,
}

impl EnvironmentState {
    /// Returns the lanes by service and target.
    #[must_use]
    pub fn into_lanes(self) -> Lanes {
        self.lanes.into_iter().map(|lane| ((lane.service, lane.target), lane.fold)).collect()
    }

    /// Returns the composition: the live release of each lane.
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

/// Error of a query for an environment's state or points.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No event names the environment.
    #[error("unknown environment {0}: no event names it")]
    UnknownEnvironment(EnvironmentName),
    /// The projections have not reached the position.
    #[error("position {asked} is not projected yet; the projections are at position {projections}")]
    NotYet {
        /// Requested position.
        asked: Position,
        /// Position of the projections.
        projections: Position,
    },
    /// The composition has changed fewer times than requested.
    #[error("cannot go back {asked} changes: the composition of {environment} has changed {changes} times")]
    NoSuchChange {
        /// Environment of the composition.
        environment: EnvironmentName,
        /// Requested number of changes to go back.
        asked: u64,
        /// Total number of changes.
        changes: u64,
    },
    /// `known_at` is given with a position or a number of changes, which already determine what is known.
    #[error("known_at is valid only with a time or with latest, not with {0}")]
    KnownAlready(PointInTime),
    /// The database query failed.
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
    change: LaneTrackRow,
}

#[derive(sqlx::FromRow)]
struct HistoryRow {
    index: i64,
    #[sqlx(flatten)]
    change: LaneTrackRow,
}

/// Track of a lane, with one of its changes.
#[derive(sqlx::FromRow)]
pub(crate) struct LaneTrackRow {
    slot: Option<String>,
    #[sqlx(flatten)]
    entry: TrackEntryRow,
}

impl LaneTrackRow {
    /// Adds the change to the changes of a lane.
    pub(crate) fn insert_into(&self, fold: &mut LaneFold) -> Result<(), Error> {
        parsed("lane_changes", format!("{:?}", self.entry.position), || {
            if let Some(entry) = self.entry.parse()? {
                fold.insert(parse_track(self.slot.as_deref())?, entry);
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
    }
}

/// Change of a track. All columns are null if the track has none.
#[derive(sqlx::FromRow)]
struct TrackEntryRow {
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

impl TrackEntryRow {
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
                Effect::Deployed(parse_release(version, parts)?)
            }
        };
        let since = EventRef { occurred_at, position: position(at), event_id: EventId::stored(event_id)? };
        Ok(Some(TrackEntry { effect, since }))
    }
}

/// Parses a release from its columns: the version, and the optional columns artifact, config, infrastructure, commit.
pub(crate) fn parse_release(
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

/// Returns the optional columns of a release, all but its version: artifact, config, infrastructure, commit.
pub(crate) fn optional_columns(release: Option<&Release>) -> [Option<String>; 4] {
    let parts = release.map_or([""; 5], Release::parts);
    let [_, rest @ ..] = parts.map(|part| (!part.is_empty()).then(|| part.to_owned()));
    rest
}

fn parse_track(slot: Option<&str>) -> Result<Track, NameError> {
    slot.map_or(Ok(Track::Traffic), |slot| SlotName::parse(slot).map(Track::Slot))
}

impl Projections {
    /// Returns the state of an environment at a point in time.
    ///
    /// # Errors
    /// There is no such point, or the database query fails.
    pub async fn state(
        &self,
        environment: &EnvironmentName,
        when: AsOf,
    ) -> Result<EnvironmentState, QueryError> {
        let mut connection = self.pool()?.acquire().await?;
        state(&mut connection, environment, when).await
    }

    /// Returns two states from one snapshot, so that `latest` and `-N` have the same meaning in both.
    ///
    /// # Errors
    /// There is no such point, or the database query fails.
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
    /// Returns the state of an environment at a point in time.
    ///
    /// # Errors
    /// There is no such point, or the database query fails.
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
            (PointInTime::Position(position_changes_ago(connection, environment, changes).await?), None)
        }
        (at @ (PointInTime::Position(_) | PointInTime::ChangesAgo(_)), Some(_)) => {
            return Err(QueryError::KnownAlready(at));
        }
        (at, known_at) => (at, known_at),
    };
    let query = match (at, known_at) {
        (PointInTime::Latest, None) => sqlx::query_as(LATEST_STATE).bind(environment.as_str()),
        (PointInTime::Time(time), known_at) => sqlx::query_as(STATE_AT_TIME)
            .bind(environment.as_str())
            .bind(known_at.map_or(i64::MAX, bigint))
            .bind(time),
        (PointInTime::Position(position), _) | (_, Some(position)) => {
            sqlx::query_as(STATE_AT_POSITION).bind(environment.as_str()).bind(bigint(position))
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
    let mut folds = parse_lanes(&rows)?;
    let late = late_reports(&rows)?;
    let irregular: Vec<(ServiceName, TargetName)> = irregular_lanes(&rows)?;
    if !irregular.is_empty() {
        let histories = load_histories(connection, id, &irregular, asked, time).await?;
        for (lane, fold) in irregular.into_iter().zip(histories) {
            match fold.changes().is_empty() {
                true => folds.remove(&lane),
                false => folds.insert(lane, fold),
            };
        }
    }
    let standing = retirements(connection, id, asked).await?.at(time);
    let lanes = folds.into_iter().filter_map(|((service, target), fold)| {
        let fold = fold.without_discarded_changes(standing).into_owned();
        let late_report = late.get(&(service.clone(), target.clone())).copied();
        (!fold.changes().is_empty()).then_some(LaneState { service, target, fold, late_report })
    });
    Ok(EnvironmentState { position: asked, at, lanes: lanes.collect() })
}

/// Returns a time after every event and within the range of Postgres timestamps.
pub(crate) fn far_future() -> DateTime<Utc> {
    const YEAR_9999: i64 = 253_370_764_800;
    DateTime::from_timestamp(YEAR_9999, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Loads the whole histories of lanes, as known at a position and up to a time, in the order of `lanes`.
pub(crate) async fn load_histories(
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
            row.change.insert_into(fold)?;
        }
    }
    Ok(folds)
}

fn irregular_lanes(rows: &[StateRow]) -> Result<Vec<(ServiceName, TargetName)>, Error> {
    let mut lanes = BTreeSet::new();
    for row in rows.iter().filter(|row| row.irregular) {
        if let (Some(service), Some(target)) = (&row.service, &row.target) {
            lanes.insert(parse_lane_key(service, target)?);
        }
    }
    Ok(lanes.into_iter().collect())
}

pub(crate) fn parse_lane(environment: &str, service: &str, target: &str) -> Result<Lane, NameError> {
    Ok(Lane {
        environment: EnvironmentName::parse(environment)?,
        service: ServiceName::parse(service)?,
        target: TargetName::parse(target)?,
    })
}

pub(crate) fn parse_lane_key(service: &str, target: &str) -> Result<(ServiceName, TargetName), Error> {
    parsed("tracks", format!("{target}/{service}"), || {
        Ok::<_, NameError>((ServiceName::parse(service)?, TargetName::parse(target)?))
    })
}

/// Returns the position of the composition change that `ago` later changes follow.
async fn position_changes_ago(
    connection: &mut PgConnection,
    environment: &EnvironmentName,
    ago: u64,
) -> Result<Position, QueryError> {
    let query = sqlx::query_as(CHANGES_AGO).bind(environment.as_str()).bind(ago.cast_signed());
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

fn parse_lanes(rows: &[StateRow]) -> Result<BTreeMap<(ServiceName, TargetName), LaneFold>, Error> {
    let mut folds: BTreeMap<(ServiceName, TargetName), LaneFold> = BTreeMap::new();
    for row in rows {
        let (Some(service), Some(target)) = (&row.service, &row.target) else { continue };
        if row.change.entry.position.is_some() {
            row.change.insert_into(folds.entry(parse_lane_key(service, target)?).or_default())?;
        }
    }
    Ok(folds)
}

fn late_reports(rows: &[StateRow]) -> Result<BTreeMap<(ServiceName, TargetName), Position>, Error> {
    let mut late = BTreeMap::new();
    for row in rows {
        if let (Some(service), Some(target), Some(at)) = (&row.service, &row.target, row.late_position) {
            let last: &mut Position = late.entry(parse_lane_key(service, target)?).or_default();
            *last = position(at).max(*last);
        }
    }
    Ok(late)
}
