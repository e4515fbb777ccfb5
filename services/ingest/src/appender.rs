//! Group commit: while one group is being appended, the next is gathered and looked up.
//!
//! One group is in flight at a time, so that entries stand in the order in which they came through
//! the door, also when an append fails half-way.

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
use ledger_projections::{Known, Projections, Snapshot};
use ledger_tlog::{Hash, leaf_hash};
use metrics::{counter, histogram};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::recent::Recent;
use crate::request::{DecisionError, Rejection, judge};
use crate::{
    JUDGING_PATIENCE, JUDGING_PAUSE, LOOK_UP_PATIENCE, OrderedSubmission, RecordError, RecordOutcome,
    Request, TRY_AGAIN,
};

/// Events that are gathered into one group: what the journal appends with one disk sync.
const GROUP: usize = 1_000;
/// How long it counts that the journal took nothing.
const LATELY: Duration = Duration::from_secs(10);
/// Identities that are remembered from the last appends.
const REMEMBERED: usize = 65_536;

/// What came through the door.
pub(crate) enum Brought {
    /// It is recorded.
    Report(Box<Envelope>),
    /// It is judged.
    Request(Request),
}

impl Brought {
    pub(crate) fn of(envelope: Envelope) -> Self {
        if envelope.event().payload.is_command() {
            Self::Request(Request::Event(Box::new(envelope)))
        } else {
            Self::Report(Box::new(envelope))
        }
    }

    const fn report(&self) -> Option<&Envelope> {
        match self {
            Self::Report(envelope) => Some(envelope),
            Self::Request(_) => None,
        }
    }
}

/// Events that came through the door together.
pub(crate) struct PendingBatch {
    pub(crate) brought: Vec<Brought>,
    pub(crate) train: OrderedSubmission,
    pub(crate) answer: oneshot::Sender<Vec<RecordOutcome>>,
    /// Room is free again when the ticket is answered.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

pub(crate) struct Appender {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
    recent: Arc<Mutex<Recent>>,
    clock: fn() -> DateTime<Utc>,
    refused: RecentAppendFailure,
    /// The history did not answer, and is not asked until this has ended.
    away: Option<AbortOnDropHandle<()>>,
    /// No request is judged before this: the projections failed, or were too far behind, lately.
    judge_again: Instant,
}

/// Why the journal took nothing when it was last given something, and when that was.
#[derive(Clone, Default)]
pub(crate) struct RecentAppendFailure(Arc<std::sync::Mutex<Option<(Instant, String)>>>);

impl RecentAppendFailure {
    fn note(&self, answers: &[RecordOutcome]) {
        let taken = answers.iter().any(|answer| matches!(answer, RecordOutcome::Recorded(_)));
        let refused = answers.iter().find_map(|answer| match answer {
            RecordOutcome::Refused(RecordError::Journal(error)) if error.is_temporary() => {
                Some(error.to_string())
            }
            _ => None,
        });
        let noted = match refused {
            Some(reason) if !taken => Some((Instant::now(), reason)),
            _ if taken => None,
            _ => return,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = noted;
    }

    /// The reason, if it was lately: nothing may have been given since.
    pub(crate) fn reason(&self) -> Option<String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.as_ref().filter(|(at, _)| at.elapsed() < LATELY).map(|(_, reason)| reason.clone())
    }
}

/// One event of a group.
struct Member {
    submission: NewEntry,
    leaf: Hash,
    known: Option<Known>,
}

impl Appender {
    pub(crate) fn new(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        clock: fn() -> DateTime<Utc>,
        refused: RecentAppendFailure,
    ) -> Self {
        let recent = Arc::new(Mutex::new(Recent::new(REMEMBERED)));
        let now = Instant::now();
        Self { tenant, journal, projections, recent, clock, refused, away: None, judge_again: now }
    }

    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<PendingBatch>) {
        let mut in_flight: Option<JoinHandle<()>> = None;
        while let Some(first) = queue.recv().await {
            let tickets = gather(first, &mut queue);
            if tickets.iter().flat_map(|ticket| &ticket.brought).any(|brought| brought.report().is_none()) {
                if let Some(previous) = in_flight.take() {
                    finished(previous).await;
                }
                self.in_turn(tickets).await;
                continue;
            }
            let reports = tickets.iter().flat_map(|ticket| &ticket.brought).filter_map(Brought::report);
            let members = self.look_up(&reports.collect::<Vec<_>>()).await;
            if let Some(previous) = in_flight.take() {
                finished(previous).await;
            }
            let (journal, recent) = (Arc::clone(&self.journal), Arc::clone(&self.recent));
            let projections = self.projections.clone();
            let refused = self.refused.clone();
            let tenant = self.tenant.to_string();
            // The group before is answered: what it broke off is known.
            let out_of_turn =
                |ticket: &PendingBatch| repeat_n(ticket.train.is_broken(), ticket.brought.len());
            let out_of_turn: Vec<bool> = tickets.iter().flat_map(out_of_turn).collect();
            in_flight = Some(tokio::spawn(async move {
                let answers = append(journal.as_ref(), &projections, &recent, &members, &out_of_turn).await;
                refused.note(&answers);
                count(&tenant, &answers);
                reply(tickets, answers);
            }));
        }
        if let Some(previous) = in_flight {
            finished(previous).await;
        }
    }

    /// Takes events of which some are judged, one after the other: what comes before a request is recorded
    /// before it is judged, and nothing is recorded while it is.
    async fn in_turn(&mut self, tickets: Vec<PendingBatch>) {
        let mut answers: Vec<RecordOutcome> = Vec::new();
        let mut waiting: Vec<(&PendingBatch, &Envelope)> = Vec::new();
        for ticket in &tickets {
            for brought in &ticket.brought {
                match brought {
                    Brought::Report(envelope) => waiting.push((ticket, envelope)),
                    Brought::Request(request) => {
                        answers.extend(self.record(std::mem::take(&mut waiting)).await);
                        let answer = if ticket.train.is_broken() {
                            RecordOutcome::Refused(RecordError::PredecessorFailed)
                        } else {
                            self.decide(request).await
                        };
                        if is_temporary(&answer) {
                            ticket.train.abort();
                        }
                        answers.push(answer);
                    }
                }
            }
        }
        answers.extend(self.record(waiting).await);
        count(&self.tenant.to_string(), &answers);
        reply(tickets, answers);
    }

    async fn record(&mut self, waiting: Vec<(&PendingBatch, &Envelope)>) -> Vec<RecordOutcome> {
        if waiting.is_empty() {
            return Vec::new();
        }
        let reports: Vec<&Envelope> = waiting.iter().map(|(_, envelope)| *envelope).collect();
        let members = self.look_up(&reports).await;
        let out_of_turn: Vec<bool> = waiting.iter().map(|(ticket, _)| ticket.train.is_broken()).collect();
        let answers =
            append(self.journal.as_ref(), &self.projections, &self.recent, &members, &out_of_turn).await;
        self.refused.note(&answers);
        for ((ticket, _), answer) in waiting.iter().zip(&answers) {
            if is_temporary(answer) {
                ticket.train.abort();
            }
        }
        answers
    }

    /// Judges a request at the end of the journal, and appends what comes of it if that is still its end.
    async fn decide(&mut self, request: &Request) -> RecordOutcome {
        let key = request.identity().key();
        if self.is_away() || Instant::now() < self.judge_again {
            return RecordOutcome::Refused(RecordError::DecisionError(
                "the history could not be asked just now".into(),
            ));
        }
        let deadline = Instant::now() + JUDGING_PATIENCE;
        loop {
            // A fault of ours in judging one request must not close the door for all others.
            let attempt = AssertUnwindSafe(self.attempt(request, key)).catch_unwind();
            return match timeout_at(deadline, attempt).await {
                Ok(Err(_)) => {
                    error!(tenant = %self.tenant, "judging a request panicked");
                    RecordOutcome::Refused(RecordError::DecisionError(
                        "the cause is in the service's log".into(),
                    ))
                }
                Ok(Ok(Ok(Attempt::Answered(answer)))) => answer,
                Ok(Ok(Ok(Attempt::WrongHead))) => {
                    counter!("ledger_requests_judged_again_total", "tenant" => self.tenant.to_string())
                        .increment(1);
                    continue;
                }
                Ok(Ok(Err(DecisionError::Rejected(rejection)))) => {
                    RecordOutcome::Refused(RecordError::Rejected(rejection))
                }
                Ok(Ok(Err(DecisionError::Projections(error)))) => {
                    warn!(error = &error as &dyn std::error::Error, "a request cannot be judged");
                    self.mark_history_unavailable();
                    RecordOutcome::Refused(RecordError::DecisionError("the projections do not answer".into()))
                }
                Err(_) => {
                    // Reports wait behind a request: the next one must not keep them as long.
                    self.judge_again = Instant::now() + JUDGING_PAUSE;
                    let reason = "it was not judged in time, or its answer was lost";
                    RecordOutcome::Refused(RecordError::DecisionError(reason.into()))
                }
            };
        }
    }

    async fn attempt(&self, request: &Request, key: IdentityKey) -> Result<Attempt, DecisionError> {
        let unreachable = |error: ReadError| {
            Attempt::Answered(RecordOutcome::Refused(RecordError::Journal(AppendError::Unavailable(
                error.to_string(),
            ))))
        };
        let head = match self.journal.head().await {
            Ok(head) => head.position,
            Err(error) => return Ok(unreachable(error)),
        };
        self.projections.wait_for(head, JUDGING_PATIENCE).await?;
        let mut snapshot = self.projections.snapshot().await?;
        if let Some(known) = snapshot.known(key).await? {
            return Ok(Attempt::Answered(repeated(&mut snapshot, request, known).await?));
        }
        let position = snapshot.position();
        let envelope = judge(&mut snapshot, request, (self.clock)()).await?;
        drop(snapshot);
        let subject = Subject::of(&self.tenant, &envelope.event().payload);
        let submission = NewEntry { subject, key, bytes: envelope.bytes().clone() };
        Ok(match self.journal.append_expecting(&submission, position).await {
            Ok(Outcome::Recorded(position)) => Attempt::Answered(RecordOutcome::Recorded(position)),
            Ok(Outcome::Duplicate(position)) => Attempt::Answered(RecordOutcome::Duplicate(position)),
            Ok(Outcome::Conflict(position)) => Attempt::Answered(RecordOutcome::Conflict(position)),
            Err(AppendError::WrongHead(_)) => Attempt::WrongHead,
            Err(error) => Attempt::Answered(RecordOutcome::Refused(RecordError::Journal(error))),
        })
    }

    async fn look_up(&mut self, reports: &[&Envelope]) -> Vec<Member> {
        let keys: Vec<IdentityKey> = reports.iter().map(|envelope| envelope.identity().key()).collect();
        let known = self.known(&keys).await;
        reports
            .iter()
            .zip(keys)
            .map(|(envelope, key)| Member {
                submission: NewEntry {
                    subject: Subject::of(&self.tenant, &envelope.event().payload),
                    key,
                    bytes: envelope.bytes().clone(),
                },
                leaf: leaf_of(envelope, known.get(&key)),
                known: known.get(&key).copied(),
            })
            .collect()
    }

    /// Whether the history did not answer when it was last asked.
    fn is_away(&self) -> bool {
        self.away.as_ref().is_some_and(|away| !away.is_finished())
    }

    /// One group has waited for the history. No other does before it is known to answer.
    fn mark_history_unavailable(&mut self) {
        let answers = answers(self.projections.clone(), self.tenant.clone());
        self.away = Some(AbortOnDropHandle::new(tokio::spawn(answers)));
    }

    /// What the history knows. When it cannot be asked, events are appended all the same: the
    /// journal's window and the fold see to it that an identity has one effect.
    async fn known(&mut self, keys: &[IdentityKey]) -> HashMap<IdentityKey, Known> {
        if !self.is_away() {
            match timeout(LOOK_UP_PATIENCE, self.projections.known(keys)).await {
                Ok(Ok(known)) => return known,
                Ok(Err(error)) => warn!(%error, "the history cannot be asked for identities"),
                Err(_) => warn!("the history does not answer in time when asked for identities"),
            }
            self.mark_history_unavailable();
        }
        counter!("ledger_intake_unchecked_total", "tenant" => self.tenant.to_string())
            .increment(keys.len() as u64);
        HashMap::new()
    }
}

/// Asks a history until it answers: it may have been slow just once.
async fn answers(projections: Projections, tenant: TenantName) {
    while !matches!(timeout(LOOK_UP_PATIENCE, projections.checkpoint()).await, Ok(Ok(_))) {
        tokio::time::sleep(TRY_AGAIN).await;
    }
    info!(%tenant, "the history is asked for identities again");
}

/// What came of judging a request once.
enum Attempt {
    Answered(RecordOutcome),
    /// The journal went on meanwhile.
    WrongHead,
}

/// The leaf hash that an event is compared by with what the history has of its identity.
fn leaf_of(envelope: &Envelope, known: Option<&Known>) -> Hash {
    match known {
        Some(known) if is_same_event(envelope, *known) => known.leaf_hash,
        _ => leaf_hash(envelope.bytes()),
    }
}

/// Returns true if an event is the one that the history has with its identity. Before the content type was always written, an event
/// could be stored without it.
fn is_same_event(envelope: &Envelope, known: Known) -> bool {
    leaf_hash(envelope.bytes()) == known.leaf_hash
        || leaf_hash(&envelope.bytes_without_content_type()) == known.leaf_hash
}

/// The answer to a request whose identity the history has. What a wish comes to depends on when it is judged:
/// the first time counts.
async fn repeated(
    snapshot: &mut Snapshot,
    request: &Request,
    known: Known,
) -> Result<RecordOutcome, DecisionError> {
    let same = match request {
        Request::Event(envelope) => is_same_event(envelope, known),
        Request::Failed(_) => true,
        Request::Rollback(wish) => match snapshot.rollback(&wish.rollback_id).await? {
            Some(row) if wish.is_same(snapshot, &row).await? => true,
            Some(row) => {
                let (rollback_id, position) = (wish.rollback_id.clone(), row.requested);
                return Err(Rejection::RollbackExists { rollback_id, position, phase: row.phase }.into());
            }
            None => false,
        },
    };
    Ok(if same { RecordOutcome::Duplicate(known.position) } else { RecordOutcome::Conflict(known.position) })
}

async fn finished(group: JoinHandle<()>) {
    if let Err(error) = group.await {
        // Its tickets are dropped unanswered, which tells their owners.
        warn!(%error, "a group of events was not answered");
    }
}

fn gather(first: PendingBatch, queue: &mut mpsc::UnboundedReceiver<PendingBatch>) -> Vec<PendingBatch> {
    let mut events = first.brought.len();
    let mut tickets = vec![first];
    while events < GROUP {
        let Ok(ticket) = queue.try_recv() else { break };
        events += ticket.brought.len();
        tickets.push(ticket);
    }
    tickets
}

async fn append(
    journal: &dyn Journal,
    projections: &Projections,
    recent: &Mutex<Recent>,
    members: &[Member],
    out_of_turn: &[bool],
) -> Vec<RecordOutcome> {
    let began = Instant::now();
    let mut recent = recent.lock().await;
    recent.is_of(projections.stream());
    let known: Vec<Option<Known>> = members
        .iter()
        .map(|member| member.known.or_else(|| recent.get(&member.submission.key).copied()))
        .collect();
    let fresh: Vec<NewEntry> = members
        .iter()
        .zip(&known)
        .zip(out_of_turn)
        .filter(|((_, known), out_of_turn)| known.is_none() && !**out_of_turn)
        .map(|((member, _), _)| member.submission.clone())
        .collect();
    let mut outcomes = if fresh.is_empty() { Vec::new() } else { journal.append(&fresh).await }.into_iter();
    let mut answers = Vec::with_capacity(members.len());
    for ((member, known), out_of_turn) in members.iter().zip(known).zip(out_of_turn) {
        answers.push(match known {
            Some(known) if known.leaf_hash == member.leaf => RecordOutcome::Duplicate(known.position),
            Some(known) => RecordOutcome::Conflict(known.position),
            None if *out_of_turn => RecordOutcome::Refused(RecordError::PredecessorFailed),
            None => match outcomes.next() {
                Some(Ok(Outcome::Recorded(position))) => {
                    recent.remember(member.submission.key, position, *member.leaf.as_bytes());
                    RecordOutcome::Recorded(position)
                }
                Some(Ok(Outcome::Duplicate(position))) => RecordOutcome::Duplicate(position),
                Some(Ok(Outcome::Conflict(position))) => RecordOutcome::Conflict(position),
                Some(Err(error)) => RecordOutcome::Refused(RecordError::Journal(error)),
                None => RecordOutcome::Refused(RecordError::Closing),
            },
        });
    }
    histogram!("ledger_append_seconds").record(began.elapsed());
    histogram!("ledger_append_group_events").record(members.len() as f64);
    answers
}

fn count(tenant: &str, answers: &[RecordOutcome]) {
    let mut recorded = 0;
    for answer in answers {
        let status = match answer {
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

fn reply(tickets: Vec<PendingBatch>, answers: Vec<RecordOutcome>) {
    let mut answers = answers.into_iter();
    for ticket in tickets {
        let own: Vec<RecordOutcome> = answers.by_ref().take(ticket.brought.len()).collect();
        if own.iter().any(is_temporary) {
            ticket.train.abort();
        }
        // Whoever asked may have gone away; the event is recorded all the same.
        let _ = ticket.answer.send(own);
    }
}

/// Whether the event will be sent again, and what follows it must wait for that.
const fn is_temporary(answer: &RecordOutcome) -> bool {
    match answer {
        RecordOutcome::Refused(
            RecordError::PredecessorFailed | RecordError::DecisionError(_) | RecordError::Busy,
        ) => true,
        RecordOutcome::Refused(RecordError::Journal(error)) => error.is_temporary(),
        _ => false,
    }
}
