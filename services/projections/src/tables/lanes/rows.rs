//! Reads and writes of the projector for lane changes, tracks and irregular lanes.

use chrono::{DateTime, Utc};
use ledger_domain::{Artifact, ConfigDigest, Effect, Lane, Position, ShortText, Track, TrackEntry};
use sqlx::PgConnection;

use super::{LaneTrackRow, parse_lane, parse_track};
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;

pub(super) const WRITE_CHANGES: &str =
    "INSERT INTO lane_changes (track_id, environment_id, position, occurred_at,
        event_id, switched_to, version, artifact, config, infrastructure, commit, artifact_key, package_key,
        deployment, late, behind)
    SELECT unnest($1::integer[]), unnest($2::integer[]), unnest($3::bigint[]), unnest($4::timestamptz[]),
        unnest($5::text[]), unnest($6::text[]), unnest($7::text[]), unnest($8::text[]), unnest($9::text[]),
        unnest($10::text[]), unnest($11::text[]), unnest($12::text[]), unnest($13::text[]),
        unnest($14::text[]), unnest($15::boolean[]), unnest($16::boolean[])";

pub(super) const WRITE: &str = "INSERT INTO tracks (track_id, environment_id, service, target, slot,
        position, occurred_at, event_id, switched_to, version, artifact, config, infrastructure, commit,
        late_position)
    SELECT unnest($1::integer[]), unnest($2::integer[]), unnest($3::text[]), unnest($4::text[]),
        unnest($5::text[]), unnest($6::bigint[]), unnest($7::timestamptz[]), unnest($8::text[]),
        unnest($9::text[]), unnest($10::text[]), unnest($11::text[]), unnest($12::text[]),
        unnest($13::text[]), unnest($14::text[]), unnest($15::bigint[])
    ON CONFLICT (track_id) DO UPDATE SET position = excluded.position, occurred_at = excluded.occurred_at,
        event_id = excluded.event_id, switched_to = excluded.switched_to, version = excluded.version,
        artifact = excluded.artifact, config = excluded.config, infrastructure = excluded.infrastructure,
        commit = excluded.commit, late_position = excluded.late_position";

pub(super) const WRITE_IRREGULAR: &str =
    "INSERT INTO irregular_lanes (environment_id, service, target, position)
    SELECT unnest($1::integer[]), unnest($2::text[]), unnest($3::text[]), unnest($4::bigint[])
    ON CONFLICT DO NOTHING";

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
fn effect_columns(effect: &Effect) -> [Option<&str>; 6] {
    match effect {
        Effect::SwitchedTo(slot) => [Some(slot.as_str()), None, None, None, None, None],
        Effect::Removed => [None; 6],
        Effect::Deployed(release) => [
            None,
            Some(release.version.as_str()),
            release.artifact.as_ref().map(Artifact::as_str),
            release.config.as_ref().map(ConfigDigest::as_str),
            release.infrastructure.as_ref().map(ShortText::as_str),
            release.commit.as_ref().map(ShortText::as_str),
        ],
    }
}

/// Rows to insert into `lane_changes`, column by column.
#[derive(Default)]
pub(crate) struct LaneChangeRows {
    track_id: Vec<i32>,
    environment_id: Vec<i32>,
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    event_id: Vec<String>,
    effect: [Vec<Option<String>>; 6],
    artifact_key: Vec<Option<String>>,
    package_key: Vec<Option<String>>,
    deployment: Vec<Option<String>>,
    late: Vec<bool>,
    behind: Vec<bool>,
}

impl LaneChangeRows {
    pub(crate) fn push(
        &mut self,
        (track_id, environment_id): (i32, i32),
        entry: &TrackEntry,
        deployment: Option<&ShortText>,
        (late, behind): (bool, bool),
    ) {
        self.track_id.push(track_id);
        self.environment_id.push(environment_id);
        self.position.push(bigint(entry.since.position));
        self.occurred_at.push(entry.since.occurred_at);
        self.event_id.push(entry.since.event_id.as_str().to_owned());
        for (column, value) in self.effect.iter_mut().zip(effect_columns(&entry.effect)) {
            column.push(value.map(str::to_owned));
        }
        let artifact = match &entry.effect {
            Effect::Deployed(release) => release.artifact.as_ref(),
            Effect::Removed | Effect::SwitchedTo(_) => None,
        };
        self.artifact_key.push(artifact.map(Artifact::identity));
        self.package_key.push(artifact.and_then(Artifact::package_key));
        self.deployment.push(deployment.map(ShortText::to_string));
        self.late.push(late);
        self.behind.push(behind);
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if self.track_id.is_empty() {
            return Ok(());
        }
        let mut query = sqlx::query(WRITE_CHANGES)
            .bind(self.track_id)
            .bind(self.environment_id)
            .bind(self.position)
            .bind(self.occurred_at)
            .bind(self.event_id);
        for column in self.effect {
            query = query.bind(column);
        }
        let query = query
            .bind(self.artifact_key)
            .bind(self.package_key)
            .bind(self.deployment)
            .bind(self.late)
            .bind(self.behind);
        query.execute(connection).await?;
        Ok(())
    }
}

/// Rows to insert into or update in `tracks`, column by column.
#[derive(Default)]
pub(crate) struct TrackRows {
    track_id: Vec<i32>,
    environment_id: Vec<i32>,
    service: Vec<String>,
    target: Vec<String>,
    slot: Vec<Option<String>>,
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    event_id: Vec<String>,
    effect: [Vec<Option<String>>; 6],
    late: Vec<Option<i64>>,
}

impl TrackRows {
    pub(crate) fn push(
        &mut self,
        (track_id, environment_id): (i32, i32),
        lane: &Lane,
        track: &Track,
        (entry, late): (&TrackEntry, Option<Position>),
    ) {
        self.track_id.push(track_id);
        self.environment_id.push(environment_id);
        self.service.push(lane.service.to_string());
        self.target.push(lane.target.to_string());
        self.slot.push(match track {
            Track::Traffic => None,
            Track::Slot(slot) => Some(slot.to_string()),
        });
        self.position.push(bigint(entry.since.position));
        self.occurred_at.push(entry.since.occurred_at);
        self.event_id.push(entry.since.event_id.as_str().to_owned());
        for (column, value) in self.effect.iter_mut().zip(effect_columns(&entry.effect)) {
            column.push(value.map(str::to_owned));
        }
        self.late.push(late.map(bigint));
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if self.track_id.is_empty() {
            return Ok(());
        }
        let mut query = sqlx::query(WRITE)
            .bind(self.track_id)
            .bind(self.environment_id)
            .bind(self.service)
            .bind(self.target)
            .bind(self.slot)
            .bind(self.position)
            .bind(self.occurred_at)
            .bind(self.event_id);
        for column in self.effect {
            query = query.bind(column);
        }
        query.bind(self.late).execute(connection).await?;
        Ok(())
    }
}

/// Rows to insert into `irregular_lanes`, column by column.
#[derive(Default)]
pub(crate) struct IrregularRows {
    environment_id: Vec<i32>,
    service: Vec<String>,
    target: Vec<String>,
    position: Vec<i64>,
}

impl IrregularRows {
    pub(crate) fn push(&mut self, environment_id: i32, lane: &Lane, at: Position) {
        self.environment_id.push(environment_id);
        self.service.push(lane.service.to_string());
        self.target.push(lane.target.to_string());
        self.position.push(bigint(at));
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if !self.environment_id.is_empty() {
            let query = sqlx::query(WRITE_IRREGULAR).bind(self.environment_id).bind(self.service);
            query.bind(self.target).bind(self.position).execute(connection).await?;
        }
        Ok(())
    }
}
