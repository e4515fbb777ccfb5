//! Many events brought to the ledger in order, through failures of the service.
//!
//! Invariants: one request is under way at a time, and a chunk is sent only when all events before
//! it are recorded, so that the ledger has them in the order in which they come; what is not known
//! to be recorded is sent again, which identity makes safe; nothing is passed over.

use std::thread;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::answer::{EventResult, EventStatus, PositionBody};
use super::chunk::{Chunk, Filling};
use super::connection::Client;
use super::progress::Progress;
use super::query::read;

/// How long is waited before a chunk is sent again: doubled every time, from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How events are brought, apart from what they are.
pub(super) struct Delivery<'a> {
    pub(super) client: &'a Client,
    /// What an event's number counts: `line`.
    pub(super) unit: &'static str,
    /// How long it goes on without any progress.
    pub(super) retry_for: Duration,
    pub(super) progress: Progress,
}

/// What became of events that were all recorded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Delivered {
    /// How many there were.
    pub rows: u64,
    /// How many of them are new in the ledger.
    pub recorded: u64,
    /// How many of them the ledger had already.
    pub duplicates: u64,
    /// The greatest position that one of them has.
    pub position: Option<u64>,
    /// How many rows were left out, where that was possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// How long it took.
    pub seconds: f64,
    /// How many stand before an event that came before them.
    #[serde(skip)]
    pub(super) misplaced: u64,
}

impl Delivered {
    /// One line: `3 rows: 3 recorded, 0 duplicates, position 3, 0.1 s`; with `2 skipped` if any were.
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
    /// Brings all events.
    ///
    /// # Errors
    /// One cannot be made or will never be recorded, or the service takes none for too long.
    pub(super) async fn bring(
        self,
        events: impl Iterator<Item = anyhow::Result<(u64, Bytes)>> + Send + 'static,
    ) -> anyhow::Result<Delivered> {
        let began = Instant::now();
        let mut tally = Tally { head_before: self.head().await, ..Tally::default() };
        // One chunk is sent, one waits here, one is being filled.
        let (sender, mut chunks) = mpsc::channel(1);
        // A thread of its own, and not one of the runtime's, which would wait for it when it ends:
        // it may be reading from a terminal.
        let filler = thread::spawn(move || fill(events, &sender));
        while let Some(chunk) = chunks.recv().await {
            self.send(&chunk?, &mut tally).await?;
        }
        filler.join().map_err(|_| anyhow!("the events could not be read to their end"))?;
        self.progress.finish();
        let delivered = tally.delivered(began.elapsed());
        if delivered.misplaced > 0 {
            self.progress.note(&format!(
                "{} events stand in the ledger before events that came before them: the journal refused those \
                 for a while",
                delivered.misplaced
            ));
        }
        Ok(delivered)
    }

    /// The position of the last entry, if the service can say.
    async fn head(&self) -> Option<u64> {
        let body = self.client.get(self.client.url(&["position"])).await.ok()?;
        read::<PositionBody>(&body).ok().map(|body| body.head)
    }

    /// Sends a chunk until all of it is recorded.
    async fn send(&self, chunk: &Chunk, tally: &mut Tally) -> anyhow::Result<()> {
        let mut outcomes = vec![None; chunk.numbers().len()];
        let mut deadline = Instant::now() + self.retry_for;
        let mut pause = PAUSE.0;
        let mut again = false;
        loop {
            let failure = match self.client.record(chunk).await {
                Ok(results) => {
                    let progress = self.settle(chunk, &results, &mut outcomes)?;
                    let Some(refused) = results.iter().find(|result| result.status == EventStatus::Refused)
                    else {
                        break;
                    };
                    if progress {
                        (deadline, pause) = (Instant::now() + self.retry_for, PAUSE.0);
                    }
                    anyhow!("{refused}")
                }
                Err(error) if error.is_temporary() => error.into(),
                Err(error) => return Err(error.into()),
            };
            if Instant::now() + pause > deadline {
                let (unit, next) = (self.unit, chunk.numbers()[0]);
                return Err(failure.context(format!(
                    "given up after {} s without progress; all before {unit} {next} is recorded, and the same \
                     command goes on from there",
                    self.retry_for.as_secs()
                )));
            }
            if !again {
                self.progress.note(&format!("{failure}; trying again"));
            }
            again = true;
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        tally.add(&outcomes, again);
        self.progress.recorded(&format!("{} recorded or there already", tally.rows()));
        Ok(())
    }

    /// Notes what is recorded; says whether anything is that was not before.
    fn settle(
        &self,
        chunk: &Chunk,
        results: &[EventResult],
        outcomes: &mut [Option<Outcome>],
    ) -> anyhow::Result<bool> {
        let mut progress = false;
        for ((number, result), outcome) in chunk.numbers().iter().zip(results).zip(outcomes) {
            match (result.status, result.position) {
                (EventStatus::Recorded | EventStatus::Duplicate, Some(position)) => {
                    let new = result.status == EventStatus::Recorded;
                    progress |= outcome.is_none();
                    // Sent again, an event that was recorded is a duplicate; it stays recorded.
                    outcome.get_or_insert(Outcome { new, position });
                }
                (EventStatus::Refused, _) => {}
                _ => bail!("{} {number} is not recorded: {result}", self.unit),
            }
        }
        Ok(progress)
    }
}

/// Where an event is, and whether it is new there.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    new: bool,
    position: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// Where the ledger ended before the first event was sent, if that is known.
    head_before: Option<u64>,
    recorded: u64,
    duplicates: u64,
    position: Option<u64>,
    misplaced: u64,
}

impl Tally {
    /// Adds a chunk's outcomes. If it was sent again, the answer to a former time may have been
    /// lost: then what stands behind the former end of the ledger is new.
    fn add(&mut self, outcomes: &[Option<Outcome>], again: bool) {
        for outcome in outcomes.iter().flatten() {
            let behind = self.head_before.is_some_and(|head| outcome.position > head);
            if outcome.new || (again && behind) {
                self.recorded += 1;
                self.misplaced += u64::from(self.position.is_some_and(|before| before > outcome.position));
            } else {
                self.duplicates += 1;
            }
            self.position = self.position.max(Some(outcome.position));
        }
    }

    const fn rows(&self) -> u64 {
        self.recorded + self.duplicates
    }

    const fn delivered(&self, took: Duration) -> Delivered {
        Delivered {
            rows: self.rows(),
            recorded: self.recorded,
            duplicates: self.duplicates,
            position: self.position,
            skipped: None,
            seconds: took.as_millis() as f64 / 1_000.0,
            misplaced: self.misplaced,
        }
    }
}

/// Fills chunks until there are no more events, or one cannot be made: then with what came before it.
fn fill(
    events: impl Iterator<Item = anyhow::Result<(u64, Bytes)>>,
    sender: &mpsc::Sender<anyhow::Result<Chunk>>,
) {
    let mut filling = Filling::default();
    let mut fault = None;
    for event in events {
        match event {
            Ok((number, bytes)) => filling.push(number, &bytes),
            Err(error) => {
                fault = Some(error.context("what came before is recorded, and nothing after it is sent"));
                break;
            }
        }
        if filling.is_full()
            && let Some(chunk) = filling.take()
            && sender.blocking_send(Ok(chunk)).is_err()
        {
            // Nobody sends them any more.
            return;
        }
    }
    let rest = filling.take().map(Ok).into_iter().chain(fault.map(Err));
    for chunk in rest {
        if sender.blocking_send(chunk).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
