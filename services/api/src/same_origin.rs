//! Protection of pages against forms of other sites (cross-site request forgery).
//!
//! A form of another site could make a browser with a session act for that site. Browsers say where a request comes from:
//! `Sec-Fetch-Site`, which scripts cannot change, or `Origin` where that is not sent. A request that says neither is
//! rejected.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::App;
use crate::page_paths::is_page;
use crate::problem::{Kind, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Rejects requests to pages that may change something and do not come from a page of this service.
pub(crate) async fn check_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_safe = [Method::GET, Method::HEAD].contains(request.method());
    if app.pages.is_none()
        || is_safe
        || !is_page(request.uri().path())
        || is_same_origin(request.headers(), app.is_encrypted)
    {
        return next.run(request).await;
    }
    let detail = "the request does not come from a page of this service; open the page and send its form again. A proxy \
                  must pass Host, Origin and Sec-Fetch-Site on unchanged";
    Problem::new(Kind::Forbidden, detail).into_response()
}

/// Returns true if a request comes from a page of the host to which it was sent. `is_encrypted`: pages of this service are
/// reached over TLS only.
fn is_same_origin(headers: &HeaderMap, is_encrypted: bool) -> bool {
    if headers.contains_key(SEC_FETCH_SITE) {
        return single(headers, SEC_FETCH_SITE) == Some("same-origin");
    }
    let origin = single(headers, header::ORIGIN);
    let origin = origin.and_then(|origin| match origin.strip_prefix("https://") {
        None if !is_encrypted => origin.strip_prefix("http://"),
        host => host,
    });
    match (origin, single(headers, header::HOST)) {
        (Some(origin), Some(host)) => !origin.is_empty() && origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Returns the value of a header that is sent once.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn accepts(headers: &[(&'static str, &'static str)], is_encrypted: bool) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        is_same_origin(&map, is_encrypted)
    }

    const HOST: (&str, &str) = ("host", "ledger.example:8080");

    #[test]
    fn a_form_of_the_same_origin_is_accepted() {
        for headers in [
            [HOST, ("sec-fetch-site", "same-origin")],
            [HOST, ("origin", "http://ledger.example:8080")],
            [HOST, ("origin", "https://LEDGER.example:8080")],
        ] {
            assert!(accepts(&headers, false), "{headers:?}");
        }
    }

    #[test]
    fn a_form_of_another_site_or_of_an_unknown_one_is_rejected() {
        let same = ("origin", "http://ledger.example:8080");
        let rejected: [&[_]; 13] = [
            &[HOST],
            &[same],
            &[HOST, ("sec-fetch-site", "same-site")],
            &[HOST, ("sec-fetch-site", "cross-site")],
            &[HOST, ("sec-fetch-site", "none")],
            // The browser's own word counts, not the header that others could add.
            &[HOST, same, ("sec-fetch-site", "cross-site")],
            &[HOST, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[HOST, ("origin", "null")],
            &[HOST, ("origin", "http://evil.example")],
            &[HOST, ("origin", "http://ledger.example")],
            &[HOST, ("origin", "http://ledger.example:8080.evil.example")],
            &[HOST, same, same],
            &[("host", ""), ("origin", "http://")],
        ];
        for headers in rejected {
            assert!(!accepts(headers, false), "{headers:?}");
        }
    }

    #[test]
    fn a_plain_page_is_another_origin_than_an_encrypted_one() {
        assert!(accepts(&[HOST, ("origin", "https://ledger.example:8080")], true));
        assert!(!accepts(&[HOST, ("origin", "http://ledger.example:8080")], true));
    }
}
