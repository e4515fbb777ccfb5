//! Appending at an expected end: what was judged at a head is recorded right after it or not at all.
//!
//! Invariant: what is sent can only ever become the entry right after the head. So whatever answer is lost
//! or cannot be believed, that one place tells: the submission is there, or another is and it never will
//! be, or nothing is and nobody knows yet.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use ledger_domain::Position;
use tracing::debug;

use super::JetStreamJournal;
use super::append::{DUPLICATE_IN_PROCESS, compare, disconnected, identified, request, unavailable};
use crate::{AppendError, NewEntry, Outcome};

const WRONG_LAST_SEQUENCE: u64 = 10_071;
/// Something is under way that must be stored, or not, before the expectation can be judged. Replicated
/// streams say so of a lone writer too, whose last append is acknowledged and not yet cleared away.
const IN_FLIGHT: u64 = 10_164;

/// How often a submission is sent, where answers are lost.
const SENDINGS: usize = 2;
/// Waits in milliseconds for what is under way, before the same is sent again.
const PAUSES: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

pub(super) async fn append_expecting(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    head: Position,
) -> Result<Outcome, AppendError> {
    let place = head.next();
    let mut lost: Option<String> = None;
    for _ in 0..SENDINGS {
        let reason = match (send(journal, new_entry, head, lost.is_some()).await, &lost) {
            (Err(AppendError::Unavailable(reason)), _) => reason,
            // What was sent first may still arrive, whatever is said of what was sent again.
            (Err(AppendError::Full(reason) | AppendError::Refused(reason)), Some(_)) => reason,
            (answer, Some(_)) => return answer.map(|outcome| claimed(outcome, place)),
            (answer, None) => return answer,
        };
        debug!(reason, %place, "what became of a submission is looked up");
        lost = Some(reason);
        if !journal.is_connected() {
            break;
        }
        if let Some(found) = standing(journal, new_entry, place).await? {
            return found.map(|outcome| claimed(outcome, place));
        }
    }
    Err(AppendError::Unavailable(lost.unwrap_or_default()))
}

/// After an answer was lost, what is found in this call's place is this call's.
fn claimed(outcome: Outcome, place: Position) -> Outcome {
    match outcome {
        Outcome::Duplicate(position) if position == place => Outcome::Recorded(place),
        outcome => outcome,
    }
}

/// Sends the submission until its answer is final. `again`: an answer was lost before, so that nothing
/// in its place does not yet mean that nothing was recorded.
async fn send(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    head: Position,
    again: bool,
) -> Result<Outcome, AppendError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        if !journal.is_connected() {
            return Err(disconnected());
        }
        let mut headers = identified(new_entry);
        headers.insert("Nats-Expected-Stream", journal.name.as_str());
        headers.insert("Nats-Expected-Last-Sequence", head.get().to_string());
        let subject = new_entry.subject.as_str().to_owned();
        let answer = request(journal, subject, headers, new_entry.bytes.clone()).await?;
        let position = Position::new(answer.seq);
        let refusal = match answer.error {
            Some(refusal) => refusal,
            None if answer.duplicate => return compare(journal, new_entry, position).await,
            None => return Ok(Outcome::Recorded(position)),
        };
        let wrong = match refusal.err_code {
            // On one replica the server compares the end before it looks for the identity: this is also
            // what it says when the submission itself is in its place. A deposed leader says it as well, of
            // an end that is not the end any more, while the leader records what it was given too: it is
            // asked again, and looked for, until all agree.
            WRONG_LAST_SEQUENCE => {
                if let Some(found) = standing(journal, new_entry, head.next()).await? {
                    return found;
                }
                // Replicas count what is proposed and cannot be read yet; or what was there is lost.
                true
            }
            IN_FLIGHT | DUPLICATE_IN_PROCESS => false,
            _ => return Err(refusal.into()),
        };
        let Some(pause) = pauses.next() else {
            let text = format!("{} ({})", refusal.description, refusal.err_code);
            let moved = wrong && !again;
            return Err(if moved { AppendError::WrongHead(text) } else { AppendError::Unavailable(text) });
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// What the entry in the submission's place says of it; `None` if there is no entry.
async fn standing(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    place: Position,
) -> Result<Option<Result<Outcome, AppendError>>, AppendError> {
    let found = journal.message(place).await.map_err(|error| unavailable(&error))?;
    Ok(found.map(|message| {
        let identity = message.headers.get(NATS_MESSAGE_ID);
        if identity.is_none_or(|identity| identity.as_str() != new_entry.key.0.to_string()) {
            Err(AppendError::WrongHead(format!("another event is at {place}")))
        } else if message.payload == new_entry.bytes {
            Ok(Outcome::Duplicate(place))
        } else {
            Ok(Outcome::Conflict(place))
        }
    }))
}
