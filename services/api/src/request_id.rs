//! Id of a request: in its response, in the access log, and in the problem that it led to.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use ledger_codec::secrets;
use uuid::Uuid;

/// Header of every response, with the id of its request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Header with which a client or a proxy gives a request its id.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Header with the trace that a request belongs to (W3C Trace Context).
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Maximum length of an id that a client gives, in bytes.
const MAX_LENGTH: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Id of a request. It can be part of a URN and of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// Returns the id that the client gives a request, or else the id of its trace, or else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = single(headers, X_REQUEST_ID).filter(|id| is_valid(id));
        let trace = || single(headers, TRACE_PARENT).and_then(trace_id);
        given.or_else(trace).map_or_else(Self::generate, |id| Self(id.into()))
    }

    #[expect(clippy::disallowed_methods, reason = "generates the id of a request whose client gives none")]
    fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// Runs the handler of the request.
    pub(crate) async fn scope<T>(self, handler: impl Future<Output = T>) -> T {
        CURRENT.scope(self, handler).await
    }

    /// Returns the URN of the request that the current task handles; `None` outside of one.
    pub(crate) fn current_urn() -> Option<String> {
        CURRENT.try_with(|id| format!("urn:release-ledger:request:{}", id.0)).ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// A client that mistakes one header for another must not write a token to the log.
fn is_valid(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(is_allowed) && secrets::find(id).is_none()
}

/// Returns the id of a trace: `00-<32 digits>-<16 digits>-<2 digits>`, in lower case and not zero.
fn trace_id(header: &str) -> Option<&str> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut parts = header.split('-');
    let (version, id, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let is_trace =
        version.len() == 2 && id.len() == 32 && parent.len() == 16 && is_hex(version) && is_hex(id);
    (is_trace && id.bytes().any(|digit| digit != b'0')).then_some(id)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn id_of(headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        RequestId::of(&map).as_str().to_owned()
    }

    fn is_generated(id: &str) -> bool {
        Uuid::parse_str(id).is_ok_and(|id| id.get_version_num() == 7)
    }

    #[test]
    fn a_valid_id_is_kept_and_precedes_that_of_the_trace() {
        let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

        assert_eq!(id_of(&[("x-request-id", "run-4711_a.b:c"), trace]), "run-4711_a.b:c");
        assert_eq!(id_of(&[trace]), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(id_of(&[("x-request-id", "a b"), trace]), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn an_invalid_id_is_replaced() {
        let (long, token) = ("x".repeat(129), format!("ghp_{}", "a1B2".repeat(9)));
        for wrong in ["", "a b", "a\"b", "ä", "a/b", "<script>", &long, &token] {
            assert!(is_generated(&id_of(&[("x-request-id", wrong)])), "{wrong}");
        }
        assert!(is_generated(&id_of(&[("x-request-id", "a"), ("x-request-id", "b")])));
        for wrong in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "0af7651916cd43dd8448eb211c80319c",
        ] {
            assert!(is_generated(&id_of(&[("traceparent", wrong)])), "{wrong}");
        }
    }
}
