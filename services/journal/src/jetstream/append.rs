//! Appending: many as one atomic batch, so that one disk sync pays for all; one by one where that
//! is cheaper, or where a batch was refused for one member's sake.
//!
//! The protocol is ADR-50 of nats-architecture-and-design: members carry `Nats-Batch-Id` and
//! `Nats-Batch-Sequence`, the last is a request with `Nats-Batch-Commit: 1` and is answered for all.

use std::collections::HashSet;

use async_nats::{HeaderMap, HeaderValue, Request, RequestErrorKind};
use bytes::Bytes;
use futures::future::join_all;
use ledger_domain::Position;
use serde::Deserialize;
use tracing::{debug, warn};

use super::JetStreamJournal;
use crate::{AppendError, Journal, Outcome, Submission};

/// The server takes at most this many members in a batch.
const BATCH_LIMIT: usize = 1_000;
/// Below this many, one by one is faster: a batch has a fixed cost on the server.
const BATCH_MINIMUM: usize = 8;

const DUPLICATE_IN_BATCH: u64 = 10_201;
const STORE_FAILED: u64 = 10_077;
const DUPLICATE_IN_PROCESS: u64 = 10_158;

/// The server's answer to a publish or to a batch's commit. It may be an error also where the
/// reply's status is not.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    count: usize,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> Self {
        let text = format!("{} ({})", refusal.description, refusal.err_code);
        match refusal.err_code {
            STORE_FAILED => Self::Full(text),
            DUPLICATE_IN_PROCESS => Self::Unavailable(text),
            _ => Self::Refused(text),
        }
    }
}

type Answers = Vec<Result<Outcome, AppendError>>;

pub(super) async fn append(journal: &JetStreamJournal, submissions: &[Submission]) -> Answers {
    let mut answers = Vec::with_capacity(submissions.len());
    for chunk in submissions.chunks(BATCH_LIMIT) {
        answers.extend(append_chunk(journal, chunk).await);
    }
    answers
}

async fn append_chunk(journal: &JetStreamJournal, chunk: &[Submission]) -> Answers {
    // An identity that stands twice in a batch would have the whole of it refused.
    let mut seen = HashSet::with_capacity(chunk.len());
    let first: Vec<bool> = chunk.iter().map(|submission| seen.insert(submission.key)).collect();
    if first.iter().all(|first| *first) {
        return append_distinct(journal, chunk).await;
    }
    let pick = |wanted: bool| -> Vec<Submission> {
        let picked = chunk.iter().zip(&first).filter(|(_, first)| **first == wanted);
        picked.map(|(submission, _)| submission.clone()).collect()
    };
    let mut firsts = append_distinct(journal, &pick(true)).await.into_iter();
    let mut repeats = one_by_one(journal, &pick(false)).await.into_iter();
    // Each iterator has exactly as many answers as submissions were picked for it.
    first.iter().filter_map(|first| if *first { firsts.next() } else { repeats.next() }).collect()
}

async fn append_distinct(journal: &JetStreamJournal, chunk: &[Submission]) -> Answers {
    if chunk.len() >= BATCH_MINIMUM {
        match atomically(journal, chunk).await {
            Ok(first) => {
                let positions = (first..).map(|position| Ok(Outcome::Recorded(Position::new(position))));
                return positions.take(chunk.len()).collect();
            }
            Err(AppendError::Full(reason)) => return vec![Err(AppendError::Full(reason)); chunk.len()],
            // Refused for one member's sake, or its outcome is unknown. Sent again one by one, the
            // duplicate window tells of each whether it is there already.
            Err(error) => debug!(%error, members = chunk.len(), "a batch is split"),
        }
    }
    one_by_one(journal, chunk).await
}

/// Appends all or none; answers the first position.
async fn atomically(journal: &JetStreamJournal, chunk: &[Submission]) -> Result<u64, AppendError> {
    if !journal.is_connected() {
        return Err(disconnected());
    }
    let batch = HeaderValue::from(nuid::next().as_str());
    let last = chunk.len() - 1;
    for (index, submission) in chunk.iter().enumerate() {
        let mut headers = identified(submission);
        headers.insert("Nats-Batch-Id", batch.clone());
        headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
        if index == 0 {
            headers.insert("Nats-Expected-Stream", journal.name.as_str());
        }
        let subject = submission.subject.as_str().to_owned();
        if index < last {
            let published =
                journal.client.publish_with_headers(subject, headers, submission.bytes.clone()).await;
            published.map_err(|error| AppendError::Unavailable(error.to_string()))?;
        } else {
            headers.insert("Nats-Batch-Commit", "1");
            let answer = request(journal, subject, headers, submission.bytes.clone()).await?;
            if answer.count != chunk.len() {
                return Err(AppendError::Unavailable(format!(
                    "the batch of {} was answered as one of {}",
                    chunk.len(),
                    answer.count
                )));
            }
            // The answer's sequence is the last member's; the others stand before it without gap.
            return Ok(answer.seq - last as u64);
        }
    }
    Err(AppendError::Refused("an empty batch".into()))
}

async fn one_by_one(journal: &JetStreamJournal, chunk: &[Submission]) -> Answers {
    // All are sent before the first answer is awaited, in order on one connection.
    let answers = join_all(chunk.iter().map(|submission| publish(journal, submission))).await;
    let mut outcomes = Vec::with_capacity(chunk.len());
    for (submission, answer) in chunk.iter().zip(answers) {
        outcomes.push(match answer {
            Ok(Answer { seq, duplicate: false, .. }) => Ok(Outcome::Recorded(Position::new(seq))),
            Ok(Answer { seq, .. }) => compare(journal, submission, Position::new(seq)).await,
            Err(error) => Err(error),
        });
    }
    outcomes
}

async fn publish(journal: &JetStreamJournal, submission: &Submission) -> Result<Answer, AppendError> {
    if !journal.is_connected() {
        return Err(disconnected());
    }
    let mut headers = identified(submission);
    headers.insert("Nats-Expected-Stream", journal.name.as_str());
    request(journal, submission.subject.as_str().to_owned(), headers, submission.bytes.clone()).await
}

/// The server says that the identity is there already: is the content the same?
async fn compare(
    journal: &JetStreamJournal,
    submission: &Submission,
    position: Position,
) -> Result<Outcome, AppendError> {
    match journal.entry(position).await {
        Ok(Some(entry)) if entry.bytes == submission.bytes => Ok(Outcome::Duplicate(position)),
        Ok(_) => Ok(Outcome::Conflict(position)),
        Err(error) => Err(AppendError::Unavailable(error.to_string())),
    }
}

fn identified(submission: &Submission) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", submission.key.0.to_string());
    headers
}

fn disconnected() -> AppendError {
    AppendError::Unavailable("there is no connection to NATS".into())
}

async fn request(
    journal: &JetStreamJournal,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<Answer, AppendError> {
    let request = Request::new().headers(headers).payload(payload).timeout(Some(journal.request_timeout));
    let reply = journal.client.send_request(subject, request).await.map_err(|error| match error.kind() {
        // The event may have been stored: a timeout is unknown, never failed.
        RequestErrorKind::TimedOut => AppendError::Unavailable("no answer in time".into()),
        RequestErrorKind::NoResponders => {
            AppendError::Unavailable("no JetStream answers for the stream".into())
        }
        _ => AppendError::Unavailable(error.to_string()),
    })?;
    let answer: Answer = serde_json::from_slice(&reply.payload).map_err(|error| {
        warn!(%error, "an acknowledgement cannot be read");
        AppendError::Unavailable(format!("an acknowledgement cannot be read: {error}"))
    })?;
    match answer.error {
        Some(refusal) => {
            if refusal.err_code == DUPLICATE_IN_BATCH {
                debug!("an identity of the batch is there already");
            }
            Err(refusal.into())
        }
        None => Ok(answer),
    }
}

impl JetStreamJournal {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}
