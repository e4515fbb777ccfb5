//! Environments: list, state at any point, and the difference between two states.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use ledger_api_types::{
    DiffBody, DifferenceBody, EnvironmentBody, EnvironmentsBody, HiddenReportBody, LaneBody, LaneChange,
    SideBody, StateBody, SwitchBody,
};
use ledger_domain::access::Verb;
use ledger_domain::{
    Composition, Difference, EnvironmentName, EventRef, LaneDifference, LiveRelease, PointSelector, Position,
    Release, ServiceName, SlotName, TargetName,
};
use ledger_projections::{AsOf, EnvironmentRow, EnvironmentState};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadEnvironment, ReadSome};
use crate::active_freezes::active_freezes;
use crate::parameters::{StrictQuery, WaitQuery, parse, wait_for_position, with_position};
use crate::point_parameters::{
    KnownAt, as_of, check_known_at, known_position, parse_known_at, parse_point, parse_side,
};
use crate::problem::Problem;
use crate::problem_responses::ProblemResponses;
use crate::tenant::TenantLedger;

fn lane_body(
    service: &ServiceName,
    target: &TargetName,
    live: LiveRelease<&SlotName, &Release, &EventRef>,
) -> LaneBody {
    LaneBody {
        service: service.to_string(),
        target: target.to_string(),
        slot: live.slot.map(ToString::to_string),
        release: live.release.into(),
        since: live.since.into(),
    }
}

fn live_lane_body(service: &ServiceName, target: &TargetName, live: &LiveRelease) -> LaneBody {
    let live = LiveRelease { slot: live.slot.as_ref(), release: &live.release, since: &live.since };
    lane_body(service, target, live)
}

fn difference_body(lane: LaneDifference<'_>) -> DifferenceBody {
    let body = |live: &LiveRelease| Some(live_lane_body(lane.service, lane.target, live));
    let (change, from, to) = match lane.difference {
        Difference::Added(to) => (LaneChange::Added, None, body(to)),
        Difference::Removed(from) => (LaneChange::Removed, body(from), None),
        Difference::Changed { from, to } => (LaneChange::Changed, body(from), body(to)),
    };
    let (service, target) = (lane.service.to_string(), lane.target.to_string());
    DifferenceBody { service, target, change: change.name().to_owned(), from, to }
}

/// List environments
///
/// Lists every environment that an event named, and that the client may read, with the freezes that are in force.
#[utoipa::path(
    get,
    path = "/environments",
    operation_id = "listEnvironments",
    tag = "environments",
    params(WaitQuery),
    responses(
        (status = 200, description = "Environments", body = EnvironmentsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_environments(
    ledger: Authorized<ReadSome>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let (projected, rows) = ledger.projections.environments().await?;
    let is_readable = |row: &EnvironmentRow| ledger.tenancy().check(Verb::Read, &row.name, None).is_ok();
    let rows: Vec<EnvironmentRow> = rows.into_iter().filter(is_readable).collect();
    let names: Vec<EnvironmentName> = rows.iter().map(|row| row.name.clone()).collect();
    let mut snapshot = ledger.projections.snapshot().await?;
    let mut active = active_freezes(&mut snapshot, &names, ledger.now()).await?;
    let environments = rows.into_iter().map(|row| EnvironmentBody {
        freezes: active.remove(&row.name).unwrap_or_default(),
        name: row.name.to_string(),
        first_position: row.first_position.get(),
        changes: row.changes,
        retired: row.retired,
    });
    let body = EnvironmentsBody { position: projected.get(), environments: environments.collect() };
    Ok(with_position(projected, Json(body)))
}

/// Path parameter that names an environment.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EnvironmentPath {
    /// Environment name.
    environment: String,
}

impl EnvironmentPath {
    pub(crate) fn of(environment: &str) -> Self {
        Self { environment: environment.to_owned() }
    }

    pub(crate) fn name(&self) -> Result<EnvironmentName, Problem> {
        parse("environment", &self.environment, EnvironmentName::parse)
    }
}

/// Query parameters of the state of an environment.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StateQuery {
    /// Point: `latest` (the default), a position, `-N` for N changes ago, `change:N`, `last-known-good`, a time (RFC 3339,
    /// to the minute with its zone, a date at 00:00 UTC, `now`, `today`, `yesterday`, or a time ago such as `2h`), or the
    /// name of a point. The first form that fits is taken; `point:NAME` is always a name.
    at: Option<String>,
    /// Use the knowledge of the ledger at this position, by default at its end. A time in the forms of `at` stands for the
    /// last entry that was recorded up to it. Valid with a time or with `latest`.
    known_at: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Returns the state of an environment at a point.
async fn state_at(
    ledger: &TenantLedger,
    environment: &EnvironmentName,
    point: &PointSelector,
    known_at: Option<KnownAt>,
) -> Result<EnvironmentState, Problem> {
    let with_known_at =
        |at, known_at| AsOf::new(at, known_at).map_err(|error| Problem::parameter("known_at", error));
    let as_of = match (point, known_at) {
        (PointSelector::At(at), None) => AsOf::from(*at),
        (PointSelector::At(at), Some(KnownAt::Position(known_at))) => with_known_at(*at, Some(known_at))?,
        // What the point resolves to and the state must be of one snapshot.
        (point, known_at) => {
            let mut snapshot = ledger.projections.snapshot().await?;
            let as_of = match (point, known_position(&mut snapshot, known_at).await?) {
                (PointSelector::At(at), known_at) => with_known_at(*at, known_at)?,
                (point, _) => as_of(&mut snapshot, environment, point, ledger.now()).await?,
            };
            return Ok(snapshot.state(environment, as_of).await?);
        }
    };
    Ok(ledger.projections.state(environment, as_of).await?)
}

/// Get the state of an environment
///
/// Returns the composition at any point in the past. A position applies the entries up to it. A time applies the events
/// that occurred up to then, as known at the end of the ledger or at `known_at`.
#[utoipa::path(
    get,
    path = "/environments/{environment}/state",
    operation_id = "getState",
    tag = "environments",
    params(EnvironmentPath, StateQuery),
    responses(
        (status = 200, description = "State", body = StateBody),
        (status = "4XX", description = "Invalid request, or unknown point", body = Problem,
            content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_state(
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<StateQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let now = ledger.now();
    let point = parse_point("at", query.at.as_deref().unwrap_or("latest"), &environment, now)?;
    let known_at = parse_known_at(query.known_at.as_deref(), now)?;
    check_known_at(&point, known_at)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let state = state_at(&ledger, &environment, &point, known_at).await?;
    let composition = state.composition();
    let lanes = composition.lanes().map(|(service, target, live)| live_lane_body(service, target, live));
    let idle = state.lanes.iter().flat_map(|lane| {
        lane.fold.idle().into_iter().map(|idle| lane_body(&lane.service, &lane.target, idle))
    });
    let switches = state.lanes.iter().flat_map(|lane| {
        lane.fold.ineffective_switches().into_iter().map(|(slot, since)| SwitchBody {
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            slot: slot.to_string(),
            since: Some(since.into()),
        })
    });
    let hidden = state.lanes.iter().filter_map(|lane| {
        let position = lane.late_report?.get();
        Some(HiddenReportBody {
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            position,
        })
    });
    let body = StateBody {
        environment: environment.to_string(),
        position: state.position.get(),
        at: state.at.to_string(),
        digest: composition.digest(),
        lanes: lanes.collect(),
        idle: idle.collect(),
        switches_without_effect: switches.collect(),
        hidden_reports: hidden.collect(),
    };
    Ok(with_position(state.position, Json(body)))
}

/// Query parameters of a comparison.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// First point, in the same forms as `at` of the state; `staging@latest` names a point of another environment.
    /// Default: `-1`, or `latest` if `to` names another environment.
    from: Option<String>,
    /// Second point, in the same forms; by default `latest`.
    to: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Compare two states
///
/// Compares the compositions of an environment at two points, or of two environments, lane by lane.
#[utoipa::path(
    get,
    path = "/environments/{environment}/diff",
    operation_id = "getDiff",
    tag = "environments",
    params(EnvironmentPath, DiffQuery),
    responses(
        (status = 200, description = "Difference", body = DiffBody),
        (status = "4XX", description = "Invalid request, or unknown point", body = Problem,
            content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_diff(
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<DiffQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let now = ledger.now();
    let to = parse_side("to", query.to.as_deref().unwrap_or("latest"), &environment, now)?;
    let default_from = if to.0 == environment { "-1" } else { "latest" };
    let from = parse_side("from", query.from.as_deref().unwrap_or(default_from), &environment, now)?;
    for (side, _) in [&from, &to] {
        ledger.tenancy().check(Verb::Read, side, None)?;
    }
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    // One snapshot, so that `latest` and `-N` have the same meaning in both.
    let mut snapshot = ledger.projections.snapshot().await?;
    let at = as_of(&mut snapshot, &from.0, &from.1, now).await?;
    let first = snapshot.state(&from.0, at).await?;
    let at = as_of(&mut snapshot, &to.0, &to.1, now).await?;
    let second = snapshot.state(&to.0, at).await?;
    let (before, after) = (first.composition(), second.composition());
    let position: Position = first.position.max(second.position);
    let body = DiffBody {
        from: side_body(&from.0, &first, &before),
        to: side_body(&to.0, &second, &after),
        differences: before.diff(&after).into_iter().map(difference_body).collect(),
    };
    Ok(with_position(position, Json(body)))
}

fn side_body(environment: &EnvironmentName, state: &EnvironmentState, composition: &Composition) -> SideBody {
    SideBody {
        environment: environment.to_string(),
        position: state.position.get(),
        at: state.at.to_string(),
        digest: composition.digest(),
    }
}
