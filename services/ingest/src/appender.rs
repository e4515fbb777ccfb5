//! Group commit: while one group is being appended, the next one is collected and looked up.
//!
//! Only one group is in flight at a time, so that entries keep the order of submission, also when an append
//! fails partway.

use std::collections::HashMap;
use std::iter::repeat_n;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{IdentityKey, TenantName};
use ledger_journal::{AppendError, Journal, NewEntry, Outcome, ReadError, SharedJournal, Subject};
use ledger_projections::{EntryLocation, Projections, Snapshot};
use ledger_tlog::{Hash, leaf_hash};
use metrics::{counter, histogram};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::recent::RecentAppends;
use crate::rejection::{DecisionError, Rejection};
use crate::request::decide;
use crate::{
    DECISION_BACKOFF, DECISION_TIMEOUT, LOOKUP_TIMEOUT, OrderedSubmission, PROBE_INTERVAL, RecordError,
    RecordOutcome, Request,
};

/// Number of events that complete a group; the journal appends as many with one disk sync.
const GROUP_SIZE: usize = 1_000;
/// Maximum age of a failed append that is still reported.
const APPEND_FAILURE_MAX_AGE: Duration = Duration::from_secs(10);
/// Number of identities from the last appends that are cached.
const RECENT_CAPACITY: usize = 65_536;

/// A submitted event or request.
pub(crate) enum Submission {
    /// A report, which is recorded without a decision.
    Report(Box<Envelope>),
    /// A request, which is recorded only if the decision permits.
    Request(Request),
}

impl Submission {
    pub(crate) fn from_envelope(envelope: Envelope) -> Self {
        if envelope.event().payload.is_command() {
            Self::Request(Request::Event(Box::new(envelope)))
        } else {
            Self::Report(Box::new(envelope))
        }
    }

    const fn as_report(&self) -> Option<&Envelope> {
        match self {
            Self::Report(envelope) => Some(envelope),
            Self::Request(_) => None,
        }
    }
}

/// Events that were submitted in one call and wait for their outcomes.
pub(crate) struct PendingBatch {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) order: OrderedSubmission,
    pub(crate) reply: oneshot::Sender<Vec<RecordOutcome>>,
    /// Share of the byte budget; released when the batch is dropped after its reply.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// Task that appends the queued events of one tenant.
pub(crate) struct Appender {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
    recent: Arc<Mutex<RecentAppends>>,
    clock: fn() -> DateTime<Utc>,
    append_failure: RecentAppendFailure,
    /// Probe of a history that did not answer. The history is not queried until the probe has ended.
    history_probe: Option<AbortOnDropHandle<()>>,
    /// No request is decided before this time, because a decision timed out.
    decisions_paused_until: Instant,
}

/// Time and reason of the last append, if it failed.
#[derive(Clone, Default)]
pub(crate) struct RecentAppendFailure(Arc<std::sync::Mutex<Option<(Instant, String)>>>);

impl RecentAppendFailure {
    fn update(&self, outcomes: &[RecordOutcome]) {
        let is_any_recorded = outcomes.iter().any(|outcome| matches!(outcome, RecordOutcome::Recorded(_)));
        let reason = outcomes.iter().find_map(|outcome| match outcome {
            RecordOutcome::Refused(RecordError::Journal(error)) if error.is_temporary() => {
                Some(error.to_string())
            }
            _ => None,
        });
        let failure = match reason {
            Some(reason) if !is_any_recorded => Some((Instant::now(), reason)),
            _ if is_any_recorded => None,
            _ => return,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Returns the reason unless the failure is too old: there may have been no append since.
    pub(crate) fn reason(&self) -> Option<String> {
        let failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failure
            .as_ref()
            .filter(|(at, _)| at.elapsed() < APPEND_FAILURE_MAX_AGE)
            .map(|(_, reason)| reason.clone())
    }
}

/// A report of a group, with what the history has under its identity.
struct GroupEvent {
    new_entry: NewEntry,
    leaf_hash: Hash,
    known: Option<EntryLocation>,
}

impl Appender {
    pub(crate) fn new(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        clock: fn() -> DateTime<Utc>,
        append_failure: RecentAppendFailure,
    ) -> Self {
        Self {
            tenant,
            journal,
            projections,
            recent: Arc::new(Mutex::new(RecentAppends::new(RECENT_CAPACITY))),
            clock,
            append_failure,
            history_probe: None,
            decisions_paused_until: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<PendingBatch>) {
        let mut in_flight: Option<JoinHandle<()>> = None;
        while let Some(first) = queue.recv().await {
            let batches = collect_group(first, &mut queue);
            let mut submissions = batches.iter().flat_map(|batch| &batch.submissions);
            if submissions.any(|submission| submission.as_report().is_none()) {
                if let Some(previous) = in_flight.take() {
                    wait_for_group(previous).await;
                }
                self.process_sequentially(batches).await;
                continue;
            }
            let submissions = batches.iter().flat_map(|batch| &batch.submissions);
            let reports: Vec<&Envelope> = submissions.filter_map(Submission::as_report).collect();
            let events = self.look_up(&reports).await;
            if let Some(previous) = in_flight.take() {
                wait_for_group(previous).await;
            }
            let (journal, recent) = (Arc::clone(&self.journal), Arc::clone(&self.recent));
            let projections = self.projections.clone();
            let append_failure = self.append_failure.clone();
            let tenant = self.tenant.to_string();
            // The previous group has its outcomes, so the orders that it aborted are known.
            let predecessor_failed =
                |batch: &PendingBatch| repeat_n(batch.order.is_aborted(), batch.submissions.len());
            let predecessor_failed: Vec<bool> = batches.iter().flat_map(predecessor_failed).collect();
            in_flight = Some(tokio::spawn(async move {
                let outcomes =
                    append(journal.as_ref(), &projections, &recent, &events, &predecessor_failed).await;
                append_failure.update(&outcomes);
                count_outcomes(&tenant, &outcomes);
                reply(batches, outcomes);
            }));
        }
        if let Some(previous) = in_flight {
            wait_for_group(previous).await;
        }
    }

    /// Processes batches with requests one after the other. The reports before a request are recorded before its
    /// decision, and nothing is recorded during the decision.
    async fn process_sequentially(&mut self, batches: Vec<PendingBatch>) {
        let mut outcomes: Vec<RecordOutcome> = Vec::new();
        let mut reports: Vec<(&PendingBatch, &Envelope)> = Vec::new();
        for batch in &batches {
            for submission in &batch.submissions {
                match submission {
                    Submission::Report(envelope) => reports.push((batch, envelope)),
                    Submission::Request(request) => {
                        outcomes.extend(self.record(std::mem::take(&mut reports)).await);
                        let outcome = if batch.order.is_aborted() {
                            RecordOutcome::Refused(RecordError::PredecessorFailed)
                        } else {
                            self.decide(request).await
                        };
                        if is_temporary(&outcome) {
                            batch.order.abort();
                        }
                        outcomes.push(outcome);
                    }
                }
            }
        }
        outcomes.extend(self.record(reports).await);
        count_outcomes(&self.tenant.to_string(), &outcomes);
        reply(batches, outcomes);
    }

    async fn record(&mut self, reports: Vec<(&PendingBatch, &Envelope)>) -> Vec<RecordOutcome> {
        if reports.is_empty() {
            return Vec::new();
        }
        let envelopes: Vec<&Envelope> = reports.iter().map(|(_, envelope)| *envelope).collect();
        let events = self.look_up(&envelopes).await;
        let predecessor_failed: Vec<bool> =
            reports.iter().map(|(batch, _)| batch.order.is_aborted()).collect();
        let outcomes =
            append(self.journal.as_ref(), &self.projections, &self.recent, &events, &predecessor_failed)
                .await;
        self.append_failure.update(&outcomes);
        for ((batch, _), outcome) in reports.iter().zip(&outcomes) {
            if is_temporary(outcome) {
                batch.order.abort();
            }
        }
        outcomes
    }

    /// Decides a request at the head of the journal, and appends its event if the head has not moved. Otherwise
    /// decides again.
    async fn decide(&mut self, request: &Request) -> RecordOutcome {
        let key = request.identity().key();
        if self.is_history_unavailable() || Instant::now() < self.decisions_paused_until {
            return RecordOutcome::Refused(RecordError::DecisionError("the history is unavailable".into()));
        }
        let deadline = Instant::now() + DECISION_TIMEOUT;
        loop {
            // A panic while deciding one request must not end the appender.
            let attempt = AssertUnwindSafe(self.attempt(request, key)).catch_unwind();
            return match timeout_at(deadline, attempt).await {
                Ok(Err(_)) => {
                    error!(tenant = %self.tenant, "deciding a request panicked");
                    let reason = "an internal error occurred; see the service's log";
                    RecordOutcome::Refused(RecordError::DecisionError(reason.into()))
                }
                Ok(Ok(Ok(Attempt::Done(outcome)))) => outcome,
                Ok(Ok(Ok(Attempt::WrongHead))) => {
                    counter!("ledger_requests_judged_again_total", "tenant" => self.tenant.to_string())
                        .increment(1);
                    continue;
                }
                Ok(Ok(Err(DecisionError::Rejected(rejection)))) => {
                    RecordOutcome::Refused(RecordError::Rejected(rejection))
                }
                Ok(Ok(Err(DecisionError::Projections(error)))) => {
                    warn!(error = &error as &dyn std::error::Error, "cannot decide a request");
                    self.mark_history_unavailable();
                    RecordOutcome::Refused(RecordError::DecisionError(
                        "the projections are unavailable".into(),
                    ))
                }
                Err(_) => {
                    // Reports wait behind a request: the next request must not delay them as long.
                    self.decisions_paused_until = Instant::now() + DECISION_BACKOFF;
                    let reason = "the decision timed out, or its acknowledgement was lost";
                    RecordOutcome::Refused(RecordError::DecisionError(reason.into()))
                }
            };
        }
    }

    /// Decides a request once and tries to append its event.
    async fn attempt(&self, request: &Request, key: IdentityKey) -> Result<Attempt, DecisionError> {
        let unavailable = |error: ReadError| {
            Attempt::Done(RecordOutcome::Refused(RecordError::Journal(AppendError::Unavailable(
                error.to_string(),
            ))))
        };
        let head = match self.journal.head().await {
            Ok(head) => head.position,
            Err(error) => return Ok(unavailable(error)),
        };
        self.projections.wait_for(head, DECISION_TIMEOUT).await?;
        let mut snapshot = self.projections.snapshot().await?;
        if let Some(known) = snapshot.find_entry(key).await? {
            return Ok(Attempt::Done(repeated_outcome(&mut snapshot, request, known).await?));
        }
        let position = snapshot.position();
        let envelope = decide(&mut snapshot, request, (self.clock)()).await?;
        drop(snapshot);
        let subject = Subject::of(&self.tenant, &envelope.event().payload);
        let new_entry = NewEntry { subject, key, bytes: envelope.bytes().clone() };
        Ok(match self.journal.append_expecting(&new_entry, position).await {
            Ok(Outcome::Recorded(position)) => Attempt::Done(RecordOutcome::Recorded(position)),
            Ok(Outcome::Duplicate(position)) => Attempt::Done(RecordOutcome::Duplicate(position)),
            Ok(Outcome::Conflict(position)) => Attempt::Done(RecordOutcome::Conflict(position)),
            Err(AppendError::WrongHead(_)) => Attempt::WrongHead,
            Err(error) => Attempt::Done(RecordOutcome::Refused(RecordError::Journal(error))),
        })
    }

    async fn look_up(&mut self, reports: &[&Envelope]) -> Vec<GroupEvent> {
        let keys: Vec<IdentityKey> = reports.iter().map(|envelope| envelope.identity().key()).collect();
        let known = self.known_identities(&keys).await;
        reports
            .iter()
            .zip(keys)
            .map(|(envelope, key)| GroupEvent {
                new_entry: NewEntry {
                    subject: Subject::of(&self.tenant, &envelope.event().payload),
                    key,
                    bytes: envelope.bytes().clone(),
                },
                leaf_hash: comparable_leaf_hash(envelope, known.get(&key)),
                known: known.get(&key).copied(),
            })
            .collect()
    }

    fn is_history_unavailable(&self) -> bool {
        self.history_probe.as_ref().is_some_and(|probe| !probe.is_finished())
    }

    /// Starts a probe of the history. Until it succeeds, no further group waits for the history.
    fn mark_history_unavailable(&mut self) {
        let probe = probe_history(self.projections.clone(), self.tenant.clone());
        self.history_probe = Some(AbortOnDropHandle::new(tokio::spawn(probe)));
    }

    /// Returns the identities that the history has. If it is unavailable, events are appended all the same: the
    /// journal's duplicate window and the projector ensure that an identity has one effect.
    async fn known_identities(&mut self, keys: &[IdentityKey]) -> HashMap<IdentityKey, EntryLocation> {
        if !self.is_history_unavailable() {
            match timeout(LOOKUP_TIMEOUT, self.projections.find_entries(keys)).await {
                Ok(Ok(known)) => return known,
                Ok(Err(error)) => {
                    warn!(%error, tenant = %self.tenant, "identity lookup failed; appending without it");
                }
                Err(_) => {
                    warn!(tenant = %self.tenant, "identity lookup timed out; appending without it");
                }
            }
            self.mark_history_unavailable();
        }
        counter!("ledger_intake_unchecked_total", "tenant" => self.tenant.to_string())
            .increment(keys.len() as u64);
        HashMap::new()
    }
}

/// Queries the history until it answers: the first failure may have been a single slow response.
async fn probe_history(projections: Projections, tenant: TenantName) {
    while !matches!(timeout(LOOKUP_TIMEOUT, projections.checkpoint()).await, Ok(Ok(_))) {
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    info!(%tenant, "the history answers again; identity lookups resume");
}

/// Result of one attempt to decide a request.
enum Attempt {
    Done(RecordOutcome),
    /// The head of the journal moved during the decision.
    WrongHead,
}

/// Returns the leaf hash by which an event is compared with the known one of its identity.
fn comparable_leaf_hash(envelope: &Envelope, known: Option<&EntryLocation>) -> Hash {
    match known {
        Some(known) if is_same_event(envelope, *known) => known.leaf_hash,
        _ => leaf_hash(envelope.bytes()),
    }
}

/// Returns true if an event equals the known one of its identity. Events stored by older versions may lack the
/// content type, so that form counts as equal too.
fn is_same_event(envelope: &Envelope, known: EntryLocation) -> bool {
    leaf_hash(envelope.bytes()) == known.leaf_hash
        || leaf_hash(&envelope.bytes_without_content_type()) == known.leaf_hash
}

/// Returns the outcome of a request that has an identity already recorded. The event of a rollback request depends
/// on the time of the decision, so the requests are compared and not their events: the first decision counts.
async fn repeated_outcome(
    snapshot: &mut Snapshot,
    request: &Request,
    known: EntryLocation,
) -> Result<RecordOutcome, DecisionError> {
    let is_same = match request {
        Request::Event(envelope) => is_same_event(envelope, known),
        Request::Failed(_) => true,
        Request::Rollback(request) => match snapshot.rollback(&request.rollback_id).await? {
            Some(row) if request.is_same(snapshot, &row).await? => true,
            Some(row) => {
                let (rollback_id, position) = (request.rollback_id.clone(), row.requested);
                return Err(Rejection::RollbackExists { rollback_id, position, phase: row.phase }.into());
            }
            None => false,
        },
    };
    Ok(if is_same {
        RecordOutcome::Duplicate(known.position)
    } else {
        RecordOutcome::Conflict(known.position)
    })
}

async fn wait_for_group(group: JoinHandle<()>) {
    if let Err(error) = group.await {
        // Its batches are dropped without a reply; their submitters see `Closing`.
        warn!(%error, "the append task of a group failed; its events have no outcome");
    }
}

/// Takes batches from the queue until the group is complete or the queue is empty.
fn collect_group(
    first: PendingBatch,
    queue: &mut mpsc::UnboundedReceiver<PendingBatch>,
) -> Vec<PendingBatch> {
    let mut events = first.submissions.len();
    let mut batches = vec![first];
    while events < GROUP_SIZE {
        let Ok(batch) = queue.try_recv() else { break };
        events += batch.submissions.len();
        batches.push(batch);
    }
    batches
}

async fn append(
    journal: &dyn Journal,
    projections: &Projections,
    recent: &Mutex<RecentAppends>,
    events: &[GroupEvent],
    predecessor_failed: &[bool],
) -> Vec<RecordOutcome> {
    let started = Instant::now();
    let mut recent = recent.lock().await;
    recent.set_stream(projections.stream());
    let known: Vec<Option<EntryLocation>> = events
        .iter()
        .map(|event| event.known.or_else(|| recent.get(&event.new_entry.key).copied()))
        .collect();
    let new_entries: Vec<NewEntry> = events
        .iter()
        .zip(&known)
        .zip(predecessor_failed)
        .filter(|((_, known), predecessor_failed)| known.is_none() && !**predecessor_failed)
        .map(|((event, _), _)| event.new_entry.clone())
        .collect();
    let appended = if new_entries.is_empty() { Vec::new() } else { journal.append(&new_entries).await };
    let mut appended = appended.into_iter();
    let mut outcomes = Vec::with_capacity(events.len());
    for ((event, known), predecessor_failed) in events.iter().zip(known).zip(predecessor_failed) {
        outcomes.push(match known {
            Some(known) if known.leaf_hash == event.leaf_hash => RecordOutcome::Duplicate(known.position),
            Some(known) => RecordOutcome::Conflict(known.position),
            None if *predecessor_failed => RecordOutcome::Refused(RecordError::PredecessorFailed),
            None => match appended.next() {
                Some(Ok(Outcome::Recorded(position))) => {
                    recent.insert(event.new_entry.key, position, *event.leaf_hash.as_bytes());
                    RecordOutcome::Recorded(position)
                }
                Some(Ok(Outcome::Duplicate(position))) => RecordOutcome::Duplicate(position),
                Some(Ok(Outcome::Conflict(position))) => RecordOutcome::Conflict(position),
                Some(Err(error)) => RecordOutcome::Refused(RecordError::Journal(error)),
                None => RecordOutcome::Refused(RecordError::Closing),
            },
        });
    }
    histogram!("ledger_append_seconds").record(started.elapsed());
    histogram!("ledger_append_group_events").record(events.len() as f64);
    outcomes
}

fn count_outcomes(tenant: &str, outcomes: &[RecordOutcome]) {
    let mut recorded = 0;
    for outcome in outcomes {
        let status = match outcome {
            RecordOutcome::Recorded(_) => {
                recorded += 1;
                continue;
            }
            RecordOutcome::Duplicate(_) => "duplicate",
            RecordOutcome::Conflict(_) => "conflict",
            RecordOutcome::Refused(_) => "refused",
        };
        counter!("ledger_events_total", "tenant" => tenant.to_owned(), "status" => status).increment(1);
    }
    counter!("ledger_events_total", "tenant" => tenant.to_owned(), "status" => "recorded")
        .increment(recorded);
}

fn reply(batches: Vec<PendingBatch>, outcomes: Vec<RecordOutcome>) {
    let mut outcomes = outcomes.into_iter();
    for batch in batches {
        let own: Vec<RecordOutcome> = outcomes.by_ref().take(batch.submissions.len()).collect();
        if own.iter().any(is_temporary) {
            batch.order.abort();
        }
        // The submitter may have stopped waiting; the events are recorded all the same.
        let _ = batch.reply.send(own);
    }
}

/// Returns true if the client will send the event again, so that no later event of its order may be recorded before.
const fn is_temporary(outcome: &RecordOutcome) -> bool {
    match outcome {
        RecordOutcome::Refused(
            RecordError::PredecessorFailed | RecordError::DecisionError(_) | RecordError::Busy,
        ) => true,
        RecordOutcome::Refused(RecordError::Journal(error)) => error.is_temporary(),
        _ => false,
    }
}
