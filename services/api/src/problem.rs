//! Every error as `application/problem+json` (RFC 9457): one table of kinds, one mapping.

use std::any::Any;
use std::fmt::Display;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ledger_codec::cloudevents::{Invalid, Reason};
use ledger_domain::rollback::Refused;
use ledger_domain::{EnvironmentName, Position};
use ledger_ingest::{GateError, PlanError, Refusal, Rejection, UnknownLane};
use ledger_journal::{AppendError, ReadError};
use ledger_projections::QueryError;
use serde::Serialize;
use tracing::{error, warn};
use utoipa::ToSchema;

use crate::plans::PlanBody;

macro_rules! kinds {
    ($($kind:ident = $status:literal $slug:literal $title:literal;)+) => {
        /// The kinds of problems. Their URNs are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $title] $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The problem's `type`.
            #[must_use]
            pub const fn urn(self) -> &'static str {
                match self { $(Self::$kind => concat!("urn:release-ledger:problem:", $slug),)+ }
            }

            /// The problem's `title`.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }

            /// The problem's `status`.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }
        }
    };
}

kinds! {
    InvalidParameter = 400 "invalid-parameter" "A parameter of the request is wrong";
    InvalidJson = 400 "invalid-json" "The body is not JSON";
    NotIJson = 400 "not-i-json" "The body is JSON that not every reader understands alike";
    BrokenBody = 400 "broken-body" "The body ended too early";
    PositionAhead = 400 "position-ahead" "The ledger has no such position yet";
    SelfApproval = 403 "self-approval" "People do not approve what they asked for themselves";
    NotAPerson = 403 "not-a-person" "Approvals are people's";
    LedgersOwn = 403 "ledgers-own" "Only the ledger itself says this";
    NoSuchPath = 404 "no-such-path" "There is nothing here";
    UnknownTenant = 404 "unknown-tenant" "There is no such tenant";
    UnknownEnvironment = 404 "unknown-environment" "No event ever named the environment";
    UnknownPosition = 404 "unknown-position" "The projections have no such position";
    NoSuchPoint = 404 "no-such-point" "There is no such release point";
    NoSuchRollback = 404 "no-such-rollback" "There is no such rollback";
    UnknownLane = 404 "unknown-lane" "The service or target never was in the environment";
    NoSuchChange = 404 "no-such-change" "The composition has not changed so often";
    NoSuchMethod = 405 "no-such-method" "This cannot be done here";
    IdentityConflict = 409 "identity-conflict" "Another event has the same identity";
    RollbackUnderWay = 409 "rollback-under-way" "Another rollback of the environment is under way";
    RollbackExists = 409 "rollback-exists" "There is a rollback of this name already";
    RollbackBlocked = 409 "rollback-blocked" "Something stands in the way of the rollback";
    RollbackLife = 409 "rollback-life" "The rollback is not where this step could follow";
    RollbackStartBlocked = 409 "rollback-start-blocked" "The environment is no longer as the plan needs it";
    RollbackStepBlocked = 409 "rollback-step-blocked" "The step must not be carried out as it is planned";
    PlanChanged = 409 "plan-changed" "The plan is another one now";
    NothingMarked = 409 "nothing-marked" "No mark stands on the point";
    NotRevoked = 409 "not-revoked" "The artifact is not revoked";
    FreezeMismatch = 409 "freeze-mismatch" "The freeze holds already, or does not hold";
    LostEntry = 410 "lost-entry" "The stream has lost the entry";
    EnvironmentMoved = 412 "environment-moved" "The environment has changed since";
    TooLarge = 413 "too-large" "The request is too large";
    UnsupportedMediaType = 415 "unsupported-media-type" "The body is of a type that is not taken here";
    UnknownEventType = 422 "unknown-event-type" "No event has this type";
    InvalidBody = 422 "invalid-body" "The body is not what is asked for here";
    InvalidPolicy = 422 "invalid-policy" "The policy contradicts itself";
    HistoryTooLong = 422 "history-too-long" "There is too much history for one answer";
    InvalidEvent = 422 "invalid-event" "The event is not well-formed";
    FromTheFuture = 422 "event-from-the-future" "The event says that it occurred in the future";
    Internal = 500 "internal" "Something went wrong here";
    Busy = 503 "busy" "Too much is being done at once";
    Unjudged = 503 "unjudged" "The request could not be judged now";
    OutOfTurn = 503 "out-of-turn" "An earlier event could not be recorded";
    JournalDiverged = 503 "journal-diverged" "The journal is not the one that was folded";
    JournalUnavailable = 503 "journal-unavailable" "The journal cannot be reached";
    ProjectionsUnavailable = 503 "projections-unavailable" "The projections cannot be reached";
    ProjectionsBehind = 503 "projections-behind" "The projections do not have the position yet";
    NotReady = 503 "not-ready" "The service is not ready";
    Closing = 503 "closing" "The service is shutting down";
    JournalFull = 507 "journal-full" "The journal has no room";
}

/// A problem, as RFC 9457 says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What kind of problem, as a URN that does not change.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened this time.
    detail: String,
    /// What is wrong, place by place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// The position that is the matter: of the projections, or of what stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// The plan as it is now, where that is the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Box<PlanBody>>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Fault {
    /// Where: an RFC 6901 JSON pointer into the event, or the name of a parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Which parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// What.
    detail: String,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Display) -> Self {
        Self {
            kind: kind.urn(),
            title: kind.title(),
            status: kind.status(),
            detail: detail.to_string(),
            errors: Vec::new(),
            position: None,
            plan: None,
        }
    }

    pub(crate) fn parameter(name: &str, detail: impl Display) -> Self {
        let mut problem = Self::new(Kind::InvalidParameter, format!("{name}: {detail}"));
        problem.errors.push(Fault {
            pointer: None,
            parameter: Some(name.to_owned()),
            detail: detail.to_string(),
        });
        problem
    }

    /// A member of the request's body is wrong.
    pub(crate) fn member(pointer: &str, detail: impl Display) -> Self {
        let mut problem = Self::new(Kind::InvalidBody, format!("{pointer}: {detail}"));
        problem.errors.push(Fault {
            pointer: Some(pointer.to_owned()),
            parameter: None,
            detail: detail.to_string(),
        });
        problem
    }

    pub(crate) fn unknown_environment(name: &EnvironmentName) -> Self {
        QueryError::UnknownEnvironment(name.clone()).into()
    }

    pub(crate) fn projections_behind(wanted: Position, projections: Position) -> Self {
        let detail = format!("position {wanted} is waited for, and the projections are at {projections}");
        Self { position: Some(projections.get()), ..Self::new(Kind::ProjectionsBehind, detail) }
    }

    /// A failure of ours: its cause is logged here, once, and not told.
    fn internal(kind: Kind, cause: &dyn std::error::Error) -> Self {
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        error!(problem = kind.urn(), cause = text, "a request failed");
        Self::new(kind, "the cause is in the service's log")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<&Invalid> for Problem {
    fn from(invalid: &Invalid) -> Self {
        Self::from(&invalid.reason)
    }
}

impl From<&Reason> for Problem {
    fn from(reason: &Reason) -> Self {
        let kind = match reason {
            Reason::NotJson(_) => Kind::InvalidJson,
            Reason::NotIJson(_) => Kind::NotIJson,
            Reason::TooLarge(_) => Kind::TooLarge,
            Reason::UnknownType(_) | Reason::Newer { .. } => Kind::UnknownEventType,
            Reason::Value { .. } => Kind::InvalidEvent,
        };
        let mut problem = Self::new(kind, reason);
        if let Reason::Value { pointer, detail } = reason {
            problem.errors.push(Fault {
                pointer: Some(pointer.clone()),
                parameter: None,
                detail: detail.clone(),
            });
        }
        problem
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let kind = match refusal {
            Refusal::FromTheFuture { .. } => Kind::FromTheFuture,
            Refusal::Closing => Kind::Closing,
            Refusal::Busy => Kind::Busy,
            Refusal::OutOfTurn => Kind::OutOfTurn,
            Refusal::Rejected(rejection) => return Self::from(rejection.as_ref()),
            Refusal::Unjudged(_) => Kind::Unjudged,
            Refusal::Diverged(_) => Kind::JournalDiverged,
            Refusal::Journal(AppendError::Unavailable(_) | AppendError::Moved(_)) => Kind::JournalUnavailable,
            Refusal::Journal(AppendError::Full(_)) => Kind::JournalFull,
            Refusal::Journal(refused @ AppendError::Refused(_)) => {
                return Self::internal(Kind::Internal, refused);
            }
        };
        let again = match kind {
            Kind::JournalUnavailable | Kind::Unjudged => {
                "; send the event again with the same identity, it is recorded once"
            }
            _ => "",
        };
        Self::new(kind, format!("{refusal}{again}"))
    }
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        let kind = match rejection {
            Rejection::Moved { .. } => Kind::EnvironmentMoved,
            Rejection::PlanChanged { .. } => Kind::PlanChanged,
            Rejection::Blocked { .. } => Kind::RollbackBlocked,
            Rejection::UnderWay { .. } => Kind::RollbackUnderWay,
            Rejection::RollbackExists { .. } => Kind::RollbackExists,
            Rejection::CauseCorrected(_) => Kind::RollbackBlocked,
            Rejection::StartBlocked { .. } => Kind::RollbackStartBlocked,
            Rejection::StepBlocked { .. } => Kind::RollbackStepBlocked,
            Rejection::NoSuchRollback(..) => Kind::NoSuchRollback,
            Rejection::Life(Refused::SelfApproval(_)) => Kind::SelfApproval,
            Rejection::Life(Refused::NotAPerson(_)) => Kind::NotAPerson,
            Rejection::Life(_) => Kind::RollbackLife,
            Rejection::NoSuchPoint(_) => Kind::NoSuchPoint,
            Rejection::NothingMarked(_) => Kind::NothingMarked,
            Rejection::NotRevoked(_) => Kind::NotRevoked,
            Rejection::Policy(_) => Kind::InvalidPolicy,
            Rejection::Freeze(_) => Kind::FreezeMismatch,
            Rejection::OwnSource(_) | Rejection::NotTheController => Kind::LedgersOwn,
            Rejection::TooLarge(_) => Kind::TooLarge,
        };
        let mut problem = Self::new(kind, rejection);
        match rejection {
            Rejection::Moved { planned, .. }
            | Rejection::PlanChanged { planned }
            | Rejection::Blocked { planned, .. } => problem.plan = Some(Box::new(PlanBody::of(planned))),
            Rejection::StartBlocked { planned: Some(planned), .. } => {
                problem.plan = Some(Box::new(PlanBody::of(planned)));
            }
            Rejection::UnderWay { position, .. } | Rejection::RollbackExists { position, .. } => {
                problem.position = Some(position.get());
            }
            _ => {}
        }
        problem
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Ask(error) => error.into(),
            PlanError::UnknownLane(error) => error.into(),
            PlanError::NoKnownGoodPoint(_) | PlanError::NoSuchName(..) => Self::new(Kind::NoSuchPoint, error),
        }
    }
}

impl From<UnknownLane> for Problem {
    fn from(error: UnknownLane) -> Self {
        Self::new(Kind::UnknownLane, error)
    }
}

impl From<GateError> for Problem {
    fn from(error: GateError) -> Self {
        match error {
            GateError::UnknownLane(unknown) => Self::new(
                Kind::UnknownLane,
                format!("{unknown}; for its first deploy say `new: true` (--new)"),
            ),
            GateError::Ask(error) => error.into(),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::UnknownEnvironment(_) => Kind::UnknownEnvironment,
            QueryError::NotYet { projections, .. } => {
                let position = Some(projections.get());
                return Self { position, ..Self::new(Kind::UnknownPosition, error) };
            }
            QueryError::NoSuchChange { .. } => Kind::NoSuchChange,
            QueryError::KnownAlready(_) => return Self::parameter("known_at", error),
            QueryError::Failed(failed) => return Self::from_projections(failed),
        };
        Self::new(kind, error)
    }
}

impl Problem {
    pub(crate) fn from_projections(error: &ledger_projections::Error) -> Self {
        match error {
            ledger_projections::Error::Inconsistent { .. } => Self::internal(Kind::Internal, error),
            ledger_projections::Error::NotReady(_) => Self::new(Kind::ProjectionsUnavailable, error),
            _ => Self::internal(Kind::ProjectionsUnavailable, error),
        }
    }
}

impl From<ledger_projections::Error> for Problem {
    fn from(error: ledger_projections::Error) -> Self {
        Self::from_projections(&error)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::internal(Kind::JournalUnavailable, &error)
    }
}

pub(crate) async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchPath, format!("there is nothing at {}", uri.path()))
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchMethod, format!("{method} cannot be done at {}", uri.path()))
}

pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    warn!(panic = text, "a handler panicked");
    Problem::new(Kind::Internal, "the cause is in the service's log").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_urns_of_their_own() {
        let mut urns: Vec<_> = Kind::ALL.iter().map(|kind| kind.urn()).collect();
        urns.sort_unstable();
        urns.dedup();
        assert_eq!(urns.len(), Kind::ALL.len());
    }
}
