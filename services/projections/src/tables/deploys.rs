//! Open deploys, and irreversible deploys: those that cannot be undone by deploying the former release.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::event::{Deploy, Payload};
use ledger_domain::plan_issue::{DeployOutcome, IrreversibleDeploy, OpenDeploy};
use ledger_domain::{EnvironmentName, Lane, Position, Release, ServiceName, ShortText, SlotName, TargetName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::{BatchStatement, insert_row};
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::{optional_columns, parse_lane, parse_release};

#[derive(sqlx::FromRow)]
struct OpenRow {
    environment: String,
    environment_id: i32,
    service: String,
    target: String,
    position: i64,
    occurred_at: DateTime<Utc>,
    is_end: bool,
    overtaken: bool,
    slot: Option<String>,
    deployment: Option<String>,
    reversible: bool,
    rollback_id: Option<String>,
    version: String,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

/// Report of a deploy that lacks its counterpart: a start without an end, or a failure without a start.
#[derive(Debug, Clone)]
struct UnmatchedReport {
    environment_id: i32,
    occurred_at: DateTime<Utc>,
    is_end: bool,
    /// A later deploy to the lane succeeded. The deploy is not open any more, but its effects may be irreversible.
    overtaken: bool,
    slot: Option<SlotName>,
    deployment: Option<ShortText>,
    reversible: bool,
    rollback_id: Option<ShortText>,
    release: Release,
}

impl OpenRow {
    fn parse(&self) -> Result<(Lane, Position, UnmatchedReport), Error> {
        parsed("open_deploys", self.position, || {
            let lane = parse_lane(&self.environment, &self.service, &self.target)?;
            let parts = [&self.artifact, &self.config, &self.infrastructure, &self.commit];
            let report = UnmatchedReport {
                environment_id: self.environment_id,
                occurred_at: self.occurred_at,
                is_end: self.is_end,
                overtaken: self.overtaken,
                slot: self.slot.as_deref().map(SlotName::parse).transpose()?,
                deployment: self.deployment.as_deref().map(ShortText::stored).transpose()?,
                reversible: self.reversible,
                rollback_id: self.rollback_id.as_deref().map(ShortText::stored).transpose()?,
                release: parse_release(&self.version, parts)?,
            };
            Ok::<_, Box<dyn std::error::Error>>((lane, position(self.position), report))
        })
    }
}

impl UnmatchedReport {
    /// Returns true if both reports are about the same deploy: the same deployment run if both name one, else the same
    /// version.
    fn belongs_to(&self, deploy: &Deploy) -> bool {
        match (&self.deployment, &deploy.deployment) {
            (Some(one), Some(other)) => one == other,
            _ => self.release.version == deploy.release.version,
        }
    }
}

/// Report of a deploy in a lane.
struct DeployReport<'a> {
    deploy: &'a Deploy,
    lane: &'a Lane,
    environment_id: i32,
    position: Position,
    occurred_at: DateTime<Utc>,
}

impl DeployReport<'_> {
    /// Returns true if another report occurred before this one.
    fn follows(&self, other: &UnmatchedReport, position: Position) -> bool {
        (other.occurred_at, position) <= (self.occurred_at, self.position)
    }

    fn unmatched(&self) -> UnmatchedReport {
        UnmatchedReport {
            environment_id: self.environment_id,
            occurred_at: self.occurred_at,
            is_end: false,
            overtaken: false,
            slot: self.deploy.slot.clone(),
            deployment: self.deploy.deployment.clone(),
            reversible: self.deploy.reversible,
            rollback_id: self.deploy.rollback_id.clone(),
            release: self.deploy.release.clone(),
        }
    }

    fn irreversible(
        &self,
        version: &ShortText,
        end: (Position, DateTime<Utc>),
        succeeded: bool,
    ) -> IrreversibleDeployInsert {
        IrreversibleDeployInsert::new(self.environment_id, self.lane, version, end, succeeded)
    }
}

impl Snapshot {
    /// Returns the irreversible deploys of an environment: first those that ended, then those that are unfinished, each
    /// ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn irreversible(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<IrreversibleDeploy>, Error> {
        type Row = (i64, String, String, String, DateTime<Utc>, bool);
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let rows: Vec<Row> = sqlx::query_as(sql!("irreversible_deploys/of_environment"))
            .bind(id)
            .fetch_all(self.connection())
            .await?;
        let ended: Result<Vec<_>, _> = rows
            .into_iter()
            .map(|(at, service, target, version, occurred_at, succeeded)| {
                parsed("irreversible_deploys", at, || {
                    Ok::<_, Box<dyn std::error::Error>>(IrreversibleDeploy {
                        service: ServiceName::parse(&service)?,
                        target: TargetName::parse(&target)?,
                        version: ShortText::stored(&version)?,
                        position: position(at),
                        occurred_at,
                        outcome: if succeeded { DeployOutcome::Succeeded } else { DeployOutcome::Failed },
                    })
                })
            })
            .collect();
        let open = self.open(environment).await?.into_iter().filter(|(_, _, report)| !report.reversible);
        let unfinished = open.map(|(lane, position, report)| IrreversibleDeploy {
            service: lane.service,
            target: lane.target,
            version: report.release.version,
            position,
            occurred_at: report.occurred_at,
            outcome: DeployOutcome::Unfinished,
        });
        Ok(ended?.into_iter().chain(unfinished).collect())
    }

    /// Returns the deploys to an environment that were started and have not ended, ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn open_deploys(&mut self, environment: &EnvironmentName) -> Result<Vec<OpenDeploy>, Error> {
        let open = self.open(environment).await?.into_iter().filter(|(_, _, report)| !report.overtaken);
        let open = open.map(|(lane, position, report)| OpenDeploy {
            service: lane.service,
            target: lane.target,
            version: report.release.version,
            position,
        });
        Ok(open.collect())
    }

    /// Returns the releases of an environment's open deploys: service, target, release.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn releases_on_the_way(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<(ServiceName, TargetName, Release)>, Error> {
        let open = self.open(environment).await?.into_iter().filter(|(_, _, report)| !report.overtaken);
        Ok(open.map(|(lane, _, report)| (lane.service, lane.target, report.release)).collect())
    }

    async fn open(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<(Lane, Position, UnmatchedReport)>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let rows: Vec<OpenRow> =
            sqlx::query_as(sql!("open_deploys/of_environment")).bind(id).fetch_all(self.connection()).await?;
        rows.iter().map(OpenRow::parse).collect()
    }
}

/// Known changes of a lane that occurred later than a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaterChange {
    Nothing,
    /// A deploy of the same version, at this time.
    SameVersion(DateTime<Utc>),
    /// Only other changes.
    Other,
}

/// In-memory projection of open deploys.
#[derive(Default)]
pub(crate) struct OpenDeployProjection {
    open: HashMap<Lane, BTreeMap<Position, UnmatchedReport>>,
    /// Reports added or overtaken since the last call of `take_rows`.
    added: BTreeSet<(Position, Lane)>,
    /// Reports removed since then, by environment id and position. None of them is in `added`.
    removed: Vec<(i32, Position)>,
    irreversible: Vec<IrreversibleDeployInsert>,
}

impl OpenDeployProjection {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        let rows: Vec<OpenRow> = sqlx::query_as(sql!("open_deploys/load")).fetch_all(connection).await?;
        let mut all = Self::default();
        for row in &rows {
            let (lane, position, report) = row.parse()?;
            all.open.entry(lane).or_default().insert(position, report);
        }
        Ok(all)
    }

    /// Applies an event to the open deploys of a lane. `later` states which known changes of the lane occurred after
    /// the event.
    pub(crate) fn apply(
        &mut self,
        payload: &Payload,
        lane: &Lane,
        environment_id: i32,
        (position, occurred_at): (Position, DateTime<Utc>),
        later: LaterChange,
    ) {
        let report = |deploy| DeployReport { deploy, lane, environment_id, position, occurred_at };
        match payload {
            Payload::DeployStarted(deploy) => self.start(&report(deploy), later),
            Payload::DeploySucceeded(deploy) => self.end(&report(deploy), true),
            Payload::DeployFailed(deploy) => self.end(&report(deploy), false),
            Payload::TrafficSwitched(switch) => self.end_rollback_step(lane, switch.rollback_id.as_ref()),
            _ => {}
        }
    }

    /// Applies the start of a deploy. It closes the failures of the same deploy that occurred after it: they were
    /// reported first. If the lane has later changes, a start opens no deploy, unless it is irreversible and its end is
    /// not known.
    fn start(&mut self, start: &DeployReport<'_>, later: LaterChange) {
        let deploy = start.deploy;
        let mut ended = Vec::new();
        for (position, report) in self.open.get(start.lane).into_iter().flatten() {
            if report.is_end && report.belongs_to(deploy) && !start.follows(report, *position) {
                if !deploy.reversible && report.reversible {
                    let (version, end) = (&report.release.version, (*position, report.occurred_at));
                    self.irreversible.push(start.irreversible(version, end, false));
                }
                ended.push(*position);
            }
        }
        if let (false, LaterChange::SameVersion(ended_at)) = (deploy.reversible, later) {
            // The success of this deploy is already known.
            let end = (start.position, ended_at);
            self.irreversible.push(start.irreversible(&deploy.release.version, end, true));
        }
        self.remove(start.lane, &ended);
        let is_kept = later == LaterChange::Nothing || later == LaterChange::Other && !deploy.reversible;
        if ended.is_empty() && is_kept {
            let overtaken = later == LaterChange::Other;
            self.insert(start, UnmatchedReport { is_end: false, overtaken, ..start.unmatched() });
        }
    }

    /// Applies the end of a deploy. It closes its own start. A success also closes the earlier failures and the other
    /// earlier starts in the lane; of these, it keeps the irreversible ones as overtaken.
    fn end(&mut self, end: &DeployReport<'_>, succeeded: bool) {
        let deploy = end.deploy;
        let mut reversible = deploy.reversible;
        let (mut ended, mut overtaken) = (Vec::new(), Vec::new());
        let reports = self.open.get(end.lane).into_iter().flatten();
        for (position, report) in reports.filter(|(position, report)| end.follows(report, **position)) {
            if !report.is_end && report.belongs_to(deploy) {
                reversible &= report.reversible;
                ended.push(*position);
            } else if succeeded && (report.is_end || !report.overtaken) {
                if report.is_end || report.reversible { &mut ended } else { &mut overtaken }.push(*position);
            }
        }
        if !reversible {
            let moment = (end.position, end.occurred_at);
            self.irreversible.push(end.irreversible(&deploy.release.version, moment, succeeded));
        }
        self.mark_overtaken(end.lane, overtaken);
        self.remove(end.lane, &ended);
        if ended.is_empty() && !succeeded {
            self.insert(end, UnmatchedReport { is_end: true, ..end.unmatched() });
        }
    }

    fn insert(&mut self, report: &DeployReport<'_>, unmatched: UnmatchedReport) {
        self.open.entry(report.lane.clone()).or_default().insert(report.position, unmatched);
        self.added.insert((report.position, report.lane.clone()));
    }

    fn mark_overtaken(&mut self, lane: &Lane, positions: Vec<Position>) {
        let Some(reports) = self.open.get_mut(lane) else { return };
        for position in positions {
            if let Some(report) = reports.get_mut(&position) {
                report.overtaken = true;
                self.added.insert((position, lane.clone()));
            }
        }
    }

    fn remove(&mut self, lane: &Lane, positions: &[Position]) {
        let Some(reports) = self.open.get_mut(lane) else { return };
        for position in positions {
            if let Some(report) = reports.remove(position) {
                self.added.remove(&(*position, lane.clone()));
                self.removed.push((report.environment_id, *position));
            }
        }
        if reports.is_empty() {
            self.open.remove(lane);
        }
    }

    /// Ends a rollback step that switches traffic: a deploy start claims the step, and the switch ends it.
    fn end_rollback_step(&mut self, lane: &Lane, rollback_id: Option<&ShortText>) {
        let (Some(rollback_id), Some(reports)) = (rollback_id, self.open.get(lane)) else { return };
        let of_step = reports.iter().filter(|(_, report)| report.rollback_id.as_ref() == Some(rollback_id));
        let ended: Vec<Position> = of_step.map(|(position, _)| *position).collect();
        self.remove(lane, &ended);
    }

    /// Removes the start or the failure that a corrected event reported. Deploys that a corrected success ended stay
    /// ended.
    pub(crate) fn take_back(&mut self, position: Position) {
        let open = self.open.iter().find(|(_, reports)| reports.contains_key(&position));
        if let Some(lane) = open.map(|(lane, _)| lane.clone()) {
            self.remove(&lane, &[position]);
        }
    }

    pub(crate) fn take_rows(&mut self) -> DeployRows {
        let added = std::mem::take(&mut self.added).into_iter().filter_map(|(position, lane)| {
            let report = self.open.get(&lane)?.get(&position)?;
            Some(OpenDeployInsert::new(&lane, position, report))
        });
        DeployRows {
            added: added.collect(),
            removed: std::mem::take(&mut self.removed),
            irreversible: std::mem::take(&mut self.irreversible),
        }
    }
}

insert_row! {
    /// Row of `irreversible_deploys`.
    pub(crate) struct IrreversibleDeployInsert => "irreversible_deploys" {
        environment_id: i32,
        position: i64,
        service: String,
        target: String,
        version: String,
        occurred_at: DateTime<Utc>,
        succeeded: bool,
    }
}

impl IrreversibleDeployInsert {
    fn new(
        environment_id: i32,
        lane: &Lane,
        version: &ShortText,
        (at, occurred_at): (Position, DateTime<Utc>),
        succeeded: bool,
    ) -> Self {
        Self {
            environment_id,
            position: bigint(at),
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            version: version.to_string(),
            occurred_at,
            succeeded,
        }
    }
}

insert_row! {
    /// Row of `open_deploys`.
    pub(crate) struct OpenDeployInsert => "open_deploys",
        "ON CONFLICT (environment_id, position) DO UPDATE SET overtaken = excluded.overtaken"
    {
        environment_id: i32,
        service: String,
        target: String,
        position: i64,
        occurred_at: DateTime<Utc>,
        is_end: bool,
        overtaken: bool,
        slot: Option<String>,
        deployment: Option<String>,
        reversible: bool,
        rollback_id: Option<String>,
        version: String,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
    }
}

impl OpenDeployInsert {
    fn new(lane: &Lane, position: Position, report: &UnmatchedReport) -> Self {
        let [artifact, config, infrastructure, commit] = optional_columns(Some(&report.release));
        Self {
            environment_id: report.environment_id,
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            position: bigint(position),
            occurred_at: report.occurred_at,
            is_end: report.is_end,
            overtaken: report.overtaken,
            slot: report.slot.as_ref().map(ToString::to_string),
            deployment: report.deployment.as_ref().map(ToString::to_string),
            reversible: report.reversible,
            rollback_id: report.rollback_id.as_ref().map(ToString::to_string),
            version: report.release.version.to_string(),
            artifact,
            config,
            infrastructure,
            commit,
        }
    }
}

/// Rows to insert into and delete from `open_deploys`, and to insert into `irreversible_deploys`.
#[derive(Default)]
pub(crate) struct DeployRows {
    added: Vec<OpenDeployInsert>,
    removed: Vec<(i32, Position)>,
    irreversible: Vec<IrreversibleDeployInsert>,
}

impl DeployRows {
    pub(crate) fn add_to(self, statement: &mut BatchStatement) -> Result<(), Error> {
        statement.insert(self.irreversible)?;
        if !self.removed.is_empty() {
            let keys: (Vec<i32>, Vec<i64>) =
                self.removed.into_iter().map(|(id, position)| (id, bigint(position))).unzip();
            statement.execute_with("removed_deploys", sql!("open_deploys/delete"), keys)?;
        }
        statement.insert(self.added)
    }
}

/// Marks an irreversible deploy as corrected: it has no effect from the position `from` on.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
) -> Result<(), Error> {
    let query = sqlx::query(sql!("irreversible_deploys/correct")).bind(bigint(corrected)).bind(bigint(from));
    query.execute(connection).await?;
    Ok(())
}
