//! Reports of one deploy or check: spooled before they are sent, so that none is lost if a process is killed.

use ledger_codec::cloudevents::Envelope;

use crate::chunk::ChunkBuilder;
use crate::event_result::describe;
use crate::output::print_notice;
use crate::spool::{DeliveryStatus, Entry, Error, Outbox, RetryWindow};

/// The reports of one deploy or check, in order.
#[derive(Clone)]
pub(super) struct Reports {
    outbox: Outbox,
    spooled: Vec<Entry>,
    /// Reports that the spool did not accept.
    unspooled: Vec<Envelope>,
    /// The noun for messages, such as `deploy`.
    noun: &'static str,
}

/// The reason why a report is not recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRecorded {
    /// The report waits in the spool.
    #[error(
        "spooled: the {noun}'s reports are in {folder}; the next report, or `release-ledger spool send`, sends them first"
    )]
    Spooled {
        /// The noun.
        noun: &'static str,
        /// The queue's folder.
        folder: String,
        /// The reason why it could not be sent.
        source: Error,
    },
    /// The report is neither recorded nor spooled.
    #[error("the {noun}'s reports are neither sent nor spooled")]
    Lost {
        /// The noun.
        noun: &'static str,
        /// The reason why it could not be sent.
        source: Error,
    },
    /// The ledger rejects the report permanently.
    #[error("the ledger rejected a report of the {noun}: {reason}")]
    Rejected {
        /// The noun.
        noun: &'static str,
        /// The reason of the ledger.
        reason: String,
    },
}

impl NotRecorded {
    pub(super) const fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }
}

impl Reports {
    pub(super) const fn new(outbox: Outbox, noun: &'static str) -> Self {
        Self { outbox, spooled: Vec::new(), unspooled: Vec::new(), noun }
    }

    /// Returns the noun for messages.
    pub(super) const fn noun(&self) -> &'static str {
        self.noun
    }

    /// Spools a report behind the earlier ones. If the disk does not accept it in time, keeps it in memory
    /// and prints a notice.
    pub(super) async fn add(&mut self, event: Envelope) {
        self.unspooled.push(event);
        match self.outbox.spool_in_time(&self.unspooled).await {
            Ok(entries) => {
                self.spooled.extend(entries);
                self.unspooled.clear();
            }
            Err(error) if self.unspooled.len() == 1 => {
                print_notice(&format!(
                    "cannot spool a report; it is lost unless it can be sent now: {error:#}"
                ));
            }
            Err(_) => {}
        }
    }

    /// Returns the folder of the spooled reports.
    pub(super) fn spool_folder(&self) -> String {
        self.outbox.spool_folder()
    }

    /// Sends all reports, after everything that was spooled before them. Sending a recorded report again has
    /// no effect.
    ///
    /// # Errors
    /// A report is not recorded.
    pub(super) async fn send(self) -> Result<(), NotRecorded> {
        let window = self.outbox.retry_window();
        let flushed = self.outbox.flush(window).await;
        let (mut unsent, mut rejected) = (None, None);
        for entry in &self.spooled {
            match self.outbox.delivery_status(entry) {
                Ok(DeliveryStatus::Recorded) => {}
                Ok(DeliveryStatus::Rejected(reason)) => rejected = Some(reason),
                Ok(DeliveryStatus::Waiting) => unsent = Some(Error::Busy),
                Err(error) => unsent = Some(error),
            }
        }
        // Send these regardless of the others: no later command can send them.
        let unspooled = self.send_unspooled(window).await;
        if let Some(reason) = rejected {
            return Err(NotRecorded::Rejected { noun: self.noun, reason });
        }
        unspooled?;
        match unsent {
            Some(error) => {
                let source = flushed.err().unwrap_or(error);
                Err(NotRecorded::Spooled { noun: self.noun, folder: self.spool_folder(), source })
            }
            None => Ok(()),
        }
    }

    async fn send_unspooled(&self, window: RetryWindow) -> Result<(), NotRecorded> {
        let mut builder = ChunkBuilder::default();
        for (number, event) in (1..).zip(&self.unspooled) {
            builder.push(number, event.bytes());
        }
        let Some(chunk) = builder.take() else { return Ok(()) };
        let noun = self.noun;
        let sent = self.outbox.send_without_spool(&chunk, window).await;
        let results = sent.map_err(|source| NotRecorded::Lost { noun, source })?;
        match results.iter().find(|result| !result.status.is_recorded()) {
            Some(result) => Err(NotRecorded::Rejected { noun, reason: describe(result) }),
            None => Ok(()),
        }
    }
}
