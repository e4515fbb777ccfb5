//! Rollbacks: asked for, and watched.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use chrono::{DateTime, Utc};
use ledger_domain::event::{Payload, Step};
use ledger_domain::rollback::Phase;
use ledger_domain::{
    ConfigDigest, EnvironmentName, LaneFilter, LaneFold, Lanes, LongText, PointRef, Position, ServiceName,
    ShortText, TargetName,
};
use ledger_ingest::{
    PlanRequest, RecordOutcome, Request, RequestRollback, RollbackContext, not_reached, plan,
};
use ledger_projections::{AsOf, QueryError, Report, RollbackFilter, RollbackRow, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::body::{ValidJson, invalid};
use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, WaitQuery, at, maybe, parse, position, wait};
use crate::plans::{ActorBody, PlanBody, StepBody, limit};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// How long an answer waits for the projections to have what was requested.
const SOON: Duration = Duration::from_secs(2);

/// What somebody wants an environment to run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// The point: `last-known-good`, `point:NAME`, a position, a time or `-N`; of another environment with
    /// `ENVIRONMENT@` before it.
    to: String,
    /// Only lanes of these services.
    #[serde(default)]
    services: Vec<String>,
    /// Only lanes at these targets.
    #[serde(default)]
    targets: Vec<String>,
    /// Why. Required, unless it is a dry run.
    reason: Option<String>,
    /// Who asks. Required, unless it is a dry run.
    initiated_by: Option<ActorBody>,
    /// Whether to pass what may be passed by force; the reason says why.
    #[serde(default)]
    force: bool,
    /// The rollback's name; one is made unless it is given. Sent again with the same name, it is requested
    /// once.
    rollback_id: Option<String>,
    /// The digest of the plan that was seen: another plan is refused.
    plan_digest: Option<String>,
}

impl RollbackRequest {
    fn wish(&self, environment: EnvironmentName) -> Result<PlanRequest, Problem> {
        let services = self.services.iter().enumerate();
        let services = services.map(|(n, name)| invalid(&format!("/services/{n}"), ServiceName::parse(name)));
        let targets = self.targets.iter().enumerate();
        let targets = targets.map(|(n, name)| invalid(&format!("/targets/{n}"), TargetName::parse(name)));
        Ok(PlanRequest {
            environment,
            to: invalid("/to", PointRef::parse(&self.to))?,
            scope: LaneFilter {
                services: services.collect::<Result<_, _>>()?,
                targets: targets.collect::<Result<_, _>>()?,
            },
        })
    }
}

/// What became of a request.
#[derive(Serialize, ToSchema)]
pub(crate) struct RequestedBody {
    /// The rollback's name.
    rollback_id: String,
    /// The environment.
    environment: String,
    /// Where the request is in the ledger.
    position: u64,
    /// `recorded`, or `duplicate` if it was before.
    status: &'static str,
    /// Where a rollback is that was requested before: `requested`, `started`, `succeeded`, `failed` or `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
}

/// Whether it is a question only.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DryRunQuery {
    /// `true`: answer the plan, and record nothing.
    dry_run: Option<bool>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// Plan or request a rollback
///
/// With `dry_run=true` answers the plan from what the environment runs to the point, with what stands in its
/// way; its `ETag` is the environment's position. Otherwise requests it: refused with 412 and the new plan if
/// `If-Match` names another position, with 409 if something stands in the way or another rollback is under
/// way. Of two requests at once one is recorded.
#[utoipa::path(
    post,
    path = "/environments/{environment}/rollbacks",
    operation_id = "requestRollback",
    tag = "rollback",
    params(
        EnvironmentPath,
        DryRunQuery,
        ("If-Match" = Option<String>, Header, description = "The environment's position that was seen, in quotes"),
    ),
    request_body = RollbackRequest,
    responses(
        (status = 200, description = "The plan of a dry run", body = PlanBody),
        (status = 201, description = "The rollback is requested", body = RequestedBody),
        (status = "4XX", description = "Refused", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn request_rollback(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<DryRunQuery>,
    headers: HeaderMap,
    ValidJson(request): ValidJson<RollbackRequest>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let wish = request.wish(environment.clone())?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    if query.dry_run.unwrap_or(false) {
        let mut snapshot = ledger.projections.snapshot().await?;
        let planned = plan(&mut snapshot, &wish, ledger.now()).await?;
        let tag = format!("\"{}\"", planned.environment_position);
        let tag = HeaderValue::from_str(&tag).map_err(|error| Problem::new(Kind::Internal, error))?;
        return Ok(at(planned.position, ([(header::ETAG, tag)], Json(PlanBody::of(&planned)))));
    }
    let wish = asked(&request, wish, &headers)?;
    let rollback_id = wish.rollback_id.clone();
    let (position, status) = match ledger.ingest.request(Request::Rollback(Box::new(wish))).await {
        RecordOutcome::Recorded(position) => (position, "recorded"),
        RecordOutcome::Duplicate(position) => (position, "duplicate"),
        RecordOutcome::Conflict(position) => {
            let detail = format!("there is another rollback {rollback_id} already (position {position})");
            return Err(Problem::new(Kind::RollbackExists, detail));
        }
        RecordOutcome::Refused(refusal) => return Err(Problem::from(&refusal)),
    };
    // Whoever asked looks next whether it is there. If the projections are slow, the request stands all the same.
    let _ = ledger.projections.wait_for(position, SOON).await;
    let phase = if status == "duplicate" {
        let row = ledger.projections.snapshot().await?.rollback(&rollback_id).await?;
        row.map(|row| row.phase.name())
    } else {
        None
    };
    let body = RequestedBody {
        phase,
        rollback_id: rollback_id.to_string(),
        environment: environment.to_string(),
        position: position.get(),
        status,
    };
    Ok(at(position, (StatusCode::CREATED, Json(body))))
}

fn asked(
    request: &RollbackRequest,
    wish: PlanRequest,
    headers: &HeaderMap,
) -> Result<RequestRollback, Problem> {
    let required = |pointer| move || Problem::member(pointer, "is required, unless it is a dry run");
    let reason = request.reason.as_deref().ok_or_else(required("/reason"))?;
    let initiated_by = request.initiated_by.as_ref().ok_or_else(required("/initiated_by"))?;
    let plan_digest = request.plan_digest.as_deref();
    let rollback_id = match &request.rollback_id {
        Some(text) => invalid("/rollback_id", ShortText::parse(text))?,
        None => new_id()?,
    };
    Ok(RequestRollback {
        wish,
        rollback_id,
        reason: invalid("/reason", LongText::parse(reason))?,
        initiated_by: initiated_by.parse("initiated_by")?,
        force: request.force,
        seen: if_match(headers)?,
        plan_digest: plan_digest
            .map(|text| invalid("/plan_digest", ConfigDigest::parse(text)))
            .transpose()?,
    })
}

#[expect(clippy::disallowed_methods, reason = "a name for a rollback whose requester gives none")]
fn new_id() -> Result<ShortText, Problem> {
    let id = Uuid::now_v7().to_string();
    ShortText::parse(&id).map_err(|error| Problem::new(Kind::Internal, error))
}

/// The environment's position that whoever asks has seen: `"4711"`, or `*` for whichever.
fn if_match(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number = number.ok_or_else(|| Problem::parameter("If-Match", "must be a position in quotes"))?;
    parse("If-Match", number, position).map(Some)
}

/// A rollback.
#[derive(Serialize, ToSchema)]
pub(crate) struct RollbackBody {
    /// Its name.
    rollback_id: String,
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// `requested`, `started`, `succeeded`, `failed` or `cancelled`.
    phase: &'static str,
    /// Whether the rollback controller asked for it by itself.
    automatic: bool,
    /// Whether what may be passed by force was passed.
    force: bool,
    /// Who asked for it.
    initiated_by: ActorBody,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The request.
    requested: RecordedBody,
    /// The position at which its execution began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<u64>,
    /// The position at which it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    /// What was said at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<String>,
    /// The position of the point that is wanted.
    to: u64,
    /// The time that named the point, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<DateTime<Utc>>,
    /// The environment whose point it is, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The services that it is restricted to.
    services: Vec<String>,
    /// The targets that it is restricted to.
    targets: Vec<String>,
    /// The position of the policy that it was judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// The position of the failed check that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<u64>,
    /// SHA-256 over the steps.
    plan_digest: String,
    /// People's part.
    approvals: ApprovalsBody,
    /// How far it is.
    progress: ProgressBody,
    /// The steps, with how far each is; not in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<StepStateBody>>,
    /// Which lanes do not run what is wanted, now or at its end; not in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<String>>,
    /// Changes of the composition by others since the request; not in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    others: Option<Vec<OtherBody>>,
}

/// Where something is in the ledger.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecordedBody {
    /// Its position.
    position: u64,
    /// When it was recorded.
    recorded_at: DateTime<Utc>,
}

/// People's part of a rollback.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApprovalsBody {
    /// How many people other than who asked must approve.
    wanted: u32,
    /// How many did.
    granted: usize,
    /// Whether somebody rejected it.
    rejected: bool,
    /// What people answered.
    answers: Vec<AnswerBody>,
}

/// A person's answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerBody {
    /// Who.
    actor: ActorBody,
    /// Whether they approve.
    granted: bool,
    /// Where it is told.
    position: u64,
}

/// How far a rollback is.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProgressBody {
    /// Steps that are done.
    done: usize,
    /// Steps that failed.
    failed: usize,
    /// All steps.
    total: usize,
}

/// A step, and how far it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct StepStateBody {
    /// The step.
    #[serde(flatten)]
    step: StepBody,
    /// `pending`, `running`, `done` or `failed`.
    state: &'static str,
    /// The position of the last report of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// When the lane's last change occurred, by its emitter's clock: what is reported of the step has to have
    /// occurred after that. Not once the rollback has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<DateTime<Utc>>,
}

/// A change of the composition by somebody else.
#[derive(Serialize, ToSchema)]
pub(crate) struct OtherBody {
    /// Where it is in the ledger.
    position: u64,
    /// When it occurred.
    occurred_at: DateTime<Utc>,
    /// What happened: `deploy.succeeded`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// The target.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl From<&Report> for OtherBody {
    fn from(report: &Report) -> Self {
        let payload = &report.event.payload;
        Self {
            position: report.position.get(),
            occurred_at: report.occurred_at,
            kind: payload.kind().name(),
            service: payload.lane().map(|lane| lane.service.to_string()),
            target: report.target.as_ref().map(ToString::to_string),
        }
    }
}

/// How far a step is, by what was reported of its lane with the rollback's id.
fn step_state(step: &Step, reports: &[Report]) -> StepStateBody {
    let mut state = "pending";
    let mut at = None;
    for report in reports {
        let payload = &report.event.payload;
        let here = payload.lane().is_some_and(|lane| lane.service == step.service)
            && report.target.as_ref() == Some(&step.target);
        if !here {
            continue;
        }
        at = Some(report.position.get());
        state = match payload {
            Payload::DeployFailed(_) => "failed",
            // Something else was deployed in the rollback's name.
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
    StepStateBody { step: step.into(), state, position: at, not_before: None }
}

/// Says of each step when its lane was changed last. An environment that is being built has no lanes yet.
async fn not_before(
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

impl RollbackBody {
    async fn of(
        snapshot: &mut Snapshot,
        row: RollbackRow,
        whole: bool,
        now: DateTime<Utc>,
    ) -> Result<Self, Problem> {
        let reports = snapshot.rollback_reports(&row.request.rollback.rollback_id).await?;
        let mut steps: Vec<_> =
            row.request.plan.steps.iter().map(|step| step_state(step, &reports)).collect();
        let counted = |state: &str| steps.iter().filter(|step| step.state == state).count();
        let progress = ProgressBody { done: counted("done"), failed: counted("failed"), total: steps.len() };
        if whole && row.phase.is_active() {
            not_before(snapshot, &row, &mut steps).await?;
        }
        let (differences, others) = if whole {
            let others = snapshot.changes_of_others(&row).await?;
            (Some(not_reached(snapshot, &row).await?), Some(others.iter().map(OtherBody::from).collect()))
        } else {
            (None, None)
        };
        let living = RollbackContext::with(snapshot, row, now).await?;
        let approvals = ApprovalsBody::of(&living);
        let request = &living.row.request;
        Ok(Self {
            rollback_id: request.rollback.rollback_id.to_string(),
            environment: request.rollback.environment.to_string(),
            position: snapshot.position().get(),
            phase: living.row.phase.name(),
            automatic: request.automatic,
            force: request.force,
            initiated_by: (&request.initiated_by).into(),
            reason: living.row.reason.as_ref().map(|reason| reason.as_str().to_owned()),
            requested: RecordedBody {
                position: living.row.requested.get(),
                recorded_at: living.row.requested_at,
            },
            started: living.row.started.map(Position::get),
            ended: living.row.ended.map(Position::get),
            end_reason: living.row.end_reason.as_ref().map(|reason| reason.as_str().to_owned()),
            to: request.to.get(),
            at: request.at,
            source: request.source.as_ref().map(ToString::to_string),
            services: request.scope.services.iter().map(ToString::to_string).collect(),
            targets: request.scope.targets.iter().map(ToString::to_string).collect(),
            policy: request.policy.map(Position::get),
            cause: request.cause.map(Position::get),
            plan_digest: request.plan_digest.as_str().to_owned(),
            approvals,
            progress,
            steps: whole.then_some(steps),
            differences,
            others,
        })
    }
}

impl ApprovalsBody {
    fn of(living: &RollbackContext) -> Self {
        let lacking = living.life().approvals_lacking();
        let granted =
            lacking.as_ref().map_or(0, |lacking| (living.approvals as usize).saturating_sub(*lacking));
        Self {
            wanted: living.approvals,
            granted,
            rejected: lacking.is_err(),
            answers: living
                .answers
                .iter()
                .map(|answer| AnswerBody {
                    actor: (&answer.actor).into(),
                    granted: answer.granted,
                    position: answer.position.get(),
                })
                .collect(),
        }
    }
}

/// Rollbacks.
#[derive(Serialize, ToSchema)]
pub(crate) struct RollbacksBody {
    /// The position that the answer is true for.
    position: u64,
    /// The rollbacks, the last requested first.
    rollbacks: Vec<RollbackBody>,
    /// Where the next page begins: pass it as `before`. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Which rollbacks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RollbacksQuery {
    /// Of this environment.
    environment: Option<String>,
    /// In this phase: `requested`, `started`, `succeeded`, `failed` or `cancelled`.
    phase: Option<String>,
    /// Requested before this position.
    before: Option<String>,
    /// At most this many: 1 to 100, 20 unless given.
    limit: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// List rollbacks
///
/// The last requested first.
#[utoipa::path(
    get,
    path = "/rollbacks",
    operation_id = "listRollbacks",
    tag = "rollback",
    params(RollbacksQuery),
    responses(
        (status = 200, description = "The rollbacks", body = RollbacksBody),
        (status = "4XX", description = "Not understood", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_rollbacks(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<RollbacksQuery>,
) -> Result<Response, Problem> {
    let phase =
        |text: &str| Phase::named(text).ok_or("must be requested, started, succeeded, failed or cancelled");
    let filter = RollbackFilter {
        environment: maybe("environment", query.environment.as_deref(), EnvironmentName::parse)?,
        phases: maybe("phase", query.phase.as_deref(), phase)?.map(|phase| vec![phase]),
        before: maybe("before", query.before.as_deref(), position)?,
    };
    let limit = limit(query.limit.as_deref(), 20, 100)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let rows = snapshot.rollbacks(&filter, limit).await?;
    let full = rows.len() == limit as usize;
    let next = rows.last().filter(|_| full).map(|row| row.requested.get());
    let mut rollbacks = Vec::with_capacity(rows.len());
    for row in rows {
        rollbacks.push(RollbackBody::of(&mut snapshot, row, false, ledger.now()).await?);
    }
    let projections = snapshot.position();
    Ok(at(projections, Json(RollbacksBody { position: projections.get(), rollbacks, next })))
}

/// Which rollback.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RollbackPath {
    /// The rollback's name.
    rollback_id: String,
}

/// Get a rollback
///
/// Where it is: its plan with how far each step is, people's approvals, what the environment does not run
/// yet, and what others changed meanwhile.
#[utoipa::path(
    get,
    path = "/rollbacks/{rollback_id}",
    operation_id = "getRollback",
    tag = "rollback",
    params(RollbackPath, WaitQuery),
    responses(
        (status = 200, description = "The rollback", body = RollbackBody),
        (status = "4XX", description = "There is none", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_rollback(
    ledger: TenantLedger,
    Path(path): Path<RollbackPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let rollback_id = parse("rollback_id", &path.rollback_id, ShortText::parse)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let row = snapshot.rollback(&rollback_id).await?;
    let none = || Problem::new(Kind::UnknownRollback, format!("there is no rollback {rollback_id}"));
    let body = RollbackBody::of(&mut snapshot, row.ok_or_else(none)?, true, ledger.now()).await?;
    Ok(at(snapshot.position(), Json(body)))
}
