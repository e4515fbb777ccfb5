//! Paths of the pages for browsers.

use axum::http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Path of the page on which people sign in.
pub(crate) const SIGN_IN: &str = "/signin";
/// Path to which the issuers send browsers back.
pub(crate) const CALLBACK: &str = "/signin/callback";
/// Path that ends a session.
pub(crate) const SIGN_OUT: &str = "/signout";

/// Maximum length of the path and query to which a sign-in redirects, in bytes.
const MAX_TARGET: usize = 2_000;

/// Returns true for the paths of pages.
pub(crate) fn is_page(path: &str) -> bool {
    matches!(path, "/" | "/t" | SIGN_IN | SIGN_OUT) || path.starts_with("/t/") || path.starts_with("/signin/")
}

/// Returns true for the paths of pages, and of what they load, that need no session.
pub(crate) fn is_public_page(path: &str) -> bool {
    matches!(path, SIGN_IN | SIGN_OUT) || path.starts_with("/signin/") || path.starts_with("/assets/")
}

/// Returns the path of the sign-in that redirects back to a page.
pub(crate) fn sign_in(page: &Uri) -> String {
    let page = page.path_and_query().map_or("/", |page| page.as_str());
    match target(page) {
        "/" => SIGN_IN.to_owned(),
        page => format!("{SIGN_IN}?to={}", utf8_percent_encode(page, NON_ALPHANUMERIC)),
    }
}

/// Returns the path and query to which a sign-in redirects: the given one if it is a path of this service, or else `/`.
/// Other texts could send a browser to another site (an open redirect).
pub(crate) fn target(text: &str) -> &str {
    let is_path = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
    let is_safe = text.len() <= MAX_TARGET && text.bytes().all(|byte| byte.is_ascii_graphic());
    let path = text.split(['?', '#']).next().unwrap_or_default();
    // The pages of the sign-in itself are no target.
    if is_path && is_safe && !is_public_page(path) { text } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_the_root_tenants_and_the_sign_in() {
        for path in ["/", "/t", "/t/default", "/t/default/events/1", "/signin", "/signin/0", "/signout"] {
            assert!(is_page(path), "{path}");
        }
        for path in ["", "/v1/whoami", "/tx", "/signinx", "/signout/", "/metrics", "/docs", "/assets/0/a.css"]
        {
            assert!(!is_page(path), "{path}");
        }
    }

    #[test]
    fn only_the_sign_in_the_sign_out_and_assets_need_no_session() {
        for path in ["/signin", "/signin/0", "/signin/callback", "/signout", "/assets/0/pages.css"] {
            assert!(is_public_page(path), "{path}");
        }
        for path in ["/", "/t", "/t/default", "/assets", "/signinx", "/v1/whoami"] {
            assert!(!is_public_page(path), "{path}");
        }
    }

    #[test]
    fn a_sign_in_leads_to_paths_of_this_service_only() {
        for path in ["/", "/t/default", "/t/default/environments/production?at=-1", "/t/a%2Fb?x=//y"] {
            assert_eq!(target(path), path);
        }
        let long = format!("/t/{}", "x".repeat(MAX_TARGET));
        for wrong in [
            "",
            "t/default",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/t\r\nSet-Cookie: a=b",
            "/t/a b",
            "/t/\u{e9}",
            "/signin?to=/t",
            "/signout",
            &long,
        ] {
            assert_eq!(target(wrong), "/", "{wrong:?}");
        }
    }

    #[test]
    fn the_page_is_one_parameter_of_the_sign_in() {
        let of = |page: &str| sign_in(&page.parse().expect("a path"));
        assert_eq!(of("/"), "/signin");
        assert_eq!(of("/t/a?at=1&known_at=2"), "/signin?to=%2Ft%2Fa%3Fat%3D1%26known%5Fat%3D2");
        assert_eq!(of("//evil.example/"), "/signin");
    }
}
