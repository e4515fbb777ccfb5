//! Reads and writes of the projector for lane changes, tracks and irregular lanes.

use chrono::{DateTime, Utc};
use ledger_domain::{Artifact, Effect, Lane, Position, ShortText, Track, TrackEntry};
use sqlx::PgConnection;

use super::{LaneTrackRow, optional_columns, parse_lane, parse_track};
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;

#[derive(sqlx::FromRow)]
struct TrackRow {
    track_id: i32,
    environment: String,
    service: String,
    target: String,
    late_position: Option<i64>,
    #[sqlx(flatten)]
    change: LaneTrackRow,
}

/// Track, with one of its changes and its last late report, as loaded by the projector.
pub(crate) struct LoadedTrack {
    pub(crate) track_id: i32,
    pub(crate) lane: Lane,
    pub(crate) track: Track,
    pub(crate) entry: Option<TrackEntry>,
    pub(crate) late: Option<Position>,
}

impl TrackRow {
    fn parse(&self) -> Result<LoadedTrack, Error> {
        parsed("tracks", self.track_id, || {
            let lane = parse_lane(&self.environment, &self.service, &self.target)?;
            let track = parse_track(self.change.slot.as_deref())?;
            let entry = self.change.entry.parse()?;
            let (track_id, late) = (self.track_id, self.late_position.map(position));
            Ok::<_, Box<dyn std::error::Error>>(LoadedTrack { track_id, lane, track, entry, late })
        })
    }
}

/// Loads the last change of every track.
pub(crate) async fn load_tracks(connection: &mut PgConnection) -> Result<Vec<LoadedTrack>, Error> {
    let rows: Vec<TrackRow> = sqlx::query_as(sql!("lanes/load_tracks")).fetch_all(connection).await?;
    rows.iter().map(TrackRow::parse).collect()
}

/// Loads every change of the lanes that have slots or are irregular: the last change of each track is not sufficient
/// there.
pub(crate) async fn load_slotted(connection: &mut PgConnection) -> Result<Vec<LoadedTrack>, Error> {
    let rows: Vec<TrackRow> = sqlx::query_as(sql!("lanes/load_slotted")).fetch_all(connection).await?;
    rows.iter().map(TrackRow::parse).collect()
}

/// Loads every removal of a lane.
pub(crate) async fn load_removals(connection: &mut PgConnection) -> Result<Vec<LoadedTrack>, Error> {
    let rows: Vec<TrackRow> = sqlx::query_as(sql!("lanes/load_removals")).fetch_all(connection).await?;
    rows.iter().map(TrackRow::parse).collect()
}

/// Loads the irregular lanes: queries read their whole history.
pub(crate) async fn load_irregular(connection: &mut PgConnection) -> Result<Vec<Lane>, Error> {
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql!("lanes/load_irregular")).fetch_all(connection).await?;
    rows.iter()
        .map(|(environment, service, target)| {
            parsed("irregular_lanes", format!("{environment}/{target}/{service}"), || {
                parse_lane(environment, service, target)
            })
        })
        .collect()
}

/// Marks the lane change of an event as corrected: it has no effect from the position `from` on.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
) -> Result<(), Error> {
    sqlx::query(sql!("lanes/correct")).bind(bigint(corrected)).bind(bigint(from)).execute(connection).await?;
    Ok(())
}

/// Returns the columns of an effect: switched_to, version, artifact, config, infrastructure, commit.
fn effect_columns(effect: &Effect) -> [Option<String>; 6] {
    match effect {
        Effect::SwitchedTo(slot) => [Some(slot.to_string()), None, None, None, None, None],
        Effect::Removed => [const { None }; 6],
        Effect::Deployed(release) => {
            let [artifact, config, infrastructure, commit] = optional_columns(Some(release));
            [None, Some(release.version.to_string()), artifact, config, infrastructure, commit]
        }
    }
}

insert_row! {
    /// Row of `lane_changes`.
    pub(crate) struct LaneChangeInsert => "lane_changes" {
        track_id: i32,
        environment_id: i32,
        position: i64,
        occurred_at: DateTime<Utc>,
        event_id: String,
        switched_to: Option<String>,
        version: Option<String>,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
        artifact_key: Option<String>,
        package_key: Option<String>,
        deployment: Option<String>,
        late: bool,
        behind: bool,
    }
}

impl LaneChangeInsert {
    pub(crate) fn new(
        (track_id, environment_id): (i32, i32),
        entry: &TrackEntry,
        deployment: Option<&ShortText>,
        (late, behind): (bool, bool),
    ) -> Self {
        let [switched_to, version, artifact, config, infrastructure, commit] = effect_columns(&entry.effect);
        let deployed_artifact = match &entry.effect {
            Effect::Deployed(release) => release.artifact.as_ref(),
            Effect::Removed | Effect::SwitchedTo(_) => None,
        };
        Self {
            track_id,
            environment_id,
            position: bigint(entry.since.position),
            occurred_at: entry.since.occurred_at,
            event_id: entry.since.event_id.as_str().to_owned(),
            switched_to,
            version,
            artifact,
            config,
            infrastructure,
            commit,
            artifact_key: deployed_artifact.map(Artifact::identity),
            package_key: deployed_artifact.and_then(Artifact::package_key),
            deployment: deployment.map(ShortText::to_string),
            late,
            behind,
        }
    }
}

insert_row! {
    /// Row of `tracks`.
    pub(crate) struct TrackUpsert => "tracks",
        "ON CONFLICT (track_id) DO UPDATE SET position = excluded.position, occurred_at = excluded.occurred_at,
            event_id = excluded.event_id, switched_to = excluded.switched_to, version = excluded.version,
            artifact = excluded.artifact, config = excluded.config, infrastructure = excluded.infrastructure,
            commit = excluded.commit, late_position = excluded.late_position"
    {
        track_id: i32,
        environment_id: i32,
        service: String,
        target: String,
        slot: Option<String>,
        position: i64,
        occurred_at: DateTime<Utc>,
        event_id: String,
        switched_to: Option<String>,
        version: Option<String>,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
        late_position: Option<i64>,
    }
}

impl TrackUpsert {
    pub(crate) fn new(
        (track_id, environment_id): (i32, i32),
        lane: &Lane,
        track: &Track,
        (entry, late): (&TrackEntry, Option<Position>),
    ) -> Self {
        let [switched_to, version, artifact, config, infrastructure, commit] = effect_columns(&entry.effect);
        Self {
            track_id,
            environment_id,
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            slot: match track {
                Track::Traffic => None,
                Track::Slot(slot) => Some(slot.to_string()),
            },
            position: bigint(entry.since.position),
            occurred_at: entry.since.occurred_at,
            event_id: entry.since.event_id.as_str().to_owned(),
            switched_to,
            version,
            artifact,
            config,
            infrastructure,
            commit,
            late_position: late.map(bigint),
        }
    }
}

insert_row! {
    /// Row of `irregular_lanes`.
    pub(crate) struct IrregularLaneInsert => "irregular_lanes", "ON CONFLICT DO NOTHING" {
        environment_id: i32,
        service: String,
        target: String,
        position: i64,
    }
}

impl IrregularLaneInsert {
    pub(crate) fn new(environment_id: i32, lane: &Lane, at: Position) -> Self {
        Self {
            environment_id,
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            position: bigint(at),
        }
    }
}
