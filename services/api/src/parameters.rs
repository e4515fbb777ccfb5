//! Request parameters, the wait for a position, and the `Ledger-Position` response header.

use std::fmt::Display;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use ledger_domain::Position;
use ledger_projections::Waited;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::Ledger;
use crate::problem::{Kind, Problem};

/// Ledger position that a response reflects.
pub(crate) const LEDGER_POSITION: HeaderName = HeaderName::from_static("ledger-position");

/// Default and maximum of `wait_ms`.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Extractor of a query string. Its types deny unknown fields, so that a misspelt parameter is an error.
pub(crate) struct StrictQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match query {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::new(Kind::InvalidParameter, error.body_text())),
        }
    }
}

/// Query parameters of a request that has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// Query parameters that make a request wait for a position.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Wait until the projections have applied this position.
    pub(crate) wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    pub(crate) wait_ms: Option<String>,
}

pub(crate) fn parse<T, E: Display>(
    name: &str,
    text: &str,
    parse_text: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Problem> {
    parse_text(text).map_err(|error| Problem::parameter(name, error))
}

pub(crate) fn parse_optional<T, E: Display>(
    name: &str,
    text: Option<&str>,
    parse_text: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(name, text, parse_text)).transpose()
}

/// Parses names that are separated by commas; none if the parameter is absent.
pub(crate) fn parse_list<T, E: Display>(
    name: &str,
    text: Option<&str>,
    parse_name: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Problem> {
    let names = text.into_iter().flat_map(|text| text.split(','));
    names.map(|text| parse(name, text, &parse_name)).collect()
}

/// Parses a position: a whole number from 0 to the maximum of a Postgres `bigint`.
pub(crate) fn parse_position(text: &str) -> Result<Position, &'static str> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    number
        .map(|number| Position::new(number.unsigned_abs()))
        .ok_or("must be a position: a whole number, at least 0")
}

/// Waits until the projections have applied the position `wait_for`, for at most `wait_ms` milliseconds.
pub(crate) async fn wait_for_position(
    ledger: &Ledger,
    wait_for: Option<&str>,
    wait_ms: Option<&str>,
) -> Result<(), Problem> {
    let timeout =
        parse_optional("wait_ms", wait_ms, str::parse::<u64>)?.map_or(DEFAULT_WAIT, Duration::from_millis);
    if timeout > MAX_WAIT {
        return Err(Problem::parameter("wait_ms", "must be at most 30000"));
    }
    let Some(wanted) = parse_optional("wait_for", wait_for, parse_position)? else { return Ok(()) };
    match ledger.projections.wait_for(wanted, Duration::ZERO).await? {
        Waited::Reached => return Ok(()),
        Waited::StillAt(_) => {}
    }
    let head = ledger.journal.head().await?.position;
    if wanted > head {
        let detail = format!("cannot wait for position {wanted}: the ledger ends at {head}");
        return Err(Problem::new(Kind::PositionAhead, detail));
    }
    match ledger.projections.wait_for(wanted, timeout).await? {
        Waited::Reached => Ok(()),
        Waited::StillAt(projections) => Err(Problem::projections_behind(wanted, projections)),
    }
}

/// Adds the header `Ledger-Position` to a response.
pub(crate) fn with_position(position: Position, response: impl IntoResponse) -> Response {
    ([(LEDGER_POSITION, HeaderValue::from(position.get()))], response).into_response()
}
