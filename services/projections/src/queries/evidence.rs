//! Evidence for gate decisions: where a release ran, how it was checked there, and the rollbacks of a lane.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ledger_domain::event::Policy;
use ledger_domain::gate::{
    CompositionEvidence, RolledBackRelease, SucceededDeploy, TargetEvidence, best_by_target,
    counts_as_requested,
};
use ledger_domain::span::longest;
use ledger_domain::{
    CompositionId, EnvironmentName, Lane, Position, Release, ServiceName, ShortText, TargetName,
};

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::queries::marks::Marks;
use crate::sql::sql;
use crate::tables::artifacts::VersionMeanings;
use crate::tables::lane_releases::{LaneRelease, artifacts_in_lanes};
use crate::tables::lanes::{AsOf, QueryError, parse_release};

#[derive(sqlx::FromRow)]
struct DeployedRow {
    target: String,
    version: String,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
    position: i64,
}

#[derive(sqlx::FromRow)]
struct DeployRow {
    position: i64,
    occurred_at: DateTime<Utc>,
    behind: bool,
    rollback_id: Option<String>,
    version: String,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

impl Snapshot {
    /// Returns the evidence for a release in an environment, for each target at which traffic reached it.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn promotion_evidence(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        requested_release: &Release,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Result<Vec<TargetEvidence>, Error> {
        let ran = self.deployed(environment, service, requested_release).await?;
        let known_at = self.position();
        let releases: Vec<LaneRelease> = ran.iter().map(|(ran, _)| ran.clone()).collect();
        let spans = self.live_spans(environment, &releases, known_at).await?;
        let results = self.verdicts(environment, &releases, known_at).await?;
        let marks = self.marks(environment, known_at).await?;
        let mut all = Vec::new();
        for (((ran, deployed), live), results) in ran.into_iter().zip(spans).zip(results) {
            // A release that was only in an idle slot has no evidence.
            let Some(longest_run) = longest(&live, now) else { continue };
            let checked = self.checked_compositions(environment, known_at, &live).await?;
            let mut ids: BTreeSet<CompositionId> = checked.into_iter().map(|(id, ..)| id).collect();
            ids.extend(self.marked_compositions_with(environment, &ran, &marks).await?);
            let ids: Vec<CompositionId> = ids.into_iter().collect();
            let mut composition_results = self.composition_verdicts(environment, &ids, known_at).await?;
            let compositions = ids.into_iter().map(|id| CompositionEvidence {
                results: composition_results.remove(&id).unwrap_or_default(),
                marked: marks.on(id).cloned(),
            });
            let compositions = compositions.collect();
            let target = ran.target;
            all.push(TargetEvidence { target, deployed, results, compositions, longest_run });
        }
        Ok(best_by_target(policy, all))
    }

    /// Returns the deployed releases of a service that equal the requested one: by the artifact that each has in its
    /// lane, or by version if no artifact is known. Each has the position of its last deploy.
    async fn deployed(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        requested_release: &Release,
    ) -> Result<Vec<(LaneRelease, Position)>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let keys = requested_release.artifact.as_ref().map(|artifact| artifact.keys()).unwrap_or_default();
        let query = sqlx::query_as(sql!("evidence/deployed_releases"))
            .bind(id)
            .bind(service.as_str())
            .bind(keys)
            .bind(requested_release.version.as_str());
        let rows: Vec<DeployedRow> = query.fetch_all(self.connection()).await?;
        let mut ran = Vec::with_capacity(rows.len());
        for row in &rows {
            let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
            let (target, release) = parsed("lane_changes", row.position, || {
                Ok::<_, Box<dyn std::error::Error>>((
                    TargetName::parse(&row.target)?,
                    parse_release(&row.version, parts)?,
                ))
            })?;
            ran.push((LaneRelease { service: service.clone(), target, release }, position(row.position)));
        }
        if requested_release.artifact.is_none() {
            return Ok(ran);
        }
        let states_none = |ran: &LaneRelease| ran.release.artifact.is_none();
        let unstated: Vec<&LaneRelease> =
            ran.iter().map(|(ran, _)| ran).filter(|ran| states_none(ran)).collect();
        let mut artifacts = Vec::new();
        if !unstated.is_empty() {
            let known_at = self.position();
            let versions: Vec<(&ServiceName, &ShortText)> =
                unstated.iter().map(|ran| (&ran.service, &ran.release.version)).collect();
            let meanings = VersionMeanings::load(self.connection(), id, versions, known_at).await?;
            artifacts = artifacts_in_lanes(self.connection(), (id, known_at), &meanings, &unstated).await?;
        }
        let mut artifacts = artifacts.into_iter();
        ran.retain(|(ran, _)| {
            let artifact = if states_none(ran) { artifacts.next().flatten() } else { None };
            counts_as_requested(requested_release, &ran.release, artifact.as_ref())
        });
        Ok(ran)
    }

    /// Returns the marked compositions in which a lane ran a release.
    async fn marked_compositions_with(
        &mut self,
        environment: &EnvironmentName,
        ran: &LaneRelease,
        marks: &Marks,
    ) -> Result<Vec<CompositionId>, Error> {
        let mut found = Vec::new();
        for (point, id) in marks.points() {
            let state = match self.state(environment, AsOf::Position(point)).await {
                Ok(state) => state,
                Err(QueryError::Projections(error)) => return Err(error),
                Err(_) => continue,
            };
            let composition = state.composition();
            let live = composition.lane(&ran.service, &ran.target);
            if live.is_some_and(|live| live.release.is_same(&ran.release)) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Returns the rollbacks of a lane, starting with the first one that may still hold a release.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn left_releases(&mut self, lane: &Lane) -> Result<Vec<RolledBackRelease>, Error> {
        let Some(id) = self.environment_id(&lane.environment).await? else { return Ok(Vec::new()) };
        let query = sqlx::query(sql!("evidence/rollbacks_of_lane"))
            .bind(id)
            .bind(lane.service.as_str())
            .bind(lane.target.as_str());
        let rows = query.fetch_all(self.connection()).await?;
        let mut left = Vec::new();
        for row in &rows {
            let (rollback, is_over) = parse_left_release(row)?;
            if !is_over || !left.is_empty() {
                left.push(rollback);
            }
        }
        Ok(left)
    }

    /// Returns the deploys to a lane after a position: the last deploy per release and rollback, and all late ones.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn deploys_after(
        &mut self,
        lane: &Lane,
        after: Position,
    ) -> Result<Vec<SucceededDeploy>, Error> {
        let Some(id) = self.environment_id(&lane.environment).await? else { return Ok(Vec::new()) };
        let query = sqlx::query_as(sql!("evidence/deploys_after"))
            .bind(id)
            .bind(lane.service.as_str())
            .bind(lane.target.as_str())
            .bind(bigint(after));
        let rows: Vec<DeployRow> = query.fetch_all(self.connection()).await?;
        rows.iter()
            .map(|row| {
                parsed("lane_changes", row.position, || {
                    let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
                    Ok::<_, Box<dyn std::error::Error>>(SucceededDeploy {
                        position: position(row.position),
                        occurred_at: row.occurred_at,
                        late: row.behind,
                        rollback_id: row.rollback_id.as_deref().map(ShortText::stored).transpose()?,
                        release: parse_release(&row.version, parts)?,
                    })
                })
            })
            .collect()
    }
}

fn parse_left_release(row: &sqlx::postgres::PgRow) -> Result<(RolledBackRelease, bool), Error> {
    use sqlx::Row as _;
    let text = |index: usize| row.try_get::<Option<String>, _>(index);
    let requested: i64 = row.try_get(1)?;
    let rollback_id: String = row.try_get(0)?;
    let side = |first: usize| -> Result<Option<Release>, Error> {
        let Some(version) = text(first)? else { return Ok(None) };
        let parts = [text(first + 1)?, text(first + 2)?, text(first + 3)?, text(first + 4)?];
        parsed("rollback_lanes", requested, || parse_release(&version, parts.each_ref())).map(Some)
    };
    let rollback = RolledBackRelease {
        rollback_id: parsed("rollbacks", requested, || ShortText::stored(&rollback_id))?,
        requested: position(requested),
        started: row.try_get(2)?,
        cancelled: row.try_get(3)?,
        by_person: row.try_get(4)?,
        from: side(5)?,
        to: side(10)?,
        ended: row.try_get::<Option<i64>, _>(15)?.map(position),
    };
    Ok((rollback, row.try_get(16)?))
}
