//! Reading in order: an ephemeral consumer delivers the entries, and the stream's leader is queried about positions
//! that seem missing.
//!
//! The server keeps no state that matters: a reader that loses its consumer creates another one at its position.
//! Messages are counted, because a lost connection loses the messages on the way: if the consumer's sequence jumps,
//! the consumer is recreated. If only the position jumps, the reader reports gaps once they are proved.
//!
//! A server may be restored from an older copy of its files while a reader lives, and grow past what was read. So each
//! consumer is preceded by a comparison of the stream with what was read of it, and a consumer does not outlive the
//! connection over which that was done.
//!
//! On three nodes a consumer lives on one of them and dies with it; its replacement may be created on another. A new
//! consumer may not exist yet when it is first used, and no server answers during a leader election. All of this
//! is temporary, and a reader retries for a while.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use ledger_domain::Position;
use tokio::time::Instant;
use tracing::debug;

use super::{JetStreamJournal, read_error, restore};
use crate::{
    Continuity, Entry, Head, Journal, KnownHistory, ReadError, Record, Subject, SubjectFilter, Until,
};

/// Number of messages that are pulled at a time.
const PULL_BATCH_SIZE: usize = 500;
/// Time without a message after which the leader is queried.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of repeated proofs before a gap at the end is reported: it is permanent, and not urgent.
const GAP_CONFIRMATIONS: u32 = 2;
/// Maximum time of retries without progress while connected. A leader election takes up to ten seconds.
const RETRY_BUDGET: Duration = Duration::from_secs(15);
/// Maximum time of retries without progress while disconnected. Another server, if there is one, is found at once.
const RETRY_BUDGET_DISCONNECTED: Duration = Duration::from_secs(3);
/// Delay before a retry.
const RETRY_DELAY: Duration = Duration::from_millis(100);

struct Reader {
    journal: JetStreamJournal,
    filter: SubjectFilter,
    /// Lowest position that may come next.
    next: Position,
    /// Last position to deliver.
    last: Option<Position>,
    /// Creation time of the stream at the first read.
    stream_created: Option<DateTime<Utc>>,
    /// Part of the stream that was known before the first read.
    known: Option<KnownHistory>,
    /// Last entry that was delivered.
    last_entry: Option<Entry>,
    /// Number of connections when the stream was last compared with what is known of it.
    connections: u64,
    consumer: Option<Consumer>,
    ready: VecDeque<Record>,
    /// Number of consecutive proofs that the next positions are permanently empty.
    gap_confirmations: u32,
    /// Start of the current series of failures.
    failing_since: Option<Instant>,
    ended: bool,
}

struct Consumer {
    messages: pull::Stream,
    /// Number of messages received from this consumer.
    received: u64,
    /// Number of matching messages that existed when the consumer was created and have not arrived yet.
    pending: u64,
    _guard: ConsumerGuard,
}

/// Deletes a consumer on drop. Otherwise the server would delete it one minute after its last use.
struct ConsumerGuard {
    journal: JetStreamJournal,
    name: String,
}

impl Drop for ConsumerGuard {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (context, stream) = (self.journal.context.clone(), self.journal.name.clone());
        let name = std::mem::take(&mut self.name);
        runtime.spawn(async move {
            if let Err(error) = context.delete_consumer_from_stream(&name, &stream).await {
                debug!(%error, name, "cannot delete consumer; the server will expire it");
            }
        });
    }
}

/// Reason why a read makes no progress.
enum ReadFailure {
    Transient(ReadError),
    Permanent(ReadError),
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> Self {
        Self::Transient(error)
    }
}

/// Entries that the journal still has for a reader up to a position.
enum Remaining {
    /// At least one entry.
    Some,
    /// No entry, and there never will be one.
    Nothing,
    /// No entry is known to the server that answered.
    Unknown,
}

pub(super) fn read(
    journal: JetStreamJournal,
    filter: SubjectFilter,
    after: Position,
    until: Until,
) -> BoxStream<'static, Result<Record, ReadError>> {
    read_continuing(journal, filter, (after, None), until)
}

pub(super) fn read_after(
    journal: JetStreamJournal,
    history: KnownHistory,
    until: Until,
) -> BoxStream<'static, Result<Record, ReadError>> {
    read_continuing(journal, SubjectFilter::All, (history.end(), Some(history)), until)
}

fn read_continuing(
    journal: JetStreamJournal,
    filter: SubjectFilter,
    (after, known): (Position, Option<KnownHistory>),
    until: Until,
) -> BoxStream<'static, Result<Record, ReadError>> {
    let last = match until {
        Until::Position(last) => Some(last),
        Until::Forever => None,
    };
    let next = after.next();
    let reader = Reader {
        journal,
        filter,
        next,
        last,
        stream_created: None,
        known,
        last_entry: None,
        connections: 0,
        consumer: None,
        ready: VecDeque::new(),
        gap_confirmations: 0,
        failing_since: None,
        ended: false,
    };
    stream::unfold(reader, |mut reader| async move {
        if reader.ended {
            return None;
        }
        loop {
            match reader.advance().await {
                Ok(Some(record)) => {
                    reader.failing_since = None;
                    return Some((Ok(record), reader));
                }
                Ok(None) => return None,
                Err(failure) => {
                    if let Err(error) = reader.back_off(failure).await {
                        reader.ended = true;
                        return Some((Err(error), reader));
                    }
                }
            }
        }
    })
    .boxed()
}

impl Reader {
    async fn advance(&mut self) -> Result<Option<Record>, ReadFailure> {
        loop {
            if self.journal.connections() != self.connections {
                // What is ready was read over another connection, or not at all yet: compare the stream first.
                self.consumer = None;
                self.ready.clear();
            }
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(self.delivered(record)));
            }
            if self.last.is_some_and(|last| self.next > last) {
                return Ok(None);
            }
            let Some(consumer) = &mut self.consumer else {
                if !self.open().await? {
                    return Ok(None);
                }
                continue;
            };
            if self.last.is_some() && consumer.pending == 0 {
                return self.finish().await;
            }
            match tokio::time::timeout(IDLE_TIMEOUT, consumer.messages.next()).await {
                Ok(Some(Ok(message))) => self.receive(&message).await?,
                Ok(Some(Err(error))) => return Err(read_error(error).into()),
                Ok(None) => return Err(ReadError("the consumer ended".into()).into()),
                Err(_) => self.check_idle().await?,
            }
        }
    }

    /// Drops the consumer and waits before the next attempt. Returns the error if it is permanent or the retry budget
    /// is exhausted.
    async fn back_off(&mut self, failure: ReadFailure) -> Result<(), ReadError> {
        self.consumer = None;
        let error = match failure {
            ReadFailure::Permanent(error) => return Err(error),
            ReadFailure::Transient(error) => error,
        };
        let budget = if self.journal.is_connected() { RETRY_BUDGET } else { RETRY_BUDGET_DISCONNECTED };
        if self.failing_since.get_or_insert_with(Instant::now).elapsed() > budget {
            return Err(error);
        }
        debug!(%error, next = %self.next, "read failed; retrying");
        tokio::time::sleep(RETRY_DELAY).await;
        Ok(())
    }

    /// Creates a consumer at the reader's position. Limits a bounded reader to the current head, and returns false if
    /// there is nothing left for it.
    async fn open(&mut self) -> Result<bool, ReadFailure> {
        let connections = self.journal.connections();
        let head = self.journal.head().await?;
        self.compare(&head).await?;
        self.connections = connections;
        if let Some(last) = self.last {
            self.last = Some(last.min(head.position));
            if self.next > last.min(head.position) {
                return Ok(false);
            }
        }
        let guard = ConsumerGuard { journal: self.journal.clone(), name: nuid::next().to_string() };
        let config = pull::Config {
            name: Some(guard.name.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next.get() },
            ack_policy: AckPolicy::None,
            filter_subject: self.subject_filter().as_str().to_owned(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(60),
            ..pull::Config::default()
        };
        let stream = self.journal.stream().await?;
        let consumer = self.journal.while_connected(stream.create_consumer(config)).await?;
        let consumer = consumer.map_err(read_error)?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL_BATCH_SIZE)
            .heartbeat(Duration::from_secs(5))
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(read_error)?;
        self.consumer = Some(Consumer { messages, received: 0, pending, _guard: guard });
        Ok(true)
    }

    /// Compares the stream with what was read of it.
    async fn compare(&mut self, head: &Head) -> Result<(), ReadFailure> {
        let created = *self.stream_created.get_or_insert(head.created);
        if created != head.created {
            // The new stream assigns positions again: its entries do not continue those already delivered.
            let reason = format!("the stream was recreated at {}", head.created);
            return Err(ReadFailure::Permanent(ReadError(reason)));
        }
        let read = self.last_entry.as_ref();
        let read = read.map(|entry| KnownHistory::new(created).with_leaf(entry.position, entry.leaf_hash()));
        let Some(history) = read.or_else(|| self.known.clone()) else { return Ok(()) };
        match history.check(&self.journal).await? {
            Continuity::Intact => Ok(()),
            // Another leader may have what this one lacks.
            Continuity::Unconfirmed(divergence) => Err(ReadError(divergence.to_string()).into()),
            Continuity::Diverged(divergence) => {
                Err(ReadFailure::Permanent(ReadError(divergence.to_string())))
            }
        }
    }

    /// Notes a record that is delivered.
    fn delivered(&mut self, record: Record) -> Record {
        self.next = record.position().next();
        if let Record::Entry(entry) = &record {
            self.last_entry = Some(entry.clone());
        }
        record
    }

    async fn receive(&mut self, message: &Message) -> Result<(), ReadFailure> {
        if self.journal.connections() != self.connections {
            // The message may have come over another connection than the one over which the stream was compared.
            self.consumer = None;
            return Ok(());
        }
        let info = message.info().map_err(|error| ReadError(error.to_string()))?;
        if let Some(consumer) = &mut self.consumer {
            consumer.received += 1;
            if consumer.received != info.consumer_sequence {
                self.consumer = None;
                return Ok(());
            }
            consumer.pending = info.pending;
        }
        let position = Position::new(info.stream_sequence);
        if position < self.next {
            return Ok(());
        }
        if self.last.is_some_and(|last| position > last) {
            // Only a filtered reader, or one with a lost last entry, receives messages beyond its end.
            if let Some(consumer) = &mut self.consumer {
                consumer.pending = 0;
            }
            return Ok(());
        }
        if self.filter == SubjectFilter::All && position > self.next {
            let last = Position::new(position.get() - 1);
            match self.remaining_until(last).await? {
                Remaining::Some => {
                    self.consumer = None;
                    return Ok(());
                }
                Remaining::Nothing => self.gaps_up_to(last),
                Remaining::Unknown => return Err(unknown_tail(last)),
            }
        }
        self.gap_confirmations = 0;
        let recorded_at = restore::recorded_at(message.headers.as_ref(), info.published);
        self.ready.push_back(Record::Entry(Entry { position, recorded_at, bytes: message.payload.clone() }));
        Ok(())
    }

    /// Queries the leader after an idle time. Recreates the consumer if the leader has an entry that it did not
    /// deliver; reports positions that are assigned and empty as gaps.
    async fn check_idle(&mut self) -> Result<(), ReadFailure> {
        let head = self.journal.head().await?.position;
        let end = self.last.map_or(head, |last| last.min(head));
        if end < self.next {
            // The reader is at the end, and the server works.
            self.failing_since = None;
            return Ok(());
        }
        match self.remaining_until(end).await? {
            Remaining::Some => {
                self.consumer = None;
                self.gap_confirmations = 0;
            }
            Remaining::Unknown => self.gap_confirmations = 0,
            Remaining::Nothing if self.gap_confirmations < GAP_CONFIRMATIONS => self.gap_confirmations += 1,
            Remaining::Nothing if self.filter == SubjectFilter::All => {
                self.gaps_up_to(end);
                self.gap_confirmations = 0;
            }
            Remaining::Nothing => {
                if let (Some(_), Some(consumer)) = (self.last, &mut self.consumer) {
                    // The pending messages are gone. A filtered reader receives no gaps.
                    consumer.pending = 0;
                }
            }
        }
        Ok(())
    }

    /// Ends a bounded read after all pending messages arrived: positions up to its end that did not arrive are gaps.
    async fn finish(&mut self) -> Result<Option<Record>, ReadFailure> {
        if let Some(last) = self.last {
            match self.remaining_until(last).await? {
                Remaining::Nothing if self.filter == SubjectFilter::All => self.gaps_up_to(last),
                Remaining::Nothing => {}
                // The consumer's server lags behind.
                Remaining::Some => return Err(ReadError("the consumer ended early".into()).into()),
                Remaining::Unknown => return Err(unknown_tail(last)),
            }
        }
        self.ended = self.ready.is_empty();
        let record = self.ready.pop_front();
        Ok(record.map(|record| self.delivered(record)))
    }

    /// Returns what the journal still has for this reader, from its next position up to `last`.
    async fn remaining_until(&self, last: Position) -> Result<Remaining, ReadError> {
        Ok(match self.journal.first_entry_from(self.next, &self.subject_filter()).await? {
            Some(entry) if entry.position <= last => Remaining::Some,
            // A server with a later entry also has all that exist before it.
            Some(_) => Remaining::Nothing,
            None if self.filter != SubjectFilter::All => Remaining::Nothing,
            None if self.journal.is_permanently_empty(self.next, last).await? => Remaining::Nothing,
            None => Remaining::Unknown,
        })
    }

    fn subject_filter(&self) -> Subject {
        Subject::filter(&self.journal.tenant, &self.filter)
    }

    fn gaps_up_to(&mut self, last: Position) {
        self.ready
            .extend((self.next.get()..=last.get()).map(|position| Record::Gap(Position::new(position))));
    }
}

/// Error: the server that answered does not have the journal up to a position.
fn unknown_tail(last: Position) -> ReadFailure {
    ReadError(format!("the server does not have the stream up to position {last} yet")).into()
}
