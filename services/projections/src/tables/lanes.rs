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
use crate::sql::{expanded_sql, sql};
use crate::tables::retirements::retirements;
use crate::{Projections, Snapshot};

mod rows;

pub(crate) use self::rows::{
    IrregularLaneInsert, LaneChangeInsert, LoadedTrack, TrackUpsert, correct, load_irregular, load_removals,
    load_slotted, load_tracks,
};

/// Selects a state of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The latest state, as known at a position; `None`: as known at the end of the ledger.
    Latest {
        /// Position up to which entries are known.
        known_at: Option<Position>,
    },
    /// The state at a time, as known at a position; `None`: as known at the end of the ledger.
    Time {
        /// Time up to which events count.
        time: DateTime<Utc>,
        /// Position up to which entries are known.
        known_at: Option<Position>,
    },
    /// The state at a position, as known at that position.
    Position(Position),
    /// The state before the last changes of the environment's composition, as known at that time.
    ChangesAgo(u64),
}

/// `known_at` is given with a position or a number of changes, which already determine what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known_at is valid only with a time or with latest, not with {0}")]
pub struct KnownAtNotAllowed(PointInTime);

impl AsOf {
    /// The latest state, as known at the end of the ledger.
    pub const LATEST: Self = Self::Latest { known_at: None };

    /// Selects the state at a point in time, as known at a position or at the end of the ledger.
    ///
    /// # Errors
    /// `known_at` is given, but the point already determines what is known.
    pub const fn new(at: PointInTime, known_at: Option<Position>) -> Result<Self, KnownAtNotAllowed> {
        match (at, known_at) {
            (PointInTime::Latest, known_at) => Ok(Self::Latest { known_at }),
            (PointInTime::Time(time), known_at) => Ok(Self::Time { time, known_at }),
            (PointInTime::Position(position), None) => Ok(Self::Position(position)),
            (PointInTime::ChangesAgo(changes), None) => Ok(Self::ChangesAgo(changes)),
            (at, Some(_)) => Err(KnownAtNotAllowed(at)),
        }
    }
}

impl From<PointInTime> for AsOf {
    /// Selects the state at a point in time, as known at the end of the ledger or at the point's position.
    fn from(at: PointInTime) -> Self {
        match at {
            PointInTime::Latest => Self::LATEST,
            PointInTime::Time(time) => Self::Time { time, known_at: None },
            PointInTime::Position(position) => Self::Position(position),
            PointInTime::ChangesAgo(changes) => Self::ChangesAgo(changes),
        }
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
    NotProjected {
        /// Requested position.
        asked: Position,
        /// Position of the projections.
        projections: Position,
    },
    /// The composition has changed fewer times than requested.
    #[error("{environment} has fewer than {asked} changes: its composition has changed {changes} times")]
    TooFewChanges {
        /// Environment of the composition.
        environment: EnvironmentName,
        /// Requested number of changes to go back, or number of a change.
        asked: u64,
        /// Total number of changes.
        changes: u64,
    },
    /// The search for a known-good point took longer than [`SEARCH_TIMEOUT`](crate::SEARCH_TIMEOUT).
    #[error(
        "no known-good point of {environment} was found in time: the search has got back to change {number}; name a \
         point, or ask for the points before that change"
    )]
    SearchTimedOut {
        /// Environment of the points.
        environment: EnvironmentName,
        /// Number of the oldest composition change that was examined.
        number: u64,
    },
    /// The database query failed.
    #[error(transparent)]
    Projections(#[from] Error),
}

impl From<sqlx::Error> for QueryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Projections(error.into())
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
        as_of: AsOf,
    ) -> Result<EnvironmentState, QueryError> {
        let mut connection = self.pool()?.acquire().await?;
        state(&mut connection, environment, as_of).await
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
        as_of: AsOf,
    ) -> Result<EnvironmentState, QueryError> {
        state(self.connection(), environment, as_of).await
    }
}

async fn state(
    connection: &mut PgConnection,
    environment: &EnvironmentName,
    as_of: AsOf,
) -> Result<EnvironmentState, QueryError> {
    let (at, known_at, time) = match as_of {
        AsOf::Latest { known_at } => (PointInTime::Latest, known_at, None),
        AsOf::Time { time, known_at } => (PointInTime::Time(time), known_at, Some(time)),
        AsOf::Position(position) => (PointInTime::Position(position), Some(position), None),
        AsOf::ChangesAgo(changes) => {
            let position = position_changes_ago(connection, environment, changes).await?;
            (PointInTime::Position(position), Some(position), None)
        }
    };
    let query = match (known_at, time) {
        (None, None) => sqlx::query_as(expanded_sql!("lanes/latest_state")).bind(environment.as_str()),
        (Some(position), None) => sqlx::query_as(expanded_sql!("lanes/state_at_position"))
            .bind(environment.as_str())
            .bind(bigint(position)),
        (known_at, Some(time)) => sqlx::query_as(expanded_sql!("lanes/state_at_time"))
            .bind(environment.as_str())
            .bind(known_at.map_or(i64::MAX, bigint))
            .bind(time),
    };
    let rows: Vec<StateRow> = query.fetch_all(&mut *connection).await?;
    let projections = rows.first().map_or(Position::START, |row| position(row.projections_position));
    let asked = known_at.unwrap_or(projections);
    if asked > projections {
        return Err(QueryError::NotProjected { asked, projections });
    }
    let Some(id) = rows.iter().find_map(|row| row.environment_id) else {
        return Err(QueryError::UnknownEnvironment(environment.clone()));
    };
    let time = time.unwrap_or_else(far_future);
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
    let query = sqlx::query_as(sql!("lanes/history"))
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
    let query = sqlx::query_as(sql!("lanes/changes_ago")).bind(environment.as_str()).bind(ago.cast_signed());
    let row: (i64, Option<i64>, Option<i64>) = query.fetch_one(connection).await?;
    let (_, Some(changes), found) = row else {
        return Err(QueryError::UnknownEnvironment(environment.clone()));
    };
    let changes = changes.cast_unsigned();
    match found {
        Some(found) => Ok(position(found)),
        None if ago == changes => Ok(Position::START),
        None => Err(QueryError::TooFewChanges { environment: environment.clone(), asked: ago, changes }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_of_knowledge_is_valid_with_latest_and_with_a_time() {
        let (known_at, time) = (Some(Position::new(3)), DateTime::UNIX_EPOCH);

        assert_eq!(AsOf::new(PointInTime::Latest, known_at), Ok(AsOf::Latest { known_at }));
        assert_eq!(AsOf::new(PointInTime::Time(time), known_at), Ok(AsOf::Time { time, known_at }));
    }

    #[test]
    fn a_point_that_determines_what_is_known_rejects_a_position_of_knowledge() {
        for at in [PointInTime::Position(Position::new(2)), PointInTime::ChangesAgo(1)] {
            assert_eq!(AsOf::new(at, Some(Position::new(3))), Err(KnownAtNotAllowed(at)));
            assert_eq!(AsOf::new(at, None), Ok(AsOf::from(at)));
        }
    }
}
