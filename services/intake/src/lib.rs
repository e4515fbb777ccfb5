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

use chrono::{DateTime, TimeDelta, Utc};
use ledger_dialects::cloudevents::{EVENT_LIMIT, Envelope};
use ledger_domain::{Position, TenantName};
use ledger_journal::{AppendError, SharedJournal};
use ledger_views::Views;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use appender::{Appender, Brought, Ticket};

pub use automatic::{Controller, FailedCheck};
pub use backtest::{BacktestError, backtest};
pub use gate::{GateAnswer, GateQuestion, gate};
pub use horizon::{Horizon, HorizonPoint, horizon};
pub use planning::{PlanError, Planned, Wish, plan, resolve};
pub use request::{Living, Rejection, Request, RollbackWish, differing, is_request};

/// An event may say that it occurred at most this much after now: clocks differ.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Sources of the ledger's own events: one from outside could take the identity of an answer to come.
const OWN_SOURCES: [&str; 2] = ["urn:release-ledger:api", "urn:release-ledger:rollback-controller"];

/// Bytes of events that may wait to be appended; whoever brings more waits before the door.
const ROOM: usize = 32 << 20;

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is the entry at this position, and durable.
    Recorded(Position),
    /// The same event was recorded at this position before.
    Duplicate(Position),
    /// Another event with the same identity was recorded at this position before.
    Conflict(Position),
    /// It was not recorded, or that is not known.
    Refused(Refusal),
}

/// Why an event was not recorded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
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
    /// The journal is not the one that the views were folded from: what they know would be wrong.
    #[error("the journal is not the one that the ledger's views were folded from: {0}")]
    Diverged(String),
    /// An earlier event of the same train was not taken.
    #[error("an earlier event could not be recorded, and this one must not come before it")]
    OutOfTurn,
    /// It asks for something that cannot be as the ledger is.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// It asks for something, and could not be judged: it may be tried again.
    #[error("the request could not be judged: {0}")]
    Unjudged(String),
    /// The service ends.
    #[error("the service is shutting down")]
    Closing,
}

/// The door of one tenant's ledger.
#[derive(Clone)]
pub struct Intake {
    tickets: mpsc::UnboundedSender<Ticket>,
    room: Arc<Semaphore>,
    views: Views,
    clock: fn() -> DateTime<Utc>,
}

impl Intake {
    /// Opens the door. The task ends when every clone of the door is dropped and everything that
    /// came through it is answered.
    #[must_use]
    pub fn open(
        tenant: TenantName,
        journal: SharedJournal,
        views: Views,
        clock: fn() -> DateTime<Utc>,
    ) -> (Self, JoinHandle<()>) {
        // Unbounded in number, bounded in bytes by `room`.
        let (tickets, queue) = mpsc::unbounded_channel();
        let appender = Appender::new(tenant, journal, views.clone(), clock);
        let task = tokio::spawn(appender.run(queue));
        (Self { tickets, room: Arc::new(Semaphore::new(ROOM)), views, clock }, task)
    }

    /// Takes events in and waits for their answers, one for each, in order.
    pub async fn record(&self, envelopes: Vec<Envelope>) -> Vec<Answer> {
        self.submit(envelopes, &Train::default()).await.answers().await
    }

    /// Takes events in; they are appended in the order in which they were submitted. Waits only
    /// while too much waits already. Once the journal could not take an event of a train, the train's
    /// later events are refused too: sent again, all of them keep their order.
    pub async fn submit(&self, envelopes: Vec<Envelope>, train: &Train) -> Submitted {
        if let Some(reason) = self.views.divergence() {
            let refused = Answer::Refused(Refusal::Diverged(reason));
            return Submitted { answers: vec![Some(refused); envelopes.len()], rest: None };
        }
        let now = (self.clock)();
        let mut answers = Vec::with_capacity(envelopes.len());
        let mut admitted = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let occurred_at = envelope.occurred_at();
            if occurred_at - now > CLOCK_TOLERANCE {
                answers.push(Some(Answer::Refused(Refusal::FromTheFuture { occurred_at, now })));
            } else if OWN_SOURCES.contains(&envelope.identity().source.as_str()) {
                let source = envelope.identity().source.clone();
                answers
                    .push(Some(Answer::Refused(Refusal::Rejected(Box::new(Rejection::OwnSource(source))))));
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
        Submitted { answers, rest: Some(self.queue(brought, bytes, train).await) }
    }

    /// Has a request judged, and recorded if nothing speaks against it.
    pub async fn request(&self, request: Request) -> Answer {
        if let Some(reason) = self.views.divergence() {
            return Answer::Refused(Refusal::Diverged(reason));
        }
        let rest = self.queue(vec![Brought::Request(request)], EVENT_LIMIT, &Train::default()).await;
        let answers = Submitted { answers: vec![None], rest: Some(rest) }.answers().await;
        answers.into_iter().next().unwrap_or(Answer::Refused(Refusal::Closing))
    }

    async fn queue(
        &self,
        brought: Vec<Brought>,
        bytes: usize,
        train: &Train,
    ) -> oneshot::Receiver<Vec<Answer>> {
        // Room is counted in bytes and never above ROOM, which fits; the semaphore is never closed.
        let permits = u32::try_from(bytes.min(ROOM)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.ok();
        let (answer, rest) = oneshot::channel();
        // If the appender is gone, the sender of the answer is dropped here, which says so.
        let _ = self.tickets.send(Ticket { brought, train: train.clone(), answer, _room: room });
        rest
    }
}

/// Events that are submitted in several parts and belong in one order.
#[derive(Debug, Clone, Default)]
pub struct Train(Arc<AtomicBool>);

impl Train {
    fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn break_off(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Events that are on their way.
pub struct Submitted {
    answers: Vec<Option<Answer>>,
    rest: Option<oneshot::Receiver<Vec<Answer>>>,
}

impl Submitted {
    /// Waits for the answers, one for each event, in order.
    pub async fn answers(self) -> Vec<Answer> {
        let mut rest = match self.rest {
            Some(rest) => rest.await.unwrap_or_default().into_iter(),
            None => Vec::new().into_iter(),
        };
        let closing = || Answer::Refused(Refusal::Closing);
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
/// How long no look-up is tried after one that failed.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(5);
