//! Rollbacks: where each is, and what was reported of it.

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Event, Payload, RollbackRequest, Step};
use ledger_domain::rollback::{AutomaticPast, Phase};
use ledger_domain::{EnvironmentName, Family, LongText, Position, Release, ShortText, TargetName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::postgres::{Error, bigint, parsed, position};
use crate::tables::lanes::told;

pub(crate) const STATEMENTS: &[&str] = &[
    ONE,
    LIST,
    ACTIVE,
    REPORTS,
    OTHERS,
    LATELY,
    LAST_AUTOMATIC,
    FAILED,
    REQUEST,
    REQUEST_LANES,
    START,
    START_LANES,
    END,
    REPORT,
];

macro_rules! rollback {
    () => {
        "SELECT r.phase, r.recorded_at, r.requested, r.started, r.ended, e.bytes, f.bytes AS end_bytes
        FROM rollbacks r JOIN events e ON e.position = r.requested
        LEFT JOIN events f ON f.position = r.ended"
    };
}

const ONE: &str = concat!(rollback!(), " WHERE r.rollback_id = $1");

const LIST: &str = concat!(
    rollback!(),
    " JOIN environments n USING (environment_id)
    WHERE r.requested < $1 AND ($2::text IS NULL OR n.name = $2) AND ($3::text[] IS NULL OR r.phase = ANY($3))
    ORDER BY r.requested DESC LIMIT $4"
);

const ACTIVE: &str = "SELECT rollback_id, requested FROM rollbacks
    WHERE environment_id = $1 AND ended IS NULL ORDER BY requested DESC LIMIT 1";

/// Reports that carry the rollback's id, of its own environment and since it was requested: others may have
/// taken the id by mistake. One that was corrected reports nothing.
const REPORTS: &str = "SELECT e.position, e.target, e.bytes
    FROM rollbacks b JOIN environments n USING (environment_id)
    JOIN rollback_reports r USING (rollback_id) JOIN events e ON e.position = r.position
    WHERE b.rollback_id = $1 AND e.environment = n.name AND e.position > b.requested
        AND NOT EXISTS (SELECT FROM corrections k WHERE k.position = e.position)
    ORDER BY e.position";

/// Events that changed the environment's composition after one change, up to a position, and that are no reports of the rollback.
const OTHERS: &str = "SELECT e.position, e.target, e.bytes FROM (
        SELECT DISTINCT c.number, c.position FROM environments n JOIN live_changes c USING (environment_id)
        WHERE n.name = $1 AND c.number > $2
            AND ($3::bigint IS NULL OR c.position < $3)
            AND NOT EXISTS (SELECT FROM rollback_reports r WHERE r.rollback_id = $4 AND r.position = c.position)
        ORDER BY c.number LIMIT 100
    ) c JOIN events e USING (position)
    ORDER BY c.number";

const LATELY: &str = "SELECT recorded_at FROM rollbacks
    WHERE environment_id = $1 AND automatic AND recorded_at > $2 ORDER BY recorded_at";

const LAST_AUTOMATIC: &str = "SELECT max(recorded_at) FROM rollbacks WHERE environment_id = $1 AND automatic";

/// The last automatic rollback that ended, if it failed and no policy was declared since.
const FAILED: &str = "SELECT rollback_id, ended FROM (
        SELECT rollback_id, ended, phase FROM rollbacks
        WHERE environment_id = $1 AND automatic AND phase IN ('succeeded', 'failed') ORDER BY ended DESC LIMIT 1
    ) last
    WHERE phase = 'failed'
        AND NOT EXISTS (SELECT FROM policies p WHERE p.environment_id = $1 AND p.position > last.ended)";

const REQUEST: &str =
    "INSERT INTO rollbacks (rollback_id, environment_id, requested, recorded_at, automatic, by_person, phase)
    VALUES ($1, $2, $3, $4, $5, $6, 'requested') ON CONFLICT (rollback_id) DO NOTHING";

const REQUEST_LANES: &str = "INSERT INTO rollback_lanes (environment_id, service, target, requested, version,
        artifact, config, infrastructure, commit, to_version, to_artifact, to_config, to_infrastructure, to_commit)
    SELECT $1, l.service, l.target, $2, l.version, l.artifact, l.config, l.infrastructure, l.commit, l.to_version,
        l.to_artifact, l.to_config, l.to_infrastructure, l.to_commit
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[], $13::text[], $14::text[])
        l (service, target, version, artifact, config, infrastructure, commit, to_version, to_artifact, to_config,
            to_infrastructure, to_commit)
    ON CONFLICT DO NOTHING";

const START: &str = "UPDATE rollbacks SET phase = 'started', started = $2
    WHERE rollback_id = $1 AND phase = 'requested'";

/// What the lanes of the plan run as the rollback is started: a person may have acknowledged that it is not what the plan starts from.
const START_LANES: &str = "UPDATE rollback_lanes l
    SET (version, artifact, config, infrastructure, commit) = (
        SELECT c.version, c.artifact, c.config, c.infrastructure, c.commit FROM live_changes c
        WHERE c.environment_id = l.environment_id AND c.service = l.service AND c.target = l.target AND c.position < $2
        ORDER BY c.position DESC LIMIT 1
    )
    FROM rollbacks r
    WHERE r.rollback_id = $1 AND r.started = $2 AND l.environment_id = r.environment_id
        AND l.requested = r.requested AND (l.service, l.target) IN (SELECT * FROM unnest($3::text[], $4::text[]))";

const END: &str = "UPDATE rollbacks SET phase = $2, ended = $3 WHERE rollback_id = $1 AND ended IS NULL";

const REPORT: &str = "INSERT INTO rollback_reports (rollback_id, position)
    SELECT unnest($1::text[]), unnest($2::bigint[])";

/// A rollback, as far as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct RollbackRow {
    /// What was asked for.
    pub request: RollbackRequest,
    /// Why.
    pub reason: Option<LongText>,
    /// Where it is.
    pub phase: Phase,
    /// The position of the request.
    pub requested: Position,
    /// When the request was recorded.
    pub requested_at: DateTime<Utc>,
    /// The position at which its execution began.
    pub started: Option<Position>,
    /// The position at which it ended.
    pub ended: Option<Position>,
    /// What was said at its end.
    pub end_reason: Option<LongText>,
}

/// A report of an environment's lane, where it is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The target that it is about, also where it named none; `None` where it named none of several.
    pub target: Option<TargetName>,
    /// Where.
    pub position: Position,
    /// When it occurred.
    pub occurred_at: DateTime<Utc>,
    /// What.
    pub event: Event,
}

/// Which rollbacks a question is about; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RollbackFilter {
    /// Of this environment.
    pub environment: Option<EnvironmentName>,
    /// In one of these phases.
    pub phases: Option<Vec<Phase>>,
    /// Requested before this position.
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
                return Err(format!("{} requests no rollback", event.payload.kind()));
            };
            let end = self.end_bytes.clone().map(|bytes| Envelope::stored(bytes.into()));
            let end = end.transpose().map_err(|invalid| invalid.to_string())?;
            Ok(RollbackRow {
                request: request.clone(),
                reason: event.reason.clone(),
                phase: Phase::named(&self.phase).ok_or_else(|| format!("{} is no phase", self.phase))?,
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
    /// A rollback.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn rollback(&mut self, rollback_id: &ShortText) -> Result<Option<RollbackRow>, Error> {
        let query = sqlx::query_as(ONE).bind(rollback_id.as_str());
        let row: Option<Row> = query.fetch_optional(self.connection()).await?;
        row.as_ref().map(Row::parse).transpose()
    }

    /// Rollbacks, the last requested first, at most `limit`.
    ///
    /// # Errors
    /// The database does not answer.
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

    /// The rollback of an environment that is under way, and the position of its request.
    ///
    /// # Errors
    /// The database does not answer.
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

    /// What was reported with a rollback's id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn rollback_reports(&mut self, rollback_id: &ShortText) -> Result<Vec<Report>, Error> {
        let query = sqlx::query_as(REPORTS).bind(rollback_id.as_str());
        let rows: Vec<ReportRow> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(report).collect()
    }

    /// Changes of an environment's composition by others while a rollback was under way; at most 100.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn changes_of_others(&mut self, rollback: &RollbackRow) -> Result<Vec<Report>, Error> {
        let environment = &rollback.request.rollback.environment;
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let before = self.last_change(id, rollback.requested).await?;
        let query = sqlx::query_as(OTHERS)
            .bind(environment.as_str())
            .bind(before)
            .bind(rollback.ended.map(bigint))
            .bind(rollback.request.rollback.rollback_id.as_str());
        let rows: Vec<ReportRow> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(report).collect()
    }

    /// What the rollback controller has done in an environment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn automatic_past(
        &mut self,
        environment: &EnvironmentName,
        now: DateTime<Utc>,
    ) -> Result<AutomaticPast, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(AutomaticPast::default()) };
        let lately = sqlx::query_scalar(LATELY).bind(id).bind(now - TimeDelta::days(1));
        let requested_at = lately.fetch_all(self.connection()).await?;
        let last = sqlx::query_scalar(LAST_AUTOMATIC).bind(id);
        let last_requested_at = last.fetch_one(self.connection()).await?;
        let failed: Option<(String, i64)> =
            sqlx::query_as(FAILED).bind(id).fetch_optional(self.connection()).await?;
        let failed = failed
            .map(|(rollback_id, at)| {
                Ok::<_, Error>((parsed("rollbacks", at, || ShortText::stored(&rollback_id))?, position(at)))
            })
            .transpose()?;
        Ok(AutomaticPast { requested_at, last_requested_at, failed })
    }
}

/// Position, target and bytes of an event.
type ReportRow = (i64, Option<String>, Vec<u8>);

fn report((at, target, bytes): ReportRow) -> Result<Report, Error> {
    let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
    let target = parsed("events", at, || target.as_deref().map(TargetName::parse).transpose())?;
    let event = envelope.event().clone();
    Ok(Report { target, position: position(at), occurred_at: envelope.occurred_at(), event })
}

/// Reports that carry a rollback's id, on their way into the table, column by column.
#[derive(Default)]
pub(crate) struct ReportRows {
    rollback_id: Vec<String>,
    position: Vec<i64>,
}

impl ReportRows {
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
            sqlx::query(REPORT).bind(self.rollback_id).bind(self.position).execute(connection).await?;
        }
        Ok(())
    }
}

/// Writes what a fact says of a rollback's life, if it does.
pub(crate) async fn write(
    connection: &mut PgConnection,
    payload: &Payload,
    environment_id: i32,
    at: Position,
    recorded_at: DateTime<Utc>,
) -> Result<(), Error> {
    let ended = |phase: Phase, id: &ShortText| (phase, id.as_str().to_owned());
    let (phase, rollback_id) = match payload {
        Payload::RollbackRequested(request) => {
            return write_request(connection, request, environment_id, at, recorded_at).await;
        }
        Payload::RollbackStarted(it) => {
            let query = sqlx::query(START).bind(it.rollback.rollback_id.as_str()).bind(bigint(at));
            query.execute(&mut *connection).await?;
            if !it.acknowledge.is_empty() {
                sqlx::query(START_LANES)
                    .bind(it.rollback.rollback_id.as_str())
                    .bind(bigint(at))
                    .bind(it.acknowledge.iter().map(|(service, _)| service.to_string()).collect::<Vec<_>>())
                    .bind(it.acknowledge.iter().map(|(_, target)| target.to_string()).collect::<Vec<_>>())
                    .execute(connection)
                    .await?;
            }
            return Ok(());
        }
        Payload::RollbackSucceeded(it) => ended(Phase::Succeeded, &it.rollback_id),
        Payload::RollbackFailed(it) => ended(Phase::Failed, &it.rollback_id),
        Payload::RollbackCancelled(it) => ended(Phase::Cancelled, &it.rollback_id),
        _ => return Ok(()),
    };
    sqlx::query(END).bind(rollback_id).bind(phase.name()).bind(bigint(at)).execute(connection).await?;
    Ok(())
}

async fn write_request(
    connection: &mut PgConnection,
    request: &RollbackRequest,
    environment_id: i32,
    at: Position,
    recorded_at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query(REQUEST)
        .bind(request.rollback.rollback_id.as_str())
        .bind(environment_id)
        .bind(bigint(at))
        .bind(recorded_at)
        .bind(request.automatic)
        .bind(!request.automatic && request.initiated_by.is_person())
        .execute(&mut *connection)
        .await?;
    let steps = &request.plan.steps;
    let mut query = sqlx::query(REQUEST_LANES)
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
            query = query.bind(steps.iter().map(|step| told(side(step))[part].clone()).collect::<Vec<_>>());
        }
    }
    query.execute(connection).await?;
    Ok(())
}
