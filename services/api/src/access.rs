//! Authentication and authorisation of requests.
//!
//! [`authenticate`] finds out who sends a request, before anything else reads it. A handler reaches a ledger only through
//! [`Authorized`], whose type states the verb. `tests/api/access/matrix.rs` fails for a route that its table does not have.

mod authenticator;
mod authorized;
mod browser;
mod credentials;
mod events;
mod follower;
mod handlers;
mod reads;
pub(crate) mod sessions;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ledger_domain::Principal;

pub(crate) use authenticator::count_authentication;
pub use authenticator::{Authenticator, ProxySettings};
pub(crate) use authorized::{
    AskGate, Authorized, HandleQuarantine, ManageSubscriptions, ReadEnvironment, ReadHistory, ReadSome,
    SendEvents, StartRollback, Tenancy, check_reads_everything,
};
pub use follower::AccessFollower;
pub(crate) use handlers::{
    __path_explain_access, __path_list_grants, __path_list_tenants, __path_list_tokens, __path_who_am_i,
};
pub(crate) use handlers::{explain_access, list_grants, list_tenants, list_tokens, principal_body, who_am_i};
pub(crate) use reads::{__path_list_reads, list_reads};

use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::rates::Rates;
use crate::too_many::too_many;
use crate::{App, health_paths, page_paths};
use browser::authenticate_browser;

/// Mode of authentication.
#[derive(Debug)]
pub enum Authentication {
    /// It does not: every client may do everything.
    Off,
    /// It does.
    Required(Arc<Authenticator>),
}

/// The sender of a request: an extension of every request that needs credentials. `None` without authentication.
#[derive(Debug, Clone)]
pub(crate) struct Sent(pub(crate) Option<Arc<Principal>>);

/// Returns true for paths that anyone may read, since they show nothing of any ledger, and for webhooks, whose handler
/// authenticates them.
fn is_public(path: &str) -> bool {
    (health_paths::is_health(path) && path != health_paths::METRICS)
        || path == "/openapi.json"
        || path.starts_with("/docs")
        || path.starts_with("/schemas/")
        || path.starts_with("/v1/hooks/")
}

/// Middleware that authenticates the sender of a request. The cookie of a session counts for pages only.
pub(crate) async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_public(path) || (app.pages.is_some() && page_paths::is_public_page(path)) {
        return next.run(request).await;
    }
    let sender = match &app.authentication {
        Authentication::Off => None,
        Authentication::Required(authenticator) => {
            let address = request.extensions().get::<Peer>().map(|peer| peer.counted());
            let headers = request.headers();
            let pages = app.pages.as_ref().filter(|_| page_paths::is_page(path));
            let authenticated = match pages.filter(|_| !authenticator.has_credentials(headers)) {
                None => authenticate_sender(&app.rates, authenticator, headers, address).await,
                Some(pages) => {
                    let head = (request.method(), request.uri(), headers);
                    authenticate_browser(&app.rates, authenticator, pages, head, address).await
                }
            };
            match authenticated {
                Ok(principal) => Some(Arc::new(principal)),
                Err(response) => return *response,
            }
        }
    };
    let sent = Sent(sender);
    request.extensions_mut().insert(sent.clone());
    let mut response = next.run(request).await;
    // For the access log.
    response.extensions_mut().insert(sent);
    response
}

/// Authenticates a sender. The token of an issuer is not verified for an address that has failed too often.
async fn authenticate_sender(
    rates: &Rates,
    authenticator: &Authenticator,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<Principal, Box<Response>> {
    // A request without credentials is no attempt.
    let address = address.filter(|_| authenticator.has_credentials(headers));
    let check_failures = || {
        let excess = address.and_then(|address| rates.check_failures(address).err());
        excess.map_or(Ok(()), |excess| Err(Box::new(too_many(&excess))))
    };
    // Clients behind a proxy share its address. Right credentials that are cheap to check are accepted in any case.
    if !authenticator.is_cheap(headers) {
        check_failures()?;
    }
    match authenticator.authenticate(headers).await {
        Ok(principal) => Ok(principal),
        Err(problem) => {
            check_failures()?;
            let response = challenge(problem);
            if let Some(address) = address.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
                rates.add_failure(address);
            }
            Err(Box::new(response))
        }
    }
}

/// Adds the header that RFC 9110, section 15.5.2, requires of a response 401.
fn challenge(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"release-ledger\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// Returns the problem of a principal that no grant allows to do something.
fn forbidden(principal: &Principal, question: impl std::fmt::Display) -> Problem {
    let detail = format!(
        "no grant allows {} {} ({}): {question}; an administrator can add one with release-ledger grant add",
        principal.kind, principal.name, principal.subject
    );
    Problem::new(Kind::Forbidden, detail)
}
