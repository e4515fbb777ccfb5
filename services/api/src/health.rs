//! Whether the service lives, what of it is ready, and how it fares.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ledger_domain::TenantName;
use ledger_domain::drift::{drift, uneven};
use ledger_projections::{AsOf, QueryError, Status};
use metrics::gauge;
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;

use crate::problem::{Kind, Problem};
use crate::{App, Ledger, Shared};

/// How long a part may take to answer before it is told to be away: those who probe do not wait long.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/readyz/ingest", get(ready_for_ingest))
        .route("/readyz/questions", get(ready_for_questions))
        .route("/metrics", get(metrics))
}

/// The process answers.
async fn livez() -> Json<serde_json::Value> {
    Json(json!({"status": "alive"}))
}

/// A part of a tenant's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The stream: without it nothing comes in.
    Journal,
    /// The read models: without them no question is answered.
    Projections,
    /// What folds the one into the other: without it answers grow old.
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

/// What is wrong with a part.
struct Fault {
    tenant: TenantName,
    part: Part,
    detail: String,
    /// It was never well since the process began.
    since_the_beginning: bool,
}

impl Fault {
    fn told(&self) -> String {
        format!("{}: {}: {}", self.tenant, self.part.name(), self.detail)
    }
}

/// A process is ready as soon as it was once able to do all that it is for. What all processes share may be away
/// later: that is told, and is no reason to send requests nowhere; those that can be served are.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let faults = faults(&app).await;
    let useless = |tenant: &TenantName| {
        let of = |part| faults.iter().any(|fault| fault.tenant == *tenant && fault.part == part);
        of(Part::Journal) && of(Part::Projections)
    };
    if faults.iter().any(|fault| fault.since_the_beginning) || app.ledgers.keys().any(useless) {
        return not_ready(&faults);
    }
    if faults.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    let told: Vec<String> = faults.iter().map(Fault::told).collect();
    Json(json!({"status": "degraded", "faults": told})).into_response()
}

/// Every tenant's journal answers: events are taken in.
async fn ready_for_ingest(State(app): State<Arc<App>>) -> Response {
    ready_for(&app, Part::Journal).await
}

/// Every tenant's projections answer.
async fn ready_for_questions(State(app): State<Arc<App>>) -> Response {
    ready_for(&app, Part::Projections).await
}

async fn ready_for(app: &App, part: Part) -> Response {
    let mut faults = faults(app).await;
    faults.retain(|fault| fault.part == part);
    if faults.is_empty() { Json(json!({"status": "ready"})).into_response() } else { not_ready(&faults) }
}

fn not_ready(faults: &[Fault]) -> Response {
    let detail: Vec<String> = faults.iter().map(Fault::told).collect();
    Problem::new(Kind::NotReady, detail.join("; ")).into_response()
}

async fn faults(app: &App) -> Vec<Fault> {
    let of_each = app.ledgers.iter().map(|(tenant, ledger)| faults_of(tenant, ledger));
    futures::future::join_all(of_each).await.into_iter().flatten().collect()
}

async fn faults_of(tenant: &TenantName, ledger: &Ledger) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |part, detail: String, since_the_beginning| {
        faults.push(Fault { tenant: tenant.clone(), part, detail, since_the_beginning });
    };
    let silent = || format!("no answer within {PATIENCE:?}");
    let (head, standing) = tokio::join!(
        timeout(PATIENCE, ledger.journal.head()),
        timeout(PATIENCE, ledger.projections.checkpoint())
    );
    match (head, ledger.projections.divergence()) {
        (Ok(Ok(_)), None) => {
            if let Some(reason) = ledger.ingest.recent_append_failure() {
                fault(Part::Journal, format!("it answers, and took no event lately: {reason}"), false);
            }
        }
        (_, Some(reason)) => {
            fault(Part::Journal, format!("it is not the one that the projections are of: {reason}"), false);
        }
        (Ok(Err(error)), None) => fault(Part::Journal, error.to_string(), false),
        (Err(_), None) => fault(Part::Journal, silent(), false),
    }
    match standing {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => fault(Part::Projections, error.to_string(), !ledger.projections.is_ready()),
        Err(_) => fault(Part::Projections, silent(), !ledger.projections.is_ready()),
    }
    match ledger.projections.projector() {
        None | Some(Status::Following | Status::Standby) => {}
        Some(Status::Starting) => fault(Part::Projector, "it is starting".into(), true),
        Some(Status::Building(at)) => {
            fault(Part::Projector, format!("it fills new projections, up to {at} so far"), true);
        }
        Some(Status::Waiting(reason)) => fault(Part::Projector, reason, false),
        Some(Status::Stopped(reason)) => fault(Part::Projector, reason.to_string(), false),
    }
    faults
}

/// Prometheus' text format.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let of_each = app.ledgers.iter().map(|(tenant, ledger)| measure(tenant, ledger));
    futures::future::join_all(of_each).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response()
}

/// Tells how a tenant's ledger fares now. A part that does not answer is down in `ledger_up`.
async fn measure(tenant: &TenantName, ledger: &Ledger) {
    let (drift, head, standing) = tokio::join!(
        timeout(PATIENCE, count_drift(tenant, ledger)),
        timeout(PATIENCE, ledger.journal.head()),
        timeout(PATIENCE, ledger.projections.checkpoint())
    );
    if let Ok(Err(error)) = drift {
        warn!(%tenant, %error, "drift cannot be told");
    }
    let (head, standing) = (head.ok().and_then(Result::ok), standing.ok().and_then(Result::ok));
    if let Ok(Ok(config_drift)) = timeout(PATIENCE, ledger.journal.config_drift()).await {
        gauge!("ledger_stream_fits", "tenant" => tenant.to_string()).set(f64::from(config_drift.is_empty()));
    }
    let up = |part| gauge!("ledger_up", "tenant" => tenant.to_string(), "part" => part);
    up("journal").set(f64::from(head.is_some()));
    up("projections").set(f64::from(standing.is_some()));
    // Without its end, how far the journal is ahead is not known: what was known last stays.
    let Some(head) = head else { return };
    gauge!("ledger_head_position", "tenant" => tenant.to_string()).set(head.position.get() as f64);
    // Projections that are away fall behind from where they were last seen.
    let projections = standing.map(|standing| standing.position).or_else(|| ledger.projections.last_seen());
    if let Some(projections) = projections {
        let lag = head.position.get().saturating_sub(projections.get());
        gauge!("ledger_projections_lag_entries", "tenant" => tenant.to_string()).set(lag as f64);
    }
}

/// For each environment: the lanes in which something else was seen than the ledger says, and the services
/// that do not run the same at each target.
async fn count_drift(tenant: &TenantName, ledger: &Ledger) -> Result<(), QueryError> {
    let (_, environments) = ledger.projections.environments().await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    for environment in environments {
        let state = snapshot.state(&environment.name, AsOf::LATEST).await?;
        let composition = state.composition();
        let seen = snapshot.observations(&environment.name).await?;
        let labels = || [("tenant", tenant.to_string()), ("environment", environment.name.to_string())];
        gauge!("ledger_drift_lanes", &labels()).set(drift(&state.into_lanes(), &seen).len() as f64);
        gauge!("ledger_uneven_services", &labels()).set(uneven(&composition).len() as f64);
    }
    Ok(())
}
