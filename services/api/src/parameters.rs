//! Parameters of requests, parsed; and what every answer from the projections has.

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

/// The position that an answer is true for.
pub(crate) const LEDGER_POSITION: HeaderName = HeaderName::from_static("ledger-position");

/// How long `wait_for` waits unless `wait_ms` says otherwise, and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// The query, of which nothing is left unread: a misspelt parameter must not be ignored.
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

/// How to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Wait until the projections have this position.
    pub(crate) wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    pub(crate) wait_ms: Option<String>,
}

pub(crate) fn parse<T, E: Display>(
    name: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Problem> {
    parse(text).map_err(|error| Problem::parameter(name, error))
}

pub(crate) fn maybe<T, E: Display>(
    name: &str,
    text: Option<&str>,
    parser: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(name, text, parser)).transpose()
}

/// A position: a whole number that Postgres can hold.
pub(crate) fn position(text: &str) -> Result<Position, &'static str> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    number
        .map(|number| Position::new(number.unsigned_abs()))
        .ok_or("must be a position: a whole number from 0 on")
}

/// Waits until the projections have the position that `wait_for` names.
pub(crate) async fn wait(
    ledger: &Ledger,
    wait_for: Option<&str>,
    wait_ms: Option<&str>,
) -> Result<(), Problem> {
    let patience =
        maybe("wait_ms", wait_ms, str::parse::<u64>)?.map(Duration::from_millis).unwrap_or(PATIENCE.0);
    if patience > PATIENCE.1 {
        return Err(Problem::parameter("wait_ms", "must be at most 30000"));
    }
    let Some(wanted) = maybe("wait_for", wait_for, position)? else { return Ok(()) };
    match ledger.projections.wait_for(wanted, Duration::ZERO).await? {
        Waited::Reached => return Ok(()),
        Waited::StillAt(_) => {}
    }
    let head = ledger.journal.head().await?.position;
    if wanted > head {
        let detail = format!("position {wanted} is waited for, and the ledger ends at {head}");
        return Err(Problem::new(Kind::PositionAhead, detail));
    }
    match ledger.projections.wait_for(wanted, patience).await? {
        Waited::Reached => Ok(()),
        Waited::StillAt(projections) => Err(Problem::projections_behind(wanted, projections)),
    }
}

/// An answer, with the position that it is true for.
pub(crate) fn at(position: Position, answer: impl IntoResponse) -> Response {
    ([(LEDGER_POSITION, HeaderValue::from(position.get()))], answer).into_response()
}
