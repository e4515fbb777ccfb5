//! Gauges that are read from the projections. A background task refreshes them, so that `/metrics` reads nothing from
//! Postgres and responds while Postgres does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::drift::{drift, uneven};
use ledger_domain::{EnvironmentName, Position, TenantName};
use ledger_journal::Quarantine;
use ledger_projections::{AsOf, Projections, Purpose, QueryError, Snapshot};
use metrics::gauge;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Interval at which the position of the projections is read. What is appended within it counts as lag in a process
/// without a projector.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which the use of quarantines is read.
const QUARANTINE_INTERVAL: Duration = Duration::from_secs(15);
/// Time limit for the projections to respond to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which drift is determined.
const DRIFT_INTERVAL: Duration = Duration::from_secs(5);
/// Number of environments that are examined in one snapshot.
const ENVIRONMENTS_PER_SNAPSHOT: usize = 100;

/// Refreshes the gauges of a tenant's projections until the token is cancelled. At most `environments` environments have
/// gauges of their own.
pub async fn refresh_gauges(
    projections: Projections,
    environments: usize,
    clock: fn() -> DateTime<Utc>,
    cancelled: CancellationToken,
) {
    let projections = projections.for_purpose(Purpose::Operations);
    tokio::select! {
        () = cancelled.cancelled() => {}
        () = probe(&projections) => {}
        () = refresh_drift(&projections, environments, clock) => {}
    }
}

/// Refreshes the gauges of a tenant's quarantine until the token is cancelled.
pub async fn refresh_quarantine_gauges(
    tenant: TenantName,
    quarantine: Arc<Quarantine>,
    cancelled: CancellationToken,
) {
    let refresh = async {
        loop {
            // After a failure, the gauges keep their values: that the journal is down has a metric of its own.
            if let Ok(usage) = quarantine.usage().await {
                let tenant = || tenant.to_string();
                gauge!("ledger_quarantine_messages", "tenant" => tenant()).set(usage.messages as f64);
                gauge!("ledger_quarantine_bytes", "tenant" => tenant()).set(usage.bytes as f64);
            }
            sleep(QUARANTINE_INTERVAL).await;
        }
    };
    tokio::select! {
        () = cancelled.cancelled() => {}
        () = refresh => {}
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
async fn refresh_drift(projections: &Projections, at_most: usize, clock: fn() -> DateTime<Utc>) {
    let tenant = projections.tenant();
    let mut gauges = DriftGauges::new(tenant, at_most);
    let mut has_failed = false;
    loop {
        match gauges.update(projections).await {
            Ok(()) => {
                let seconds = clock().timestamp() as f64;
                gauge!("ledger_drift_updated_timestamp_seconds", "tenant" => tenant.to_string()).set(seconds);
                has_failed = false;
            }
            // Until a generation is active, there is nothing to determine.
            Err(_) if !projections.is_ready() => {}
            Err(error) => {
                if !has_failed {
                    warn!(%tenant, %error, "cannot determine drift; the gauges keep their values");
                }
                has_failed = true;
            }
        }
        sleep(DRIFT_INTERVAL).await;
    }
}

/// Drift of one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct EnvironmentDrift {
    /// Number of lanes in which an observation differs from the ledger.
    lanes: usize,
    /// Number of services that run different releases at different targets.
    uneven: usize,
}

/// The gauges of drift of one tenant. Only the environments that changed since the last update are examined.
struct DriftGauges {
    tenant: TenantName,
    /// Maximum number of environments with gauges of their own.
    at_most: usize,
    /// Position whose entries the gauges reflect; `None` before the first update.
    position: Option<Position>,
    /// The environments that can have drift.
    known: BTreeMap<EnvironmentName, EnvironmentDrift>,
    /// The environments that have gauges of their own: once set, a gauge stays, so that an alert on it can end.
    published: BTreeSet<EnvironmentName>,
}

impl DriftGauges {
    fn new(tenant: &TenantName, at_most: usize) -> Self {
        Self {
            tenant: tenant.clone(),
            at_most,
            position: None,
            known: BTreeMap::new(),
            published: BTreeSet::new(),
        }
    }

    /// Examines the environments that changed, and sets the gauges.
    async fn update(&mut self, projections: &Projections) -> Result<(), QueryError> {
        let mut snapshot = projections.snapshot().await?;
        let position = snapshot.position();
        let changed = match self.position {
            Some(last) if last == position => return Ok(()),
            Some(last) if last < position => snapshot.environments_named_since(last).await?,
            _ => {
                self.known.clear();
                snapshot.environments_with_drift_gauges().await?
            }
        };
        drop(snapshot);
        for environments in changed.chunks(ENVIRONMENTS_PER_SNAPSHOT) {
            // A snapshot must not stay open for long: Postgres keeps old rows for it.
            let mut snapshot = projections.snapshot().await?;
            for environment in environments {
                let drift = drift_of(&mut snapshot, environment).await?;
                self.known.insert(environment.clone(), drift);
            }
        }
        self.position = Some(position);
        self.publish();
        Ok(())
    }

    /// Sets the gauges: those of the environments that have them already, then those with drift, then others, up to the
    /// maximum. The totals count all environments.
    fn publish(&mut self) {
        let candidates = || self.known.iter().filter(|(name, _)| !self.published.contains(*name));
        let is_even = |drift: &EnvironmentDrift| *drift == EnvironmentDrift::default();
        let free = self.at_most.saturating_sub(self.published.len());
        let mut new: Vec<EnvironmentName> = candidates()
            .filter(|(_, drift)| !is_even(drift))
            .take(free)
            .map(|(name, _)| name.clone())
            .collect();
        // Keep a quarter of the gauges for environments that drift later.
        let reserved = if self.known.len() > self.at_most { self.at_most / 4 } else { 0 };
        let free = free.saturating_sub(new.len() + reserved);
        let others = candidates().filter(|(_, drift)| is_even(drift)).take(free);
        new.extend(others.map(|(name, _)| name.clone()));
        self.published.extend(new);
        for (name, drift) in self.known.iter().filter(|(name, _)| self.published.contains(*name)) {
            let labels = || [("tenant", self.tenant.to_string()), ("environment", name.to_string())];
            gauge!("ledger_drift_lanes", &labels()).set(drift.lanes as f64);
            gauge!("ledger_uneven_services", &labels()).set(drift.uneven as f64);
        }
        let tenant = || self.tenant.to_string();
        let drifting = self.known.values().filter(|drift| drift.lanes > 0).count();
        let omitted = self.known.keys().filter(|name| !self.published.contains(*name)).count();
        gauge!("ledger_drift_environments", "tenant" => tenant()).set(drifting as f64);
        gauge!("ledger_drift_environments_omitted", "tenant" => tenant()).set(omitted as f64);
    }
}

async fn drift_of(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
) -> Result<EnvironmentDrift, QueryError> {
    let state = snapshot.state(environment, AsOf::LATEST).await?;
    let composition = state.composition();
    let seen = snapshot.observations(environment).await?;
    Ok(EnvironmentDrift {
        lanes: drift(&state.into_lanes(), &seen).len(),
        uneven: uneven(&composition).len(),
    })
}
