//! Restoring: a fresh stream is filled from a copy of the ledger, position by position.
//!
//! This is the one place that updates a stream. From its first message until it is whole, the stream bears a
//! mark in its metadata, so that nobody takes it for a ledger; and as long as there are gaps to be made again,
//! it allows messages to be deleted: a position can only be lost once it was given away. The last step takes
//! both away, for good, and reads back what became of it.
//!
//! What is restored bears the time at which it was first recorded in a header, since the stream gives every
//! message a time of its own. It does not bear `Nats-Msg-Id`: an entry that repeats another would be refused
//! by the duplicate window. Who sends an event again after the disaster is answered from the history.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, Stream};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::{Position, TenantName};
use tracing::debug;

use super::append::{BATCH_LIMIT, Member, batch};
use super::{Connection, JetStreamJournal, OpenError, stream};
use crate::{AppendError, Journal, ReadError, Record, Subject, microseconds};

/// When an entry was recorded in the stream that it was restored from.
const RECORDED_AT: &str = "Ledger-Recorded-At";
/// What the metadata of a stream say that is not whole yet.
const MARK: &str = "release-ledger-restoring";
/// How often a batch is sent, where answers are lost.
const SENDINGS: usize = 3;
/// A batch ends at this many bytes of entries.
const BATCH_BYTES: usize = 8 << 20;

/// Why a stream cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The stream is there and is no ledger's, or JetStream does not answer.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a ledger.
    #[error("the stream {stream} is there and ends at position {position}: only a fresh one is restored")]
    NotEmpty {
        /// The stream.
        stream: String,
        /// Where it ends.
        position: Position,
    },
    /// There is an empty stream, in which nothing can be deleted, and gaps are to be made.
    #[error("the stream {stream} is empty, but in it no gap can be made any more: remove it first")]
    NoGaps {
        /// The stream.
        stream: String,
    },
    /// Somebody else records events.
    #[error("the stream {stream} was to end at {expected} and ends at {found}: stop whoever writes to it")]
    WrongHead {
        /// The stream.
        stream: String,
        /// Where it was to end.
        expected: Position,
        /// Where it ends.
        found: Position,
    },
    /// A message was not stored.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The stream cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream's settings or a message cannot be changed.
    #[error("the stream {stream} refused: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
}

/// A stream that is being restored. No ledger is opened on it before [`Restoring::finish`].
pub struct Restoring {
    journal: JetStreamJournal,
    /// As it is to be in the end.
    wanted: Config,
}

impl Connection {
    /// Begins to restore a tenant's stream, or goes on where that was begun. `with_gaps`: there are positions
    /// that are to be gaps.
    ///
    /// # Errors
    /// The stream has entries and is not one whose restoring was begun; or JetStream refuses.
    pub async fn restore(&self, tenant: TenantName, with_gaps: bool) -> Result<Restoring, RestoreError> {
        let context = self.context();
        let wanted = stream::wanted(&tenant, &self.settings.stream);
        let marked = |mut config: Config| {
            config.metadata.insert(MARK.into(), "true".into());
            config
        };
        let stream = match stream::look(&context, &tenant).await? {
            None => {
                let config = Config { deny_delete: !with_gaps, ..marked(wanted.clone()) };
                stream::make(&context, &config).await?
            }
            Some(found) => {
                let config = fresh(&found, &wanted, with_gaps)?;
                let updated = context.update_stream(marked(config)).await;
                updated.map_err(|error| refused(&wanted, error))?;
                found
            }
        };
        Ok(Restoring { journal: self.journal_on(context, tenant, &stream)?, wanted })
    }
}

/// The settings of a stream that can be filled.
fn fresh(found: &Stream, wanted: &Config, with_gaps: bool) -> Result<Config, RestoreError> {
    let (config, state) = (&found.cached_info().config, &found.cached_info().state);
    let stream = config.name.clone();
    if !is_marked(config) && state.last_sequence > 0 {
        return Err(RestoreError::NotEmpty { stream, position: Position::new(state.last_sequence) });
    }
    let deny_delete = config.deny_delete;
    let differences = stream::differences(&Config { deny_delete, ..wanted.clone() }, config);
    if !differences.is_empty() {
        return Err(OpenError::Mismatch { stream, differences }.into());
    }
    if with_gaps && deny_delete {
        return Err(RestoreError::NoGaps { stream });
    }
    Ok(config.clone())
}

impl Restoring {
    /// What is there so far.
    #[must_use]
    pub const fn journal(&self) -> &JetStreamJournal {
        &self.journal
    }

    /// Stores entries, each under its subject, right after a position. A gap is stored as the text of its
    /// leaf, until [`Restoring::lose`].
    ///
    /// # Errors
    /// The stream does not end there, or JetStream does not take them.
    pub async fn append(
        &self,
        after: Position,
        records: &[(Record, Option<Subject>)],
    ) -> Result<(), RestoreError> {
        let mut head = after;
        let mut rest = records;
        while !rest.is_empty() {
            let (chunk, remaining) = rest.split_at(fitting(rest));
            let end = Position::new(head.get() + chunk.len() as u64);
            self.append_chunk(head, end, chunk).await?;
            (head, rest) = (end, remaining);
        }
        Ok(())
    }

    async fn append_chunk(
        &self,
        head: Position,
        end: Position,
        chunk: &[(Record, Option<Subject>)],
    ) -> Result<(), RestoreError> {
        let mut lost = None;
        for _ in 0..SENDINGS {
            let members = chunk.iter().enumerate().map(|(index, (record, subject))| {
                let mut member = self.member(record, subject.as_ref());
                if index == 0 {
                    // So that nothing comes in between, and nothing is stored twice.
                    member.headers.insert("Nats-Expected-Last-Sequence", head.get().to_string());
                }
                member
            });
            let error = match batch(&self.journal, members.collect()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            debug!(%error, %end, "what became of a batch is looked up");
            let found = self.journal.head().await?.position;
            if found == end {
                // Whether it is ours is seen when everything is read back.
                return Ok(());
            }
            if found != head {
                return Err(RestoreError::WrongHead {
                    stream: self.wanted.name.clone(),
                    expected: head,
                    found,
                });
            }
            lost = Some(error);
        }
        Err(lost.unwrap_or_else(|| AppendError::Unavailable("nothing was sent".into())).into())
    }

    fn member(&self, record: &Record, subject: Option<&Subject>) -> Member {
        let mut headers = HeaderMap::new();
        let (subject, bytes) = match (record, subject) {
            (Record::Entry(entry), Some(subject)) => {
                let time = entry.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
                headers.insert(RECORDED_AT, time);
                (subject.as_str().to_owned(), entry.bytes.clone())
            }
            (record, _) => {
                let subject = Subject::of_gap(&self.journal.tenant);
                (subject.as_str().to_owned(), filler(record.position()))
            }
        };
        Member { subject, headers, bytes }
    }

    /// Makes these positions gaps: what [`Restoring::append`] put there is deleted. One that is a gap already
    /// stays one.
    ///
    /// # Errors
    /// There is something else at a position, or JetStream refuses.
    pub async fn lose(&self, gaps: &[Position]) -> Result<(), RestoreError> {
        let stream = self.journal.stream().await?;
        for position in gaps {
            match self.journal.message(*position).await? {
                None => {}
                Some(message) if message.payload == filler(*position) => {
                    let deleted = stream.delete_message(position.get()).await;
                    deleted.map_err(|error| refused(&self.wanted, error))?;
                }
                Some(_) => {
                    let reason = format!("there is an entry at position {position}, which is to be a gap");
                    return Err(refused(&self.wanted, reason));
                }
            }
        }
        Ok(())
    }

    /// Takes the mark away, and the right to delete: from here on it is a ledger as any other.
    ///
    /// # Errors
    /// JetStream refuses, or the stream is not then what it is to be.
    pub async fn finish(self) -> Result<JetStreamJournal, RestoreError> {
        let Self { journal, wanted } = self;
        let found = stream::look(&journal.context, &journal.tenant).await?;
        let found = found.ok_or_else(|| refused(&wanted, "it is gone"))?;
        let mut config = Config { deny_delete: true, ..found.cached_info().config.clone() };
        config.metadata.remove(MARK);
        let updated = journal.context.update_stream(config).await;
        updated.map_err(|error| refused(&wanted, error))?;
        let found = stream::look(&journal.context, &journal.tenant).await?;
        let found = found.ok_or_else(|| refused(&wanted, "it is gone"))?;
        let config = &found.cached_info().config;
        let differences = stream::differences(&wanted, config);
        if is_marked(config) || !differences.is_empty() {
            return Err(OpenError::Mismatch { stream: wanted.name, differences }.into());
        }
        Ok(journal)
    }
}

/// How many of these, which are not none, one batch takes.
fn fitting(records: &[(Record, Option<Subject>)]) -> usize {
    let mut bytes = 0;
    let full = records.iter().position(|(record, _)| {
        bytes += match record {
            Record::Entry(entry) => entry.bytes.len(),
            Record::Gap(_) => 0,
        };
        bytes > BATCH_BYTES
    });
    full.unwrap_or(records.len()).clamp(1, BATCH_LIMIT.min(records.len()))
}

/// What stands in the place of a gap until it is deleted: the text of the gap's leaf in the tree.
fn filler(position: Position) -> Bytes {
    format!("release-ledger gap {position}").into()
}

/// Whether a stream's restoring was begun and has not ended.
pub(super) fn is_marked(config: &Config) -> bool {
    config.metadata.contains_key(MARK)
}

/// When a message was recorded: where it was restored, that is told by its header, and not by its stream.
pub(super) fn recorded_at(headers: Option<&HeaderMap>, stored: DateTime<Utc>) -> DateTime<Utc> {
    let told = headers.and_then(|headers| headers.get(RECORDED_AT));
    let told = told.and_then(|told| DateTime::parse_from_rfc3339(told.as_str()).ok());
    microseconds(told.map_or(stored, |time| time.to_utc()))
}

fn refused(config: &Config, reason: impl ToString) -> RestoreError {
    RestoreError::Refused { stream: config.name.clone(), reason: reason.to_string() }
}
