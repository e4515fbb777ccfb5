//! Delivers many events to the ledger in order, through failures of the service.
//!
//! Invariants: one request is in flight at a time, and a chunk is sent only after all events before it are
//! recorded, so that the ledger records them in order. What is not known to be recorded is sent again, which
//! the identity of events makes safe. No event is skipped, unless the delivery leaves out rejected ones.

use std::thread;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use ledger_api_types::{EventResult, EventStatus, PositionBody};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::chunk::{Chunk, ChunkBuilder};
use super::connection::Client;
use super::event_result::describe;
use super::progress::Progress;
use super::query::read;
use super::retry::{FIRST_RETRY_DELAY, MAX_RETRY_DELAY};

/// Settings of a delivery.
pub(super) struct Delivery<'a> {
    pub(super) client: &'a Client,
    /// The unit of event numbers in messages, such as `line`.
    pub(super) unit: &'static str,
    /// Time limit without any progress.
    pub(super) retry_for: Duration,
    pub(super) progress: Progress,
    /// Leave out the events that the state of the ledger does not allow, instead of ending with the first of them.
    pub(super) skips_rejected: bool,
}

/// The summary of a complete delivery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeliverySummary {
    /// Number of delivered events.
    pub rows: u64,
    /// Number of events that this delivery recorded.
    pub recorded: u64,
    /// Number of events that were already recorded.
    pub duplicates: u64,
    /// The highest position of a delivered event.
    pub position: Option<u64>,
    /// Number of skipped rows, if skipping is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// Duration of the delivery.
    pub seconds: f64,
    /// Number of events with a lower position than an event that precedes them.
    #[serde(skip)]
    pub(super) out_of_order: u64,
}

impl DeliverySummary {
    /// Renders one line: `3 rows: 3 recorded, 0 duplicates, position 3, 0.1 s`; with `2 skipped` if rows were
    /// skipped.
    pub(super) fn render(&self, units: &str) -> String {
        let position = self.position.map(|position| format!(" position {position},")).unwrap_or_default();
        let skipped = self.skipped.filter(|skipped| *skipped > 0);
        let skipped = skipped.map(|skipped| format!(" {skipped} skipped,")).unwrap_or_default();
        let Self { rows, recorded, duplicates, seconds, .. } = self;
        format!(
            "{rows} {units}: {recorded} recorded, {duplicates} duplicates,{skipped}{position} {seconds:.1} s"
        )
    }
}

impl Delivery<'_> {
    /// Delivers all events.
    ///
    /// # Errors
    /// An event cannot be created or is rejected permanently, or the service accepts none for too long.
    pub(super) async fn deliver(
        self,
        events: impl Iterator<Item = anyhow::Result<(u64, Bytes)>> + Send + 'static,
    ) -> anyhow::Result<DeliverySummary> {
        let started_at = Instant::now();
        let mut tally = Tally { head_before: self.head().await, ..Tally::default() };
        // One chunk is in flight, one waits in the channel, and one is being built.
        let (sender, mut chunks) = mpsc::channel(1);
        // Use a separate thread, not one of the runtime: the runtime would wait for it at its end, and the
        // thread may be blocked reading from a terminal.
        let reader = thread::spawn(move || build_chunks(events, &sender));
        while let Some(chunk) = chunks.recv().await {
            self.send(&chunk?, &mut tally).await?;
        }
        reader.join().map_err(|_| anyhow!("the thread that reads the events panicked"))?;
        self.progress.finish();
        let summary = tally.summary(started_at.elapsed());
        if summary.out_of_order > 0 {
            self.progress.note(&format!(
                "{} events are recorded ahead of events that precede them: the journal refused those \
                 for a while",
                summary.out_of_order
            ));
        }
        Ok(summary)
    }

    /// Returns the position of the last entry, if the service is available.
    async fn head(&self) -> Option<u64> {
        let body = self.client.get(self.client.url(&["position"])).await.ok()?;
        read::<PositionBody>(&body).ok().map(|body| body.head)
    }

    /// Sends a chunk until all its events are recorded.
    async fn send(&self, chunk: &Chunk, tally: &mut Tally) -> anyhow::Result<()> {
        let mut outcomes = vec![None; chunk.numbers().len()];
        let mut deadline = Instant::now() + self.retry_for;
        let mut delay = FIRST_RETRY_DELAY;
        let mut is_retry = false;
        loop {
            let failure = match self.client.record(chunk).await {
                Ok(results) => {
                    let progress = self.update_outcomes(chunk, &results, &mut outcomes)?;
                    let Some(refused) = results.iter().find(|result| result.status == EventStatus::Refused)
                    else {
                        break;
                    };
                    if progress {
                        (deadline, delay) = (Instant::now() + self.retry_for, FIRST_RETRY_DELAY);
                    }
                    anyhow!("{}", describe(refused))
                }
                Err(error) if error.is_temporary() => error.into(),
                Err(error) => return Err(error.into()),
            };
            if Instant::now() + delay > deadline {
                let (unit, next) = (self.unit, chunk.numbers()[0]);
                return Err(failure.context(format!(
                    "gave up after {} s without progress; everything before {unit} {next} is recorded, and \
                     the same command continues from there",
                    self.retry_for.as_secs()
                )));
            }
            if !is_retry {
                self.progress.note(&format!("{failure}; retrying"));
            }
            is_retry = true;
            sleep(delay).await;
            delay = (delay * 2).min(MAX_RETRY_DELAY);
        }
        tally.add(&outcomes, is_retry);
        tally.skipped += outcomes.iter().filter(|outcome| outcome.is_none()).count() as u64;
        self.progress.set_message(&format!("{} recorded or duplicate", tally.rows()));
        Ok(())
    }

    /// Stores the outcomes of recorded events; returns true if any is new.
    fn update_outcomes(
        &self,
        chunk: &Chunk,
        results: &[EventResult],
        outcomes: &mut [Option<Outcome>],
    ) -> anyhow::Result<bool> {
        let mut progress = false;
        for ((number, result), outcome) in chunk.numbers().iter().zip(results).zip(outcomes) {
            match (result.status, result.position) {
                (EventStatus::Recorded | EventStatus::Duplicate, Some(position)) => {
                    let is_new = result.status == EventStatus::Recorded;
                    progress |= outcome.is_none();
                    // Sent again, a recorded event is a duplicate; keep its first outcome.
                    outcome.get_or_insert(Outcome { is_new, position });
                }
                (EventStatus::Refused, _) => {}
                (EventStatus::Rejected, _) if self.skips_rejected => {}
                _ => bail!("{} {number} is not recorded: {}", self.unit, describe(result)),
            }
        }
        Ok(progress)
    }
}

/// The position of a recorded event.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    is_new: bool,
    position: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// The position of the last entry before the first event was sent, if known.
    head_before: Option<u64>,
    recorded: u64,
    duplicates: u64,
    position: Option<u64>,
    out_of_order: u64,
    /// Number of events that were left out.
    skipped: u64,
}

impl Tally {
    /// Adds the outcomes of a chunk. If the chunk was sent again, the response to an earlier attempt may have
    /// been lost: a position beyond the former end of the ledger then means that the event is new.
    fn add(&mut self, outcomes: &[Option<Outcome>], is_retry: bool) {
        for outcome in outcomes.iter().flatten() {
            let is_beyond_head = self.head_before.is_some_and(|head| outcome.position > head);
            if outcome.is_new || (is_retry && is_beyond_head) {
                self.recorded += 1;
                self.out_of_order += u64::from(self.position.is_some_and(|before| before > outcome.position));
            } else {
                self.duplicates += 1;
            }
            self.position = self.position.max(Some(outcome.position));
        }
    }

    const fn rows(&self) -> u64 {
        self.recorded + self.duplicates
    }

    const fn summary(&self, duration: Duration) -> DeliverySummary {
        DeliverySummary {
            rows: self.rows(),
            recorded: self.recorded,
            duplicates: self.duplicates,
            position: self.position,
            skipped: if self.skipped > 0 { Some(self.skipped) } else { None },
            seconds: duration.as_millis() as f64 / 1_000.0,
            out_of_order: self.out_of_order,
        }
    }
}

/// Builds chunks until the events end. If an event cannot be created, sends the events before it, then the
/// error.
fn build_chunks(
    events: impl Iterator<Item = anyhow::Result<(u64, Bytes)>>,
    sender: &mpsc::Sender<anyhow::Result<Chunk>>,
) {
    let mut builder = ChunkBuilder::default();
    let mut failure = None;
    for event in events {
        match event {
            Ok((number, bytes)) => builder.push(number, &bytes),
            Err(error) => {
                failure =
                    Some(error.context("everything before it is recorded, and nothing after it is sent"));
                break;
            }
        }
        if builder.is_full()
            && let Some(chunk) = builder.take()
            && sender.blocking_send(Ok(chunk)).is_err()
        {
            // The receiver has stopped.
            return;
        }
    }
    let rest = builder.take().map(Ok).into_iter().chain(failure.map(Err));
    for chunk in rest {
        if sender.blocking_send(chunk).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
