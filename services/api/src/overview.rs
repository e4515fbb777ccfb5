//! Overview of environments, and the lanes on which a release ran.

use std::collections::BTreeSet;

use axum::Json;
use axum::response::Response;
use chrono::{DateTime, Utc};
use ledger_api_types::{
    EnvironmentOverviewBody, FindBody, FoundRunBody, LaneOverviewBody, MomentBody, ObservedLaneBody,
    OpenDeployBody, OverviewBody, ReleaseBody,
};
use ledger_domain::access::Verb;
use ledger_domain::drift::drift;
use ledger_domain::plan_issue::Revocations;
use ledger_domain::{EnvironmentName, EventTime, Lane, Release, ServiceName, ShortText, TargetName};
use ledger_projections::{AsKnownAt, AsOf, FoundRun, QueryError, ReleaseQuery, Snapshot};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadSome};
use crate::active_freezes::active_freezes;
use crate::parameters::{StrictQuery, parse, parse_list, parse_optional, wait_for_position, with_position};
use crate::plans::parse_limit;
use crate::problem::Problem;
use crate::problem_responses::ProblemResponses;

/// Largest number of lanes that a request skips.
const MAX_SKIP: u32 = 100_000;

/// Query parameters of the overview.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OverviewQuery {
    /// Only these environments, separated by commas. One that does not exist or is retired is an error.
    environment: Option<String>,
    /// Only lanes of these services, separated by commas.
    service: Option<String>,
    /// Only environments whose names sort after this one.
    after: Option<String>,
    /// Page size: 1 to 50 environments, by default 20.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Get an overview of the environments
///
/// Returns what each environment runs that the client may read and that is not retired, with the status of its latest
/// release point, drift, revoked artifacts, deploys under way, freezes in force, and lanes that only an observer knows.
#[utoipa::path(
    get,
    path = "/overview",
    operation_id = "getOverview",
    tag = "environments",
    params(OverviewQuery),
    responses(
        (status = 200, description = "Overview", body = OverviewBody),
        ProblemResponses,
    )
)]
pub(crate) async fn get_overview(
    ledger: Authorized<ReadSome>,
    StrictQuery(query): StrictQuery<OverviewQuery>,
) -> Result<Response, Problem> {
    let after = parse_optional("after", query.after.as_deref(), EnvironmentName::parse)?;
    let limit = parse_limit(query.limit.as_deref(), 20, 50)? as usize;
    let asked = parse_list("environment", query.environment.as_deref(), EnvironmentName::parse)?;
    let services = parse_list("service", query.service.as_deref(), ServiceName::parse)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let (_, rows) = ledger.projections.environments().await?;
    let existing: BTreeSet<EnvironmentName> =
        rows.into_iter().filter(|row| !row.retired).map(|row| row.name).collect();
    for name in &asked {
        ledger.tenancy().check(Verb::Read, name, None)?;
        if !existing.contains(name) {
            return Err(QueryError::UnknownEnvironment(name.clone()).into());
        }
    }
    let mut names: Vec<EnvironmentName> = existing
        .into_iter()
        .filter(|name| asked.is_empty() || asked.contains(name))
        .filter(|name| after.as_ref().is_none_or(|after| name > after))
        .filter(|name| ledger.tenancy().check(Verb::Read, name, None).is_ok())
        .collect();
    let has_more = names.len() > limit;
    names.truncate(limit);
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    let now = ledger.now();
    let mut active = active_freezes(&mut snapshot, &names, now).await?;
    let mut environments = Vec::with_capacity(names.len());
    for name in &names {
        let freezes = active.remove(name).unwrap_or_default();
        let overview = environment_overview(&mut snapshot, name, &services, now).await?;
        environments.push(EnvironmentOverviewBody { freezes, ..overview });
    }
    ledger.tenancy().stats().add_reads(environments.iter().map(|it| it.lanes.len()).sum());
    let next = names.last().filter(|_| has_more).map(ToString::to_string);
    let restricted = ledger.tenancy().check_all(Verb::Read).is_err();
    let body = OverviewBody { position: position.get(), environments, next, restricted };
    Ok(with_position(position, Json(body)))
}

async fn environment_overview(
    snapshot: &mut Snapshot,
    name: &EnvironmentName,
    services: &[ServiceName],
    now: DateTime<Utc>,
) -> Result<EnvironmentOverviewBody, Problem> {
    let is_asked = |service: &ServiceName| services.is_empty() || services.contains(service);
    let state = snapshot.state(name, AsOf::LATEST).await?;
    let composition = state.composition();
    let recorded = state.into_lanes();
    let seen = snapshot.observations(name).await?;
    let drifts = drift(&recorded, &seen);
    let drifting: BTreeSet<(&ServiceName, &TargetName)> =
        drifts.iter().map(|lane| (lane.service, lane.target)).collect();
    let unlisted = drifts.iter().filter(|lane| lane.ledger.is_none() && is_asked(lane.service));
    let observed = unlisted.filter_map(|lane| {
        Some(ObservedLaneBody {
            service: lane.service.to_string(),
            target: lane.target.to_string(),
            release: ReleaseBody::from(lane.seen.release.as_ref()?),
            since: lane.since.into(),
        })
    });
    let observed = observed.collect();
    let releases: Vec<(&ServiceName, &Release)> =
        composition.lanes().map(|(service, _, live)| (service, &live.release)).collect();
    let (revoked, version_artifacts) = snapshot.revoked_releases(name, &releases, now).await?;
    let revocations = Revocations { revoked: &revoked, version_artifacts: Some(&version_artifacts) };
    let is_revoked = |service: &ServiceName, release: &Release| revocations.of(service, release).is_some();
    let asked = composition.lanes().filter(|(service, ..)| is_asked(service));
    let lanes = asked.map(|(service, target, live)| LaneOverviewBody {
        service: service.to_string(),
        target: target.to_string(),
        release: ReleaseBody::from(&live.release),
        since: (&live.since).into(),
        drift: drifting.contains(&(service, target)),
        revoked: is_revoked(service, &live.release),
    });
    let lanes = lanes.collect();
    let open = snapshot.open_deploys(name).await?.into_iter().filter(|open| is_asked(&open.service));
    let deploying = open.map(|open| OpenDeployBody {
        service: open.service.to_string(),
        target: open.target.to_string(),
        version: open.version.to_string(),
        position: open.position.get(),
    });
    let deploying = deploying.collect();
    let status = latest_status(snapshot, name, now).await?;
    let (name, freezes) = (name.to_string(), Vec::new());
    Ok(EnvironmentOverviewBody { name, status, lanes, deploying, observed, freezes })
}

/// Returns the status of the latest point of an environment, if it has any.
async fn latest_status(
    snapshot: &mut Snapshot,
    name: &EnvironmentName,
    now: DateTime<Utc>,
) -> Result<Option<String>, Problem> {
    let position = snapshot.position();
    let cursor = snapshot.points(name, position, AsKnownAt { known_at: None, now }).await?;
    let Some(mut cursor) = cursor else { return Ok(None) };
    let point = cursor.next(snapshot, 1).await?;
    Ok(point.map(|point| point.judgement.status.name().to_owned()))
}

/// Query parameters of the search for a release.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FindQuery {
    /// A version, an artifact, a commit or a digest; of a commit or a digest, the first 7 characters or more suffice.
    release: String,
    /// Number of lanes to skip: at most 100000, by default 0.
    skip: Option<String>,
    /// Page size: 1 to 1000 lanes, by default 100.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Find where a release ran
///
/// Lists the lanes that the client may read on which a release ever went live, with the first and the last time, and the
/// time at which another one replaced it, by what ran when: late reports count, deploys that were corrected do not. A
/// deploy that states no artifact counts for the one that its version meant. A page may be empty and have a successor:
/// its lanes may have held the release in slots without traffic.
#[utoipa::path(
    get,
    path = "/find",
    operation_id = "findRelease",
    tag = "environments",
    params(FindQuery),
    responses(
        (status = 200, description = "Lanes", body = FindBody),
        ProblemResponses,
    )
)]
pub(crate) async fn find_release(
    ledger: Authorized<ReadSome>,
    StrictQuery(query): StrictQuery<FindQuery>,
) -> Result<Response, Problem> {
    let release = ReleaseQuery::new(parse("release", &query.release, ShortText::stored)?);
    let limit = parse_limit(query.limit.as_deref(), 100, 1000)?;
    let skip = parse_optional("skip", query.skip.as_deref(), |text| {
        let number = text.parse::<u32>().ok().filter(|number| *number <= MAX_SKIP);
        number.ok_or_else(|| format!("must be a number from 0 to {MAX_SKIP}"))
    })?
    .unwrap_or_default();
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    let found = snapshot.lanes_of_release(release).await?;
    // Lanes that the client may not read must not show, not even by a page that they would have filled.
    let may_read =
        |lane: &&Lane| ledger.tenancy().check(Verb::Read, &lane.environment, Some(&lane.service)).is_ok();
    let lanes: Vec<&Lane> = found.lanes().iter().filter(may_read).skip(skip as usize).collect();
    let has_more = lanes.len() > limit as usize;
    let next = has_more.then_some(skip + limit).filter(|next| *next <= MAX_SKIP);
    let mut runs: Vec<FoundRunBody> = Vec::new();
    for lane in lanes.into_iter().take(limit as usize) {
        runs.extend(snapshot.runs_of_release(&found, lane).await?.into_iter().map(run_body));
    }
    ledger.tenancy().stats().add_reads(runs.len());
    Ok(with_position(position, Json(FindBody { position: position.get(), runs, next })))
}

fn run_body(run: FoundRun) -> FoundRunBody {
    let moment = |at: EventTime| MomentBody { position: at.position.get(), occurred_at: at.occurred_at };
    FoundRunBody {
        environment: run.lane.environment.to_string(),
        service: run.lane.service.to_string(),
        target: run.lane.target.to_string(),
        release: ReleaseBody {
            version: run.version,
            artifact: run.artifact,
            config: None,
            infrastructure: None,
            commit: run.commit,
        },
        first: moment(run.first),
        last: moment(run.last),
        until: run.until.map(moment),
    }
}
