//! The spool: events that could not be sent, kept on disk until they can be.
//!
//! Invariants: events that wait for one ledger are sent to no other, in the order in which they were added,
//! and before newer events. No event is dropped silently: those that the ledger rejects permanently are moved
//! to the folder `refused`. An event that is sent twice is recorded once, so a process killed half-way loses
//! and duplicates nothing.

mod command;
mod queue;
mod sending;

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use ledger_api_types::EventResult;
use ledger_codec::cloudevents::Envelope;

pub use self::command::Spool;
pub(super) use self::queue::Entry;
pub(super) use self::sending::{Error, RetryWindow, parse_events};

use self::queue::{Queue, QueueLock};
use self::sending::drain;
use super::chunk::Chunk;
use super::connection::Client;
use super::output::print_notice;
use crate::environment;

/// The flag for the folder of the spool.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SpoolFolder {
    /// The folder for events that could not be sent [default: $XDG_STATE_HOME/release-ledger/spool, or
    /// ~/.local/state/release-ledger/spool]
    #[arg(long, value_name = "FOLDER", env = "RELEASE_LEDGER_SPOOL")]
    spool: Option<PathBuf>,
}

impl SpoolFolder {
    /// Returns the folder, which may not exist yet.
    ///
    /// # Errors
    /// Neither the flag nor the environment names a folder.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.spool {
            Some(folder) => Ok(folder.clone()),
            None => environment::spool_dir(),
        }
    }
}

/// Minimum time for sending events that no later command can send.
const MIN_SEND_TIME: Duration = Duration::from_secs(1);

/// Sends events to a ledger, after those that wait for it in the spool.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    client: Client,
    /// The error if there is no spool.
    queue: Result<Queue, String>,
    retry_for: Duration,
}

/// Renders a number of events: `1 event`, `2 events`.
pub(super) fn count_events(number: usize) -> String {
    if number == 1 { "1 event".to_owned() } else { format!("{number} events") }
}

/// Prints a notice, once per process, if events wait for the ledger of a client: commands that only ask do not send
/// them. A spool that cannot be read has none.
pub(super) fn print_waiting(client: &Client) {
    static PRINTED: Once = Once::new();
    PRINTED.call_once(|| {
        let Ok(folder) = environment::spool_dir() else { return };
        let waiting = Queue::new(&folder, client.ledger()).waiting().map_or(0, |entries| entries.len());
        if waiting > 0 {
            let (events, wait) = (count_events(waiting), if waiting == 1 { "waits" } else { "wait" });
            print_notice(&format!(
                "{events} {wait} in the spool for this ledger; `release-ledger spool send` sends them"
            ));
        }
    });
}

/// The status of an event that was spooled.
#[derive(Debug)]
pub(super) enum DeliveryStatus {
    Recorded,
    Waiting,
    /// The ledger rejects the event permanently, for this reason.
    Rejected(String),
}

impl Outbox {
    /// Creates an outbox, with or without a spool. It retries for `retry_for` before it gives up.
    pub(super) fn new(client: Client, spool: anyhow::Result<PathBuf>, retry_for: Duration) -> Self {
        let queue =
            spool.map(|spool| Queue::new(&spool, client.ledger())).map_err(|error| format!("{error:#}"));
        Self { client, queue, retry_for }
    }

    /// Sends events unchanged, after all events in the spool; returns their results and the raw response
    /// body.
    ///
    /// # Errors
    /// The events are not recorded, or that is unknown. Events in the spool may be recorded all the same.
    pub(super) async fn send(&self, chunk: &Chunk) -> Result<(Vec<EventResult>, Bytes), Error> {
        let window = self.retry_window();
        // Keep the lock until the new events are sent, or another process could send its own in between.
        let _lock = match self.send_waiting(window).await {
            Ok(lock) => lock,
            Err(Error::Spool(error)) => {
                print_notice(&format!(
                    "cannot send the events in the spool: {:#}",
                    anyhow::Error::from(error)
                ));
                None
            }
            Err(error) => return Err(error),
        };
        window.retry(&self.client, || async { Ok(self.client.record_with_body(chunk).await?) }).await
    }

    /// Sends events without sending the spool first; returns their results and the raw response body.
    ///
    /// # Errors
    /// The events are not recorded, or that is unknown.
    pub(super) async fn send_directly(&self, chunk: &Chunk) -> Result<(Vec<EventResult>, Bytes), Error> {
        self.retry_window()
            .retry(&self.client, || async { Ok(self.client.record_with_body(chunk).await?) })
            .await
    }

    /// Sends events that are not in the spool, so that no later command can send them. Takes at least
    /// [`MIN_SEND_TIME`], even if the window is over.
    ///
    /// # Errors
    /// The events are not recorded, or that is unknown.
    pub(super) async fn send_without_spool(
        &self,
        chunk: &Chunk,
        window: RetryWindow,
    ) -> Result<Vec<EventResult>, Error> {
        let window = window.at_least(MIN_SEND_TIME);
        window.retry(&self.client, || async { Ok(self.client.record(chunk).await?) }).await
    }

    /// Sends all waiting events; returns the lock of the queue if there were any.
    async fn send_waiting(&self, window: RetryWindow) -> Result<Option<QueueLock<'_>>, Error> {
        let Ok(queue) = &self.queue else { return Ok(None) };
        if queue.waiting()?.is_empty() {
            return Ok(None);
        }
        let lock = queue.lock(window.deadline).await?.ok_or(Error::Busy)?;
        drain(&self.client, &lock, window, &print_notice).await?;
        Ok(Some(lock))
    }

    /// Returns the window for retries, which starts now.
    pub(super) fn retry_window(&self) -> RetryWindow {
        RetryWindow::new(self.retry_for)
    }

    /// Adds events to the spool, after all that wait; returns their entries.
    ///
    /// # Errors
    /// There is no spool, it is full, or the disk fails.
    pub(super) async fn spool(&self, events: &[Envelope]) -> anyhow::Result<Vec<Entry>> {
        let queue = self.queue.clone().map_err(|error| anyhow!("{error}"))?;
        let events = events.to_vec();
        // The disk, or another process that adds events, may block for long.
        Ok(tokio::task::spawn_blocking(move || queue.add(&events)).await??)
    }

    /// Adds events to the spool within the time limit. An event that reaches the spool after that is sent
    /// again, and recorded once.
    ///
    /// # Errors
    /// Those of [`Outbox::spool`], or adding takes too long.
    pub(super) async fn spool_in_time(&self, events: &[Envelope]) -> anyhow::Result<Vec<Entry>> {
        let timed_out =
            || anyhow!("{} accepts no event within {} s", self.spool_folder(), self.retry_for.as_secs());
        tokio::time::timeout(self.retry_for, self.spool(events)).await.map_err(|_| timed_out())?
    }

    /// Returns the folder of the queue, for messages.
    pub(super) fn spool_folder(&self) -> String {
        self.queue.as_ref().map(|queue| queue.folder().display().to_string()).unwrap_or_default()
    }

    /// Sends all waiting events.
    ///
    /// # Errors
    /// The reason why an event remains.
    pub(super) async fn flush(&self, window: RetryWindow) -> Result<(), Error> {
        self.send_waiting(window).await.map(drop)
    }

    /// Returns the status of a spooled event, whichever process sent it.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(super) fn delivery_status(&self, entry: &Entry) -> Result<DeliveryStatus, Error> {
        let Ok(queue) = &self.queue else { return Ok(DeliveryStatus::Waiting) };
        if queue.waiting()?.contains(entry) {
            return Ok(DeliveryStatus::Waiting);
        }
        Ok(queue.rejection_reason(entry).map_or(DeliveryStatus::Recorded, DeliveryStatus::Rejected))
    }
}
