//! The ledger over HTTP: one router, one table of problems.
//!
//! Invariants: only `problem` knows status codes of errors; every error is
//! `application/problem+json`; every answer from the projections carries the position it is true for.

mod backtests;
mod body;
mod bulk;
mod clocks;
mod environments;
mod gate;
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

pub use openapi::document;
pub use problem::Kind as ProblemKind;
pub use server::serve;

/// One tenant's ledger, as the handlers see it.
pub struct Ledger {
    /// Where events come in.
    pub ingest: Ingest,
    /// Where questions are answered.
    pub projections: Projections,
    /// Where entries are.
    pub journal: SharedJournal,
    /// The time now.
    pub clock: fn() -> DateTime<Utc>,
}

/// Questions that read a whole history and are answered at a time: each holds a connection for as long, and
/// those who bring events need some too.
pub const LONG_QUESTIONS: usize = 2;

/// How long a question may take: as long as it may wait for a position, and its statement in the database. Longer
/// takes one that was under way when the database stopped, of which no connection tells.
const ANSWERED_WITHIN: Duration = Duration::from_secs(65);

/// What all handlers share.
pub struct App {
    /// The ledgers, by tenant.
    pub ledgers: BTreeMap<TenantName, Ledger>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Sizes above which a request is refused.
    pub limits: Limits,
    /// Questions that read a whole history, of which few are answered at a time.
    pub long_questions: Semaphore,
    /// Cancelled when the service ends: answers without an end end then.
    pub ending: CancellationToken,
}

/// Sizes above which a request is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a batch (`application/cloudevents-batch+json`).
    pub batch_bytes: usize,
    /// Events in one request, whatever its form.
    pub events: usize,
    /// How long a client may be silent in the middle of a body.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_bytes: 16 << 20, events: 50_000, silence: Duration::from_secs(30) }
    }
}

type Shared = Arc<App>;

fn questions_and_events() -> OpenApiRouter<Shared> {
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
        .routes(routes!(gate::ask_gate))
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

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let (api, document) = openapi::split(questions_and_events());
    finished(api.merge(health::router()).merge(openapi::docs(document)), app)
}

/// Only what tells how the process fares, for one that answers no questions.
pub fn health_router(app: Arc<App>) -> Router {
    finished(health::router(), app)
}

fn finished(routes: Router<Shared>, app: Arc<App>) -> Router {
    routes
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn(in_time))
        .layer(RequestBodyTimeoutLayer::new(app.limits.silence))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        // What failed here is logged where it failed, once, with its cause.
        .layer(TraceLayer::new_for_http().on_failure(()))
        .with_state(app)
}

/// Gives a question up that takes too long. What brings events is given its time.
async fn in_time(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let late = |_| {
        let detail = format!("there was no answer within {ANSWERED_WITHIN:?}");
        Problem::new(ProblemKind::ProjectionsUnavailable, detail).into_response()
    };
    tokio::time::timeout(ANSWERED_WITHIN, next.run(request)).await.unwrap_or_else(late)
}
