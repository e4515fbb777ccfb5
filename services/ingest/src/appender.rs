//! Group commit: while one group is being appended, submissions wait; up to 1,000 of their events are the next group.
//! Requests are confirmed and appended one by one between the groups.
//!
//! Only one group is in flight at a time, so that entries keep the order of submission, also when an append
//! fails partway. The costs of a group beyond its events are high, so few large groups are better than many small ones:
//! see `gathering`.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use ledger_codec::cloudevents::{Envelope, MAX_EVENT_BYTES, content_of};
use ledger_domain::{IdentityKey, Position, TenantName};
use ledger_journal::{AppendError, NewEntry, Outcome, SharedJournal, Subject};
use ledger_projections::{KnownEntry, Projections, Waited};
use ledger_tlog::Hash;
use metrics::{counter, histogram};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use self::clock_reading::ClockReading;
use self::gathering::{ExpectedSubmitters, Orders, gather, receive_queued};
use self::heads::{JournalMark, MAX_OUTCOME_AGE, RecentHeads};
use self::lookup::HistoryLookup;
use self::waiting::{GroupBounds, Lookup, WaitingBatch, WaitingSubmissions};
use crate::decision::{Decider, Decision, undecided};
use crate::recent::{RecentAppends, content_hash};
use crate::rejection::DecisionError;
use crate::repeats::{known_outcome, repeated_outcome};
use crate::request::Request;
use crate::{
    CONFIRMATION_TIMEOUT, DECISION_BACKOFF, OrderedSubmission, PROJECTION_WAIT, RecordError, RecordOutcome,
    Undecided,
};

mod clock_reading;
mod gathering;
mod heads;
mod lookup;
mod waiting;

/// Number of events that complete a group; the journal appends as many with one disk sync.
const GROUP_SIZE: usize = 1_000;
/// Bytes at which a group accepts only small batches, so that large events of one client do not delay single events of
/// others.
const GROUP_BYTES: usize = 8 << 20;
/// Bounds of a group.
const GROUP: GroupBounds =
    GroupBounds { events: GROUP_SIZE, bytes: GROUP_BYTES, small_bytes: MAX_EVENT_BYTES };
/// Number of waiting events that are looked up together while a group is in flight. Fewer wait for the end of the group:
/// the history answers one question for all in less time than two.
const LOOKUP_AHEAD: usize = 128;
/// Maximum age of a failed append that is still reported.
const APPEND_FAILURE_MAX_AGE: Duration = Duration::from_secs(10);
/// Longest wait for a journal that lacks the last entry of this process: another server of it may only lag behind.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// Age of a look-up at which its events are no longer appended. It covers the time that a look-up and the confirmation of
/// the stream take.
const MAX_APPEND_DELAY: Duration = Duration::from_secs(25);
/// Reason of a group that waited too long.
const LOOKUP_TOO_OLD: &str = "the event waited too long after its look-up in the history; send it again";
/// Reason of an event that the journal may have recorded a second time.
const OUTCOME_TOO_LATE: &str =
    "the journal acknowledged the event so late that it may have been recorded before; send it again";
/// Number of identities from the last appends that are cached.
const RECENT_CAPACITY: usize = 65_536;

/// Message to the appender.
pub(crate) enum Submission {
    /// Reports, which are recorded without a decision.
    Reports(PendingBatch),
    /// A request, which is recorded only if its decision holds.
    Request(Box<DecidedRequest>),
}

/// Reports that were submitted together and wait for their outcomes.
pub(crate) struct PendingBatch {
    pub(crate) reports: Vec<Envelope>,
    pub(crate) order: OrderedSubmission,
    pub(crate) reply: oneshot::Sender<Vec<RecordOutcome>>,
    /// Share of the byte budget; released when the batch is dropped after its reply.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// A request that waits for its outcome.
pub(crate) struct DecidedRequest {
    pub(crate) request: Arc<Request>,
    /// The decision that was made outside the write path; `None`: decide while nothing else is appended.
    pub(crate) decision: Option<Decision>,
    pub(crate) order: OrderedSubmission,
    /// Time after which the request is not taken any more.
    pub(crate) deadline: Instant,
    /// Receives the outcome; `None`: the decision does not hold any more.
    pub(crate) reply: oneshot::Sender<Option<RecordOutcome>>,
    /// Share of the byte budget; released when the request is dropped after its reply.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// Task that appends the queued events of one tenant.
pub(crate) struct Appender {
    projections: Projections,
    decider: Decider,
    writer: GroupWriter,
    history: HistoryLookup,
    /// No request is confirmed before this time, because a confirmation timed out.
    confirmations_paused_until: Instant,
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
    /// [`content_hash`] of what the client sent.
    content: Hash,
    /// The outcome if the history has an event of this identity.
    known: Option<RecordOutcome>,
    order: OrderedSubmission,
}

/// The result of confirming a decision at a head of the journal.
enum Confirmation {
    /// The event may be appended right after this head.
    Holds(Box<PendingEntry>, Position),
    /// An entry since the decision concerns it.
    Outdated,
    /// The outcome is known without an append.
    Settled(RecordOutcome),
}

/// Events that are appended together, in order.
enum Group {
    /// Reports, which may be recorded after any entry.
    Reports {
        entries: Vec<PendingEntry>,
        /// Times at which look-ups of their identities began.
        looked_up: Vec<ClockReading>,
    },
    /// The result of a decision at a head of the journal: it must be recorded right after that head, or not at all.
    Decided { entry: PendingEntry, head: Position },
}

impl Group {
    fn entries(&self) -> &[PendingEntry] {
        match self {
            Self::Reports { entries, .. } => entries,
            Self::Decided { entry, .. } => std::slice::from_ref(entry),
        }
    }

    /// Returns true if the identities were looked up at most `age` ago. That of a decided event is unknown up to its
    /// head, at any time.
    fn is_looked_up_within(&self, age: Duration, now: ClockReading) -> bool {
        match self {
            Self::Reports { looked_up, .. } => looked_up.iter().all(|at| now.is_within(age, *at)),
            Self::Decided { .. } => true,
        }
    }
}

impl Appender {
    pub(crate) fn new(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        decider: Decider,
        append_failure: RecentAppendFailure,
        clock: fn() -> DateTime<Utc>,
    ) -> Self {
        let heads = RecentHeads::default();
        let history =
            HistoryLookup::new(tenant.clone(), Arc::clone(&journal), projections.clone(), heads.clone());
        let recent = Arc::new(Mutex::new(RecentAppends::new(RECENT_CAPACITY)));
        let writer = GroupWriter {
            tenant,
            journal,
            projections: projections.clone(),
            recent,
            heads,
            append_failure,
            clock,
        };
        Self { projections, decider, writer, history, confirmations_paused_until: Instant::now() }
    }

    /// Appends what the queue delivers. Groups of reports and single requests take turns, so that neither waits for
    /// more than one of the other.
    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Submission>) {
        let mut in_flight: Option<GroupInFlight> = None;
        let mut waiting = WaitingSubmissions::default();
        loop {
            let mut expected = None;
            if let Some(group) = in_flight.take() {
                expected = Some(self.finish(group, &mut queue, &mut waiting, true).await);
            }
            if waiting.is_empty() {
                match queue.recv().await {
                    Some(submission) => waiting.push(submission),
                    None => return,
                }
            }
            gather(&mut queue, &mut waiting, expected).await;
            let mut batches = waiting.take_group(GROUP);
            if !batches.is_empty() {
                let (history_epoch, now) = (self.projections.history_epoch(), self.writer.now());
                let rest = batches.iter_mut().filter(|waiting| !waiting.is_looked_up(history_epoch, now));
                self.look_up(rest.collect()).await;
                in_flight = Some(self.start(batches));
            }
            if let Some(request) = waiting.take_request() {
                if let Some(group) = in_flight.take() {
                    self.finish(group, &mut queue, &mut waiting, false).await;
                }
                self.record_request(*request).await;
            }
        }
    }

    /// Starts to append a group. The one before has its outcomes, so the orders that it aborted are known.
    fn start(&self, group: Vec<WaitingBatch>) -> GroupInFlight {
        let mut batches = Vec::with_capacity(group.len());
        let (mut entries, mut looked_up) = (Vec::new(), Vec::new());
        for WaitingBatch { batch, lookup, .. } in group {
            if let Some(lookup) = lookup {
                entries.extend(lookup.entries);
                looked_up.push(lookup.at);
            }
            batches.push(batch);
        }
        let orders = Orders::of(batches.iter());
        let writer = self.writer.clone();
        let task = tokio::spawn(async move {
            let outcomes = writer.append(Group::Reports { entries, looked_up }).await;
            writer.reply(batches, outcomes);
        });
        GroupInFlight { task, orders }
    }

    /// Waits until a group has its outcomes. Receives submissions meanwhile. If many wait, and no request does, looks them
    /// up: `may_look_ahead` is false if the caller has a request. Returns the submitters that are expected next.
    async fn finish(
        &mut self,
        group: GroupInFlight,
        queue: &mut mpsc::UnboundedReceiver<Submission>,
        waiting: &mut WaitingSubmissions,
        may_look_ahead: bool,
    ) -> ExpectedSubmitters {
        let GroupInFlight { mut task, orders } = group;
        let mut is_queue_open = true;
        loop {
            tokio::select! {
                biased;
                ended = &mut task => {
                    if let Err(error) = ended {
                        // Its batches are dropped without a reply; their submitters see `Closing`.
                        warn!(%error, "the append task of a group failed; its events have no outcome");
                    }
                    break;
                }
                submission = queue.recv(), if is_queue_open => match submission {
                    Some(submission) => waiting.push(submission),
                    None => is_queue_open = false,
                },
            }
            if may_look_ahead
                && !waiting.has_requests()
                && waiting.not_looked_up() >= LOOKUP_AHEAD
                && waiting.looked_up() < GROUP_SIZE
            {
                self.look_up(waiting.next_to_look_up(GROUP_SIZE)).await;
            }
        }
        // Clients that had their outcomes first may have submitted again: they are counted once, as expected.
        let expected = orders.expected_again(waiting);
        receive_queued(queue, waiting);
        expected
    }

    async fn record_request(&mut self, decided: DecidedRequest) {
        let DecidedRequest { request, decision, order, deadline, reply, _permit } = decided;
        // The group before it may have failed after the decision.
        let outcome = if order.is_aborted() {
            Some(RecordOutcome::Refused(RecordError::PredecessorFailed))
        } else if Instant::now() >= deadline {
            Some(undecided(Undecided::TimedOut))
        } else {
            self.confirm_and_append(&request, decision).await
        };
        if let Some(outcome) = &outcome {
            count_outcomes(&self.writer.tenant.to_string(), std::slice::from_ref(outcome));
        }
        // The submitter may have stopped waiting; the event is recorded all the same.
        let _ = reply.send(outcome);
    }

    /// Appends the event of a request right after a head of the journal at which its decision holds. Returns `None` if
    /// an entry since the decision concerns it.
    async fn confirm_and_append(
        &mut self,
        request: &Request,
        mut decision: Option<Decision>,
    ) -> Option<RecordOutcome> {
        if Instant::now() < self.confirmations_paused_until {
            return Some(undecided(Undecided::HistoryUnavailable));
        }
        let deadline = Instant::now() + CONFIRMATION_TIMEOUT;
        loop {
            let had_decision = decision.is_some();
            // A panic while confirming one request must not end the appender.
            let confirmation = AssertUnwindSafe(self.confirm(request, &mut decision)).catch_unwind();
            let confirmed = match timeout_at(deadline, confirmation).await {
                Ok(Ok(confirmed)) => confirmed,
                Ok(Err(_)) => {
                    error!(tenant = %self.writer.tenant, "confirming a decision panicked");
                    return Some(undecided(Undecided::Panicked));
                }
                Err(_) => {
                    if had_decision {
                        // The history is slow, and reports wait: the next request must not delay them as long.
                        self.confirmations_paused_until = Instant::now() + DECISION_BACKOFF;
                    }
                    return Some(undecided(Undecided::TimedOut));
                }
            };
            let (entry, head) = match confirmed {
                Confirmation::Holds(entry, head) => (*entry, head),
                Confirmation::Outdated => {
                    let tenant = self.writer.tenant.to_string();
                    counter!("ledger_requests_judged_again_total", "tenant" => tenant).increment(1);
                    return None;
                }
                Confirmation::Settled(outcome) => return Some(outcome),
            };
            match self.writer.append(Group::Decided { entry, head }).await.pop() {
                // Another process appended an entry: confirm at the new head.
                Some(RecordOutcome::Refused(RecordError::Journal(AppendError::WrongHead(_)))) => {
                    if Instant::now() >= deadline {
                        return Some(undecided(Undecided::TimedOut));
                    }
                }
                // Another process appended an entry of this identity: compare with it.
                Some(RecordOutcome::Conflict(_)) if Instant::now() < deadline => {}
                other => return Some(other.unwrap_or(RecordOutcome::Refused(RecordError::Closing))),
            }
        }
    }

    /// Confirms at the journal's head that the decision on a request holds. Decides there if there is no decision.
    async fn confirm(&self, request: &Request, decision: &mut Option<Decision>) -> Confirmation {
        let head = match self.decider.head().await {
            Ok(head) => head,
            Err(outcome) => return Confirmation::Settled(outcome),
        };
        if let Some(decision) = decision.as_ref().filter(|decision| decision.position == head) {
            return self.holds(decision, head);
        }
        match self.confirm_in_snapshot(request, decision, head).await {
            Ok(confirmation) => confirmation,
            Err(error) => Confirmation::Settled(self.decider.outcome_of(error.into())),
        }
    }

    async fn confirm_in_snapshot(
        &self,
        request: &Request,
        decision: &mut Option<Decision>,
        head: Position,
    ) -> Result<Confirmation, DecisionError> {
        if let Waited::StillAt(_) = self.projections.wait_for(head, PROJECTION_WAIT).await? {
            // Many events arrive. Their submitters wait meanwhile, so the projections catch up.
            return Ok(Confirmation::Settled(undecided(Undecided::TimedOut)));
        }
        let mut snapshot = self.projections.snapshot().await?;
        if let Some(known) = snapshot.find_entry(request.identity().key()).await? {
            return Ok(Confirmation::Settled(repeated_outcome(&mut snapshot, request, &known).await?));
        }
        let head = snapshot.position();
        let holds = match decision {
            Some(Decision { environments: None, .. }) => true,
            Some(Decision { environments: Some(environments), services, position, .. }) => {
                !snapshot.concerns_since(*position, environments, services).await?
            }
            None => {
                *decision = Some(self.decider.decide_in(&mut snapshot, request).await?);
                true
            }
        };
        Ok(match decision {
            Some(decision) if holds => self.holds(decision, head),
            _ => Confirmation::Outdated,
        })
    }

    fn holds(&self, decision: &Decision, head: Position) -> Confirmation {
        let (envelope, order) = (&decision.envelope, OrderedSubmission::default());
        let entry = self.writer.pending_entry(envelope, envelope.identity().key(), None, order);
        Confirmation::Holds(Box::new(entry), head)
    }

    /// Looks the identities of reports up in the history.
    async fn look_up(&mut self, batches: Vec<&mut WaitingBatch>) {
        if batches.is_empty() {
            return;
        }
        let (history_epoch, at) = (self.projections.history_epoch(), self.writer.now());
        let reports = batches.iter().flat_map(|waiting| &waiting.batch.reports);
        let keys: Vec<IdentityKey> = reports.map(|envelope| envelope.identity().key()).collect();
        let known = self.history.find(&keys, at).await;
        let mut keys = keys.into_iter();
        for waiting in batches {
            let PendingBatch { reports, order, .. } = &waiting.batch;
            let entries = reports.iter().zip(keys.by_ref()).map(|(envelope, key)| {
                self.writer.pending_entry(envelope, key, known.get(&key), order.clone())
            });
            waiting.lookup = Some(Lookup { history_epoch, at, entries: entries.collect() });
        }
    }
}

/// A group that is being appended.
struct GroupInFlight {
    /// Ends when the submitters have the outcomes.
    task: JoinHandle<()>,
    orders: Orders,
}

/// Appends groups to the journal, and reports their outcomes. Callers append one group at a time.
#[derive(Clone)]
struct GroupWriter {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
    recent: Arc<Mutex<RecentAppends>>,
    heads: RecentHeads,
    append_failure: RecentAppendFailure,
    clock: fn() -> DateTime<Utc>,
}

impl GroupWriter {
    fn pending_entry(
        &self,
        envelope: &Envelope,
        key: IdentityKey,
        known: Option<&KnownEntry>,
        order: OrderedSubmission,
    ) -> PendingEntry {
        let new_entry = NewEntry {
            subject: Subject::of(&self.tenant, &envelope.event().payload),
            key,
            bytes: envelope.bytes().clone(),
        };
        let content = content_hash(envelope.content());
        PendingEntry { new_entry, content, known: known.map(|known| known_outcome(envelope, known)), order }
    }

    /// Appends the events of a group that are not known yet and whose order is not aborted. Returns an outcome for
    /// each event, and aborts the orders of those that will be sent again.
    async fn append(&self, group: Group) -> Vec<RecordOutcome> {
        let mut recent = self.recent.lock().await;
        let (started, mark) = (self.now(), JournalMark::of(&self.projections, self.journal.as_ref()));
        let followed = self.projections.identities_position();
        recent.set_stream(self.projections.stream(), self.projections.history_epoch());
        if let Err(reason) = self.confirm_stream(&mut recent).await {
            return self.refuse(&group, AppendError::Unavailable(reason));
        }
        if !group.is_looked_up_within(MAX_APPEND_DELAY, self.now()) {
            return self.refuse(&group, AppendError::Unavailable(LOOKUP_TOO_OLD.into()));
        }
        let outcomes = self.append_unsettled(&group, &recent).await;
        for (entry, outcome) in group.entries().iter().zip(&outcomes) {
            if let RecordOutcome::Recorded(position) = outcome {
                recent.insert(entry.new_entry.key, *position, &entry.new_entry.bytes, entry.content);
            }
            if outcome.is_temporary() {
                entry.order.abort();
            }
        }
        let positions = || outcomes.iter().filter_map(RecordOutcome::recorded);
        if let (Some(first), Some(last)) = (positions().min(), positions().max())
            // Otherwise an older copy of the journal assigns positions again that the projector has passed.
            && followed.is_none_or(|followed| followed < first)
        {
            self.heads.note(mark, started, last);
        }
        // A decided event also fails while another process appends, which says nothing about the journal.
        if let Group::Reports { .. } = group {
            self.append_failure.update(&outcomes);
            histogram!("ledger_append_seconds").record(started.monotonic.elapsed());
            histogram!("ledger_append_group_events").record(outcomes.len() as f64);
        }
        outcomes
    }

    /// Appends those events of a group that are not settled, and returns the outcomes of all.
    async fn append_unsettled(&self, group: &Group, recent: &RecentAppends) -> Vec<RecordOutcome> {
        // The decision of an event looked its identity up.
        let settled: Vec<Option<RecordOutcome>> = match group {
            Group::Reports { entries, .. } => entries.iter().map(|entry| entry.settled(recent)).collect(),
            Group::Decided { .. } => vec![None],
        };
        let unsettled = group.entries().iter().zip(&settled).filter(|(_, settled)| settled.is_none());
        let new_entries: Vec<NewEntry> = unsettled.map(|(entry, _)| entry.new_entry.clone()).collect();
        let appended = match group {
            Group::Decided { entry, head } => {
                vec![self.journal.append_expecting(&entry.new_entry, *head).await]
            }
            Group::Reports { .. } if new_entries.is_empty() => Vec::new(),
            Group::Reports { .. } => self.journal.append(&new_entries).await,
        };
        // The process may have been paused meanwhile: after the duplicate window, the journal records a repeat again.
        let is_in_time = group.is_looked_up_within(MAX_OUTCOME_AGE, self.now());
        let mut appended = appended.into_iter().map(|appended| match appended {
            Ok(Outcome::Recorded(_)) if !is_in_time => Err(AppendError::Unavailable(OUTCOME_TOO_LATE.into())),
            appended => appended,
        });
        let mut outcomes: Vec<RecordOutcome> = settled
            .into_iter()
            .map(|settled| settled.unwrap_or_else(|| record_outcome(appended.next())))
            .collect();
        for (entry, outcome) in group.entries().iter().zip(&mut outcomes) {
            if let RecordOutcome::Conflict(position) = *outcome
                && self.has_content(position, entry.content).await
            {
                *outcome = RecordOutcome::Duplicate(position);
            }
        }
        outcomes
    }

    fn now(&self) -> ClockReading {
        ClockReading::now(self.clock)
    }

    /// Returns true if the entry at a position has this content. The journal compares whole entries, which differ if
    /// another principal sent the same event.
    async fn has_content(&self, position: Position, content: Hash) -> bool {
        match self.journal.entry(position).await {
            Ok(Some(entry)) => content_hash(&content_of(&entry.bytes)) == content,
            Ok(None) | Err(_) => false,
        }
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

    /// Sends the outcomes to the submitters of the batches. Hands the recorded envelopes over to the projector first: it
    /// may have received their entries already.
    fn reply(&self, batches: Vec<PendingBatch>, outcomes: Vec<RecordOutcome>) {
        count_outcomes(&self.tenant.to_string(), &outcomes);
        let mut outcomes = outcomes.into_iter();
        let (mut recorded, mut replies) = (Vec::new(), Vec::with_capacity(batches.len()));
        for PendingBatch { reports, reply, _permit: permit, .. } in batches {
            let own: Vec<RecordOutcome> = outcomes.by_ref().take(reports.len()).collect();
            let positions = own.iter().map(|outcome| match outcome {
                RecordOutcome::Recorded(position) => Some(*position),
                _ => None,
            });
            recorded
                .extend(positions.zip(reports).filter_map(|(position, report)| Some((position?, report))));
            replies.push((reply, own, permit));
        }
        self.projections.keep_recorded(recorded);
        for (reply, own, _permit) in replies {
            // The submitter may have stopped waiting; the events are recorded all the same.
            let _ = reply.send(own);
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
            Some(known) if known.content == self.content => Some(RecordOutcome::Duplicate(known.position)),
            Some(known) => Some(RecordOutcome::Conflict(known.position)),
            None if self.order.is_aborted() => Some(RecordOutcome::Refused(RecordError::PredecessorFailed)),
            None => None,
        }
    }
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

#[cfg(test)]
mod tests;
