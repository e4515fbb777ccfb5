//! The spool: what could not be sent, kept on disk until it can be.
//!
//! Invariants: what waits for a ledger goes to no other, in the order in which it was kept, and before
//! anything newer. Nothing is dropped without a word: what the ledger refuses for good is put aside. Sent
//! twice, an event is recorded once, so whoever is killed half-way loses and doubles nothing.

mod command;
mod queue;
mod sending;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;

pub use self::command::Spool;
pub(super) use self::queue::Entry;
pub(super) use self::sending::{Error, Limit, parsed};

use self::queue::{Queue, QueueLock};
use self::sending::drain;
use super::answer::EventResult;
use super::chunk::Chunk;
use super::connection::Client;
use super::output::tell;
use crate::environment;

/// Where the spool is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SpoolFolder {
    /// Where events are kept that could not be sent [default: $XDG_STATE_HOME/release-ledger/spool, or
    /// ~/.local/state/release-ledger/spool]
    #[arg(long, value_name = "FOLDER", env = "RELEASE_LEDGER_SPOOL")]
    spool: Option<PathBuf>,
}

impl SpoolFolder {
    /// The folder, which need not be there.
    ///
    /// # Errors
    /// Nobody says where.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.spool {
            Some(folder) => Ok(folder.clone()),
            None => environment::spool_dir(),
        }
    }
}

/// What is left at least for what nothing else will send.
const MOMENT: Duration = Duration::from_secs(1);

/// How events get to a ledger: behind those that wait for it.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    client: Client,
    /// Or why there is none.
    queue: Result<Queue, String>,
    patience: Duration,
}

/// `1 event is`, `2 events are`.
pub(super) fn events_are(number: usize) -> String {
    if number == 1 { "1 event is".to_owned() } else { format!("{number} events are") }
}

/// What became of an event that was kept.
#[derive(Debug)]
pub(super) enum DeliveryStatus {
    Recorded,
    Waits,
    /// The ledger will never take it.
    Refused(String),
}

impl Outbox {
    /// An outbox with a spool, or without one. It tries for as long as `patience` before it gives up.
    pub(super) fn new(client: Client, spool: anyhow::Result<PathBuf>, patience: Duration) -> Self {
        let queue = spool.map(|spool| Queue::of(&spool, client.ledger())).map_err(|why| format!("{why:#}"));
        Self { client, queue, patience }
    }

    /// Sends events as they are, behind all that wait; answers what became of each, and the answer as it came.
    ///
    /// # Errors
    /// They are not recorded, or it is not known. Those that waited before may be.
    pub(super) async fn send(&self, chunk: &Chunk) -> Result<(Vec<EventResult>, Bytes), Error> {
        let limit = self.limit();
        // Held until ours are sent, or another process would put its own between.
        let _held = match self.waiting_sent(limit).await {
            Ok(held) => held,
            Err(Error::Spool(error)) => {
                tell(&format!("what waits in the spool is not sent: {:#}", anyhow::Error::from(error)));
                None
            }
            Err(error) => return Err(error),
        };
        limit.within(&self.client, || async { Ok(self.client.record_and_keep(chunk).await?) }).await
    }

    /// Sends events without regard to those that wait; answers what became of each, and the answer as it came.
    ///
    /// # Errors
    /// They are not recorded, or it is not known.
    pub(super) async fn send_directly(&self, chunk: &Chunk) -> Result<(Vec<EventResult>, Bytes), Error> {
        self.limit().within(&self.client, || async { Ok(self.client.record_and_keep(chunk).await?) }).await
    }

    /// Sends events that nothing else will ever send, whatever waits. If the limit is over, they have a moment all the
    /// same.
    ///
    /// # Errors
    /// They are not recorded, or it is not known.
    pub(super) async fn send_alone(&self, chunk: &Chunk, limit: Limit) -> Result<Vec<EventResult>, Error> {
        let limit = limit.at_least(MOMENT);
        limit.within(&self.client, || async { Ok(self.client.record(chunk).await?) }).await
    }

    /// Sends all that waits; if anything did, holds the queue.
    async fn waiting_sent(&self, limit: Limit) -> Result<Option<QueueLock<'_>>, Error> {
        let Ok(queue) = &self.queue else { return Ok(None) };
        if queue.waiting()?.is_empty() {
            return Ok(None);
        }
        let held = queue.hold(limit.deadline).await?.ok_or(Error::Busy)?;
        drain(&self.client, &held, limit, &tell).await?;
        Ok(Some(held))
    }

    /// The patience, from now on.
    pub(super) fn limit(&self) -> Limit {
        Limit::of(self.patience)
    }

    /// Keeps events for later, behind all that wait; answers by which names.
    ///
    /// # Errors
    /// There is no spool, no room in it, or the disk fails.
    pub(super) async fn keep(&self, events: &[Envelope]) -> anyhow::Result<Vec<Entry>> {
        let queue = self.queue.clone().map_err(|why| anyhow!("{why}"))?;
        let events = events.to_vec();
        // The disk, or another process that adds, may take long.
        Ok(tokio::task::spawn_blocking(move || queue.add(&events)).await??)
    }

    /// The same within the patience. What is kept later nevertheless is sent again, and recorded once.
    ///
    /// # Errors
    /// As those of [`Outbox::keep`], or it takes too long.
    pub(super) async fn keep_in_time(&self, events: &[Envelope]) -> anyhow::Result<Vec<Entry>> {
        let late = || anyhow!("{} takes nothing within {} s", self.place(), self.patience.as_secs());
        tokio::time::timeout(self.patience, self.keep(events)).await.map_err(|_| late())?
    }

    /// Where events are kept.
    pub(super) fn place(&self) -> String {
        self.queue.as_ref().map(|queue| queue.folder().display().to_string()).unwrap_or_default()
    }

    /// Sends all that waits.
    ///
    /// # Errors
    /// Something is left, and why.
    pub(super) async fn flush(&self, limit: Limit) -> Result<(), Error> {
        self.waiting_sent(limit).await.map(drop)
    }

    /// What became of an event that was kept, whoever sent it.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(super) fn fate(&self, entry: &Entry) -> Result<DeliveryStatus, Error> {
        let Ok(queue) = &self.queue else { return Ok(DeliveryStatus::Waits) };
        if queue.waiting()?.contains(entry) {
            return Ok(DeliveryStatus::Waits);
        }
        Ok(queue.problem_of(entry).map_or(DeliveryStatus::Recorded, DeliveryStatus::Refused))
    }
}
