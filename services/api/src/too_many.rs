//! Answer to a request that exceeds a limit of its sender.

use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics::counter;

use crate::problem::{Kind, Problem};
use crate::rates::Excess;

/// Returns the answer to a request that exceeds a limit.
pub(crate) fn too_many(excess: &Excess) -> Response {
    counter!("ledger_http_refused_total", "bound" => excess.bound).increment(1);
    let seconds = seconds(excess.wait).max(1);
    let detail = format!("{}; retry in {seconds} s", excess.detail);
    let mut response = Problem::new(Kind::TooManyRequests, detail).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// Returns a duration in whole seconds, rounded up.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX)
}
