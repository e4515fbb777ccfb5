//! Releases that lanes ran, and their artifacts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ledger_domain::checks::artifact_in_lane;
use ledger_domain::{Artifact, Position, Release, ServiceName, TargetName};
use sqlx::PgConnection;

use crate::postgres::{Error, bigint};
use crate::sql::sql;
use crate::tables::artifacts::VersionMeanings;

/// Release that a lane ran.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneRelease {
    /// Service of the lane.
    pub service: ServiceName,
    /// Target of the lane.
    pub target: TargetName,
    /// Release.
    pub release: Release,
}

/// Returns the artifacts of releases that state none in their lanes, in order, as known at a position. `meanings` are those
/// of their versions, as known at the same position.
pub(crate) async fn artifacts_in_lanes(
    connection: &mut PgConnection,
    (environment_id, known_at): (i32, Position),
    meanings: &VersionMeanings,
    releases: &[&LaneRelease],
) -> Result<Vec<Option<Artifact>>, Error> {
    if releases.is_empty() {
        return Ok(Vec::new());
    }
    let last_deploys = last_deploys(connection, environment_id, known_at, releases).await?;
    let artifacts = (1_i64..).zip(releases).map(|(ordinal, ran)| {
        let of_deploy = |at| meanings.artifact_of_deploy(&ran.service, &ran.release.version, at).cloned();
        artifact_in_lane(&ran.release, last_deploys.get(&ordinal).copied(), of_deploy)
    });
    Ok(artifacts.collect())
}

/// Returns the time of the last deploy of each release to its lane, by the ordinal of the release, from 1. The releases
/// state no artifact.
async fn last_deploys(
    connection: &mut PgConnection,
    environment_id: i32,
    known_at: Position,
    releases: &[&LaneRelease],
) -> Result<HashMap<i64, DateTime<Utc>>, Error> {
    let texts = |text: fn(&LaneRelease) -> &str| {
        releases.iter().map(|ran| text(ran).to_owned()).collect::<Vec<String>>()
    };
    let parts = |part: fn(&Release) -> Option<String>| {
        releases.iter().map(|ran| part(&ran.release)).collect::<Vec<Option<String>>>()
    };
    let query = sqlx::query_as(sql!("check_results/last_deploys"))
        .bind(environment_id)
        .bind(texts(|ran| ran.service.as_str()))
        .bind(texts(|ran| ran.target.as_str()))
        .bind(texts(|ran| ran.release.version.as_str()))
        .bind(parts(|release| release.config.as_ref().map(|it| it.as_str().to_owned())))
        .bind(parts(|release| release.infrastructure.as_ref().map(|it| it.as_str().to_owned())))
        .bind(parts(|release| release.commit.as_ref().map(|it| it.as_str().to_owned())))
        .bind(bigint(known_at));
    let rows: Vec<(i64, DateTime<Utc>)> = query.fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}
