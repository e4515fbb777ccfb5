//! Extraction of JSON request bodies; each error names the member that is wrong.

use std::fmt::Display;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// Maximum size of a JSON body, in bytes.
const BODY_LIMIT: usize = 256 << 10;

/// Extractor of an `application/json` body.
pub(crate) struct ValidJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ValidJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let essence = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if essence.split(';').next().unwrap_or_default().trim() != "application/json" {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send application/json"));
        }
        let bytes = read(request.into_body(), BODY_LIMIT).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let kind = if error.is_data() { Kind::InvalidBody } else { Kind::InvalidJson };
            Problem::new(kind, error)
        })
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(body: axum::body::Body, limit: usize) -> Result<Bytes, Problem> {
    to_bytes(body, limit).await.map_err(|error| {
        let too_large = std::error::Error::source(&error).is_some_and(|cause| cause.is::<LengthLimitError>());
        if too_large {
            Problem::new(Kind::TooLarge, format!("the body exceeds {limit} bytes"))
        } else {
            Problem::new(Kind::IncompleteBody, "cannot read the whole request body; send the request again")
        }
    })
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
