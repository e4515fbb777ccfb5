//! Restoring: fills a fresh stream from a copy of the ledger, position by position.
//!
//! This is the only module that updates a stream. From its first message until it is complete, the stream has a mark
//! in its metadata, so that no service opens a ledger on it. While gaps are still to be made, it permits the deletion
//! of messages: a position can become a gap only after it was assigned. The last step removes both for good, and
//! reads the settings back.
//!
//! A restored message has the time at which it was first recorded in a header, because the stream assigns every
//! message a new time. It has no `Nats-Msg-Id`: the duplicate window would reject an entry that repeats another. An
//! event that a client sends again after the disaster is deduplicated by the history.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, Stream};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::{Position, TenantName};
use tracing::debug;

use super::append::{BATCH_LIMIT, BatchMessage, publish_batch};
use super::stream::{self, RESTORING_KEY, is_restoring};
use super::{Connection, JetStreamJournal, OpenError};
use crate::{AppendError, Journal, ReadError, Record, Subject, microseconds};

/// Header with the time at which an entry was recorded in the original stream.
const RECORDED_AT_HEADER: &str = "Ledger-Recorded-At";
/// Maximum number of sends of a batch if acknowledgements are lost.
const MAX_ATTEMPTS: usize = 3;
/// Maximum number of bytes of entries in a batch.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Reason why a stream cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The settings of the existing stream do not fit, or JetStream does not answer.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream already has entries.
    #[error("the stream {stream} exists and ends at position {position}; a restore needs a fresh stream")]
    NotEmpty {
        /// The stream.
        stream: String,
        /// Its last position.
        position: Position,
    },
    /// The existing empty stream forbids deletions, so that no gaps can be made in it.
    #[error("the stream {stream} is empty, but forbids the deletions that gaps need; remove it first")]
    NoGaps {
        /// The stream.
        stream: String,
    },
    /// Another process writes to the stream.
    #[error("the stream {stream} ends at position {found} instead of {expected}; stop its other writers")]
    WrongHead {
        /// The stream.
        stream: String,
        /// Expected last position.
        expected: Position,
        /// Actual last position.
        found: Position,
    },
    /// A batch was not stored.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The stream cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// JetStream rejected a change of the stream's settings or the deletion of a message.
    #[error("cannot change the stream {stream}: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// The cause.
        reason: String,
    },
}

/// A stream that is being restored. No ledger can be opened on it before [`RestoreSession::finish`].
pub struct RestoreSession {
    journal: JetStreamJournal,
    /// Settings of the complete stream.
    final_config: Config,
}

impl Connection {
    /// Starts or resumes the restore of a tenant's stream. `with_gaps` states that some positions will be gaps.
    ///
    /// # Errors
    /// The stream has entries and no restore of it was started, or JetStream rejects the request.
    pub async fn restore(&self, tenant: TenantName, with_gaps: bool) -> Result<RestoreSession, RestoreError> {
        let context = self.context();
        let final_config = stream::expected_config(&tenant, &self.settings.stream);
        let marked = |mut config: Config| {
            config.metadata.insert(RESTORING_KEY.into(), "true".into());
            config
        };
        let stream = match stream::get(&context, &tenant).await? {
            None => {
                let config = Config { deny_delete: !with_gaps, ..marked(final_config.clone()) };
                stream::create(&context, &config).await?
            }
            Some(found) => {
                let config = fillable_config(&found, &final_config, with_gaps)?;
                let updated = context.update_stream(marked(config)).await;
                updated.map_err(|error| refused(&final_config, error))?;
                found
            }
        };
        Ok(RestoreSession { journal: self.journal_on(context, tenant, &stream)?, final_config })
    }
}

/// Returns the settings of an existing stream after a check that it can be filled.
fn fillable_config(found: &Stream, final_config: &Config, with_gaps: bool) -> Result<Config, RestoreError> {
    let (config, state) = (&found.cached_info().config, &found.cached_info().state);
    let stream = config.name.clone();
    if !is_restoring(config) && state.last_sequence > 0 {
        return Err(RestoreError::NotEmpty { stream, position: Position::new(state.last_sequence) });
    }
    let deny_delete = config.deny_delete;
    let differences = stream::differences(&Config { deny_delete, ..final_config.clone() }, config);
    if !differences.is_empty() {
        return Err(OpenError::Mismatch { stream, differences }.into());
    }
    if with_gaps && deny_delete {
        return Err(RestoreError::NoGaps { stream });
    }
    Ok(config.clone())
}

impl RestoreSession {
    /// Returns the journal with the entries restored so far.
    #[must_use]
    pub const fn journal(&self) -> &JetStreamJournal {
        &self.journal
    }

    /// Returns true if a record is a gap, or the placeholder of one at its position.
    #[must_use]
    pub fn is_gap_or_placeholder(&self, record: &Record) -> bool {
        match record {
            Record::Gap(_) => true,
            Record::Entry(entry) => entry.bytes == gap_placeholder(entry.position),
        }
    }

    /// Stores records right after a position, each entry under its subject. A gap is stored as a placeholder until
    /// [`RestoreSession::punch_gaps`].
    ///
    /// # Errors
    /// The stream does not end at the position, or JetStream rejects the records.
    pub async fn append(
        &self,
        after: Position,
        records: &[(Record, Option<Subject>)],
    ) -> Result<(), RestoreError> {
        let mut head = after;
        let mut rest = records;
        while !rest.is_empty() {
            let (chunk, remaining) = rest.split_at(batch_len(rest));
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
        for _ in 0..MAX_ATTEMPTS {
            let messages = chunk.iter().enumerate().map(|(index, (record, subject))| {
                let mut message = self.message_of(record, subject.as_ref());
                if index == 0 {
                    // Ensures that no other message comes in between, and that nothing is stored twice.
                    message.headers.insert("Nats-Expected-Last-Sequence", head.get().to_string());
                }
                message
            });
            let error = match publish_batch(&self.journal, messages.collect()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            debug!(%error, %end, "batch is unacknowledged; reading the head");
            let found = self.journal.head().await?.position;
            if found == end {
                // The final comparison of the stream with the copy detects foreign messages.
                return Ok(());
            }
            if found != head {
                return Err(RestoreError::WrongHead {
                    stream: self.final_config.name.clone(),
                    expected: head,
                    found,
                });
            }
            lost = Some(error);
        }
        Err(lost.unwrap_or_else(|| AppendError::Unavailable("no batch was sent".into())).into())
    }

    fn message_of(&self, record: &Record, subject: Option<&Subject>) -> BatchMessage {
        let mut headers = HeaderMap::new();
        let (subject, bytes) = match (record, subject) {
            (Record::Entry(entry), Some(subject)) => {
                let time = entry.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
                headers.insert(RECORDED_AT_HEADER, time);
                (subject.as_str().to_owned(), entry.bytes.clone())
            }
            (record, _) => {
                let subject = Subject::gap_placeholder(&self.journal.tenant);
                (subject.as_str().to_owned(), gap_placeholder(record.position()))
            }
        };
        BatchMessage { subject, headers, bytes }
    }

    /// Makes these positions gaps by deleting their placeholders. A position that is already a gap stays one.
    ///
    /// # Errors
    /// A position has no placeholder but an entry, or JetStream rejects the deletion.
    pub async fn punch_gaps(&self, gaps: &[Position]) -> Result<(), RestoreError> {
        let stream = self.journal.stream().await?;
        for position in gaps {
            match self.journal.message(*position).await? {
                None => {}
                Some(message) if message.payload == gap_placeholder(*position) => {
                    let deleted = stream.delete_message(position.get()).await;
                    deleted.map_err(|error| refused(&self.final_config, error))?;
                }
                Some(_) => {
                    let reason = format!("position {position} must become a gap, but has an entry");
                    return Err(refused(&self.final_config, reason));
                }
            }
        }
        Ok(())
    }

    /// Completes the restore: removes the mark and forbids deletions, so that a ledger can be opened on the stream.
    ///
    /// # Errors
    /// JetStream rejects the update, or the settings are not the final ones afterwards.
    pub async fn finish(self) -> Result<JetStreamJournal, RestoreError> {
        let Self { journal, final_config } = self;
        let found = stream::get(&journal.context, &journal.tenant).await?;
        let found = found.ok_or_else(|| refused(&final_config, "it does not exist any more"))?;
        let mut config = Config { deny_delete: true, ..found.cached_info().config.clone() };
        config.metadata.remove(RESTORING_KEY);
        let updated = journal.context.update_stream(config).await;
        updated.map_err(|error| refused(&final_config, error))?;
        let found = stream::get(&journal.context, &journal.tenant).await?;
        let found = found.ok_or_else(|| refused(&final_config, "it does not exist any more"))?;
        let config = &found.cached_info().config;
        let differences = stream::differences(&final_config, config);
        if is_restoring(config) || !differences.is_empty() {
            return Err(OpenError::Mismatch { stream: final_config.name, differences }.into());
        }
        Ok(journal)
    }
}

/// Returns the number of leading records that form one batch. `records` is not empty.
fn batch_len(records: &[(Record, Option<Subject>)]) -> usize {
    let mut bytes = 0;
    let full = records.iter().position(|(record, _)| {
        bytes += match record {
            Record::Entry(entry) => entry.bytes.len(),
            Record::Gap(_) => 0,
        };
        bytes > MAX_BATCH_BYTES
    });
    full.unwrap_or(records.len()).clamp(1, BATCH_LIMIT.min(records.len()))
}

/// Returns the message that holds a gap's position until it is deleted.
fn gap_placeholder(position: Position) -> Bytes {
    format!("release-ledger gap {position}").into()
}

/// Returns the time at which a message was recorded: for a restored message that of its header, otherwise that of the
/// stream.
pub(super) fn recorded_at(headers: Option<&HeaderMap>, stored: DateTime<Utc>) -> DateTime<Utc> {
    let original = headers.and_then(|headers| headers.get(RECORDED_AT_HEADER));
    let original = original.and_then(|time| DateTime::parse_from_rfc3339(time.as_str()).ok());
    microseconds(original.map_or(stored, |time| time.to_utc()))
}

fn refused(config: &Config, reason: impl ToString) -> RestoreError {
    RestoreError::Refused { stream: config.name.clone(), reason: reason.to_string() }
}
