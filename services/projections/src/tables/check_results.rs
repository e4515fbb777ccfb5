//! Ends and starts of checks, and what they mean for a release in a lane and for a composition.
//!
//! Decision 0015, section 3, is the specification. A check that names its release, its artifact or its deployment speaks of that. One
//! that names only a lane speaks of what traffic reached there at its end, and one of an environment of the composition at
//! its end, as far as that is known: so this is found out when a question is asked, and not when the check is recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::checks::{LaneDeploy, speaks_of, straddles};
use ledger_domain::known_good::{CheckResult, CheckResults};
use ledger_domain::retirement::Retirements;
use ledger_domain::span::{Span, joined};
use ledger_domain::{
    Artifact, Composition, CompositionId, Effect, EnvironmentName, LaneFold, LaneRef, PointInTime, Position,
    Release, ServiceName, ShortText, TargetName, Track,
};
use sqlx::PgConnection;
use uuid::Uuid;

use self::statements::{
    CHANGED_BETWEEN, CompositionRow, DURING, DuringRow, IRREGULAR, KNOWN, NAMED, NAMED_ALL, NamedRow,
    OF_COMPOSITIONS, REORDERED, RUNS, ReorderedRow, RunRow, SWITCHES, SwitchRow, WHILE_RUNNING,
};
use crate::Snapshot;
use crate::key::key;
use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::artifacts::{Builds, builds};
use crate::tables::lanes::{AsOf, QueryError, far_future, histories, release};
use crate::tables::live::reorderings;
use crate::tables::retirements::retirements;

mod rows;
mod statements;

pub(crate) use rows::{VerdictRows, contradicts, correct};
pub(crate) use statements::{STATEMENTS, start};

/// A release that a lane ran.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneRelease {
    /// The lane's service.
    pub service: ServiceName,
    /// The lane's target.
    pub target: TargetName,
    /// The release.
    pub release: Release,
}

/// A lane as a check names it, or as it is: without a target, the service at all of them.
#[derive(Clone, Copy)]
struct Named<'a> {
    environment: &'a EnvironmentName,
    service: &'a ServiceName,
    target: Option<&'a TargetName>,
}

impl<'a> Named<'a> {
    fn of(lane: &'a LaneRef) -> Self {
        Self { environment: &lane.environment, service: &lane.service, target: lane.target.as_ref() }
    }

    /// The two ways in which checks name a lane.
    fn both(environment: &'a EnvironmentName, ran: &'a LaneRelease) -> [Self; 2] {
        let service = &ran.service;
        [Some(&ran.target), None].map(|target| Self { environment, service, target })
    }

    fn key(&self, word: &str, rest: &str) -> Uuid {
        let (environment, service) = (self.environment.as_str(), self.service.as_str());
        match self.target {
            Some(target) => key(word, &[environment, service, target.as_str(), rest]),
            None => key(word, &[environment, service, rest]),
        }
    }

    fn version(&self, version: &str) -> Uuid {
        self.key("release", version)
    }

    fn deployment(&self, deployment: &str) -> Uuid {
        self.key("deployment", deployment)
    }

    fn lane(&self) -> Uuid {
        self.key("lane", "")
    }
}

fn of_artifact(artifact_key: &str) -> Uuid {
    key("artifact", &[artifact_key])
}

fn of_environment(environment: &EnvironmentName) -> Uuid {
    key("environment", &[environment.as_str()])
}

/// Which kinds of evidence an environment has, as known at a position.
#[derive(Clone, Copy)]
struct Kinds {
    /// A deploy stated more of a release than its version.
    with_parts: bool,
    /// Checks that name a lane or a deployment only.
    unnamed: bool,
    /// Checks of the environment.
    of_environment: bool,
    starts: bool,
}

async fn kinds(
    connection: &mut PgConnection,
    environment_id: i32,
    known_at: Position,
) -> Result<Kinds, Error> {
    let query = sqlx::query_as(KNOWN).bind(environment_id).bind(bigint(known_at));
    let row: Option<(bool, bool, bool, bool)> = query.fetch_optional(connection).await?;
    let (with_parts, unnamed, of_environment, starts) = row.unwrap_or_default();
    Ok(Kinds { with_parts, unnamed, of_environment, starts })
}

impl Snapshot {
    /// Returns the results of checks for releases that lanes of an environment ran, as known at a position; in the order
    /// of `ran`.
    ///
    /// # Errors
    /// The database does not answer.
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
        let kinds = kinds(connection, id, known_at).await?;
        let question = Question { environment, environment_id: id, known_at, kinds, ran };
        question.results(connection).await
    }

    /// Returns the results of checks for compositions of an environment, as known at a position.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn composition_verdicts(
        &mut self,
        environment: &EnvironmentName,
        compositions: &[CompositionId],
        known_at: Position,
    ) -> Result<HashMap<CompositionId, CheckResults>, Error> {
        let mut all: HashMap<CompositionId, CheckResults> = HashMap::new();
        let Some(id) = self.environment_id(environment).await? else { return Ok(all) };
        let kinds = kinds(self.connection(), id, known_at).await?;
        if !kinds.of_environment || compositions.is_empty() {
            return Ok(all);
        }
        let query = sqlx::query_as(OF_COMPOSITIONS)
            .bind(of_environment(environment))
            .bind(bigint(known_at))
            .bind(id)
            .bind(compositions.iter().map(|id| id.as_bytes().to_vec()).collect::<Vec<_>>())
            .bind(Composition::default().id().as_bytes().to_vec());
        let rows: Vec<CompositionRow> = query.fetch_all(self.connection()).await?;
        for row in &rows {
            let bytes =
                parsed("live_changes", row.end.position, || <[u8; 32]>::try_from(&row.composition[..]))?;
            row.end.add_to(all.entry(CompositionId::from_bytes(bytes)).or_default())?;
        }
        for (composition, check, verdict) in self.reordered(environment, id, known_at).await? {
            if compositions.contains(&composition) {
                all.entry(composition).or_default().add(check, verdict);
            }
        }
        Ok(all)
    }

    /// Ends of checks of an environment with the composition that each speaks of, all of them: as many as there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn checked_compositions(
        &mut self,
        environment: &EnvironmentName,
        known_at: Position,
        spans: &[Span],
    ) -> Result<Vec<(CompositionId, ShortText, CheckResult)>, Error> {
        let mut found = Vec::new();
        let Some(id) = self.environment_id(environment).await? else { return Ok(found) };
        if !kinds(self.connection(), id, known_at).await?.of_environment {
            return Ok(found);
        }
        let query = sqlx::query_as(WHILE_RUNNING)
            .bind(of_environment(environment))
            .bind(bigint(known_at))
            .bind(id)
            .bind(spans.iter().map(|span| span.from.max(DateTime::UNIX_EPOCH)).collect::<Vec<_>>())
            .bind(spans.iter().map(|span| span.until.min(far_future())).collect::<Vec<_>>());
        let rows: Vec<CompositionRow> = query.fetch_all(self.connection()).await?;
        for row in &rows {
            let bytes =
                parsed("live_changes", row.end.position, || <[u8; 32]>::try_from(&row.composition[..]))?;
            let (check, verdict) = row.end.parse()?;
            found.push((CompositionId::from_bytes(bytes), check, verdict));
        }
        let reordered = self.reordered(environment, id, known_at).await?.into_iter();
        let within = |verdict: &CheckResult| spans.iter().any(|span| span.contains(verdict.occurred_at));
        found.extend(reordered.filter(|(_, _, verdict)| within(verdict)));
        Ok(found)
    }

    /// Ends of checks of an environment within reorderings, each with the composition that it speaks of. Found once for a snapshot.
    async fn reordered(
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
            let query = sqlx::query_as(REORDERED)
                .bind(of_environment(environment))
                .bind(bigint(known_at))
                .bind(environment_id);
            let rows: Vec<ReorderedRow> = query.fetch_all(self.connection()).await?;
            for row in &rows {
                let end = row.end.occurred_at;
                let composition = self.composition_id_at(environment, end, known_at).await?;
                let mut counts = true;
                if let Some(start) = row.started_at {
                    let mut times = vec![start];
                    let query =
                        sqlx::query_scalar(CHANGED_BETWEEN).bind(environment_id).bind(bigint(known_at));
                    let changes = query.bind(start).bind(end).fetch_all(self.connection()).await?;
                    times.extend::<Vec<DateTime<Utc>>>(changes);
                    for time in times {
                        counts &= self.composition_id_at(environment, time, known_at).await? == composition;
                    }
                }
                if counts {
                    let (check, verdict) = row.end.parse()?;
                    found.push((composition, check, verdict));
                }
            }
        }
        self.reordered_checks.insert((environment_id, known_at), found.clone());
        Ok(found)
    }

    async fn composition_id_at(
        &mut self,
        environment: &EnvironmentName,
        time: DateTime<Utc>,
        known_at: Position,
    ) -> Result<CompositionId, Error> {
        let when = AsOf { at: PointInTime::Time(time), known_at: Some(known_at) };
        match self.state(environment, when).await {
            Ok(state) => Ok(state.composition().id()),
            Err(QueryError::Failed(error)) => Err(error),
            Err(other) => parsed("environments", environment, || Err(other.to_string())),
        }
    }

    /// The spans within which a lane ran a release, as known at a position, joined and in order.
    ///
    /// # Errors
    /// The database does not answer.
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
        let kinds = kinds(connection, id, known_at).await?;
        let runs =
            Question { environment, environment_id: id, known_at, kinds, ran }.runs(connection).await?;
        Ok(runs.into_iter().map(|runs| runs.live).collect())
    }
}

/// When a release stood in its lane, and how it came there.
#[derive(Default)]
struct Runs {
    /// When traffic reached it.
    live: Vec<Span>,
    /// When it stood on each track that it ever stood on.
    tracks: Vec<Vec<Span>>,
    /// Every deploy of its version to the lane.
    deploys: Vec<LaneDeploy>,
    /// The names of the runs that deployed it.
    deployments: BTreeSet<String>,
}

/// The question for the results of releases in lanes.
struct Question<'q> {
    environment: &'q EnvironmentName,
    environment_id: i32,
    known_at: Position,
    kinds: Kinds,
    ran: &'q [LaneRelease],
}

impl Question<'_> {
    async fn results(&self, connection: &mut PgConnection) -> Result<Vec<CheckResults>, Error> {
        let mut all = vec![CheckResults::default(); self.ran.len()];
        let mut subjects: HashMap<Uuid, Vec<usize>> = HashMap::with_capacity(self.ran.len() * 2);
        let mut artifacts: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for (index, ran) in self.ran.iter().enumerate() {
            for named in Named::both(self.environment, ran) {
                subjects.entry(named.version(ran.release.version.as_str())).or_default().push(index);
            }
            for artifact in ran.release.artifact.iter().flat_map(|artifact| artifact.keys()) {
                artifacts.entry(of_artifact(&artifact)).or_default().push(index);
            }
        }
        let keys: Vec<Uuid> = subjects.keys().chain(artifacts.keys()).copied().collect();
        let sql = if self.kinds.starts { NAMED_ALL } else { NAMED };
        let mut rows = self.named(connection, sql, keys).await?;
        let states_none = |row: &NamedRow| row.artifact.is_none() && !artifacts.contains_key(&row.subject);
        let builds = if rows.iter().any(states_none) && self.with_artifacts() {
            builds(connection, self.ran.iter().map(|ran| ran.release.version.as_str()), self.known_at).await?
        } else {
            Builds::default()
        };
        let needs_meaning = rows.iter().any(states_none) && (self.kinds.with_parts || !builds.is_empty());
        let needs_runs = self.kinds.unnamed || self.kinds.starts || needs_meaning;
        let runs = if needs_runs { self.runs(connection).await? } else { Vec::new() };
        if needs_meaning && !self.kinds.starts {
            // Of several builds with one version each has its own last results.
            let is_rebuilt = |index: &usize| self.is_rebuilt(*index, &runs, &builds);
            let rebuilt = subjects.iter().filter(|(_, of)| of.iter().any(is_rebuilt));
            let rebuilt: Vec<Uuid> = rebuilt.map(|(subject, _)| *subject).collect();
            if !rebuilt.is_empty() {
                rows.retain(|row| !rebuilt.contains(&row.subject));
                rows.extend(self.named(connection, NAMED_ALL, rebuilt).await?);
            }
        }
        for row in &rows {
            for index in artifacts.get(&row.subject).into_iter().flatten() {
                if self.is_of_artifact(row, *index)? {
                    row.end.add_to(&mut all[*index])?;
                }
            }
            for index in subjects.get(&row.subject).into_iter().flatten() {
                if self.speaks_of(row, *index, runs.get(*index), &builds)? {
                    row.end.add_to(&mut all[*index])?;
                }
            }
        }
        if self.kinds.unnamed {
            self.unnamed(connection, &runs, &mut all).await?;
        }
        Ok(all)
    }

    fn with_artifacts(&self) -> bool {
        self.ran.iter().any(|ran| ran.release.artifact.is_some())
    }

    async fn named(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        subjects: Vec<Uuid>,
    ) -> Result<Vec<NamedRow>, Error> {
        let query = sqlx::query_as(sql).bind(subjects).bind(bigint(self.known_at));
        Ok(query.fetch_all(connection).await?)
    }

    /// Whether another release was known under the version of one.
    fn is_rebuilt(&self, index: usize, runs: &[Runs], builds: &Builds) -> bool {
        let release = &self.ran[index].release;
        let deploys = runs.get(index).map(|runs| &runs.deploys[..]).unwrap_or_default();
        deploys.iter().any(|deploy| deploy.release.contradicts(release))
            || builds.of(&release.version).any(|built| {
                release.artifact.as_ref().is_some_and(|artifact| !artifact.is_same(&built.artifact))
            })
    }

    fn is_of_artifact(&self, row: &NamedRow, index: usize) -> Result<bool, Error> {
        let (Some(text), Some(artifact)) = (&row.artifact, &self.ran[index].release.artifact) else {
            return Ok(false);
        };
        let checked = parsed("verdicts", row.end.position, || Artifact::stored(text))?;
        Ok(checked.is_same(artifact))
    }

    fn speaks_of(
        &self,
        row: &NamedRow,
        index: usize,
        runs: Option<&Runs>,
        builds: &Builds,
    ) -> Result<bool, Error> {
        let ran = &self.ran[index];
        let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
        let stated = parsed("verdicts", row.end.position, || release(ran.release.version.as_str(), parts))?;
        let end = row.end.occurred_at;
        let deploys = runs.map(|runs| &runs.deploys[..]).unwrap_or_default();
        let built = builds.meant(&ran.service, &ran.release.version, end);
        if !speaks_of(&stated, end, deploys, built, &ran.release) {
            return Ok(false);
        }
        let tracks = runs.map(|runs| &runs.tracks[..]).unwrap_or_default();
        Ok(row.started_at.is_none_or(|start| !straddles(start, end, tracks)))
    }

    /// Checks that name only a deployment or a lane.
    async fn unnamed(
        &self,
        connection: &mut PgConnection,
        runs: &[Runs],
        all: &mut [CheckResults],
    ) -> Result<(), Error> {
        let mut spans: Vec<(usize, Uuid, Span)> = Vec::new();
        let mut deployments: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for (index, (ran, runs)) in self.ran.iter().zip(runs).enumerate() {
            for named in Named::both(self.environment, ran) {
                spans.extend(runs.live.iter().map(|span| (index, named.lane(), *span)));
                for deployment in &runs.deployments {
                    deployments.entry(named.deployment(deployment)).or_default().push(index);
                }
            }
        }
        let query = sqlx::query_as(DURING)
            .bind(spans.iter().map(|(_, subject, _)| *subject).collect::<Vec<_>>())
            .bind(bigint(self.known_at))
            .bind(spans.iter().map(|(_, _, span)| span.from).collect::<Vec<_>>())
            .bind(spans.iter().map(|(_, _, span)| span.until.min(far_future())).collect::<Vec<_>>());
        let rows: Vec<DuringRow> = query.fetch_all(&mut *connection).await?;
        for row in &rows {
            if let Some((_, (index, _, _))) = at(&spans, row.index) {
                row.end.add_to(&mut all[*index])?;
            }
        }
        if deployments.is_empty() {
            return Ok(());
        }
        let sql = if self.kinds.starts { NAMED_ALL } else { NAMED };
        let rows = self.named(connection, sql, deployments.keys().copied().collect()).await?;
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

    async fn runs(&self, connection: &mut PgConnection) -> Result<Vec<Runs>, Error> {
        let texts = |text: fn(&LaneRelease) -> &str| {
            self.ran.iter().map(|ran| text(ran).to_owned()).collect::<Vec<_>>()
        };
        let (services, targets) = (texts(|ran| ran.service.as_str()), texts(|ran| ran.target.as_str()));
        let query = sqlx::query_as(RUNS)
            .bind(self.environment_id)
            .bind(&services)
            .bind(&targets)
            .bind(texts(|ran| ran.release.version.as_str()))
            .bind(bigint(self.known_at));
        let rows: Vec<RunRow> = query.fetch_all(&mut *connection).await?;
        let retirements = retirements(connection, self.environment_id, self.known_at).await?;
        let mut runs: Vec<Runs> = self.ran.iter().map(|_| Runs::default()).collect();
        let mut stood: Vec<BTreeMap<Option<String>, Vec<Span>>> = vec![BTreeMap::new(); runs.len()];
        for row in rows {
            let Some((index, ran)) = at(self.ran, row.index) else { continue };
            let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
            let deployed = parsed("lane_changes", &row.version, || release(&row.version, parts))?;
            let is_meant = deployed.is_same(&ran.release);
            let (occurred_at, at) = (row.occurred_at, position(row.position));
            runs[index].deploys.push(LaneDeploy { occurred_at, position: at, release: deployed });
            if is_meant {
                runs[index].deployments.extend(row.deployment);
                let span = Span::new(row.occurred_at, row.until.unwrap_or(far_future()));
                if let Some(span) = span.and_then(|span| retirements.cut(span)) {
                    stood[index].entry(row.slot).or_default().push(span);
                }
            }
        }
        if stood.iter().any(|tracks| tracks.keys().any(Option::is_some)) {
            let query = sqlx::query_as(SWITCHES)
                .bind(self.environment_id)
                .bind(&services)
                .bind(&targets)
                .bind(bigint(self.known_at));
            let switches: Vec<SwitchRow> = query.fetch_all(&mut *connection).await?;
            for switch in switches {
                let Some((index, _)) = at(self.ran, switch.index) else { continue };
                let reached = Span::new(switch.occurred_at, switch.until.unwrap_or(far_future()));
                let reached = reached.and_then(|span| retirements.cut(span));
                let here = stood[index].get(&Some(switch.switched_to)).into_iter().flatten();
                let both = here.filter_map(|stood| reached.and_then(|reached| stood.and(&reached)));
                runs[index].live.extend(both);
            }
        }
        for (runs, stood) in runs.iter_mut().zip(stood) {
            runs.live.extend(stood.get(&None).into_iter().flatten().copied());
            runs.tracks = stood.into_values().collect();
        }
        self.replace_irregular(connection, &retirements, &mut runs).await?;
        for runs in &mut runs {
            runs.live = joined(std::mem::take(&mut runs.live));
        }
        Ok(runs)
    }

    /// Where the tracks of a lane do not tell what it ran, its whole history does.
    async fn replace_irregular(
        &self,
        connection: &mut PgConnection,
        retirements: &Retirements,
        runs: &mut [Runs],
    ) -> Result<(), Error> {
        let query = sqlx::query_as(IRREGULAR).bind(self.environment_id).bind(bigint(self.known_at));
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
        let folds = histories(connection, self.environment_id, &lanes, self.known_at, far_future()).await?;
        for (ran, runs) in self.ran.iter().zip(runs) {
            let lane = lanes.iter().position(|lane| (&lane.0, &lane.1) == (&ran.service, &ran.target));
            let Some(fold) = lane.and_then(|index| folds.get(index)) else { continue };
            let (live, tracks) = stays(fold, &ran.release, retirements);
            runs.live = live;
            runs.tracks = tracks;
        }
        Ok(())
    }
}

/// When traffic reached a release, and when it stood on each track, by the whole history of its lane.
fn stays(fold: &LaneFold, release: &Release, retirements: &Retirements) -> (Vec<Span>, Vec<Vec<Span>>) {
    let retired = retirements.spans();
    let begins = std::iter::once(DateTime::<Utc>::MIN_UTC).chain(retired.iter().map(|span| span.until));
    let ends = retired.iter().map(|span| span.from).chain([DateTime::<Utc>::MAX_UTC]);
    let mut live = Vec::new();
    let mut tracks: BTreeMap<Option<String>, Vec<Span>> = BTreeMap::new();
    for (begin, end) in begins.zip(ends) {
        let part = fold.after(begin);
        let changes = part.changes();
        let ends_at = |index: usize| {
            let next = changes.get(index + 1).map(|(_, written)| written.since.occurred_at);
            next.unwrap_or(end).min(end)
        };
        for (index, (since, runs)) in part.steps().into_iter().enumerate() {
            let Some(span) = Span::new(since.occurred_at, ends_at(index)) else { continue };
            if runs.as_ref().is_some_and(|runs| runs.release.is_same(release)) {
                live.push(span);
                if runs.is_some_and(|runs| runs.slot.is_none()) {
                    tracks.entry(None).or_default().push(span);
                }
            }
        }
        for (index, (track, written)) in changes.iter().enumerate() {
            let Track::Slot(slot) = track else { continue };
            if !matches!(&written.effect, Effect::Deployed(deployed) if deployed.is_same(release)) {
                continue;
            }
            let empties = |(other, later): &&(Track, ledger_domain::TrackEntry)| {
                other == track || *other == Track::Traffic && later.effect == Effect::Removed
            };
            let next = changes[index + 1..].iter().find(empties);
            let until = next.map_or(end, |(_, later)| later.since.occurred_at.min(end));
            let span = Span::new(written.since.occurred_at, until);
            tracks.entry(Some(slot.to_string())).or_default().extend(span);
        }
    }
    (live, tracks.into_values().collect())
}

/// The longest time for which a lane ran a release without a break, up to now; `None` if it never did.
pub(crate) fn longest_run(live: &[Span], now: DateTime<Utc>) -> Option<TimeDelta> {
    live.iter().map(|span| span.until.min(now) - span.from).max()
}

/// What an ordinal, counted from 1, points at.
fn at<T>(items: &[T], ordinal: i64) -> Option<(usize, &T)> {
    let index = usize::try_from(ordinal).ok()?.checked_sub(1)?;
    Some((index, items.get(index)?))
}

/// Results by what a lane ran, for as long as a question takes.
#[derive(Default)]
pub(crate) struct CheckResultCache(BTreeMap<(ServiceName, TargetName), HashMap<Release, CheckResults>>);

impl CheckResultCache {
    pub(crate) fn of(
        &self,
        service: &ServiceName,
        target: &TargetName,
        release: &Release,
    ) -> Option<&CheckResults> {
        self.0.get(&(service.clone(), target.clone()))?.get(release)
    }

    pub(crate) fn insert(&mut self, ran: LaneRelease, verdicts: CheckResults) {
        self.0.entry((ran.service, ran.target)).or_default().insert(ran.release, verdicts);
    }
}
