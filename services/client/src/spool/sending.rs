//! Sending what waits: in order, one request at a time, until nothing waits or time is up.

use std::time::Duration;

use ledger_codec::cloudevents::Envelope;
use reqwest::StatusCode;
use tokio::time::{Instant, sleep, timeout_at};

use super::queue::{self, Entry, QueueLock};
use crate::answer::{EventResult, EventStatus};
use crate::chunk::{Chunk, Filling};
use crate::connection::{self, Client};

/// How long is waited before a request is made again: doubled every time, from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How many events go into the first request; the next has four times as many.
const FIRST: usize = 100;

/// Why an event is not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The spool fails.
    #[error(transparent)]
    Spool(#[from] queue::Error),
    /// The ledger fails, or the way to it.
    #[error(transparent)]
    Ledger(#[from] connection::Error),
    /// The ledger takes others, and not this one now.
    #[error("{0}")]
    NotNow(Box<EventResult>),
    /// No answer in time: it may be recorded, or not.
    #[error("{ledger} did not answer within {} s", patience.as_secs())]
    Silent {
        /// Whose ledger.
        ledger: String,
        /// How long was waited.
        patience: Duration,
    },
    /// Somebody else is at it.
    #[error("another process sends what waits already")]
    Busy,
}

impl Error {
    /// Whether it may pass by itself.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_temporary(),
            Self::NotNow(_) | Self::Silent { .. } | Self::Busy => true,
            Self::Spool(_) => false,
        }
    }

    /// Returns true if an event that failed so may be recorded later: always, unless the ledger itself said that it is
    /// not. What a proxy, a captive portal or a wrong URL answers is no word of the ledger on the event, nor is a body
    /// that did not reach it whole.
    pub(crate) fn may_pass(&self) -> bool {
        let is_on_the_way = match self {
            Self::Ledger(connection::Error::Setup(_) | connection::Error::NotALedger { .. }) => true,
            Self::Ledger(connection::Error::Problem { problem, .. }) => problem.is("incomplete-body"),
            _ => false,
        };
        is_on_the_way || self.is_temporary()
    }
}

/// How long is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    patience: Duration,
    pub(crate) deadline: Instant,
}

impl Limit {
    pub(crate) fn of(patience: Duration) -> Self {
        Self { patience, deadline: Instant::now() + patience }
    }

    /// The same, or so long from now on if that is later.
    pub(crate) fn at_least(self, patience: Duration) -> Self {
        Self { deadline: self.deadline.max(Instant::now() + patience), ..self }
    }

    /// Tries again what may pass by itself, and no longer than this.
    ///
    /// # Errors
    /// The last failure, or that there was no answer.
    pub(crate) async fn within<T, F: Future<Output = Result<T, Error>>>(
        self,
        client: &Client,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut pause = PAUSE.0;
        let mut last = None;
        loop {
            match timeout_at(self.deadline, ask()).await {
                Ok(Err(error)) if error.is_temporary() => last = Some(error),
                Ok(answered) => return answered,
                Err(_) => return Err(last.unwrap_or_else(|| self.silent(client))),
            }
            if timeout_at(self.deadline, sleep(pause)).await.is_err() {
                return Err(last.unwrap_or_else(|| self.silent(client)));
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn silent(self, client: &Client) -> Error {
        Error::Silent { ledger: client.ledger().to_string(), patience: self.patience }
    }
}

/// Sends all that waits. `note` is told of what is put aside.
///
/// # Errors
/// Something is left, and why.
pub(crate) async fn drain(
    client: &Client,
    held: &QueueLock<'_>,
    limit: Limit,
    note: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    for path in held.clear()? {
        note(&format!("{} was no event of the spool, and is put aside there", path.display()));
    }
    // Few at first: a slow way to the ledger must not keep all of them for ever.
    let mut at_once = FIRST;
    loop {
        let Some((chunk, entries)) = next(held, at_once, note)? else { return Ok(()) };
        let chunk = &chunk;
        let answered = limit.within(client, || async { Ok(client.record(chunk).await?) }).await;
        let results = match answered {
            Ok(results) => results,
            // Something in the request is wrong: alone, an event shows whether it is that.
            Err(Error::Ledger(error)) if is_refusal(&error) && entries.len() > 1 => {
                at_once = 1;
                continue;
            }
            Err(Error::Ledger(connection::Error::Problem { status, problem }))
                if is_final(status) && !problem.is("incomplete-body") =>
            {
                put_aside(held, &entries[0], &problem.to_string(), note)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut not_now = None;
        for (entry, result) in entries.iter().zip(results) {
            match result.status {
                EventStatus::Recorded | EventStatus::Duplicate => held.done(entry)?,
                EventStatus::Refused => not_now = Some(result),
                EventStatus::Conflict | EventStatus::Invalid | EventStatus::Rejected => {
                    put_aside(held, entry, &result.to_string(), note)?;
                }
            }
        }
        if let Some(result) = not_now {
            return Err(Error::NotNow(Box::new(result)));
        }
        at_once = at_once.saturating_mul(4);
    }
}

/// The next events, as many as go into one request. What is no event is put aside.
fn next(
    held: &QueueLock<'_>,
    at_once: usize,
    note: &(dyn Fn(&str) + Sync),
) -> Result<Option<(Chunk, Vec<Entry>)>, Error> {
    let mut filling = Filling::default();
    let mut entries = Vec::new();
    for (number, entry) in (1..).zip(held.queue().waiting()?) {
        let Some(event) = held.event(&entry)? else { continue };
        match event {
            Ok(event) => {
                filling.push(number, &event);
                entries.push(entry);
            }
            Err(why) => put_aside(held, &entry, &why, note)?,
        }
        if filling.is_full() || entries.len() >= at_once {
            break;
        }
    }
    Ok(filling.take().map(|chunk| (chunk, entries)))
}

fn put_aside(
    held: &QueueLock<'_>,
    entry: &Entry,
    why: &str,
    note: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    let path = held.refuse(entry, why)?;
    note(&format!("an event that waited is refused for good, and is {} now: {why}", path.display()));
    Ok(())
}

/// Whether something answered that the request itself is wrong.
const fn is_refusal(error: &connection::Error) -> bool {
    match error {
        connection::Error::Problem { status, .. } | connection::Error::NotALedger { status, .. } => {
            is_final(*status)
        }
        _ => false,
    }
}

/// Whether an answer with this status is about the events, and will be the same again.
const fn is_final(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 409 | 413 | 422)
}

/// The events of a chunk's lines; of those that are none, why.
pub(crate) fn parsed(chunk: &Chunk) -> Vec<Result<Envelope, String>> {
    let lines = chunk.lines();
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| Envelope::parse(line).map_err(|invalid| invalid.reason.to_string())).collect()
}

#[cfg(test)]
mod tests;
