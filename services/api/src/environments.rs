//! What runs where: environments, their state at any point, and how two states differ.

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use ledger_domain::{
    Composition, Difference, EnvironmentName, LaneDifference, LiveRelease, PointInTime, Position, Release,
    ServiceName, Since, SlotName, TargetName,
};
use ledger_projections::{AsOf, EnvironmentState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::parameters::{StrictQuery, WaitQuery, at, maybe, parse, position, wait};
use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// What a lane runs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReleaseBody {
    /// The version, as its builders name it.
    version: String,
    /// A package URL, or an OCI reference by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact: Option<String>,
    /// The configuration's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    /// The revision of the infrastructure's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    infrastructure: Option<String>,
    /// The commit that the version was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
}

impl From<&Release> for ReleaseBody {
    fn from(release: &Release) -> Self {
        Self {
            version: release.version.to_string(),
            artifact: release.artifact.as_ref().map(|artifact| artifact.as_str().to_owned()),
            config: release.config.as_ref().map(|config| config.as_str().to_owned()),
            infrastructure: release.infrastructure.as_ref().map(ToString::to_string),
            commit: release.commit.as_ref().map(ToString::to_string),
        }
    }
}

/// The event that something stands since.
#[derive(Serialize, ToSchema)]
pub(crate) struct SinceBody {
    /// Where it is in the ledger.
    position: u64,
    /// When it happened, by the emitter's clock.
    occurred_at: DateTime<Utc>,
    /// Its CloudEvents id.
    event_id: String,
}

impl From<&Since> for SinceBody {
    fn from(since: &Since) -> Self {
        Self {
            position: since.position.get(),
            occurred_at: since.occurred_at,
            event_id: since.event_id.as_str().to_owned(),
        }
    }
}

/// A lane that runs something, or a slot in which something stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct LaneBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// The slot, where the lane has slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    /// What runs, or stands, there.
    release: ReleaseBody,
    /// Since when.
    since: SinceBody,
}

impl LaneBody {
    fn of(
        service: &ServiceName,
        target: &TargetName,
        live: LiveRelease<&SlotName, &Release, &Since>,
    ) -> Self {
        Self {
            service: service.to_string(),
            target: target.to_string(),
            slot: live.slot.map(ToString::to_string),
            release: live.release.into(),
            since: live.since.into(),
        }
    }

    fn live(service: &ServiceName, target: &TargetName, live: &LiveRelease) -> Self {
        let live = LiveRelease { slot: live.slot.as_ref(), release: &live.release, since: &live.since };
        Self::of(service, target, live)
    }
}

/// What an environment ran at some point.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The point that was asked for: `latest`, a position, or a time.
    at: String,
    /// SHA-256 over what ran: two environments that run the same have the same digest.
    digest: String,
    /// What ran, by service and target.
    lanes: Vec<LaneBody>,
    /// What stood in slots that traffic did not reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    idle: Vec<LaneBody>,
    /// Switches without effect: to slots of which nothing is known yet, or that were empty. The last first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    switches_without_effect: Vec<SwitchBody>,
    /// Lanes of which a report was recorded since their last change that had occurred before it: what it says is hidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hidden_reports: Vec<HiddenBody>,
}

/// A traffic switch without effect.
#[derive(Serialize, ToSchema)]
pub(crate) struct SwitchBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// The slot that traffic was switched to.
    slot: String,
    /// The event.
    since: SinceBody,
}

/// A late report that a later-occurring change hides.
#[derive(Serialize, ToSchema)]
pub(crate) struct HiddenBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// The position of the report.
    position: u64,
}

/// The environments of a ledger.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnvironmentsBody {
    /// The position that the answer is true for.
    position: u64,
    /// The environments, by name.
    environments: Vec<EnvironmentBody>,
}

/// An environment.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnvironmentBody {
    /// Its name.
    name: String,
    /// The position of the first event that named it.
    first_position: u64,
    /// How often its composition has changed.
    changes: u64,
    /// Whether it is retired: then nothing is expected there, and it has no lanes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retired: bool,
}

/// One side of a comparison.
#[derive(Serialize, ToSchema)]
pub(crate) struct SideBody {
    /// The environment.
    environment: String,
    /// The position that the side is true for.
    position: u64,
    /// The point that was asked for.
    at: String,
    /// SHA-256 over what ran.
    digest: String,
}

/// How two compositions differ.
#[derive(Serialize, ToSchema)]
pub(crate) struct DiffBody {
    /// The first.
    from: SideBody,
    /// The second.
    to: SideBody,
    /// The lanes that differ, by service and target.
    differences: Vec<DifferenceBody>,
}

/// How one lane differs.
#[derive(Serialize, ToSchema)]
pub(crate) struct DifferenceBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// What differs.
    change: ChangeWord,
    /// What the lane runs in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<LaneBody>,
    /// What the lane runs in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<LaneBody>,
}

/// What differs in a lane.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ChangeWord {
    /// It runs something only in the second.
    Added,
    /// It runs something only in the first.
    Removed,
    /// It runs another release.
    Changed,
}

impl From<LaneDifference<'_>> for DifferenceBody {
    fn from(lane: LaneDifference<'_>) -> Self {
        let body = |live: &LiveRelease| Some(LaneBody::live(lane.service, lane.target, live));
        let (change, from, to) = match lane.difference {
            Difference::Added(to) => (ChangeWord::Added, None, body(to)),
            Difference::Removed(from) => (ChangeWord::Removed, body(from), None),
            Difference::Changed { from, to } => (ChangeWord::Changed, body(from), body(to)),
        };
        Self { service: lane.service.to_string(), target: lane.target.to_string(), change, from, to }
    }
}

/// List environments
///
/// Every environment that some event named.
#[utoipa::path(
    get,
    path = "/environments",
    operation_id = "listEnvironments",
    tag = "environments",
    params(WaitQuery),
    responses(
        (status = 200, description = "The environments", body = EnvironmentsBody),
        (status = "4XX", description = "Not understood", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_environments(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let (projections, rows) = ledger.projections.environments().await?;
    let environments = rows.into_iter().map(|row| EnvironmentBody {
        name: row.name.to_string(),
        first_position: row.first_position.get(),
        changes: row.changes,
        retired: row.retired,
    });
    let body = EnvironmentsBody { position: projections.get(), environments: environments.collect() };
    Ok(at(projections, Json(body)))
}

/// Which environment.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EnvironmentPath {
    /// The environment's name.
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

/// Which state.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StateQuery {
    /// The point: `latest` (unless given), a position, an RFC 3339 time, or `-N` for N changes ago.
    at: Option<String>,
    /// As known at this position; as known at the end of the ledger unless given. It goes with a
    /// time or with `latest`.
    known_at: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// Get the state of an environment
///
/// What it ran at any point in the past. "At a position" folds the entries up to it; "at a time" folds
/// what occurred up to then, as known at the end of the ledger or at `known_at`.
#[utoipa::path(
    get,
    path = "/environments/{environment}/state",
    operation_id = "getState",
    tag = "environments",
    params(EnvironmentPath, StateQuery),
    responses(
        (status = 200, description = "What ran", body = StateBody),
        (status = "4XX", description = "There is no such point", body = Problem,
            content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_state(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<StateQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let when = AsOf {
        at: maybe("at", query.at.as_deref(), PointInTime::parse)?.unwrap_or(PointInTime::Latest),
        known_at: maybe("known_at", query.known_at.as_deref(), position)?,
    };
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let state = ledger.projections.state(&environment, when).await?;
    let composition = state.composition();
    let lanes = composition.lanes().map(|(service, target, live)| LaneBody::live(service, target, live));
    let idle = state.lanes.iter().flat_map(|lane| {
        lane.fold.idle().into_iter().map(|standing| LaneBody::of(&lane.service, &lane.target, standing))
    });
    let switches = state.lanes.iter().flat_map(|lane| {
        lane.fold.passed_over().into_iter().map(|(slot, since)| SwitchBody {
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            slot: slot.to_string(),
            since: since.into(),
        })
    });
    let hidden = state.lanes.iter().filter_map(|lane| {
        let position = lane.late_report?.get();
        Some(HiddenBody { service: lane.service.to_string(), target: lane.target.to_string(), position })
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
    Ok(at(state.position, Json(body)))
}

/// Which two states.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// The first point: as `at` of the state. Unless given: `-1`, or `latest` beside another environment.
    from: Option<String>,
    /// The second point; `latest` unless given. `staging@latest` is of another environment.
    to: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// A point, of the path's environment or of another: `staging@latest`.
fn side(
    name: &str,
    text: &str,
    environment: &EnvironmentName,
) -> Result<(EnvironmentName, PointInTime), Problem> {
    match text.split_once('@') {
        Some((other, anchor)) => {
            Ok((parse(name, other, EnvironmentName::parse)?, parse(name, anchor, PointInTime::parse)?))
        }
        None => Ok((environment.clone(), parse(name, text, PointInTime::parse)?)),
    }
}

/// Compare two states
///
/// How the composition of an environment differs between two points, or from that of another
/// environment, lane by lane.
#[utoipa::path(
    get,
    path = "/environments/{environment}/diff",
    operation_id = "getDiff",
    tag = "environments",
    params(EnvironmentPath, DiffQuery),
    responses(
        (status = 200, description = "What differs", body = DiffBody),
        (status = "4XX", description = "There is no such point", body = Problem,
            content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_diff(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<DiffQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let to = side("to", query.to.as_deref().unwrap_or("latest"), &environment)?;
    let usual = if to.0 == environment { "-1" } else { "latest" };
    let from = side("from", query.from.as_deref().unwrap_or(usual), &environment)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let known_now = |at| AsOf { at, known_at: None };
    let (first, second) =
        ledger.projections.two_states((&from.0, known_now(from.1)), (&to.0, known_now(to.1))).await?;
    let (before, after) = (first.composition(), second.composition());
    let true_for: Position = first.position.max(second.position);
    let body = DiffBody {
        from: side_body(&from.0, &first, &before),
        to: side_body(&to.0, &second, &after),
        differences: before.diff(&after).into_iter().map(DifferenceBody::from).collect(),
    };
    Ok(at(true_for, Json(body)))
}

fn side_body(environment: &EnvironmentName, state: &EnvironmentState, composition: &Composition) -> SideBody {
    SideBody {
        environment: environment.to_string(),
        position: state.position.get(),
        at: state.at.to_string(),
        digest: composition.digest(),
    }
}
