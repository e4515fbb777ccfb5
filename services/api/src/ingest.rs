//! Ingest endpoint: `POST /v1/events`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger_api_types::EventResult;
use ledger_codec::cloudevents::{BatchError, Envelope, MAX_EVENT_BYTES, decode_header};
use ledger_ingest::{RecordError, RecordOutcome};
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::access::{Authorized, SendEvents};
use crate::body::{media_type, read};
use crate::check_counts::add_plan_counts;
use crate::event_result::{add_annotations, id_and_source, is_recorded, outcome_result};
use crate::foreign::{
    CDEVENTS_MEDIA_TYPE, Unusable, is_bare_cdevent, is_cloudevent, parse_bare, parse_binary, parse_structured,
};
use crate::parameters::{NoParameters, StrictQuery};
use crate::problem::{Kind, Problem};
use crate::quarantine::quarantined_result;
use crate::tenant::TenantLedger;
use crate::{App, bulk};

/// Maximum size of the body of one event. White space can make it longer than the event.
const EVENT_BODY_LIMIT: usize = MAX_EVENT_BYTES * 4;

/// Returns true if the client asks for responses without annotations: `Prefer: return=minimal` (RFC 7240).
fn prefers_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    preferences.any(|preference| preference.eq_ignore_ascii_case("return=minimal"))
}

/// Schema of the result of one event, or of the results of a batch.
struct OneOrMore;

impl PartialSchema for OneOrMore {
    fn schema() -> RefOr<Schema> {
        let result = || Ref::from_schema_name(EventResult::name());
        OneOfBuilder::new().item(result()).item(ArrayBuilder::new().items(result())).into()
    }
}

impl ToSchema for OneOrMore {
    fn name() -> Cow<'static, str> {
        "EventResults".into()
    }
}

/// Content mode of a request.
enum Mode {
    Structured,
    /// A CDEvent without a CloudEvent around it.
    CdEvent,
    Binary,
    Batch,
    Lines,
    /// JSON without attributes in headers: an event in structured mode, a CDEvent without a CloudEvent around it, or
    /// nothing that is supported.
    Json,
}

fn content_mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let unsupported = |detail: String| Err(Problem::new(Kind::UnsupportedMediaType, detail));
    let is_identity = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| !is_identity(encoding)) {
        return unsupported(format!(
            "content encoding {encoding:?} is not supported; send the body unencoded"
        ));
    }
    if !headers.contains_key(header::CONTENT_TYPE) {
        return unsupported("the request has no Content-Type header".into());
    }
    match media_type(headers).as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        "application/x-ndjson" => Ok(Mode::Lines),
        CDEVENTS_MEDIA_TYPE => Ok(Mode::CdEvent),
        "application/json" if headers.contains_key("ce-specversion") => Ok(Mode::Binary),
        "application/json" => Ok(Mode::Json),
        _ => Err(unsupported_type(headers)),
    }
}

fn unsupported_type(headers: &HeaderMap) -> Problem {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let detail = format!(
        "content type {content_type:?} is not supported; send application/cloudevents+json, \
         application/cloudevents-batch+json, application/x-ndjson, application/cdevents+json, or application/json with a \
         CloudEvent (an object with specversion), with the attributes as ce- headers, or with a CDEvent"
    );
    Problem::new(Kind::UnsupportedMediaType, detail)
}

/// Record events
///
/// Accepts one CloudEvent in structured or binary mode, a batch, or newline-delimited structured events: events of the
/// ledger's types, or CDEvents. A CDEvent may also come without a CloudEvent around it, as `application/cdevents+json` or
/// `application/json`; a CloudEvent in structured mode may come as `application/json`, too. Responds only after the
/// events are durable. An event that is resent is recorded only once. A CDEvent that cannot be understood is quarantined.
///
/// The response to one event is one object, or a problem. The response to several has one result per event, in order:
/// 201 if all of them are recorded or duplicates, 207 otherwise. The first 500 problems are described; after those,
/// consecutive events whose ids cannot be read share a result with their `count`.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "postEvents",
    tag = "events",
    params(
        ("Prefer" = Option<String>, Header, description = "`return=minimal`: respond without annotations."),
    ),
    request_body(
        description = "CloudEvents of the types in schemas/events",
        content(
            (serde_json::Value = "application/cloudevents+json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
            (String = "application/x-ndjson"),
            (serde_json::Value = "application/cdevents+json"),
            (serde_json::Value = "application/json"),
        )
    ),
    responses(
        (status = 201, description = "All events are recorded, now or earlier: the result of one event, an array of \
            the results of a batch, or a line for each of several lines", content(
            (OneOrMore = "application/json"),
            (EventResult = "application/x-ndjson"),
        )),
        (status = 202, description = "The CDEvent could not be understood, and is quarantined",
            body = EventResult),
        (status = 207, description = "Some events are not recorded; see each result: an array for a batch, or lines",
            content(
            (Vec<EventResult> = "application/json"),
            (EventResult = "application/x-ndjson"),
        )),
        (status = "4XX", description = "Not recorded",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not recorded, or unknown; resend the event",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_events(
    State(app): State<Arc<App>>,
    ledger: Authorized<SendEvents>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let annotate = !prefers_minimal(&headers);
    let budget = &app.bounds.bodies;
    match content_mode(&headers)? {
        Mode::Structured => {
            let body = read(budget, &headers, body, EVENT_BODY_LIMIT).await?;
            record_one(&ledger, annotate, parse_structured(&app, &body.bytes)).await
        }
        Mode::CdEvent => {
            let body = read(budget, &headers, body, EVENT_BODY_LIMIT).await?;
            record_one(&ledger, annotate, parse_bare(&app, &body.bytes)).await
        }
        Mode::Json => {
            let body = read(budget, &headers, body, EVENT_BODY_LIMIT).await?;
            let event = if is_cloudevent(&body.bytes) {
                parse_structured(&app, &body.bytes)
            } else if is_bare_cdevent(&body.bytes) {
                parse_bare(&app, &body.bytes)
            } else {
                return Err(unsupported_type(&headers));
            };
            record_one(&ledger, annotate, event).await
        }
        Mode::Binary => {
            let attributes = attributes(&headers)?;
            let body = read(budget, &headers, body, EVENT_BODY_LIMIT).await?;
            record_one(&ledger, annotate, parse_binary(&app, &attributes, &body.bytes)).await
        }
        Mode::Batch => {
            let body = read(budget, &headers, body, app.limits.batch_bytes).await?;
            let events = Envelope::split_batch(&body.bytes, app.limits.events);
            let events = events.map_err(|error| match error {
                BatchError::NotAnArray(_) => Problem::new(Kind::InvalidJson, error),
                BatchError::TooMany(_) => Problem::new(Kind::TooLarge, error),
            })?;
            let events = events.map(|event| parse_structured(&app, &event));
            bulk::record_all(&ledger, annotate, budget, events).await
        }
        Mode::Lines => bulk::record_lines(&ledger, annotate, budget, body, app.limits.events).await,
    }
}

/// Returns the attributes of an event in binary mode (CloudEvents HTTP binding, sections 3.1.1 and 3.1.3): the `ce-`
/// headers, and `Content-Type` as `datacontenttype`, which must not be a `ce-` header as well.
fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut attributes = vec![("datacontenttype".to_owned(), content_type.unwrap_or_default().to_owned())];
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        if attribute == "datacontenttype" {
            return Err(Problem::parameter(
                name.as_str(),
                "must be absent in binary mode: Content-Type states it",
            ));
        }
        let value = value.to_str().map_err(|_| {
            Problem::parameter(name.as_str(), "must be ASCII, with other characters percent-encoded")
        })?;
        let value = decode_header(value).map_err(|error| Problem::parameter(name.as_str(), error))?;
        attributes.push((attribute.to_owned(), value));
    }
    Ok(attributes)
}

async fn record_one(
    ledger: &TenantLedger,
    annotate: bool,
    event: Result<Envelope, Unusable>,
) -> Result<Response, Problem> {
    ledger.tenancy().count_received(1);
    let envelope = match event {
        Ok(envelope) => envelope,
        Err(Unusable::Invalid(invalid)) => return Err(Problem::from(&invalid)),
        Err(Unusable::NotUnderstood(foreign)) => {
            let (message, error) = *foreign;
            let result = quarantined_result(ledger, &message, &error).await?;
            return Ok((StatusCode::ACCEPTED, Json(result)).into_response());
        }
    };
    let envelope = ledger.accept(envelope).await?;
    let id_and_source = id_and_source(&envelope);
    let outcomes = ledger.ingest.record(vec![envelope]).await;
    let outcome = outcomes.first().unwrap_or(&RecordOutcome::Refused(RecordError::Closing));
    ledger.tenancy().stats().add_recorded(usize::from(is_recorded(outcome)));
    let mut result = outcome_result(id_and_source, outcome);
    if annotate {
        add_annotations(ledger, std::slice::from_mut(&mut result)).await;
    }
    match result.problem {
        Some(problem) => {
            let mut problem = Problem::from(problem);
            add_plan_counts(ledger, &mut problem).await;
            Err(problem)
        }
        None => Ok((StatusCode::CREATED, Json(result)).into_response()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::try_from(*name).expect("valid header name");
            (name, HeaderValue::from_str(value).expect("valid header value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn parsed_attributes(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, StatusCode> {
        let attributes = attributes(&headers(pairs));
        attributes.map_err(|problem| problem.into_response().status())
    }

    #[test]
    fn binary_mode_reads_content_type_as_an_attribute_and_decodes_header_values_once() {
        let headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("ce-id", "run%254711"),
            ("CE-Source", r#""urn:a \"b\"%20c""#),
            ("X-Request-Id", "7"),
        ];
        let attributes = [
            ("datacontenttype", "application/json; charset=utf-8"),
            ("id", "run%4711"),
            ("source", r#"urn:a "b" c"#),
        ];
        assert_eq!(
            parsed_attributes(&headers),
            Ok(attributes.map(|(name, value)| (name.into(), value.into())).to_vec())
        );
    }

    #[test]
    fn invalid_ce_headers_are_rejected() {
        for invalid in [("ce-datacontenttype", "application/json"), ("ce-id", "%ff"), ("ce-id", r#""a"#)] {
            assert_eq!(
                parsed_attributes(&[("Content-Type", "application/json"), invalid]),
                Err(StatusCode::BAD_REQUEST),
                "{invalid:?}"
            );
        }
    }
}
