//! The one door: whoever brings events comes through it.
//!
//! Owns identity (an event that the ledger knows is answered with its position and not recorded
//! again), group commit (what arrives together is appended together), and the judging of requests, the
//! rollback controller's too. Answers are given only after the journal's acknowledgement.

mod appender;
mod automatic;
mod backtest;
mod gate;
mod horizon;
mod planning;
mod recent;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::{EVENT_LIMIT, Envelope};
use ledger_domain::event::CLOCK_TOLERANCE;
use ledger_domain::{Position, TenantName};
use ledger_journal::{AppendError, SharedJournal};
use ledger_projections::Projections;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use appender::{Appender, Brought, PendingBatch, RecentAppendFailure};

pub use automatic::{Controller, FailedCheck};
pub use backtest::{BacktestError, backtest};
pub use gate::{GateAnswer, GateError, GateQuestion, gate};
pub use horizon::{Horizon, HorizonPoint, horizon};
pub use planning::{PlanError, PlanRequest, Planned, Resolved, UnknownLane, plan, resolve};
pub use request::{Rejection, Request, RequestRollback, RollbackContext, not_reached};

/// Sources of the ledger's own events: one from outside could take the identity of an answer to come.
const OWN_SOURCES: [&str; 2] = ["urn:release-ledger:api", "urn:release-ledger:rollback-controller"];

/// Bytes of events that may wait to be appended; whoever brings more waits before the door.
const ROOM: usize = 32 << 20;
/// How many may wait before the door, each with what it brings; whoever comes then is sent away.
const WAITING: usize = 10_000;

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordOutcome {
    /// It is the entry at this position, and durable.
    Recorded(Position),
    /// The same event was recorded at this position before.
    Duplicate(Position),
    /// Another event with the same identity was recorded at this position before.
    Conflict(Position),
    /// It was not recorded, or that is not known.
    Refused(RecordError),
}

/// Why an event was not recorded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// It says that it occurred in the future.
    #[error(
        "the event says that it occurred at {occurred_at}, which is more than five minutes after now ({now})"
    )]
    FromTheFuture {
        /// When it says that it occurred.
        occurred_at: DateTime<Utc>,
        /// The service's time.
        now: DateTime<Utc>,
    },
    /// The journal did not take it. See [`AppendError`] for whether it may be tried again.
    #[error(transparent)]
    Journal(AppendError),
    /// The journal is not the one that the projections were folded from: what they know would be wrong.
    #[error("the journal is not the one that the ledger's projections were folded from: {0}")]
    Diverged(String),
    /// An earlier event of the same train was not taken.
    #[error("an earlier event could not be recorded, and this one must not come before it")]
    PredecessorFailed,
    /// It asks for something that cannot be as the ledger is.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// It asks for something, and could not be judged: it may be tried again.
    #[error("the request could not be judged: {0}")]
    DecisionError(String),
    /// Too much waits to be recorded: it may be tried again.
    #[error("too much waits to be recorded")]
    Busy,
    /// The service ends.
    #[error("the service is shutting down")]
    Closing,
}

/// The door of one tenant's ledger.
#[derive(Clone)]
pub struct Ingest {
    tickets: mpsc::UnboundedSender<PendingBatch>,
    room: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    projections: Projections,
    clock: fn() -> DateTime<Utc>,
    refused: RecentAppendFailure,
}

impl Ingest {
    /// Why the journal took nothing when it was last given something, if that was within the last ten seconds. One
    /// that answers questions may nevertheless store nothing, as after its disk was full.
    #[must_use]
    pub fn recent_append_failure(&self) -> Option<String> {
        self.refused.reason()
    }

    /// Opens the door. The task ends when every clone of the door is dropped and everything that
    /// came through it is answered.
    #[must_use]
    pub fn open(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        clock: fn() -> DateTime<Utc>,
    ) -> (Self, JoinHandle<()>) {
        // Unbounded by itself, and bounded by `room`: each ticket takes of it what its events have in bytes, of which
        // each has some, and gives it back when it is answered.
        let (tickets, queue) = mpsc::unbounded_channel();
        let refused = RecentAppendFailure::default();
        let appender = Appender::new(tenant, journal, projections.clone(), clock, refused.clone());
        let task = tokio::spawn(appender.run(queue));
        let (room, waiting) = (Arc::new(Semaphore::new(ROOM)), Arc::new(Semaphore::new(WAITING)));
        (Self { tickets, room, waiting, projections, clock, refused }, task)
    }

    /// Takes events in and waits for their answers, one for each, in order.
    pub async fn record(&self, envelopes: Vec<Envelope>) -> Vec<RecordOutcome> {
        self.submit(envelopes, &OrderedSubmission::default()).await.answers().await
    }

    /// Takes events in; they are appended in the order in which they were submitted. Waits only
    /// while too much waits already. Once the journal could not take an event of a train, the train's
    /// later events are refused too: sent again, all of them keep their order.
    pub async fn submit(&self, envelopes: Vec<Envelope>, train: &OrderedSubmission) -> Submitted {
        if let Some(reason) = self.projections.divergence() {
            train.abort();
            let refused = RecordOutcome::Refused(RecordError::Diverged(reason));
            return Submitted { answers: vec![Some(refused); envelopes.len()], rest: None };
        }
        let now = (self.clock)();
        let mut answers = Vec::with_capacity(envelopes.len());
        let mut admitted = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let occurred_at = envelope.occurred_at();
            if occurred_at - now > CLOCK_TOLERANCE {
                answers.push(Some(RecordOutcome::Refused(RecordError::FromTheFuture { occurred_at, now })));
            } else if OWN_SOURCES.contains(&envelope.identity().source.as_str()) {
                let source = envelope.identity().source.clone();
                answers.push(Some(RecordOutcome::Refused(RecordError::Rejected(Box::new(
                    Rejection::OwnSource(source),
                )))));
            } else {
                answers.push(None);
                admitted.push(envelope);
            }
        }
        if admitted.is_empty() {
            return Submitted { answers, rest: None };
        }
        let bytes = admitted.iter().map(|envelope| envelope.bytes().len()).sum();
        let brought = admitted.into_iter().map(Brought::of).collect();
        match self.queue(brought, bytes, train).await {
            Ok(rest) => Submitted { answers, rest: Some(rest) },
            Err(refusal) => {
                let answers = answers
                    .into_iter()
                    .map(|answer| answer.or(Some(RecordOutcome::Refused(refusal.clone()))));
                Submitted { answers: answers.collect(), rest: None }
            }
        }
    }

    /// Has a request judged, and recorded if nothing speaks against it.
    pub async fn request(&self, request: Request) -> RecordOutcome {
        if let Some(reason) = self.projections.divergence() {
            return RecordOutcome::Refused(RecordError::Diverged(reason));
        }
        match self.queue(vec![Brought::Request(request)], EVENT_LIMIT, &OrderedSubmission::default()).await {
            Ok(rest) => {
                let answers = Submitted { answers: vec![None], rest: Some(rest) }.answers().await;
                answers.into_iter().next().unwrap_or(RecordOutcome::Refused(RecordError::Closing))
            }
            Err(refusal) => RecordOutcome::Refused(refusal),
        }
    }

    async fn queue(
        &self,
        brought: Vec<Brought>,
        bytes: usize,
        train: &OrderedSubmission,
    ) -> Result<oneshot::Receiver<Vec<RecordOutcome>>, RecordError> {
        // Room is counted in bytes and never above ROOM, which fits; the semaphore is never closed.
        let permits = u32::try_from(bytes.min(ROOM)).unwrap_or(u32::MAX);
        let Ok(place) = self.waiting.try_acquire() else {
            // What follows in the train must not be recorded without this.
            train.abort();
            return Err(RecordError::Busy);
        };
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.ok();
        drop(place);
        let (answer, rest) = oneshot::channel();
        // If the appender is gone, the sender of the answer is dropped here, which says so.
        let _ = self.tickets.send(PendingBatch { brought, train: train.clone(), answer, _room: room });
        Ok(rest)
    }
}

/// Events that are submitted in several parts and belong in one order.
#[derive(Debug, Clone, Default)]
pub struct OrderedSubmission(Arc<AtomicBool>);

impl OrderedSubmission {
    fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Events that are on their way.
pub struct Submitted {
    answers: Vec<Option<RecordOutcome>>,
    rest: Option<oneshot::Receiver<Vec<RecordOutcome>>>,
}

impl Submitted {
    /// Waits for the answers, one for each event, in order.
    pub async fn answers(self) -> Vec<RecordOutcome> {
        let mut rest = match self.rest {
            Some(rest) => rest.await.unwrap_or_default().into_iter(),
            None => Vec::new().into_iter(),
        };
        let closing = || RecordOutcome::Refused(RecordError::Closing);
        self.answers
            .into_iter()
            .map(|answer| answer.or_else(|| rest.next()).unwrap_or_else(closing))
            .collect()
    }
}

/// How long a request may wait for its judgement, and keep other events from being appended.
const JUDGING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a look-up in the history may keep events from being appended.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(3);
/// How long no request is judged after one that could not be.
const JUDGING_PAUSE: Duration = Duration::from_secs(5);
/// How often it is tried whether a history that did not answer does again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use ledger_projections::{SchemaVersion, Settings};

    use super::*;

    const EVENT: &str = r#"{"specversion": "1.0", "id": "1", "source": "urn:test",
        "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
        "data": {"environment": "production", "service": "web", "release": {"version": "v1"}}}"#;

    #[tokio::test]
    async fn whoever_finds_too_many_before_the_door_is_sent_away_and_so_is_what_follows_in_the_train() {
        let event = || Envelope::parse(EVENT.as_bytes()).expect("an event");
        let settings = Settings {
            url: "postgres://nobody@127.0.0.1:1/none".into(),
            connections: 1,
            acquire_timeout: Duration::ZERO,
            schema_version: SchemaVersion::CURRENT,
        };
        let projections = Projections::of(&settings, TenantName::default()).expect("never connected");
        let (tickets, mut queue) = mpsc::unbounded_channel();
        let (room, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let clock = || DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let ingest = Ingest {
            tickets,
            room: Arc::clone(&room),
            waiting,
            projections,
            clock,
            refused: RecentAppendFailure::default(),
        };
        let (first, train) = (OrderedSubmission::default(), OrderedSubmission::default());

        let mut before_the_door = Box::pin(ingest.submit(vec![event()], &first));
        assert!(futures::poll!(&mut before_the_door).is_pending());
        let sent_away = ingest.submit(vec![event()], &train).await.answers().await;
        room.add_permits(ROOM);
        drop(before_the_door.await);

        assert_eq!(sent_away, [RecordOutcome::Refused(RecordError::Busy)]);
        assert!(train.is_broken());
        assert!(!first.is_broken());
        assert!(queue.try_recv().is_ok(), "who waited comes in when there is room");
    }
}
