//! What really runs: manifests to build it from, drift from the ledger, and differences between targets.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use ledger_codec::manifest::{Format, Manifest};
use ledger_domain::drift::{drift, uneven};
use ledger_domain::{EnvironmentName, PointInTime, PointSelector};
use ledger_ingest::resolve;
use ledger_projections::{AsKnownAt, AsOf, EnvironmentState, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::environments::{EnvironmentPath, ReleaseBody, SinceBody};
use crate::parameters::{StrictQuery, WaitQuery, at, maybe, wait};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// SHA-256 over what the environment ran.
const COMPOSITION_DIGEST: HeaderName = HeaderName::from_static("composition-digest");

/// Which manifest.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ManifestQuery {
    /// The point: `latest` (unless given), a position, a time, `-N`, `last-known-good` or `point:NAME`.
    at: Option<String>,
    /// `json` (unless given), `yaml`, `env`, `kustomize` or `helm-values`.
    format: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// Get a manifest
///
/// Everything that an environment ran at a point, in words of infrastructure as code: versions, artifacts
/// with their digests, configuration digests and infrastructure revisions. The same point gives the same
/// bytes, for ever.
#[utoipa::path(
    get,
    path = "/environments/{environment}/manifest",
    operation_id = "getManifest",
    tag = "environments",
    params(EnvironmentPath, ManifestQuery),
    responses(
        (status = 200, description = "The manifest", content(
            (serde_json::Value = "application/json"),
            (String = "application/yaml"),
            (String = "text/plain"),
        )),
        (status = "4XX", description = "There is no such point", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_manifest(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<ManifestQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let point = maybe("at", query.at.as_deref(), PointSelector::parse)?;
    let point = point.unwrap_or(PointSelector::At(PointInTime::Latest));
    let format = maybe("format", query.format.as_deref(), Format::parse)?.unwrap_or(Format::Json);
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let believed = AsKnownAt { known_at: None, now: ledger.now() };
    let resolved = resolve(&mut snapshot, &environment, &point, believed).await?;
    let position = resolved.position;
    let when = match resolved.at {
        Some(time) => AsOf { at: PointInTime::Time(time), known_at: None },
        None => AsOf::position(position),
    };
    let composition = snapshot.state(&environment, when).await?.composition();
    let manifest = Manifest { environment: &environment, position, composition: &composition };
    let digest = HeaderValue::from_str(&composition.digest());
    let digest = digest.map_err(|error| Problem::new(Kind::Internal, error))?;
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())), (COMPOSITION_DIGEST, digest)];
    Ok(at(snapshot.position(), (headers, manifest.write(format))))
}

/// What an environment runs now, and a snapshot to ask more of.
async fn latest(
    ledger: &TenantLedger,
    path: &EnvironmentPath,
    query: &WaitQuery,
) -> Result<(EnvironmentName, Snapshot, EnvironmentState), Problem> {
    let environment = path.name()?;
    wait(ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let state = snapshot.state(&environment, AsOf::LATEST).await?;
    Ok((environment, snapshot, state))
}

/// Where what runs is not what the ledger says.
#[derive(Serialize, ToSchema)]
pub(crate) struct DriftBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// How many lanes were ever observed.
    observed_lanes: usize,
    /// The lanes that were seen to run something else than the ledger says.
    drift: Vec<DriftLaneBody>,
    /// Lanes that run something by the ledger, and were never observed.
    unobserved: Vec<LaneNameBody>,
}

/// A lane that drifts.
#[derive(Serialize, ToSchema)]
pub(crate) struct DriftLaneBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// What the ledger says; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<ReleaseBody>,
    /// What was seen; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<ReleaseBody>,
    /// Since when both have been so.
    since: SinceBody,
    /// The last observation.
    last_seen: SinceBody,
}

/// A lane.
#[derive(Serialize, ToSchema)]
pub(crate) struct LaneNameBody {
    /// The service.
    service: String,
    /// The target.
    target: String,
}

/// Get the drift of an environment
///
/// Where what was really seen running is not what the ledger says, lane by lane, and since when.
#[utoipa::path(
    get,
    path = "/environments/{environment}/drift",
    operation_id = "getDrift",
    tag = "environments",
    params(EnvironmentPath, WaitQuery),
    responses(
        (status = 200, description = "What differs", body = DriftBody),
        (status = "4XX", description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_drift(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let (environment, mut snapshot, state) = latest(&ledger, &path, &query).await?;
    let composition = state.composition();
    let ledger_lanes = state.into_lanes();
    let seen = snapshot.observations(&environment).await?;
    let lanes = drift(&ledger_lanes, &seen).into_iter().map(|lane| DriftLaneBody {
        service: lane.service.to_string(),
        target: lane.target.to_string(),
        ledger: lane.ledger.map(ReleaseBody::from),
        seen: lane.seen.release.as_ref().map(ReleaseBody::from),
        since: lane.since.into(),
        last_seen: (&lane.seen.last).into(),
    });
    let unobserved = composition
        .lanes()
        .filter(|(service, target, _)| !seen.contains_key(&((*service).clone(), (*target).clone())));
    let body = DriftBody {
        environment: environment.to_string(),
        position: snapshot.position().get(),
        observed_lanes: seen.len(),
        drift: lanes.collect(),
        unobserved: unobserved
            .map(|(service, target, _)| LaneNameBody {
                service: service.to_string(),
                target: target.to_string(),
            })
            .collect(),
    };
    Ok(at(snapshot.position(), Json(body)))
}

/// How the targets of an environment differ.
#[derive(Serialize, ToSchema)]
pub(crate) struct TargetsBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The targets at which anything runs.
    targets: Vec<String>,
    /// The services that do not run the same at each of them.
    uneven: Vec<UnevenBody>,
}

/// A service that does not run the same everywhere.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnevenBody {
    /// The service.
    service: String,
    /// What it runs, target by target.
    targets: Vec<AtTargetBody>,
}

/// What a service runs at a target.
#[derive(Serialize, ToSchema)]
pub(crate) struct AtTargetBody {
    /// The target.
    target: String,
    /// The release; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<ReleaseBody>,
}

/// Compare the targets of an environment
///
/// Which services do not run the same release at each target.
#[utoipa::path(
    get,
    path = "/environments/{environment}/targets",
    operation_id = "getTargets",
    tag = "environments",
    params(EnvironmentPath, WaitQuery),
    responses(
        (status = 200, description = "What differs", body = TargetsBody),
        (status = "4XX", description = "There is no such environment", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_targets(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let (environment, snapshot, state) = latest(&ledger, &path, &query).await?;
    let composition = state.composition();
    let mut targets: Vec<String> = composition.lanes().map(|(_, target, _)| target.to_string()).collect();
    targets.sort_unstable();
    targets.dedup();
    let uneven = uneven(&composition).into_iter().map(|uneven| UnevenBody {
        service: uneven.service.to_string(),
        targets: uneven
            .targets
            .into_iter()
            .map(|(target, live)| AtTargetBody {
                target: target.to_string(),
                release: live.map(|live| ReleaseBody::from(&live.release)),
            })
            .collect(),
    });
    let position = snapshot.position();
    let (environment, uneven) = (environment.to_string(), uneven.collect());
    Ok(at(position, Json(TargetsBody { environment, position: position.get(), targets, uneven })))
}
