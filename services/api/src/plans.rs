//! Release points, policies, and the representation of rollback plans.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use ledger_api_types::{ActorRequest, PointDetailBody, PointsBody, PolicyBody};
use ledger_domain::event::Actor;
use ledger_domain::known_good::Status;
use ledger_domain::{Position, ShortText};
use ledger_ingest::resolve;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadEnvironment};
use crate::bodies::point_body;
use crate::body::parsed_member;
use crate::check_counts::{add_counts, cited_by_points};
use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, parse_optional, parse_position, wait_for_position, with_position};
use crate::point_parameters::{known_position, parse_known_at, parse_point, unknown_point};
use crate::problem::Problem;

/// Maximum number of points that one request examines before it returns a cursor.
const MAX_EXAMINED_POINTS: u32 = 2_000;

/// Parses the actor in the member `name` of a request.
pub(crate) fn parse_actor(name: &str, actor: &ActorRequest) -> Result<Actor, Problem> {
    Ok(Actor {
        kind: parsed_member(&format!("/{name}/type"), ShortText::parse(&actor.kind))?,
        name: parsed_member(&format!("/{name}/name"), ShortText::parse(&actor.name))?,
    })
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
    /// Use the statuses as known at this position. A time, as in `at` of the state, stands for the last entry that was
    /// recorded up to it.
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
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<PointsQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let before = parse_optional("before", query.before.as_deref(), parse_position)?;
    let wanted = parse_optional("status", query.status.as_deref(), parse_status)?;
    let now = ledger.now();
    let known_at = parse_known_at(query.known_at.as_deref(), now)?;
    let limit = parse_limit(query.limit.as_deref(), 20, 100)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projected = snapshot.position();
    let from = before.map_or(projected, |before| Position::new(before.get().saturating_sub(1)));
    let known_at = known_position(&mut snapshot, known_at).await?;
    let known = snapshot.believed(known_at, now).await?;
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
            points.push(point_body(&point));
        }
    }
    add_counts(&mut snapshot, cited_by_points(&mut points).collect()).await?;
    let body = PointsBody { environment: environment.to_string(), position: projected.get(), points, next };
    Ok(with_position(projected, Json(body)))
}

/// Path parameters that name a release point.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PointPath {
    /// Environment name.
    environment: String,
    /// Point, in the same forms as `at` of the state. A point of another environment is an error.
    point: String,
}

/// Query parameters of a single point or policy.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KnownAtQuery {
    /// Use the status, or the policy, as known at this position. A time, as in `at` of the state, stands for the last
    /// entry that was recorded up to it.
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
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<PointPath>,
    StrictQuery(query): StrictQuery<KnownAtQuery>,
) -> Result<Response, Problem> {
    let environment = EnvironmentPath::of(&path.environment).name()?;
    let now = ledger.now();
    let selector = parse_point("point", &path.point, &environment, now)?;
    let known_at = parse_known_at(query.known_at.as_deref(), now)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projected = snapshot.position();
    if !snapshot.knows(&environment).await? {
        return Err(Problem::unknown_environment(&environment));
    }
    let known_at = known_position(&mut snapshot, known_at).await?;
    let known = snapshot.believed(known_at, now).await?;
    let resolved = resolve(&mut snapshot, &environment, &selector, known).await?;
    let point = resolved.point.ok_or_else(|| unknown_point(&environment, &selector))?;
    let policy = snapshot.policy(&environment, known_at.unwrap_or(projected)).await?;
    let mut point = [point_body(&point)];
    add_counts(&mut snapshot, cited_by_points(&mut point).collect()).await?;
    let [point] = point;
    let body = PointDetailBody {
        environment: environment.to_string(),
        position: projected.get(),
        at: resolved.at,
        policy: policy.declared.map(Position::get),
        point,
    };
    Ok(with_position(projected, Json(body)))
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
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<KnownAtQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let known_at = parse_known_at(query.known_at.as_deref(), ledger.now())?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let projected = snapshot.position();
    if !snapshot.knows(&environment).await? {
        return Err(Problem::unknown_environment(&environment));
    }
    let known_at = known_position(&mut snapshot, known_at).await?;
    let in_force = snapshot.policy(&environment, known_at.unwrap_or(projected)).await?;
    let body = PolicyBody {
        environment: environment.to_string(),
        position: projected.get(),
        declared: in_force.declared.map(Position::get),
        policy: crate::body::encoded_value(&ledger_codec::cloudevents::policy_json(&in_force.policy))?,
    };
    Ok(with_position(projected, Json(body)))
}
