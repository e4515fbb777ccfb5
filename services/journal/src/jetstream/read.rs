//! Reading in order: an ephemeral consumer for the bulk, the stream's leader for what looks missing.
//!
//! The server keeps no state that matters: a reader that loses its consumer makes another one where
//! it was. What a consumer sends is counted, because a connection that breaks loses what is on its
//! way: where the count jumps, the consumer is made again. Where only the position jumps, it is a gap
//! if the leader says so.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::stream::{self, BoxStream, StreamExt};
use ledger_domain::Position;

use super::{JetStreamJournal, restore, unreadable};
use crate::{Entry, Journal, ReadError, Record, Scope, Subject, Until};

/// Messages that are asked for at a time.
const PULL: usize = 500;
/// How long silence may last before the leader is asked whether there is really nothing.
const SILENCE: Duration = Duration::from_secs(2);
/// A gap at the end is believed when it was found this often and once more: while another server becomes
/// the leader, one may tell of a head that the other does not have yet, and a gap is for ever.
const ABSENCES: u32 = 2;

struct Reader {
    journal: JetStreamJournal,
    scope: Scope,
    /// The position that comes next, at the least.
    next: Position,
    /// Nothing after this is wanted.
    last: Option<Position>,
    consumer: Option<Consumer>,
    ready: VecDeque<Record>,
    /// How often in a row the leader had nothing where its head says that there was something.
    absences: u32,
    ended: bool,
}

struct Consumer {
    messages: pull::Stream,
    /// The messages that it has brought.
    brought: u64,
    /// Matching messages that were there when the consumer was made and have not come yet.
    pending: u64,
}

pub(super) fn read(
    journal: JetStreamJournal,
    scope: Scope,
    after: Position,
    until: Until,
) -> BoxStream<'static, Result<Record, ReadError>> {
    let last = match until {
        Until::Position(last) => Some(last),
        Until::Forever => None,
    };
    let next = after.next();
    let reader = Reader {
        journal,
        scope,
        next,
        last,
        consumer: None,
        ready: VecDeque::new(),
        absences: 0,
        ended: false,
    };
    stream::unfold(reader, |mut reader| async move {
        if reader.ended {
            return None;
        }
        match reader.advance().await {
            Ok(Some(record)) => Some((Ok(record), reader)),
            Ok(None) => None,
            Err(error) => {
                reader.ended = true;
                Some((Err(error), reader))
            }
        }
    })
    .boxed()
}

impl Reader {
    async fn advance(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                self.next = record.position().next();
                return Ok(Some(record));
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
                return self.end().await;
            }
            match tokio::time::timeout(SILENCE, consumer.messages.next()).await {
                Ok(Some(Ok(message))) => self.take(&message).await?,
                Ok(Some(Err(error))) => return Err(unreadable(error)),
                Ok(None) => return Err(ReadError("the consumer ended".into())),
                Err(_) => self.listen().await?,
            }
        }
    }

    /// Makes a consumer at the reader's place. A bounded reader ends at the head of now: false when
    /// there is nothing for it at all.
    async fn open(&mut self) -> Result<bool, ReadError> {
        if let Some(last) = self.last {
            let head = self.journal.head().await?.position;
            self.last = Some(last.min(head));
            if self.next > last.min(head) {
                return Ok(false);
            }
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next.get() },
            ack_policy: AckPolicy::None,
            filter_subject: self.filter().as_str().to_owned(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(60),
            ..pull::Config::default()
        };
        let consumer = self.journal.stream().await?.create_consumer(config).await.map_err(unreadable)?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL)
            .heartbeat(Duration::from_secs(5))
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(unreadable)?;
        self.consumer = Some(Consumer { messages, brought: 0, pending });
        Ok(true)
    }

    async fn take(&mut self, message: &Message) -> Result<(), ReadError> {
        let info = message.info().map_err(|error| ReadError(error.to_string()))?;
        if let Some(consumer) = &mut self.consumer {
            consumer.brought += 1;
            if consumer.brought != info.consumer_sequence {
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
            // Only a filtered reader, or one whose end was lost, comes to see what is beyond.
            if let Some(consumer) = &mut self.consumer {
                consumer.pending = 0;
            }
            return Ok(());
        }
        if self.scope == Scope::All && position > self.next && !self.gap_before(position).await? {
            return Ok(());
        }
        self.absences = 0;
        let recorded_at = restore::recorded_at(message.headers.as_ref(), info.published);
        self.ready.push_back(Record::Entry(Entry { position, recorded_at, bytes: message.payload.clone() }));
        Ok(())
    }

    /// Whether the positions from `next` up to `found` are really gone. If not, the consumer is made
    /// again.
    async fn gap_before(&mut self, found: Position) -> Result<bool, ReadError> {
        if self.has_until(Position::new(found.get() - 1)).await? {
            self.consumer = None;
            return Ok(false);
        }
        self.ready.extend((self.next.get()..found.get()).map(|gone| Record::Gap(Position::new(gone))));
        Ok(true)
    }

    /// Nothing came for a while. An entry that the leader has and the consumer did not bring means a
    /// new consumer; positions that were given away and are empty are gaps.
    async fn listen(&mut self) -> Result<(), ReadError> {
        let head = self.journal.head().await?.position;
        let end = self.last.map_or(head, |last| last.min(head));
        if end < self.next {
            return Ok(());
        }
        if self.has_until(end).await? {
            self.consumer = None;
            self.absences = 0;
        } else if self.absences < ABSENCES {
            self.absences += 1;
        } else if self.scope == Scope::All {
            self.gaps_up_to(end);
            self.absences = 0;
        } else if let (Some(_), Some(consumer)) = (self.last, &mut self.consumer) {
            // What it counted as pending is gone. Who reads a part is not told of gaps.
            consumer.pending = 0;
        }
        Ok(())
    }

    /// A bounded reader has all that was pending: what it did not see up to its end is gone.
    async fn end(&mut self) -> Result<Option<Record>, ReadError> {
        self.ended = true;
        if let Some(last) = self.last {
            if self.has_until(last).await? {
                return Err(ReadError("the consumer ended before its time".into()));
            }
            if self.scope == Scope::All {
                self.gaps_up_to(last);
            }
            self.ended = self.ready.is_empty();
        }
        let record = self.ready.pop_front();
        if let Some(record) = &record {
            self.next = record.position().next();
        }
        Ok(record)
    }

    /// Whether the leader has something for this reader from its place up to a position.
    async fn has_until(&self, last: Position) -> Result<bool, ReadError> {
        let first = self.journal.first_from(self.next, &self.filter()).await?;
        Ok(first.is_some_and(|entry| entry.position <= last))
    }

    fn filter(&self) -> Subject {
        Subject::filter(&self.journal.tenant, &self.scope)
    }

    fn gaps_up_to(&mut self, last: Position) {
        self.ready.extend((self.next.get()..=last.get()).map(|gone| Record::Gap(Position::new(gone))));
    }
}
