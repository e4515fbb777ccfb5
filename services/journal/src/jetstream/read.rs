//! Reading in order: an ephemeral consumer for the bulk, the stream's leader for what looks missing.
//!
//! The server keeps no state that matters: a reader that loses its consumer makes another one where
//! it was. What a consumer sends is counted, because a connection that breaks loses what is on its
//! way: where the count jumps, the consumer is made again. Where only the position jumps, it is a gap
//! if it can be proved.
//!
//! On three nodes a consumer lives on one of them, and dies with it; another is made elsewhere. It may not
//! yet be there when it is first asked, and nobody answers for anything while a leader is elected. All this
//! passes, and a reader endures it for a while.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use ledger_domain::Position;
use tokio::time::Instant;
use tracing::debug;

use super::{JetStreamJournal, restore, unreadable};
use crate::{Entry, Journal, ReadError, Record, Subject, SubjectFilter, Until};

/// Messages that are asked for at a time.
const PULL: usize = 500;
/// How long silence may last before the leader is asked whether there is really nothing.
const SILENCE: Duration = Duration::from_secs(2);
/// A gap at the end is told of when it was proved this often and once more: it is for ever, and there is no
/// hurry.
const ABSENCES: u32 = 2;
/// How long a reader goes on trying where nothing comes. The election of a leader takes up to ten seconds.
const RETRY_BUDGET: Duration = Duration::from_secs(15);
/// And where there is no connection: another server is found at once, if there is one.
const RETRY_BUDGET_SINGLE_NODE: Duration = Duration::from_secs(3);
/// The wait before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

struct Reader {
    journal: JetStreamJournal,
    scope: SubjectFilter,
    /// The position that comes next, at the least.
    next: Position,
    /// Nothing after this is wanted.
    last: Option<Position>,
    /// When the stream was made that it began to read.
    created: Option<DateTime<Utc>>,
    consumer: Option<Consumer>,
    ready: VecDeque<Record>,
    /// How often in a row what comes next was proved to be gone.
    absences: u32,
    /// Since when nothing but trouble has come.
    troubled: Option<Instant>,
    ended: bool,
}

struct Consumer {
    messages: pull::Stream,
    /// The messages that it has brought.
    brought: u64,
    /// Matching messages that were there when the consumer was made and have not come yet.
    pending: u64,
    _name: Name,
}

/// The name of a consumer that ends with this. The server forgets it by itself a minute after it was last
/// asked for something: this spares it the minute.
struct Name {
    journal: JetStreamJournal,
    name: String,
}

impl Drop for Name {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (context, stream) = (self.journal.context.clone(), self.journal.name.clone());
        let name = std::mem::take(&mut self.name);
        runtime.spawn(async move {
            if let Err(error) = context.delete_consumer_from_stream(&name, &stream).await {
                debug!(%error, name, "a consumer is left to be forgotten");
            }
        });
    }
}

/// Why a reader does not get on.
enum ReadFailure {
    /// It may pass.
    Transient(ReadError),
    /// It will not.
    Permanent(ReadError),
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> Self {
        Self::Transient(error)
    }
}

/// What the journal has for a reader up to a position.
enum Remaining {
    /// At least one entry.
    Some,
    /// Nothing, and never will have.
    Nothing,
    /// Nothing that the server which answered knows of.
    Unknown,
}

pub(super) fn read(
    journal: JetStreamJournal,
    scope: SubjectFilter,
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
        created: None,
        consumer: None,
        ready: VecDeque::new(),
        absences: 0,
        troubled: None,
        ended: false,
    };
    stream::unfold(reader, |mut reader| async move {
        if reader.ended {
            return None;
        }
        loop {
            match reader.advance().await {
                Ok(Some(record)) => {
                    reader.troubled = None;
                    return Some((Ok(record), reader));
                }
                Ok(None) => return None,
                Err(trouble) => {
                    if let Err(error) = reader.endure(trouble).await {
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
                Ok(Some(Err(error))) => return Err(unreadable(error).into()),
                Ok(None) => return Err(ReadError("the consumer ended".into()).into()),
                Err(_) => self.listen().await?,
            }
        }
    }

    /// Waits before the next attempt, with a new consumer; an error when there is to be none.
    async fn endure(&mut self, trouble: ReadFailure) -> Result<(), ReadError> {
        self.consumer = None;
        let error = match trouble {
            ReadFailure::Permanent(error) => return Err(error),
            ReadFailure::Transient(error) => error,
        };
        let endurance = if self.journal.is_connected() { RETRY_BUDGET } else { RETRY_BUDGET_SINGLE_NODE };
        if self.troubled.get_or_insert_with(Instant::now).elapsed() > endurance {
            return Err(error);
        }
        debug!(%error, next = %self.next, "a reader tries again");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Makes a consumer at the reader's place. A bounded reader ends at the head of now: false when
    /// there is nothing for it at all.
    async fn open(&mut self) -> Result<bool, ReadFailure> {
        let head = self.journal.head().await?;
        if *self.created.get_or_insert(head.created) != head.created {
            // It gives positions away again: what comes would not follow on what came.
            let reason = format!("it was made again at {}", head.created);
            return Err(ReadFailure::Permanent(ReadError(reason)));
        }
        if let Some(last) = self.last {
            self.last = Some(last.min(head.position));
            if self.next > last.min(head.position) {
                return Ok(false);
            }
        }
        let name = Name { journal: self.journal.clone(), name: nuid::next().to_string() };
        let config = pull::Config {
            name: Some(name.name.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next.get() },
            ack_policy: AckPolicy::None,
            filter_subject: self.filter().as_str().to_owned(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(60),
            ..pull::Config::default()
        };
        let stream = self.journal.stream().await?;
        let consumer = self.journal.ask(stream.create_consumer(config)).await?.map_err(unreadable)?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL)
            .heartbeat(Duration::from_secs(5))
            .expires(Duration::from_secs(30))
            .messages()
            .await
            .map_err(unreadable)?;
        self.consumer = Some(Consumer { messages, brought: 0, pending, _name: name });
        Ok(true)
    }

    async fn take(&mut self, message: &Message) -> Result<(), ReadFailure> {
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
        if self.scope == SubjectFilter::All && position > self.next {
            let last = Position::new(position.get() - 1);
            match self.left_until(last).await? {
                Remaining::Some => {
                    self.consumer = None;
                    return Ok(());
                }
                Remaining::Nothing => self.gaps_up_to(last),
                Remaining::Unknown => return Err(untold(last)),
            }
        }
        self.absences = 0;
        let recorded_at = restore::recorded_at(message.headers.as_ref(), info.published);
        self.ready.push_back(Record::Entry(Entry { position, recorded_at, bytes: message.payload.clone() }));
        Ok(())
    }

    /// Nothing came for a while. An entry that the leader has and the consumer did not bring means a
    /// new consumer; positions that were given away and are empty are gaps.
    async fn listen(&mut self) -> Result<(), ReadFailure> {
        let head = self.journal.head().await?.position;
        let end = self.last.map_or(head, |last| last.min(head));
        if end < self.next {
            // It is the end, and this a good answer.
            self.troubled = None;
            return Ok(());
        }
        match self.left_until(end).await? {
            Remaining::Some => {
                self.consumer = None;
                self.absences = 0;
            }
            Remaining::Unknown => self.absences = 0,
            Remaining::Nothing if self.absences < ABSENCES => self.absences += 1,
            Remaining::Nothing if self.scope == SubjectFilter::All => {
                self.gaps_up_to(end);
                self.absences = 0;
            }
            Remaining::Nothing => {
                if let (Some(_), Some(consumer)) = (self.last, &mut self.consumer) {
                    // What it counted as pending is gone. Who reads a part is not told of gaps.
                    consumer.pending = 0;
                }
            }
        }
        Ok(())
    }

    /// A bounded reader has all that was pending: what it did not see up to its end is gone.
    async fn end(&mut self) -> Result<Option<Record>, ReadFailure> {
        if let Some(last) = self.last {
            match self.left_until(last).await? {
                Remaining::Nothing if self.scope == SubjectFilter::All => self.gaps_up_to(last),
                Remaining::Nothing => {}
                // The consumer is on a server that lags behind.
                Remaining::Some => return Err(ReadError("the consumer ended before its time".into()).into()),
                Remaining::Unknown => return Err(untold(last)),
            }
        }
        self.ended = self.ready.is_empty();
        let record = self.ready.pop_front();
        if let Some(record) = &record {
            self.next = record.position().next();
        }
        Ok(record)
    }

    /// What the journal has for this reader from its place up to a position.
    async fn left_until(&self, last: Position) -> Result<Remaining, ReadError> {
        Ok(match self.journal.first_from(self.next, &self.filter()).await? {
            Some(entry) if entry.position <= last => Remaining::Some,
            // A server that has a later one has all that there is before it.
            Some(_) => Remaining::Nothing,
            None if self.scope != SubjectFilter::All => Remaining::Nothing,
            None if self.journal.is_gone(self.next, last).await? => Remaining::Nothing,
            None => Remaining::Unknown,
        })
    }

    fn filter(&self) -> Subject {
        Subject::filter(&self.journal.tenant, &self.scope)
    }

    fn gaps_up_to(&mut self, last: Position) {
        self.ready.extend((self.next.get()..=last.get()).map(|gone| Record::Gap(Position::new(gone))));
    }
}

/// The server that answered does not know the journal up to a position.
fn untold(last: Position) -> ReadFailure {
    ReadError(format!("nobody tells what is up to {last}")).into()
}
