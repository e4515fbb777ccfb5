//! What checks said, and what that means for a release in a lane.
//!
//! A check that names its release, its artifact or its deployment speaks of that. One that names only a
//! lane, or an environment, speaks of what ran there when it was done, as far as that is known: so this is
//! found out when a question is asked, and not when the check is recorded.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::event::{Fact, Validation, ValidationSubject};
use ledger_domain::known_good::{Verdict, Verdicts};
use ledger_domain::{EnvironmentName, Lane, Line, Position, Release, ServiceName, TargetName};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Snapshot;
use crate::database::{Error, bigint, parsed, position};
use crate::key::key;
use crate::lanes::{is_meant, release, told};

pub(crate) const STATEMENTS: &[&str] = &[NAMED, ANY_UNNAMED, RUNS, SWITCHES, DURING, OF_ENVIRONMENT, WRITE];

/// The last verdict of each check, for each way in which a release was told.
const NAMED: &str = "SELECT DISTINCT ON (subject, check_name, artifact, config, infrastructure, commit)
        subject, check_name, passed, occurred_at, position, artifact, config, infrastructure, commit
    FROM verdicts WHERE subject = ANY($1) AND position <= $2
    ORDER BY subject, check_name, artifact, config, infrastructure, commit, occurred_at DESC, position DESC";

const ANY_UNNAMED: &str =
    "SELECT EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND NOT named AND position <= $2)";

/// When a version stood on the tracks of its lane: from each deploy of it to the track's next change.
const RUNS: &str =
    "SELECT r.index, t.slot, c.occurred_at, n.occurred_at AS until, c.version, c.artifact, c.config,
        c.infrastructure, c.commit, c.deployment
    FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY r (service, target, version, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target
    JOIN lane_changes c ON c.track_id = t.track_id AND c.version = r.version AND c.position <= $5
    LEFT JOIN LATERAL (
        SELECT n.occurred_at FROM lane_changes n
        WHERE n.track_id = c.track_id AND (n.occurred_at, n.position) > (c.occurred_at, c.position)
            AND n.position <= $5
        ORDER BY n.occurred_at, n.position LIMIT 1
    ) n ON true";

/// When traffic reached which slot of a lane.
const SWITCHES: &str = "SELECT r.index, c.switched_to, c.occurred_at, n.occurred_at AS until
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY r (service, target, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target AND t.slot IS NULL
    JOIN lane_changes c ON c.track_id = t.track_id AND c.switched_to IS NOT NULL AND c.position <= $4
    LEFT JOIN LATERAL (
        SELECT n.occurred_at FROM lane_changes n
        WHERE n.track_id = c.track_id AND (n.occurred_at, n.position) > (c.occurred_at, c.position)
            AND n.position <= $4
        ORDER BY n.occurred_at, n.position LIMIT 1
    ) n ON true";

/// The last verdict of each check of a subject within each span of time.
const DURING: &str = "SELECT s.index, v.check_name, v.passed, v.occurred_at, v.position
    FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY s (subject, since, until, index)
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (v.check_name) v.check_name, v.passed, v.occurred_at, v.position
        FROM verdicts v
        WHERE v.subject = s.subject AND v.position <= $4 AND v.occurred_at >= s.since AND v.occurred_at < s.until
        ORDER BY v.check_name, v.occurred_at DESC, v.position DESC
    ) v";

const OF_ENVIRONMENT: &str = "SELECT check_name, passed, occurred_at, position FROM verdicts
    WHERE subject = $1 AND position <= $2 AND occurred_at >= $3 ORDER BY occurred_at, position";

const WRITE: &str = "INSERT INTO verdicts (position, occurred_at, subject, environment_id, named, check_name,
        passed, artifact, config, infrastructure, commit)
    SELECT unnest($1::bigint[]), unnest($2::timestamptz[]), unnest($3::uuid[]), unnest($4::integer[]),
        unnest($5::boolean[]), unnest($6::text[]), unnest($7::boolean[]), unnest($8::text[]),
        unnest($9::text[]), unnest($10::text[]), unnest($11::text[])";

/// A release that a lane ran.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ran {
    /// The lane's service.
    pub service: ServiceName,
    /// The lane's target.
    pub target: TargetName,
    /// The release.
    pub release: Release,
}

/// A time in which something was so; the end does not belong to it.
type Span = (DateTime<Utc>, DateTime<Utc>);

#[derive(sqlx::FromRow)]
struct NamedRow {
    subject: Uuid,
    #[sqlx(flatten)]
    said: SaidRow,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

#[derive(sqlx::FromRow)]
struct SaidRow {
    check_name: String,
    passed: bool,
    occurred_at: DateTime<Utc>,
    position: i64,
}

#[derive(sqlx::FromRow)]
struct RunRow {
    index: i64,
    slot: Option<String>,
    occurred_at: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    version: String,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
    deployment: Option<String>,
}

#[derive(sqlx::FromRow)]
struct SwitchRow {
    index: i64,
    switched_to: String,
    occurred_at: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct DuringRow {
    index: i64,
    #[sqlx(flatten)]
    said: SaidRow,
}

impl SaidRow {
    fn parse(&self) -> Result<(Line, Verdict), Error> {
        let check = parsed("verdicts", self.position, || Line::parse(&self.check_name))?;
        let Self { passed, occurred_at, position: at, .. } = *self;
        Ok((check, Verdict { passed, occurred_at, position: position(at) }))
    }

    fn add_to(&self, verdicts: &mut Verdicts) -> Result<(), Error> {
        let (check, verdict) = self.parse()?;
        verdicts.add(check, verdict);
        Ok(())
    }
}

fn of_version(environment: &EnvironmentName, ran: &Ran) -> Uuid {
    let Ran { service, target, release } = ran;
    let lane = [environment.as_str(), service.as_str(), target.as_str()];
    key("release", &[lane[0], lane[1], lane[2], release.version.as_str()])
}

fn of_lane(environment: &EnvironmentName, service: &ServiceName, target: &TargetName) -> Uuid {
    key("lane", &[environment.as_str(), service.as_str(), target.as_str()])
}

fn of_deployment(
    environment: &EnvironmentName,
    service: &ServiceName,
    target: &TargetName,
    deployment: &str,
) -> Uuid {
    key("deployment", &[environment.as_str(), service.as_str(), target.as_str(), deployment])
}

fn of_artifact(artifact: &str) -> Uuid {
    key("artifact", &[artifact])
}

fn of_environment(environment: &EnvironmentName) -> Uuid {
    key("environment", &[environment.as_str()])
}

impl Snapshot {
    /// What checks said of releases that lanes of an environment ran, as known at a position; in the order
    /// of `ran`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn verdicts(
        &mut self,
        environment: &EnvironmentName,
        ran: &[Ran],
        known_at: Position,
    ) -> Result<Vec<Verdicts>, Error> {
        let mut all = vec![Verdicts::default(); ran.len()];
        if ran.is_empty() {
            return Ok(all);
        }
        named(self.connection(), environment, ran, known_at, &mut all).await?;
        if let Some(id) = self.environment_id(environment).await? {
            let query = sqlx::query_scalar(ANY_UNNAMED).bind(id).bind(bigint(known_at));
            if query.fetch_one(self.connection()).await? {
                let runs = runs(self.connection(), id, ran, known_at).await?;
                unnamed(self.connection(), environment, ran, &runs, known_at, &mut all).await?;
            }
        }
        Ok(all)
    }
}

/// Verdicts that name the release, or its artifact.
async fn named(
    connection: &mut PgConnection,
    environment: &EnvironmentName,
    ran: &[Ran],
    known_at: Position,
    all: &mut [Verdicts],
) -> Result<(), Error> {
    let mut meant: HashMap<Uuid, Vec<usize>> = HashMap::with_capacity(ran.len() * 2);
    for (index, ran) in ran.iter().enumerate() {
        meant.entry(of_version(environment, ran)).or_default().push(index);
        if let Some(artifact) = &ran.release.artifact {
            meant.entry(of_artifact(artifact.as_str())).or_default().push(index);
        }
    }
    let keys: Vec<Uuid> = meant.keys().copied().collect();
    let query = sqlx::query_as(NAMED).bind(keys).bind(bigint(known_at));
    let rows: Vec<NamedRow> = query.fetch_all(connection).await?;
    for row in &rows {
        for index in meant.get(&row.subject).into_iter().flatten() {
            let told = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
            if is_meant(&ran[*index].release, told) {
                row.said.add_to(&mut all[*index])?;
            }
        }
    }
    Ok(())
}

/// When a release was live in its lane, and the deployments that brought it there.
#[derive(Default)]
struct Runs {
    live: Vec<Span>,
    deployments: Vec<String>,
}

async fn runs(
    connection: &mut PgConnection,
    environment_id: i32,
    ran: &[Ran],
    known_at: Position,
) -> Result<Vec<Runs>, Error> {
    let texts = |text: fn(&Ran) -> &str| ran.iter().map(|ran| text(ran).to_owned()).collect::<Vec<_>>();
    let (services, targets) = (texts(|ran| ran.service.as_str()), texts(|ran| ran.target.as_str()));
    let query = sqlx::query_as(RUNS)
        .bind(environment_id)
        .bind(&services)
        .bind(&targets)
        .bind(texts(|ran| ran.release.version.as_str()))
        .bind(bigint(known_at));
    let rows: Vec<RunRow> = query.fetch_all(&mut *connection).await?;
    let mut runs: Vec<Runs> = ran.iter().map(|_| Runs::default()).collect();
    let mut in_slots: Vec<(usize, String, Span)> = Vec::new();
    for row in rows {
        let Some((index, ran)) = at(ran, row.index) else { continue };
        let parts = [&row.artifact, &row.config, &row.infrastructure, &row.commit];
        let stood = parsed("lane_changes", &row.version, || release(&row.version, parts))?;
        if stood != ran.release {
            continue;
        }
        runs[index].deployments.extend(row.deployment);
        let span = (row.occurred_at, row.until.unwrap_or(far_future()));
        match row.slot {
            None => runs[index].live.push(span),
            Some(slot) => in_slots.push((index, slot, span)),
        }
    }
    if !in_slots.is_empty() {
        let query = sqlx::query_as(SWITCHES)
            .bind(environment_id)
            .bind(&services)
            .bind(&targets)
            .bind(bigint(known_at));
        let switches: Vec<SwitchRow> = query.fetch_all(connection).await?;
        for switch in switches {
            let Some((index, _)) = at(ran, switch.index) else { continue };
            let reached = (switch.occurred_at, switch.until.unwrap_or(far_future()));
            let here = in_slots.iter().filter(|(of, slot, _)| *of == index && *slot == switch.switched_to);
            let both = here.map(|(_, _, stood)| (stood.0.max(reached.0), stood.1.min(reached.1)));
            runs[index].live.extend(both.filter(|span| span.0 < span.1));
        }
    }
    Ok(runs)
}

/// The longest time for which a lane ran a release, up to now; `None` if it never did.
pub(crate) async fn longest_run(
    connection: &mut PgConnection,
    environment_id: i32,
    ran: &[Ran; 1],
    known_at: Position,
    now: DateTime<Utc>,
) -> Result<Option<TimeDelta>, Error> {
    let runs = runs(connection, environment_id, ran, known_at).await?;
    let spans = runs.iter().flat_map(|runs| &runs.live);
    Ok(spans.map(|(since, until)| *until.min(&now) - *since).max())
}

/// What an ordinal, counted from 1, points at.
fn at<T>(items: &[T], ordinal: i64) -> Option<(usize, &T)> {
    let index = usize::try_from(ordinal).ok()?.checked_sub(1)?;
    Some((index, items.get(index)?))
}

/// Verdicts that name only a deployment, a lane or an environment.
async fn unnamed(
    connection: &mut PgConnection,
    environment: &EnvironmentName,
    ran: &[Ran],
    runs: &[Runs],
    known_at: Position,
    all: &mut [Verdicts],
) -> Result<(), Error> {
    let always = (DateTime::<Utc>::UNIX_EPOCH, far_future());
    let mut spans: Vec<(usize, Uuid, Span)> = Vec::new();
    for (index, (ran, runs)) in ran.iter().zip(runs).enumerate() {
        let lane = of_lane(environment, &ran.service, &ran.target);
        spans.extend(runs.live.iter().map(|span| (index, lane, *span)));
        let deployments = runs.deployments.iter();
        spans.extend(deployments.map(|deployment| {
            (index, of_deployment(environment, &ran.service, &ran.target, deployment), always)
        }));
    }
    let query = sqlx::query_as(DURING)
        .bind(spans.iter().map(|(_, subject, _)| *subject).collect::<Vec<_>>())
        .bind(spans.iter().map(|(_, _, span)| span.0).collect::<Vec<_>>())
        .bind(spans.iter().map(|(_, _, span)| span.1).collect::<Vec<_>>())
        .bind(bigint(known_at));
    let rows: Vec<DuringRow> = query.fetch_all(&mut *connection).await?;
    for row in &rows {
        if let Some((_, (index, _, _))) = at(&spans, row.index) {
            row.said.add_to(&mut all[*index])?;
        }
    }
    let Some(first) = runs.iter().flat_map(|runs| &runs.live).map(|span| span.0).min() else { return Ok(()) };
    let query =
        sqlx::query_as(OF_ENVIRONMENT).bind(of_environment(environment)).bind(bigint(known_at)).bind(first);
    let rows: Vec<SaidRow> = query.fetch_all(connection).await?;
    let mut by_check: BTreeMap<Line, Vec<Verdict>> = BTreeMap::new();
    for row in &rows {
        let (check, verdict) = row.parse()?;
        by_check.entry(check).or_default().push(verdict);
    }
    // In the order of time, so that the last one of each span is found by halves: there may be many of both.
    for (check, said) in &by_check {
        for (runs, verdicts) in runs.iter().zip(&mut *all) {
            for span in &runs.live {
                let before_end = said.partition_point(|verdict| verdict.occurred_at < span.1);
                let last = said[..before_end].last().filter(|verdict| verdict.occurred_at >= span.0);
                if let Some(verdict) = last {
                    verdicts.add(check.clone(), verdict.clone());
                }
            }
        }
    }
    Ok(())
}

/// After every event, and within what Postgres can hold.
fn far_future() -> DateTime<Utc> {
    const YEAR_9999: i64 = 253_370_764_800;
    DateTime::from_timestamp(YEAR_9999, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Verdicts on their way into the table, column by column.
#[derive(Default)]
pub(crate) struct VerdictRows {
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    subject: Vec<Uuid>,
    environment_id: Vec<Option<i32>>,
    named: Vec<bool>,
    check_name: Vec<String>,
    passed: Vec<bool>,
    told: [Vec<Option<String>>; 4],
}

impl VerdictRows {
    /// Adds what a check said, if that is what the fact is.
    pub(crate) fn push(
        &mut self,
        fact: &Fact,
        environment_id: Option<i32>,
        at: Position,
        occurred_at: DateTime<Utc>,
    ) {
        let (validation, passed) = match fact {
            Fact::ValidationPassed(validation) => (validation, true),
            Fact::ValidationFailed(validation) => (validation, false),
            _ => return,
        };
        let (subject, named, release) = subject(validation);
        self.position.push(bigint(at));
        self.occurred_at.push(occurred_at);
        self.subject.push(subject);
        self.environment_id.push(environment_id);
        self.named.push(named);
        self.check_name.push(validation.check.to_string());
        self.passed.push(passed);
        for (column, part) in self.told.iter_mut().zip(told(release)) {
            column.push(part);
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if self.position.is_empty() {
            return Ok(());
        }
        let mut query = sqlx::query(WRITE)
            .bind(self.position)
            .bind(self.occurred_at)
            .bind(self.subject)
            .bind(self.environment_id)
            .bind(self.named)
            .bind(self.check_name)
            .bind(self.passed);
        for column in self.told {
            query = query.bind(column);
        }
        query.execute(connection).await?;
        Ok(())
    }
}

/// The key of what was checked, whether it names a release, and the release as it was told.
fn subject(validation: &Validation) -> (Uuid, bool, Option<&Release>) {
    match &validation.subject {
        ValidationSubject::Artifact(artifact) => (of_artifact(artifact.as_str()), true, None),
        ValidationSubject::Environment(environment) => (of_environment(environment), false, None),
        ValidationSubject::Lane { lane, release: Some(release), .. } => {
            let Lane { environment, service, target } = lane;
            let ran = Ran { service: service.clone(), target: target.clone(), release: release.clone() };
            (of_version(environment, &ran), true, Some(release))
        }
        ValidationSubject::Lane { lane, release: None, deployment } => {
            let Lane { environment, service, target } = lane;
            let subject = match deployment {
                Some(deployment) => of_deployment(environment, service, target, deployment.as_str()),
                None => of_lane(environment, service, target),
            };
            (subject, false, None)
        }
    }
}

/// Verdicts by what a lane ran, for as long as a question takes.
#[derive(Default)]
pub(crate) struct Checked(BTreeMap<(ServiceName, TargetName), HashMap<Release, Verdicts>>);

impl Checked {
    pub(crate) fn of(
        &self,
        service: &ServiceName,
        target: &TargetName,
        release: &Release,
    ) -> Option<&Verdicts> {
        self.0.get(&(service.clone(), target.clone()))?.get(release)
    }

    pub(crate) fn insert(&mut self, ran: Ran, verdicts: Verdicts) {
        self.0.entry((ran.service, ran.target)).or_default().insert(ran.release, verdicts);
    }
}
