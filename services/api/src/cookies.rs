//! Cookies of browsers.
//!
//! Their names begin with `__Host-`: browsers accept them only over TLS (or from this machine), with the path `/`, and
//! from no other host, so that a neighbouring site cannot set them.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

/// Cookie with the secret of a session.
pub(crate) const SESSION: &str = "__Host-release-ledger";
/// Cookie with the secrets of a sign-in that is in progress.
pub(crate) const SIGN_IN: &str = "__Host-release-ledger-sign-in";

/// Returns the value of a cookie; `None` if the request does not have it. A cookie that is sent twice, which browsers do
/// not do, has the empty value.
pub(crate) fn read<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs =
        headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let value = pair.trim_ascii_start().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(std::str::from_utf8(value).unwrap_or_default())
    });
    let value = values.next()?;
    Some(if values.next().is_none() { value } else { "" })
}

/// Returns the header that sets a cookie for a number of seconds. The value has letters, digits, `-`, `_` and `.` only.
pub(crate) fn set(name: &str, value: &str, seconds: i64) -> Option<HeaderValue> {
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut header = HeaderValue::try_from(cookie).ok()?;
    // Keeps the secret out of `Debug` output.
    header.set_sensitive(true);
    Some(header)
}

/// Returns the header that removes a cookie.
pub(crate) fn remove(name: &str) -> Option<HeaderValue> {
    set(name, "", 0)
}

/// Adds a header that sets or removes a cookie to a response.
pub(crate) fn append(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        read(&headers, SESSION).map(str::to_owned)
    }

    #[test]
    fn a_cookie_is_found_by_exactly_its_name() {
        assert_eq!(value(&["a=b; __Host-release-ledger=x; c=d"]).as_deref(), Some("x"));
        assert_eq!(value(&["a=b", "__Host-release-ledger=x"]).as_deref(), Some("x"));
        assert_eq!(value(&["__Host-release-ledger="]).as_deref(), Some(""));
        for other in [
            "",
            "__Host-release-ledger",
            "__Host-release-ledger-sign-in=x",
            "a=__Host-release-ledger=x",
            "__host-release-ledger=x",
            "release-ledger=x",
        ] {
            assert_eq!(value(&[other]), None, "{other}");
        }
    }

    #[test]
    fn a_cookie_that_is_sent_twice_has_neither_value() {
        assert_eq!(value(&["__Host-release-ledger=x; __Host-release-ledger=y"]).as_deref(), Some(""));
    }

    #[test]
    fn a_cookie_is_for_this_host_and_not_for_scripts_and_is_not_printed() {
        let header = set(SESSION, "secret", 60).expect("a header");
        assert_eq!(
            header.to_str().expect("ASCII"),
            "__Host-release-ledger=secret; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
        assert!(!format!("{header:?}").contains("secret"));
        assert!(
            remove(SESSION).expect("a header").to_str().expect("ASCII").contains("=; Path=/; Max-Age=0;")
        );
    }
}
