//! Group commit: while one group is being appended, the next one is collected and looked up.
//!
//! Only one group is in flight at a time, so that entries keep the order of submission, also when an append
//! fails partway.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{IdentityKey, Position, TenantName};
use ledger_journal::{AppendError, NewEntry, Outcome, SharedJournal, Subject};
use ledger_projections::{EntryLocation, Projections, Snapshot};
use metrics::{counter, histogram};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::recent::{RecentAppends, content_hash};
use crate::rejection::{DecisionError, Rejection};
use crate::request::decide;
use crate::{
    DECISION_BACKOFF, DECISION_TIMEOUT, LOOKUP_TIMEOUT, OrderedSubmission, PROBE_INTERVAL, RecordError,
    RecordOutcome, Request, Undecided,
};

/// Number of events that complete a group; the journal appends as many with one disk sync.
const GROUP_SIZE: usize = 1_000;
/// Maximum age of a failed append that is still reported.
const APPEND_FAILURE_MAX_AGE: Duration = Duration::from_secs(10);
/// Longest wait for a journal that lacks the last entry of this process: another server of it may only lag behind.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
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
    projections: Projections,
    clock: fn() -> DateTime<Utc>,
    writer: GroupWriter,
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

/// An event without a position: a report, or the result of a decision.
struct PendingEntry {
    new_entry: NewEntry,
    /// The outcome if the history has an event of this identity.
    known: Option<RecordOutcome>,
    order: OrderedSubmission,
}

/// Events that are appended together, in order.
enum Group {
    /// Reports, which may be recorded after any entry.
    Reports(Vec<PendingEntry>),
    /// The result of a decision at a head of the journal: it must be recorded right after that head, or not at all.
    Decided { entry: PendingEntry, head: Position },
}

impl Group {
    fn entries(&self) -> &[PendingEntry] {
        match self {
            Self::Reports(entries) => entries,
            Self::Decided { entry, .. } => std::slice::from_ref(entry),
        }
    }
}

impl Appender {
    pub(crate) fn new(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        clock: fn() -> DateTime<Utc>,
        append_failure: RecentAppendFailure,
    ) -> Self {
        let recent = Arc::new(Mutex::new(RecentAppends::new(RECENT_CAPACITY)));
        let writer =
            GroupWriter { tenant, journal, projections: projections.clone(), recent, append_failure };
        Self { projections, clock, writer, history_probe: None, decisions_paused_until: Instant::now() }
    }

    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<PendingBatch>) {
        let mut in_flight: Option<JoinHandle<()>> = None;
        while let Some(first) = queue.recv().await {
            let batches = collect_group(first, &mut queue);
            let reports: Option<Vec<_>> = submissions(&batches)
                .map(|(order, submission)| submission.as_report().map(|envelope| (order, envelope)))
                .collect();
            let group = match reports {
                Some(reports) => Some(self.look_up(&reports).await),
                None => None,
            };
            // The previous group has its outcomes afterwards, so the orders that it aborted are known.
            if let Some(previous) = in_flight.take() {
                wait_for_group(previous).await;
            }
            match group {
                Some(group) => {
                    let writer = self.writer.clone();
                    in_flight = Some(tokio::spawn(async move {
                        let outcomes = writer.append(group).await;
                        writer.reply(batches, outcomes);
                    }));
                }
                None => {
                    let outcomes = self.record_sequentially(&batches).await;
                    self.writer.reply(batches, outcomes);
                }
            }
        }
        if let Some(previous) = in_flight {
            wait_for_group(previous).await;
        }
    }

    /// Records batches with requests one after the other. The reports before a request are recorded before its
    /// decision, and nothing is recorded during the decision.
    async fn record_sequentially(&mut self, batches: &[PendingBatch]) -> Vec<RecordOutcome> {
        let mut outcomes: Vec<RecordOutcome> = Vec::new();
        let mut reports: Vec<(&OrderedSubmission, &Envelope)> = Vec::new();
        for (order, submission) in submissions(batches) {
            match submission {
                Submission::Report(envelope) => reports.push((order, envelope)),
                Submission::Request(request) => {
                    outcomes.extend(self.record_reports(std::mem::take(&mut reports)).await);
                    outcomes.push(self.record_request(request, order).await);
                }
            }
        }
        outcomes.extend(self.record_reports(reports).await);
        outcomes
    }

    async fn record_reports(&mut self, reports: Vec<(&OrderedSubmission, &Envelope)>) -> Vec<RecordOutcome> {
        if reports.is_empty() {
            return Vec::new();
        }
        let group = self.look_up(&reports).await;
        self.writer.append(group).await
    }

    async fn record_request(&mut self, request: &Request, order: &OrderedSubmission) -> RecordOutcome {
        if order.is_aborted() {
            return RecordOutcome::Refused(RecordError::PredecessorFailed);
        }
        let outcome = self.decide(request).await;
        if is_temporary(&outcome) {
            order.abort();
        }
        outcome
    }

    /// Decides a request at the head of the journal, and appends its event if the head has not moved. Otherwise
    /// decides again.
    async fn decide(&mut self, request: &Request) -> RecordOutcome {
        if self.is_history_unavailable() || Instant::now() < self.decisions_paused_until {
            return undecided(Undecided::HistoryUnavailable);
        }
        let deadline = Instant::now() + DECISION_TIMEOUT;
        loop {
            // A panic while deciding one request must not end the appender.
            let attempt = AssertUnwindSafe(self.attempt(request)).catch_unwind();
            return match timeout_at(deadline, attempt).await {
                Ok(Err(_)) => {
                    error!(tenant = %self.writer.tenant, "deciding a request panicked");
                    undecided(Undecided::Panicked)
                }
                Ok(Ok(Ok(RecordOutcome::Refused(RecordError::Journal(AppendError::WrongHead(_)))))) => {
                    let tenant = self.writer.tenant.to_string();
                    counter!("ledger_requests_judged_again_total", "tenant" => tenant).increment(1);
                    continue;
                }
                Ok(Ok(Ok(outcome))) => outcome,
                Ok(Ok(Err(DecisionError::Rejected(rejection)))) => {
                    RecordOutcome::Refused(RecordError::Rejected(rejection))
                }
                Ok(Ok(Err(DecisionError::Projections(error)))) => {
                    warn!(error = &error as &dyn std::error::Error, "cannot decide a request");
                    self.mark_history_unavailable();
                    undecided(Undecided::ProjectionsUnavailable)
                }
                Err(_) => {
                    // Reports wait behind a request: the next request must not delay them as long.
                    self.decisions_paused_until = Instant::now() + DECISION_BACKOFF;
                    undecided(Undecided::TimedOut)
                }
            };
        }
    }

    /// Decides a request once and tries to append its event. [`AppendError::WrongHead`] means that the head of the
    /// journal moved meanwhile.
    async fn attempt(&self, request: &Request) -> Result<RecordOutcome, DecisionError> {
        let head = match self.writer.journal.head().await {
            Ok(head) => head.position,
            Err(error) => {
                let unavailable = AppendError::Unavailable(error.to_string());
                return Ok(RecordOutcome::Refused(RecordError::Journal(unavailable)));
            }
        };
        self.projections.wait_for(head, DECISION_TIMEOUT).await?;
        let mut snapshot = self.projections.snapshot().await?;
        if let Some(known) = snapshot.find_entry(request.identity().key()).await? {
            return repeated_outcome(&mut snapshot, request, known).await;
        }
        let position = snapshot.position();
        let envelope = decide(&mut snapshot, request, (self.clock)()).await?;
        drop(snapshot);
        let entry = self.writer.pending_entry(&envelope, None, OrderedSubmission::default());
        let group = Group::Decided { entry, head: position };
        Ok(self.writer.append(group).await.pop().unwrap_or(RecordOutcome::Refused(RecordError::Closing)))
    }

    /// Looks the identities of reports up in the history.
    async fn look_up(&mut self, reports: &[(&OrderedSubmission, &Envelope)]) -> Group {
        let keys: Vec<IdentityKey> = reports.iter().map(|(_, envelope)| envelope.identity().key()).collect();
        let known = self.known_identities(&keys).await;
        let entries = reports.iter().zip(keys).map(|((order, envelope), key)| {
            self.writer.pending_entry(envelope, known.get(&key).copied(), (*order).clone())
        });
        Group::Reports(entries.collect())
    }

    fn is_history_unavailable(&self) -> bool {
        self.history_probe.as_ref().is_some_and(|probe| !probe.is_finished())
    }

    /// Starts a probe of the history. Until it succeeds, no further group waits for the history.
    fn mark_history_unavailable(&mut self) {
        let probe = probe_history(self.projections.clone(), self.writer.tenant.clone());
        self.history_probe = Some(AbortOnDropHandle::new(tokio::spawn(probe)));
    }

    /// Returns the identities that the history has. If it is unavailable, events are appended all the same: the
    /// journal's duplicate window and the projector ensure that an identity has one effect.
    async fn known_identities(&mut self, keys: &[IdentityKey]) -> HashMap<IdentityKey, EntryLocation> {
        if !self.is_history_unavailable() {
            match timeout(LOOKUP_TIMEOUT, self.projections.find_entries(keys)).await {
                Ok(Ok(known)) => return known,
                Ok(Err(error)) => {
                    warn!(%error, tenant = %self.writer.tenant, "identity lookup failed; appending without it");
                }
                Err(_) => {
                    warn!(tenant = %self.writer.tenant, "identity lookup timed out; appending without it");
                }
            }
            self.mark_history_unavailable();
        }
        counter!("ledger_intake_unchecked_total", "tenant" => self.writer.tenant.to_string())
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

/// Returns true if an event equals the known one of its identity. Events stored by older versions may lack the
/// content type, so that form counts as equal too.
fn is_same_event(envelope: &Envelope, known: EntryLocation) -> bool {
    known.has_bytes(envelope.bytes()) || known.has_bytes(&envelope.bytes_without_content_type())
}

/// Returns the outcome of an event of which the history has the identity.
fn known_outcome(envelope: &Envelope, known: EntryLocation) -> RecordOutcome {
    if is_same_event(envelope, known) {
        RecordOutcome::Duplicate(known.position)
    } else {
        RecordOutcome::Conflict(known.position)
    }
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

/// The batches' submissions in order, each with the order of its batch.
fn submissions(batches: &[PendingBatch]) -> impl Iterator<Item = (&OrderedSubmission, &Submission)> {
    batches.iter().flat_map(|batch| batch.submissions.iter().map(|submission| (&batch.order, submission)))
}

/// Appends groups to the journal, and reports their outcomes. Callers append one group at a time.
#[derive(Clone)]
struct GroupWriter {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
    recent: Arc<Mutex<RecentAppends>>,
    append_failure: RecentAppendFailure,
}

impl GroupWriter {
    fn pending_entry(
        &self,
        envelope: &Envelope,
        known: Option<EntryLocation>,
        order: OrderedSubmission,
    ) -> PendingEntry {
        let new_entry = NewEntry {
            subject: Subject::of(&self.tenant, &envelope.event().payload),
            key: envelope.identity().key(),
            bytes: envelope.bytes().clone(),
        };
        PendingEntry { new_entry, known: known.map(|known| known_outcome(envelope, known)), order }
    }

    /// Appends the events of a group that are not known yet and whose order is not aborted. Returns an outcome for
    /// each event, and aborts the orders of those that will be sent again.
    async fn append(&self, group: Group) -> Vec<RecordOutcome> {
        let started = Instant::now();
        let mut recent = self.recent.lock().await;
        recent.set_stream(self.projections.stream(), self.projections.histories());
        if let Err(reason) = self.confirm_stream(&mut recent).await {
            return self.refuse(&group, AppendError::Unavailable(reason));
        }
        // The decision of an event looked its identity up.
        let settled: Vec<Option<RecordOutcome>> = match &group {
            Group::Reports(entries) => entries.iter().map(|entry| entry.settled(&recent)).collect(),
            Group::Decided { .. } => vec![None],
        };
        let unsettled = group.entries().iter().zip(&settled).filter(|(_, settled)| settled.is_none());
        let new_entries: Vec<NewEntry> = unsettled.map(|(entry, _)| entry.new_entry.clone()).collect();
        let appended = match &group {
            Group::Decided { entry, head } => {
                vec![self.journal.append_expecting(&entry.new_entry, *head).await]
            }
            Group::Reports(_) if new_entries.is_empty() => Vec::new(),
            Group::Reports(_) => self.journal.append(&new_entries).await,
        };
        let mut appended = appended.into_iter();
        let outcomes: Vec<RecordOutcome> = settled
            .into_iter()
            .map(|settled| settled.unwrap_or_else(|| record_outcome(appended.next())))
            .collect();
        for (entry, outcome) in group.entries().iter().zip(&outcomes) {
            if let RecordOutcome::Recorded(position) = outcome {
                recent.insert(entry.new_entry.key, *position, &entry.new_entry.bytes);
            }
            if is_temporary(outcome) {
                entry.order.abort();
            }
        }
        // A decided event also fails while another process appends, which says nothing about the journal.
        if let Group::Reports(_) = group {
            self.append_failure.update(&outcomes);
            histogram!("ledger_append_seconds").record(started.elapsed());
            histogram!("ledger_append_group_events").record(outcomes.len() as f64);
        }
        outcomes
    }

    /// Verifies, before the first append over a connection to the journal, that the journal still has the last entry
    /// of this process: a server may have been restored from an older copy of its files while it was away.
    async fn confirm_stream(&self, recent: &mut RecentAppends) -> Result<(), String> {
        let connections = self.journal.connections();
        if recent.is_confirmed(connections) {
            return Ok(());
        }
        if let Some(history) = recent.history() {
            let confirmed = history.confirm(self.journal.as_ref(), CONFIRM_TIMEOUT).await;
            confirmed.map_err(|error| {
                error!(tenant = %self.tenant, %error, "the journal lacks the last entry of this process");
                error.to_string()
            })?;
        }
        recent.set_confirmed(connections);
        Ok(())
    }

    /// Returns this error as the outcome of all events of a group, and aborts their orders.
    fn refuse(&self, group: &Group, error: AppendError) -> Vec<RecordOutcome> {
        let refuse = |entry: &PendingEntry| {
            entry.order.abort();
            RecordOutcome::Refused(RecordError::Journal(error.clone()))
        };
        let outcomes: Vec<_> = group.entries().iter().map(refuse).collect();
        self.append_failure.update(&outcomes);
        outcomes
    }

    /// Sends the outcomes to the submitters of the batches.
    fn reply(&self, batches: Vec<PendingBatch>, outcomes: Vec<RecordOutcome>) {
        count_outcomes(&self.tenant.to_string(), &outcomes);
        let mut outcomes = outcomes.into_iter();
        for batch in batches {
            let own: Vec<RecordOutcome> = outcomes.by_ref().take(batch.submissions.len()).collect();
            // The submitter may have stopped waiting; the events are recorded all the same.
            let _ = batch.reply.send(own);
        }
    }
}

impl PendingEntry {
    /// Returns the outcome if the report needs no append: the history or the last appends have its identity, or an
    /// earlier event of its order failed.
    fn settled(&self, recent: &RecentAppends) -> Option<RecordOutcome> {
        if let Some(known) = &self.known {
            return Some(known.clone());
        }
        match recent.get(&self.new_entry.key) {
            Some(known) if known.content == content_hash(&self.new_entry.bytes) => {
                Some(RecordOutcome::Duplicate(known.position))
            }
            Some(known) => Some(RecordOutcome::Conflict(known.position)),
            None if self.order.is_aborted() => Some(RecordOutcome::Refused(RecordError::PredecessorFailed)),
            None => None,
        }
    }
}

const fn undecided(reason: Undecided) -> RecordOutcome {
    RecordOutcome::Refused(RecordError::Undecided(reason))
}

/// Converts a result of the journal. A missing one means that the journal broke its contract.
fn record_outcome(appended: Option<Result<Outcome, AppendError>>) -> RecordOutcome {
    match appended {
        Some(Ok(Outcome::Recorded(position))) => RecordOutcome::Recorded(position),
        Some(Ok(Outcome::Duplicate(position))) => RecordOutcome::Duplicate(position),
        Some(Ok(Outcome::Conflict(position))) => RecordOutcome::Conflict(position),
        Some(Err(error)) => RecordOutcome::Refused(RecordError::Journal(error)),
        None => RecordOutcome::Refused(RecordError::Closing),
    }
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

/// Returns true if the client will send the event again, so that no later event of its order may be recorded before.
const fn is_temporary(outcome: &RecordOutcome) -> bool {
    match outcome {
        RecordOutcome::Refused(
            RecordError::PredecessorFailed | RecordError::Undecided(_) | RecordError::Busy,
        ) => true,
        RecordOutcome::Refused(RecordError::Journal(error)) => error.is_temporary(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
