//! Rollbacks: the state of each, and the reports that belong to it.

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Event, Payload, RollbackRequest, Step};
use ledger_domain::rollback::{AutomaticHistory, RollbackPhase};
use ledger_domain::{EnvironmentName, Family, LongText, Position, ShortText, TargetName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::{insert, insert_row};
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::optional_columns;

/// Current state of a rollback.
#[derive(Debug, Clone, PartialEq)]
pub struct RollbackRow {
    /// Request of the rollback.
    pub request: RollbackRequest,
    /// Reason of the request.
    pub reason: Option<LongText>,
    /// Phase of the rollback.
    pub phase: RollbackPhase,
    /// Position of the request.
    pub requested: Position,
    /// Time at which the request was recorded.
    pub requested_at: DateTime<Utc>,
    /// Position of the start, if it has started.
    pub started: Option<Position>,
    /// Position of the end, if it has ended.
    pub ended: Option<Position>,
    /// Reason given at its end.
    pub end_reason: Option<LongText>,
}

/// Report of a change in an environment, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Target of the report, resolved if the report names none; `None` if the service has several and the report names
    /// none.
    pub target: Option<TargetName>,
    /// Position of the report.
    pub position: Position,
    /// Time at which it occurred.
    pub occurred_at: DateTime<Utc>,
    /// Reported event.
    pub event: Event,
}

/// Filter for rollbacks: a rollback has to meet every given condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RollbackFilter {
    /// Environment of the rollback.
    pub environment: Option<EnvironmentName>,
    /// Phases to include.
    pub phases: Option<Vec<RollbackPhase>>,
    /// Position before which the rollback was requested.
    pub before: Option<Position>,
}

#[derive(sqlx::FromRow)]
struct Row {
    phase: String,
    recorded_at: DateTime<Utc>,
    requested: i64,
    started: Option<i64>,
    ended: Option<i64>,
    bytes: Vec<u8>,
    end_bytes: Option<Vec<u8>>,
}

impl Row {
    fn parse(&self) -> Result<RollbackRow, Error> {
        parsed("rollbacks", self.requested, || {
            let envelope =
                Envelope::stored(self.bytes.clone().into()).map_err(|invalid| invalid.to_string())?;
            let event = envelope.event();
            let Payload::RollbackRequested(request) = &event.payload else {
                return Err(format!("expected rollback.requested, found {}", event.payload.kind()));
            };
            let end = self.end_bytes.clone().map(|bytes| Envelope::stored(bytes.into()));
            let end = end.transpose().map_err(|invalid| invalid.to_string())?;
            Ok(RollbackRow {
                request: request.clone(),
                reason: event.reason.clone(),
                phase: RollbackPhase::named(&self.phase)
                    .ok_or_else(|| format!("unknown phase {}", self.phase))?,
                requested: position(self.requested),
                requested_at: self.recorded_at,
                started: self.started.map(position),
                ended: self.ended.map(position),
                end_reason: end.and_then(|end| end.event().reason.clone()),
            })
        })
    }
}

impl Snapshot {
    /// Returns a rollback.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn rollback(&mut self, rollback_id: &ShortText) -> Result<Option<RollbackRow>, Error> {
        let query = sqlx::query_as(sql!("rollbacks/by_id")).bind(rollback_id.as_str());
        let row: Option<Row> = query.fetch_optional(self.connection()).await?;
        row.as_ref().map(Row::parse).transpose()
    }

    /// Returns up to `limit` rollbacks, latest request first.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn rollbacks(
        &mut self,
        filter: &RollbackFilter,
        limit: u32,
    ) -> Result<Vec<RollbackRow>, Error> {
        let phases = filter.phases.as_ref();
        let phases = phases.map(|phases| phases.iter().map(|phase| phase.name()).collect::<Vec<_>>());
        let query = sqlx::query_as(sql!("rollbacks/list"))
            .bind(filter.before.map_or(i64::MAX, bigint))
            .bind(filter.environment.as_ref().map(EnvironmentName::as_str))
            .bind(phases)
            .bind(i64::from(limit));
        let rows: Vec<Row> = query.fetch_all(self.connection()).await?;
        rows.iter().map(Row::parse).collect()
    }

    /// Returns the active rollback of an environment, if any, and the position of its request.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn active_rollback(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Option<(ShortText, Position)>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(None) };
        let query = sqlx::query_as(sql!("rollbacks/active")).bind(id);
        let row: Option<(String, i64)> = query.fetch_optional(self.connection()).await?;
        row.map(|(rollback_id, at)| {
            Ok((parsed("rollbacks", at, || ShortText::stored(&rollback_id))?, position(at)))
        })
        .transpose()
    }

    /// Returns the reports that belong to a rollback, ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn rollback_reports(&mut self, rollback_id: &ShortText) -> Result<Vec<Report>, Error> {
        let query = sqlx::query_as(sql!("rollbacks/reports")).bind(rollback_id.as_str());
        let rows: Vec<ReportRow> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(parse_report).collect()
    }

    /// Returns up to 100 changes of an environment's composition by other actors between the request of a rollback and
    /// its end.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn changes_of_others(&mut self, rollback: &RollbackRow) -> Result<Vec<Report>, Error> {
        let environment = &rollback.request.rollback.environment;
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let before = self.last_change(id, rollback.requested).await?;
        let query = sqlx::query_as(sql!("rollbacks/changes_by_others"))
            .bind(environment.as_str())
            .bind(before)
            .bind(rollback.ended.map(bigint))
            .bind(rollback.request.rollback.rollback_id.as_str());
        let rows: Vec<ReportRow> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(parse_report).collect()
    }

    /// Returns what limits further automatic rollbacks of an environment: the requests of the last 24 h, the time of
    /// the last request, and the last automatic rollback if it failed and no policy was declared since.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn automatic_past(
        &mut self,
        environment: &EnvironmentName,
        now: DateTime<Utc>,
    ) -> Result<AutomaticHistory, Error> {
        let Some(id) = self.environment_id(environment).await? else {
            return Ok(AutomaticHistory::default());
        };
        let requests = sqlx::query_scalar(sql!("rollbacks/automatic_requests_since"))
            .bind(id)
            .bind(now - TimeDelta::days(1));
        let requested_at = requests.fetch_all(self.connection()).await?;
        let last = sqlx::query_scalar(sql!("rollbacks/last_automatic_request")).bind(id);
        let last_requested_at = last.fetch_one(self.connection()).await?;
        let failed: Option<(String, i64)> = sqlx::query_as(sql!("rollbacks/last_failed_automatic"))
            .bind(id)
            .fetch_optional(self.connection())
            .await?;
        let failed = failed
            .map(|(rollback_id, at)| {
                Ok::<_, Error>((parsed("rollbacks", at, || ShortText::stored(&rollback_id))?, position(at)))
            })
            .transpose()?;
        Ok(AutomaticHistory { requested_at, last_requested_at, failed })
    }
}

/// Position, target and bytes of an event.
type ReportRow = (i64, Option<String>, Vec<u8>);

fn parse_report((at, target, bytes): ReportRow) -> Result<Report, Error> {
    let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
    let target = parsed("events", at, || target.as_deref().map(TargetName::parse).transpose())?;
    let event = envelope.event().clone();
    Ok(Report { target, position: position(at), occurred_at: envelope.occurred_at(), event })
}

insert_row! {
    /// Row of `rollback_reports`.
    pub(crate) struct RollbackReportInsert => "rollback_reports" {
        rollback_id: String,
        position: i64,
    }
}

impl RollbackReportInsert {
    /// Returns the row of a report that has the id of a rollback, if the payload is one.
    pub(crate) fn from_payload(payload: &Payload, at: Position) -> Option<Self> {
        let rollback_id = payload.rollback_id().filter(|_| payload.kind().family() != Family::Rollback)?;
        Some(Self { rollback_id: rollback_id.to_string(), position: bigint(at) })
    }
}

insert_row! {
    /// Row of `rollback_lanes`.
    pub(crate) struct RollbackLaneInsert => "rollback_lanes", "ON CONFLICT DO NOTHING" {
        environment_id: i32,
        service: String,
        target: String,
        requested: i64,
        version: Option<String>,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
        to_version: Option<String>,
        to_artifact: Option<String>,
        to_config: Option<String>,
        to_infrastructure: Option<String>,
        to_commit: Option<String>,
    }
}

impl RollbackLaneInsert {
    fn new(step: &Step, environment_id: i32, requested: Position) -> Self {
        let [artifact, config, infrastructure, commit] = optional_columns(step.from.as_ref());
        let [to_artifact, to_config, to_infrastructure, to_commit] = optional_columns(step.to.as_ref());
        Self {
            environment_id,
            service: step.service.to_string(),
            target: step.target.to_string(),
            requested: bigint(requested),
            version: step.from.as_ref().map(|release| release.version.to_string()),
            artifact,
            config,
            infrastructure,
            commit,
            to_version: step.to.as_ref().map(|release| release.version.to_string()),
            to_artifact,
            to_config,
            to_infrastructure,
            to_commit,
        }
    }
}

/// Writes the request, the start or the end of a rollback, if the payload is one.
pub(crate) async fn write(
    connection: &mut PgConnection,
    payload: &Payload,
    environment_id: i32,
    at: Position,
    recorded_at: DateTime<Utc>,
) -> Result<(), Error> {
    let ended = |phase: RollbackPhase, id: &ShortText| (phase, id.as_str().to_owned());
    let (phase, rollback_id) = match payload {
        Payload::RollbackRequested(request) => {
            return write_request(connection, request, environment_id, at, recorded_at).await;
        }
        Payload::RollbackStarted(it) => {
            let query = sqlx::query(sql!("rollbacks/mark_started"))
                .bind(it.rollback.rollback_id.as_str())
                .bind(bigint(at));
            query.execute(&mut *connection).await?;
            if !it.acknowledge.is_empty() {
                sqlx::query(sql!("rollbacks/update_acknowledged_lanes"))
                    .bind(it.rollback.rollback_id.as_str())
                    .bind(bigint(at))
                    .bind(it.acknowledge.iter().map(|(service, _)| service.to_string()).collect::<Vec<_>>())
                    .bind(it.acknowledge.iter().map(|(_, target)| target.to_string()).collect::<Vec<_>>())
                    .execute(connection)
                    .await?;
            }
            return Ok(());
        }
        Payload::RollbackSucceeded(it) => ended(RollbackPhase::Succeeded, &it.rollback_id),
        Payload::RollbackFailed(it) => ended(RollbackPhase::Failed, &it.rollback_id),
        Payload::RollbackCancelled(it) => ended(RollbackPhase::Cancelled, &it.rollback_id),
        _ => return Ok(()),
    };
    sqlx::query(sql!("rollbacks/mark_ended"))
        .bind(rollback_id)
        .bind(phase.name())
        .bind(bigint(at))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_request(
    connection: &mut PgConnection,
    request: &RollbackRequest,
    environment_id: i32,
    at: Position,
    recorded_at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(sql!("rollbacks/insert_request"))
        .bind(request.rollback.rollback_id.as_str())
        .bind(environment_id)
        .bind(bigint(at))
        .bind(recorded_at)
        .bind(request.automatic)
        .bind(!request.automatic && request.initiated_by.is_person())
        .execute(&mut *connection)
        .await?;
    let lanes = request.plan.steps.iter().map(|step| RollbackLaneInsert::new(step, environment_id, at));
    insert(connection, lanes.collect::<Vec<RollbackLaneInsert>>()).await
}
