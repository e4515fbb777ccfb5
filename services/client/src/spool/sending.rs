//! Sends the waiting events of a queue: in order, one request at a time, until none waits or time is up.

use std::time::Duration;

use ledger_api_types::{EventResult, EventStatus};
use ledger_codec::cloudevents::Envelope;
use reqwest::StatusCode;
use tokio::time::{Instant, sleep, timeout_at};

use super::queue::{self, Entry, QueueLock};
use crate::chunk::{Chunk, ChunkBuilder};
use crate::connection::{self, Client};
use crate::event_result::describe;
use crate::problem;
use crate::retry::{FIRST_RETRY_DELAY, MAX_RETRY_DELAY};

/// Number of events in the first request; each further request has four times as many.
const FIRST_REQUEST_EVENTS: usize = 100;

/// An event was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] queue::Error),
    /// The request to the ledger failed.
    #[error(transparent)]
    Ledger(#[from] connection::Error),
    /// The ledger refuses this event for now.
    #[error("{}", describe(.0))]
    RefusedForNow(Box<EventResult>),
    /// No response in time: the event may be recorded or not.
    #[error("{ledger} did not answer within {} s", retry_for.as_secs())]
    TimedOut {
        /// The URL of the ledger.
        ledger: String,
        /// The time limit.
        retry_for: Duration,
    },
    /// Another process holds the lock of the queue.
    #[error("another process is already sending the spool")]
    Busy,
}

impl Error {
    /// Returns true if the same request may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_temporary(),
            Self::RefusedForNow(_) | Self::TimedOut { .. } | Self::Busy => true,
            Self::Spool(_) => false,
        }
    }

    /// Returns true if the event may still be recorded later: always, unless the ledger itself rejected it.
    /// The response of a proxy, a captive portal or a wrong URL does not decide on the event, nor does one to
    /// a body that did not arrive completely. Credentials may have expired while the reported deploy happened all the
    /// same.
    pub(crate) fn may_be_recorded_later(&self) -> bool {
        let is_undecided = match self {
            Self::Ledger(connection::Error::Setup(_) | connection::Error::ForeignResponse { .. }) => true,
            Self::Ledger(error) if error.is_about_credentials() => true,
            Self::Ledger(connection::Error::Problem { problem, .. }) => {
                problem.slug() == Some("incomplete-body")
            }
            _ => false,
        };
        is_undecided || self.is_temporary()
    }
}

/// The time limit of a request and its retries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryWindow {
    retry_for: Duration,
    pub(crate) deadline: Instant,
}

impl RetryWindow {
    pub(crate) fn new(retry_for: Duration) -> Self {
        Self { retry_for, deadline: Instant::now() + retry_for }
    }

    /// Extends the window to at least this time from now.
    pub(crate) fn at_least(self, retry_for: Duration) -> Self {
        Self { deadline: self.deadline.max(Instant::now() + retry_for), ..self }
    }

    /// Sends a request again while it fails temporarily, until the deadline.
    ///
    /// # Errors
    /// The last failure, or [`Error::TimedOut`].
    pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
        self,
        client: &Client,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut delay = FIRST_RETRY_DELAY;
        let mut last = None;
        loop {
            match timeout_at(self.deadline, request()).await {
                Ok(Err(error)) if error.is_temporary() => last = Some(error),
                Ok(result) => return result,
                Err(_) => return Err(last.unwrap_or_else(|| self.timed_out(client))),
            }
            if timeout_at(self.deadline, sleep(delay)).await.is_err() {
                return Err(last.unwrap_or_else(|| self.timed_out(client)));
            }
            delay = (delay * 2).min(MAX_RETRY_DELAY);
        }
    }

    fn timed_out(self, client: &Client) -> Error {
        Error::TimedOut { ledger: client.ledger().to_string(), retry_for: self.retry_for }
    }
}

/// Sends all waiting events. Calls `note` for each file that is moved to `refused`.
///
/// # Errors
/// The reason why an event remains.
pub(crate) async fn drain(
    client: &Client,
    lock: &QueueLock<'_>,
    window: RetryWindow,
    note: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    for path in lock.refuse_foreign_files()? {
        note(&format!("moved a file that is not an event of the spool to {}", path.display()));
    }
    // Start with few: over a slow connection, one large request might never succeed.
    let mut max_events = FIRST_REQUEST_EVENTS;
    loop {
        let Some((chunk, entries)) = next_chunk(lock, max_events, note)? else { return Ok(()) };
        let chunk = &chunk;
        let response = window.retry(client, || async { Ok(client.record(chunk).await?) }).await;
        let results = match response {
            Ok(results) => results,
            // Something in the request is wrong: send the events one by one to find it.
            Err(Error::Ledger(error)) if is_rejection(&error) && entries.len() > 1 => {
                max_events = 1;
                continue;
            }
            Err(Error::Ledger(connection::Error::Problem { status, problem, .. }))
                if is_final(status) && problem.slug() != Some("incomplete-body") =>
            {
                refuse(lock, &entries[0], &problem::describe(&problem), note)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut refused = None;
        for (entry, result) in entries.iter().zip(results) {
            match result.status {
                // The service keeps a quarantined message.
                EventStatus::Recorded | EventStatus::Duplicate | EventStatus::Quarantined => {
                    lock.remove(entry)?;
                }
                EventStatus::Refused => refused = Some(result),
                EventStatus::Conflict | EventStatus::Invalid | EventStatus::Rejected => {
                    refuse(lock, entry, &describe(&result), note)?;
                }
            }
        }
        if let Some(result) = refused {
            return Err(Error::RefusedForNow(Box::new(result)));
        }
        max_events = max_events.saturating_mul(4);
    }
}

/// Reads the next events, as many as fit into one request. Moves files that contain no event to `refused`.
fn next_chunk(
    lock: &QueueLock<'_>,
    max_events: usize,
    note: &(dyn Fn(&str) + Sync),
) -> Result<Option<(Chunk, Vec<Entry>)>, Error> {
    let mut builder = ChunkBuilder::default();
    let mut entries = Vec::new();
    for (number, entry) in (1..).zip(lock.queue().waiting()?) {
        let Some(event) = lock.event(&entry)? else { continue };
        match event {
            Ok(event) => {
                builder.push(number, &event);
                entries.push(entry);
            }
            Err(reason) => refuse(lock, &entry, &reason, note)?,
        }
        if builder.is_full() || entries.len() >= max_events {
            break;
        }
    }
    Ok(builder.take().map(|chunk| (chunk, entries)))
}

fn refuse(
    lock: &QueueLock<'_>,
    entry: &Entry,
    reason: &str,
    note: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    let path = lock.refuse(entry, reason)?;
    note(&format!("an event was rejected permanently and moved to {}: {reason}", path.display()));
    Ok(())
}

/// Returns true if the response says that the request itself is wrong.
const fn is_rejection(error: &connection::Error) -> bool {
    match error {
        connection::Error::Problem { status, .. } | connection::Error::ForeignResponse { status, .. } => {
            is_final(*status)
        }
        _ => false,
    }
}

/// Returns true if a response with this status is about the events, and will be the same again.
const fn is_final(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 409 | 413 | 422)
}

/// Parses the events of a chunk; invalid ones give the reason.
pub(crate) fn parse_events(chunk: &Chunk) -> Vec<Result<Envelope, String>> {
    let lines = chunk.lines();
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| Envelope::parse(line).map_err(|invalid| invalid.reason.to_string())).collect()
}

#[cfg(test)]
mod tests;
