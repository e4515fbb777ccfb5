//! Appending: several entries as one atomic batch with one disk sync, or one by one if a batch is rejected because
//! of one of its messages. Appends are never concurrent: if an acknowledgement is lost, later entries must not be
//! recorded before earlier ones.
//!
//! The protocol is ADR-50 of nats-architecture-and-design: messages of a batch carry `Nats-Batch-Id` and
//! `Nats-Batch-Sequence`; the last is a request with `Nats-Batch-Commit: 1`, and its response covers the batch.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Request, RequestErrorKind};
use bytes::Bytes;
use ledger_domain::Position;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::JetStreamJournal;
use crate::{AppendError, Journal, NewEntry, Outcome};

/// Maximum number of messages in a batch, set by the server.
pub(super) const BATCH_LIMIT: usize = 1_000;

/// Time after which no further message of a call is sent. A look-up of its identities may have been made before the call,
/// and counts on the duplicate window for what was recorded since.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Delays in milliseconds before a request is repeated while replicas are still storing a message.
const RETRY_DELAYS_MS: [u64; 8] = [2, 5, 10, 20, 50, 100, 300, 600];

/// Error code: the server cannot store the message.
pub(super) const STORE_FAILED: u64 = 10_077;
/// Error code: replicas are storing a message with the same `Nats-Msg-Id`.
pub(super) const DUPLICATE_IN_PROCESS: u64 = 10_158;

/// Response of the server to a publish or to the commit of a batch. It may contain an error even if the status of the
/// reply is not one.
#[derive(Debug, Deserialize)]
pub(super) struct PubAck {
    #[serde(default)]
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
    #[serde(default)]
    count: usize,
    pub(super) error: Option<ApiError>,
}

/// Error in a response of the server.
#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    /// HTTP status; 503 means temporarily unavailable.
    #[serde(default)]
    code: u16,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl From<ApiError> for AppendError {
    fn from(error: ApiError) -> Self {
        let text = format!("{} ({})", error.description, error.err_code);
        match error.err_code {
            STORE_FAILED => Self::Full(text),
            _ if error.code == 503 => Self::Unavailable(text),
            _ => Self::Refused(text),
        }
    }
}

type Outcomes = Vec<Result<Outcome, AppendError>>;

pub(super) async fn append(journal: &JetStreamJournal, new_entries: &[NewEntry]) -> Outcomes {
    let deadline = Instant::now() + SEND_TIMEOUT;
    let mut outcomes = Vec::with_capacity(new_entries.len());
    for chunk in new_entries.chunks(BATCH_LIMIT) {
        match temporary_error(&outcomes).or_else(|| expired(deadline)) {
            Some(error) => outcomes.extend(vec![Err(error); chunk.len()]),
            None => outcomes.extend(append_chunk(journal, chunk, deadline).await),
        }
    }
    outcomes
}

/// Returns the first temporary error, if any. Its entry will be sent again, and no later one may be recorded before it.
fn temporary_error(outcomes: &Outcomes) -> Option<AppendError> {
    outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.is_temporary()).cloned())
}

/// Returns the error of what is not sent because the deadline has passed.
fn expired(deadline: Instant) -> Option<AppendError> {
    let reason =
        || format!("the journal took longer than {SEND_TIMEOUT:?} for earlier messages; send this one again");
    (Instant::now() >= deadline).then(|| AppendError::Unavailable(reason()))
}

async fn append_chunk(journal: &JetStreamJournal, chunk: &[NewEntry], deadline: Instant) -> Outcomes {
    // The server rejects a batch that contains an identity twice, so append only the first entry of each.
    let mut first_of_key = HashMap::with_capacity(chunk.len());
    let firsts: Vec<usize> = chunk
        .iter()
        .enumerate()
        .map(|(index, new_entry)| *first_of_key.entry(new_entry.key).or_insert(index))
        .collect();
    if first_of_key.len() == chunk.len() {
        return append_distinct(journal, chunk, deadline).await;
    }
    let is_first = |index: usize| firsts[index] == index;
    let distinct: Vec<NewEntry> = chunk
        .iter()
        .enumerate()
        .filter(|(index, _)| is_first(*index))
        .map(|(_, new_entry)| new_entry.clone())
        .collect();
    let appended = append_distinct(journal, &distinct, deadline).await;
    let mut failed = temporary_error(&appended);
    let mut appended = appended.into_iter();
    let mut outcomes = Outcomes::with_capacity(chunk.len());
    for (index, new_entry) in chunk.iter().enumerate() {
        if is_first(index) {
            // There is one outcome for each first entry.
            outcomes.extend(appended.next());
            continue;
        }
        let first = firsts[index];
        let outcome = match (&outcomes[first], &failed) {
            // Compare locally: a request could fail although later entries are already recorded.
            (Ok(Outcome::Recorded(position) | Outcome::Duplicate(position)), _) => {
                let is_same = new_entry.bytes == chunk[first].bytes;
                Ok(if is_same { Outcome::Duplicate(*position) } else { Outcome::Conflict(*position) })
            }
            (_, Some(error)) => Err(error.clone()),
            (Ok(Outcome::Conflict(position)), None) => {
                compare_with_stored(journal, new_entry, *position).await
            }
            (Err(_), None) => publish_before(deadline, journal, new_entry).await,
        };
        if let Err(error) = &outcome
            && error.is_temporary()
        {
            failed = Some(error.clone());
        }
        outcomes.push(outcome);
    }
    outcomes
}

async fn append_distinct(journal: &JetStreamJournal, chunk: &[NewEntry], deadline: Instant) -> Outcomes {
    if chunk.len() < 2 {
        return append_one_by_one(journal, chunk, deadline).await;
    }
    let mut appended = append_atomically(journal, chunk).await;
    if let Err(AppendError::Unavailable(reason)) = &appended
        && journal.is_connected()
        && expired(deadline).is_none()
    {
        // If only the acknowledgement was lost, the batch is stored, and the server rejects this one as a duplicate.
        debug!(reason, messages = chunk.len(), "batch is unacknowledged; sending it again");
        appended = append_atomically(journal, chunk).await;
    }
    match appended {
        Ok(first) => {
            let positions = (first..).map(|position| Ok(Outcome::Recorded(Position::new(position))));
            positions.take(chunk.len()).collect()
        }
        // One message caused the rejection, and the server does not tell which. Replicas may still be storing it.
        Err(AppendError::Refused(reason)) => {
            debug!(reason, messages = chunk.len(), "batch is rejected; appending its entries one by one");
            append_one_by_one(journal, chunk, deadline).await
        }
        Err(error) => vec![Err(error); chunk.len()],
    }
}

/// Appends all entries or none, and returns the first position.
async fn append_atomically(journal: &JetStreamJournal, chunk: &[NewEntry]) -> Result<u64, AppendError> {
    let messages = chunk.iter().map(|new_entry| BatchMessage {
        subject: new_entry.subject.as_str().to_owned(),
        headers: identity_headers(new_entry),
        bytes: new_entry.bytes.clone(),
    });
    publish_batch(journal, messages.collect()).await
}

/// A message of a batch.
pub(super) struct BatchMessage {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

/// Stores all messages, at most [`BATCH_LIMIT`], or none, and returns the first position.
pub(super) async fn publish_batch(
    journal: &JetStreamJournal,
    messages: Vec<BatchMessage>,
) -> Result<u64, AppendError> {
    if !journal.is_connected() {
        return Err(disconnected());
    }
    let batch_id = HeaderValue::from(nuid::next().as_str());
    let count = messages.len();
    for (number, BatchMessage { subject, mut headers, bytes }) in (1..).zip(messages) {
        headers.insert("Nats-Batch-Id", batch_id.clone());
        headers.insert("Nats-Batch-Sequence", number.to_string());
        if number == 1 {
            headers.insert("Nats-Expected-Stream", journal.name.as_str());
        }
        if number < count {
            let published = journal.client.publish_with_headers(subject, headers, bytes).await;
            published.map_err(|error| unavailable(&error))?;
        } else {
            headers.insert("Nats-Batch-Commit", "1");
            let ack = accepted(request(journal, subject, headers, bytes).await?)?;
            if ack.count != count {
                return Err(AppendError::Unavailable(format!(
                    "sent a batch of {count} messages, but the server acknowledged {}",
                    ack.count
                )));
            }
            // The acknowledgement has the last sequence; the sequences of a batch are contiguous.
            return Ok(ack.seq + 1 - count as u64);
        }
    }
    Err(AppendError::Refused("the batch is empty".into()))
}

/// Appends entries one by one. The server's duplicate window reports for each if it already exists. After a temporary
/// error, or after the deadline, the later entries are not sent.
async fn append_one_by_one(journal: &JetStreamJournal, chunk: &[NewEntry], deadline: Instant) -> Outcomes {
    let mut outcomes = Outcomes::with_capacity(chunk.len());
    for new_entry in chunk {
        let outcome = match outcomes.last() {
            Some(Err(error)) if error.is_temporary() => Err(error.clone()),
            _ => publish_before(deadline, journal, new_entry).await,
        };
        outcomes.push(outcome);
    }
    outcomes
}

/// Publishes an entry, unless the deadline has passed.
async fn publish_before(
    deadline: Instant,
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
) -> Result<Outcome, AppendError> {
    match expired(deadline) {
        Some(error) => Err(error),
        None => publish(journal, new_entry).await,
    }
}

async fn publish(journal: &JetStreamJournal, new_entry: &NewEntry) -> Result<Outcome, AppendError> {
    if !journal.is_connected() {
        return Err(disconnected());
    }
    let mut delays = RETRY_DELAYS_MS.into_iter();
    let ack = loop {
        let mut headers = identity_headers(new_entry);
        headers.insert("Nats-Expected-Stream", journal.name.as_str());
        let subject = new_entry.subject.as_str().to_owned();
        let ack = request(journal, subject, headers, new_entry.bytes.clone()).await?;
        if ack.error.as_ref().is_none_or(|error| error.err_code != DUPLICATE_IN_PROCESS) {
            break accepted(ack)?;
        }
        // Replicas are storing a message of the same identity; its position is known soon.
        let Some(delay) = delays.next() else {
            let reason = "another append of the same identity is in progress";
            return Err(AppendError::Unavailable(reason.into()));
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
    };
    let position = Position::new(ack.seq);
    if ack.duplicate {
        compare_with_stored(journal, new_entry, position).await
    } else {
        Ok(Outcome::Recorded(position))
    }
}

/// Compares an entry with the one of the same identity that the server has at a position. If that one is lost, the
/// outcome is a conflict. If it is only not found, another server may have it, so the read is repeated.
pub(super) async fn compare_with_stored(
    journal: &JetStreamJournal,
    new_entry: &NewEntry,
    position: Position,
) -> Result<Outcome, AppendError> {
    let mut delays = RETRY_DELAYS_MS.into_iter();
    loop {
        if let Some(entry) = journal.entry(position).await.map_err(|error| unavailable(&error))? {
            let is_same = entry.bytes == new_entry.bytes;
            return Ok(if is_same { Outcome::Duplicate(position) } else { Outcome::Conflict(position) });
        }
        let is_lost = journal.is_permanently_empty(position, position).await;
        if is_lost.map_err(|error| unavailable(&error))? {
            return Ok(Outcome::Conflict(position));
        }
        let Some(delay) = delays.next() else {
            let reason = format!("the entry at position {position} is not readable yet");
            return Err(AppendError::Unavailable(reason));
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
}

pub(super) fn identity_headers(new_entry: &NewEntry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", new_entry.key.0.to_string());
    headers
}

pub(super) fn disconnected() -> AppendError {
    AppendError::Unavailable("no connection to NATS".into())
}

pub(super) fn unavailable(error: &dyn std::error::Error) -> AppendError {
    AppendError::Unavailable(error.to_string())
}

/// Publishes a message as a request, and returns the parsed response, which may be an error.
pub(super) async fn request(
    journal: &JetStreamJournal,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<PubAck, AppendError> {
    let request = Request::new().headers(headers).payload(payload).timeout(Some(journal.request_timeout));
    let reply = journal.while_connected(journal.client.send_request(subject, request)).await;
    let reply = reply.map_err(|error| unavailable(&error))?.map_err(|error| match error.kind() {
        // The event may have been stored: after a timeout the outcome is unknown, never failed.
        RequestErrorKind::TimedOut => AppendError::Unavailable("the acknowledgement timed out".into()),
        RequestErrorKind::NoResponders => {
            AppendError::Unavailable("no JetStream server responds for the stream".into())
        }
        _ => unavailable(&error),
    })?;
    serde_json::from_slice(&reply.payload).map_err(|error| {
        warn!(%error, "cannot parse an acknowledgement");
        AppendError::Unavailable(format!("cannot parse the acknowledgement: {error}"))
    })
}

fn accepted(mut ack: PubAck) -> Result<PubAck, AppendError> {
    match ack.error.take() {
        Some(error) => Err(error.into()),
        None => Ok(ack),
    }
}

impl JetStreamJournal {
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}
