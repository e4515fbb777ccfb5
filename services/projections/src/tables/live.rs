//! Composition changes of environments, in recorded order.

use chrono::{DateTime, Utc};
use ledger_domain::{
    Artifact, CompositionId, EnvironmentName, EventId, EventRef, LiveRelease, Position, Release, ServiceName,
    SlotName, TargetName,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Snapshot;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::event_details::artifact_key;
use crate::tables::lanes::{optional_columns, parse_release};

/// Change of an environment's composition.
#[derive(Debug, Clone)]
pub(crate) struct CompositionChange {
    pub(crate) number: i64,
    pub(crate) since: EventRef,
    /// Changed lanes, each with the release that it ran before.
    pub(crate) lanes: Vec<((ServiceName, TargetName), Option<LiveRelease>)>,
    pub(crate) composition: CompositionId,
}

#[derive(sqlx::FromRow)]
struct ChangeRow {
    number: i64,
    service: String,
    target: String,
    position: i64,
    occurred_at: DateTime<Utc>,
    event_id: String,
    before_slot: Option<String>,
    before_position: Option<i64>,
    before_at: Option<DateTime<Utc>>,
    before_event_id: Option<String>,
    before_version: Option<String>,
    before_artifact: Option<String>,
    before_config: Option<String>,
    before_infrastructure: Option<String>,
    before_commit: Option<String>,
    composition: Vec<u8>,
}

impl ChangeRow {
    fn lane(&self) -> Result<((ServiceName, TargetName), Option<LiveRelease>), Error> {
        parsed("live_changes", self.position, || {
            let lane = (ServiceName::parse(&self.service)?, TargetName::parse(&self.target)?);
            let before = (&self.before_version, self.before_position, self.before_at, &self.before_event_id);
            let live = match before {
                (Some(version), Some(at), Some(occurred_at), Some(event_id)) => {
                    let parts = [
                        &self.before_artifact,
                        &self.before_config,
                        &self.before_infrastructure,
                        &self.before_commit,
                    ];
                    Some(LiveRelease {
                        slot: self.before_slot.as_deref().map(SlotName::parse).transpose()?,
                        release: parse_release(version, parts)?,
                        since: EventRef {
                            occurred_at,
                            position: position(at),
                            event_id: EventId::stored(event_id)?,
                        },
                    })
                }
                _ => None,
            };
            Ok::<_, Box<dyn std::error::Error>>((lane, live))
        })
    }

    fn since(&self) -> Result<EventRef, Error> {
        let event_id = parsed("live_changes", self.position, || EventId::stored(&self.event_id))?;
        Ok(EventRef { occurred_at: self.occurred_at, position: position(self.position), event_id })
    }

    fn composition(&self) -> Result<CompositionId, Error> {
        parsed("live_changes", self.position, || <[u8; 32]>::try_from(&self.composition[..]))
            .map(CompositionId::from_bytes)
    }
}

/// Returns the number of the last change of an environment's composition up to a position; 0 if there is none.
pub(crate) async fn last_change(
    connection: &mut PgConnection,
    environment_id: i32,
    at: Position,
) -> Result<i64, Error> {
    let query =
        sqlx::query_scalar(sql!("live_changes/last_change_number")).bind(environment_id).bind(bigint(at));
    Ok(query.fetch_optional(connection).await?.unwrap_or(0))
}

/// Returns the identity of the composition that an environment ran at a position; `None` before its first change.
pub(crate) async fn composition_at(
    connection: &mut PgConnection,
    environment_id: i32,
    at: Position,
) -> Result<Option<CompositionId>, Error> {
    let number = last_change(connection, environment_id, at).await?;
    let query = sqlx::query_scalar(sql!("live_changes/composition")).bind(environment_id).bind(number);
    let found: Option<Vec<u8>> = query.fetch_optional(connection).await?;
    let bytes = found.map(|found| parsed("live_changes", number, || <[u8; 32]>::try_from(&found[..])));
    Ok(bytes.transpose()?.map(CompositionId::from_bytes))
}

/// Returns the number of the first change of an environment's composition that occurred after a time.
pub(crate) async fn first_change_after(
    connection: &mut PgConnection,
    environment_id: i32,
    time: DateTime<Utc>,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(sql!("live_changes/first_change_after"))
        .bind(environment_id)
        .bind(time)
        .fetch_one(connection)
        .await?)
}

#[derive(sqlx::FromRow)]
struct VersionChangeRow {
    position: i64,
    occurred_at: DateTime<Utc>,
    event_id: String,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

impl Snapshot {
    /// Returns when a lane last started to run a release that matches the wanted one. Examines the last 100 changes to
    /// its version.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn last_ran(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        target: &TargetName,
        wanted: &Release,
    ) -> Result<Option<EventRef>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let query = sqlx::query_as(sql!("live_changes/changes_to_version"))
            .bind(id)
            .bind(service.as_str())
            .bind(target.as_str());
        let query = query.bind(wanted.version.as_str());
        let rows: Vec<VersionChangeRow> = query.fetch_all(self.connection()).await?;
        for row in rows {
            let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
            let ran = parsed("live_changes", row.position, || parse_release(wanted.version.as_str(), parts))?;
            if wanted.matches(&ran) {
                let event_id = parsed("live_changes", row.position, || EventId::stored(&row.event_id))?;
                let (occurred_at, position) = (row.occurred_at, position(row.position));
                return Ok(Some(EventRef { occurred_at, position, event_id }));
            }
        }
        Ok(None)
    }
}

/// Returns the changes of an environment's composition with numbers above `after`, up to and including `up_to`, latest
/// first.
pub(crate) async fn composition_changes(
    connection: &mut PgConnection,
    environment_id: i32,
    after: i64,
    up_to: i64,
) -> Result<Vec<CompositionChange>, Error> {
    let query = sqlx::query_as(sql!("live_changes/changes")).bind(environment_id).bind(after).bind(up_to);
    let rows: Vec<ChangeRow> = query.fetch_all(connection).await?;
    let mut changes: Vec<CompositionChange> = Vec::new();
    for row in &rows {
        let lane = row.lane()?;
        match changes.last_mut().filter(|change| change.number == row.number) {
            Some(change) => change.lanes.push(lane),
            None => changes.push(CompositionChange {
                number: row.number,
                since: row.since()?,
                lanes: vec![lane],
                composition: row.composition()?,
            }),
        }
    }
    Ok(changes)
}

/// Returns the spans in which what ran differs from what was recorded, as known at a position. A span excludes its end.
pub(crate) async fn reorderings(
    connection: &mut PgConnection,
    environment_id: i32,
    known_at: Position,
) -> Result<Vec<(DateTime<Utc>, DateTime<Utc>)>, Error> {
    let query =
        sqlx::query_as(sql!("reorderings/of_environment")).bind(environment_id).bind(bigint(known_at));
    Ok(query.fetch_all(connection).await?)
}

/// Change of the release that a lane runs.
pub(crate) struct LiveChange {
    pub(crate) environment_id: i32,
    pub(crate) number: i64,
    pub(crate) service: ServiceName,
    pub(crate) target: TargetName,
    pub(crate) at: EventRef,
    pub(crate) release: Option<Release>,
    pub(crate) before: Option<LiveRelease>,
    pub(crate) composition: CompositionId,
}

insert_row! {
    /// Row of `live_changes`.
    pub(crate) struct LiveChangeInsert => "live_changes" {
        environment_id: i32,
        number: i64,
        service: String,
        target: String,
        position: i64,
        occurred_at: DateTime<Utc>,
        event_id: String,
        version: Option<String>,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
        artifact_key: Option<Uuid>,
        before_slot: Option<String>,
        before_position: Option<i64>,
        before_at: Option<DateTime<Utc>>,
        before_event_id: Option<String>,
        composition: Vec<u8>,
    }
}

impl From<LiveChange> for LiveChangeInsert {
    fn from(change: LiveChange) -> Self {
        let release = change.release.as_ref();
        let before = change.before.as_ref();
        let identity = release.and_then(|release| release.artifact.as_ref()).map(Artifact::identity);
        let [artifact, config, infrastructure, commit] = optional_columns(release);
        Self {
            environment_id: change.environment_id,
            number: change.number,
            service: change.service.to_string(),
            target: change.target.to_string(),
            position: bigint(change.at.position),
            occurred_at: change.at.occurred_at,
            event_id: change.at.event_id.as_str().to_owned(),
            version: release.map(|release| release.version.to_string()),
            artifact,
            config,
            infrastructure,
            commit,
            artifact_key: identity.as_deref().map(artifact_key),
            before_slot: before.and_then(|live| live.slot.as_ref()).map(ToString::to_string),
            before_position: before.map(|live| bigint(live.since.position)),
            before_at: before.map(|live| live.since.occurred_at),
            before_event_id: before.map(|live| live.since.event_id.as_str().to_owned()),
            composition: change.composition.as_bytes().to_vec(),
        }
    }
}

insert_row! {
    /// Row of `reorderings`.
    pub(crate) struct ReorderingInsert => "reorderings" {
        environment_id: i32,
        position: i64,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    }
}

impl ReorderingInsert {
    pub(crate) fn new(
        environment_id: i32,
        at: Position,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        Self { environment_id, position: bigint(at), since, until }
    }
}
