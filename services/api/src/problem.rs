//! Problem documents (`application/problem+json`, RFC 9457): one table of kinds and the mapping of every error to one.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ledger_api_types::{FieldError, PlanBody, ProblemBody};
use ledger_codec::cloudevents::{InvalidEvent, Reason};
use ledger_domain::rollback::TransitionError;
use ledger_domain::{EnvironmentName, Position, error_chain};
use ledger_ingest::{GateError, PlanError, RecordError, Rejection, UnknownLane};
use ledger_journal::{AppendError, ReadError};
use ledger_projections::QueryError;
use tracing::{error, warn};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::bodies::plan_body;
use crate::budget::Exhausted;
use crate::request_id::RequestId;

/// Detail of problems that do not disclose their cause.
const INTERNAL_DETAIL: &str = "internal failure; the service log has the cause";

macro_rules! kinds {
    ($($kind:ident = $status:literal $slug:literal $title:literal;)+) => {
        /// Kind of a problem. URNs are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $title] $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns the problem's `type`.
            #[must_use]
            pub const fn urn(self) -> &'static str {
                match self { $(Self::$kind => concat!("urn:release-ledger:problem:", $slug),)+ }
            }

            /// Returns the problem's `title`.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }

            /// Returns the problem's `status`.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }
        }
    };
}

kinds! {
    InvalidParameter = 400 "invalid-parameter" "Invalid parameter";
    InvalidJson = 400 "invalid-json" "Invalid JSON";
    NotIJson = 400 "not-i-json" "Ambiguous JSON";
    IncompleteBody = 400 "incomplete-body" "Incomplete request body";
    PositionAhead = 400 "position-ahead" "Position ahead of the stream";
    Unauthenticated = 401 "unauthenticated" "Not authenticated";
    Forbidden = 403 "forbidden" "Not allowed";
    OtherTenant = 403 "other-tenant" "Event of another tenant";
    NotTheRequester = 403 "not-the-requester" "Rollback requested for another";
    SelfApproval = 403 "self-approval" "Approval by the requester";
    NotAPerson = 403 "not-a-person" "Person required";
    ReservedSource = 403 "reserved-source" "Reserved event source";
    PathNotFound = 404 "path-not-found" "Path not found";
    UnknownTenant = 404 "unknown-tenant" "Unknown tenant";
    UnknownEnvironment = 404 "unknown-environment" "Unknown environment";
    UnknownPosition = 404 "unknown-position" "Unknown position";
    ForeignEntry = 404 "foreign-entry" "No event at this position";
    UnknownPoint = 404 "unknown-point" "Unknown release point";
    UnknownRollback = 404 "unknown-rollback" "Unknown rollback";
    UnknownLane = 404 "unknown-lane" "Unknown service or target";
    NoOriginal = 404 "no-original" "No original message";
    UnknownMessage = 404 "unknown-message" "Unknown quarantined message";
    UnknownSubscription = 404 "unknown-subscription" "Unknown subscription";
    UnknownChange = 404 "unknown-change" "Too few composition changes";
    MethodNotAllowed = 405 "method-not-allowed" "Method not allowed";
    BodyTooSlow = 408 "body-too-slow" "Request body too slow";
    IdentityConflict = 409 "identity-conflict" "Event identity already used";
    RollbackUnderWay = 409 "rollback-under-way" "Another rollback under way";
    RollbackExists = 409 "rollback-exists" "Rollback id already used";
    RollbackBlocked = 409 "rollback-blocked" "Rollback blocked";
    InvalidRollbackTransition = 409 "invalid-rollback-transition" "Invalid rollback transition";
    RollbackStartBlocked = 409 "rollback-start-blocked" "Rollback start blocked";
    RollbackStepBlocked = 409 "rollback-step-blocked" "Rollback step blocked";
    PlanChanged = 409 "plan-changed" "Plan changed";
    AuthenticationOff = 409 "authentication-off" "Authentication off";
    ChangeWithoutEffect = 409 "change-without-effect" "Change of access without effect";
    NothingMarked = 409 "nothing-marked" "Unmarked release point";
    NotRevoked = 409 "not-revoked" "Artifact not revoked";
    QuarantineChanged = 409 "quarantine-changed" "Quarantined message changed";
    TooManySubscriptions = 409 "too-many-subscriptions" "Too many subscriptions";
    FreezeMismatch = 409 "freeze-mismatch" "Freeze state mismatch";
    LostEntry = 410 "lost-entry" "Entry lost from the stream";
    EnvironmentMoved = 412 "environment-moved" "Environment changed";
    TooLarge = 413 "too-large" "Request too large";
    UnsupportedMediaType = 415 "unsupported-media-type" "Unsupported media type";
    HostNotAllowed = 421 "host-not-allowed" "Host not allowed";
    UnknownEventType = 422 "unknown-event-type" "Unknown event type";
    InvalidBody = 422 "invalid-body" "Invalid request body";
    InvalidPolicy = 422 "invalid-policy" "Invalid policy";
    HistoryTooLong = 422 "history-too-long" "History too long";
    InvalidEvent = 422 "invalid-event" "Invalid event";
    NotUnderstood = 422 "not-understood" "Message not understood";
    FromTheFuture = 422 "event-from-the-future" "Event time in the future";
    TooManyRequests = 429 "too-many-requests" "Too many requests";
    Internal = 500 "internal" "Internal error";
    Busy = 503 "busy" "Service busy";
    AccessUnavailable = 503 "access-unavailable" "Access unavailable";
    DecisionUnavailable = 503 "decision-unavailable" "Decision unavailable";
    PredecessorFailed = 503 "predecessor-failed" "Predecessor not recorded";
    JournalDiverged = 503 "journal-diverged" "Stream replaced";
    JournalUnavailable = 503 "journal-unavailable" "Stream unavailable";
    ProjectionsUnavailable = 503 "projections-unavailable" "Projections unavailable";
    ProjectionsBehind = 503 "projections-behind" "Projections behind the position";
    ReadLogUnavailable = 503 "read-log-unavailable" "Read log unavailable";
    NotReady = 503 "not-ready" "Service not ready";
    Closing = 503 "closing" "Service shutting down";
    JournalFull = 507 "journal-full" "Stream full";
}

/// Rejection of a request; its response is the problem document.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<ProblemBody>);

impl From<Box<ProblemBody>> for Problem {
    fn from(body: Box<ProblemBody>) -> Self {
        Self(body)
    }
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemBody::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        ProblemBody::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ProblemBody::schemas(schemas);
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Display) -> Self {
        Self(Box::new(ProblemBody {
            kind: kind.urn().to_owned(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.to_string(),
            instance: None,
            errors: Vec::new(),
            position: None,
            plan: None,
        }))
    }

    pub(crate) fn into_body(self) -> Box<ProblemBody> {
        self.0
    }

    fn with_position(mut self, position: Position) -> Self {
        self.0.position = Some(position.get());
        self
    }

    pub(crate) fn parameter(name: &str, detail: impl Display) -> Self {
        let mut problem = Self::new(Kind::InvalidParameter, format!("{name}: {detail}"));
        problem.0.errors.push(FieldError {
            pointer: None,
            parameter: Some(name.to_owned()),
            detail: detail.to_string(),
        });
        problem
    }

    /// Returns a problem about the body member at `pointer`.
    pub(crate) fn member(pointer: &str, detail: impl Display) -> Self {
        let mut problem = Self::new(Kind::InvalidBody, format!("{pointer}: {detail}"));
        problem.0.errors.push(FieldError {
            pointer: Some(pointer.to_owned()),
            parameter: None,
            detail: detail.to_string(),
        });
        problem
    }

    /// Returns the plan that the problem has, if a rollback is rejected because of its plan.
    pub(crate) fn plan_mut(&mut self) -> Option<&mut PlanBody> {
        self.0.plan.as_deref_mut()
    }

    /// Returns the problem of a message of another tool that cannot be understood, with the place of the fault in it.
    pub(crate) fn not_understood(pointer: &str, detail: impl Display) -> Self {
        let place = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
        let mut problem = Self::new(Kind::NotUnderstood, format!("{place}{detail}"));
        problem.0.errors.push(FieldError {
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
        let detail = format!("timed out waiting for position {wanted}: the projections are at {projections}");
        Self::new(Kind::ProjectionsBehind, detail).with_position(projections)
    }

    /// Returns a problem for an internal failure. Logs the cause once and does not disclose it.
    fn internal(kind: Kind, cause: &dyn std::error::Error) -> Self {
        error!(problem = kind.urn(), cause = error_chain(cause), "request failed");
        Self::new(kind, INTERNAL_DETAIL)
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.0.instance = RequestId::current_urn();
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // The rest of the body may not be read: without this, the client would use the connection again.
        let ends_connection =
            [Kind::Busy, Kind::TooLarge, Kind::BodyTooSlow].iter().any(|kind| kind.urn() == self.0.kind);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if ends_connection {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Exhausted> for Problem {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(Kind::Busy, exhausted)
    }
}

impl From<&InvalidEvent> for Problem {
    fn from(invalid: &InvalidEvent) -> Self {
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
            problem.0.errors.push(FieldError {
                pointer: Some(pointer.clone()),
                parameter: None,
                detail: detail.clone(),
            });
        }
        problem
    }
}

impl From<&RecordError> for Problem {
    fn from(error: &RecordError) -> Self {
        let kind = match error {
            RecordError::FromTheFuture { .. } => Kind::FromTheFuture,
            RecordError::Closing => Kind::Closing,
            RecordError::Retired => Kind::UnknownTenant,
            RecordError::Busy => Kind::Busy,
            RecordError::PredecessorFailed => Kind::PredecessorFailed,
            RecordError::Rejected(rejection) => return Self::from(rejection.as_ref()),
            RecordError::Undecided(_) => Kind::DecisionUnavailable,
            RecordError::Diverged(_) => Kind::JournalDiverged,
            RecordError::Journal(AppendError::Unavailable(_) | AppendError::WrongHead(_)) => {
                Kind::JournalUnavailable
            }
            RecordError::Journal(AppendError::Full(_)) => Kind::JournalFull,
            RecordError::Journal(error @ AppendError::Refused(_)) => {
                return Self::internal(Kind::Internal, error);
            }
        };
        let advice = match kind {
            Kind::JournalUnavailable | Kind::DecisionUnavailable => {
                "; resend the event with the same identity, it is recorded only once"
            }
            _ => "",
        };
        Self::new(kind, format!("{error}{advice}"))
    }
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        let kind = match rejection {
            Rejection::EnvironmentMoved { .. } => Kind::EnvironmentMoved,
            Rejection::PlanChanged { .. } => Kind::PlanChanged,
            Rejection::Blocked { .. } => Kind::RollbackBlocked,
            Rejection::UnderWay { .. } => Kind::RollbackUnderWay,
            Rejection::RollbackExists { .. } => Kind::RollbackExists,
            Rejection::CauseCorrected(_) | Rejection::NotRunning { .. } => Kind::RollbackBlocked,
            Rejection::StartBlocked { .. } => Kind::RollbackStartBlocked,
            Rejection::StepBlocked { .. } => Kind::RollbackStepBlocked,
            Rejection::UnknownRollback(..) => Kind::UnknownRollback,
            Rejection::RollbackState(TransitionError::SelfApproval(_)) => Kind::SelfApproval,
            Rejection::RollbackState(TransitionError::NotAPerson(_))
            | Rejection::AcknowledgeNeedsPerson(_) => Kind::NotAPerson,
            Rejection::RollbackState(_) => Kind::InvalidRollbackTransition,
            Rejection::UnknownPoint(_) => Kind::UnknownPoint,
            Rejection::NotMarked(_) => Kind::NothingMarked,
            Rejection::NotRevoked(_) => Kind::NotRevoked,
            Rejection::Policy(_) => Kind::InvalidPolicy,
            Rejection::Freeze(_) => Kind::FreezeMismatch,
            Rejection::ReservedSource(_) | Rejection::NotTheController | Rejection::NotTheDeliverer => {
                Kind::ReservedSource
            }
            Rejection::UnknownSubscription(_) => Kind::UnknownSubscription,
            Rejection::TooManySubscriptions(_) => Kind::TooManySubscriptions,
            Rejection::NotTheRequester(..) => Kind::NotTheRequester,
            Rejection::OtherTenant(_) => Kind::OtherTenant,
            Rejection::TooLarge(_) => Kind::TooLarge,
        };
        let mut problem = Self::new(kind, rejection);
        match rejection {
            Rejection::EnvironmentMoved { planned, .. }
            | Rejection::PlanChanged { planned }
            | Rejection::Blocked { planned, .. } => problem.0.plan = Some(Box::new(plan_body(planned))),
            Rejection::StartBlocked { planned: Some(planned), .. } => {
                problem.0.plan = Some(Box::new(plan_body(planned)));
            }
            Rejection::UnderWay { position, .. } | Rejection::RollbackExists { position, .. } => {
                problem.0.position = Some(position.get());
            }
            _ => {}
        }
        problem
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Query(error) => error.into(),
            PlanError::UnknownLane(error) => error.into(),
            PlanError::NoKnownGoodPoint(_) | PlanError::UnknownName(..) => {
                Self::new(Kind::UnknownPoint, error)
            }
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
            GateError::UnknownLane(unknown) => {
                Self::new(Kind::UnknownLane, format!("{unknown}; for a first deploy set `new: true` (--new)"))
            }
            GateError::Query(error) => error.into(),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::UnknownEnvironment(_) => Kind::UnknownEnvironment,
            QueryError::NotProjected { projections, .. } => {
                let position = *projections;
                return Self::new(Kind::UnknownPosition, error).with_position(position);
            }
            QueryError::TooFewChanges { .. } => Kind::UnknownChange,
            QueryError::SearchTimedOut { .. } => Kind::DecisionUnavailable,
            QueryError::Projections(failed) => return Self::from_projections(failed),
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

pub(crate) async fn path_not_found(uri: Uri) -> Problem {
    Problem::new(Kind::PathNotFound, format!("no resource at {}", uri.path()))
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{method} is not allowed at {}", uri.path()))
}

pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    warn!(panic = text, "handler panicked");
    Problem::new(Kind::Internal, INTERNAL_DETAIL).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_unique_urn() {
        let mut urns: Vec<_> = Kind::ALL.iter().map(|kind| kind.urn()).collect();
        urns.sort_unstable();
        urns.dedup();
        assert_eq!(urns.len(), Kind::ALL.len());
    }

    #[test]
    fn clients_recognize_every_kind_as_a_problem_of_a_ledger() {
        for kind in Kind::ALL {
            let body = Problem::new(*kind, "a detail").into_body();
            assert!(body.slug().is_some(), "{}", body.kind);
        }
    }
}
