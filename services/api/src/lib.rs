//! HTTP API of the ledger: one router and one table of problems.
//!
//! Invariants: only `problem` maps errors to status codes; every error body is `application/problem+json`; every
//! response that reads the projections carries the position that it reflects.

mod backtests;
mod bodies;
mod body;
mod bulk;
mod clocks;
mod environments;
mod event_result;
mod gate;
mod gauges;
mod health;
mod history;
mod horizon;
mod ingest;
mod openapi;
mod parameters;
mod plans;
mod problem;
mod rollbacks;
mod server;
mod stream;
mod targets;
mod tenant;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use ledger_domain::TenantName;
use ledger_ingest::Ingest;
use ledger_journal::SharedJournal;
use ledger_projections::Projections;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;

pub use gauges::refresh_gauges;
pub use openapi::document;
pub use problem::Kind as ProblemKind;
pub use server::serve;

/// Handles of one tenant's ledger.
pub struct Ledger {
    /// Write path: records events and rollback requests.
    pub ingest: Ingest,
    /// Read models that answer queries.
    pub projections: Projections,
    /// Stream of entries.
    pub journal: SharedJournal,
    /// Returns the current time.
    pub clock: fn() -> DateTime<Utc>,
}

/// Number of whole-history queries that run at once. Each holds a database connection while it runs, and ingest needs
/// connections too.
pub const MAX_HISTORY_SCANS: usize = 2;

/// Time limit of a GET request: the longest wait for a position plus the statement timeout of the database. A request
/// exceeds it only if the database stops during a statement and the connection does not report that.
const GET_TIMEOUT: Duration = Duration::from_secs(65);

/// State that all handlers share.
pub struct App {
    /// Ledgers by tenant.
    pub ledgers: BTreeMap<TenantName, Ledger>,
    /// Renders the response of `/metrics`.
    pub metrics: PrometheusHandle,
    /// Limits of a request.
    pub limits: Limits,
    /// Permits of whole-history queries; see [`MAX_HISTORY_SCANS`].
    pub history_scans: Semaphore,
    /// Cancelled at shutdown: ends responses that have no end of their own.
    pub shutdown: CancellationToken,
}

/// Limits above which the API rejects a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a batch (`application/cloudevents-batch+json`).
    pub batch_bytes: usize,
    /// Events in one request, in any content mode.
    pub events: usize,
    /// Longest pause of a client in the middle of a request, or between two requests on one connection.
    pub read_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_bytes: 16 << 20, events: 50_000, read_timeout: Duration::from_secs(30) }
    }
}

type Shared = Arc<App>;

fn ledger_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(ingest::post_events, history::list_events))
        .routes(routes!(history::get_event))
        .routes(routes!(history::get_position))
        .routes(routes!(clocks::list_clock_skews))
        .routes(routes!(environments::list_environments))
        .routes(routes!(environments::get_state))
        .routes(routes!(environments::get_diff))
        .routes(routes!(plans::list_points))
        .routes(routes!(plans::get_point))
        .routes(routes!(plans::get_policy))
        .routes(routes!(gate::evaluate_gate))
        .routes(routes!(backtests::backtest_policy))
        .routes(routes!(horizon::get_horizon))
        .routes(routes!(rollbacks::request_rollback))
        .routes(routes!(rollbacks::list_rollbacks))
        .routes(routes!(rollbacks::get_rollback))
        .routes(routes!(stream::follow_rollbacks))
        .routes(routes!(targets::get_manifest))
        .routes(routes!(targets::get_drift))
        .routes(routes!(targets::get_targets))
}

/// Returns the router of the API, its documentation, health and metrics.
pub fn router(app: Arc<App>) -> Router {
    let (api, document) = openapi::split(ledger_routes());
    with_middleware(api.merge(health::router()).merge(openapi::docs(document)), app)
}

/// Returns the router of health and metrics only, for a process without the role `http`.
pub fn health_router(app: Arc<App>) -> Router {
    with_middleware(health::router(), app)
}

fn with_middleware(routes: Router<Shared>, app: Arc<App>) -> Router {
    routes
        .fallback(problem::path_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn(time_out_gets))
        .layer(RequestBodyTimeoutLayer::new(app.limits.read_timeout))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        // Handlers log their own failures once, with the cause.
        .layer(TraceLayer::new_for_http().on_failure(()))
        .with_state(app)
}

/// Aborts a GET request after [`GET_TIMEOUT`]. Other methods have no limit: they may record events.
async fn time_out_gets(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let timed_out = |_| {
        let detail = format!("the query timed out after {GET_TIMEOUT:?}; retry it");
        Problem::new(ProblemKind::ProjectionsUnavailable, detail).into_response()
    };
    tokio::time::timeout(GET_TIMEOUT, next.run(request)).await.unwrap_or_else(timed_out)
}
