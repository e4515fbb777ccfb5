//! Credentials of a request: one `Authorization` header.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::problem::{Kind, Problem};

/// Returns the token of a request: that of the scheme `Bearer` (RFC 6750), or the password of the scheme `Basic`, so that
/// a URL can contain it. Tokens in the query string are not accepted: they end up in logs.
pub(super) fn token(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| {
        unauthorized(
            "the request has no credentials; send Authorization: Bearer <token> (commands: --token-file, \
         RELEASE_LEDGER_TOKEN or a context)",
        )
    })?;
    if values.next().is_some() {
        return Err(unauthorized("the request has several Authorization headers"));
    }
    of_header(value).ok_or_else(|| {
        unauthorized("the Authorization header must be: Bearer <token>, or Basic with it as password")
    })
}

fn of_header(value: &HeaderValue) -> Option<String> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned()).filter(|token| !token.is_empty());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(password.to_owned()).filter(|token| !token.is_empty())
}

pub(super) fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).expect("a header value"));
        }
        token(&headers).ok()
    }

    #[test]
    fn a_token_is_a_bearer_token_or_a_password() {
        assert_eq!(of(&[b"Bearer a.b.c"]).as_deref(), Some("a.b.c"));
        assert_eq!(of(&[b"bearer x"]).as_deref(), Some("x"));
        assert_eq!(of(&[b"Basic Y2k6czpjcmV0"]).as_deref(), Some("s:cret"));
    }

    #[test]
    fn anything_else_is_no_credential() {
        let wrong: [&[&[u8]]; 9] = [
            &[],
            &[b""],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b"Digest x"],
            &[b"Bearer a", b"Bearer a"],
            &[b"Basic ???"],
            &[b"Basic Y2k="],
            &[b"Bearer \xff"],
        ];
        for values in wrong {
            assert_eq!(of(values), None, "{values:?}");
        }
    }
}
