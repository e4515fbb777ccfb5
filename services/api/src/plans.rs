//! Release points, and the plan of a rollback: questions on which people and pipelines act.

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

use crate::body::invalid;
use crate::environments::{EnvironmentPath, ReleaseBody};
use crate::parameters::{StrictQuery, at, maybe, parse, position, wait};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Points that one request looks at, at most, before it answers with where to go on.
const LOOKED_AT: u32 = 2_000;

/// Who or what did something.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActorBody {
    /// `person`, `workload`, or another word.
    #[serde(rename = "type")]
    kind: String,
    /// The name.
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
            kind: invalid(&format!("/{name}/type"), ShortText::parse(&self.kind))?,
            name: invalid(&format!("/{name}/name"), ShortText::parse(&self.name))?,
        })
    }
}

/// A release point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PointBody {
    /// Which change of the environment's composition it is, counted from 1; absent where a time named the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// The position of the event that made the change.
    position: u64,
    /// When that occurred.
    occurred_at: DateTime<Utc>,
    /// The event's CloudEvents id.
    event_id: String,
    /// The lanes that changed: several where the environment was retired, none where a time named the point.
    changed: Vec<ChangedBody>,
    /// When the next change occurred; absent while the point stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<DateTime<Utc>>,
    /// SHA-256 over what ran.
    digest: String,
    /// How many lanes ran something.
    lanes: usize,
    /// Its status: `empty`, `candidate`, `known_good` or `bad`.
    status: &'static str,
    /// Why.
    reasons: Vec<ReasonBody>,
    /// A person's word on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<MarkBody>,
}

/// A lane.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChangedBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
}

/// Something that a status rests on.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReasonBody {
    /// `empty`, `failed`, `missing`, `unchecked`, `not_soaked`, `marked` or `passed`.
    reason: &'static str,
    /// In words.
    detail: String,
    /// The service that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// The target that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The check.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    /// The position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// How many cases the check had, where its result says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<CountsBody>,
}

/// How many cases a check had.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct CountsBody {
    /// Cases that passed.
    passed: u64,
    /// Cases that failed.
    failed: u64,
    /// Cases that were not run.
    skipped: u64,
}

/// Adds to the reasons of points the counts of the checks that they rest on.
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

/// A person's word on a point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MarkBody {
    /// Where it stands in the ledger.
    position: u64,
    /// What the point is called.
    status: &'static str,
    /// The name that it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Who said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<ActorBody>,
    /// Why.
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
        let plain = |word, detail: String, at: Option<Position>| Self {
            reason: word,
            detail,
            service: None,
            target: None,
            check: None,
            position: at.map(Position::get),
            counts: None,
        };
        let of_lane = |plain: Self, service: &ServiceName, target: &TargetName, check: &ShortText| Self {
            service: Some(service.to_string()),
            target: Some(target.to_string()),
            check: Some(check.to_string()),
            ..plain
        };
        match reason {
            Reason::Marked { position, status } => {
                plain("marked", format!("a person called it {}", status.name()), Some(*position))
            }
            Reason::Empty => plain("empty", "nothing runs".into(), None),
            Reason::Failed { lane, check, required, position } => {
                let word = if *required { "the required check" } else { "the check" };
                match lane {
                    Some((service, target)) => {
                        let detail = format!("{word} {check} failed for {service} at {target}");
                        of_lane(plain("failed", detail, Some(*position)), service, target, check)
                    }
                    None => {
                        let detail = format!("{word} {check} failed for the composition");
                        let check = Some(check.to_string());
                        Self { check, ..plain("failed", detail, Some(*position)) }
                    }
                }
            }
            Reason::Missing { service, target, check } => {
                let detail = format!("{check} has said nothing of what {service} runs at {target}");
                of_lane(plain("missing", detail, None), service, target, check)
            }
            Reason::Unchecked => {
                plain("unchecked", "no check passed for what the point began with".into(), None)
            }
            Reason::NotSoaked { stood, wanted, stands } => {
                let word = if *stands { "has stood" } else { "stood" };
                plain("not_soaked", format!("it {word} for {stood} s of {wanted} s"), None)
            }
            Reason::Passed { position } => {
                plain("passed", "what had to pass has passed, and nothing failed since".into(), *position)
            }
        }
    }
}

/// The release points of an environment.
#[derive(Serialize, ToSchema)]
pub(crate) struct PointsBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The points, the last first.
    points: Vec<PointBody>,
    /// Where the next page begins: pass it as `before`. A page may have fewer points than were asked for,
    /// and still be followed by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Which points.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PointsQuery {
    /// Points that began before this position; all unless given.
    before: Option<String>,
    /// Only `empty`, `candidate`, `known_good` or `bad` ones.
    status: Option<String>,
    /// As believed at this position.
    known_at: Option<String>,
    /// At most this many: 1 to 100, 20 unless given.
    limit: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

pub(crate) fn limit(text: Option<&str>, usual: u32, most: u32) -> Result<u32, Problem> {
    let limit = maybe("limit", text, |text| {
        let number = text.parse::<u32>().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| format!("must be a number from 1 to {most}"))
    })?;
    Ok(limit.unwrap_or(usual))
}

fn status(text: &str) -> Result<Status, &'static str> {
    let all = [Status::Empty, Status::Candidate, Status::KnownGood, Status::Bad];
    all.into_iter().find(|status| status.name() == text).ok_or("must be empty, candidate, known_good or bad")
}

/// List release points
///
/// What the environment ran after each change of its composition, the last first, and what is thought of it,
/// or was at `known_at`.
#[utoipa::path(
    get,
    path = "/environments/{environment}/points",
    operation_id = "listPoints",
    tag = "rollback",
    params(EnvironmentPath, PointsQuery),
    responses(
        (status = 200, description = "The points", body = PointsBody),
        (status = "4XX", description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_points(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<PointsQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let before = maybe("before", query.before.as_deref(), position)?;
    let wanted = maybe("status", query.status.as_deref(), status)?;
    let known_at = maybe("known_at", query.known_at.as_deref(), position)?;
    let limit = limit(query.limit.as_deref(), 20, 100)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projections = snapshot.position();
    let from = before.map_or(projections, |before| Position::new(before.get().saturating_sub(1)));
    let believed = snapshot.believed(known_at, ledger.now()).await?;
    let walk = snapshot.points(&environment, from, believed).await?;
    let mut walk = walk.ok_or_else(|| Problem::unknown_environment(&environment))?;
    let mut points = Vec::new();
    let mut next = None;
    for _ in 0..LOOKED_AT {
        let Some(point) = walk.next(&mut snapshot, i64::from(limit)).await? else {
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
    let body = PointsBody { environment: environment.to_string(), position: projections.get(), points, next };
    Ok(at(projections, Json(body)))
}

/// A release point of an environment.
#[derive(Serialize, ToSchema)]
pub(crate) struct OnePointBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The position of the policy that it was judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// The point.
    point: PointBody,
}

/// Which point of which environment.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PointPath {
    /// The environment's name.
    environment: String,
    /// `latest`, a position, a time, `-N`, `last-known-good` or `point:NAME`.
    point: String,
}

/// As of when.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KnownQuery {
    /// As believed, or declared, at this position.
    known_at: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// Get a release point
///
/// The point that the environment was at, and what is thought of it, or was at `known_at`, with the evidence.
#[utoipa::path(
    get,
    path = "/environments/{environment}/points/{point}",
    operation_id = "getPoint",
    tag = "rollback",
    params(PointPath, KnownQuery),
    responses(
        (status = 200, description = "The point", body = OnePointBody),
        (status = "4XX", description = "There is no such point", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_point(
    ledger: TenantLedger,
    Path(path): Path<PointPath>,
    StrictQuery(query): StrictQuery<KnownQuery>,
) -> Result<Response, Problem> {
    let environment = EnvironmentPath::of(&path.environment).name()?;
    let name = parse("point", &path.point, PointSelector::parse)?;
    let known_at = maybe("known_at", query.known_at.as_deref(), position)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projections = snapshot.position();
    let believed = snapshot.believed(known_at, ledger.now()).await?;
    let point = resolve(&mut snapshot, &environment, &name, believed).await?.point;
    let none = || Problem::new(Kind::UnknownPoint, format!("{environment} has no release point at {name}"));
    let point = point.ok_or_else(none)?;
    let policy = snapshot.policy(&environment, known_at.unwrap_or(projections)).await?;
    let mut point = [PointBody::from(&point)];
    add_counts(&mut snapshot, &mut point).await?;
    let [point] = point;
    let body = OnePointBody {
        environment: environment.to_string(),
        position: projections.get(),
        policy: policy.declared.map(Position::get),
        point,
    };
    Ok(at(projections, Json(body)))
}

/// An environment's policy.
#[derive(Serialize, ToSchema)]
pub(crate) struct PolicyBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The position at which it was declared; absent where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<u64>,
    /// The policy, as in `environment.declared`; empty where none was declared.
    policy: serde_json::Value,
}

/// Get the policy of an environment
///
/// What the environment asks of those who release to it, or asked at `known_at`.
#[utoipa::path(
    get,
    path = "/environments/{environment}/policy",
    operation_id = "getPolicy",
    tag = "environments",
    params(EnvironmentPath, KnownQuery),
    responses(
        (status = 200, description = "The policy", body = PolicyBody),
        (status = "4XX", description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_policy(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<KnownQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let known_at = maybe("known_at", query.known_at.as_deref(), position)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projections = snapshot.position();
    if !snapshot.knows(&environment).await? {
        return Err(Problem::unknown_environment(&environment));
    }
    let in_force = snapshot.policy(&environment, known_at.unwrap_or(projections)).await?;
    let body = PolicyBody {
        environment: environment.to_string(),
        position: projections.get(),
        declared: in_force.declared.map(Position::get),
        policy: crate::body::value(&ledger_codec::cloudevents::policy_json(&in_force.policy))?,
    };
    Ok(at(projections, Json(body)))
}

/// The way to a release point.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The position of the environment's last change: pass it as `If-Match`.
    environment_position: u64,
    /// Where it leads.
    to: ToBody,
    /// The position of the policy that it was made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u64>,
    /// SHA-256 over the steps.
    plan_digest: String,
    /// The steps, wave by wave.
    steps: Vec<StepBody>,
    /// SHA-256 over what the environment runs when it is carried out.
    result_digest: String,
    /// What stands in the way.
    issues: Vec<PlanIssueBody>,
    /// Whether it may not be asked for unless by force, or at all.
    blocked: bool,
}

/// Where a plan leads.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ToBody {
    /// The position.
    position: u64,
    /// The environment whose point it is, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The time that named the point, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<DateTime<Utc>>,
    /// The status of the point.
    status: &'static str,
    /// The point.
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<PointBody>,
}

/// One lane's part of a plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct StepBody {
    /// Steps of one wave may be carried out side by side.
    wave: u32,
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// `redeploy`, `add`, `remove` or `switch`.
    action: &'static str,
    /// The slot that it is done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    /// What the lane runs before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<ReleaseBody>,
    /// What the lane runs after.
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

/// Something that a plan meets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanIssueBody {
    /// `already_there`, `artifact_revoked`, `barrier`, `barrier_unfinished`, `barrier_of_dependency`,
    /// `barrier_unplaced`, `environment_retired`, `target_empty`,
    /// `target_bad`, `target_not_known_good`, `freeze` or `deploy_open`.
    kind: &'static str,
    /// `warning`; `overridable` by `force`; or `fatal`.
    severity: &'static str,
    /// In words.
    detail: String,
    /// The position of the evidence.
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
        let wish = &planned.wish;
        let status = planned.point.as_ref().map_or(Status::Empty, |point| point.judgement.status);
        Self {
            environment: wish.environment.to_string(),
            position: planned.position.get(),
            environment_position: planned.environment_position.get(),
            to: ToBody {
                position: planned.to.get(),
                source: wish.source().map(ToString::to_string),
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
