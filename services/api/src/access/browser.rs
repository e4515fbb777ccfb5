//! Authentication of browsers: by the session of a cookie, or else a redirect to the sign-in.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use ledger_access::SessionSecret;
use ledger_domain::Principal;

use super::authenticator::{Authenticator, count_authentication};
use super::credentials::unauthorized;
use crate::cookies;
use crate::page_paths;
use crate::pages_settings::Pages;
use crate::problem::Problem;
use crate::rates::Rates;
use crate::too_many::too_many;

/// Meaning of the text of a cookie.
enum Found {
    /// Secret of a session of this principal.
    Owner(Principal),
    /// Secret of a session that is not in force. Another process may know a newer token, so the browser keeps it.
    NotInForce,
    /// Secret of no session.
    Nothing,
}

/// Authenticates the sender of a request of a page by the cookie of a session. Without a session in force, it redirects to
/// the sign-in.
///
/// Clients behind a proxy share its address: a right secret is accepted even from an address with too many failures, and a
/// wrong one counts as a failure of its address.
pub(super) async fn authenticate_browser(
    rates: &Rates,
    authenticator: &Authenticator,
    pages: &Pages,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    address: Option<IpAddr>,
) -> Result<Principal, Box<Response>> {
    let Some(text) = cookies::read(headers, cookies::SESSION) else {
        return Err(Box::new(require_sign_in(method, uri)));
    };
    let check_failures = || address.map_or(Ok(()), |address| rates.check_failures(address));
    match find(authenticator, pages, text, check_failures().is_err()).await {
        Ok(Found::Owner(principal)) => {
            count_authentication(true);
            Ok(principal)
        }
        Ok(found) => {
            count_authentication(false);
            let is_wrong = matches!(found, Found::Nothing);
            let mut response = match check_failures() {
                Err(excess) if is_wrong => too_many(&excess),
                checked => {
                    if let (Ok(()), Some(address)) = (checked, address) {
                        rates.add_failure(address);
                    }
                    require_sign_in(method, uri)
                }
            };
            if is_wrong {
                // Also with 429: the next request is then redirected to the sign-in.
                cookies::append(&mut response, cookies::remove(cookies::SESSION));
            }
            Err(Box::new(response))
        }
        Err(problem) => Err(Box::new(problem.into_response())),
    }
}

/// Finds the session with this text as its secret.
async fn find(
    authenticator: &Authenticator,
    pages: &Pages,
    text: &str,
    is_suspicious: bool,
) -> Result<Found, Problem> {
    let (Some(sessions), Some(secret)) = (&pages.sessions, SessionSecret::parse(text)) else {
        return Ok(Found::Nothing);
    };
    let Some(session) = sessions.find(&secret, is_suspicious).await? else { return Ok(Found::Nothing) };
    let owner = authenticator.owner_of_session(session, |issuer| pages.has_issuer(issuer))?;
    Ok(owner.map_or(Found::NotInForce, Found::Owner))
}

/// Returns the answer to a browser without a session: a redirect, or 401 for a form, which a redirect would lose.
fn require_sign_in(method: &Method, uri: &Uri) -> Response {
    if [Method::GET, Method::HEAD].contains(method) {
        return Redirect::to(&page_paths::sign_in(uri)).into_response();
    }
    unauthorized("no session, or one that has ended: sign in, and send the form again").into_response()
}
