//! Extraction of JSON request bodies; each error names the member that is wrong.

use std::fmt::Display;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use ledger_codec::cloudevents::{Reason, check_secrets};
use serde::de::DeserializeOwned;

use crate::App;
use crate::budget::{ByteBudget, Share};
use crate::problem::{Kind, Problem};
use crate::request_body::TooSlow;

/// Maximum size of a JSON body, in bytes.
const BODY_LIMIT: usize = 256 << 10;

/// Extractor of an `application/json` body. A body with a secret is rejected first: the errors of its members may quote
/// them.
pub(crate) struct ValidJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for ValidJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        if media_type(request.headers()) != "application/json" {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send application/json"));
        }
        let (head, body) = request.into_parts();
        let body = read(&app.bounds.bodies, &head.headers, body, BODY_LIMIT).await?;
        reject_secrets(&body.bytes)?;
        serde_json::from_slice(&body.bytes).map(Self).map_err(|error| {
            let kind = if error.is_data() { Kind::InvalidBody } else { Kind::InvalidJson };
            Problem::new(kind, error)
        })
    }
}

/// Rejects a body that contains a secret, with its place.
pub(crate) fn reject_secrets(body: &[u8]) -> Result<(), Problem> {
    check_secrets(body).map_err(|reason| match reason {
        Reason::Value { pointer, detail } => Problem::member(&pointer, detail),
        other => Problem::from(&other),
    })
}

/// Returns the media type of a body in lower case and without parameters; empty if it has none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A whole body, counted in the budget of bodies until it is dropped.
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    _share: Share,
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(
    budget: &Arc<ByteBudget>,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<WholeBody, Problem> {
    let too_large = || Problem::new(Kind::TooLarge, format!("the body exceeds {limit} bytes"));
    // Reading the body asks the client to send it (RFC 9110, section 10.1.1).
    if headers.contains_key(header::EXPECT) && body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut share = budget.share();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| unreadable(&error))?.into_data() else { continue };
        if bytes.len() + chunk.len() > limit {
            return Err(too_large());
        }
        share.resize(bytes.len() + chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(WholeBody { bytes: bytes.freeze(), _share: share })
}

/// Maps the failure to read a body to a problem.
pub(crate) fn unreadable(error: &axum::Error) -> Problem {
    if is_too_slow(error) {
        return Problem::new(Kind::BodyTooSlow, "the body arrives too slowly; send the request again");
    }
    Problem::new(Kind::IncompleteBody, "cannot read the whole request body; send the request again")
}

/// Returns true if a body ended because its client sent it too slowly.
pub(crate) fn is_too_slow(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Maps a parse error to a problem that names the body member at `pointer`.
pub(crate) fn parsed_member<T, E: Display>(pointer: &str, parsed: Result<T, E>) -> Result<T, Problem> {
    parsed.map_err(|error| Problem::member(pointer, error))
}

/// Parses JSON that the codec wrote; a failure is an internal inconsistency.
pub(crate) fn encoded_value(json: &[u8]) -> Result<serde_json::Value, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        Problem::from(ledger_projections::Error::Inconsistent {
            table: "events",
            row: "of a policy".into(),
            detail: error.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn media_type_of(content_type: &'static str) -> String {
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
        media_type(&headers.into_iter().collect())
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        assert_eq!(media_type_of("Application/JSON ; Charset=utf-8"), "application/json");
        assert_eq!(media_type(&HeaderMap::new()), "");
    }

    async fn read_chunks(budget: &Arc<ByteBudget>, chunks: &[usize], limit: usize) -> Result<usize, u16> {
        let chunks: Vec<_> = chunks.iter().map(|length| Ok::<_, TooSlow>(vec![b'x'; *length])).collect();
        let body = Body::from_stream(futures::stream::iter(chunks));
        let whole = read(budget, &HeaderMap::new(), body, limit).await;
        whole.map(|whole| whole.bytes.len()).map_err(|problem| problem.into_body().status)
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let budget = ByteBudget::new("bodies", 1 << 20);

        assert_eq!(read_chunks(&budget, &[3, 4], 7).await, Ok(7));
        assert_eq!(read_chunks(&budget, &[3, 5], 7).await, Err(413));
    }

    #[tokio::test]
    async fn a_body_is_refused_when_the_bodies_of_all_requests_take_too_much_memory() {
        let budget = ByteBudget::new("bodies", 1 << 20);
        let mut others = budget.share();
        others.resize(1 << 20).expect("room");

        assert_eq!(read_chunks(&budget, &[10_000], 1 << 20).await, Ok(10_000));
        assert_eq!(read_chunks(&budget, &[10_000, 40_000], 1 << 20).await, Err(503));
        drop(others);
        assert_eq!(read_chunks(&budget, &[10_000, 40_000], 1 << 20).await, Ok(50_000));
    }

    #[tokio::test]
    async fn a_body_that_arrives_too_slowly_times_out() {
        let body = Body::from_stream(futures::stream::iter([Ok(vec![1]), Err(TooSlow)]));
        let budget = ByteBudget::new("bodies", 0);

        let read = read(&budget, &HeaderMap::new(), body, 10).await;

        assert_eq!(read.err().map(|problem| problem.into_body().status), Some(408));
    }
}
