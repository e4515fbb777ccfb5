//! A write path that records in memory.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ledger_domain::Position;
use ledger_streams::inbound::{InboundMessage, Receipt, Receiver, Route};

use super::broker::{number_of, wait_until};

/// Decides about the message with a number, given how often it was received before.
type Decide = dyn Fn(usize, usize) -> Receipt + Send + Sync;

/// Write path of a test.
pub(super) struct FakeReceiver {
    decide: Box<Decide>,
    /// The number of each message that was received, with its receipt.
    log: Mutex<Vec<(usize, Receipt)>>,
}

impl FakeReceiver {
    pub(super) fn new(decide: impl Fn(usize, usize) -> Receipt + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { decide: Box::new(decide), log: Mutex::default() })
    }

    /// Returns a write path that records everything.
    pub(super) fn recording() -> Arc<Self> {
        Self::new(|_, _| recorded())
    }

    /// Returns the numbers of the messages that need no redelivery, in the order in which they were received.
    pub(super) fn settled(&self) -> Vec<usize> {
        let log = self.log.lock().expect("no panic");
        log.iter().filter(|(_, receipt)| receipt.is_final()).map(|(number, _)| *number).collect()
    }

    /// Waits until so many messages need no redelivery, and returns their numbers.
    pub(super) async fn wait_for_settled(&self, count: usize) -> Vec<usize> {
        wait_until(|| self.settled().len() >= count).await;
        self.settled()
    }
}

/// Returns the receipt of a recorded message.
pub(super) fn recorded() -> Receipt {
    Receipt::Recorded(vec![Position::new(1)])
}

#[async_trait]
impl Receiver for FakeReceiver {
    async fn receive(&self, _route: &Route, messages: Vec<InboundMessage>) -> Vec<Receipt> {
        let mut log = self.log.lock().expect("no panic");
        let mut receipts: Vec<Receipt> = Vec::new();
        for message in messages {
            let receipt = match receipts.last() {
                Some(Receipt::Retry(reason)) => Receipt::Retry(reason.clone()),
                _ => {
                    let number = number_of(&message.body);
                    let before = log.iter().filter(|(other, _)| *other == number).count();
                    let receipt = (self.decide)(number, before);
                    log.push((number, receipt.clone()));
                    receipt
                }
            };
            receipts.push(receipt);
        }
        receipts
    }
}
