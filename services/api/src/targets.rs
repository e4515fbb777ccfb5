//! Manifests, drift between observations and the ledger, and differences between targets.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use ledger_api_types::{
    DriftBody, DriftLaneBody, LaneNameBody, ReleaseBody, TargetReleaseBody, TargetSkewBody, TargetsBody,
};
use ledger_codec::manifest::{Format, Manifest};
use ledger_domain::drift::{drift, uneven};
use ledger_domain::{EnvironmentName, PointInTime};
use ledger_ingest::resolve;
use ledger_projections::{AsKnownAt, AsOf, EnvironmentState, Snapshot};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadEnvironment};
use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, WaitQuery, parse_optional, wait_for_position, with_position};
use crate::point_parameters::parse_point;
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Response header: SHA-256 over the composition.
const COMPOSITION_DIGEST: HeaderName = HeaderName::from_static("composition-digest");
/// Response header: the point that was meant, as a position or a time.
const RESOLVED_POINT: HeaderName = HeaderName::from_static("resolved-point");

/// Query parameters of a manifest.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ManifestQuery {
    /// Point, in the same forms as `at` of the state; by default `latest`.
    at: Option<String>,
    /// Format: `json` (the default), `yaml`, `env`, `kustomize` or `helm-values`.
    format: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// Get a manifest
///
/// Returns the composition of an environment at a point for infrastructure as code: versions, artifacts with their
/// digests, configuration digests and infrastructure revisions. The same position always gives the same bytes. The
/// header `Resolved-Point` says which position or time was meant.
#[utoipa::path(
    get,
    path = "/environments/{environment}/manifest",
    operation_id = "getManifest",
    tag = "environments",
    params(EnvironmentPath, ManifestQuery),
    responses(
        (status = 200, description = "Manifest", content(
            (serde_json::Value = "application/json"),
            (String = "application/yaml"),
            (String = "text/plain"),
        )),
        (status = "4XX", description = "Invalid request, or unknown point",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_manifest(
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<ManifestQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let now = ledger.now();
    let point = parse_point("at", query.at.as_deref().unwrap_or("latest"), &environment, now)?;
    let format = parse_optional("format", query.format.as_deref(), Format::parse)?.unwrap_or(Format::Json);
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let known_at = AsKnownAt { known_at: None, now };
    let resolved = resolve(&mut snapshot, &environment, &point, known_at).await?;
    let position = resolved.position;
    let as_of = match resolved.at {
        Some(time) => AsOf::Time { time, known_at: None },
        None => AsOf::Position(position),
    };
    let composition = snapshot.state(&environment, as_of).await?.composition();
    ledger.tenancy().stats().add_reads(composition.lanes().count());
    let manifest = Manifest { environment: &environment, position, composition: &composition };
    let digest = HeaderValue::from_str(&composition.digest());
    let digest = digest.map_err(|error| Problem::new(Kind::Internal, error))?;
    let meant = resolved.at.map_or(PointInTime::Position(position), PointInTime::Time).to_string();
    let meant = HeaderValue::from_str(&meant).map_err(|error| Problem::new(Kind::Internal, error))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
        (COMPOSITION_DIGEST, digest),
        (RESOLVED_POINT, meant),
    ];
    Ok(with_position(snapshot.position(), (headers, manifest.write(format))))
}

/// Returns the latest state of an environment and the snapshot that it was read from.
async fn latest_state(
    ledger: &TenantLedger,
    path: &EnvironmentPath,
    query: &WaitQuery,
) -> Result<(EnvironmentName, Snapshot, EnvironmentState), Problem> {
    let environment = path.name()?;
    wait_for_position(ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let state = snapshot.state(&environment, AsOf::LATEST).await?;
    Ok((environment, snapshot, state))
}

/// Get the drift of an environment
///
/// Lists the lanes in which the observed release differs from the ledger, and the event since which it differs.
#[utoipa::path(
    get,
    path = "/environments/{environment}/drift",
    operation_id = "getDrift",
    tag = "environments",
    params(EnvironmentPath, WaitQuery),
    responses(
        (status = 200, description = "Drift", body = DriftBody),
        (status = "4XX", description = "Invalid request, or unknown environment",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_drift(
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let (environment, mut snapshot, state) = latest_state(&ledger, &path, &query).await?;
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
    Ok(with_position(snapshot.position(), Json(body)))
}

/// Compare the targets of an environment
///
/// Lists the services that do not run the same release at every target.
#[utoipa::path(
    get,
    path = "/environments/{environment}/targets",
    operation_id = "getTargets",
    tag = "environments",
    params(EnvironmentPath, WaitQuery),
    responses(
        (status = 200, description = "Differences between targets", body = TargetsBody),
        (status = "4XX", description = "Invalid request, or unknown environment",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_targets(
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let (environment, snapshot, state) = latest_state(&ledger, &path, &query).await?;
    let composition = state.composition();
    let mut targets: Vec<String> = composition.lanes().map(|(_, target, _)| target.to_string()).collect();
    targets.sort_unstable();
    targets.dedup();
    let uneven = uneven(&composition).into_iter().map(|skew| TargetSkewBody {
        service: skew.service.to_string(),
        targets: skew
            .targets
            .into_iter()
            .map(|(target, live)| TargetReleaseBody {
                target: target.to_string(),
                release: live.map(|live| ReleaseBody::from(&live.release)),
            })
            .collect(),
    });
    let position = snapshot.position();
    let (environment, uneven) = (environment.to_string(), uneven.collect());
    Ok(with_position(position, Json(TargetsBody { environment, position: position.get(), targets, uneven })))
}
