//! Rollbacks: the state of each, and the reports that belong to it.

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Event, Payload, RollbackRequest, Step};
use ledger_domain::rollback::{AutomaticHistory, RollbackPhase};
use ledger_domain::{EnvironmentName, Family, LongText, Position, Release, ShortText, TargetName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::lanes::optional_columns;

pub(crate) const STATEMENTS: &[&str] = &[
    BY_ID,
    LIST,
    ACTIVE,
    REPORTS,
    CHANGES_BY_OTHERS,
    AUTOMATIC_REQUESTS_SINCE,
    LAST_AUTOMATIC_REQUEST,
    LAST_FAILED_AUTOMATIC,
    INSERT_REQUEST,
    INSERT_LANES,
    MARK_STARTED,
    UPDATE_ACKNOWLEDGED_LANES,
    MARK_ENDED,
    INSERT_REPORTS,
];

macro_rules! select_rollbacks {
    () => {
        "SELECT r.phase, r.recorded_at, r.requested, r.started, r.ended, e.bytes, f.bytes AS end_bytes
        FROM rollbacks r JOIN events e ON e.position = r.requested
        LEFT JOIN events f ON f.position = r.ended"
    };
}

const BY_ID: &str = concat!(select_rollbacks!(), " WHERE r.rollback_id = $1");

const LIST: &str = concat!(
    select_rollbacks!(),
    " JOIN environments n USING (environment_id)
    WHERE r.requested < $1 AND ($2::text IS NULL OR n.name = $2) AND ($3::text[] IS NULL OR r.phase = ANY($3))
    ORDER BY r.requested DESC LIMIT $4"
);

const ACTIVE: &str = "SELECT rollback_id, requested FROM rollbacks
    WHERE environment_id = $1 AND ended IS NULL ORDER BY requested DESC LIMIT 1";

/// Selects the reports with the rollback's id from its own environment, recorded after its request: other reports may
/// use the id by mistake. Leaves out corrected reports.
const REPORTS: &str = "SELECT e.position, e.target, e.bytes
    FROM rollbacks b JOIN environments n USING (environment_id)
    JOIN rollback_reports r USING (rollback_id) JOIN events e ON e.position = r.position
    WHERE b.rollback_id = $1 AND e.environment = n.name AND e.position > b.requested
        AND NOT EXISTS (SELECT FROM corrections k WHERE k.position = e.position)
    ORDER BY e.position";

/// Selects events that changed the environment's composition after one change, before a position, and are no reports of
/// the rollback.
const CHANGES_BY_OTHERS: &str = "SELECT e.position, e.target, e.bytes FROM (
        SELECT DISTINCT c.number, c.position FROM environments n JOIN live_changes c USING (environment_id)
        WHERE n.name = $1 AND c.number > $2
            AND ($3::bigint IS NULL OR c.position < $3)
            AND NOT EXISTS (SELECT FROM rollback_reports r WHERE r.rollback_id = $4 AND r.position = c.position)
        ORDER BY c.number LIMIT 100
    ) c JOIN events e USING (position)
    ORDER BY c.number";

const AUTOMATIC_REQUESTS_SINCE: &str = "SELECT recorded_at FROM rollbacks
    WHERE environment_id = $1 AND automatic AND recorded_at > $2 ORDER BY recorded_at";

const LAST_AUTOMATIC_REQUEST: &str =
    "SELECT max(recorded_at) FROM rollbacks WHERE environment_id = $1 AND automatic";

/// Selects the last automatic rollback that succeeded or failed, if it failed and no policy was declared since.
const LAST_FAILED_AUTOMATIC: &str = "SELECT rollback_id, ended FROM (
        SELECT rollback_id, ended, phase FROM rollbacks
        WHERE environment_id = $1 AND automatic AND phase IN ('succeeded', 'failed') ORDER BY ended DESC LIMIT 1
    ) last
    WHERE phase = 'failed'
        AND NOT EXISTS (SELECT FROM policies p WHERE p.environment_id = $1 AND p.position > last.ended)";

const INSERT_REQUEST: &str =
    "INSERT INTO rollbacks (rollback_id, environment_id, requested, recorded_at, automatic, by_person, phase)
    VALUES ($1, $2, $3, $4, $5, $6, 'requested') ON CONFLICT (rollback_id) DO NOTHING";

const INSERT_LANES: &str = "INSERT INTO rollback_lanes (environment_id, service, target, requested, version,
        artifact, config, infrastructure, commit, to_version, to_artifact, to_config, to_infrastructure, to_commit)
    SELECT $1, l.service, l.target, $2, l.version, l.artifact, l.config, l.infrastructure, l.commit, l.to_version,
        l.to_artifact, l.to_config, l.to_infrastructure, l.to_commit
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[], $13::text[], $14::text[])
        l (service, target, version, artifact, config, infrastructure, commit, to_version, to_artifact, to_config,
            to_infrastructure, to_commit)
    ON CONFLICT DO NOTHING";

const MARK_STARTED: &str = "UPDATE rollbacks SET phase = 'started', started = $2
    WHERE rollback_id = $1 AND phase = 'requested'";

/// Sets the release that a rollback leaves to the one that the lane runs at the start, for lanes in which a person
/// acknowledged that it differs from the plan.
const UPDATE_ACKNOWLEDGED_LANES: &str = "UPDATE rollback_lanes l
    SET (version, artifact, config, infrastructure, commit) = (
        SELECT c.version, c.artifact, c.config, c.infrastructure, c.commit FROM live_changes c
        WHERE c.environment_id = l.environment_id AND c.service = l.service AND c.target = l.target AND c.position < $2
        ORDER BY c.position DESC LIMIT 1
    )
    FROM rollbacks r
    WHERE r.rollback_id = $1 AND r.started = $2 AND l.environment_id = r.environment_id
        AND l.requested = r.requested AND (l.service, l.target) IN (SELECT * FROM unnest($3::text[], $4::text[]))";

const MARK_ENDED: &str =
    "UPDATE rollbacks SET phase = $2, ended = $3 WHERE rollback_id = $1 AND ended IS NULL";

const INSERT_REPORTS: &str = "INSERT INTO rollback_reports (rollback_id, position)
    SELECT unnest($1::text[]), unnest($2::bigint[])";

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
        let query = sqlx::query_as(BY_ID).bind(rollback_id.as_str());
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
        let query = sqlx::query_as(LIST)
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
        let query = sqlx::query_as(ACTIVE).bind(id);
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
        let query = sqlx::query_as(REPORTS).bind(rollback_id.as_str());
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
        let query = sqlx::query_as(CHANGES_BY_OTHERS)
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
        let requests = sqlx::query_scalar(AUTOMATIC_REQUESTS_SINCE).bind(id).bind(now - TimeDelta::days(1));
        let requested_at = requests.fetch_all(self.connection()).await?;
        let last = sqlx::query_scalar(LAST_AUTOMATIC_REQUEST).bind(id);
        let last_requested_at = last.fetch_one(self.connection()).await?;
        let failed: Option<(String, i64)> =
            sqlx::query_as(LAST_FAILED_AUTOMATIC).bind(id).fetch_optional(self.connection()).await?;
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

/// Rows to insert into `rollback_reports`, column by column.
#[derive(Default)]
pub(crate) struct RollbackReportRows {
    rollback_id: Vec<String>,
    position: Vec<i64>,
}

impl RollbackReportRows {
    pub(crate) fn push(&mut self, payload: &Payload, at: Position) {
        if payload.kind().family() != Family::Rollback
            && let Some(rollback_id) = payload.rollback_id()
        {
            self.rollback_id.push(rollback_id.to_string());
            self.position.push(bigint(at));
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if !self.position.is_empty() {
            sqlx::query(INSERT_REPORTS)
                .bind(self.rollback_id)
                .bind(self.position)
                .execute(connection)
                .await?;
        }
        Ok(())
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
            let query = sqlx::query(MARK_STARTED).bind(it.rollback.rollback_id.as_str()).bind(bigint(at));
            query.execute(&mut *connection).await?;
            if !it.acknowledge.is_empty() {
                sqlx::query(UPDATE_ACKNOWLEDGED_LANES)
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
    sqlx::query(MARK_ENDED).bind(rollback_id).bind(phase.name()).bind(bigint(at)).execute(connection).await?;
    Ok(())
}

async fn write_request(
    connection: &mut PgConnection,
    request: &RollbackRequest,
    environment_id: i32,
    at: Position,
    recorded_at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(INSERT_REQUEST)
        .bind(request.rollback.rollback_id.as_str())
        .bind(environment_id)
        .bind(bigint(at))
        .bind(recorded_at)
        .bind(request.automatic)
        .bind(!request.automatic && request.initiated_by.is_person())
        .execute(&mut *connection)
        .await?;
    let steps = &request.plan.steps;
    let mut query = sqlx::query(INSERT_LANES)
        .bind(environment_id)
        .bind(bigint(at))
        .bind(steps.iter().map(|step| step.service.to_string()).collect::<Vec<_>>())
        .bind(steps.iter().map(|step| step.target.to_string()).collect::<Vec<_>>());
    let from: fn(&Step) -> Option<&Release> = |step| step.from.as_ref();
    let to: fn(&Step) -> Option<&Release> = |step| step.to.as_ref();
    for side in [from, to] {
        let version = |step| side(step).map(|release| release.version.to_string());
        query = query.bind(steps.iter().map(version).collect::<Vec<_>>());
        for part in 0..4 {
            query = query.bind(
                steps.iter().map(|step| optional_columns(side(step))[part].clone()).collect::<Vec<_>>(),
            );
        }
    }
    query.execute(connection).await?;
    Ok(())
}
