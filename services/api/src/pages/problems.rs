//! Pages of problems.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use ledger_api_types::ProblemBody;
use ledger_domain::TenantName;
use ledger_pages::{Frame, RefusedForm};
use tracing::error;

use super::form::Typed;
use crate::access::Sent;
use crate::page_paths::is_page;
use crate::{App, cookies};

/// Maximum size of a problem, in bytes: it may contain a plan.
const MAX_PROBLEM_BYTES: usize = 32 << 20;

/// Returns true if a request has the cookie of a session, valid or not: a sign-out removes it.
pub(super) fn has_session(headers: &HeaderMap) -> bool {
    cookies::read(headers, cookies::SESSION).is_some()
}

/// Middleware that answers a request of a page with a page if its answer is a problem, of a handler or of other
/// middleware. Status and headers are those of the problem.
pub(crate) async fn show_problems(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.pages.is_none() || !is_page(request.uri().path()) {
        return next.run(request).await;
    }
    let tenant = tenant(request.uri().path());
    let form = form_page(request.uri().path()).filter(|_| request.method() == Method::POST);
    let can_sign_out = has_session(request.headers());
    let response = next.run(request).await;
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == b"application/problem+json");
    if is_problem { to_page(response, tenant.as_ref(), can_sign_out, form).await } else { response }
}

/// Returns the path of the page whose form is sent to this path; `None` if it receives no form.
fn form_page(path: &str) -> Option<String> {
    if !path.starts_with("/t/") {
        return None;
    }
    match path.strip_suffix("/vote") {
        Some(page) => Some(page.to_owned()),
        None => path.ends_with("/approvals").then(|| format!("{path}/new")),
    }
}

/// Returns the tenant in the path of a page; `None` if it names none.
fn tenant(path: &str) -> Option<TenantName> {
    let name = path.strip_prefix("/t/")?.split('/').next()?;
    TenantName::parse_any(name).ok()
}

/// Returns the page of a problem. `form` is the path of the page whose form has the problem: what its sender typed is
/// known only after the form is read.
async fn to_page(
    response: Response,
    tenant: Option<&TenantName>,
    can_sign_out: bool,
    form: Option<String>,
) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_PROBLEM_BYTES).await else {
        head.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(head, Body::empty());
    };
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let Ok(problem) = serde_json::from_slice::<ProblemBody>(&bytes) else {
        // The answer to HEAD has no body, and the headers of the page.
        if bytes.is_empty() {
            head.headers.remove(header::CONTENT_LENGTH);
            head.headers.insert(header::CONTENT_TYPE, html);
        }
        return Response::from_parts(head, Body::from(bytes));
    };
    let sender = head.extensions.get::<Sent>().and_then(|Sent(sender)| sender.clone());
    let frame = Frame {
        tenant: tenant.map(TenantName::as_str),
        reader: sender.as_deref().map(|sender| sender.name.as_str()),
        can_sign_out,
        ..Frame::default()
    };
    let unread = form.map(|page| Typed { page, reason: String::new() });
    let typed = head.extensions.get::<Typed>().or(unread.as_ref());
    let form = typed.map(|typed| RefusedForm { page: &typed.page, reason: &typed.reason });
    let page = ledger_pages::failure(&frame, head.status.as_u16(), &problem.title, &problem.detail, form);
    match page {
        Ok(page) => {
            head.headers.remove(header::CONTENT_LENGTH);
            head.headers.insert(header::CONTENT_TYPE, html);
            Response::from_parts(head, Body::from(page))
        }
        Err(error) => {
            error!(%error, "page not rendered");
            Response::from_parts(head, Body::from(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_sent_below_the_path_of_its_page_or_beside_it() {
        let page = |path| form_page(path).unwrap_or_default();

        assert_eq!(page("/t/shop/rollbacks/a%2Fvote/vote"), "/t/shop/rollbacks/a%2Fvote");
        assert_eq!(page("/t/shop/approvals"), "/t/shop/approvals/new");
        for path in ["/signin", "/signout", "/t/shop", "/vote"] {
            assert_eq!(page(path), "", "{path}");
        }
    }

    #[test]
    fn the_tenant_of_a_page_is_the_first_part_of_its_path() {
        let name = |path| tenant(path).map(|tenant| tenant.to_string());

        assert_eq!(name("/t/shop/rollbacks/back-1"), Some("shop".to_owned()));
        assert_eq!(name("/t/shop"), Some("shop".to_owned()));
        for path in ["/", "/t", "/t/", "/t/%2e%2e/x", "/signin", "/v1/tenants/shop"] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
