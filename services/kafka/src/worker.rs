//! Records the messages of one partition in order.

use std::sync::Arc;
use std::time::Duration;

use ledger_streams::inbound::{InboundMessage, Receipt, Receiver, Route};
use metrics::counter;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::dead_letter;
use crate::message::Received;
use crate::partition::{BatchBounds, Partition};
use crate::sender::{Record, SendError, Sender};
use crate::status::{Cause, PartStatus};

/// Bounds of what the write path receives at once.
const BATCH: BatchBounds = BatchBounds { messages: 500, bytes: 4 << 20 };
/// Delays before retries: the first, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// State that the workers of a consumer share.
pub(crate) struct Recorder {
    pub(crate) receiver: Arc<dyn Receiver>,
    pub(crate) route: Route,
    /// Producer of the dead-letter topic.
    pub(crate) dead_letters: Option<Mutex<Sender>>,
    pub(crate) status: PartStatus,
}

/// Records the messages of a partition until it is revoked.
pub(crate) struct Worker {
    pub(crate) partition: Arc<Partition>,
    pub(crate) recorder: Arc<Recorder>,
    /// Faults of the partition.
    pub(crate) status: PartStatus,
    /// Cancelled when the partition is revoked.
    pub(crate) cancelled: CancellationToken,
}

impl Worker {
    /// Records messages until the token is cancelled. What the write path has received is completed first.
    pub(crate) async fn run(self) {
        let mut delay = RETRY_DELAYS.0;
        while !self.cancelled.is_cancelled() {
            let batch = tokio::select! {
                () = self.cancelled.cancelled() => return,
                batch = self.partition.next_batch(BATCH) => batch,
            };
            match self.record(&batch).await {
                Ok(()) => delay = RETRY_DELAYS.0,
                Err(Interrupted::Revoked) => return,
                Err(Interrupted::Retry { reason, progressed }) => {
                    self.status.set(Cause::Ledger, &format!("cannot record messages: {reason}"));
                    delay = if progressed { RETRY_DELAYS.0 } else { (delay * 2).min(RETRY_DELAYS.1) };
                    self.wait(delay).await;
                }
            }
        }
    }

    /// Waits, unless the partition is revoked.
    async fn wait(&self, delay: Duration) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = sleep(delay) => {}
        }
    }

    /// Records a batch, and settles the messages with a final receipt.
    async fn record(&self, batch: &[Arc<Received>]) -> Result<(), Interrupted> {
        let receipts = self.receipts(batch).await;
        let receipts = receipts.into_iter().take(batch.len());
        let (mut finals, mut retry) = (Vec::new(), None);
        for receipt in receipts {
            match receipt {
                Receipt::Retry(reason) => {
                    retry = Some(reason);
                    break;
                }
                receipt => finals.push(receipt),
            }
        }
        self.send_dead_letters(batch, &finals).await?;
        for (message, receipt) in batch.iter().zip(&finals) {
            self.report(message, receipt);
        }
        self.partition.settle(finals.len());
        if finals.len() == batch.len() {
            self.status.clear(Cause::Ledger);
            return Ok(());
        }
        let reason = retry.unwrap_or_else(|| "fewer receipts than messages".to_owned());
        let part = self.recorder.status.part();
        let (topic, partition) = (&self.partition.topic, self.partition.number);
        warn!(part, topic, partition, reason, "messages are not recorded; retrying");
        self.count("retried", batch.len() - finals.len());
        Err(Interrupted::Retry { reason, progressed: !finals.is_empty() })
    }

    /// Returns the receipts of a batch: either all its messages can be received, or none.
    async fn receipts(&self, batch: &[Arc<Received>]) -> Vec<Receipt> {
        let received: Result<Vec<InboundMessage>, _> =
            batch.iter().map(|message| message.content.as_ref().cloned()).collect();
        match received {
            Ok(messages) => self.recorder.receiver.receive(&self.recorder.route, messages).await,
            Err(_) => {
                let rejected = batch.iter().filter_map(|message| message.content.as_ref().err());
                rejected.map(crate::message::Rejection::receipt).collect()
            }
        }
    }

    /// Produces the messages that are not recorded to the dead-letter topic, until it has acknowledged them.
    async fn send_dead_letters(
        &self,
        batch: &[Arc<Received>],
        receipts: &[Receipt],
    ) -> Result<(), Interrupted> {
        let Some(shared_sender) = &self.recorder.dead_letters else { return Ok(()) };
        let Partition { topic, number, .. } = &*self.partition;
        let pairs = batch.iter().zip(receipts);
        let records: Vec<(Record, Option<Record>)> = pairs
            .filter_map(|(message, receipt)| {
                let record = dead_letter::record(message, receipt, topic, *number)?;
                Some((record, dead_letter::place(message, receipt, topic, *number)))
            })
            .collect();
        let status = &self.status;
        let mut delay = RETRY_DELAYS.0;
        while !records.is_empty() {
            if self.cancelled.is_cancelled() {
                return Err(Interrupted::Revoked);
            }
            // The other partitions may send theirs during the delay.
            let mut sender = shared_sender.lock().await;
            let outcome = send(&mut sender, &records).await;
            drop(sender);
            match outcome {
                Ok(()) => {
                    let sent =
                        counter!("ledger_kafka_dead_letters_total", "part" => status.part().to_owned());
                    sent.increment(records.len() as u64);
                    status.clear(Cause::Delivery);
                    return Ok(());
                }
                Err(error) => {
                    let part = status.part();
                    warn!(part, %error, "cannot produce to the dead-letter topic; retrying");
                    status.set(Cause::Delivery, &format!("dead letters are held back: {error}"));
                    self.wait(delay).await;
                    delay = (delay * 2).min(RETRY_DELAYS.1);
                }
            }
        }
        Ok(())
    }

    /// Counts a message, and logs one that is not recorded.
    fn report(&self, message: &Received, receipt: &Receipt) {
        let part = self.recorder.status.part();
        let Partition { topic, number: partition, .. } = &*self.partition;
        let offset = message.offset;
        match receipt {
            Receipt::Recorded(_) => self.count("recorded", 1),
            Receipt::Ignored(reason) => {
                debug!(part, topic, partition, offset, reason, "message is ignored");
                self.count("ignored", 1);
            }
            Receipt::Quarantined { id, detail } => {
                warn!(part, topic, partition, offset, id, detail, "message is quarantined");
                self.count("quarantined", 1);
            }
            Receipt::Rejected { problem, detail, .. } => {
                warn!(part, topic, partition, offset, problem, detail, "message is rejected");
                self.count("rejected", 1);
            }
            Receipt::Retry(_) => {}
        }
    }

    fn count(&self, outcome: &'static str, messages: usize) {
        let part = self.recorder.status.part().to_owned();
        let counted = counter!("ledger_kafka_messages_total", "part" => part, "outcome" => outcome);
        counted.increment(messages as u64);
    }
}

/// Produces records. If the topic does not accept the size of one, its second form takes its place.
async fn send(sender: &mut Sender, records: &[(Record, Option<Record>)]) -> Result<(), SendError> {
    let all: Vec<Record> = records.iter().map(|(record, _)| record.clone()).collect();
    match sender.send_all(&all).await {
        Err(SendError::TooLarge { .. }) => {}
        outcome => return outcome,
    }
    // The error does not say which records are too large. Some may be written twice.
    for (record, place) in records {
        let sent = sender.send_all(std::slice::from_ref(record)).await;
        match (sent, place) {
            (Err(SendError::TooLarge { .. }), Some(place)) => {
                sender.send_all(std::slice::from_ref(place)).await?;
            }
            (sent, _) => sent?,
        }
    }
    Ok(())
}

/// Reason why a batch is not settled completely.
enum Interrupted {
    /// The partition is revoked.
    Revoked,
    /// Some messages must be recorded again.
    Retry { reason: String, progressed: bool },
}
