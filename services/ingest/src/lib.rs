//! The write path: every event reaches the journal through this crate.
//!
//! Owns deduplication (an event that the ledger already has gets the position of the earlier entry), group
//! commit (events that arrive together are appended together), the decisions on requests, and the rollback
//! controller. An outcome is sent only after the journal has acknowledged the event.

mod appender;
mod automatic;
mod backtest;
mod controller;
mod decision;
mod gate;
mod horizon;
mod planning;
mod recent;
mod rejection;
mod repeats;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::{Envelope, MAX_EVENT_BYTES};
use ledger_domain::event::CLOCK_TOLERANCE;
use ledger_domain::{Position, Source, TenantName};
use ledger_journal::{AppendError, SharedJournal};
use ledger_projections::{Projections, Purpose};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use appender::{Appender, DecidedRequest, PendingBatch, RecentAppendFailure, Submission};
use decision::{Decider, Decision, undecided};

pub use automatic::{FailedCheck, PointSearchUse};
pub use backtest::{BacktestError, backtest};
pub use controller::Controller;
pub use gate::{GateDecision, GateError, GateQuery, gate};
pub use horizon::{Horizon, HorizonPoint, horizon};
pub use planning::{PlanError, PlanRequest, Planned, Resolved, UnknownLane, plan, resolve};
pub use rejection::Rejection;
pub use request::{Request, RequestRollback, RollbackContext, not_reached};

/// Sources of the ledger's own events. Clients may not use them: a client could otherwise take the identity
/// of a future event of the ledger.
const RESERVED_SOURCES: [&str; 4] = [
    "urn:release-ledger:api",
    "urn:release-ledger:quarantine",
    "urn:release-ledger:rollback-controller",
    WEBHOOKS_SOURCE,
];

/// Source of the events of the deliverer of webhooks.
pub const WEBHOOKS_SOURCE: &str = "urn:release-ledger:webhooks";

/// Bytes of events that may be queued or in flight. A submission that exceeds the budget waits.
const BYTE_BUDGET: usize = 32 << 20;
/// Further bytes for submissions of at most one event's size: a single event does not wait behind large submissions of
/// other clients.
const RESERVED_BYTES: usize = 4 << 20;
/// Number of submissions that may wait for the byte budget. Further ones are refused as busy.
const QUEUE_SLOTS: usize = 10_000;

/// Maximum time for the decision on a request, with all attempts.
const DECISION_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of times that a decision is made outside the write path. After that, entries concern the environment
/// too often, and the request is decided while nothing else is appended.
const DECISIONS_OUTSIDE: u32 = 2;
/// Maximum time for the confirmation of a decision, or for a decision while nothing else is appended. Later events wait
/// meanwhile.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum time for an identity lookup in the history. Later events are not appended meanwhile.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time for which a confirmation waits until the projections have applied the journal's head. Longer than they
/// need for the group before it.
const PROJECTION_WAIT: Duration = Duration::from_millis(400);
/// Time during which no request is confirmed after a confirmation timed out.
const DECISION_BACKOFF: Duration = Duration::from_secs(5);
/// Interval between probes of a history that did not answer.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Parses a constant URN as an event source.
fn source(urn: &str) -> Source {
    Source::parse(urn).expect("a constant URN is a valid source")
}

/// Outcome of recording one event.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordOutcome {
    /// The event is the entry at this position, and durable.
    Recorded(Position),
    /// The same event is already recorded at this position.
    Duplicate(Position),
    /// Another event with the same identity is already recorded at this position.
    Conflict(Position),
    /// The event is not recorded, or its outcome is unknown.
    Refused(RecordError),
}

impl RecordOutcome {
    /// Returns the position at which the event was recorded now.
    const fn recorded(&self) -> Option<Position> {
        match self {
            Self::Recorded(position) => Some(*position),
            _ => None,
        }
    }

    /// Returns true if the client will send the event again, so that no later event of its order may be recorded
    /// before it.
    const fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(
                RecordError::PredecessorFailed
                | RecordError::Undecided(_)
                | RecordError::Busy
                | RecordError::Diverged(_)
                | RecordError::Closing,
            ) => true,
            Self::Refused(RecordError::Journal(error)) => error.is_temporary(),
            _ => false,
        }
    }
}

/// Reason why an event is not recorded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The event's time is too far in the future.
    #[error("the event's time {occurred_at} is more than five minutes after the service's time {now}")]
    FromTheFuture {
        /// Time of the event.
        occurred_at: DateTime<Utc>,
        /// Time of the service.
        now: DateTime<Utc>,
    },
    /// The journal rejected the event. [`AppendError::is_temporary`] states if a retry can succeed.
    #[error(transparent)]
    Journal(AppendError),
    /// The journal is not the one that the projections were built from, so the history cannot be trusted.
    #[error("the journal is not the one that the projections were built from: {0}")]
    Diverged(String),
    /// An earlier event of the same ordered submission was not recorded.
    #[error("an earlier event of the submission was not recorded; send it and all later ones again")]
    PredecessorFailed,
    /// The request is invalid in the ledger's current state.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// The request could not be decided. It may be sent again.
    #[error("cannot decide the request: {0}")]
    Undecided(Undecided),
    /// The queue is full. The event may be sent again.
    #[error("too many events wait to be recorded; send this one again later")]
    Busy,
    /// The tenant was retired after the request began.
    #[error("the tenant is retired; nothing more is recorded in its ledger")]
    Retired,
    /// The service is shutting down.
    #[error("the service is shutting down")]
    Closing,
}

/// Reason why a request cannot be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The history did not answer before, and has not been read since.
    #[error("the history is unavailable")]
    HistoryUnavailable,
    /// The projections did not answer.
    #[error("the projections are unavailable")]
    ProjectionsUnavailable,
    /// The decision, or the acknowledgement of its event, took too long. The event may be recorded.
    #[error("the decision timed out, or its acknowledgement was lost")]
    TimedOut,
    /// The search for a known-good point took too long.
    #[error("the search for a known-good point took too long; name the point to roll back to")]
    SearchTimedOut,
    /// The decision panicked.
    #[error("an internal error occurred; see the service's log")]
    Panicked,
}

/// Handle to the write path of one tenant's ledger. Clones share the same queue.
#[derive(Clone)]
pub struct Ingest {
    tenant: TenantName,
    queue: mpsc::UnboundedSender<Submission>,
    decider: Decider,
    exclusive_decisions: Arc<Semaphore>,
    byte_budget: Arc<Semaphore>,
    reserved_bytes: Arc<Semaphore>,
    queue_slots: Arc<Semaphore>,
    projections: Projections,
    clock: fn() -> DateTime<Utc>,
    append_failure: RecentAppendFailure,
    is_retired: Arc<AtomicBool>,
}

impl Ingest {
    /// Returns the reason of the last append if it failed within the last ten seconds. A journal that answers
    /// reads may still reject every append, for example after its disk was full.
    #[must_use]
    pub fn recent_append_failure(&self) -> Option<String> {
        self.append_failure.reason()
    }

    /// Starts the appender task of a tenant. The task ends when every clone of the handle is dropped and every
    /// submission has its outcome.
    #[must_use]
    pub fn open(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        clock: fn() -> DateTime<Utc>,
    ) -> (Self, JoinHandle<()>) {
        // The channel is unbounded; `byte_budget` bounds it. Each batch holds permits for the bytes of its events,
        // of which each event has at least one, and releases them when it has its outcomes.
        let (queue, batches) = mpsc::unbounded_channel();
        let append_failure = RecentAppendFailure::default();
        let recording = projections.for_purpose(Purpose::Recording);
        let decider = Decider::new(tenant.clone(), Arc::clone(&journal), recording.clone(), clock);
        let appender =
            Appender::new(tenant.clone(), journal, recording, decider.clone(), append_failure.clone(), clock);
        let task = tokio::spawn(appender.run(batches));
        let byte_budget = Arc::new(Semaphore::new(BYTE_BUDGET));
        let reserved_bytes = Arc::new(Semaphore::new(RESERVED_BYTES));
        let queue_slots = Arc::new(Semaphore::new(QUEUE_SLOTS));
        let exclusive_decisions = Arc::new(Semaphore::new(1));
        (
            Self {
                tenant,
                queue,
                decider,
                exclusive_decisions,
                byte_budget,
                reserved_bytes,
                queue_slots,
                projections,
                clock,
                append_failure,
                is_retired: Arc::default(),
            },
            task,
        )
    }

    /// Refuses all further events and requests, since the tenant is retired. What is queued is still appended.
    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Returns true after [`Self::retire`].
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// Records events and returns their outcomes, one for each, in order.
    pub async fn record(&self, envelopes: Vec<Envelope>) -> Vec<RecordOutcome> {
        self.submit(envelopes, &OrderedSubmission::default()).await.outcomes().await
    }

    /// Records a report of the service itself, whose source no client may use.
    pub async fn record_own(&self, report: Envelope) -> RecordOutcome {
        if let Some(reason) = self.projections.divergence() {
            return RecordOutcome::Refused(RecordError::Diverged(reason));
        }
        let outcomes = self.record_part(Part::Reports(vec![report]), &OrderedSubmission::default()).await;
        outcomes.into_iter().next().unwrap_or(RecordOutcome::Refused(RecordError::Closing))
    }

    /// Queues reports, which are appended in the order of submission. Waits while the byte budget is exhausted, and for
    /// the outcome of each request: it is decided after the events before it are recorded.
    ///
    /// After the journal failed to append an event of an ordered submission, its later events are refused too, so
    /// that a client which sends all of them again keeps their order.
    pub async fn submit(&self, envelopes: Vec<Envelope>, order: &OrderedSubmission) -> Submitted {
        if let Some(reason) = self.projections.divergence() {
            order.abort();
            let refused = RecordOutcome::Refused(RecordError::Diverged(reason));
            return Submitted { outcomes: vec![Some(refused); envelopes.len()], pending: None };
        }
        let now = (self.clock)();
        let mut outcomes: Vec<Option<RecordOutcome>> = Vec::with_capacity(envelopes.len());
        let mut admitted = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let occurred_at = envelope.occurred_at();
            if occurred_at - now > CLOCK_TOLERANCE {
                outcomes.push(Some(RecordOutcome::Refused(RecordError::FromTheFuture { occurred_at, now })));
            } else if RESERVED_SOURCES.contains(&envelope.identity().source.as_str()) {
                let source = envelope.identity().source.clone();
                outcomes.push(Some(RecordOutcome::Refused(RecordError::Rejected(Box::new(
                    Rejection::ReservedSource(source),
                )))));
            } else if envelope.event().payload.is_about_access() != self.tenant.is_admin() {
                let kind = envelope.event().payload.kind();
                let rejection = Box::new(Rejection::OtherTenant(kind));
                outcomes.push(Some(RecordOutcome::Refused(RecordError::Rejected(rejection))));
            } else {
                outcomes.push(None);
                admitted.push(envelope);
            }
        }
        let mut unanswered = outcomes.iter_mut().filter(|outcome| outcome.is_none());
        let is_request = |envelope: &Envelope| envelope.event().payload.is_command();
        let last_request = admitted.iter().rposition(is_request).map_or(0, |index| index + 1);
        let reports = admitted.split_off(last_request);
        // Up to the last request, each part is answered before the next one is queued.
        for part in parts(admitted) {
            for outcome in self.record_part(part, order).await {
                if let Some(unanswered) = unanswered.next() {
                    *unanswered = Some(outcome);
                }
            }
        }
        if reports.is_empty() {
            return Submitted { outcomes, pending: None };
        }
        match self.enqueue_reports(reports, order).await {
            Ok(pending) => Submitted { outcomes, pending: Some(pending) },
            Err(error) => {
                let outcomes = outcomes
                    .into_iter()
                    .map(|outcome| outcome.or(Some(RecordOutcome::Refused(error.clone()))));
                Submitted { outcomes: outcomes.collect(), pending: None }
            }
        }
    }

    /// Records a part of a submission and waits for its outcomes.
    async fn record_part(&self, part: Part, order: &OrderedSubmission) -> Vec<RecordOutcome> {
        match part {
            Part::Reports(reports) => {
                let count = reports.len();
                match self.enqueue_reports(reports, order).await {
                    Ok(pending) => {
                        Submitted { outcomes: vec![None; count], pending: Some(pending) }.outcomes().await
                    }
                    Err(error) => vec![RecordOutcome::Refused(error); count],
                }
            }
            Part::Request(envelope) => {
                vec![self.decide_and_record(Request::Event(envelope), order).await]
            }
        }
    }

    /// Decides a request, and records its event unless the request is rejected.
    pub async fn request(&self, request: Request) -> RecordOutcome {
        if let Some(reason) = self.projections.divergence() {
            return RecordOutcome::Refused(RecordError::Diverged(reason));
        }
        self.decide_and_record(request, &OrderedSubmission::default()).await
    }

    /// Decides a request outside the write path and records its event. If later entries concern the decision, decides
    /// again.
    async fn decide_and_record(&self, request: Request, order: &OrderedSubmission) -> RecordOutcome {
        if self.is_retired() {
            return RecordOutcome::Refused(RecordError::Retired);
        }
        if order.is_aborted() {
            return RecordOutcome::Refused(RecordError::PredecessorFailed);
        }
        let request = Arc::new(request);
        let deadline = Instant::now() + DECISION_TIMEOUT;
        let mut decisions = 0;
        let outcome = loop {
            if Instant::now() >= deadline {
                break undecided(Undecided::TimedOut);
            }
            let decision = if decisions < DECISIONS_OUTSIDE {
                match self.decider.decide(&request, deadline).await {
                    Ok(decision) => Some(decision),
                    Err(outcome) => break outcome,
                }
            } else {
                None
            };
            decisions += 1;
            // Only one request at a time is decided while nothing else is appended.
            let _exclusive = match &decision {
                Some(_) => None,
                None => match timeout_at(deadline, self.exclusive_decisions.acquire()).await {
                    Ok(permit) => permit.ok(),
                    Err(_) => break undecided(Undecided::TimedOut),
                },
            };
            match self.enqueue_request(Arc::clone(&request), decision, order, deadline).await {
                Ok(Some(outcome)) => break outcome,
                // Later entries concern the decision.
                Ok(None) => {}
                Err(error) => break RecordOutcome::Refused(error),
            }
        };
        if outcome.is_temporary() {
            order.abort();
        }
        outcome
    }

    /// Queues reports and returns the receiver of their outcomes.
    async fn enqueue_reports(
        &self,
        reports: Vec<Envelope>,
        order: &OrderedSubmission,
    ) -> Result<oneshot::Receiver<Vec<RecordOutcome>>, RecordError> {
        let bytes = reports.iter().map(|envelope| envelope.bytes().len()).sum();
        let permit = match self.acquire(bytes).await {
            Ok(permit) => permit,
            Err(error) => {
                // Later events of the ordered submission must not be recorded without these.
                order.abort();
                return Err(error);
            }
        };
        let (reply, pending) = oneshot::channel();
        // If the appender has ended, this drops `reply`, and the receiver reports `Closing`.
        let _ = self.queue.send(Submission::Reports(PendingBatch {
            reports,
            order: order.clone(),
            reply,
            _permit: permit,
        }));
        Ok(pending)
    }

    /// Queues a request with its decision, and returns its outcome; `None` if the request must be decided again.
    async fn enqueue_request(
        &self,
        request: Arc<Request>,
        decision: Option<Decision>,
        order: &OrderedSubmission,
        deadline: Instant,
    ) -> Result<Option<RecordOutcome>, RecordError> {
        let permit = self.acquire(MAX_EVENT_BYTES).await?;
        let (reply, pending) = oneshot::channel();
        let order = order.clone();
        let decided = DecidedRequest { request, decision, order, deadline, reply, _permit: permit };
        let _ = self.queue.send(Submission::Request(Box::new(decided)));
        pending.await.map_err(|_| RecordError::Closing)
    }

    /// Takes a share of the byte budget, unless the tenant is retired; waits while it is exhausted, a small submission only
    /// for the reserved bytes.
    async fn acquire(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, RecordError> {
        // At most BYTE_BUDGET, which fits into 32 bits. The semaphore is never closed.
        let permits = u32::try_from(bytes.min(BYTE_BUDGET)).unwrap_or(u32::MAX);
        let _slot = self.queue_slots.try_acquire().map_err(|_| RecordError::Busy)?;
        let permit = match Arc::clone(&self.byte_budget).try_acquire_many_owned(permits) {
            Ok(permit) => Some(permit),
            Err(_) => {
                let budget = if bytes <= MAX_EVENT_BYTES { &self.reserved_bytes } else { &self.byte_budget };
                Arc::clone(budget).acquire_many_owned(permits).await.ok()
            }
        };
        // The last check before the queue: the tenant may be retired while a submission waits.
        if self.is_retired() { Err(RecordError::Retired) } else { Ok(permit) }
    }
}

/// A part of a submission: requests are recorded one by one.
enum Part {
    Reports(Vec<Envelope>),
    Request(Box<Envelope>),
}

/// Splits events into runs of reports and single requests, in order.
fn parts(events: Vec<Envelope>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for event in events {
        if event.event().payload.is_command() {
            parts.push(Part::Request(Box::new(event)));
        } else if let Some(Part::Reports(reports)) = parts.last_mut() {
            reports.push(event);
        } else {
            parts.push(Part::Reports(vec![event]));
        }
    }
    parts
}

/// Marks events that are submitted in several parts and must keep their order.
#[derive(Debug, Clone, Default)]
pub struct OrderedSubmission(Arc<AtomicBool>);

impl OrderedSubmission {
    fn is_aborted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns a number that clones share and no other living one has.
    fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

/// Events that are submitted and wait for their outcomes.
pub struct Submitted {
    /// Outcomes known at submission; `None` for each queued event.
    outcomes: Vec<Option<RecordOutcome>>,
    /// Receiver of the outcomes of the queued events.
    pending: Option<oneshot::Receiver<Vec<RecordOutcome>>>,
}

impl Submitted {
    /// Waits for the outcomes, one for each event, in order.
    pub async fn outcomes(self) -> Vec<RecordOutcome> {
        let mut pending = match self.pending {
            Some(pending) => pending.await.unwrap_or_default().into_iter(),
            None => Vec::new().into_iter(),
        };
        let closing = || RecordOutcome::Refused(RecordError::Closing);
        self.outcomes
            .into_iter()
            .map(|outcome| outcome.or_else(|| pending.next()).unwrap_or_else(closing))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use ledger_journal::MemoryJournal;
    use ledger_projections::{SchemaVersion, Settings};

    use super::*;

    const EVENT: &str = r#"{"specversion": "1.0", "id": "1", "source": "urn:test",
        "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T10:00:00Z",
        "data": {"environment": "production", "service": "web", "release": {"version": "v1"}}}"#;

    /// Returns a handle with these permits, and what its appender would receive.
    fn ingest(bytes: usize, reserved: usize, slots: usize) -> (Ingest, mpsc::UnboundedReceiver<Submission>) {
        let settings = Settings {
            url: "postgres://user@127.0.0.1:1/none".into(),
            connections: 1,
            acquire_timeout: Duration::ZERO,
            schema_version: SchemaVersion::CURRENT,
        };
        let projections = Projections::new(&settings, TenantName::default()).expect("never connected");
        let (queue, submissions) = mpsc::unbounded_channel();
        let clock = || DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let journal: SharedJournal = Arc::new(MemoryJournal::new(TenantName::default(), clock));
        let decider = Decider::new(TenantName::default(), journal, projections.clone(), clock);
        let ingest = Ingest {
            tenant: TenantName::default(),
            queue,
            decider,
            exclusive_decisions: Arc::new(Semaphore::new(1)),
            byte_budget: Arc::new(Semaphore::new(bytes)),
            reserved_bytes: Arc::new(Semaphore::new(reserved)),
            queue_slots: Arc::new(Semaphore::new(slots)),
            projections,
            clock,
            append_failure: RecentAppendFailure::default(),
            is_retired: Arc::default(),
        };
        (ingest, submissions)
    }

    fn event() -> Envelope {
        Envelope::parse(EVENT.as_bytes()).expect("an event")
    }

    #[tokio::test]
    async fn a_submission_without_a_queue_slot_is_refused_as_busy_and_aborts_its_order() {
        let (ingest, mut submissions) = ingest(0, 0, 1);
        let (first, second) = (OrderedSubmission::default(), OrderedSubmission::default());

        let mut waiting = Box::pin(ingest.submit(vec![event()], &first));
        assert!(futures::poll!(&mut waiting).is_pending());
        let refused = ingest.submit(vec![event()], &second).await.outcomes().await;
        ingest.reserved_bytes.add_permits(RESERVED_BYTES);
        drop(waiting.await);

        assert_eq!(refused, [RecordOutcome::Refused(RecordError::Busy)]);
        assert!(second.is_aborted());
        assert!(!first.is_aborted());
        assert!(submissions.try_recv().is_ok(), "the waiting submission is queued once the budget permits");
    }

    #[tokio::test]
    async fn a_single_event_does_not_wait_behind_a_large_submission() {
        let (ingest, mut submissions) = ingest(1, RESERVED_BYTES, QUEUE_SLOTS);
        let (large, small) = (OrderedSubmission::default(), OrderedSubmission::default());
        let events = vec![event(); MAX_EVENT_BYTES / EVENT.len() * 2];

        let mut waiting = Box::pin(ingest.submit(events, &large));
        assert!(futures::poll!(&mut waiting).is_pending());
        let submitted = ingest.submit(vec![event()], &small).await;

        assert!(submitted.pending.is_some());
        let Ok(Submission::Reports(batch)) = submissions.try_recv() else { panic!("the event is queued") };
        assert_eq!(batch.order.id(), small.id());
        assert!(futures::poll!(&mut waiting).is_pending(), "the large one waits for the bytes that it needs");
        assert!(submissions.try_recv().is_err());
    }

    #[tokio::test]
    async fn nothing_is_queued_after_the_tenant_is_retired_and_what_was_queued_stays() {
        // Room for one event: another one waits.
        let (ingest, mut submissions) = ingest(event().bytes().len(), 0, 1);
        let order = OrderedSubmission::default();
        let queued = ingest.submit(vec![event()], &order).await;
        let mut waiting = Box::pin(ingest.submit(vec![event()], &order));
        assert!(futures::poll!(&mut waiting).is_pending());

        ingest.retire();
        ingest.reserved_bytes.add_permits(RESERVED_BYTES);
        let waiting = waiting.await.outcomes().await;
        let own = ingest.record_own(event()).await;

        let retired = RecordOutcome::Refused(RecordError::Retired);
        assert_eq!((waiting, own), (vec![retired.clone()], retired));
        assert!(submissions.try_recv().is_ok(), "the first event is appended");
        assert!(submissions.try_recv().is_err(), "no other is");
        drop(queued);
    }
}
