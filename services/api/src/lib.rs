//! HTTP API of the ledger: one router and one table of problems.
//!
//! Invariants: only `problem` maps errors to status codes; every error body is `application/problem+json`; every
//! response that reads the projections carries the position that it reflects.

mod access;
mod access_log;
mod active_freezes;
mod answers;
mod backtests;
mod bodies;
mod body;
mod broker;
mod budget;
mod bulk;
mod bulk_results;
mod check_counts;
mod client_schemas;
mod clocks;
mod conditional;
mod conditions;
mod connection;
mod connections;
mod cookies;
mod deploy_frequency;
mod entry;
mod entry_feed;
mod environments;
mod event_components;
mod event_message;
mod event_result;
mod feed_entry;
mod foreign;
mod form;
mod freezes;
mod gate;
mod gauges;
mod health;
mod health_paths;
mod history;
mod hooks;
mod horizon;
mod host;
mod ingest;
mod ledgers;
mod limits;
mod openapi;
mod overview;
mod pace;
mod paced_stream;
mod page_paths;
mod pages;
mod pages_settings;
mod parameter_schemas;
mod parameters;
mod peer;
mod plans;
mod point_parameters;
mod problem;
mod problem_responses;
mod process;
mod quarantine;
mod rates;
mod read_log;
mod recording;
mod request_body;
mod request_id;
mod request_stats;
mod retired_series;
mod rollbacks;
mod same_origin;
mod schemas;
mod security_headers;
mod server;
mod sign_in;
mod stream;
mod subscriptions;
mod targets;
mod tenant;
mod throttle;
mod tls;
mod too_many;
mod word_schemas;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn_with_state;
use ledger_adapters::cdevents;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use access::sessions::Sessions;
pub use access::{AccessFollower, Authentication, Authenticator, ProxySettings};
pub use broker::BrokerReceiver;
pub use entry::entry_json;
pub use gauges::{refresh_gauges, refresh_quarantine_gauges};
pub use health::HealthCheck;
pub use hooks::TenantWebhook;
pub use host::{AllowedHosts, InvalidHost};
pub use ledgers::{Ledger, LedgerMap, Ledgers};
pub use limits::{Bounds, Limits};
pub use openapi::document;
pub use pages_settings::Pages;
pub use problem::Kind as ProblemKind;
pub use rates::{RateLimits, Rates};
pub use read_log::{ReadLog, ReadLogSettings};
pub use server::{open_connections, serve};
pub use tls::{Tls, TlsError, TlsFiles};

/// Number of whole-history queries that run at once. Each holds a database connection while it runs, and ingest needs
/// connections too.
pub const MAX_HISTORY_SCANS: usize = 2;

/// State that all handlers share.
pub struct App {
    /// Ledgers by tenant.
    pub ledgers: Ledgers,
    /// Renders the response of `/metrics`.
    pub metrics: PrometheusHandle,
    /// Limits of requests, answers and connections.
    pub limits: Limits,
    /// Resources that all requests share, each with its bound.
    pub bounds: Bounds,
    /// Counts of requests and events for each principal.
    pub rates: Rates,
    /// Mode of authentication of clients.
    pub authentication: Authentication,
    /// Log of the reads of the history; `None` without authentication.
    pub read_log: Option<Arc<ReadLog>>,
    /// Webhooks that the service accepts, by name.
    pub hooks: BTreeMap<String, TenantWebhook>,
    /// Settings for reading CDEvents.
    pub cdevents: cdevents::Settings,
    /// Hosts by which clients may reach the service.
    pub allowed_hosts: AllowedHosts,
    /// True if clients reach the service over TLS only, its own or that of a proxy: browsers must not use plain HTTP.
    pub is_encrypted: bool,
    /// Parts of the process beside the ledgers, which its readiness reports.
    pub checks: Vec<Arc<dyn HealthCheck>>,
    /// Pages for browsers; `None`: the service has none.
    pub pages: Option<Pages>,
    /// Permits of whole-history queries; see [`MAX_HISTORY_SCANS`].
    pub history_scans: Semaphore,
}

type Shared = Arc<App>;

fn ledger_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(ingest::post_events, history::list_events))
        .routes(routes!(stream::follow_events))
        .routes(routes!(history::get_event))
        .routes(routes!(history::get_original))
        .routes(routes!(history::get_position))
        .routes(routes!(clocks::list_clock_skews))
        .routes(routes!(environments::list_environments))
        .routes(routes!(overview::get_overview))
        .routes(routes!(overview::find_release))
        .routes(routes!(deploy_frequency::get_deploy_frequency))
        .routes(routes!(freezes::list_freezes))
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
        .routes(routes!(quarantine::list_quarantine))
        .routes(routes!(quarantine::get_quarantined))
        .routes(routes!(quarantine::retry_quarantined))
        .routes(routes!(quarantine::discard_quarantined))
        .routes(routes!(subscriptions::list_subscriptions))
        .routes(routes!(subscriptions::get_subscription))
        .routes(routes!(subscriptions::list_deliveries))
}

/// Routes of the service as a whole, which belong to no tenant.
fn service_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(access::who_am_i))
        .routes(routes!(access::list_tokens))
        .routes(routes!(access::list_grants))
        .routes(routes!(access::list_tenants))
        .routes(routes!(access::list_reads))
        .routes(routes!(access::explain_access))
        .routes(routes!(hooks::deliver_webhook))
}

/// Returns the router of the API, its documentation, health, metrics, and pages.
pub fn router(app: Arc<App>) -> Router {
    let (api, document) = openapi::split(ledger_routes());
    let mut routes = api.clone().merge(health::router()).merge(openapi::docs(document));
    if app.pages.is_some() {
        let api = api.fallback(problem::path_not_found).with_state(Arc::clone(&app));
        routes = routes.merge(pages::routes(api)).merge(sign_in::routes());
    }
    with_middleware(routes, app)
}

/// Returns the router of health and metrics only, for a process without the role `http`.
pub fn health_router(app: Arc<App>) -> Router {
    with_middleware(health::router(), app)
}

fn with_middleware(routes: Router<Shared>, app: Arc<App>) -> Router {
    routes
        .fallback(problem::path_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), limits::time_out_questions))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(Arc::clone(&app), answers::bound_answers))
        .layer(from_fn_with_state(Arc::clone(&app), throttle::limit_rates))
        .layer(from_fn_with_state(Arc::clone(&app), access::authenticate))
        .layer(from_fn_with_state(Arc::clone(&app), same_origin::check_origin))
        .layer(from_fn_with_state(Arc::clone(&app), host::check_host))
        .layer(from_fn_with_state(Arc::clone(&app), pages::show_problems))
        .layer(from_fn_with_state(Arc::clone(&app), security_headers::add_to_answer))
        // An answer is about a moment, unless its handler says otherwise.
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(from_fn_with_state(Arc::clone(&app), access_log::log_access))
        // Handlers log their own failures once, with the cause.
        .layer(TraceLayer::new_for_http().make_span_with(access_log::span).on_failure(()))
        .with_state(app)
}

#[cfg(test)]
mod tests;
