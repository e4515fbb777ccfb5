//! Whether the service lives, is ready, and how it fares.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ledger_domain::TenantName;
use ledger_domain::drift::{drift, uneven};
use ledger_views::{AskError, Status, When};
use metrics::gauge;
use serde_json::json;
use tracing::warn;

use crate::problem::{Kind, Problem};
use crate::{App, Ledger, Shared};

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// The process answers.
async fn livez() -> Json<serde_json::Value> {
    Json(json!({"status": "alive"}))
}

/// Every tenant's journal and views answer, and its projector follows.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let mut faults = BTreeMap::new();
    for (tenant, ledger) in &app.ledgers {
        for (part, fault) in faults_of(ledger).await {
            faults.insert(format!("{tenant}: {part}"), fault);
        }
    }
    if faults.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    let faults: Vec<String> = faults.iter().map(|(part, fault)| format!("{part}: {fault}")).collect();
    Problem::new(Kind::NotReady, faults.join("; ")).into_response()
}

async fn faults_of(ledger: &Ledger) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let Err(error) = ledger.journal.head().await {
        faults.push(("journal", error.to_string()));
    }
    if let Err(error) = ledger.views.standing().await {
        faults.push(("views", error.to_string()));
    }
    match ledger.projector.as_ref().map(|status| status.borrow().clone()) {
        None | Some(Status::Following) => {}
        Some(Status::Starting) => faults.push(("projector", "it is starting".into())),
        Some(Status::Waiting(reason)) => faults.push(("projector", reason)),
        Some(Status::Stopped(reason)) => faults.push(("projector", reason.to_string())),
    }
    faults
}

/// Prometheus' text format.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    for (tenant, ledger) in &app.ledgers {
        // Where the views do not answer, `ledger_up` says so.
        if let Err(error) = count_drift(tenant, ledger).await {
            warn!(%tenant, %error, "drift cannot be told");
        }
        let (head, standing) = (ledger.journal.head().await, ledger.views.standing().await);
        if let Ok(misfit) = ledger.journal.misfit().await {
            gauge!("ledger_stream_fits", "tenant" => tenant.to_string()).set(f64::from(misfit.is_empty()));
        }
        // A part that does not answer keeps its last value, and is down in `ledger_up`.
        gauge!("ledger_up", "tenant" => tenant.to_string(), "part" => "journal").set(f64::from(head.is_ok()));
        gauge!("ledger_up", "tenant" => tenant.to_string(), "part" => "views")
            .set(f64::from(standing.is_ok()));
        if let Ok(head) = &head {
            gauge!("ledger_head_position", "tenant" => tenant.to_string()).set(head.position.get() as f64);
        }
        if let (Ok(head), Ok(standing)) = (head, standing) {
            let lag = head.position.get().saturating_sub(standing.position.get());
            gauge!("ledger_views_lag_entries", "tenant" => tenant.to_string()).set(lag as f64);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response()
}

/// For each environment: the lanes in which something else was seen than the ledger says, and the services
/// that do not run the same at each target.
async fn count_drift(tenant: &TenantName, ledger: &Ledger) -> Result<(), AskError> {
    let (_, environments) = ledger.views.environments().await?;
    let mut snapshot = ledger.views.snapshot().await?;
    for environment in environments {
        let state = snapshot.state(&environment.name, When::LATEST).await?;
        let composition = state.composition();
        let seen = snapshot.observations(&environment.name).await?;
        let labels = || [("tenant", tenant.to_string()), ("environment", environment.name.to_string())];
        gauge!("ledger_drift_lanes", &labels()).set(drift(&state.into_lanes(), &seen).len() as f64);
        gauge!("ledger_uneven_services", &labels()).set(uneven(&composition).len() as f64);
    }
    Ok(())
}
