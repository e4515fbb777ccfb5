//! Ingest endpoint: `POST /v1/events`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger_api_types::EventResult;
use ledger_codec::cloudevents::{BatchError, Envelope, Invalid, MAX_EVENT_BYTES, decode_header};
use ledger_ingest::{RecordError, RecordOutcome};

use crate::body::read;
use crate::event_result::{add_annotations, id_and_source, outcome_result, overall_status};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;
use crate::{App, bulk};

/// Returns true if the client asks for responses without annotations: `Prefer: return=minimal` (RFC 7240).
fn prefers_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    preferences.any(|preference| preference.eq_ignore_ascii_case("return=minimal"))
}

/// Content mode of a request.
enum Mode {
    Structured,
    Binary,
    Batch,
    Lines,
}

fn content_mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let unsupported = |detail: String| Err(Problem::new(Kind::UnsupportedMediaType, detail));
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return unsupported(format!(
            "content encoding {encoding:?} is not supported; send the body unencoded"
        ));
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return unsupported("the request has no Content-Type header".into());
    };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        "application/x-ndjson" => Ok(Mode::Lines),
        "application/json" if headers.contains_key("ce-specversion") => Ok(Mode::Binary),
        _ => unsupported(format!(
            "content type {content_type:?} is not supported; send application/cloudevents+json, \
             application/cloudevents-batch+json, \
             application/x-ndjson, or application/json with the attributes as ce- headers"
        )),
    }
}

/// Record events
///
/// Accepts one CloudEvent in structured or binary mode, a batch, or newline-delimited structured events. Responds only
/// after the events are durable. An event that is resent is recorded only once.
///
/// The response to one event is one object, or a problem. The response to several has one result per event, in order:
/// 201 if all of them are recorded or duplicates, 207 otherwise.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "postEvents",
    tag = "events",
    request_body(
        description = "CloudEvents of the types in schemas/events",
        content(
            (serde_json::Value = "application/cloudevents+json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
            (String = "application/x-ndjson"),
            (serde_json::Value = "application/json"),
        )
    ),
    responses(
        (status = 201, description = "All events are recorded, now or earlier", body = EventResult),
        (status = 207, description = "Some events are not recorded; see each result",
            body = Vec<EventResult>),
        (status = "4XX", description = "Not recorded",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not recorded, or unknown; resend the event",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_events(
    State(app): State<Arc<App>>,
    ledger: TenantLedger,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let annotate = !prefers_minimal(&headers);
    match content_mode(&headers)? {
        Mode::Structured => {
            record_one(&ledger, annotate, Envelope::parse(&read(body, MAX_EVENT_BYTES * 4).await?)).await
        }
        Mode::Binary => {
            let attributes = attributes(&headers)?;
            let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.clone()));
            record_one(
                &ledger,
                annotate,
                Envelope::from_parts(attributes, &read(body, MAX_EVENT_BYTES * 4).await?),
            )
            .await
        }
        Mode::Batch => {
            let bytes = read(body, app.limits.batch_bytes).await?;
            record_batch(&ledger, annotate, &bytes, app.limits.events).await
        }
        Mode::Lines => bulk::record_lines(&ledger, annotate, body, app.limits.events).await,
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
    event: Result<Envelope, Invalid>,
) -> Result<Response, Problem> {
    let envelope = event.map_err(|invalid| Problem::from(&invalid))?;
    let id_and_source = id_and_source(&envelope);
    let outcomes = ledger.ingest.record(vec![envelope]).await;
    let outcome = outcomes.first().unwrap_or(&RecordOutcome::Refused(RecordError::Closing));
    let mut result = outcome_result(id_and_source, outcome);
    if annotate {
        add_annotations(ledger, std::slice::from_mut(&mut result)).await;
    }
    match result.problem {
        Some(problem) => Err(Problem::from(problem)),
        None => Ok((StatusCode::CREATED, Json(result)).into_response()),
    }
}

async fn record_batch(
    ledger: &TenantLedger,
    annotate: bool,
    bytes: &[u8],
    limit: usize,
) -> Result<Response, Problem> {
    let events = Envelope::parse_batch(bytes, limit).map_err(|error| match error {
        BatchError::NotAnArray(_) => Problem::new(Kind::InvalidJson, error),
        BatchError::TooMany(_) => Problem::new(Kind::TooLarge, error),
    })?;
    let mut results = bulk::record_all(ledger, events).await;
    if annotate {
        add_annotations(ledger, &mut results).await;
    }
    Ok((overall_status(&results)?, Json(results)).into_response())
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
