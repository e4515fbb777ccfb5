//! Gauges that are read from the projections. A background task refreshes them, so that `/metrics` reads nothing from
//! Postgres and responds while Postgres does not.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::drift::{drift, uneven};
use ledger_domain::{Position, TenantName};
use ledger_projections::{AsOf, Projections, QueryError};
use metrics::gauge;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Interval at which the position of the projections is read. What is appended within it counts as lag in a process
/// without a projector.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit for the projections to respond to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which drift is determined.
const DRIFT_INTERVAL: Duration = Duration::from_secs(5);
/// Time limit for determining the drift of all environments of a tenant.
const DRIFT_TIMEOUT: Duration = Duration::from_secs(10);

/// Refreshes the gauges of some tenants' projections until the token is cancelled.
pub async fn refresh_gauges(
    projections: Vec<Projections>,
    clock: fn() -> DateTime<Utc>,
    cancelled: CancellationToken,
) {
    let tasks = projections.iter().map(|it| futures::future::join(probe(it), refresh_drift(it, clock)));
    tokio::select! {
        () = cancelled.cancelled() => {}
        _ = futures::future::join_all(tasks) => {}
    }
}

/// Probes the projections again and again. Each success also renews the position from which `/metrics` counts the lag.
async fn probe(projections: &Projections) {
    let tenant = projections.tenant().to_string();
    loop {
        let is_up = matches!(timeout(PROBE_TIMEOUT, projections.checkpoint()).await, Ok(Ok(_)));
        gauge!("ledger_up", "tenant" => tenant.clone(), "part" => "projections").set(f64::from(is_up));
        sleep(PROBE_INTERVAL).await;
    }
}

/// Determines drift again and again, and records when that last succeeded. Logs the first failure in a row.
async fn refresh_drift(projections: &Projections, clock: fn() -> DateTime<Utc>) {
    let tenant = projections.tenant();
    let mut determined_at = None;
    let mut has_failed = false;
    loop {
        let failure = match timeout(DRIFT_TIMEOUT, set_drift_gauges(projections, determined_at)).await {
            Ok(Ok(position)) => {
                determined_at = Some(position);
                let seconds = clock().timestamp() as f64;
                gauge!("ledger_drift_updated_timestamp_seconds", "tenant" => tenant.to_string()).set(seconds);
                None
            }
            // Until a generation is active, there is nothing to determine.
            Ok(Err(_)) if !projections.is_ready() => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the database did not respond within {DRIFT_TIMEOUT:?}")),
        };
        if let Some(error) = failure.as_ref().filter(|_| !has_failed) {
            warn!(%tenant, error, "cannot determine drift; the gauges keep their values");
        }
        has_failed = failure.is_some();
        sleep(DRIFT_INTERVAL).await;
    }
}

/// Sets, for each environment, the number of lanes in which an observation differs from the ledger, and the number of
/// services that run different releases at different targets. Returns a position whose entries the gauges reflect; does
/// nothing if the projections are still at `determined_at`.
async fn set_drift_gauges(
    projections: &Projections,
    determined_at: Option<Position>,
) -> Result<Position, QueryError> {
    let tenant: &TenantName = projections.tenant();
    let (position, environments) = projections.environments().await?;
    if determined_at == Some(position) {
        return Ok(position);
    }
    let mut snapshot = projections.snapshot().await?;
    for environment in environments {
        let state = snapshot.state(&environment.name, AsOf::LATEST).await?;
        let composition = state.composition();
        let seen = snapshot.observations(&environment.name).await?;
        let labels = || [("tenant", tenant.to_string()), ("environment", environment.name.to_string())];
        gauge!("ledger_drift_lanes", &labels()).set(drift(&state.into_lanes(), &seen).len() as f64);
        gauge!("ledger_uneven_services", &labels()).set(uneven(&composition).len() as f64);
    }
    Ok(position)
}
