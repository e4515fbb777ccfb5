//! Artifacts: builds by version, the artifact that a version resolves to, and revocations.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::event::{Built, Payload, Reinstated, Revoked};
use ledger_domain::plan_issue::RevokedArtifact;
use ledger_domain::revocation::{RevocationEvent, in_force, in_force_for_service};
use ledger_domain::{Artifact, EnvironmentName, Position, Release, ServiceName, ShortText};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::lanes::parse_lane;

pub(crate) const STATEMENTS: &[&str] = &[
    BUILDS,
    LAST_DEPLOYED_ARTIFACT,
    REVOCATIONS,
    REVOKED_ARTIFACTS,
    HAS_REVOCATIONS,
    LANES_OF_ARTIFACT,
    WRITE_BUILDS,
    WRITE_REVOCATIONS,
];

const BUILDS: &str = "SELECT version, artifact, occurred_at, position FROM builds
    WHERE version = ANY($1) AND position <= $2 ORDER BY occurred_at, position";

/// Selects the artifact of the latest deploy of a service version up to a time. Deploys to the given environment take
/// precedence over those to others.
const LAST_DEPLOYED_ARTIFACT: &str = "SELECT c.artifact, c.position
    FROM tracks t
    CROSS JOIN LATERAL (
        SELECT c.artifact, c.position, c.occurred_at FROM lane_changes c
        WHERE c.track_id = t.track_id AND c.version = $3 AND c.artifact IS NOT NULL AND c.occurred_at <= $4
            AND c.corrected_position IS NULL
        ORDER BY c.occurred_at DESC, c.position DESC LIMIT 1
    ) c
    WHERE t.service = $2
    ORDER BY t.environment_id = $1 DESC, c.occurred_at DESC, c.position DESC LIMIT 1";

const REVOCATIONS: &str = "SELECT position, artifact, deleted, reinstates FROM revocations
    WHERE artifact_key = ANY($1) OR package_key = ANY($1) ORDER BY occurred_at, position";

const REVOKED_ARTIFACTS: &str = "SELECT DISTINCT artifact FROM revocations WHERE NOT reinstates";

const HAS_REVOCATIONS: &str = "SELECT EXISTS (SELECT FROM revocations)";

/// Selects every lane to which an artifact was ever deployed. The state of a lane says whether traffic reaches it now.
const LANES_OF_ARTIFACT: &str = "SELECT DISTINCT e.name, t.service, t.target
    FROM tracks t JOIN environments e USING (environment_id)
    WHERE EXISTS (
        SELECT FROM lane_changes c
        WHERE c.track_id = t.track_id AND (c.artifact_key = ANY($1) OR c.package_key = ANY($1))
    )
    ORDER BY 1, 2, 3";

const WRITE_BUILDS: &str = "INSERT INTO builds (version, position, occurred_at, artifact)
    SELECT unnest($1::text[]), unnest($2::bigint[]), unnest($3::timestamptz[]), unnest($4::text[])";

const WRITE_REVOCATIONS: &str =
    "INSERT INTO revocations (position, artifact, artifact_key, package_key, deleted, reinstates, occurred_at)
    SELECT unnest($1::bigint[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::boolean[]),
        unnest($6::boolean[]), unnest($7::timestamptz[])";

#[derive(Debug, Clone)]
pub(crate) struct Build {
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) position: Position,
    pub(crate) artifact: Artifact,
}

/// Builds by version, each list ordered by moment: time, then position.
#[derive(Debug, Default)]
pub(crate) struct Builds(HashMap<String, Vec<Build>>);

impl Builds {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of_version(&self, version: &ShortText) -> impl Iterator<Item = &Build> {
        self.0.get(version.as_str()).into_iter().flatten()
    }

    /// Returns the artifact that a version of a service resolves to by the builds up to a time: the latest build of an
    /// artifact that is named like the service; otherwise the latest build, if all builds have one name.
    pub(crate) fn resolve(
        &self,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        self.resolve_build(service, version, at).map(|build| &build.artifact)
    }

    fn resolve_build(&self, service: &ServiceName, version: &ShortText, at: DateTime<Utc>) -> Option<&Build> {
        let builds: Vec<&Build> = self.of_version(version).filter(|build| build.occurred_at <= at).collect();
        let name = |build: &Build| build.artifact.name();
        let of_service = |build: &&&Build| name(build).as_deref() == Some(service.as_str());
        if let Some(build) = builds.iter().rev().find(of_service) {
            return Some(build);
        }
        let last = builds.last()?;
        builds.iter().all(|build| name(build) == name(last)).then_some(last)
    }
}

/// Loads the builds of some versions, as known at a position.
pub(crate) async fn load_builds<'v>(
    connection: &mut PgConnection,
    versions: impl IntoIterator<Item = &'v str>,
    known_at: Position,
) -> Result<Builds, Error> {
    let versions: Vec<String> = versions.into_iter().map(str::to_owned).collect();
    let query = sqlx::query_as(BUILDS).bind(versions).bind(bigint(known_at));
    let rows: Vec<(String, String, DateTime<Utc>, i64)> = query.fetch_all(connection).await?;
    let mut builds = Builds::default();
    for (version, artifact, occurred_at, at) in rows {
        let artifact = parsed("builds", at, || Artifact::stored(&artifact))?;
        let build = Build { occurred_at, position: position(at), artifact };
        builds.0.entry(version).or_default().push(build);
    }
    Ok(builds)
}

impl Snapshot {
    /// Returns the artifact that a version of a service resolves to at a time, as known now, and the position of the
    /// event that states it: the artifact of the latest deploy to this environment, else to another; else that of a
    /// build.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn artifact_meant(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Result<Option<(Artifact, Position)>, Error> {
        let id = self.environment_id(environment).await?.unwrap_or_default();
        let query = sqlx::query_as(LAST_DEPLOYED_ARTIFACT)
            .bind(id)
            .bind(service.as_str())
            .bind(version.as_str())
            .bind(at);
        let row: Option<(String, i64)> = query.fetch_optional(self.connection()).await?;
        if let Some((artifact, at)) = row {
            let artifact = parsed("lane_changes", at, || Artifact::stored(&artifact))?;
            return Ok(Some((artifact, position(at))));
        }
        let known_at = self.position();
        let builds = load_builds(self.connection(), [version.as_str()], known_at).await?;
        let build = builds.resolve_build(service, version, at);
        Ok(build.map(|build| (build.artifact.clone(), build.position)))
    }

    /// Returns the revocations in force for releases of services in an environment, and the artifacts resolved for the
    /// releases that state none. A release that states no artifact is checked by the artifact of its version.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn revoked_releases(
        &mut self,
        environment: &EnvironmentName,
        releases: &[(&ServiceName, &Release)],
        now: DateTime<Utc>,
    ) -> Result<(Vec<RevokedArtifact>, BTreeMap<(ServiceName, ShortText), Artifact>), Error> {
        let mut resolved = BTreeMap::new();
        if !sqlx::query_scalar(HAS_REVOCATIONS).fetch_one(self.connection()).await? {
            return Ok((Vec::new(), resolved));
        }
        let mut artifacts: Vec<Artifact> = Vec::new();
        for (service, release) in releases {
            let (service, release) = (*service, *release);
            let key = (service.clone(), release.version.clone());
            match &release.artifact {
                Some(artifact) => artifacts.push(artifact.clone()),
                None if !resolved.contains_key(&key) => {
                    let found = self.artifact_meant(environment, service, &release.version, now).await?;
                    if let Some((artifact, _)) = found {
                        artifacts.push(artifact.clone());
                        resolved.insert(key, artifact);
                    }
                }
                None => {}
            }
        }
        Ok((self.revoked(&artifacts).await?, resolved))
    }

    /// Returns the revocations in force for these artifacts, ordered by position. The latest event by moment decides: a
    /// reinstatement cancels the revocations before it.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn revoked<'a>(
        &mut self,
        artifacts: impl IntoIterator<Item = &'a Artifact>,
    ) -> Result<Vec<RevokedArtifact>, Error> {
        let artifacts: Vec<&Artifact> = artifacts.into_iter().collect();
        let events = self.revocation_events(&artifacts).await?;
        let mut revoked: Vec<RevokedArtifact> = Vec::new();
        for in_force in artifacts.into_iter().filter_map(|artifact| in_force(artifact, &events)) {
            if !revoked.contains(&in_force) {
                revoked.push(in_force);
            }
        }
        revoked.sort_by_key(|revoked| revoked.position);
        Ok(revoked)
    }

    /// Returns the revocations and reinstatements that have a key of one of the artifacts, ordered by moment.
    async fn revocation_events(&mut self, artifacts: &[&Artifact]) -> Result<Vec<RevocationEvent>, Error> {
        let keys: Vec<String> = artifacts.iter().flat_map(|artifact| artifact.keys()).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query_as(REVOCATIONS).bind(keys);
        let rows: Vec<(i64, String, bool, bool)> = query.fetch_all(self.connection()).await?;
        let mut events = Vec::with_capacity(rows.len());
        for (at, artifact, deleted, reinstates) in rows {
            let artifact = parsed("revocations", at, || Artifact::stored(&artifact))?;
            events.push(match reinstates {
                true => RevocationEvent::Reinstated(artifact),
                false => {
                    RevocationEvent::Revoked(RevokedArtifact { artifact, deleted, position: position(at) })
                }
            });
        }
        Ok(events)
    }

    /// Returns the revocations in force for artifacts that are named like a service, each with the spelling that has the
    /// name: another spelling of the same artifact may have been revoked first.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn revoked_named(&mut self, service: &ServiceName) -> Result<Vec<RevokedArtifact>, Error> {
        let texts: Vec<String> = sqlx::query_scalar(REVOKED_ARTIFACTS).fetch_all(self.connection()).await?;
        let artifacts: Result<Vec<Artifact>, Error> =
            texts.iter().map(|text| parsed("revocations", text, || Artifact::stored(text))).collect();
        let artifacts = artifacts?;
        let is_named = |artifact: &&Artifact| artifact.name().as_deref() == Some(service.as_str());
        let named: Vec<&Artifact> = artifacts.iter().filter(is_named).collect();
        Ok(in_force_for_service(service, &self.revocation_events(&named).await?))
    }

    /// Returns the lanes to which an artifact was ever deployed: environment, service, target.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn lanes_of_artifact(
        &mut self,
        artifact: &Artifact,
    ) -> Result<Vec<ledger_domain::Lane>, Error> {
        let query = sqlx::query_as(LANES_OF_ARTIFACT).bind(artifact.keys());
        let rows: Vec<(String, String, String)> = query.fetch_all(self.connection()).await?;
        rows.into_iter()
            .map(|(environment, service, target)| {
                parsed("tracks", &service, || parse_lane(&environment, &service, &target))
            })
            .collect()
    }
}

#[derive(Default)]
struct RevocationRows {
    position: Vec<i64>,
    artifact: Vec<String>,
    key: Vec<String>,
    package_key: Vec<Option<String>>,
    deleted: Vec<bool>,
    reinstates: Vec<bool>,
    occurred_at: Vec<DateTime<Utc>>,
}

/// Rows to insert into `builds` and `revocations`, column by column.
#[derive(Default)]
pub(crate) struct ArtifactRows {
    builds: (Vec<String>, Vec<i64>, Vec<DateTime<Utc>>, Vec<String>),
    revocations: RevocationRows,
}

impl ArtifactRows {
    pub(crate) fn push(&mut self, payload: &Payload, at: Position, occurred_at: DateTime<Utc>) {
        match payload {
            Payload::ArtifactBuilt(Built { artifact, version: Some(version), .. }) => {
                self.builds.0.push(version.to_string());
                self.builds.1.push(bigint(at));
                self.builds.2.push(occurred_at);
                self.builds.3.push(artifact.as_str().to_owned());
            }
            Payload::ArtifactRevoked(Revoked { artifact, deleted, .. }) => {
                self.push_revocation(artifact, *deleted, false, (at, occurred_at));
            }
            Payload::ArtifactReinstated(Reinstated { artifact }) => {
                self.push_revocation(artifact, false, true, (at, occurred_at));
            }
            _ => {}
        }
    }

    fn push_revocation(
        &mut self,
        artifact: &Artifact,
        deleted: bool,
        reinstates: bool,
        (at, occurred_at): (Position, DateTime<Utc>),
    ) {
        let rows = &mut self.revocations;
        rows.position.push(bigint(at));
        rows.artifact.push(artifact.as_str().to_owned());
        rows.key.push(artifact.identity());
        rows.package_key.push(artifact.package_key());
        rows.deleted.push(deleted);
        rows.reinstates.push(reinstates);
        rows.occurred_at.push(occurred_at);
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        let (version, position, occurred_at, artifact) = self.builds;
        if !version.is_empty() {
            let query =
                sqlx::query(WRITE_BUILDS).bind(version).bind(position).bind(occurred_at).bind(artifact);
            query.execute(&mut *connection).await?;
        }
        let rows = self.revocations;
        if !rows.position.is_empty() {
            let query = sqlx::query(WRITE_REVOCATIONS).bind(rows.position).bind(rows.artifact).bind(rows.key);
            let query = query.bind(rows.package_key);
            query.bind(rows.deleted).bind(rows.reinstates).bind(rows.occurred_at).execute(connection).await?;
        }
        Ok(())
    }
}
