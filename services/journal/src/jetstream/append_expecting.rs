//! Appending at an expected head: an event that was decided at a head is recorded right after it, or not at all.
//!
//! Invariant: a sent event can only become the entry right after the head. So if an acknowledgement is lost or
//! doubtful, that position tells the outcome: the event is there (recorded), another event is there (never
//! recorded), or nothing is there yet (unknown).

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use ledger_domain::Position;
use tracing::debug;

use super::JetStreamJournal;
use super::append::{
    DUPLICATE_IN_PROCESS, compare_with_stored, disconnected, identity_headers, request, unavailable,
};
use crate::{AppendError, NewEntry, Outcome};

/// Error code: the head is not the expected one.
const WRONG_LAST_SEQUENCE: u64 = 10_071;
/// Error code: a message in progress must be stored or dropped before the expected head can be checked. Replicated
/// streams also return it to a single writer whose last append is acknowledged but not yet cleared.
const IN_FLIGHT: u64 = 10_164;

/// Maximum number of sends of an event if acknowledgements are lost.
const MAX_ATTEMPTS: usize = 2;
/// Delays in milliseconds before an event is sent again while another message is in progress.
const RETRY_DELAYS_MS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

pub(super) async fn append_expecting(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    head: Position,
) -> Result<Outcome, AppendError> {
    let expected = head.next();
    let mut lost: Option<String> = None;
    for _ in 0..MAX_ATTEMPTS {
        let reason = match (send(journal, new_entry, head, lost.is_some()).await, &lost) {
            (Err(AppendError::Unavailable(reason)), _) => reason,
            // The first send may still arrive, regardless of the error of the second.
            (Err(AppendError::Full(reason) | AppendError::Refused(reason)), Some(_)) => reason,
            (result, Some(_)) => return result.map(|outcome| claim(outcome, expected)),
            (result, None) => return result,
        };
        debug!(reason, position = %expected, "append is unacknowledged; reading its position");
        lost = Some(reason);
        if !journal.is_connected() {
            break;
        }
        match occupant(journal, new_entry, expected).await? {
            Occupant::None => {}
            Occupant::SameIdentity(outcome) => return Ok(claim(outcome, expected)),
            Occupant::OtherEvent => return Err(occupied(expected)),
        }
    }
    Err(AppendError::Unavailable(lost.unwrap_or_default()))
}

/// After a lost acknowledgement, counts a duplicate at the expected position as this call's own entry.
fn claim(outcome: Outcome, expected: Position) -> Outcome {
    match outcome {
        Outcome::Duplicate(position) if position == expected => Outcome::Recorded(expected),
        outcome => outcome,
    }
}

/// Sends the event until the response is final. With `is_retry`, an acknowledgement was lost before, so an empty
/// position does not prove yet that nothing was recorded.
async fn send(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    head: Position,
    is_retry: bool,
) -> Result<Outcome, AppendError> {
    let mut delays = RETRY_DELAYS_MS.into_iter();
    loop {
        if !journal.is_connected() {
            return Err(disconnected());
        }
        let mut headers = identity_headers(new_entry);
        headers.insert("Nats-Expected-Stream", journal.name.as_str());
        headers.insert("Nats-Expected-Last-Sequence", head.get().to_string());
        let subject = new_entry.subject.as_str().to_owned();
        let ack = request(journal, subject, headers, new_entry.bytes.clone()).await?;
        let position = Position::new(ack.seq);
        let error = match ack.error {
            Some(error) => error,
            None if ack.duplicate => return compare_with_stored(journal, new_entry, position).await,
            None => return Ok(Outcome::Recorded(position)),
        };
        let is_wrong_head = match error.err_code {
            // With one replica the server checks the head before the identity, so it also returns this if the event
            // itself is already at the expected position. A deposed leader returns it for a head that is outdated,
            // while the leader may record what was proposed. So read the position and repeat until all agree.
            WRONG_LAST_SEQUENCE => {
                match occupant(journal, new_entry, head.next()).await? {
                    // Replicas count a proposed message that is not readable yet, or the stored one is lost.
                    Occupant::None => true,
                    Occupant::SameIdentity(outcome) => return Ok(outcome),
                    Occupant::OtherEvent => return Err(occupied(head.next())),
                }
            }
            IN_FLIGHT | DUPLICATE_IN_PROCESS => false,
            _ => return Err(error.into()),
        };
        let Some(delay) = delays.next() else {
            let text = format!("{} ({})", error.description, error.err_code);
            return Err(if is_wrong_head && !is_retry {
                AppendError::WrongHead(text)
            } else {
                AppendError::Unavailable(text)
            });
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
}

/// The entry at the expected position, compared with the event to append.
enum Occupant {
    None,
    /// Has the identity of the event, which is a duplicate or conflicts.
    SameIdentity(Outcome),
    /// Has another identity, so the event will never be recorded here.
    OtherEvent,
}

async fn occupant(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    expected: Position,
) -> Result<Occupant, AppendError> {
    let found = journal.message(expected).await.map_err(|error| unavailable(&error))?;
    let Some(message) = found else { return Ok(Occupant::None) };
    let identity = message.headers.get(NATS_MESSAGE_ID);
    if identity.is_none_or(|identity| identity.as_str() != new_entry.key.0.to_string()) {
        return Ok(Occupant::OtherEvent);
    }
    let is_same = message.payload == new_entry.bytes;
    Ok(Occupant::SameIdentity(if is_same {
        Outcome::Duplicate(expected)
    } else {
        Outcome::Conflict(expected)
    }))
}

fn occupied(position: Position) -> AppendError {
    AppendError::WrongHead(format!("another event is at position {position}"))
}
