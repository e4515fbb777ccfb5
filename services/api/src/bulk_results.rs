//! Results of the events of one request, in the form of its response. Their size stays in proportion to the request,
//! however many of its events are wrong.

use std::mem::size_of;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger_api_types::{AnnotationsBody, EventResult, EventStatus};

use crate::budget::{Exhausted, Share};
use crate::event_result::{MAX_ANNOTATED_EVENTS, add_annotations};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Number of problems of a response that are described in full. A description can be much larger than the event.
const DESCRIBED_PROBLEMS: usize = 500;

/// Detail of the problems after those.
const NOT_DESCRIBED: &str = "not described: the response has too many problems";

/// Form of a response to several events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A JSON array.
    Array,
    /// One result per line.
    Lines,
}

/// Results of the events of a request, in order.
pub(crate) struct BulkResults {
    form: Form,
    /// Counts the bytes that the results take.
    share: Share,
    /// The results that may get annotations: all of them, unless there are too many.
    results: Vec<EventResult>,
    /// The results before those, in the form of the response.
    text: Vec<u8>,
    events: usize,
    problems: usize,
    has_plan: bool,
    /// Events without a readable id at the end, of which the problems are not described.
    unnamed: u64,
    all_recorded: bool,
    all_refused: bool,
    first_problem: Option<Problem>,
}

impl BulkResults {
    pub(crate) const fn new(form: Form, share: Share) -> Self {
        Self {
            form,
            share,
            results: Vec::new(),
            text: Vec::new(),
            events: 0,
            problems: 0,
            has_plan: false,
            unnamed: 0,
            all_recorded: true,
            all_refused: true,
            first_problem: None,
        }
    }

    /// Adds the results of the next events.
    pub(crate) fn extend(&mut self, results: Vec<EventResult>) -> Result<(), Problem> {
        for result in results {
            self.push(result)?;
        }
        Ok(self.count_bytes()?)
    }

    fn push(&mut self, mut result: EventResult) -> Result<(), Problem> {
        self.events += 1;
        self.all_recorded &= result.status.is_recorded();
        self.all_refused &= result.status == EventStatus::Refused;
        if self.events == 1 {
            self.first_problem = result.problem.clone().map(Problem::from);
        }
        if let Some(problem) = &mut result.problem {
            self.problems += 1;
            // One plan can be larger than the request.
            if self.has_plan {
                problem.plan = None;
            }
            self.has_plan |= problem.plan.is_some();
            if self.problems > DESCRIBED_PROBLEMS {
                if result.id.is_none() && result.source.is_none() {
                    self.unnamed += 1;
                    return Ok(());
                }
                NOT_DESCRIBED.clone_into(&mut problem.detail);
                problem.errors.clear();
            }
        }
        self.add_unnamed()?;
        self.add(result)
    }

    /// Adds one result for the events whose problems are not described.
    fn add_unnamed(&mut self) -> Result<(), Problem> {
        let count = std::mem::take(&mut self.unnamed);
        if count == 0 {
            return Ok(());
        }
        let detail = format!("{count} consecutive events are invalid, and their ids cannot be read");
        self.add(EventResult {
            id: None,
            source: None,
            status: EventStatus::Invalid,
            position: None,
            problem: Some(Problem::new(Kind::InvalidEvent, detail).into_body()),
            quarantine_id: None,
            count: Some(count),
            annotations: AnnotationsBody::default(),
        })
    }

    fn add(&mut self, result: EventResult) -> Result<(), Problem> {
        self.results.push(result);
        if self.results.len() > MAX_ANNOTATED_EVENTS { self.write() } else { Ok(()) }
    }

    /// Moves the results to the text.
    fn write(&mut self) -> Result<(), Problem> {
        for result in self.results.drain(..) {
            if self.form == Form::Array {
                self.text.push(if self.text.is_empty() { b'[' } else { b',' });
            }
            serde_json::to_writer(&mut self.text, &result)
                .map_err(|error| Problem::new(Kind::Internal, error))?;
            if self.form == Form::Lines {
                self.text.push(b'\n');
            }
        }
        Ok(())
    }

    fn count_bytes(&mut self) -> Result<(), Exhausted> {
        self.share.resize(self.results.len() * size_of::<EventResult>() + self.text.capacity())
    }

    /// Returns the response. With `annotate`, the results get annotations first, unless there are too many.
    pub(crate) async fn respond(
        mut self,
        ledger: &TenantLedger,
        annotate: bool,
    ) -> Result<Response, Problem> {
        self.add_unnamed()?;
        if annotate && self.text.is_empty() {
            add_annotations(ledger, &mut self.results).await;
        }
        self.finish()
    }

    /// Returns the response. Its status is 201 if all events are recorded. If all of them are refused, the response is
    /// a problem, so that clients send the request again.
    fn finish(mut self) -> Result<Response, Problem> {
        self.write()?;
        let status = if self.all_recorded { StatusCode::CREATED } else { StatusCode::MULTI_STATUS };
        let (media_type, end): (_, &[u8]) = match self.form {
            Form::Array if self.text.is_empty() => ("application/json", b"[]"),
            Form::Array => ("application/json", b"]"),
            Form::Lines => ("application/x-ndjson", b""),
        };
        match self.first_problem {
            Some(problem) if self.all_refused => return Err(problem),
            _ => self.text.extend_from_slice(end),
        }
        Ok((status, [(header::CONTENT_TYPE, media_type)], self.text).into_response())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;
    use crate::budget::ByteBudget;

    fn result(id: Option<usize>, status: EventStatus) -> EventResult {
        let kind = if status == EventStatus::Refused { Kind::Busy } else { Kind::InvalidEvent };
        let problem = (!status.is_recorded()).then(|| Problem::new(kind, "a long description").into_body());
        EventResult {
            id: id.map(|id| id.to_string()),
            source: None,
            status,
            position: status.is_recorded().then_some(1),
            problem,
            quarantine_id: None,
            count: None,
            annotations: AnnotationsBody::default(),
        }
    }

    async fn response(form: Form, results: Vec<EventResult>) -> (u16, Vec<Value>) {
        let mut bulk = BulkResults::new(form, ByteBudget::new("bodies", 64 << 20).share());
        bulk.extend(results).expect("room");
        bulk.add_unnamed().expect("room");
        let response = match bulk.finish() {
            Ok(response) => response,
            Err(problem) => return (problem.into_body().status, Vec::new()),
        };
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.expect("a body").to_bytes();
        let values = match form {
            Form::Array => serde_json::from_slice(&text).expect("an array"),
            Form::Lines => {
                let values = serde_json::Deserializer::from_slice(&text).into_iter();
                values.collect::<Result<_, _>>().expect("lines")
            }
        };
        (status, values)
    }

    #[tokio::test]
    async fn results_of_named_events_keep_their_order_and_number() {
        for form in [Form::Array, Form::Lines] {
            let results = (0..3_000).map(|id| {
                let is_recorded = id % 2 == 0;
                result(Some(id), if is_recorded { EventStatus::Recorded } else { EventStatus::Invalid })
            });

            let (status, values) = response(form, results.collect()).await;

            let ids: Vec<_> = values.iter().map(|value| value["id"].as_str().unwrap_or_default()).collect();
            assert_eq!(status, 207);
            assert_eq!(ids, (0..3_000).map(|id| id.to_string()).collect::<Vec<_>>());
            let described = values.iter().filter(|value| value["problem"]["detail"] == "a long description");
            assert_eq!(described.count(), DESCRIBED_PROBLEMS);
            let slugs = values.iter().filter(|value| value["problem"]["type"].is_string());
            assert_eq!(slugs.count(), 1_500, "every problem has its type");
        }
    }

    #[tokio::test]
    async fn events_without_an_id_are_described_up_to_a_number_and_then_counted() {
        let unnamed = |count: usize| (0..count).map(|_| result(None, EventStatus::Invalid));
        let named = || std::iter::once(result(Some(1), EventStatus::Recorded));
        let results = unnamed(600).chain(named()).chain(unnamed(50_000));

        let (_, values) = response(Form::Lines, results.collect()).await;

        let counts: Vec<_> =
            values[DESCRIBED_PROBLEMS..].iter().map(|value| value["count"].as_u64()).collect();
        assert_eq!(counts, [Some(100), None, Some(50_000)]);
    }

    #[tokio::test]
    async fn the_status_says_if_all_events_are_recorded_or_refused() {
        use EventStatus::{Duplicate, Invalid, Recorded, Refused};
        for (statuses, expected) in [
            (&[][..], 201),
            (&[Recorded, Duplicate], 201),
            (&[Recorded, Invalid], 207),
            (&[Refused, Recorded], 207),
            (&[Refused, Refused], 503),
        ] {
            let results = statuses.iter().map(|status| result(Some(1), *status)).collect();
            assert_eq!(response(Form::Array, results).await.0, expected, "{statuses:?}");
        }
    }

    #[test]
    fn results_that_take_too_much_memory_are_refused() {
        let mut bulk = BulkResults::new(Form::Lines, ByteBudget::new("bodies", 10_000).share());

        let results = (0..1_000).map(|id| result(Some(id), EventStatus::Recorded));

        assert!(bulk.extend(results.collect()).is_err());
    }
}
