//! Sign-in and sign-out of people with a browser.
//!
//! A person signs in with an issuer, by the authorization code flow (`ledger_access::oidc::SignIn`), or with an API token.
//! Each sign-in begins a new session, whose secret is in a cookie. A sign-in that is in progress is in a cookie of the
//! browser only: nothing is stored before a person is authenticated. No page here needs a session.

mod pending;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use ledger_access::SessionSecret;
use ledger_access::oidc::{AuthorizationResponse, SignInError};
use ledger_pages::IssuerLink;
use serde::Deserialize;

use crate::access::sessions::{Session, Sessions};
use crate::access::{Authentication, Authenticator, Sent, count_authentication};
use crate::budget::FREE_BYTES;
use crate::form::read_form;
use crate::pages::html;
use crate::pages_settings::Pages;
use crate::parameters::StrictQuery;
use crate::peer::Peer;
use crate::problem::{Problem, path_not_found};
use crate::too_many::too_many;
use crate::{App, Shared, cookies, page_paths};

use self::pending::PendingSignIn;

/// Maximum size of the form of the sign-in, in bytes. Strangers send it: it must not use up the budget of the bodies.
const FORM_LIMIT: usize = FREE_BYTES;

/// Returns the router of the sign-in and the sign-out.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route(page_paths::SIGN_IN, get(show_sign_in).post(sign_in_with_token))
        .route(page_paths::CALLBACK, get(complete_sign_in))
        .route("/signin/{number}", get(begin_sign_in))
        .route(page_paths::SIGN_OUT, post(sign_out))
}

/// Query of the pages that begin a sign-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInQuery {
    /// Path and query of the page to which the sign-in leads.
    to: Option<String>,
}

impl SignInQuery {
    fn target(&self) -> &str {
        page_paths::target(self.to.as_deref().unwrap_or("/"))
    }
}

/// Form of the sign-in with an API token. It has no `Debug` output: the token is a secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    token: String,
    to: Option<String>,
}

/// Parts of the service that a sign-in uses.
struct SignInContext<'a> {
    app: &'a App,
    pages: &'a Pages,
    sessions: &'a Sessions,
    authenticator: &'a Authenticator,
}

impl<'a> SignInContext<'a> {
    /// Returns them; `None` if the service authenticates no one, so that there is no session.
    fn of(app: &'a App) -> Option<Self> {
        let pages = app.pages.as_ref()?;
        let sessions = pages.sessions.as_ref()?;
        match &app.authentication {
            Authentication::Required(authenticator) => Some(Self { app, pages, sessions, authenticator }),
            Authentication::Off => None,
        }
    }

    /// Returns the page on which people sign in, with the reason if a sign-in failed.
    fn page(&self, status: StatusCode, to: &str, failure: Option<&str>) -> Response {
        let sign_ins = self.pages.sign_ins.iter().enumerate();
        let links: Vec<_> =
            sign_ins.map(|(number, sign_in)| IssuerLink { name: sign_in.issuer(), number }).collect();
        html(ledger_pages::sign_in(&links, to, failure)).map(|page| (status, page)).into_response()
    }

    /// Returns the page after a failed sign-in. A failure that is not temporary counts as one of the address.
    fn failed(&self, error: &SignInError, to: &str, address: Option<IpAddr>) -> Response {
        let status = if error.is_temporary() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            self.add_failure(address);
            StatusCode::BAD_REQUEST
        };
        self.page(status, to, Some(&format!("Sign-in failed: {error}.")))
    }

    fn add_failure(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.app.rates.add_failure(address);
        }
    }

    /// Returns the response to an address with too many failures; `None` for any other.
    fn check_failures(&self, address: Option<IpAddr>) -> Option<Response> {
        self.app.rates.check_failures(address?).err().map(|excess| too_many(&excess))
    }

    /// Begins a session with a new secret, ends the one that the browser had, and redirects to a page.
    async fn begin_session(
        &self,
        session: Session,
        headers: &HeaderMap,
        to: &str,
    ) -> Result<Response, Problem> {
        let meter = self.app.rates.meter(&session.principal);
        let _in_progress = match self.app.rates.admit(&meter, false) {
            Ok(in_progress) => in_progress,
            Err(excess) => return Ok(too_many(&excess)),
        };
        let secret = self.sessions.begin(&session).await?;
        if let Some(former) = cookies::read(headers, cookies::SESSION).and_then(SessionSecret::parse) {
            // If this fails, the former session ends at its time: the browser has lost its secret.
            let _ = self.sessions.end(&former, false).await;
        }
        let mut response = Redirect::to(page_paths::target(to)).into_response();
        let cookie = cookies::set(cookies::SESSION, secret.expose(), self.sessions.seconds());
        cookies::append(&mut response, cookie);
        // For the access log.
        response.extensions_mut().insert(Sent(Some(Arc::new(session.principal))));
        Ok(response)
    }
}

/// Returns the address for which failures are counted.
fn counted(peer: Option<Extension<Peer>>) -> Option<IpAddr> {
    peer.map(|Extension(peer)| peer.counted())
}

/// Shows the page on which people sign in.
async fn show_sign_in(State(app): State<Shared>, StrictQuery(query): StrictQuery<SignInQuery>) -> Response {
    match SignInContext::of(&app) {
        Some(context) => context.page(StatusCode::OK, query.target(), None),
        None => Redirect::to("/").into_response(),
    }
}

/// Redirects a browser to the issuer with a number: its place among the issuers of the settings.
async fn begin_sign_in(
    State(app): State<Shared>,
    Path(number): Path<String>,
    uri: Uri,
    StrictQuery(query): StrictQuery<SignInQuery>,
) -> Response {
    let Some(context) = SignInContext::of(&app) else { return Redirect::to("/").into_response() };
    let number = number.parse::<usize>().ok();
    let found = number.and_then(|number| context.pages.sign_ins.get(number));
    let Some(sign_in) = found else { return path_not_found(uri).await.into_response() };
    match sign_in.begin().await {
        Ok((url, attempt)) => {
            let mut response = Redirect::to(&url).into_response();
            let issuer = sign_in.issuer().to_owned();
            let pending = PendingSignIn { issuer, attempt, to: query.target().to_owned() };
            let cookie = cookies::set(cookies::SIGN_IN, &pending.expose(), PendingSignIn::SECONDS);
            cookies::append(&mut response, cookie);
            response
        }
        Err(error) => context.failed(&error, query.target(), None),
    }
}

/// Handles the authorization response of an issuer, and removes the secrets of the sign-in, which are for one response,
/// from the browser. A response to another sign-in, of another tab or sent by another site, leaves them.
async fn complete_sign_in(
    State(app): State<Shared>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    received: Result<Query<AuthorizationResponse>, QueryRejection>,
) -> Response {
    let Some(context) = SignInContext::of(&app) else { return Redirect::to("/").into_response() };
    let received = received.ok().map(|Query(received)| received);
    let pending = cookies::read(&headers, cookies::SIGN_IN).and_then(PendingSignIn::parse);
    let is_to_another = pending.as_ref().is_some_and(|pending| {
        received.as_ref().is_none_or(|received| !received.belongs_to(&pending.attempt))
    });
    let mut response = complete(&context, counted(peer), &headers, pending, received).await;
    if !is_to_another {
        cookies::append(&mut response, cookies::remove(cookies::SIGN_IN));
    }
    response
}

/// Completes a sign-in, and begins a session.
async fn complete(
    context: &SignInContext<'_>,
    address: Option<IpAddr>,
    headers: &HeaderMap,
    pending: Option<PendingSignIn>,
    received: Option<AuthorizationResponse>,
) -> Response {
    let Some(pending) = pending else {
        let at = context.pages.url.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
        let failure = format!(
            "Sign-in failed: it took longer than ten minutes, or it began in another browser or at another address of \
             this service. Begin again{at}."
        );
        return context.page(StatusCode::BAD_REQUEST, "/", Some(&failure));
    };
    let failed = |error: &SignInError| context.failed(error, &pending.to, address);
    let Some(received) = received else { return failed(&SignInError::OtherSignIn) };
    let Some(sign_in) = context.pages.sign_in_with(&pending.issuer) else {
        return failed(&SignInError::OtherIssuer);
    };
    // Each authorization response may cause a request to the issuer.
    if let Some(too_many) = context.check_failures(address) {
        return too_many;
    }
    let completed = sign_in.complete(&pending.attempt, &received).await;
    count_authentication(completed.is_ok());
    match completed {
        Ok(principal) => {
            let session = Session { principal, token: None };
            context
                .begin_session(session, headers, &pending.to)
                .await
                .unwrap_or_else(|problem| problem.into_response())
        }
        Err(error) => failed(&error),
    }
}

/// Begins a session for the owner of an API token.
async fn sign_in_with_token(
    State(app): State<Shared>,
    peer: Option<Extension<Peer>>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(context) = SignInContext::of(&app) else { return Ok(Redirect::to("/").into_response()) };
    let headers = request.headers().clone();
    let form: TokenForm = read_form(&app, request, FORM_LIMIT, "token and, if given, to").await?;
    let to = page_paths::target(form.to.as_deref().unwrap_or("/"));
    let problem = match context.authenticator.sign_in_with_token(form.token.trim()) {
        Ok(session) => return context.begin_session(session, &headers, to).await,
        Err(problem) => problem.into_body(),
    };
    if problem.status != StatusCode::UNAUTHORIZED.as_u16() {
        return Err(problem.into());
    }
    let address = counted(peer);
    if let Some(too_many) = context.check_failures(address) {
        return Ok(too_many);
    }
    context.add_failure(address);
    let failure = format!("Sign-in failed: {}.", problem.detail);
    Ok(context.page(StatusCode::UNAUTHORIZED, to, Some(&failure)))
}

/// Ends the session of a browser on all processes. A wrong cookie counts as a failure of the address, as on a page.
async fn sign_out(
    State(app): State<Shared>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(context) = SignInContext::of(&app) else { return Ok(Redirect::to("/").into_response()) };
    let mut response = Redirect::to(page_paths::SIGN_IN).into_response();
    if let Some(text) = cookies::read(&headers, cookies::SESSION) {
        let address = counted(peer);
        let is_suspicious = address.is_some_and(|address| app.rates.check_failures(address).is_err());
        let has_ended = match SessionSecret::parse(text) {
            // If this fails, the browser keeps the secret: the person can sign out again.
            Some(secret) => context.sessions.end(&secret, is_suspicious).await?,
            None => false,
        };
        if !has_ended {
            match context.check_failures(address) {
                Some(too_many) => response = too_many,
                None => context.add_failure(address),
            }
        }
    }
    cookies::append(&mut response, cookies::remove(cookies::SESSION));
    Ok(response)
}
