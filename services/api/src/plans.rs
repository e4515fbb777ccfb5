//! Release points, policies, and the representation of rollback plans.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use ledger_domain::event::{Actor, Counts, Step};
use ledger_domain::known_good::{Marked, Reason, Status};
use ledger_domain::plan_issue::{PlanIssue, Severity};
use ledger_domain::{PointSelector, Position, ServiceName, ShortText, TargetName};
use ledger_ingest::{Planned, resolve};
use ledger_projections::{Point, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body::parsed_member;
use crate::environments::{EnvironmentPath, ReleaseBody};
use crate::parameters::{
    StrictQuery, parse, parse_optional, parse_position, wait_for_position, with_position,
};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Maximum number of points that one request examines before it returns a cursor.
const MAX_EXAMINED_POINTS: u32 = 2_000;

/// Person, workload or other actor.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActorBody {
    /// Kind: `person`, `workload`, or another word.
    #[serde(rename = "type")]
    kind: String,
    /// Name.
    name: String,
}

impl From<&Actor> for ActorBody {
    fn from(actor: &Actor) -> Self {
        Self { kind: actor.kind.to_string(), name: actor.name.to_string() }
    }
}

impl ActorBody {
    pub(crate) fn parse(&self, name: &str) -> Result<Actor, Problem> {
        Ok(Actor {
            kind: parsed_member(&format!("/{name}/type"), ShortText::parse(&self.kind))?,
            name: parsed_member(&format!("/{name}/name"), ShortText::parse(&self.name))?,
        })
    }
}

/// Release point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PointBody {
    /// Sequence number of the environment's composition change, from 1; absent if a time selected the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// Position of the event that made the change.
    position: u64,
    /// Time at which that event occurred.
    occurred_at: DateTime<Utc>,
    /// CloudEvents id of that event.
    event_id: String,
    /// Lanes that changed: several if the environment was retired, none if a time selected the point.
    changed: Vec<ChangedBody>,
    /// Time of the next change; absent while the point is current.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<DateTime<Utc>>,
    /// SHA-256 over the composition.
    digest: String,
    /// Number of lanes that ran a release.
    lanes: usize,
    /// Status: `empty`, `candidate`, `known_good` or `bad`.
    status: &'static str,
    /// Reasons for the status.
    reasons: Vec<ReasonBody>,
    /// Mark that a person set on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<MarkBody>,
}

/// Lane that changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChangedBody {
    /// Service name.
    service: String,
    /// Target name.
    target: String,
}

/// Reason for a status.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReasonBody {
    /// Kind: `empty`, `failed`, `missing`, `unchecked`, `not_soaked`, `marked` or `passed`.
    reason: &'static str,
    /// Explanation.
    detail: String,
    /// Service concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Target concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Check concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Case counts of the check, if its result has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<CountsBody>,
}

/// Case counts of a check.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct CountsBody {
    /// Cases that passed.
    passed: u64,
    /// Cases that failed.
    failed: u64,
    /// Cases that were skipped.
    skipped: u64,
}

/// Adds the case counts of checks to the reasons that cite them.
async fn add_counts(snapshot: &mut Snapshot, points: &mut [PointBody]) -> Result<(), Problem> {
    let reasons = || points.iter().flat_map(|point| &point.reasons);
    let positions: Vec<Position> =
        reasons().filter_map(|reason| reason.position.map(Position::new)).collect();
    if positions.is_empty() {
        return Ok(());
    }
    let counts = snapshot.check_counts(&positions).await?;
    for reason in points.iter_mut().flat_map(|point| &mut point.reasons) {
        let found = reason.position.and_then(|position| counts.get(&Position::new(position)));
        reason.counts = found.map(|Counts { passed, failed, skipped }| CountsBody {
            passed: *passed,
            failed: *failed,
            skipped: *skipped,
        });
    }
    Ok(())
}

/// Mark that a person set on a point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MarkBody {
    /// Position of the mark.
    position: u64,
    /// Status that the mark sets.
    status: &'static str,
    /// Name that the mark gives the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Person who set the mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<ActorBody>,
    /// Reason that the person gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<&Marked> for MarkBody {
    fn from(marked: &Marked) -> Self {
        Self {
            position: marked.position.get(),
            status: Status::from(marked.status).name(),
            name: marked.name.as_ref().map(ToString::to_string),
            actor: marked.actor.as_ref().map(ActorBody::from),
            reason: marked.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        }
    }
}

impl From<&Point> for PointBody {
    fn from(point: &Point) -> Self {
        Self {
            number: point.number,
            position: point.since.position.get(),
            occurred_at: point.since.occurred_at,
            event_id: point.since.event_id.as_str().to_owned(),
            changed: point
                .changed
                .iter()
                .map(|(service, target)| ChangedBody {
                    service: service.to_string(),
                    target: target.to_string(),
                })
                .collect(),
            until: point.until,
            digest: point.composition.digest(),
            lanes: point.composition.lanes().count(),
            status: point.judgement.status.name(),
            reasons: point.judgement.reasons.iter().map(ReasonBody::from).collect(),
            mark: point.marked.as_ref().map(MarkBody::from),
        }
    }
}

impl From<&Reason> for ReasonBody {
    fn from(reason: &Reason) -> Self {
        let general = |name, detail: String, at: Option<Position>| Self {
            reason: name,
            detail,
            service: None,
            target: None,
            check: None,
            position: at.map(Position::get),
            counts: None,
        };
        let of_lane = |general: Self, service: &ServiceName, target: &TargetName, check: &ShortText| Self {
            service: Some(service.to_string()),
            target: Some(target.to_string()),
            check: Some(check.to_string()),
            ..general
        };
        match reason {
            Reason::Marked { position, status } => {
                general("marked", format!("a person marked it {}", status.name()), Some(*position))
            }
            Reason::Empty => general("empty", "no lane runs a release".into(), None),
            Reason::Failed { lane, check, required, position } => {
                let subject = if *required { "the required check" } else { "the check" };
                match lane {
                    Some((service, target)) => {
                        let detail = format!("{subject} {check} failed for {service} at {target}");
                        of_lane(general("failed", detail, Some(*position)), service, target, check)
                    }
                    None => {
                        let detail = format!("{subject} {check} failed for the composition");
                        let check = Some(check.to_string());
                        Self { check, ..general("failed", detail, Some(*position)) }
                    }
                }
            }
            Reason::Missing { service, target, check } => {
                let detail = format!("no result of {check} for the release of {service} at {target}");
                of_lane(general("missing", detail, None), service, target, check)
            }
            Reason::Unchecked => general(
                "unchecked",
                "no check has passed for the releases that the point introduced".into(),
                None,
            ),
            Reason::NotSoaked { stood, wanted, stands } => {
                let verb = if *stands { "has been current" } else { "was current" };
                general("not_soaked", format!("it {verb} for {stood} s of the required {wanted} s"), None)
            }
            Reason::Passed { position } => general(
                "passed",
                "all required checks have passed, and none has failed since".into(),
                *position,
            ),
        }
    }
}

/// Release points of an environment.
#[derive(Serialize, ToSchema)]
pub(crate) struct PointsBody {
    /// Environment name.
    environment: String,
    /// Ledger position that the response reflects.
    position: u64,
    /// Points, latest first.
    points: Vec<PointBody>,
    /// Cursor of the next page: pass it as `before`. A page with fewer than `limit` points may still have a successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Query parameters of the release points.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PointsQuery {
    /// Only points that began before this position; by default all.
    before: Option<String>,
    /// Only points with this status: `empty`, `candidate`, `known_good` or `bad`.
    status: Option<String>,
    /// Use the statuses as known at this position.
    known_at: Option<String>,
    /// Page size: 1 to 100, by default 20.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Parses the parameter `limit`: a number from 1 to `max`.
pub(crate) fn parse_limit(text: Option<&str>, default: u32, max: u32) -> Result<u32, Problem> {
    let limit = parse_optional("limit", text, |text| {
        let number = text.parse::<u32>().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| format!("must be a number from 1 to {max}"))
    })?;
    Ok(limit.unwrap_or(default))
}

fn parse_status(text: &str) -> Result<Status, &'static str> {
    let all = [Status::Empty, Status::Candidate, Status::KnownGood, Status::Bad];
    all.into_iter().find(|status| status.name() == text).ok_or("must be empty, candidate, known_good or bad")
}

/// List release points
///
/// Lists the composition after each change, latest first, with its status now or as known at `known_at`.
#[utoipa::path(
    get,
    path = "/environments/{environment}/points",
    operation_id = "listPoints",
    tag = "rollback",
    params(EnvironmentPath, PointsQuery),
    responses(
        (status = 200, description = "Release points", body = PointsBody),
        (status = "4XX", description = "Invalid request, or unknown environment",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_points(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<PointsQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let before = parse_optional("before", query.before.as_deref(), parse_position)?;
    let wanted = parse_optional("status", query.status.as_deref(), parse_status)?;
    let known_at = parse_optional("known_at", query.known_at.as_deref(), parse_position)?;
    let limit = parse_limit(query.limit.as_deref(), 20, 100)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projected = snapshot.position();
    let from = before.map_or(projected, |before| Position::new(before.get().saturating_sub(1)));
    let known = snapshot.believed(known_at, ledger.now()).await?;
    let cursor = snapshot.points(&environment, from, known).await?;
    let mut cursor = cursor.ok_or_else(|| Problem::unknown_environment(&environment))?;
    let mut points = Vec::new();
    let mut next = None;
    for _ in 0..MAX_EXAMINED_POINTS {
        let Some(point) = cursor.next(&mut snapshot, i64::from(limit)).await? else {
            next = None;
            break;
        };
        if points.len() >= limit as usize {
            break;
        }
        next = Some(point.since.position.get());
        if wanted.is_none_or(|wanted| wanted == point.judgement.status) {
            points.push(PointBody::from(&point));
        }
    }
    add_counts(&mut snapshot, &mut points).await?;
    let body = PointsBody { environment: environment.to_string(), position: projected.get(), points, next };
    Ok(with_position(projected, Json(body)))
}

/// Release point of an environment.
#[derive(Serialize, ToSchema)]
pub(crate) struct PointDetailBody {
    /// Environment name.
    environment: String,
    /// Ledger position that the response reflects.
    position: u64,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// Release point.
    point: PointBody,
}

/// Path parameters that name a release point.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PointPath {
    /// Environment name.
    environment: String,
    /// Point: `latest`, a position, a time, `-N`, `last-known-good` or `point:NAME`.
    point: String,
}

/// Query parameters of a single point or policy.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KnownAtQuery {
    /// Use the status, or the policy, as known at this position.
    known_at: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Get a release point
///
/// Returns a release point with its status, now or as known at `known_at`, and the evidence for it.
#[utoipa::path(
    get,
    path = "/environments/{environment}/points/{point}",
    operation_id = "getPoint",
    tag = "rollback",
    params(PointPath, KnownAtQuery),
    responses(
        (status = 200, description = "Release point", body = PointDetailBody),
        (status = "4XX", description = "Invalid request, or unknown point",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_point(
    ledger: TenantLedger,
    Path(path): Path<PointPath>,
    StrictQuery(query): StrictQuery<KnownAtQuery>,
) -> Result<Response, Problem> {
    let environment = EnvironmentPath::of(&path.environment).name()?;
    let selector = parse("point", &path.point, PointSelector::parse)?;
    let known_at = parse_optional("known_at", query.known_at.as_deref(), parse_position)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projected = snapshot.position();
    let known = snapshot.believed(known_at, ledger.now()).await?;
    let point = resolve(&mut snapshot, &environment, &selector, known).await?.point;
    let none = || Problem::new(Kind::UnknownPoint, format!("{environment} has no release point {selector}"));
    let point = point.ok_or_else(none)?;
    let policy = snapshot.policy(&environment, known_at.unwrap_or(projected)).await?;
    let mut point = [PointBody::from(&point)];
    add_counts(&mut snapshot, &mut point).await?;
    let [point] = point;
    let body = PointDetailBody {
        environment: environment.to_string(),
        position: projected.get(),
        policy: policy.declared.map(Position::get),
        point,
    };
    Ok(with_position(projected, Json(body)))
}

/// Policy of an environment.
#[derive(Serialize, ToSchema)]
pub(crate) struct PolicyBody {
    /// Environment name.
    environment: String,
    /// Ledger position that the response reflects.
    position: u64,
    /// Position of its declaration; absent if none was declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<u64>,
    /// Policy, as in `environment.declared`; empty if none was declared.
    policy: serde_json::Value,
}

/// Get the policy of an environment
///
/// Returns the rules for releases to the environment, now or as known at `known_at`.
#[utoipa::path(
    get,
    path = "/environments/{environment}/policy",
    operation_id = "getPolicy",
    tag = "environments",
    params(EnvironmentPath, KnownAtQuery),
    responses(
        (status = 200, description = "Policy", body = PolicyBody),
        (status = "4XX", description = "Invalid request, or unknown environment",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_policy(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<KnownAtQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let known_at = parse_optional("known_at", query.known_at.as_deref(), parse_position)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projected = snapshot.position();
    if !snapshot.knows(&environment).await? {
        return Err(Problem::unknown_environment(&environment));
    }
    let in_force = snapshot.policy(&environment, known_at.unwrap_or(projected)).await?;
    let body = PolicyBody {
        environment: environment.to_string(),
        position: projected.get(),
        declared: in_force.declared.map(Position::get),
        policy: crate::body::encoded_value(&ledger_codec::cloudevents::policy_json(&in_force.policy))?,
    };
    Ok(with_position(projected, Json(body)))
}

/// Plan of a rollback to a release point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanBody {
    /// Environment name.
    environment: String,
    /// Ledger position that the response reflects.
    position: u64,
    /// Position of the environment's last change: pass it as `If-Match`.
    environment_position: u64,
    /// Release point that the plan leads to.
    to: PlanPointBody,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// SHA-256 over the plan's steps.
    plan_digest: String,
    /// Steps, by wave.
    steps: Vec<StepBody>,
    /// SHA-256 over the composition after the plan is executed.
    result_digest: String,
    /// Issues of the plan.
    issues: Vec<PlanIssueBody>,
    /// True if the rollback can be requested only with `force`, or not at all.
    blocked: bool,
}

/// Release point that a plan leads to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanPointBody {
    /// Position of the point.
    position: u64,
    /// Environment of the point, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Time that selected the point, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<DateTime<Utc>>,
    /// Status of the point.
    status: &'static str,
    /// Release point; absent if the environment did not exist at that position.
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<PointBody>,
}

/// Step of a plan: the change of one lane.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct StepBody {
    /// Wave number. Steps of one wave may run in parallel.
    wave: u32,
    /// Service name.
    service: String,
    /// Target name.
    target: String,
    /// Action: `redeploy`, `add`, `remove` or `switch`.
    action: &'static str,
    /// Slot that the action changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    /// Release of the lane before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<ReleaseBody>,
    /// Release of the lane after the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<ReleaseBody>,
}

impl From<&Step> for StepBody {
    fn from(step: &Step) -> Self {
        Self {
            wave: step.wave,
            service: step.service.to_string(),
            target: step.target.to_string(),
            action: step.action.name(),
            slot: step.slot.as_ref().map(ToString::to_string),
            from: step.from.as_ref().map(ReleaseBody::from),
            to: step.to.as_ref().map(ReleaseBody::from),
        }
    }
}

/// Issue of a plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanIssueBody {
    /// Kind: `already_there`, `artifact_revoked`, `barrier`, `barrier_unfinished`, `barrier_of_dependency`,
    /// `barrier_unplaced`, `environment_retired`, `target_empty`,
    /// `target_bad`, `target_not_known_good`, `freeze` or `deploy_open`.
    kind: &'static str,
    /// Severity: `warning`, `overridable` (by `force`), or `fatal`.
    severity: &'static str,
    /// Explanation.
    detail: String,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
}

impl PlanIssueBody {
    pub(crate) fn of(issue: &PlanIssue, severity: Severity) -> Self {
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Overridable => "overridable",
            Severity::Fatal => "fatal",
        };
        let position = issue.position().map(Position::get);
        Self { kind: issue.name(), severity, detail: issue.to_string(), position }
    }
}

impl PlanBody {
    pub(crate) fn of(planned: &Planned) -> Self {
        let request = &planned.wish;
        let status = planned.point.as_ref().map_or(Status::Empty, |point| point.judgement.status);
        Self {
            environment: request.environment.to_string(),
            position: planned.position.get(),
            environment_position: planned.environment_position.get(),
            to: PlanPointBody {
                position: planned.to.get(),
                source: request.source().map(ToString::to_string),
                at: planned.at,
                status: status.name(),
                point: planned.point.as_ref().map(PointBody::from),
            },
            policy: planned.policy.declared.map(Position::get),
            plan_digest: planned.plan.digest(),
            steps: planned.plan.steps.iter().map(StepBody::from).collect(),
            result_digest: planned.result.digest(),
            issues: planned
                .issues
                .iter()
                .map(|(issue, severity)| PlanIssueBody::of(issue, *severity))
                .collect(),
            blocked: planned.blockers(false).next().is_some(),
        }
    }
}
