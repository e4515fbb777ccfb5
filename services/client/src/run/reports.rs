//! What is reported of a deploy: kept before it is sent, so that nothing is lost whoever is killed.

use ledger_codec::cloudevents::Envelope;

use crate::chunk::Filling;
use crate::output::tell;
use crate::spool::{DeliveryStatus, Entry, Error, Limit, Outbox};

/// The reports of one deploy, in order.
#[derive(Clone)]
pub(super) struct Reports {
    outbox: Outbox,
    kept: Vec<Entry>,
    /// What the spool did not take.
    unkept: Vec<Envelope>,
}

/// Why a report is not recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRecorded {
    /// It waits.
    #[error("spooled: the reports of the deploy are kept in {place}, and are sent first next time")]
    Kept {
        /// Where.
        place: String,
        /// Why it could not be sent.
        source: Error,
    },
    /// Nobody has it.
    #[error("reports of the deploy are not sent, and lost")]
    Lost(#[source] Error),
    /// The ledger will never take it.
    #[error("the ledger refuses a report of the deploy: {0}")]
    Refused(String),
}

impl NotRecorded {
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Reports {
    pub(super) const fn new(outbox: Outbox) -> Self {
        Self { outbox, kept: Vec::new(), unkept: Vec::new() }
    }

    /// Keeps a report, behind those before it; in memory where the disk does not take it in time, which is said.
    pub(super) async fn add(&mut self, event: Envelope) {
        self.unkept.push(event);
        match self.outbox.keep_in_time(&self.unkept).await {
            Ok(entries) => {
                self.kept.extend(entries);
                self.unkept.clear();
            }
            Err(why) if self.unkept.len() == 1 => {
                tell(&format!("a report is not kept for later, and lost if it cannot be sent now: {why:#}"));
            }
            Err(_) => {}
        }
    }

    /// Where they are kept.
    pub(super) fn place(&self) -> String {
        self.outbox.place()
    }

    /// Sends all reports, behind what waited before. Reports that are recorded already stay so.
    ///
    /// # Errors
    /// One is not recorded.
    pub(super) async fn send(self) -> Result<(), NotRecorded> {
        let limit = self.outbox.limit();
        let flushed = self.outbox.flush(limit).await;
        let (mut left, mut refused) = (None, None);
        for entry in &self.kept {
            match self.outbox.fate(entry) {
                Ok(DeliveryStatus::Recorded) => {}
                Ok(DeliveryStatus::Refused(why)) => refused = Some(why),
                Ok(DeliveryStatus::Waits) => left = Some(Error::Busy),
                Err(error) => left = Some(error),
            }
        }
        // Whatever became of the others: nobody else will send it.
        let unkept = self.send_unkept(limit).await;
        if let Some(why) = refused {
            return Err(NotRecorded::Refused(why));
        }
        unkept?;
        match left {
            Some(left) => {
                Err(NotRecorded::Kept { place: self.place(), source: flushed.err().unwrap_or(left) })
            }
            None => Ok(()),
        }
    }

    async fn send_unkept(&self, limit: Limit) -> Result<(), NotRecorded> {
        let mut filling = Filling::default();
        for (number, event) in (1..).zip(&self.unkept) {
            filling.push(number, event.bytes());
        }
        let Some(chunk) = filling.take() else { return Ok(()) };
        let results = self.outbox.send_alone(&chunk, limit).await.map_err(NotRecorded::Lost)?;
        match results.iter().find(|result| !result.status.is_recorded()) {
            Some(result) => Err(NotRecorded::Refused(result.to_string())),
            None => Ok(()),
        }
    }
}
