//! Check results: the ends and starts of checks, and the releases and compositions that they apply to.
//!
//! Decision 0015, section 3, is the specification. A check that names its release, its artifact or its deployment
//! applies to that. A check that names only a lane applies to what traffic reached there at the end of the check; a
//! check of an environment applies to the composition at its end. Later reports can change both, so queries resolve
//! them, not the projector.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::checks::{LaneDeploy, speaks_of, straddles};
use ledger_domain::known_good::{CheckResult, CheckResults};
use ledger_domain::retirement::Retirements;
use ledger_domain::span::{Span, joined};
use ledger_domain::{
    Artifact, Composition, CompositionId, EnvironmentName, Position, Release, ServiceName, ShortText,
    TargetName,
};
use sqlx::PgConnection;
use uuid::Uuid;

use self::history_spans::spans_from_history;
use self::query_rows::{CompositionEndRow, DeployRow, ReorderedEndRow, SpanEndRow, SubjectEndRow, SwitchRow};
use self::subjects::{LaneSubject, artifact_subject, environment_subject};
use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::{expanded_sql, sql};
use crate::tables::artifacts::{Builds, VersionMeanings, load_builds};
use crate::tables::lane_releases::{LaneRelease, artifacts_in_lanes};
use crate::tables::lanes::{AsOf, QueryError, far_future, load_histories, parse_release};
use crate::tables::live::reorderings;
use crate::tables::retirements::retirements;

mod history_spans;
mod query_rows;
mod rows;
mod subjects;

pub(crate) use rows::{CheckEndInsert, CheckResultRows, CheckStartInsert, contradicts, correct};

/// Kinds of evidence that an environment has, as known at a position.
#[derive(Clone, Copy)]
struct EvidenceKinds {
    /// Deploys that state more of a release than its version.
    with_parts: bool,
    /// Checks that name only a lane or a deployment.
    without_release: bool,
    /// Checks of the whole environment.
    of_environment: bool,
    /// Starts of checks.
    starts: bool,
    /// Checks that state an artifact, alone or with a release; also those of no environment.
    stating_artifacts: bool,
    /// Builds, or deploys to any environment that state more of a release than its version.
    with_meanings: bool,
}

async fn evidence_kinds(
    connection: &mut PgConnection,
    environment_id: i32,
    known_at: Position,
) -> Result<EvidenceKinds, Error> {
    let query =
        sqlx::query_as(sql!("check_results/evidence_kinds")).bind(environment_id).bind(bigint(known_at));
    let row: Option<(bool, bool, bool, bool, bool, bool)> = query.fetch_optional(connection).await?;
    let (with_parts, without_release, of_environment, starts, stating_artifacts, with_meanings) =
        row.unwrap_or_default();
    Ok(EvidenceKinds {
        with_parts,
        without_release,
        of_environment,
        starts,
        stating_artifacts,
        with_meanings,
    })
}

impl Snapshot {
    /// Returns the check results for releases that lanes of an environment ran, as known at a position, in the order of
    /// `ran`.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn verdicts(
        &mut self,
        environment: &EnvironmentName,
        ran: &[LaneRelease],
        known_at: Position,
    ) -> Result<Vec<CheckResults>, Error> {
        let Some(id) = self.environment_id(environment).await? else {
            return Ok(vec![CheckResults::default(); ran.len()]);
        };
        if ran.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection();
        let kinds = evidence_kinds(connection, id, known_at).await?;
        let query = ResultsQuery { environment, environment_id: id, known_at, kinds, ran };
        query.results(connection).await
    }

    /// Returns the check results for compositions of an environment, as known at a position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn composition_verdicts(
        &mut self,
        environment: &EnvironmentName,
        compositions: &[CompositionId],
        known_at: Position,
    ) -> Result<HashMap<CompositionId, CheckResults>, Error> {
        let mut all: HashMap<CompositionId, CheckResults> = HashMap::new();
        let Some(id) = self.environment_id(environment).await? else { return Ok(all) };
        let kinds = evidence_kinds(self.connection(), id, known_at).await?;
        if !kinds.of_environment || compositions.is_empty() {
            return Ok(all);
        }
        let query = sqlx::query_as(expanded_sql!("check_results/latest_ends_by_composition"))
            .bind(environment_subject(environment))
            .bind(bigint(known_at))
            .bind(id)
            .bind(compositions.iter().map(|id| id.as_bytes().to_vec()).collect::<Vec<_>>())
            .bind(Composition::default().id().as_bytes().to_vec());
        let rows: Vec<CompositionEndRow> = query.fetch_all(self.connection()).await?;
        for row in &rows {
            let bytes =
                parsed("live_changes", row.end.position, || <[u8; 32]>::try_from(&row.composition[..]))?;
            row.end.add_to(all.entry(CompositionId::from_bytes(bytes)).or_default())?;
        }
        for (composition, check, result) in self.reordered_results(environment, id, known_at).await? {
            if compositions.contains(&composition) {
                all.entry(composition).or_default().add(check, result);
            }
        }
        Ok(all)
    }

    /// Returns all results of checks of an environment within these spans, each with the composition that it applies
    /// to. The number of results is not limited.
    ///
    /// # Errors
    /// The database query fails.
    pub(crate) async fn checked_compositions(
        &mut self,
        environment: &EnvironmentName,
        known_at: Position,
        spans: &[Span],
    ) -> Result<Vec<(CompositionId, ShortText, CheckResult)>, Error> {
        let mut found = Vec::new();
        let Some(id) = self.environment_id(environment).await? else { return Ok(found) };
        if !evidence_kinds(self.connection(), id, known_at).await?.of_environment {
            return Ok(found);
        }
        let last_change = self.last_change(id, known_at).await?;
        let query = sqlx::query_as(expanded_sql!("check_results/ends_in_spans"))
            .bind(environment_subject(environment))
            .bind(bigint(known_at))
            .bind(id)
            .bind(spans.iter().map(|span| span.from.max(DateTime::UNIX_EPOCH)).collect::<Vec<_>>())
            .bind(spans.iter().map(|span| span.until.min(far_future())).collect::<Vec<_>>())
            .bind(last_change);
        let rows: Vec<CompositionEndRow> = query.fetch_all(self.connection()).await?;
        for row in &rows {
            let bytes =
                parsed("live_changes", row.end.position, || <[u8; 32]>::try_from(&row.composition[..]))?;
            let (check, result) = row.end.parse()?;
            found.push((CompositionId::from_bytes(bytes), check, result));
        }
        let reordered = self.reordered_results(environment, id, known_at).await?.into_iter();
        let within = |result: &CheckResult| spans.iter().any(|span| span.contains(result.occurred_at));
        found.extend(reordered.filter(|(_, _, result)| within(result)));
        Ok(found)
    }

    /// Returns the results of checks of an environment within reorderings, each with the composition that it applies
    /// to. Caches them in the snapshot.
    async fn reordered_results(
        &mut self,
        environment: &EnvironmentName,
        environment_id: i32,
        known_at: Position,
    ) -> Result<Vec<(CompositionId, ShortText, CheckResult)>, Error> {
        if let Some(found) = self.reordered_checks.get(&(environment_id, known_at)) {
            return Ok(found.clone());
        }
        let mut found = Vec::new();
        if !reorderings(self.connection(), environment_id, known_at).await?.is_empty() {
            let query = sqlx::query_as(expanded_sql!("check_results/ends_in_reorderings"))
                .bind(environment_subject(environment))
                .bind(bigint(known_at))
                .bind(environment_id);
            let rows: Vec<ReorderedEndRow> = query.fetch_all(self.connection()).await?;
            for row in &rows {
                let end = row.end.occurred_at;
                let composition = self.composition_at_time(environment, end, known_at).await?;
                let straddles = match row.started_at {
                    Some(start) => {
                        let ran = (environment, environment_id, &composition);
                        self.straddles_change(ran, start, end, known_at).await?
                    }
                    None => false,
                };
                if !straddles {
                    let (check, result) = row.end.parse()?;
                    found.push((composition.id(), check, result));
                }
            }
        }
        self.reordered_checks.insert((environment_id, known_at), found.clone());
        Ok(found)
    }

    /// Returns true if the composition that an environment ran at the end of a check is not the one that it ran at the
    /// start, or changed in between, be it for no time.
    async fn straddles_change(
        &mut self,
        (environment, environment_id, composition): (&EnvironmentName, i32, &Composition),
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        known_at: Position,
    ) -> Result<bool, Error> {
        let id = composition.id();
        if self.composition_at_time(environment, start, known_at).await?.id() != id {
            return Ok(true);
        }
        let query = sqlx::query_scalar(sql!("check_results/change_times"))
            .bind(environment_id)
            .bind(bigint(known_at))
            .bind(start)
            .bind(end);
        let times: Vec<DateTime<Utc>> = query.fetch_all(self.connection()).await?;
        for time in times {
            let mut ran =
                self.transient_compositions(environment_id, time, known_at, composition.clone()).await?;
            ran.push(self.composition_at_time(environment, time, known_at).await?);
            if ran.iter().any(|ran| ran.id() != id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn composition_at_time(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
        known_at: Position,
    ) -> Result<Composition, Error> {
        let as_of = AsOf::Time { time, known_at: Some(known_at) };
        match self.state(environment, as_of).await {
            Ok(state) => Ok(state.composition()),
            Err(QueryError::Projections(error)) => Err(error),
            Err(other) => parsed("environments", environment, || Err(other.to_string())),
        }
    }

    /// Returns the spans in which each lane ran its release, as known at a position, joined and sorted, in the order of
    /// `ran`.
    ///
    /// # Errors
    /// The database query fails.
    pub(crate) async fn live_spans(
        &mut self,
        environment: &EnvironmentName,
        ran: &[LaneRelease],
        known_at: Position,
    ) -> Result<Vec<Vec<Span>>, Error> {
        let Some(id) = self.environment_id(environment).await? else {
            return Ok(vec![Vec::new(); ran.len()]);
        };
        let connection = self.connection();
        let kinds = evidence_kinds(connection, id, known_at).await?;
        let runs =
            ResultsQuery { environment, environment_id: id, known_at, kinds, ran }.runs(connection).await?;
        Ok(runs.into_iter().map(|runs| runs.live).collect())
    }
}

/// Spans in which a release was in its lane, and the deploys that put it there.
#[derive(Default)]
struct ReleaseRuns {
    /// Spans in which traffic reached the release.
    live: Vec<Span>,
    /// Spans in which the release was on a track, for each track that it was ever on.
    tracks: Vec<Vec<Span>>,
    /// All deploys of its version to the lane.
    deploys: Vec<LaneDeploy>,
    /// Names of the deployment runs that deployed it.
    deployments: BTreeSet<String>,
}

/// Query for the check results of releases in lanes.
struct ResultsQuery<'q> {
    environment: &'q EnvironmentName,
    environment_id: i32,
    known_at: Position,
    kinds: EvidenceKinds,
    ran: &'q [LaneRelease],
}

impl ResultsQuery<'_> {
    async fn results(&self, connection: &mut PgConnection) -> Result<Vec<CheckResults>, Error> {
        let mut all = vec![CheckResults::default(); self.ran.len()];
        let known_artifacts = self.known_artifacts(connection).await?;
        let mut subjects: HashMap<Uuid, Vec<usize>> = HashMap::with_capacity(self.ran.len() * 2);
        let mut artifacts: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for (index, ran) in self.ran.iter().enumerate() {
            for lane in self.lane_subjects(ran) {
                subjects.entry(lane.release_key(ran.release.version.as_str())).or_default().push(index);
            }
            for artifact in known_artifacts[index].iter().flat_map(|artifact| artifact.keys()) {
                artifacts.entry(artifact_subject(&artifact)).or_default().push(index);
            }
        }
        let keys: Vec<Uuid> = subjects.keys().chain(artifacts.keys()).copied().collect();
        let sql = if self.kinds.starts {
            expanded_sql!("check_results/all_ends")
        } else {
            sql!("check_results/latest_ends")
        };
        let mut rows = self.ends(connection, sql, keys).await?;
        let states_no_artifact =
            |row: &SubjectEndRow| row.artifact.is_none() && !artifacts.contains_key(&row.subject);
        let with_artifacts = known_artifacts.iter().any(Option::is_some);
        let builds = if rows.iter().any(states_no_artifact) && with_artifacts {
            load_builds(connection, self.ran.iter().map(|ran| ran.release.version.as_str()), self.known_at)
                .await?
        } else {
            Builds::default()
        };
        let needs_resolution = rows.iter().any(states_no_artifact)
            && (self.kinds.with_parts || !builds.is_empty() || with_artifacts);
        let needs_runs = self.kinds.without_release || self.kinds.starts || needs_resolution;
        let mut runs = if needs_runs { self.runs(connection).await? } else { Vec::new() };
        if needs_resolution {
            self.complete_deploys(connection, &mut runs).await?;
        }
        if needs_resolution && !self.kinds.starts {
            // If a version has several builds, each build has its own latest results: read all ends.
            let is_rebuilt =
                |index: &usize| self.is_rebuilt((*index, known_artifacts[*index].as_ref()), &runs, &builds);
            let rebuilt = subjects.iter().filter(|(_, indexes)| indexes.iter().any(is_rebuilt));
            let rebuilt: Vec<Uuid> = rebuilt.map(|(subject, _)| *subject).collect();
            if !rebuilt.is_empty() {
                rows.retain(|row| !rebuilt.contains(&row.subject));
                rows.extend(self.ends(connection, expanded_sql!("check_results/all_ends"), rebuilt).await?);
            }
        }
        for row in &rows {
            for index in artifacts.get(&row.subject).into_iter().flatten() {
                if applies_to_artifact(row, known_artifacts[*index].as_ref())? {
                    row.end.add_to(&mut all[*index])?;
                }
            }
            for index in subjects.get(&row.subject).into_iter().flatten() {
                let subject = (*index, known_artifacts[*index].as_ref());
                if self.applies_to_release(row, subject, runs.get(*index), &builds)? {
                    row.end.add_to(&mut all[*index])?;
                }
            }
        }
        if self.kinds.without_release {
            self.add_results_without_release(connection, &runs, &mut all).await?;
        }
        Ok(all)
    }

    fn lane_subjects<'r>(&'r self, ran: &'r LaneRelease) -> [LaneSubject<'r>; 2] {
        LaneSubject::with_and_without_target(self.environment, &ran.service, &ran.target)
    }

    /// Returns the artifact of each release in its lane, in the order of `ran`. Leaves out one that cannot matter: no check
    /// states an artifact, and the version never meant another.
    async fn known_artifacts(&self, connection: &mut PgConnection) -> Result<Vec<Option<Artifact>>, Error> {
        let mut artifacts: Vec<Option<Artifact>> =
            self.ran.iter().map(|ran| ran.release.artifact.clone()).collect();
        let mut unstated: Vec<(usize, &LaneRelease)> =
            self.ran.iter().enumerate().filter(|(_, ran)| ran.release.artifact.is_none()).collect();
        if !self.kinds.with_meanings || unstated.is_empty() {
            return Ok(artifacts);
        }
        let versions: Vec<(&ServiceName, &ShortText)> =
            unstated.iter().map(|(_, ran)| (&ran.service, &ran.release.version)).collect();
        let meanings =
            VersionMeanings::load(connection, self.environment_id, versions, self.known_at).await?;
        unstated.retain(|(_, ran)| {
            self.kinds.stating_artifacts || meanings.is_ambiguous(&ran.service, &ran.release.version)
        });
        if unstated.is_empty() {
            return Ok(artifacts);
        }
        let (indexes, unstated): (Vec<usize>, Vec<&LaneRelease>) = unstated.into_iter().unzip();
        let query = (self.environment_id, self.known_at);
        let found = artifacts_in_lanes(connection, query, &meanings, &unstated).await?;
        for (index, artifact) in indexes.into_iter().zip(found) {
            artifacts[index] = artifact;
        }
        Ok(artifacts)
    }

    /// Completes the deploys that state no artifact with those of their versions.
    async fn complete_deploys(
        &self,
        connection: &mut PgConnection,
        runs: &mut [ReleaseRuns],
    ) -> Result<(), Error> {
        let states_none = |deploy: &&mut LaneDeploy| deploy.release.artifact.is_none();
        let versions: Vec<(&ServiceName, &ShortText)> = self
            .ran
            .iter()
            .zip(&*runs)
            .filter(|(_, runs)| runs.deploys.iter().any(|deploy| deploy.release.artifact.is_none()))
            .map(|(ran, _)| (&ran.service, &ran.release.version))
            .collect();
        if !self.kinds.with_meanings || versions.is_empty() {
            return Ok(());
        }
        let meanings =
            VersionMeanings::load(connection, self.environment_id, versions, self.known_at).await?;
        for (ran, runs) in self.ran.iter().zip(runs) {
            let version = &ran.release.version;
            for deploy in runs.deploys.iter_mut().filter(states_none) {
                let artifact = meanings.artifact_of_deploy(&ran.service, version, deploy.occurred_at);
                deploy.release = deploy.release.completed(artifact.cloned());
            }
        }
        Ok(())
    }

    async fn ends(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        subjects: Vec<Uuid>,
    ) -> Result<Vec<SubjectEndRow>, Error> {
        let query = sqlx::query_as(sql).bind(subjects).bind(bigint(self.known_at));
        Ok(query.fetch_all(connection).await?)
    }

    /// Returns true if another release is known under the same version.
    fn is_rebuilt(
        &self,
        (index, artifact): (usize, Option<&Artifact>),
        runs: &[ReleaseRuns],
        builds: &Builds,
    ) -> bool {
        let release = self.ran[index].release.completed(artifact.cloned());
        let deploys = runs.get(index).map(|runs| &runs.deploys[..]).unwrap_or_default();
        deploys.iter().any(|deploy| deploy.release.contradicts(&release))
            || builds.of_version(&release.version).iter().any(|built| {
                release.artifact.as_ref().is_some_and(|artifact| !artifact.is_same(&built.artifact))
            })
    }

    fn applies_to_release(
        &self,
        row: &SubjectEndRow,
        (index, artifact): (usize, Option<&Artifact>),
        runs: Option<&ReleaseRuns>,
        builds: &Builds,
    ) -> Result<bool, Error> {
        let ran = &self.ran[index];
        let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
        let stated =
            parsed("verdicts", row.end.position, || parse_release(ran.release.version.as_str(), parts))?;
        let end = row.end.occurred_at;
        let deploys = runs.map(|runs| &runs.deploys[..]).unwrap_or_default();
        let built = builds.built_artifact(&ran.service, &ran.release.version, end);
        if !speaks_of(&stated, end, deploys, built, (&ran.release, artifact)) {
            return Ok(false);
        }
        let tracks = runs.map(|runs| &runs.tracks[..]).unwrap_or_default();
        Ok(row.started_at.is_none_or(|start| !straddles(start, end, tracks)))
    }

    /// Adds the results of checks that name only a deployment or a lane.
    async fn add_results_without_release(
        &self,
        connection: &mut PgConnection,
        runs: &[ReleaseRuns],
        all: &mut [CheckResults],
    ) -> Result<(), Error> {
        let mut spans: Vec<(usize, Uuid, Span)> = Vec::new();
        let mut deployments: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for (index, (ran, runs)) in self.ran.iter().zip(runs).enumerate() {
            for lane in self.lane_subjects(ran) {
                spans.extend(runs.live.iter().map(|span| (index, lane.lane_key(), *span)));
                for deployment in &runs.deployments {
                    deployments.entry(lane.deployment_key(deployment)).or_default().push(index);
                }
            }
        }
        let query = sqlx::query_as(expanded_sql!("check_results/latest_ends_in_spans"))
            .bind(spans.iter().map(|(_, subject, _)| *subject).collect::<Vec<_>>())
            .bind(bigint(self.known_at))
            .bind(spans.iter().map(|(_, _, span)| span.from).collect::<Vec<_>>())
            .bind(spans.iter().map(|(_, _, span)| span.until.min(far_future())).collect::<Vec<_>>());
        let rows: Vec<SpanEndRow> = query.fetch_all(&mut *connection).await?;
        for row in &rows {
            if let Some((_, (index, _, _))) = at_ordinal(&spans, row.index) {
                row.end.add_to(&mut all[*index])?;
            }
        }
        if deployments.is_empty() {
            return Ok(());
        }
        let sql = if self.kinds.starts {
            expanded_sql!("check_results/all_ends")
        } else {
            sql!("check_results/latest_ends")
        };
        let rows = self.ends(connection, sql, deployments.keys().copied().collect()).await?;
        for row in &rows {
            for index in deployments.get(&row.subject).into_iter().flatten() {
                let tracks = &runs[*index].tracks;
                let end = row.end.occurred_at;
                if row.started_at.is_none_or(|start| !straddles(start, end, tracks)) {
                    row.end.add_to(&mut all[*index])?;
                }
            }
        }
        Ok(())
    }

    async fn runs(&self, connection: &mut PgConnection) -> Result<Vec<ReleaseRuns>, Error> {
        let texts = |text: fn(&LaneRelease) -> &str| {
            self.ran.iter().map(|ran| text(ran).to_owned()).collect::<Vec<_>>()
        };
        let (services, targets) = (texts(|ran| ran.service.as_str()), texts(|ran| ran.target.as_str()));
        let query = sqlx::query_as(sql!("check_results/version_deploys"))
            .bind(self.environment_id)
            .bind(&services)
            .bind(&targets)
            .bind(texts(|ran| ran.release.version.as_str()))
            .bind(bigint(self.known_at));
        let rows: Vec<DeployRow> = query.fetch_all(&mut *connection).await?;
        let retirements = retirements(connection, self.environment_id, self.known_at).await?;
        let mut runs: Vec<ReleaseRuns> = self.ran.iter().map(|_| ReleaseRuns::default()).collect();
        let mut spans: Vec<BTreeMap<Option<String>, Vec<Span>>> = vec![BTreeMap::new(); runs.len()];
        for row in rows {
            let Some((index, ran)) = at_ordinal(self.ran, row.index) else { continue };
            let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
            let deployed = parsed("lane_changes", &row.version, || parse_release(&row.version, parts))?;
            let is_same = deployed.is_same(&ran.release);
            let (occurred_at, at) = (row.occurred_at, position(row.position));
            runs[index].deploys.push(LaneDeploy { occurred_at, position: at, release: deployed });
            if is_same {
                runs[index].deployments.extend(row.deployment);
                let span = Span::new(row.occurred_at, row.until.unwrap_or(far_future()));
                if let Some(span) = span.and_then(|span| retirements.cut(span)) {
                    spans[index].entry(row.slot).or_default().push(span);
                }
            }
        }
        if spans.iter().any(|tracks| tracks.keys().any(Option::is_some)) {
            let query = sqlx::query_as(sql!("check_results/traffic_switches"))
                .bind(self.environment_id)
                .bind(&services)
                .bind(&targets)
                .bind(bigint(self.known_at));
            let switches: Vec<SwitchRow> = query.fetch_all(&mut *connection).await?;
            for switch in switches {
                let Some((index, _)) = at_ordinal(self.ran, switch.index) else { continue };
                let reached = Span::new(switch.occurred_at, switch.until.unwrap_or(far_future()));
                let reached = reached.and_then(|span| retirements.cut(span));
                let filled = spans[index].get(&Some(switch.switched_to)).into_iter().flatten();
                let live = filled.filter_map(|filled| reached.and_then(|reached| filled.and(&reached)));
                runs[index].live.extend(live);
            }
        }
        for (runs, spans) in runs.iter_mut().zip(spans) {
            runs.live.extend(spans.get(&None).into_iter().flatten().copied());
            runs.tracks = spans.into_iter().filter_map(|(slot, spans)| slot.map(|_| spans)).collect();
        }
        self.replace_irregular(connection, &retirements, &mut runs).await?;
        for runs in &mut runs {
            runs.live = joined(std::mem::take(&mut runs.live));
            // Traffic may be switched from one track of the release to another.
            runs.tracks.push(runs.live.clone());
        }
        Ok(runs)
    }

    /// Replaces the spans of irregular lanes with those from their whole history: their tracks do not determine what
    /// ran.
    async fn replace_irregular(
        &self,
        connection: &mut PgConnection,
        retirements: &Retirements,
        runs: &mut [ReleaseRuns],
    ) -> Result<(), Error> {
        let query = sqlx::query_as(sql!("check_results/irregular_lanes"))
            .bind(self.environment_id)
            .bind(bigint(self.known_at));
        let rows: Vec<(String, String)> = query.fetch_all(&mut *connection).await?;
        let irregular: BTreeSet<(String, String)> = rows.into_iter().collect();
        let is_irregular =
            |ran: &LaneRelease| irregular.contains(&(ran.service.to_string(), ran.target.to_string()));
        let lanes: BTreeSet<_> = self
            .ran
            .iter()
            .filter(|ran| is_irregular(ran))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|ran| (ran.service.clone(), ran.target.clone()))
            .collect();
        if lanes.is_empty() {
            return Ok(());
        }
        let lanes: Vec<_> = lanes.into_iter().collect();
        let folds =
            load_histories(connection, self.environment_id, &lanes, self.known_at, far_future()).await?;
        for (ran, runs) in self.ran.iter().zip(runs) {
            let lane = lanes.iter().position(|lane| (&lane.0, &lane.1) == (&ran.service, &ran.target));
            let Some(fold) = lane.and_then(|index| folds.get(index)) else { continue };
            let (live, tracks) = spans_from_history(fold, &ran.release, retirements);
            runs.live = live;
            runs.tracks = tracks;
        }
        Ok(())
    }
}

/// Returns true if the end of a check of an artifact applies to a release that has an artifact.
fn applies_to_artifact(row: &SubjectEndRow, artifact: Option<&Artifact>) -> Result<bool, Error> {
    let (Some(text), Some(artifact)) = (&row.artifact, artifact) else { return Ok(false) };
    let checked = parsed("verdicts", row.end.position, || Artifact::stored(text))?;
    Ok(checked.is_same(artifact))
}

/// Returns the item at an ordinal, counted from 1, and its index.
fn at_ordinal<T>(items: &[T], ordinal: i64) -> Option<(usize, &T)> {
    let index = usize::try_from(ordinal).ok()?.checked_sub(1)?;
    Some((index, items.get(index)?))
}

/// Check results by lane and release, cached during one query.
#[derive(Default)]
pub(crate) struct CheckResultCache(BTreeMap<(ServiceName, TargetName), HashMap<Release, CheckResults>>);

impl CheckResultCache {
    pub(crate) fn get(
        &self,
        service: &ServiceName,
        target: &TargetName,
        release: &Release,
    ) -> Option<&CheckResults> {
        self.0.get(&(service.clone(), target.clone()))?.get(release)
    }

    pub(crate) fn insert(&mut self, ran: LaneRelease, results: CheckResults) {
        self.0.entry((ran.service, ran.target)).or_default().insert(ran.release, results);
    }
}
