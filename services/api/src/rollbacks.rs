//! Rollbacks: plan, request, list and progress.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_api_types::{
    ApprovalsBody, ConcurrentChangeBody, EntryRefBody, PlanBody, ProgressBody, RequestedRollbackBody,
    RollbackBody, RollbackRequest, RollbacksBody, StepStateBody, VoteBody,
};
use ledger_domain::access::Verb;
use ledger_domain::event::{Payload, Step};
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{
    ConfigDigest, EnvironmentName, LaneFilter, LaneFold, Lanes, LongText, PointRef, Position, ServiceName,
    ShortText, TargetName,
};
use ledger_ingest::{
    PlanRequest, RecordOutcome, Request, RequestRollback, RollbackContext, not_reached, plan,
};
use ledger_projections::{AsOf, QueryError, Report, RollbackFilter, RollbackRow, Snapshot};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::access::{Authorized, ReadEnvironment, ReadSome, StartRollback, Tenancy};
use crate::bodies::plan_body;
use crate::body::{ValidJson, parsed_member};
use crate::check_counts::{add_counts, add_plan_counts, cited_by_points};
use crate::environments::EnvironmentPath;
use crate::parameters::{
    StrictQuery, WaitQuery, parse, parse_optional, parse_position, wait_for_position, with_position,
};
use crate::plans::{parse_actor, parse_limit};
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;
use crate::tenant::TenantLedger;

/// Time limit of the wait for the projections after a request is recorded.
const PROJECTION_WAIT: Duration = Duration::from_secs(2);

fn plan_request(
    request: &RollbackRequest,
    environment: EnvironmentName,
    now: DateTime<Utc>,
) -> Result<PlanRequest, Problem> {
    let services = request.services.iter().enumerate();
    let services =
        services.map(|(n, name)| parsed_member(&format!("/services/{n}"), ServiceName::parse(name)));
    let targets = request.targets.iter().enumerate();
    let targets = targets.map(|(n, name)| parsed_member(&format!("/targets/{n}"), TargetName::parse(name)));
    Ok(PlanRequest {
        environment,
        to: parsed_member("/to", PointRef::parse(&request.to, now))?,
        scope: LaneFilter {
            services: services.collect::<Result<_, _>>()?,
            targets: targets.collect::<Result<_, _>>()?,
        },
    })
}

/// Rejects a point whose time depends on when the request arrives: sent again after a lost response, the request would
/// ask for another point.
fn check_repeatable(to: &str, now: DateTime<Utc>) -> Result<(), Problem> {
    // More than the longest day.
    let later = now + TimeDelta::days(2);
    match PointRef::parse(to, now) == PointRef::parse(to, later) {
        true => Ok(()),
        false => {
            let detail = "depends on the time of the request: state the time in full, such as 2026-03-01T12:00Z, or \
                          the position that a dry run answers";
            Err(Problem::member("/to", detail))
        }
    }
}

/// Query parameters of a rollback request.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DryRunQuery {
    /// If `true`, return the plan and record nothing.
    dry_run: Option<bool>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Plan or request a rollback
///
/// With `dry_run=true`, returns the plan from the current composition to the point, with its issues; the `ETag` is the
/// environment's position. Otherwise requests the rollback. Responds 412 with the new plan if `If-Match` names another
/// position, and 409 if an issue blocks the plan or another rollback is under way. Of two concurrent requests, one is
/// recorded.
#[utoipa::path(
    post,
    path = "/environments/{environment}/rollbacks",
    operation_id = "requestRollback",
    tag = "rollback",
    params(
        EnvironmentPath,
        DryRunQuery,
        ("If-Match" = Option<String>, Header,
            description = "Position of the environment that the client has seen, in quotes"),
    ),
    request_body = RollbackRequest,
    responses(
        (status = 200, description = "Plan of a dry run", body = PlanBody),
        (status = 201, description = "Rollback requested", body = RequestedRollbackBody),
        (status = "4XX", description = "Rejected", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn request_rollback(
    ledger: Authorized<StartRollback>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<DryRunQuery>,
    headers: HeaderMap,
    ValidJson(request): ValidJson<RollbackRequest>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let plan_request = plan_request(&request, environment.clone(), ledger.now())?;
    let is_dry_run = query.dry_run.unwrap_or(false);
    check_allowed(ledger.tenancy(), &plan_request, if is_dry_run { Verb::Read } else { Verb::Rollback })?;
    if is_dry_run {
        return ledger.in_time(dry_run(&ledger, &plan_request, &query)).await;
    }
    check_repeatable(&request.to, ledger.now())?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let rollback = rollback_request(ledger.tenancy(), &request, plan_request, &headers)?;
    let rollback_id = rollback.rollback_id.clone();
    let (position, status) = match ledger.ingest.request(Request::Rollback(Box::new(rollback))).await {
        RecordOutcome::Recorded(position) => {
            ledger.tenancy().stats().add_recorded(1);
            (position, "recorded")
        }
        RecordOutcome::Duplicate(position) => (position, "duplicate"),
        RecordOutcome::Conflict(position) => {
            let detail = format!("rollback id {rollback_id} is already used at position {position}");
            return Err(Problem::new(Kind::RollbackExists, detail));
        }
        RecordOutcome::Refused(error) => {
            let mut problem = Problem::from(&error);
            add_plan_counts(&ledger, &mut problem).await;
            return Err(problem);
        }
    };
    // The client is likely to read the rollback next. If the projections are slow, the request is still recorded.
    let _ = ledger.projections.wait_for(position, PROJECTION_WAIT).await;
    let phase = if status == "duplicate" {
        let row = ledger.projections.snapshot().await?.rollback(&rollback_id).await?;
        row.map(|row| row.phase.name().to_owned())
    } else {
        None
    };
    let body = RequestedRollbackBody {
        phase,
        rollback_id: rollback_id.to_string(),
        environment: environment.to_string(),
        position: position.get(),
        status: status.to_owned(),
    };
    Ok(with_position(position, (StatusCode::CREATED, Json(body))))
}

/// Checks that the sender may do `verb` with all lanes of a request, and read the environment that it takes the point
/// from.
fn check_allowed(tenancy: &Tenancy, request: &PlanRequest, verb: Verb) -> Result<(), Problem> {
    if request.scope.services.is_empty() {
        tenancy.check(verb, &request.environment, None)?;
    }
    for service in &request.scope.services {
        tenancy.check(verb, &request.environment, Some(service))?;
    }
    match request.source() {
        Some(source) => tenancy.check(Verb::Read, source, None),
        None => Ok(()),
    }
}

/// Plans a rollback, and records nothing.
async fn dry_run(
    ledger: &TenantLedger,
    request: &PlanRequest,
    query: &DryRunQuery,
) -> Result<Response, Problem> {
    wait_for_position(ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let planned = plan(&mut snapshot, request, ledger.now()).await?;
    let tag = format!("\"{}\"", planned.environment_position);
    let tag = HeaderValue::from_str(&tag).map_err(|error| Problem::new(Kind::Internal, error))?;
    let mut body = plan_body(&planned);
    add_counts(&mut snapshot, cited_by_points(body.to.point.as_mut_slice()).collect()).await?;
    Ok(with_position(planned.position, ([(header::ETAG, tag)], Json(body))))
}

fn rollback_request(
    tenancy: &Tenancy,
    request: &RollbackRequest,
    plan_request: PlanRequest,
    headers: &HeaderMap,
) -> Result<RequestRollback, Problem> {
    let required = |pointer| move || Problem::member(pointer, "is required, unless it is a dry run");
    let reason = request.reason.as_deref().ok_or_else(required("/reason"))?;
    let claimed =
        request.initiated_by.as_ref().map(|actor| parse_actor("initiated_by", actor)).transpose()?;
    let (initiated_by, sender) = tenancy.requester(claimed);
    let plan_digest = request.plan_digest.as_deref();
    let rollback_id = match &request.rollback_id {
        Some(text) => parsed_member("/rollback_id", ShortText::parse_identifier(text))?,
        None => new_id()?,
    };
    Ok(RequestRollback {
        plan_request,
        rollback_id,
        reason: parsed_member("/reason", LongText::parse(reason))?,
        initiated_by: initiated_by.ok_or_else(required("/initiated_by"))?,
        sender,
        force: request.force,
        expected_position: if_match(headers)?,
        plan_digest: plan_digest
            .map(|text| parsed_member("/plan_digest", ConfigDigest::parse(text)))
            .transpose()?,
    })
}

#[expect(clippy::disallowed_methods, reason = "generates the id of a rollback for a client that gives none")]
fn new_id() -> Result<ShortText, Problem> {
    let id = Uuid::now_v7().to_string();
    ShortText::parse(&id).map_err(|error| Problem::new(Kind::Internal, error))
}

/// Parses `If-Match`: the environment's position that the client has seen (`"4711"`), or `*` for any.
fn if_match(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::parameter("If-Match", "must not be repeated"));
    }
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number = number.ok_or_else(|| Problem::parameter("If-Match", "must be a position in quotes"))?;
    parse("If-Match", number, parse_position).map(Some)
}

fn concurrent_change_body(report: &Report) -> ConcurrentChangeBody {
    let payload = &report.event.payload;
    ConcurrentChangeBody {
        position: report.position.get(),
        occurred_at: Some(report.occurred_at),
        kind: payload.kind().name().to_owned(),
        service: payload.lane().map(|lane| lane.service.to_string()),
        target: report.target.as_ref().map(ToString::to_string),
    }
}

/// Derives the state of a step from the reports of its lane that carry the rollback's id.
fn step_state(step: &Step, reports: &[Report]) -> StepStateBody {
    let mut state = "pending";
    let mut at = None;
    for report in reports {
        let payload = &report.event.payload;
        let concerns_step = payload.lane().is_some_and(|lane| lane.service == step.service)
            && report.target.as_ref() == Some(&step.target);
        if !concerns_step {
            continue;
        }
        at = Some(report.position.get());
        state = match payload {
            Payload::DeployFailed(_) => "failed",
            // The deploy carries the rollback's id but is another release.
            Payload::DeploySucceeded(deploy)
                if step.to.as_ref().is_none_or(|to| !to.matches(&deploy.release)) =>
            {
                "failed"
            }
            Payload::DeploySucceeded(_) if step.slot.is_some() => "running",
            Payload::DeploySucceeded(_) | Payload::DeployRemoved(_) | Payload::TrafficSwitched(_) => "done",
            _ => "running",
        };
    }
    StepStateBody { step: step.into(), state: state.to_owned(), position: at, not_before: None }
}

/// Sets `not_before` of each step to the time of its lane's last change. A new environment has no lanes yet.
async fn set_not_before(
    snapshot: &mut Snapshot,
    row: &RollbackRow,
    steps: &mut [StepStateBody],
) -> Result<(), Problem> {
    let lanes = match snapshot.state(&row.request.rollback.environment, AsOf::LATEST).await {
        Ok(state) => state.into_lanes(),
        Err(QueryError::UnknownEnvironment(_)) => Lanes::new(),
        Err(error) => return Err(error.into()),
    };
    for (body, step) in steps.iter_mut().zip(&row.request.plan.steps) {
        let fold = lanes.get(&(step.service.clone(), step.target.clone()));
        body.not_before = fold.and_then(LaneFold::last_occurred_at);
    }
    Ok(())
}

async fn rollback_body(
    snapshot: &mut Snapshot,
    row: RollbackRow,
    full: bool,
    now: DateTime<Utc>,
) -> Result<RollbackBody, Problem> {
    let reports = snapshot.rollback_reports(&row.request.rollback.rollback_id).await?;
    let mut steps: Vec<_> = row.request.plan.steps.iter().map(|step| step_state(step, &reports)).collect();
    let count = |state: &str| steps.iter().filter(|step| step.state == state).count();
    let progress = ProgressBody { done: count("done"), failed: count("failed"), total: steps.len() };
    if full && row.phase.is_active() {
        set_not_before(snapshot, &row, &mut steps).await?;
    }
    let (differences, others) = if full {
        let others = snapshot.changes_of_others(&row).await?;
        (Some(not_reached(snapshot, &row).await?), Some(others.iter().map(concurrent_change_body).collect()))
    } else {
        (None, None)
    };
    let context = RollbackContext::with(snapshot, row, now).await?;
    let approvals = approvals_body(&context);
    let request = &context.row.request;
    let mut body = RollbackBody {
        rollback_id: request.rollback.rollback_id.to_string(),
        environment: request.rollback.environment.to_string(),
        position: snapshot.position().get(),
        phase: context.row.phase,
        automatic: request.automatic,
        force: request.force,
        initiated_by: (&request.initiated_by).into(),
        reason: context.row.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        requested: EntryRefBody {
            position: context.row.requested.get(),
            recorded_at: context.row.requested_at,
        },
        started: context.row.started.map(Position::get),
        ended: context.row.ended.map(Position::get),
        end_reason: context.row.end_reason.as_ref().map(|reason| reason.as_str().to_owned()),
        to: request.to.get(),
        at: request.at,
        source: request.source.as_ref().map(ToString::to_string),
        services: request.scope.services.iter().map(ToString::to_string).collect(),
        targets: request.scope.targets.iter().map(ToString::to_string).collect(),
        policy: request.policy.map(Position::get),
        cause: request.cause.map(Position::get),
        cause_counts: None,
        plan_digest: request.plan_digest.as_str().to_owned(),
        approvals,
        progress,
        steps: full.then_some(steps),
        differences,
        others,
    };
    if let Some(cause) = body.cause {
        add_counts(snapshot, vec![(cause, &mut body.cause_counts)]).await?;
    }
    Ok(body)
}

fn approvals_body(context: &RollbackContext) -> ApprovalsBody {
    let missing = context.state().approvals_lacking();
    let granted = missing.as_ref().map_or(0, |missing| (context.approvals as usize).saturating_sub(*missing));
    ApprovalsBody {
        wanted: context.approvals,
        granted,
        rejected: missing.is_err(),
        answers: context
            .votes
            .iter()
            .map(|vote| VoteBody {
                actor: Some((&vote.actor).into()),
                granted: vote.granted,
                position: vote.position.get(),
            })
            .collect(),
    }
}

/// Query parameters of the list of rollbacks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RollbacksQuery {
    /// Only rollbacks of this environment.
    environment: Option<String>,
    /// Only rollbacks in this phase: `requested`, `started`, `succeeded`, `failed` or `cancelled`.
    phase: Option<String>,
    /// Only rollbacks requested before this position.
    before: Option<String>,
    /// Page size: 1 to 100, by default 20.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// List rollbacks
///
/// Lists rollbacks, latest request first.
#[utoipa::path(
    get,
    path = "/rollbacks",
    operation_id = "listRollbacks",
    tag = "rollback",
    params(RollbacksQuery),
    responses(
        (status = 200, description = "Rollbacks", body = RollbacksBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_rollbacks(
    ledger: Authorized<ReadEnvironment>,
    StrictQuery(query): StrictQuery<RollbacksQuery>,
) -> Result<Response, Problem> {
    let phase = |text: &str| {
        RollbackPhase::named(text).ok_or("must be requested, started, succeeded, failed or cancelled")
    };
    let filter = RollbackFilter {
        environment: parse_optional("environment", query.environment.as_deref(), EnvironmentName::parse)?,
        phases: parse_optional("phase", query.phase.as_deref(), phase)?.map(|phase| vec![phase]),
        before: parse_optional("before", query.before.as_deref(), parse_position)?,
    };
    let limit = parse_limit(query.limit.as_deref(), 20, 100)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let rows = snapshot.rollbacks(&filter, limit).await?;
    let full = rows.len() == limit as usize;
    let next = rows.last().filter(|_| full).map(|row| row.requested.get());
    let mut rollbacks = Vec::with_capacity(rows.len());
    for row in rows {
        rollbacks.push(rollback_body(&mut snapshot, row, false, ledger.now()).await?);
    }
    let projected = snapshot.position();
    Ok(with_position(projected, Json(RollbacksBody { position: projected.get(), rollbacks, next })))
}

/// Path parameter that names a rollback.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RollbackPath {
    /// Id of the rollback.
    rollback_id: String,
}

/// Get a rollback
///
/// Returns a rollback: its plan with the state of each step, the approvals, the lanes that do not run the requested
/// release yet, and changes since the request that are not part of it.
#[utoipa::path(
    get,
    path = "/rollbacks/{rollback_id}",
    operation_id = "getRollback",
    tag = "rollback",
    params(RollbackPath, WaitQuery),
    responses(
        (status = 200, description = "Rollback", body = RollbackBody),
        (status = "4XX", description = "Invalid request, or unknown rollback",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_rollback(
    ledger: Authorized<ReadSome>,
    Path(path): Path<RollbackPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let rollback_id = parse("rollback_id", &path.rollback_id, ShortText::parse)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let row = snapshot.rollback(&rollback_id).await?;
    let unknown = || Problem::new(Kind::UnknownRollback, format!("unknown rollback {rollback_id}"));
    let row = row.ok_or_else(unknown)?;
    // A rollback that the client may not read looks like one that does not exist.
    ledger.tenancy().check(Verb::Read, &row.request.rollback.environment, None).map_err(|_| unknown())?;
    let body = rollback_body(&mut snapshot, row, true, ledger.now()).await?;
    Ok(with_position(snapshot.position(), Json(body)))
}
