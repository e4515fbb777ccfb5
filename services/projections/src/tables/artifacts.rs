//! Artifacts: builds by version, the artifact that a version means, and revocations.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::event::{Built, Payload, Reinstated, Revoked};
use ledger_domain::plan_issue::RevokedArtifact;
use ledger_domain::revocation::{RevocationEvent, in_force, in_force_for_service};
use ledger_domain::version_meaning::{
    self, ArtifactStatement, PossibleArtifacts, first_build_after, latest_build, possible_builds,
};
use ledger_domain::{Artifact, EnvironmentName, EventTime, Position, Release, ServiceName, ShortText};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::{BatchStatement, insert_row};
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::parse_lane;

/// Builds by version, each list ordered by moment: time, then position.
#[derive(Debug, Default)]
pub(crate) struct Builds(HashMap<String, Vec<ArtifactStatement>>);

impl Builds {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of_version(&self, version: &ShortText) -> &[ArtifactStatement] {
        self.0.get(version.as_str()).map_or(&[], Vec::as_slice)
    }

    /// Returns the artifact of the build that a version of a service means at a time, by builds alone.
    pub(crate) fn built_artifact(
        &self,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        let builds = self.of_version(version);
        let until = builds.partition_point(|build| build.at.occurred_at <= at);
        latest_build(service, builds[..until].iter()).map(|build| &build.artifact)
    }
}

/// Loads the builds of some versions, as known at a position.
pub(crate) async fn load_builds<'v>(
    connection: &mut PgConnection,
    versions: impl IntoIterator<Item = &'v str>,
    known_at: Position,
) -> Result<Builds, Error> {
    let versions: Vec<String> = versions.into_iter().map(str::to_owned).collect();
    let query = sqlx::query_as(sql!("artifacts/builds")).bind(versions).bind(bigint(known_at));
    let rows: Vec<(String, String, DateTime<Utc>, i64)> = query.fetch_all(connection).await?;
    let mut builds = Builds::default();
    for (version, artifact, occurred_at, at) in rows {
        let artifact = parsed("builds", at, || Artifact::stored(&artifact))?;
        let build = ArtifactStatement { at: EventTime::new(occurred_at, position(at)), artifact };
        builds.0.entry(version).or_default().push(build);
    }
    Ok(builds)
}

/// Deploys that state an artifact, ordered by moment.
type StatingDeploys = Vec<ArtifactStatement>;

/// Artifacts that versions of services mean in an environment, as known at a position.
#[derive(Debug, Default)]
pub(crate) struct VersionMeanings {
    /// Deploys to the environment, by service and version.
    here: HashMap<(String, String), StatingDeploys>,
    /// Deploys to other environments, by service and version.
    elsewhere: HashMap<(String, String), StatingDeploys>,
    builds: Builds,
}

impl VersionMeanings {
    /// Loads what some versions of services mean in an environment.
    pub(crate) async fn load<'v>(
        connection: &mut PgConnection,
        environment_id: i32,
        versions: impl IntoIterator<Item = (&'v ServiceName, &'v ShortText)>,
        known_at: Position,
    ) -> Result<Self, Error> {
        let versions: BTreeSet<(&str, &str)> =
            versions.into_iter().map(|(service, version)| (service.as_str(), version.as_str())).collect();
        let (services, versions): (Vec<&str>, Vec<&str>) = versions.into_iter().unzip();
        let builds = load_builds(&mut *connection, versions.iter().copied(), known_at).await?;
        let query = sqlx::query_as(sql!("artifacts/stating_deploys"))
            .bind(environment_id)
            .bind(services)
            .bind(versions)
            .bind(bigint(known_at));
        let rows: Vec<StatingDeployRow> = query.fetch_all(connection).await?;
        let mut meanings = Self { builds, ..Self::default() };
        for row in rows {
            let artifact = parsed("lane_changes", row.position, || Artifact::stored(&row.artifact))?;
            let deploys = if row.is_here { &mut meanings.here } else { &mut meanings.elsewhere };
            let at = EventTime::new(row.occurred_at, position(row.position));
            let deploy = ArtifactStatement { at, artifact };
            deploys.entry((row.service, row.version)).or_default().push(deploy);
        }
        Ok(meanings)
    }

    /// Returns the deploys of a version of a service to the environment, and those to others.
    fn stating_deploys(&self, service: &ServiceName, version: &ShortText) -> [&[ArtifactStatement]; 2] {
        let key = (service.to_string(), version.to_string());
        [&self.here, &self.elsewhere].map(|deploys| deploys.get(&key).map_or(&[][..], Vec::as_slice))
    }

    /// Returns true if more than one artifact is known for a version of a service: only then can it have meant several.
    /// Compares identities: [`Artifact::is_same`] is not transitive.
    pub(crate) fn is_ambiguous(&self, service: &ServiceName, version: &ShortText) -> bool {
        let deploys = self.stating_deploys(service, version).into_iter().flatten();
        let known = deploys.chain(self.builds.of_version(version));
        let mut identities = known.map(|statement| statement.artifact.identity());
        identities.next().is_some_and(|first| identities.any(|other| other != first))
    }

    /// Returns the [artifact](version_meaning::artifact_of_version) that a version of a service means at a time.
    fn artifact_of_version(
        &self,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        let [here, elsewhere] = self.stating_deploys(service, version).map(|deploys| {
            let until = deploys.partition_point(|deploy| deploy.at.occurred_at <= at);
            deploys[..until].last().map(|deploy| &deploy.artifact)
        });
        let build = || self.builds.built_artifact(service, version, at);
        version_meaning::artifact_of_version(here, || elsewhere, build)
    }

    /// Returns the artifact of a deploy at a time that states only its version: the one that the version means then or, if
    /// it means none, the first that it means after that.
    pub(crate) fn artifact_of_deploy(
        &self,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        let deploys_after = || {
            let deploys = self.stating_deploys(service, version).into_iter();
            deploys.filter_map(move |deploys| {
                let first = deploys.partition_point(|deploy| deploy.at.occurred_at <= at);
                deploys.get(first).map(ArtifactStatement::stated)
            })
        };
        let builds = self.builds.of_version(version).iter();
        let build_after = || first_build_after(service, builds, at).map(ArtifactStatement::stated);
        let of_version = self.artifact_of_version(service, version, at);
        version_meaning::artifact_of_deploy(of_version, deploys_after, build_after)
    }

    /// Returns every artifact that a version of a service means at some time, and thus every one that
    /// [`artifact_of_deploy`](Self::artifact_of_deploy) returns for some time.
    fn possible_artifacts(&self, service: &ServiceName, version: &ShortText) -> PossibleArtifacts {
        let deploys = self.stating_deploys(service, version).into_iter().flatten();
        let builds = possible_builds(service, self.builds.of_version(version));
        let artifacts = deploys.chain(builds).map(|statement| statement.artifact.clone()).collect();
        // What means nothing in the end may have meant nothing for a deploy, even if it meant something at first.
        let is_complete = self.artifact_of_version(service, version, DateTime::<Utc>::MAX_UTC).is_some();
        PossibleArtifacts { artifacts, is_complete }
    }
}

/// A moment, and the last position that is known when the meaning of a version is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownEventTime {
    /// The moment of which the meaning is asked.
    pub at: EventTime,
    /// The last known position.
    pub known_at: Position,
}

impl KnownEventTime {
    /// Returns the build that gives a version of a service its artifact at the moment. The builds are ordered by moment.
    fn build<'b>(
        &self,
        service: &ServiceName,
        builds: &'b [ArtifactStatement],
    ) -> Option<&'b ArtifactStatement> {
        let until = builds.partition_point(|build| build.at <= self.at);
        latest_build(service, builds[..until].iter().filter(|build| build.at.position <= self.known_at))
    }
}

#[derive(sqlx::FromRow)]
struct StatingDeployRow {
    service: String,
    version: String,
    is_here: bool,
    occurred_at: DateTime<Utc>,
    position: i64,
    artifact: String,
}

impl Snapshot {
    /// Returns the artifact that a version of a service means in an environment at a time, as known now, and the
    /// position of the event that states it.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn artifact_of_version(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Result<Option<(Artifact, Position)>, Error> {
        let known_at = self.position();
        let now = KnownEventTime { at: EventTime::new(at, known_at), known_at };
        let found = self.artifacts_of_version_at(environment, service, version, &[now]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Returns the artifacts that releases of these versions of services may have, as known now, in the order of
    /// `versions`.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn possible_artifacts(
        &mut self,
        environment: &EnvironmentName,
        versions: &[(ServiceName, ShortText)],
    ) -> Result<Vec<PossibleArtifacts>, Error> {
        let known_at = self.position();
        let id = self.environment_id(environment).await?.unwrap_or_default();
        let names = versions.iter().map(|(service, version)| (service, version));
        let meanings = VersionMeanings::load(self.connection(), id, names, known_at).await?;
        Ok(versions.iter().map(|(service, version)| meanings.possible_artifacts(service, version)).collect())
    }

    /// Returns the artifact that a version of a service means in an environment at each moment, by what was known then,
    /// with the position of the event that states it. The rule is that of [`version_meaning::artifact_of_version`]; the
    /// SQL statement selects the deploy.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn artifacts_of_version_at(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        moments: &[KnownEventTime],
    ) -> Result<Vec<Option<(Artifact, Position)>>, Error> {
        if moments.is_empty() {
            return Ok(Vec::new());
        }
        let id = self.environment_id(environment).await?.unwrap_or_default();
        let query = sqlx::query_as(sql!("artifacts/last_deployed_artifact_at"))
            .bind(id)
            .bind(service.as_str())
            .bind(version.as_str())
            .bind(moments.iter().map(|moment| moment.at.occurred_at).collect::<Vec<_>>())
            .bind(moments.iter().map(|moment| bigint(moment.at.position)).collect::<Vec<_>>())
            .bind(moments.iter().map(|moment| bigint(moment.known_at)).collect::<Vec<_>>());
        let rows: Vec<(i64, String, i64)> = query.fetch_all(self.connection()).await?;
        let mut artifacts: Vec<Option<(Artifact, Position)>> = vec![None; moments.len()];
        for (index, artifact, stated_at) in rows {
            let index = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
            if let Some(found) = index.and_then(|index| artifacts.get_mut(index)) {
                let artifact = parsed("lane_changes", stated_at, || Artifact::stored(&artifact))?;
                *found = Some((artifact, position(stated_at)));
            }
        }
        if artifacts.iter().all(Option::is_some) {
            return Ok(artifacts);
        }
        let known_at = self.position();
        let builds = load_builds(self.connection(), [version.as_str()], known_at).await?;
        for (moment, found) in moments.iter().zip(&mut artifacts).filter(|(_, found)| found.is_none()) {
            let build = moment.build(service, builds.of_version(version));
            *found = build.map(|build| (build.artifact.clone(), build.at.position));
        }
        Ok(artifacts)
    }

    /// Returns the revocations in force for releases of services in an environment, and the artifacts of the versions
    /// of those that state none. A release that states no artifact is checked by the artifact of its version.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn revoked_releases(
        &mut self,
        environment: &EnvironmentName,
        releases: &[(&ServiceName, &Release)],
        now: DateTime<Utc>,
    ) -> Result<(Vec<RevokedArtifact>, BTreeMap<(ServiceName, ShortText), Artifact>), Error> {
        let mut of_versions = BTreeMap::new();
        if !sqlx::query_scalar(sql!("revocations/any")).fetch_one(self.connection()).await? {
            return Ok((Vec::new(), of_versions));
        }
        let mut artifacts: Vec<Artifact> = Vec::new();
        for (service, release) in releases {
            let (service, release) = (*service, *release);
            let key = (service.clone(), release.version.clone());
            match &release.artifact {
                Some(artifact) => artifacts.push(artifact.clone()),
                None if !of_versions.contains_key(&key) => {
                    let found = self.artifact_of_version(environment, service, &release.version, now).await?;
                    if let Some((artifact, _)) = found {
                        artifacts.push(artifact.clone());
                        of_versions.insert(key, artifact);
                    }
                }
                None => {}
            }
        }
        Ok((self.revoked(&artifacts).await?, of_versions))
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
        let query = sqlx::query_as(sql!("revocations/of_artifacts")).bind(keys);
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
        let texts: Vec<String> =
            sqlx::query_scalar(sql!("revocations/revoked_artifacts")).fetch_all(self.connection()).await?;
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
        let query = sqlx::query_as(sql!("artifacts/lanes")).bind(artifact.keys());
        let rows: Vec<(String, String, String)> = query.fetch_all(self.connection()).await?;
        rows.into_iter()
            .map(|(environment, service, target)| {
                parsed("tracks", &service, || parse_lane(&environment, &service, &target))
            })
            .collect()
    }
}

insert_row! {
    /// Row of `builds`.
    pub(crate) struct BuildInsert => "builds" {
        version: String,
        position: i64,
        occurred_at: DateTime<Utc>,
        artifact: String,
    }
}

insert_row! {
    /// Row of `revocations`.
    pub(crate) struct RevocationInsert => "revocations" {
        position: i64,
        artifact: String,
        artifact_key: String,
        package_key: Option<String>,
        deleted: bool,
        reinstates: bool,
        occurred_at: DateTime<Utc>,
    }
}

/// Rows to insert into `builds` and `revocations`.
#[derive(Default)]
pub(crate) struct ArtifactRows {
    builds: Vec<BuildInsert>,
    revocations: Vec<RevocationInsert>,
}

impl ArtifactRows {
    pub(crate) fn push(&mut self, payload: &Payload, at: Position, occurred_at: DateTime<Utc>) {
        let revocation = |artifact: &Artifact, deleted, reinstates| RevocationInsert {
            position: bigint(at),
            artifact: artifact.as_str().to_owned(),
            artifact_key: artifact.identity(),
            package_key: artifact.package_key(),
            deleted,
            reinstates,
            occurred_at,
        };
        match payload {
            Payload::ArtifactBuilt(Built { artifact, version: Some(version), .. }) => {
                self.builds.push(BuildInsert {
                    version: version.to_string(),
                    position: bigint(at),
                    occurred_at,
                    artifact: artifact.as_str().to_owned(),
                });
            }
            Payload::ArtifactRevoked(Revoked { artifact, deleted, .. }) => {
                self.revocations.push(revocation(artifact, *deleted, false));
            }
            Payload::ArtifactReinstated(Reinstated { artifact }) => {
                self.revocations.push(revocation(artifact, false, true));
            }
            _ => {}
        }
    }

    pub(crate) fn add_to(self, statement: &mut BatchStatement) -> Result<(), Error> {
        statement.insert(self.builds)?;
        statement.insert(self.revocations)
    }
}

#[cfg(test)]
mod tests;
