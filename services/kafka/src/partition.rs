//! The messages of one partition that are received and not settled yet, in order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::message::Received;

/// Bytes of all messages of a consumer that are received and not settled yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffered(Arc<AtomicUsize>);

impl Buffered {
    /// Returns the number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchBounds {
    pub(crate) messages: usize,
    /// The message that reaches it is the last of the batch.
    pub(crate) bytes: usize,
}

/// Messages of a partition while it is assigned to this process.
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) number: i32,
    queue: Mutex<Queue>,
    arrived: Notify,
    buffered: Buffered,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Arc<Received>>,
    bytes: usize,
    /// Offset after the last settled message.
    settled: Option<i64>,
}

impl Partition {
    pub(crate) fn new(topic: String, number: i32, buffered: Buffered) -> Self {
        Self { topic, number, queue: Mutex::default(), arrived: Notify::new(), buffered }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message that was received.
    pub(crate) fn push(&self, message: Received) {
        self.buffered.0.fetch_add(message.size, Ordering::Relaxed);
        let mut queue = self.queue();
        queue.bytes += message.size;
        queue.messages.push_back(Arc::new(message));
        drop(queue);
        self.arrived.notify_one();
    }

    /// Returns the bytes that are not settled.
    pub(crate) fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Returns the offset after the last settled message; `None` if none was settled.
    pub(crate) fn settled(&self) -> Option<i64> {
        self.queue().settled
    }

    /// Waits for messages, and returns the first ones: those before the first that the write path cannot receive, or
    /// only such messages.
    pub(crate) async fn next_batch(&self, bounds: BatchBounds) -> Vec<Arc<Received>> {
        loop {
            let arrived = self.arrived.notified();
            let batch = self.first(bounds);
            if !batch.is_empty() {
                return batch;
            }
            arrived.await;
        }
    }

    fn first(&self, bounds: BatchBounds) -> Vec<Arc<Received>> {
        let queue = self.queue();
        let Some(first) = queue.messages.front() else { return Vec::new() };
        let is_receivable = first.content.is_ok();
        let mut bytes = 0;
        let alike = queue.messages.iter().take(bounds.messages).take_while(|message| {
            let fits = bytes < bounds.bytes;
            bytes += message.size;
            fits && message.content.is_ok() == is_receivable
        });
        alike.cloned().collect()
    }

    /// Removes the first `count` messages: the broker need not deliver them again.
    pub(crate) fn settle(&self, count: usize) {
        let mut queue = self.queue();
        let count = count.min(queue.messages.len());
        let settled: Vec<_> = queue.messages.drain(..count).collect();
        let bytes = settled.iter().map(|message| message.size).sum::<usize>();
        queue.bytes -= bytes;
        if let Some(last) = settled.last() {
            queue.settled = Some(last.offset + 1);
        }
        drop(queue);
        self.buffered.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let bytes = self.queue().bytes;
        self.buffered.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ledger_streams::inbound::Format;

    use super::*;
    use crate::message::inbound;

    const BOUNDS: BatchBounds = BatchBounds { messages: 3, bytes: 250 };

    fn message(offset: i64, value: Option<&'static str>) -> Received {
        let value = value.map(|value| Bytes::from_static(value.as_bytes()));
        let content = inbound(&Format::Events, Vec::new(), value.clone());
        Received { offset, key: None, value, headers: None, content, size: 100 }
    }

    fn partition(values: &[Option<&'static str>]) -> (Partition, Buffered) {
        let buffered = Buffered::default();
        let partition = Partition::new("t".to_owned(), 0, buffered.clone());
        for (offset, value) in (5..).zip(values) {
            partition.push(message(offset, *value));
        }
        (partition, buffered)
    }

    async fn offsets(partition: &Partition, bounds: BatchBounds) -> Vec<i64> {
        partition.next_batch(bounds).await.iter().map(|message| message.offset).collect()
    }

    #[tokio::test]
    async fn a_batch_has_bounds_and_the_rest_follows_when_it_is_settled() {
        let (partition, buffered) = partition(&[Some("{}"); 4]);

        assert_eq!(offsets(&partition, BOUNDS).await, [5, 6, 7]);
        assert_eq!(offsets(&partition, BatchBounds { bytes: 200, ..BOUNDS }).await, [5, 6]);
        assert_eq!((partition.settled(), buffered.bytes()), (None, 400));
        partition.settle(3);
        assert_eq!((partition.settled(), partition.bytes(), buffered.bytes()), (Some(8), 100, 100));
        assert_eq!(offsets(&partition, BOUNDS).await, [8]);
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_received_is_in_a_batch_of_its_own() {
        let (partition, _) = partition(&[Some("{}"), None, None, Some("{}")]);

        for batch in [&[5][..], &[6, 7], &[8]] {
            assert_eq!(offsets(&partition, BOUNDS).await, batch);
            partition.settle(batch.len());
        }
    }

    #[test]
    fn a_partition_that_is_revoked_releases_its_bytes() {
        let (partition, buffered) = partition(&[Some("{}")]);
        assert_eq!(buffered.bytes(), 100);
        drop(partition);
        assert_eq!(buffered.bytes(), 0);
    }
}
