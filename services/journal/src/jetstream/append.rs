//! Appending: many as one atomic batch, so that one disk sync pays for all; one after the other where a
//! batch was refused for one member's sake. Never several at once: where an answer is lost, what follows
//! must not be recorded before what it follows.
//!
//! The protocol is ADR-50 of nats-architecture-and-design: members carry `Nats-Batch-Id` and
//! `Nats-Batch-Sequence`, the last is a request with `Nats-Batch-Commit: 1` and is answered for all.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Request, RequestErrorKind};
use bytes::Bytes;
use ledger_domain::Position;
use serde::Deserialize;
use tracing::{debug, warn};

use super::JetStreamJournal;
use crate::{AppendError, Journal, NewEntry, Outcome};

/// The server takes at most this many members in a batch.
pub(super) const BATCH_LIMIT: usize = 1_000;

/// Waits in milliseconds for what replicas have under way, before the same is asked again.
const PAUSES: [u64; 8] = [2, 5, 10, 20, 50, 100, 300, 600];

const STORE_FAILED: u64 = 10_077;
pub(super) const DUPLICATE_IN_PROCESS: u64 = 10_158;

/// The server's answer to a publish or to a batch's commit. It may be an error also where the
/// reply's status is not.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
    #[serde(default)]
    count: usize,
    pub(super) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    /// As an HTTP status; 503: not now.
    #[serde(default)]
    code: u16,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> Self {
        let text = format!("{} ({})", refusal.description, refusal.err_code);
        match refusal.err_code {
            STORE_FAILED => Self::Full(text),
            _ if refusal.code == 503 => Self::Unavailable(text),
            _ => Self::Refused(text),
        }
    }
}

type Answers = Vec<Result<Outcome, AppendError>>;

pub(super) async fn append(journal: &JetStreamJournal, new_entries: &[NewEntry]) -> Answers {
    let mut answers = Vec::with_capacity(new_entries.len());
    for chunk in new_entries.chunks(BATCH_LIMIT) {
        match postponed(&answers) {
            Some(error) => answers.extend(vec![Err(error); chunk.len()]),
            None => answers.extend(append_chunk(journal, chunk).await),
        }
    }
    answers
}

/// Why one of these will be sent again, if one will. What comes after it must not be recorded before it.
fn postponed(answers: &Answers) -> Option<AppendError> {
    answers.iter().find_map(|answer| answer.as_ref().err().filter(|error| error.is_temporary()).cloned())
}

async fn append_chunk(journal: &JetStreamJournal, chunk: &[NewEntry]) -> Answers {
    // An identity that stands twice in a batch would have the whole of it refused.
    let mut places = HashMap::with_capacity(chunk.len());
    let firsts: Vec<usize> =
        chunk.iter().enumerate().map(|(index, one)| *places.entry(one.key).or_insert(index)).collect();
    if places.len() == chunk.len() {
        return append_distinct(journal, chunk).await;
    }
    let is_first = |index: usize| firsts[index] == index;
    let distinct: Vec<NewEntry> =
        chunk.iter().enumerate().filter(|(index, _)| is_first(*index)).map(|(_, one)| one.clone()).collect();
    let appended = append_distinct(journal, &distinct).await;
    let mut postponed = postponed(&appended);
    let mut appended = appended.into_iter();
    let mut answers = Answers::with_capacity(chunk.len());
    for (index, new_entry) in chunk.iter().enumerate() {
        if is_first(index) {
            // There are as many answers as submissions that are the first of their identity.
            answers.extend(appended.next());
            continue;
        }
        let first = firsts[index];
        let answer = match (&answers[first], &postponed) {
            // The server is not asked, and so cannot fail to answer while what follows is recorded.
            (Ok(Outcome::Recorded(position) | Outcome::Duplicate(position)), _) => {
                let same = new_entry.bytes == chunk[first].bytes;
                Ok(if same { Outcome::Duplicate(*position) } else { Outcome::Conflict(*position) })
            }
            (_, Some(error)) => Err(error.clone()),
            (Ok(Outcome::Conflict(position)), None) => compare(journal, new_entry, *position).await,
            (Err(_), None) => publish(journal, new_entry).await,
        };
        if let Err(error) = &answer
            && error.is_temporary()
        {
            postponed = Some(error.clone());
        }
        answers.push(answer);
    }
    answers
}

async fn append_distinct(journal: &JetStreamJournal, chunk: &[NewEntry]) -> Answers {
    if chunk.len() < 2 {
        return in_turn(journal, chunk).await;
    }
    let mut appended = atomically(journal, chunk).await;
    if let Err(AppendError::Unavailable(reason)) = &appended
        && journal.is_connected()
    {
        // Where the answer was lost, the batch is there, and is refused for its duplicates now.
        debug!(reason, members = chunk.len(), "a batch is sent again");
        appended = atomically(journal, chunk).await;
    }
    match appended {
        Ok(first) => {
            let positions = (first..).map(|position| Ok(Outcome::Recorded(Position::new(position))));
            positions.take(chunk.len()).collect()
        }
        // Refused for one member's sake, without a word which. It may be one that replicas are storing.
        Err(AppendError::Refused(reason)) => {
            debug!(reason, members = chunk.len(), "a batch is split");
            in_turn(journal, chunk).await
        }
        Err(error) => vec![Err(error); chunk.len()],
    }
}

/// Appends all or none; answers the first position.
async fn atomically(journal: &JetStreamJournal, chunk: &[NewEntry]) -> Result<u64, AppendError> {
    let members = chunk.iter().map(|new_entry| Member {
        subject: new_entry.subject.as_str().to_owned(),
        headers: identified(new_entry),
        bytes: new_entry.bytes.clone(),
    });
    batch(journal, members.collect()).await
}

/// A message of a batch.
pub(super) struct Member {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

/// Stores all messages, at most [`BATCH_LIMIT`], or none; answers the first position.
pub(super) async fn batch(journal: &JetStreamJournal, members: Vec<Member>) -> Result<u64, AppendError> {
    if !journal.is_connected() {
        return Err(disconnected());
    }
    let batch = HeaderValue::from(nuid::next().as_str());
    let count = members.len();
    for (number, Member { subject, mut headers, bytes }) in (1..).zip(members) {
        headers.insert("Nats-Batch-Id", batch.clone());
        headers.insert("Nats-Batch-Sequence", number.to_string());
        if number == 1 {
            headers.insert("Nats-Expected-Stream", journal.name.as_str());
        }
        if number < count {
            let published = journal.client.publish_with_headers(subject, headers, bytes).await;
            published.map_err(|error| unavailable(&error))?;
        } else {
            headers.insert("Nats-Batch-Commit", "1");
            let answer = accepted(request(journal, subject, headers, bytes).await?)?;
            if answer.count != count {
                return Err(AppendError::Unavailable(format!(
                    "the batch of {count} was answered as one of {}",
                    answer.count
                )));
            }
            // The answer's sequence is the last member's; the others stand before it without gap.
            return Ok(answer.seq + 1 - count as u64);
        }
    }
    Err(AppendError::Refused("an empty batch".into()))
}

/// Appends one after the other. The duplicate window tells of each whether it is there already; where an
/// answer does not come, those that follow are not sent.
async fn in_turn(journal: &JetStreamJournal, chunk: &[NewEntry]) -> Answers {
    let mut answers = Answers::with_capacity(chunk.len());
    for new_entry in chunk {
        let answer = match answers.last() {
            Some(Err(error)) if error.is_temporary() => Err(error.clone()),
            _ => publish(journal, new_entry).await,
        };
        answers.push(answer);
    }
    answers
}

async fn publish(journal: &JetStreamJournal, new_entry: &NewEntry) -> Result<Outcome, AppendError> {
    if !journal.is_connected() {
        return Err(disconnected());
    }
    let mut pauses = PAUSES.into_iter();
    let answer = loop {
        let mut headers = identified(new_entry);
        headers.insert("Nats-Expected-Stream", journal.name.as_str());
        let subject = new_entry.subject.as_str().to_owned();
        let answer = request(journal, subject, headers, new_entry.bytes.clone()).await?;
        if answer.error.as_ref().is_none_or(|refusal| refusal.err_code != DUPLICATE_IN_PROCESS) {
            break accepted(answer)?;
        }
        // Replicas are storing one of the same identity: soon they say where it is.
        let Some(pause) = pauses.next() else {
            return Err(AppendError::Unavailable("the same identity is being stored".into()));
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    };
    let position = Position::new(answer.seq);
    if answer.duplicate {
        compare(journal, new_entry, position).await
    } else {
        Ok(Outcome::Recorded(position))
    }
}

/// The server says that the identity is there already: is the content the same? Of what is lost nobody can
/// tell any more; of what is only not found, another server may.
pub(super) async fn compare(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    position: Position,
) -> Result<Outcome, AppendError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        if let Some(entry) = journal.entry(position).await.map_err(|error| unavailable(&error))? {
            let same = entry.bytes == new_entry.bytes;
            return Ok(if same { Outcome::Duplicate(position) } else { Outcome::Conflict(position) });
        }
        if journal.is_gone(position, position).await.map_err(|error| unavailable(&error))? {
            return Ok(Outcome::Conflict(position));
        }
        let Some(pause) = pauses.next() else {
            return Err(AppendError::Unavailable(format!("the entry at {position} cannot be read yet")));
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

pub(super) fn identified(new_entry: &NewEntry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", new_entry.key.0.to_string());
    headers
}

pub(super) fn disconnected() -> AppendError {
    AppendError::Unavailable("there is no connection to NATS".into())
}

pub(super) fn unavailable(error: &dyn std::error::Error) -> AppendError {
    AppendError::Unavailable(error.to_string())
}

/// Sends one message that is answered, and reads the answer, whatever it says.
pub(super) async fn request(
    journal: &JetStreamJournal,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<Answer, AppendError> {
    let request = Request::new().headers(headers).payload(payload).timeout(Some(journal.request_timeout));
    let reply = journal.ask(journal.client.send_request(subject, request)).await;
    let reply = reply.map_err(|error| unavailable(&error))?.map_err(|error| match error.kind() {
        // The event may have been stored: a timeout is unknown, never failed.
        RequestErrorKind::TimedOut => AppendError::Unavailable("no answer in time".into()),
        RequestErrorKind::NoResponders => {
            AppendError::Unavailable("no JetStream answers for the stream".into())
        }
        _ => unavailable(&error),
    })?;
    serde_json::from_slice(&reply.payload).map_err(|error| {
        warn!(%error, "an acknowledgement cannot be read");
        AppendError::Unavailable(format!("an acknowledgement cannot be read: {error}"))
    })
}

fn accepted(mut answer: Answer) -> Result<Answer, AppendError> {
    match answer.error.take() {
        Some(refusal) => Err(refusal.into()),
        None => Ok(answer),
    }
}

impl JetStreamJournal {
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}
