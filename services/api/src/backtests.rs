//! Backtests: evaluation of a candidate policy against the recorded history.

use std::time::Duration;

use axum::Json;
use axum::response::Response;
use ledger_api_types::{BacktestBody, BacktestRequest, EvaluatedDeployBody, FailureEvidenceBody};
use ledger_codec::cloudevents::{Reason, parse_policy};
use ledger_domain::backtest::{Candidate, Cause, Failure, Judged, Report};
use ledger_domain::event::Policy;
use ledger_domain::{EnvironmentName, Position};
use ledger_ingest::{BacktestError, backtest};
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::access::{Authorized, ReadEnvironment};
use crate::body::{ValidJson, parsed_member};
use crate::check_counts::{Citation, add_counts, cited_by_findings};
use crate::gate::finding_body;
use crate::parameters::{StrictQuery, WaitQuery, wait_for_position, with_position};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Time limit of a backtest: it holds a database connection and a snapshot while it runs.
const QUERY_TIMEOUT: Duration = Duration::from_secs(50);

/// Default and maximum number of deploys in each list of the response.
const DEFAULT_LIST_LIMIT: usize = 100;
const MAX_LIST_LIMIT: usize = 1_000;

fn parse_candidate(request: &BacktestRequest) -> Result<Candidate, Problem> {
    let listed = request.limit.unwrap_or(DEFAULT_LIST_LIMIT);
    if listed > MAX_LIST_LIMIT {
        return Err(Problem::member("/limit", format!("must be at most {MAX_LIST_LIMIT}")));
    }
    Ok(Candidate {
        environment: parsed_member("/environment", EnvironmentName::parse(&request.environment))?,
        policy: parse_request_policy(&request.policy)?,
        after: Position::new(request.after),
        listed,
        unknown_rollbacks: request.unknown_rollbacks,
    })
}

fn parse_request_policy(json: &RawValue) -> Result<Policy, Problem> {
    parse_policy(json.get().as_bytes()).map_err(|reason| match reason {
        Reason::Value { pointer, detail } => Problem::member(&format!("/policy{pointer}"), detail),
        other => Problem::from(&other),
    })
}

fn failure_evidence_body(failure: &Failure) -> FailureEvidenceBody {
    let (check, rollback_id) = match &failure.cause {
        Cause::Check(check) => (Some(check.to_string()), None),
        Cause::Rollback(rollback_id) => (None, Some(rollback_id.to_string())),
    };
    FailureEvidenceBody { check, rollback_id, position: failure.position.get(), counts: None }
}

fn evaluated_deploy_body(judged: &Judged) -> EvaluatedDeployBody {
    EvaluatedDeployBody {
        position: judged.position.get(),
        occurred_at: Some(judged.occurred_at),
        service: judged.service.to_string(),
        target: judged.target.to_string(),
        version: judged.version.to_string(),
        findings: judged.findings.iter().map(finding_body).collect(),
        failed: judged.failure.as_ref().map(failure_evidence_body),
    }
}

/// Returns the evidence that a deploy cites: of the findings that stopped it, and of its failure.
fn cited_by_deploy(deploy: &mut EvaluatedDeployBody) -> impl Iterator<Item = Citation<'_>> {
    let EvaluatedDeployBody { findings, failed, .. } = deploy;
    let of_failure = failed.as_mut().map(|failed| (failed.position, &mut failed.counts));
    cited_by_findings(findings).chain(of_failure)
}

fn backtest_body(environment: &EnvironmentName, position: Position, report: &Report) -> BacktestBody {
    let bodies = |judged: &[Judged]| judged.iter().map(evaluated_deploy_body).collect();
    BacktestBody {
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
    ledger: Authorized<ReadEnvironment>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    ValidJson(request): ValidJson<BacktestRequest>,
) -> Result<Response, Problem> {
    let candidate = parse_candidate(&request)?;
    ledger.in_time(evaluate(&ledger, candidate, request.until, &query)).await
}

async fn evaluate(
    ledger: &TenantLedger,
    candidate: Candidate,
    until: Option<u64>,
    query: &WaitQuery,
) -> Result<Response, Problem> {
    let environment = candidate.environment.clone();
    wait_for_position(ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let _permit = ledger.history_scan_permit()?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let until = until.map_or(snapshot.position(), Position::new);
    let result = timeout(QUERY_TIMEOUT, backtest(&mut snapshot, candidate, until)).await;
    let report = result.map_err(|_| timed_out())?.map_err(|error| match error {
        BacktestError::Query(error) => Problem::from(error),
        BacktestError::Rejected(rejection) => Problem::from(rejection.as_ref()),
    })?;
    ledger.tenancy().stats().add_reads(usize::try_from(report.deploys).unwrap_or(usize::MAX));
    let mut body = backtest_body(&environment, until, &report);
    let deploys = body.stopped_deploys.iter_mut().chain(&mut body.missed_deploys);
    add_counts(&mut snapshot, deploys.flat_map(cited_by_deploy).collect()).await?;
    Ok(with_position(until, Json(body)))
}

fn timed_out() -> Problem {
    let seconds = QUERY_TIMEOUT.as_secs();
    let detail =
        format!("reading the history timed out after {seconds} s; request a shorter part of it with until");
    Problem::new(Kind::HistoryTooLong, detail)
}
