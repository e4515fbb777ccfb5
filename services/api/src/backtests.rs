//! Backtests: evaluation of a candidate policy against the recorded history.

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

use crate::body::{ValidJson, parsed_member};
use crate::gate::FindingBody;
use crate::parameters::{StrictQuery, WaitQuery, wait_for_position, with_position};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Time limit of a backtest: it holds a database connection and a snapshot while it runs.
const QUERY_TIMEOUT: Duration = Duration::from_secs(50);

/// Default and maximum number of deploys in each list of the response.
const DEFAULT_LIST_LIMIT: usize = 100;
const MAX_LIST_LIMIT: usize = 1_000;

/// Candidate policy, and the part of the history to test it against.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BacktestRequest {
    /// Environment of the deploys to evaluate.
    environment: String,
    /// Policy, as in `environment.declared`.
    #[schema(value_type = Object)]
    policy: Box<RawValue>,
    /// Evaluate only deploys after this position; earlier entries serve as evidence.
    #[serde(default)]
    after: u64,
    /// Read the history only up to this position, also to find later failures; by default all of it.
    until: Option<u64>,
    /// Maximum length of each list of deploys, earliest first: 0 to 1000, by default 100.
    limit: Option<usize>,
}

impl BacktestRequest {
    fn candidate(&self) -> Result<Candidate, Problem> {
        let listed = self.limit.unwrap_or(DEFAULT_LIST_LIMIT);
        if listed > MAX_LIST_LIMIT {
            return Err(Problem::member("/limit", format!("must be at most {MAX_LIST_LIMIT}")));
        }
        Ok(Candidate {
            environment: parsed_member("/environment", EnvironmentName::parse(&self.environment))?,
            policy: parse_request_policy(&self.policy)?,
            after: Position::new(self.after),
            listed,
        })
    }
}

fn parse_request_policy(json: &RawValue) -> Result<Policy, Problem> {
    parse_policy(json.get().as_bytes()).map_err(|reason| match reason {
        Reason::Value { pointer, detail } => Problem::member(&format!("/policy{pointer}"), detail),
        other => Problem::from(&other),
    })
}

/// Result of a backtest.
#[derive(Serialize, ToSchema)]
pub(crate) struct BacktestBody {
    /// Environment name.
    environment: String,
    /// Position up to which the backtest read the history.
    position: u64,
    /// Number of evaluated deploys: those that succeeded and were not steps of a rollback.
    deploys: u64,
    /// Number of deploys that the policy would have allowed.
    allowed: u64,
    /// Number of deploys that the policy would have stopped.
    stopped: u64,
    /// Number of deploys that the policy would have stopped and that failed later.
    caught: u64,
    /// Number of deploys that the policy would have stopped and that did not fail.
    false_alarms: u64,
    /// Number of deploys that the policy would have allowed and that failed later.
    missed: u64,
    /// First deploys that the policy would have stopped. For more, pass the last position as `after`.
    stopped_deploys: Vec<EvaluatedDeployBody>,
    /// First deploys that the policy would have allowed and that failed later.
    missed_deploys: Vec<EvaluatedDeployBody>,
}

/// Deploy as evaluated by the candidate policy.
#[derive(Serialize, ToSchema)]
pub(crate) struct EvaluatedDeployBody {
    /// Position of the deploy.
    position: u64,
    /// Time at which it occurred.
    occurred_at: DateTime<Utc>,
    /// Service name.
    service: String,
    /// Target name.
    target: String,
    /// Version.
    version: String,
    /// Findings of the rules that stopped it, with the evidence known at that time.
    findings: Vec<FindingBody>,
    /// Evidence of a later failure, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<FailureEvidenceBody>,
}

/// Evidence that a deploy failed later.
#[derive(Serialize, ToSchema)]
pub(crate) struct FailureEvidenceBody {
    /// Check with a last result of failed for the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    /// Id of the rollback that replaces the release in its lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback_id: Option<String>,
    /// Position of the evidence.
    position: u64,
}

impl From<&Failure> for FailureEvidenceBody {
    fn from(failure: &Failure) -> Self {
        let (check, rollback_id) = match &failure.cause {
            Cause::Check(check) => (Some(check.to_string()), None),
            Cause::Rollback(rollback_id) => (None, Some(rollback_id.to_string())),
        };
        Self { check, rollback_id, position: failure.position.get() }
    }
}

impl From<&Judged> for EvaluatedDeployBody {
    fn from(judged: &Judged) -> Self {
        Self {
            position: judged.position.get(),
            occurred_at: judged.occurred_at,
            service: judged.service.to_string(),
            target: judged.target.to_string(),
            version: judged.version.to_string(),
            findings: judged.findings.iter().map(FindingBody::from).collect(),
            failed: judged.failure.as_ref().map(FailureEvidenceBody::from),
        }
    }
}

impl BacktestBody {
    fn of(environment: &EnvironmentName, position: Position, report: &Report) -> Self {
        let bodies = |judged: &[Judged]| judged.iter().map(EvaluatedDeployBody::from).collect();
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

/// Backtest a policy
///
/// Evaluates a candidate policy against the recorded history. Returns the deploys that it would have stopped, by the
/// evidence known at each, and the deploys that it would have allowed and that failed later. A deploy failed later if,
/// while its release was in the lane, the last result of a check that the policy names (of any check, if it names none)
/// was a failure, or a rollback was requested that replaces the release. Records nothing.
#[utoipa::path(
    post,
    path = "/backtests",
    operation_id = "backtestPolicy",
    tag = "rollback",
    params(WaitQuery),
    request_body = BacktestRequest,
    responses(
        (status = 200, description = "Backtest result", body = BacktestBody),
        (status = "4XX", description = "Invalid request, or history too long",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backtest_policy(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<WaitQuery>,
    ValidJson(request): ValidJson<BacktestRequest>,
) -> Result<Response, Problem> {
    let candidate = request.candidate()?;
    let environment = candidate.environment.clone();
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let _permit = ledger.history_scan_permit()?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let until = request.until.map_or(snapshot.position(), Position::new);
    let result = timeout(QUERY_TIMEOUT, backtest(&mut snapshot, candidate, until)).await;
    let report = result.map_err(|_| timed_out())?.map_err(|error| match error {
        BacktestError::Query(error) => Problem::from(error),
        BacktestError::Rejected(rejection) => Problem::from(rejection.as_ref()),
    })?;
    Ok(with_position(until, Json(BacktestBody::of(&environment, until, &report))))
}

fn timed_out() -> Problem {
    let seconds = QUERY_TIMEOUT.as_secs();
    let detail =
        format!("reading the history timed out after {seconds} s; request a shorter part of it with until");
    Problem::new(Kind::HistoryTooLong, detail)
}
