//! Group commit: while one group is being appended, the next is gathered and looked up.
//!
//! One group is in flight at a time, so that entries stand in the order in which they came through
//! the door, also when an append fails half-way.

use std::collections::HashMap;
use std::iter::repeat_n;
use std::sync::Arc;

use ledger_dialects::cloudevents::Envelope;
use ledger_domain::{IdentityKey, TenantName};
use ledger_journal::{Journal, Outcome, SharedJournal, Subject, Submission};
use ledger_proof::{Hash, leaf_hash};
use ledger_views::{Known, Views};
use metrics::{counter, histogram};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::recent::Recent;
use crate::{Answer, LOOK_UP_PATIENCE, LOOK_UP_PAUSE, Refusal, Train};

/// Events that are gathered into one group: what the journal appends with one disk sync.
const GROUP: usize = 1_000;
/// Identities that are remembered from the last appends.
const REMEMBERED: usize = 65_536;

/// Events that came through the door together.
pub(crate) struct Ticket {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) train: Train,
    pub(crate) answer: oneshot::Sender<Vec<Answer>>,
    /// Room is free again when the ticket is answered.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

pub(crate) struct Appender {
    tenant: TenantName,
    journal: SharedJournal,
    views: Views,
    recent: Arc<Mutex<Recent>>,
    /// The history is not asked before this: it failed lately.
    ask_again: Instant,
}

/// One event of a group.
struct Member {
    submission: Submission,
    leaf: Hash,
    known: Option<Known>,
}

impl Appender {
    pub(crate) fn new(tenant: TenantName, journal: SharedJournal, views: Views) -> Self {
        let recent = Arc::new(Mutex::new(Recent::new(REMEMBERED)));
        Self { tenant, journal, views, recent, ask_again: Instant::now() }
    }

    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Ticket>) {
        let mut in_flight: Option<JoinHandle<()>> = None;
        while let Some(first) = queue.recv().await {
            let tickets = gather(first, &mut queue);
            let members = self.look_up(&tickets).await;
            if let Some(previous) = in_flight.take() {
                finished(previous).await;
            }
            let (journal, recent) = (Arc::clone(&self.journal), Arc::clone(&self.recent));
            let tenant = self.tenant.to_string();
            // The group before is answered: what it broke off is known.
            let out_of_turn = |ticket: &Ticket| repeat_n(ticket.train.is_broken(), ticket.envelopes.len());
            let out_of_turn: Vec<bool> = tickets.iter().flat_map(out_of_turn).collect();
            in_flight = Some(tokio::spawn(async move {
                let answers = append(journal.as_ref(), &recent, &members, &out_of_turn).await;
                count(&tenant, &answers);
                reply(tickets, answers);
            }));
        }
        if let Some(previous) = in_flight {
            finished(previous).await;
        }
    }

    async fn look_up(&mut self, tickets: &[Ticket]) -> Vec<Member> {
        let envelopes = || tickets.iter().flat_map(|ticket| &ticket.envelopes);
        let keys: Vec<IdentityKey> = envelopes().map(|envelope| envelope.identity().key()).collect();
        let known = self.known(&keys).await;
        envelopes()
            .zip(keys)
            .map(|(envelope, key)| Member {
                submission: Submission {
                    subject: Subject::of(&self.tenant, &envelope.event().fact),
                    key,
                    bytes: envelope.bytes().clone(),
                },
                leaf: leaf_hash(envelope.bytes()),
                known: known.get(&key).copied(),
            })
            .collect()
    }

    /// What the history knows. When it cannot be asked, events are appended all the same: the
    /// journal's window and the fold see to it that an identity has one effect.
    async fn known(&mut self, keys: &[IdentityKey]) -> HashMap<IdentityKey, Known> {
        if Instant::now() >= self.ask_again {
            match timeout(LOOK_UP_PATIENCE, self.views.known(keys)).await {
                Ok(Ok(known)) => return known,
                Ok(Err(error)) => {
                    warn!(%error, "the history cannot be asked for identities");
                    self.ask_again = Instant::now() + LOOK_UP_PAUSE;
                }
                // It may be slow just once: the next group asks again.
                Err(_) => warn!("the history does not answer in time when asked for identities"),
            }
        }
        counter!("ledger_intake_unchecked_total", "tenant" => self.tenant.to_string())
            .increment(keys.len() as u64);
        HashMap::new()
    }
}

async fn finished(group: JoinHandle<()>) {
    if let Err(error) = group.await {
        // Its tickets are dropped unanswered, which tells their owners.
        warn!(%error, "a group of events was not answered");
    }
}

fn gather(first: Ticket, queue: &mut mpsc::UnboundedReceiver<Ticket>) -> Vec<Ticket> {
    let mut events = first.envelopes.len();
    let mut tickets = vec![first];
    while events < GROUP {
        let Ok(ticket) = queue.try_recv() else { break };
        events += ticket.envelopes.len();
        tickets.push(ticket);
    }
    tickets
}

async fn append(
    journal: &dyn Journal,
    recent: &Mutex<Recent>,
    members: &[Member],
    out_of_turn: &[bool],
) -> Vec<Answer> {
    let began = Instant::now();
    let mut recent = recent.lock().await;
    let known: Vec<Option<Known>> = members
        .iter()
        .map(|member| member.known.or_else(|| recent.get(&member.submission.key).copied()))
        .collect();
    let fresh: Vec<Submission> = members
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
            Some(known) if known.leaf_hash == member.leaf => Answer::Duplicate(known.position),
            Some(known) => Answer::Conflict(known.position),
            None if *out_of_turn => Answer::Refused(Refusal::OutOfTurn),
            None => match outcomes.next() {
                Some(Ok(Outcome::Recorded(position))) => {
                    recent.remember(member.submission.key, position, *member.leaf.as_bytes());
                    Answer::Recorded(position)
                }
                Some(Ok(Outcome::Duplicate(position))) => Answer::Duplicate(position),
                Some(Ok(Outcome::Conflict(position))) => Answer::Conflict(position),
                Some(Err(error)) => Answer::Refused(Refusal::Journal(error)),
                None => Answer::Refused(Refusal::Closing),
            },
        });
    }
    histogram!("ledger_append_seconds").record(began.elapsed());
    histogram!("ledger_append_group_events").record(members.len() as f64);
    answers
}

fn count(tenant: &str, answers: &[Answer]) {
    let mut recorded = 0;
    for answer in answers {
        let status = match answer {
            Answer::Recorded(_) => {
                recorded += 1;
                continue;
            }
            Answer::Duplicate(_) => "duplicate",
            Answer::Conflict(_) => "conflict",
            Answer::Refused(_) => "refused",
        };
        counter!("ledger_events_total", "tenant" => tenant.to_owned(), "status" => status).increment(1);
    }
    counter!("ledger_events_total", "tenant" => tenant.to_owned(), "status" => "recorded")
        .increment(recorded);
}

fn reply(tickets: Vec<Ticket>, answers: Vec<Answer>) {
    let mut answers = answers.into_iter();
    for ticket in tickets {
        let own: Vec<Answer> = answers.by_ref().take(ticket.envelopes.len()).collect();
        if own.iter().any(is_temporary) {
            ticket.train.break_off();
        }
        // Whoever asked may have gone away; the event is recorded all the same.
        let _ = ticket.answer.send(own);
    }
}

/// Whether the event will be sent again, and what follows it must wait for that.
const fn is_temporary(answer: &Answer) -> bool {
    match answer {
        Answer::Refused(Refusal::OutOfTurn) => true,
        Answer::Refused(Refusal::Journal(error)) => error.is_temporary(),
        _ => false,
    }
}
