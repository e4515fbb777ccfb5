//! Many events in one request: recorded in order, and, one JSON object a line, while they still come in.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use ledger_codec::cloudevents::{EVENT_LIMIT, Envelope, Invalid, Reason};
use ledger_ingest::{OrderedSubmission, RecordError, RecordOutcome};

use crate::ingest::{EventResult, add_marks, names, overall};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Lines that go through the door together, and how many such groups may be under way.
const GROUP: usize = 500;
const GROUPS_UNDER_WAY: usize = 4;
/// White space may make a line longer than the event it carries.
const LINE_LIMIT: usize = EVENT_LIMIT * 4;

/// An event's place among the results: known already, or waiting for the ledger's answer.
enum Waiting {
    Result(EventResult),
    RecordOutcome((String, String)),
}

/// Parts what can be recorded from what cannot.
fn part(events: Vec<Result<Envelope, Invalid>>) -> (Vec<Waiting>, Vec<Envelope>) {
    let mut valid = Vec::with_capacity(events.len());
    let waiting = events
        .into_iter()
        .map(|event| match event {
            Ok(envelope) => {
                let names = names(&envelope);
                valid.push(envelope);
                Waiting::RecordOutcome(names)
            }
            Err(invalid) => Waiting::Result(EventResult::invalid(invalid)),
        })
        .collect();
    (waiting, valid)
}

/// Puts answers where events wait for them.
fn join(waiting: Vec<Waiting>, answers: &[RecordOutcome]) -> Vec<EventResult> {
    let mut answers = answers.iter();
    let waiting = waiting.into_iter();
    waiting
        .map(|waiting| match waiting {
            Waiting::Result(result) => result,
            Waiting::RecordOutcome(names) => EventResult::answered(
                names,
                answers.next().unwrap_or(&RecordOutcome::Refused(RecordError::Closing)),
            ),
        })
        .collect()
}

/// Events of one request, going through the door in groups and in order.
struct BulkRecorder<'l> {
    ledger: &'l TenantLedger,
    train: OrderedSubmission,
    group: Vec<Result<Envelope, Invalid>>,
    under_way: FuturesOrdered<BoxFuture<'l, Vec<EventResult>>>,
    results: Vec<EventResult>,
}

impl<'l> BulkRecorder<'l> {
    fn new(ledger: &'l TenantLedger) -> Self {
        Self {
            ledger,
            train: OrderedSubmission::default(),
            group: Vec::new(),
            under_way: FuturesOrdered::new(),
            results: Vec::new(),
        }
    }

    async fn push(&mut self, event: Result<Envelope, Invalid>) {
        self.group.push(event);
        if self.group.len() == GROUP {
            self.submit().await;
            if self.under_way.len() == GROUPS_UNDER_WAY
                && let Some(done) = self.under_way.next().await
            {
                self.results.extend(done);
            }
        }
    }

    async fn submit(&mut self) {
        let (waiting, valid) = part(std::mem::take(&mut self.group));
        let submitted = self.ledger.ingest.submit(valid, &self.train).await;
        self.under_way.push_back(async move { join(waiting, &submitted.answers().await) }.boxed());
    }

    /// The answers, in order.
    async fn results(mut self) -> Vec<EventResult> {
        self.submit().await;
        while let Some(done) = self.under_way.next().await {
            self.results.extend(done);
        }
        self.results
    }
}

/// Records events that are all there.
pub(crate) async fn record_all(
    ledger: &TenantLedger,
    events: Vec<Result<Envelope, Invalid>>,
) -> Vec<EventResult> {
    let mut procession = BulkRecorder::new(ledger);
    for event in events {
        procession.push(event).await;
    }
    procession.results().await
}

/// Records the lines of a body while they come in.
pub(crate) async fn record_lines(
    ledger: &TenantLedger,
    marked: bool,
    body: Body,
    limit: usize,
) -> Result<Response, Problem> {
    let mut chunks = body.into_data_stream();
    let mut lines = Lines::default();
    let mut procession = BulkRecorder::new(ledger);
    let mut taken = 0;
    let mut broken = false;
    let mut ended = false;
    while !ended {
        match chunks.next().await {
            Some(Ok(chunk)) => lines.push(&chunk),
            Some(Err(_)) => (broken, ended) = (true, true),
            None => {
                lines.end();
                ended = true;
            }
        }
        while let Some(line) = lines.next() {
            if taken == limit {
                let detail =
                    format!("at most {limit} events are taken at once: send this and the rest again");
                procession.push(Err(Reason::Value { pointer: String::new(), detail }.into())).await;
                // What is beyond is neither read nor kept.
                return answer(&procession.results().await);
            }
            taken += 1;
            procession.push(line.and_then(|line| Envelope::parse(&line))).await;
        }
    }
    let mut results = procession.results().await;
    if broken {
        let detail =
            format!("the body broke off after {taken} lines; what came whole is recorded: send all again");
        return Err(Problem::new(Kind::IncompleteBody, detail));
    }
    if marked {
        add_marks(ledger, &mut results).await;
    }
    answer(&results)
}

fn answer(results: &[EventResult]) -> Result<Response, Problem> {
    let status = overall(results)?;
    let mut text = Vec::with_capacity(results.len() * 128);
    for result in results {
        if let Err(error) = serde_json::to_writer(&mut text, result) {
            return Err(Problem::new(Kind::Internal, error));
        }
        text.push(b'\n');
    }
    Ok((status, [(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// Lines of a body that comes in chunks. A line that is too long is passed over, not kept.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that are known to have no line feed.
    searched: usize,
    /// Bytes of a line that is too long and already dropped.
    dropped: usize,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The last line may lack its line feed.
    fn end(&mut self) {
        self.buffer.extend_from_slice(b"\n");
    }

    fn next(&mut self) -> Option<Result<Bytes, Invalid>> {
        loop {
            let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                if self.buffer.len() > LINE_LIMIT {
                    self.dropped += self.buffer.len();
                    self.buffer.clear();
                }
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + found + 1).freeze();
            self.searched = 0;
            let length = std::mem::take(&mut self.dropped) + line.len();
            if length > LINE_LIMIT {
                return Some(Err(Reason::TooLarge(length).into()));
            }
            if !line.trim_ascii().is_empty() {
                return Some(Ok(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str]) -> Vec<Result<String, usize>> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut take = |lines: &mut Lines| {
            while let Some(line) = lines.next() {
                found.push(match line {
                    Ok(line) => Ok(String::from_utf8_lossy(&line).trim().to_owned()),
                    Err(Invalid { reason: Reason::TooLarge(length), .. }) => Err(length),
                    Err(other) => panic!("{other}"),
                });
            }
        };
        for chunk in chunks {
            lines.push(chunk.as_bytes());
            take(&mut lines);
        }
        lines.end();
        take(&mut lines);
        found
    }

    #[test]
    fn lines_are_found_across_chunks() {
        assert_eq!(
            lines(&["{\"a\"", ":1}\n\n{\"b\":", "2}\r\n{}"]),
            [Ok("{\"a\":1}".to_owned()), Ok("{\"b\":2}".to_owned()), Ok("{}".to_owned())]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_is_found() {
        let long = "x".repeat(LINE_LIMIT + 1);
        let found = lines(&[&long, &long, "y\n{}\n"]);
        assert_eq!(found, [Err(2 * LINE_LIMIT + 4), Ok("{}".to_owned())]);
    }
}
