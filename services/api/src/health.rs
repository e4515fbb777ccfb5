//! Liveness, readiness and metrics of the process.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use ledger_domain::TenantName;
use ledger_projections::{ProjectorStatus, Purpose};
use metrics::gauge;
use serde_json::json;
use tokio::time::timeout;

use crate::access::{self, Authentication, Sent};
use crate::health_paths::METRICS;
use crate::problem::{Kind, Problem};
use crate::retired_series::without_tenants;
use crate::{App, Ledger, Shared, process};

/// Time limit for each part to answer a probe. It is short because probes have short timeouts themselves.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/readyz/ingest", get(ready_for_ingest))
        .route("/readyz/questions", get(ready_for_queries))
        .route(METRICS, get(metrics))
}

async fn livez() -> Json<serde_json::Value> {
    Json(json!({"status": "alive"}))
}

/// A part of the process beside the ledgers, such as a connection to a broker. While it has a fault, the process is
/// degraded, and stays ready: it records events and answers queries without that part.
pub trait HealthCheck: Send + Sync + 'static {
    /// Returns the name of the part: `kafka`.
    fn name(&self) -> &'static str;

    /// Returns a description of the fault, without secrets; `None` if the part is healthy. Does not wait.
    fn fault(&self) -> Option<String>;
}

/// Part of a tenant's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The stream: without it the service cannot record events.
    Journal,
    /// The read models: without them the service cannot answer queries.
    Projections,
    /// The process that applies the stream to the read models: without it they become stale.
    Projector,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Projections => "projections",
            Self::Projector => "projector",
        }
    }
}

struct Fault {
    tenant: TenantName,
    part: Part,
    detail: String,
    /// The part has not been healthy since the process started.
    since_start: bool,
}

impl Fault {
    /// Describes the fault. Readiness needs no credentials: if other requests do, it names no tenant and no cause.
    fn describe(&self, app: &App) -> String {
        match app.authentication {
            Authentication::Off => format!("{}: {}: {}", self.tenant, self.part.name(), self.detail),
            Authentication::Required(_) => self.part.name().to_owned(),
        }
    }
}

/// Reports readiness. A process becomes ready once every part of the tenants in the settings has been healthy, and the
/// tenants that were created are served. Later faults of shared parts
/// only degrade it: taking all processes out of rotation would also stop the requests that they can still serve.
/// It becomes unready again only while both the journal and the projections of a tenant fail.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let faults = faults(&app).await;
    let is_unusable = |tenant: &TenantName| {
        let fails = |part| faults.iter().any(|fault| fault.tenant == *tenant && fault.part == part);
        fails(Part::Journal) && fails(Part::Projections)
    };
    if faults.iter().any(|fault| fault.since_start) || app.ledgers.all().keys().any(is_unusable) {
        return not_ready(&app, &faults);
    }
    if !app.ledgers.is_complete() {
        let detail = "the ledgers of the tenants that were created are being opened";
        return Problem::new(Kind::NotReady, detail).into_response();
    }
    let checked = app.checks.iter().filter_map(|check| Some((check.name(), check.fault()?)));
    let checked = checked.map(|(name, detail)| match app.authentication {
        Authentication::Off => format!("{name}: {detail}"),
        Authentication::Required(_) => name.to_owned(),
    });
    let faults: Vec<String> = faults.iter().map(|fault| fault.describe(&app)).chain(checked).collect();
    if faults.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    Json(json!({"status": "degraded", "faults": faults})).into_response()
}

/// Reports readiness for ingest: the journal of every tenant answers.
async fn ready_for_ingest(State(app): State<Arc<App>>) -> Response {
    ready_for(&app, Part::Journal).await
}

/// Reports readiness for queries: the projections of every tenant answer.
async fn ready_for_queries(State(app): State<Arc<App>>) -> Response {
    ready_for(&app, Part::Projections).await
}

async fn ready_for(app: &App, part: Part) -> Response {
    let mut faults = faults(app).await;
    faults.retain(|fault| fault.part == part);
    if faults.is_empty() { Json(json!({"status": "ready"})).into_response() } else { not_ready(app, &faults) }
}

fn not_ready(app: &App, faults: &[Fault]) -> Response {
    let mut detail: Vec<String> = faults.iter().map(|fault| fault.describe(app)).collect();
    detail.dedup();
    Problem::new(Kind::NotReady, detail.join("; ")).into_response()
}

async fn faults(app: &App) -> Vec<Fault> {
    let ledgers = app.ledgers.all();
    let probes = ledgers.iter().map(|(tenant, ledger)| faults_of(tenant, ledger));
    futures::future::join_all(probes).await.into_iter().flatten().collect()
}

async fn faults_of(tenant: &TenantName, ledger: &Ledger) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |part, detail: String, since_start| {
        // A tenant that was created while the service runs does not take its processes out of rotation.
        let since_start = since_start && ledger.is_of_settings;
        faults.push(Fault { tenant: tenant.clone(), part, detail, since_start });
    };
    let timed_out = || format!("no answer within {PROBE_TIMEOUT:?}");
    let projections = ledger.projections.for_purpose(Purpose::Operations);
    let (head, checkpoint) = tokio::join!(
        timeout(PROBE_TIMEOUT, ledger.journal.head()),
        timeout(PROBE_TIMEOUT, projections.checkpoint())
    );
    match (head, ledger.projections.divergence()) {
        (Ok(Ok(_)), None) => {
            if let Some(reason) = ledger.ingest.recent_append_failure() {
                fault(Part::Journal, format!("readable, but the last append failed: {reason}"), false);
            }
        }
        (_, Some(reason)) => {
            fault(Part::Journal, format!("the stream and the projections have diverged: {reason}"), false);
        }
        (Ok(Err(error)), None) => fault(Part::Journal, error.to_string(), false),
        (Err(_), None) => fault(Part::Journal, timed_out(), false),
    }
    match checkpoint {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => fault(Part::Projections, error.to_string(), !ledger.projections.is_ready()),
        Err(_) => fault(Part::Projections, timed_out(), !ledger.projections.is_ready()),
    }
    match ledger.projections.projector() {
        None | Some(ProjectorStatus::Following | ProjectorStatus::Standby) => {}
        Some(ProjectorStatus::Starting) => fault(Part::Projector, "starting".into(), true),
        Some(ProjectorStatus::Building(at)) => {
            fault(Part::Projector, format!("rebuilding the projections, now at {at}"), true);
        }
        Some(ProjectorStatus::Waiting(reason)) => fault(Part::Projector, reason, false),
        Some(ProjectorStatus::Stopped(reason)) => fault(Part::Projector, reason.to_string(), false),
    }
    faults
}

/// Renders all metrics in the Prometheus text format, for clients that may read everything of every tenant. Series of
/// retired tenants are left out.
async fn metrics(State(app): State<Arc<App>>, Extension(sent): Extension<Sent>) -> Result<Response, Problem> {
    access::check_reads_everything(&app, &sent)?;
    let ledgers = app.ledgers.all();
    let updates = ledgers.iter().map(|(tenant, ledger)| set_gauges(tenant, ledger));
    futures::future::join_all(updates).await;
    process::set_gauges();
    let rendered = app.metrics.render();
    // Read after the metrics: a tenant may be retired meanwhile.
    let text = without_tenants(rendered, &app.ledgers.retired());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Sets the gauges of a tenant's journal, and the lag of its projections from the position that was last seen: while the
/// projections are unavailable, the lag grows. [`refresh_gauges`](crate::refresh_gauges) sets what Postgres has to
/// answer.
async fn set_gauges(tenant: &TenantName, ledger: &Ledger) {
    let head = timeout(PROBE_TIMEOUT, ledger.journal.head()).await.ok().and_then(Result::ok);
    if let Ok(Ok(config_drift)) = timeout(PROBE_TIMEOUT, ledger.journal.config_drift()).await {
        gauge!("ledger_stream_fits", "tenant" => tenant.to_string()).set(f64::from(config_drift.is_empty()));
    }
    let is_up = f64::from(head.is_some());
    gauge!("ledger_up", "tenant" => tenant.to_string(), "part" => "journal").set(is_up);
    // Without the head, the lag is unknown: the gauges keep their last values.
    let Some(head) = head else { return };
    gauge!("ledger_head_position", "tenant" => tenant.to_string()).set(head.position.get() as f64);
    if let Some(projections) = ledger.projections.last_seen() {
        let lag = head.position.get().saturating_sub(projections.get());
        gauge!("ledger_projections_lag_entries", "tenant" => tenant.to_string()).set(lag as f64);
    }
}
