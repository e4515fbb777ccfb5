//! HTML pages: what runs, rollbacks and approvals, for people with a browser.
//!
//! Invariants: a page requests the router of the API within the process, in the name of its own sender, and shows the
//! response: authorization, limits and meaning are those of the API. A form records one event, whose actor is the authenticated sender. A problem
//! becomes a page with the same status.

mod ask;
mod decisions;
mod form;
mod problems;
mod record;
mod tenant_page;
mod views;

use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::Shared;

pub(crate) use self::problems::show_problems;
pub(crate) use self::tenant_page::html;

use self::ask::InnerApi;

/// Returns the router of the pages and of their style sheet and icon. `api` is the router that they request: the routes of
/// the API with their state, without middleware, since the request of the page has passed it.
pub(crate) fn routes(api: Router) -> Router<Shared> {
    Router::new()
        .route("/", get(views::index))
        .route("/t/{tenant}", get(views::overview))
        .route("/t/{tenant}/environments/{environment}", get(views::environment))
        .route("/t/{tenant}/rollbacks", get(views::rollbacks))
        .route("/t/{tenant}/rollbacks/{rollback_id}", get(views::rollback))
        .route("/t/{tenant}/rollbacks/{rollback_id}/vote", post(decisions::vote))
        .route("/t/{tenant}/approvals", post(decisions::decide_release))
        .route("/t/{tenant}/approvals/new", get(views::approval))
        .route("/t/{tenant}/events/{position}", get(views::entry))
        .route(ledger_pages::style_path(), get(views::style))
        .route(ledger_pages::icon_path(), get(views::icon))
        .layer(Extension(InnerApi::new(api)))
}
