//! Back-tests: a candidate policy over the real history.

use std::time::Duration;

use axum::Json;
use axum::response::Response;
use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::{Reason, parse_policy};
use ledger_domain::backtest::{Candidate, Cause, Failure, Judged, Report};
use ledger_domain::event::Policy;
use ledger_domain::{EnvironmentName, Position};
use ledger_ingest::{BacktestError, backtest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::body::{ValidJson, invalid};
use crate::gate::FindingBody;
use crate::parameters::{StrictQuery, WaitQuery, at, wait};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// A back-test keeps a connection to the projections and its snapshot: no longer than this.
const PATIENCE: Duration = Duration::from_secs(50);

/// Deploys that each list has, unless it is said, and at most.
const LISTED: (usize, usize) = (100, 1_000);

/// A candidate policy, and the history that it is tested over.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BacktestRequest {
    /// The environment whose deploys are judged.
    environment: String,
    /// The policy, as in `environment.declared`.
    #[schema(value_type = Object)]
    policy: Box<RawValue>,
    /// Only deploys after this position are judged; those before tell what was known.
    #[serde(default)]
    after: u64,
    /// Only the history up to this position is looked at, also for what failed later; all of it unless given.
    until: Option<u64>,
    /// So many deploys of each list are told one by one, the first ones: 0 to 1000, 100 unless given.
    limit: Option<usize>,
}

impl BacktestRequest {
    fn candidate(&self) -> Result<Candidate, Problem> {
        let listed = self.limit.unwrap_or(LISTED.0);
        if listed > LISTED.1 {
            return Err(Problem::member("/limit", format!("must be at most {}", LISTED.1)));
        }
        Ok(Candidate {
            environment: invalid("/environment", EnvironmentName::parse(&self.environment))?,
            policy: policy(&self.policy)?,
            after: Position::new(self.after),
            listed,
        })
    }
}

fn policy(json: &RawValue) -> Result<Policy, Problem> {
    parse_policy(json.get().as_bytes()).map_err(|reason| match reason {
        Reason::Value { pointer, detail } => Problem::member(&format!("/policy{pointer}"), detail),
        other => Problem::from(&other),
    })
}

/// What a candidate policy would have done.
#[derive(Serialize, ToSchema)]
pub(crate) struct BacktestBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for: the history was looked at up to there.
    position: u64,
    /// Deploys that were judged: those that succeeded, and were no rollback's steps.
    deploys: u64,
    /// Deploys that it would have let through.
    allowed: u64,
    /// Deploys that it would have stopped.
    stopped: u64,
    /// Deploys that it would have stopped, and that failed later.
    caught: u64,
    /// Deploys that it would have stopped, and that did not fail.
    false_alarms: u64,
    /// Deploys that it would have let through, and that failed later.
    missed: u64,
    /// The first that it would have stopped. Those that follow: ask with the last position as `after`.
    stopped_deploys: Vec<JudgedBody>,
    /// The first that it would have let through, and that failed later.
    missed_deploys: Vec<JudgedBody>,
}

/// A deploy, as the candidate policy judged it.
#[derive(Serialize, ToSchema)]
pub(crate) struct JudgedBody {
    /// Where it is told.
    position: u64,
    /// When it occurred.
    occurred_at: DateTime<Utc>,
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// The version.
    version: String,
    /// The rules that stopped it, each with the evidence that was known then.
    findings: Vec<FindingBody>,
    /// What shows that it failed later; absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<FailedBody>,
}

/// What shows that a deploy failed later.
#[derive(Serialize, ToSchema)]
pub(crate) struct FailedBody {
    /// The check whose last word was that the release failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    /// The rollback that was to take the lane away from the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback_id: Option<String>,
    /// Where that is told.
    position: u64,
}

impl From<&Failure> for FailedBody {
    fn from(failure: &Failure) -> Self {
        let (check, rollback_id) = match &failure.cause {
            Cause::Check(check) => (Some(check.to_string()), None),
            Cause::Rollback(rollback_id) => (None, Some(rollback_id.to_string())),
        };
        Self { check, rollback_id, position: failure.position.get() }
    }
}

impl From<&Judged> for JudgedBody {
    fn from(judged: &Judged) -> Self {
        Self {
            position: judged.position.get(),
            occurred_at: judged.occurred_at,
            service: judged.service.to_string(),
            target: judged.target.to_string(),
            version: judged.version.to_string(),
            findings: judged.findings.iter().map(FindingBody::from).collect(),
            failed: judged.failure.as_ref().map(FailedBody::from),
        }
    }
}

impl BacktestBody {
    fn of(environment: &EnvironmentName, position: Position, report: &Report) -> Self {
        let bodies = |judged: &[Judged]| judged.iter().map(JudgedBody::from).collect();
        Self {
            environment: environment.to_string(),
            position: position.get(),
            deploys: report.deploys,
            allowed: report.allowed,
            stopped: report.stopped,
            caught: report.caught,
            false_alarms: report.false_alarms,
            missed: report.missed,
            stopped_deploys: bodies(&report.stopped_deploys),
            missed_deploys: bodies(&report.missed_deploys),
        }
    }
}

/// Back-test a policy
///
/// Which deploys of the real history a candidate policy would have stopped, by the evidence that was known at
/// each, and which it would have let through that failed later: while the release stood in its lane, a check
/// that the policy names (any, where it names none) had failed as its last word, or a rollback was asked for
/// that takes the lane away from it. Nothing is recorded.
#[utoipa::path(
    post,
    path = "/backtests",
    operation_id = "backtestPolicy",
    tag = "rollback",
    params(WaitQuery),
    request_body = BacktestRequest,
    responses(
        (status = 200, description = "What it would have done", body = BacktestBody),
        (status = "4XX", description = "Not understood, or too long a history", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backtest_policy(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<WaitQuery>,
    ValidJson(request): ValidJson<BacktestRequest>,
) -> Result<Response, Problem> {
    let candidate = request.candidate()?;
    let environment = candidate.environment.clone();
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let _room = ledger.long_question()?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let until = request.until.map_or(snapshot.position(), Position::new);
    let tested = timeout(PATIENCE, backtest(&mut snapshot, candidate, until)).await;
    let report = tested.map_err(|_| too_long())?.map_err(|error| match error {
        BacktestError::Ask(error) => Problem::from(error),
        BacktestError::Rejected(rejection) => Problem::from(rejection.as_ref()),
    })?;
    Ok(at(until, Json(BacktestBody::of(&environment, until, &report))))
}

fn too_long() -> Problem {
    let seconds = PATIENCE.as_secs();
    let detail = format!(
        "the history up to there cannot be gone through within {seconds} s: ask for less of it with until"
    );
    Problem::new(Kind::HistoryTooLong, detail)
}
