//! Sign-in and sign-out of people with a browser.
//!
//! A person signs in with an issuer, by the authorization code flow (`ledger_access::oidc::SignIn`), or with an API token.
//! Each sign-in begins a new session, whose secret is in a cookie. A sign-in that is in progress is in a cookie of the
//! browser only: nothing is stored before a person is authenticated. No page here needs a session.

mod form;
mod pending;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use ledger_access::SessionSecret;
use ledger_access::oidc::{AuthorizationAnswer, SignInError};
use ledger_pages::IssuerLink;
use serde::Deserialize;
use tracing::error;

use crate::access::sessions::{Session, Sessions};
use crate::access::{Authentication, Authenticator, Sent, count_authentication};
use crate::pages_settings::Pages;
use crate::parameters::StrictQuery;
use crate::peer::Peer;
use crate::problem::{Kind, Problem, path_not_found};
use crate::too_many::too_many;
use crate::{App, Shared, cookies, page_paths};

use self::form::read_form;
use self::pending::Pending;

/// Returns the router of the sign-in and the sign-out.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route(page_paths::SIGN_IN, get(show_sign_in).post(sign_in_with_token))
        .route(page_paths::CALLBACK, get(complete_sign_in))
        .route("/signin/{number}", get(begin_sign_in))
        .route(page_paths::SIGN_OUT, post(sign_out))
}

/// Parameters of the pages that begin a sign-in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// Path and query of the page to which the sign-in leads.
    to: Option<String>,
}

impl Begin {
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

/// What a sign-in needs of the service.
struct Parts<'a> {
    app: &'a App,
    pages: &'a Pages,
    sessions: &'a Sessions,
    authenticator: &'a Authenticator,
}

impl<'a> Parts<'a> {
    /// Returns the parts; `None` if the service authenticates no one, so that there is no session.
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
        match ledger_pages::sign_in(&links, to, failure) {
            Ok(page) => (status, Html(page)).into_response(),
            Err(error) => {
                error!(%error, "page not rendered");
                Problem::new(Kind::Internal, "the page cannot be rendered; the service log has the cause")
                    .into_response()
            }
        }
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

    /// Returns the answer to an address that has failed too often; `None` if it has not.
    fn refusal(&self, address: Option<IpAddr>) -> Option<Response> {
        self.app.rates.check_failures(address?).err().map(|excess| too_many(&excess))
    }

    /// Begins a session with a new secret, ends the one that the browser had, and leads to a page.
    async fn enter(&self, session: Session, headers: &HeaderMap, to: &str) -> Result<Response, Problem> {
        let meter = self.app.rates.meter(&session.principal);
        let _in_progress = match self.app.rates.admit(&meter, false) {
            Ok(in_progress) => in_progress,
            Err(excess) => return Ok(too_many(&excess)),
        };
        let secret = self.sessions.begin(&session).await?;
        if let Some(former) = cookies::read(headers, cookies::SESSION).and_then(SessionSecret::parse) {
            // If this fails, it ends at its time, and no browser has its secret any more.
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

/// Returns the address by which failures are counted.
fn counted(peer: Option<Extension<Peer>>) -> Option<IpAddr> {
    peer.map(|Extension(peer)| peer.counted())
}

/// Shows the page on which people sign in.
async fn show_sign_in(State(app): State<Shared>, StrictQuery(begin): StrictQuery<Begin>) -> Response {
    match Parts::of(&app) {
        Some(parts) => parts.page(StatusCode::OK, begin.target(), None),
        None => Redirect::to("/").into_response(),
    }
}

/// Sends a browser to an issuer, with the number of the issuer in the settings.
async fn begin_sign_in(
    State(app): State<Shared>,
    Path(number): Path<String>,
    uri: Uri,
    StrictQuery(begin): StrictQuery<Begin>,
) -> Response {
    let Some(parts) = Parts::of(&app) else { return Redirect::to("/").into_response() };
    let number = number.parse::<usize>().ok();
    let found = number.and_then(|number| parts.pages.sign_ins.get(number));
    let Some(sign_in) = found else { return path_not_found(uri).await.into_response() };
    match sign_in.begin().await {
        Ok((url, attempt)) => {
            let mut response = Redirect::to(&url).into_response();
            let issuer = sign_in.issuer().to_owned();
            let pending = Pending { issuer, attempt, to: begin.target().to_owned() };
            let cookie = cookies::set(cookies::SIGN_IN, &pending.expose(), Pending::SECONDS);
            cookies::append(&mut response, cookie);
            response
        }
        Err(error) => parts.failed(&error, begin.target(), None),
    }
}

/// Takes the answer of an issuer. The secrets of the sign-in are removed from the browser: each is for one answer. An
/// answer to another sign-in, of another tab or sent by another site, leaves them.
async fn complete_sign_in(
    State(app): State<Shared>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    answer: Result<Query<AuthorizationAnswer>, QueryRejection>,
) -> Response {
    let Some(parts) = Parts::of(&app) else { return Redirect::to("/").into_response() };
    let answer = answer.ok().map(|Query(answer)| answer);
    let pending = cookies::read(&headers, cookies::SIGN_IN).and_then(Pending::parse);
    let is_to_another = pending
        .as_ref()
        .is_some_and(|pending| answer.as_ref().is_none_or(|answer| !answer.belongs_to(&pending.attempt)));
    let mut response = complete(&parts, counted(peer), &headers, pending, answer).await;
    if !is_to_another {
        cookies::append(&mut response, cookies::remove(cookies::SIGN_IN));
    }
    response
}

/// Completes a sign-in, and begins a session.
async fn complete(
    parts: &Parts<'_>,
    address: Option<IpAddr>,
    headers: &HeaderMap,
    pending: Option<Pending>,
    answer: Option<AuthorizationAnswer>,
) -> Response {
    let Some(pending) = pending else {
        let at = parts.pages.url.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
        let failure = format!(
            "Sign-in failed: it took longer than ten minutes, or it began in another browser or at another address of \
             this service. Begin again{at}."
        );
        return parts.page(StatusCode::BAD_REQUEST, "/", Some(&failure));
    };
    let failed = |error: &SignInError| parts.failed(error, &pending.to, address);
    let Some(answer) = answer else { return failed(&SignInError::OtherSignIn) };
    let Some(sign_in) = parts.pages.sign_in_with(&pending.issuer) else {
        return failed(&SignInError::OtherIssuer);
    };
    // Each answer may cost a request to the issuer.
    if let Some(refusal) = parts.refusal(address) {
        return refusal;
    }
    let completed = sign_in.complete(&pending.attempt, &answer).await;
    count_authentication(completed.is_ok());
    match completed {
        Ok(principal) => {
            let session = Session { principal, token: None };
            parts.enter(session, headers, &pending.to).await.unwrap_or_else(|problem| problem.into_response())
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
    let Some(parts) = Parts::of(&app) else { return Ok(Redirect::to("/").into_response()) };
    let headers = request.headers().clone();
    let form: TokenForm = read_form(&app, request).await?;
    let to = page_paths::target(form.to.as_deref().unwrap_or("/"));
    let problem = match parts.authenticator.sign_in_with_token(form.token.trim()) {
        Ok(session) => return parts.enter(session, &headers, to).await,
        Err(problem) => problem.into_body(),
    };
    if problem.status != StatusCode::UNAUTHORIZED.as_u16() {
        return Err(problem.into());
    }
    let address = counted(peer);
    if let Some(refusal) = parts.refusal(address) {
        return Ok(refusal);
    }
    parts.add_failure(address);
    let failure = format!("Sign-in failed: {}.", problem.detail);
    Ok(parts.page(StatusCode::UNAUTHORIZED, to, Some(&failure)))
}

/// Ends the session of a browser on all processes. A wrong cookie counts as a failure of the address, as on a page.
async fn sign_out(
    State(app): State<Shared>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(parts) = Parts::of(&app) else { return Ok(Redirect::to("/").into_response()) };
    let mut response = Redirect::to(page_paths::SIGN_IN).into_response();
    if let Some(text) = cookies::read(&headers, cookies::SESSION) {
        let address = counted(peer);
        let is_suspicious = address.is_some_and(|address| app.rates.check_failures(address).is_err());
        let has_ended = match SessionSecret::parse(text) {
            // If this fails, the browser keeps the secret, with which the person can try again.
            Some(secret) => parts.sessions.end(&secret, is_suspicious).await?,
            None => false,
        };
        if !has_ended {
            match parts.refusal(address) {
                Some(refusal) => response = refusal,
                None => parts.add_failure(address),
            }
        }
    }
    cookies::append(&mut response, cookies::remove(cookies::SESSION));
    Ok(response)
}
