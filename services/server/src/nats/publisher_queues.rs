//! Messages that wait, by publisher: the messages of one publisher are handled in order, those of several side by side.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use ledger_journal::jetstream::{BrokerMessage, QueuedMessage, Request};
use tokio::time::Instant;

/// Maximum number of messages that are handled together.
const BATCH_MESSAGES: usize = 500;
/// Maximum size of messages that are handled together, in bytes. A larger message is handled alone.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes that each message takes beside its content.
const OVERHEAD: usize = 512;
/// Delays before messages are handled again: the first, and the longest.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A message that waits.
pub(super) trait Waiting {
    /// Returns the content.
    fn content(&self) -> &BrokerMessage;
}

impl Waiting for Request {
    fn content(&self) -> &BrokerMessage {
        Self::content(self)
    }
}

impl Waiting for QueuedMessage {
    fn content(&self) -> &BrokerMessage {
        Self::content(self)
    }
}

/// Messages of one publisher, to be handled together.
pub(super) struct Batch<T> {
    pub(super) publisher: String,
    pub(super) messages: Vec<T>,
    /// Size of the messages.
    pub(super) bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    InProgress,
    Delayed,
}

struct PublisherQueue<T> {
    waiting: VecDeque<T>,
    state: State,
    /// Number of consecutive failures.
    failures: u32,
    /// Size of its messages that wait or are in progress.
    bytes: usize,
}

/// The messages that wait, and those in progress.
pub(super) struct PublisherQueues<T> {
    queues: HashMap<String, PublisherQueue<T>>,
    /// Publishers whose messages can be handled now, in the order of their turn.
    ready: VecDeque<String>,
    /// Publishers whose messages are handled again later.
    delayed: BTreeSet<(Instant, String)>,
    bytes: usize,
}

fn size<T: Waiting>(message: &T) -> usize {
    message.content().size() + OVERHEAD
}

impl<T: Waiting> PublisherQueues<T> {
    pub(super) fn new() -> Self {
        Self { queues: HashMap::new(), ready: VecDeque::new(), delayed: BTreeSet::new(), bytes: 0 }
    }

    /// Returns the bytes of all messages that wait or are in progress.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes of a publisher's messages that wait or are in progress.
    pub(super) fn bytes_of(&self, publisher: &str) -> usize {
        self.queues.get(publisher).map_or(0, |queue| queue.bytes)
    }

    /// Adds a message behind those of the same publisher.
    pub(super) fn push(&mut self, message: T) {
        let bytes = size(&message);
        self.bytes += bytes;
        let publisher = message.content().publisher.clone();
        if let Some(queue) = self.queues.get_mut(&publisher) {
            queue.bytes += bytes;
            queue.waiting.push_back(message);
            return;
        }
        let queue =
            PublisherQueue { waiting: VecDeque::from([message]), state: State::Ready, failures: 0, bytes };
        self.queues.insert(publisher.clone(), queue);
        self.ready.push_back(publisher);
    }

    /// Takes the first messages of the publisher whose turn it is. Its others wait until [`PublisherQueues::finish`].
    pub(super) fn next_batch(&mut self) -> Option<Batch<T>> {
        let publisher = self.ready.pop_front()?;
        let queue = self.queues.get_mut(&publisher)?;
        queue.state = State::InProgress;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front().map(size) {
            let is_full = messages.len() == BATCH_MESSAGES || bytes + next > BATCH_BYTES;
            if is_full && !messages.is_empty() {
                break;
            }
            bytes += next;
            messages.extend(queue.waiting.pop_front());
        }
        Some(Batch { publisher, messages, bytes })
    }

    /// Ends the handling of a batch of this size. Messages that are left are handled again after a delay, before the later
    /// ones of their publisher.
    pub(super) fn finish(&mut self, publisher: &str, bytes: usize, left: Vec<T>, now: Instant) {
        self.bytes = self.bytes.saturating_sub(bytes);
        let Some(queue) = self.queues.get_mut(publisher) else { return };
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.failures = if left.is_empty() { 0 } else { queue.failures.saturating_add(1) };
        for message in left.into_iter().rev() {
            self.bytes += size(&message);
            queue.bytes += size(&message);
            queue.waiting.push_front(message);
        }
        if queue.waiting.is_empty() {
            self.queues.remove(publisher);
        } else if queue.failures == 0 {
            queue.state = State::Ready;
            self.ready.push_back(publisher.to_owned());
        } else {
            queue.state = State::Delayed;
            let factor = 1_u32 << (queue.failures - 1).min(16);
            let delay = RETRY_DELAYS.0.saturating_mul(factor).min(RETRY_DELAYS.1);
            self.delayed.insert((now + delay, publisher.to_owned()));
        }
    }

    /// Returns the time at which delayed messages can be handled again.
    pub(super) fn next_release(&self) -> Option<Instant> {
        self.delayed.first().map(|(time, _)| *time)
    }

    /// Makes the messages ready whose delay has ended.
    pub(super) fn release(&mut self, now: Instant) {
        while self.next_release().is_some_and(|time| time <= now) {
            let Some((_, publisher)) = self.delayed.pop_first() else { return };
            if let Some(queue) = self.queues.get_mut(&publisher).filter(|queue| queue.state == State::Delayed)
            {
                queue.state = State::Ready;
                self.ready.push_back(publisher);
            }
        }
    }

    /// Takes all messages that are not in progress.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.ready.clear();
        self.delayed.clear();
        self.queues.drain().flat_map(|(_, queue)| queue.waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Message(BrokerMessage);

    impl Waiting for Message {
        fn content(&self) -> &BrokerMessage {
            &self.0
        }
    }

    fn message(publisher: &str, body: &str) -> Message {
        let (publisher, body) = (publisher.to_owned(), body.to_owned().into());
        Message(BrokerMessage { publisher, headers: BTreeMap::new(), body })
    }

    fn bodies(batch: &Batch<Message>) -> Vec<&str> {
        batch.messages.iter().map(|message| std::str::from_utf8(&message.0.body).expect("a text")).collect()
    }

    #[test]
    fn messages_of_a_publisher_are_handled_in_order_and_one_batch_at_a_time() {
        let mut queues = PublisherQueues::new();
        queues.push(message("a", "1"));
        queues.push(message("b", "2"));
        queues.push(message("a", "3"));

        let first = queues.next_batch().expect("a batch");
        queues.push(message("a", "4"));
        let second = queues.next_batch().expect("a batch");

        assert_eq!((first.publisher.as_str(), bodies(&first)), ("a", vec!["1", "3"]));
        assert_eq!((second.publisher.as_str(), bodies(&second)), ("b", vec!["2"]));
        assert!(queues.next_batch().is_none(), "the other message of a waits for the first ones");
        queues.finish("a", first.bytes, Vec::new(), Instant::now());
        assert_eq!(bodies(&queues.next_batch().expect("a batch")), ["4"]);
    }

    #[test]
    fn what_is_left_is_handled_again_later_and_before_later_messages() {
        let mut queues = PublisherQueues::new();
        let now = Instant::now();
        queues.push(message("a", "1"));
        queues.push(message("a", "2"));
        let mut batch = queues.next_batch().expect("a batch");
        queues.push(message("a", "3"));

        let left = batch.messages.split_off(1);
        queues.finish("a", batch.bytes, left, now);

        assert!(queues.next_batch().is_none());
        let release = queues.next_release().expect("a time");
        assert_eq!(release, now + RETRY_DELAYS.0);
        queues.release(release);
        let again = queues.next_batch().expect("a batch");
        assert_eq!(bodies(&again), ["2", "3"]);
        queues.finish("a", again.bytes, Vec::new(), now);
        assert_eq!((queues.bytes(), queues.next_release()), (0, None));
    }

    #[test]
    fn the_bytes_of_a_publisher_count_until_its_messages_are_handled() {
        let mut queues = PublisherQueues::new();
        queues.push(message("a", "1"));
        queues.push(message("a", "2"));
        queues.push(message("b", "3"));
        let all = queues.bytes_of("a");

        let mut batch = queues.next_batch().expect("a batch");
        let in_progress = queues.bytes_of("a");
        let left = batch.messages.split_off(1);
        queues.finish("a", batch.bytes, left, Instant::now());

        assert_eq!((in_progress, queues.bytes_of("a")), (all, all / 2));
        assert_eq!((queues.bytes_of("b"), queues.bytes_of("c")), (all / 2, 0));
    }

    #[test]
    fn a_batch_is_bounded_and_a_large_message_is_handled_alone() {
        let mut queues = PublisherQueues::new();
        for _ in 0..=BATCH_MESSAGES {
            queues.push(message("a", "x"));
        }
        queues.push(message("b", &"x".repeat(BATCH_BYTES)));
        queues.push(message("b", "y"));

        let sizes: Vec<usize> =
            std::iter::from_fn(|| queues.next_batch()).map(|batch| batch.messages.len()).collect();

        assert_eq!(sizes, [BATCH_MESSAGES, 1]);
    }
}
