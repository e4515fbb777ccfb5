//! Bulk ingest: records the events of one request in order. Newline-delimited JSON is recorded while the body arrives.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use ledger_api_types::EventResult;
use ledger_codec::cloudevents::{Envelope, InvalidEvent, MAX_EVENT_BYTES, Reason};
use ledger_ingest::{OrderedSubmission, RecordError, RecordOutcome};

use crate::body::{is_too_slow, unreadable};
use crate::budget::ByteBudget;
use crate::bulk_results::{BulkResults, Form};
use crate::event_result::{
    denied_result, id_and_source, invalid_result, is_recorded, outcome_result, refused_result,
};
use crate::foreign::{Unusable, parse_structured};
use crate::problem::{Kind, Problem};
use crate::quarantine::quarantined_result;
use crate::tenant::TenantLedger;

/// Number of events that are submitted together.
const GROUP_SIZE: usize = 500;
/// Bytes at which a group is submitted before it has `GROUP_SIZE` events. Bounds memory, and the delay for other
/// clients.
const GROUP_BYTES: usize = 1 << 20;
/// Maximum number of submitted groups without an outcome.
const MAX_GROUPS_IN_FLIGHT: usize = 4;
/// Maximum length of a line. White space can make a line longer than its event.
const MAX_LINE_BYTES: usize = MAX_EVENT_BYTES * 4;

/// Event of a group: rejected already, or submitted with its id and source.
enum GroupItem {
    Rejected(EventResult),
    Submitted((String, String)),
}

/// Separates the events of a group that are valid and that the sender may send from its items, and keeps the order of
/// both.
async fn separate(
    ledger: &TenantLedger,
    events: Vec<Result<Envelope, Unusable>>,
) -> (Vec<GroupItem>, Vec<Envelope>) {
    let mut valid = Vec::with_capacity(events.len());
    let mut items = Vec::with_capacity(events.len());
    let mut failed = None;
    for event in events {
        items.push(match event {
            Ok(envelope) => {
                let id_and_source = id_and_source(&envelope);
                match ledger.accept(envelope).await {
                    Ok(envelope) => {
                        valid.push(envelope);
                        GroupItem::Submitted(id_and_source)
                    }
                    Err(problem) => GroupItem::Rejected(denied_result(id_and_source, problem)),
                }
            }
            Err(Unusable::Invalid(invalid)) => GroupItem::Rejected(invalid_result(invalid)),
            Err(Unusable::NotUnderstood(foreign)) => {
                let (message, error) = *foreign;
                let result = match &failed {
                    None => quarantined_result(ledger, &message, &error).await,
                    // Each attempt may take the time of a request to NATS.
                    Some(problem) => Err(Problem::clone(problem)),
                };
                GroupItem::Rejected(result.unwrap_or_else(|problem| {
                    failed = Some(problem.clone());
                    refused_result(problem)
                }))
            }
        });
    }
    (items, valid)
}

/// Returns the number of bytes that an event of a group holds.
fn size(event: &Result<Envelope, Unusable>) -> usize {
    match event {
        Ok(envelope) => envelope.bytes().len(),
        Err(Unusable::NotUnderstood(foreign)) => foreign.0.body.len(),
        Err(Unusable::Invalid(_)) => 0,
    }
}

/// Merges the outcomes of the submitted events into the results of their group.
fn merge(items: Vec<GroupItem>, outcomes: &[RecordOutcome]) -> Vec<EventResult> {
    let mut outcomes = outcomes.iter();
    let items = items.into_iter();
    items
        .map(|item| match item {
            GroupItem::Rejected(result) => result,
            GroupItem::Submitted(id_and_source) => outcome_result(
                id_and_source,
                outcomes.next().unwrap_or(&RecordOutcome::Refused(RecordError::Closing)),
            ),
        })
        .collect()
}

/// Records the events of one request, in groups and in order.
struct BulkRecorder<'l> {
    ledger: &'l TenantLedger,
    order: OrderedSubmission,
    group: Vec<Result<Envelope, Unusable>>,
    /// Bytes of the events in the group.
    group_bytes: usize,
    in_flight: FuturesOrdered<BoxFuture<'l, Vec<EventResult>>>,
    results: BulkResults,
}

impl<'l> BulkRecorder<'l> {
    fn new(ledger: &'l TenantLedger, results: BulkResults) -> Self {
        Self {
            ledger,
            order: OrderedSubmission::default(),
            group: Vec::new(),
            group_bytes: 0,
            in_flight: FuturesOrdered::new(),
            results,
        }
    }

    async fn push(&mut self, event: Result<Envelope, Unusable>) -> Result<(), Problem> {
        self.group_bytes += size(&event);
        self.group.push(event);
        if self.group.len() == GROUP_SIZE || self.group_bytes >= GROUP_BYTES {
            self.submit().await?;
            if self.in_flight.len() == MAX_GROUPS_IN_FLIGHT
                && let Some(done) = self.in_flight.next().await
            {
                self.results.extend(done)?;
            }
        }
        Ok(())
    }

    async fn submit(&mut self) -> Result<(), Problem> {
        self.ledger.tenancy().count_received(self.group.len());
        self.group_bytes = 0;
        let (items, valid) = separate(self.ledger, std::mem::take(&mut self.group)).await;
        // A command is decided after all events before it are recorded.
        if valid.iter().any(|envelope| envelope.event().payload.is_command()) {
            self.wait_for_groups().await?;
        }
        // Invalid events need no wait: let other requests have their turn.
        tokio::task::yield_now().await;
        let submitted = self.ledger.ingest.submit(valid, &self.order).await;
        let stats = self.ledger.tenancy().stats();
        self.in_flight.push_back(
            async move {
                let outcomes = submitted.outcomes().await;
                stats.add_recorded(outcomes.iter().filter(|outcome| is_recorded(outcome)).count());
                merge(items, &outcomes)
            }
            .boxed(),
        );
        Ok(())
    }

    /// Waits for the outcomes of all submitted groups.
    async fn wait_for_groups(&mut self) -> Result<(), Problem> {
        while let Some(done) = self.in_flight.next().await {
            self.results.extend(done)?;
        }
        Ok(())
    }

    /// Submits the last group and returns all results, in order.
    async fn finish(mut self) -> Result<BulkResults, Problem> {
        self.submit().await?;
        self.wait_for_groups().await?;
        Ok(self.results)
    }
}

/// Records the events of a batch that is completely read.
pub(crate) async fn record_all(
    ledger: &TenantLedger,
    annotate: bool,
    budget: &Arc<ByteBudget>,
    events: impl Iterator<Item = Result<Envelope, Unusable>>,
) -> Result<Response, Problem> {
    let mut recorder = BulkRecorder::new(ledger, BulkResults::new(Form::Array, budget.share()));
    for event in events {
        recorder.push(event).await?;
    }
    recorder.finish().await?.respond(ledger, annotate).await
}

/// Records the lines of a body while they arrive.
pub(crate) async fn record_lines(
    ledger: &TenantLedger,
    annotate: bool,
    budget: &Arc<ByteBudget>,
    body: Body,
    limit: usize,
) -> Result<Response, Problem> {
    let mut chunks = body.into_data_stream();
    let mut lines = LineSplitter::default();
    let mut buffered = budget.share();
    let mut recorder = BulkRecorder::new(ledger, BulkResults::new(Form::Lines, budget.share()));
    let mut received = 0;
    let mut interruption = None;
    let mut ended = false;
    while !ended {
        match chunks.next().await {
            Some(Ok(chunk)) => lines.push(&chunk),
            Some(Err(error)) => (interruption, ended) = (Some(error), true),
            None => {
                lines.end();
                ended = true;
            }
        }
        while let Some(line) = lines.next() {
            if received == limit {
                let detail = format!(
                    "the request has more than {limit} events; send this one and the rest in another request"
                );
                let invalid = InvalidEvent::from(Reason::Value { pointer: String::new(), detail });
                recorder.push(Err(invalid.into())).await?;
                // Do not read or buffer the rest of the body.
                return recorder.finish().await?.respond(ledger, false).await;
            }
            received += 1;
            let event = line.map_err(Unusable::from).and_then(|line| parse_structured(ledger.app(), &line));
            recorder.push(event).await?;
        }
        buffered.resize(lines.buffer.len() + recorder.group_bytes)?;
    }
    let results = recorder.finish().await?;
    match interruption {
        None => results.respond(ledger, annotate).await,
        Some(error) if is_too_slow(&error) => Err(unreadable(&error)),
        Some(_) => {
            let detail = format!(
                "the body ended early after {received} lines; complete lines are recorded; resend the whole body"
            );
            Err(Problem::new(Kind::IncompleteBody, detail))
        }
    }
}

/// Splits a body that arrives in chunks into lines. It drops a line that is too long and does not buffer it.
#[derive(Default)]
struct LineSplitter {
    buffer: BytesMut,
    /// Number of leading bytes of the buffer without a line feed.
    searched: usize,
    /// Number of bytes already dropped of a line that is too long.
    dropped: usize,
}

impl LineSplitter {
    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Ends the last line, which may lack its line feed.
    fn end(&mut self) {
        self.buffer.extend_from_slice(b"\n");
    }

    fn next(&mut self) -> Option<Result<Bytes, InvalidEvent>> {
        loop {
            let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                if self.buffer.len() > MAX_LINE_BYTES {
                    self.dropped += self.buffer.len();
                    self.buffer.clear();
                }
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + found + 1).freeze();
            self.searched = 0;
            let length = std::mem::take(&mut self.dropped) + line.len();
            if length > MAX_LINE_BYTES {
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
        let mut lines = LineSplitter::default();
        let mut found = Vec::new();
        let mut take = |lines: &mut LineSplitter| {
            while let Some(line) = lines.next() {
                found.push(match line {
                    Ok(line) => Ok(String::from_utf8_lossy(&line).trim().to_owned()),
                    Err(InvalidEvent { reason: Reason::TooLarge(length), .. }) => Err(length),
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
    fn lines_can_span_chunks_and_empty_lines_are_skipped() {
        assert_eq!(
            lines(&["{\"a\"", ":1}\n\n{\"b\":", "2}\r\n{}"]),
            [Ok("{\"a\":1}".to_owned()), Ok("{\"b\":2}".to_owned()), Ok("{}".to_owned())]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_rejected_and_the_next_one_is_read() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let found = lines(&[&long, &long, "y\n{}\n"]);
        assert_eq!(found, [Err(2 * MAX_LINE_BYTES + 4), Ok("{}".to_owned())]);
    }
}
