//! Deploys that matter beside what lanes run: those that are open, and those that cannot be undone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::event::{Deploy, Payload};
use ledger_domain::plan_issue::{DeployOutcome, IrreversibleDeploy, OpenDeploy};
use ledger_domain::{EnvironmentName, Lane, Position, Release, ServiceName, ShortText, SlotName, TargetName};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::lanes::{lane, release, told};

pub(crate) const STATEMENTS: &[&str] =
    &[IRREVERSIBLE, WRITE_IRREVERSIBLE, CORRECT_IRREVERSIBLE, OPEN, LOAD_OPEN, DELETE_OPEN];

const IRREVERSIBLE: &str =
    "SELECT position, service, target, version, occurred_at, succeeded FROM irreversible_deploys
    WHERE environment_id = $1 AND corrected_position IS NULL ORDER BY position";

const WRITE_IRREVERSIBLE: &str =
    "INSERT INTO irreversible_deploys (environment_id, position, service, target, version, occurred_at, succeeded)
    SELECT unnest($1::integer[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::text[]),
        unnest($5::text[]), unnest($6::timestamptz[]), unnest($7::boolean[])";

const CORRECT_IRREVERSIBLE: &str =
    "UPDATE irreversible_deploys SET corrected_position = $2 WHERE position = $1";

macro_rules! open {
    () => {
        "SELECT e.name AS environment, o.environment_id, o.service, o.target, o.position, o.occurred_at, o.is_end,
            o.overtaken, o.slot, o.deployment, o.reversible, o.rollback_id, o.version, o.artifact, o.config, o.infrastructure, o.commit
        FROM open_deploys o JOIN environments e USING (environment_id)"
    };
}

const OPEN: &str = concat!(open!(), " WHERE o.environment_id = $1 AND NOT o.is_end ORDER BY o.position");
const LOAD_OPEN: &str = open!();
const DELETE_OPEN: &str =
    "DELETE FROM open_deploys o USING unnest($1::integer[], $2::bigint[]) d (environment_id, position)
    WHERE o.environment_id = d.environment_id AND o.position = d.position";

/// Rows that are written by one statement: each has 16 parameters, and a statement at most 65,535.
const ROWS_OF_A_STATEMENT: usize = 1_000;

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

/// The start of a deploy that has not ended, or a failure whose start is not known.
#[derive(Debug, Clone)]
struct Half {
    environment_id: i32,
    occurred_at: DateTime<Utc>,
    is_end: bool,
    /// Another deploy to the lane succeeded later: this one is open no more, but what it may have done cannot be undone.
    overtaken: bool,
    slot: Option<SlotName>,
    deployment: Option<ShortText>,
    reversible: bool,
    rollback_id: Option<ShortText>,
    release: Release,
}

impl OpenRow {
    fn parse(&self) -> Result<(Lane, Position, Half), Error> {
        parsed("open_deploys", self.position, || {
            let lane = lane(&self.environment, &self.service, &self.target)?;
            let parts = [&self.artifact, &self.config, &self.infrastructure, &self.commit];
            let half = Half {
                environment_id: self.environment_id,
                occurred_at: self.occurred_at,
                is_end: self.is_end,
                overtaken: self.overtaken,
                slot: self.slot.as_deref().map(SlotName::parse).transpose()?,
                deployment: self.deployment.as_deref().map(ShortText::stored).transpose()?,
                reversible: self.reversible,
                rollback_id: self.rollback_id.as_deref().map(ShortText::stored).transpose()?,
                release: release(&self.version, parts)?,
            };
            Ok::<_, Box<dyn std::error::Error>>((lane, position(self.position), half))
        })
    }
}

impl Half {
    /// Whether two halves are of the same deploy: of the same run where both name one, else of the same version.
    fn is_of(&self, deploy: &Deploy) -> bool {
        match (&self.deployment, &deploy.deployment) {
            (Some(one), Some(other)) => one == other,
            _ => self.release.version == deploy.release.version,
        }
    }
}

impl Snapshot {
    /// Returns the deploys of an environment that cannot be undone by deploying the former release, in the order of positions.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn irreversible(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<IrreversibleDeploy>, Error> {
        type Row = (i64, String, String, String, DateTime<Utc>, bool);
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let rows: Vec<Row> = sqlx::query_as(IRREVERSIBLE).bind(id).fetch_all(self.connection()).await?;
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
        let open = self.open(environment).await?.into_iter().filter(|(_, _, half)| !half.reversible);
        let unfinished = open.map(|(lane, position, half)| IrreversibleDeploy {
            service: lane.service,
            target: lane.target,
            version: half.release.version,
            position,
            occurred_at: half.occurred_at,
            outcome: DeployOutcome::Unfinished,
        });
        Ok(ended?.into_iter().chain(unfinished).collect())
    }

    /// Returns the deploys to an environment that were started and have not ended, in the order of positions.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open_deploys(&mut self, environment: &EnvironmentName) -> Result<Vec<OpenDeploy>, Error> {
        let open = self.open(environment).await?.into_iter().filter(|(_, _, half)| !half.overtaken);
        let open = open.map(|(lane, position, half)| OpenDeploy {
            service: lane.service,
            target: lane.target,
            version: half.release.version,
            position,
        });
        Ok(open.collect())
    }

    /// Returns what would run in an environment's lanes if its open deploys succeeded: service, target, release.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn releases_on_the_way(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<(ServiceName, TargetName, Release)>, Error> {
        let open = self.open(environment).await?.into_iter().filter(|(_, _, half)| !half.overtaken);
        Ok(open.map(|(lane, _, half)| (lane.service, lane.target, half.release)).collect())
    }

    async fn open(&mut self, environment: &EnvironmentName) -> Result<Vec<(Lane, Position, Half)>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let rows: Vec<OpenRow> = sqlx::query_as(OPEN).bind(id).fetch_all(self.connection()).await?;
        rows.iter().map(OpenRow::parse).collect()
    }
}

/// The changes of a lane that occurred later than a report, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Later {
    Nothing,
    /// A deploy of the same version at this time.
    SameVersion(DateTime<Utc>),
    Others,
}

/// Deploys that are open, in the projector's memory.
#[derive(Default)]
pub(crate) struct DeploysFold {
    open: HashMap<Lane, BTreeMap<Position, Half>>,
    /// What was added and taken away since the last rows: with the environment's id.
    added: BTreeSet<(Position, Lane)>,
    removed: Vec<(i32, Position)>,
    irreversible: IrreversibleRows,
}

impl DeploysFold {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        let rows: Vec<OpenRow> = sqlx::query_as(LOAD_OPEN).fetch_all(connection).await?;
        let mut all = Self::default();
        for row in &rows {
            let (lane, position, half) = row.parse()?;
            all.open.entry(lane).or_default().insert(position, half);
        }
        Ok(all)
    }

    /// Applies what an event says of a deploy. `later`: what the lane already had that occurred later. A start opens nothing then,
    /// unless it cannot be undone and its end is not known.
    pub(crate) fn apply(
        &mut self,
        payload: &Payload,
        lane: &Lane,
        environment_id: i32,
        (at, occurred_at): (Position, DateTime<Utc>),
        later: Later,
    ) {
        let (deploy, is_end, succeeded) = match payload {
            Payload::DeployStarted(deploy) => (deploy, false, false),
            Payload::DeploySucceeded(deploy) => (deploy, true, true),
            Payload::DeployFailed(deploy) => (deploy, true, false),
            Payload::TrafficSwitched(switch) => {
                self.end_step(lane, switch.rollback_id.as_ref());
                return;
            }
            _ => return,
        };
        let moment = (occurred_at, at);
        let halves = self.open.entry(lane.clone()).or_default();
        let is_before = |half: &Half, position: Position| (half.occurred_at, position) <= moment;
        let mut reversible = deploy.reversible;
        let (mut ended, mut overtaken) = (Vec::new(), Vec::new());
        for (position, half) in halves.iter() {
            let is_its_own = half.is_of(deploy);
            match (is_end, half.is_end) {
                // The end of what was started, or a deploy that succeeds: it ends whatever was started in its lane before.
                (true, false) if is_before(half, *position) && is_its_own => {
                    reversible &= half.reversible;
                    ended.push(*position);
                }
                (true, false) if is_before(half, *position) && succeeded && !half.overtaken => {
                    if half.reversible { &mut ended } else { &mut overtaken }.push(*position);
                }
                (true, true) if is_before(half, *position) && succeeded => ended.push(*position),
                // A start that is reported after its failure.
                (false, true) if is_its_own && !is_before(half, *position) => {
                    if !deploy.reversible && half.reversible {
                        let end = (*position, half.occurred_at);
                        self.irreversible.push(environment_id, lane, &half.release.version, end, false);
                    }
                    ended.push(*position);
                }
                _ => {}
            }
        }
        let version = &deploy.release.version;
        if is_end && !reversible {
            self.irreversible.push(environment_id, lane, version, (at, occurred_at), succeeded);
        } else if let (false, false, Later::SameVersion(ended_at)) = (is_end, reversible, later) {
            // The start of a deploy whose success is known already.
            self.irreversible.push(environment_id, lane, version, (at, ended_at), true);
        }
        for position in &ended {
            if let Some(half) = halves.remove(position) {
                self.added.remove(&(*position, lane.clone()));
                self.removed.push((half.environment_id, *position));
            }
        }
        for position in overtaken {
            if let Some(half) = halves.get_mut(&position) {
                half.overtaken = true;
                self.removed.push((half.environment_id, position));
                self.added.insert((position, lane.clone()));
            }
        }
        let is_kept = match is_end {
            true => !succeeded,
            false => later == Later::Nothing || later == Later::Others && !deploy.reversible,
        };
        if ended.is_empty() && is_kept {
            let half = Half {
                environment_id,
                occurred_at,
                is_end,
                overtaken: !is_end && later == Later::Others,
                slot: deploy.slot.clone(),
                deployment: deploy.deployment.clone(),
                reversible: deploy.reversible,
                rollback_id: deploy.rollback_id.clone(),
                release: deploy.release.clone(),
            };
            halves.insert(at, half);
            self.added.insert((at, lane.clone()));
        }
        if halves.is_empty() {
            self.open.remove(lane);
        }
    }

    /// A step of a rollback that switches traffic is claimed by the start of a deploy, and ends with the switch.
    fn end_step(&mut self, lane: &Lane, rollback_id: Option<&ShortText>) {
        let (Some(rollback_id), Some(halves)) = (rollback_id, self.open.get_mut(lane)) else { return };
        let of_step = halves.iter().filter(|(_, half)| half.rollback_id.as_ref() == Some(rollback_id));
        let ended: Vec<(Position, i32)> =
            of_step.map(|(position, half)| (*position, half.environment_id)).collect();
        for (position, environment_id) in ended {
            halves.remove(&position);
            self.added.remove(&(position, lane.clone()));
            self.removed.push((environment_id, position));
        }
    }

    /// Takes back the start, or the failure, that a corrected event reported. What a corrected success ended stays ended.
    pub(crate) fn take_back(&mut self, position: Position) {
        let open = self.open.iter().find(|(_, halves)| halves.contains_key(&position));
        let Some(lane) = open.map(|(lane, _)| lane.clone()) else { return };
        let Some(halves) = self.open.get_mut(&lane) else { return };
        if let Some(half) = halves.remove(&position) {
            self.added.remove(&(position, lane.clone()));
            self.removed.push((half.environment_id, position));
        }
        if halves.is_empty() {
            self.open.remove(&lane);
        }
    }

    pub(crate) fn take_rows(&mut self) -> DeployRows {
        let added = std::mem::take(&mut self.added).into_iter().filter_map(|(position, lane)| {
            let half = self.open.get(&lane)?.get(&position)?.clone();
            Some((lane, position, half))
        });
        let added = added.collect();
        DeployRows {
            added,
            removed: std::mem::take(&mut self.removed),
            irreversible: std::mem::take(&mut self.irreversible),
        }
    }
}

#[derive(Default)]
struct IrreversibleRows {
    environment_id: Vec<i32>,
    position: Vec<i64>,
    service: Vec<String>,
    target: Vec<String>,
    version: Vec<String>,
    occurred_at: Vec<DateTime<Utc>>,
    succeeded: Vec<bool>,
}

impl IrreversibleRows {
    fn push(
        &mut self,
        environment_id: i32,
        lane: &Lane,
        version: &ShortText,
        (at, occurred_at): (Position, DateTime<Utc>),
        succeeded: bool,
    ) {
        self.environment_id.push(environment_id);
        self.position.push(bigint(at));
        self.service.push(lane.service.to_string());
        self.target.push(lane.target.to_string());
        self.version.push(version.to_string());
        self.occurred_at.push(occurred_at);
        self.succeeded.push(succeeded);
    }
}

/// Deploys on their way into the tables.
#[derive(Default)]
pub(crate) struct DeployRows {
    added: Vec<(Lane, Position, Half)>,
    removed: Vec<(i32, Position)>,
    irreversible: IrreversibleRows,
}

impl DeployRows {
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        let rows = self.irreversible;
        if !rows.position.is_empty() {
            sqlx::query(WRITE_IRREVERSIBLE)
                .bind(rows.environment_id)
                .bind(rows.position)
                .bind(rows.service)
                .bind(rows.target)
                .bind(rows.version)
                .bind(rows.occurred_at)
                .bind(rows.succeeded)
                .execute(&mut *connection)
                .await?;
        }
        if !self.removed.is_empty() {
            let (ids, positions): (Vec<i32>, Vec<i64>) =
                self.removed.into_iter().map(|(id, position)| (id, bigint(position))).unzip();
            sqlx::query(DELETE_OPEN).bind(ids).bind(positions).execute(&mut *connection).await?;
        }
        for rows in self.added.chunks(ROWS_OF_A_STATEMENT) {
            insert(rows).build().execute(&mut *connection).await?;
        }
        Ok(())
    }
}

fn insert(rows: &[(Lane, Position, Half)]) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "INSERT INTO open_deploys (environment_id, service, target, position, occurred_at, is_end, overtaken, slot,
            deployment, reversible, rollback_id, version, artifact, config, infrastructure, commit) ",
    );
    query.push_values(rows, |mut row, (lane, position, half)| {
        row.push_bind(half.environment_id)
            .push_bind(lane.service.to_string())
            .push_bind(lane.target.to_string())
            .push_bind(bigint(*position))
            .push_bind(half.occurred_at)
            .push_bind(half.is_end)
            .push_bind(half.overtaken)
            .push_bind(half.slot.as_ref().map(ToString::to_string))
            .push_bind(half.deployment.as_ref().map(ToString::to_string))
            .push_bind(half.reversible)
            .push_bind(half.rollback_id.as_ref().map(ToString::to_string))
            .push_bind(half.release.version.to_string());
        for part in told(Some(&half.release)) {
            row.push_bind(part);
        }
    });
    query
}

/// Has an irreversible deploy no effect from a position on.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
) -> Result<(), Error> {
    let query = sqlx::query(CORRECT_IRREVERSIBLE).bind(bigint(corrected)).bind(bigint(from));
    query.execute(connection).await?;
    Ok(())
}
