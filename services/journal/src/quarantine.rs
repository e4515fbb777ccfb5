//! The quarantine of a tenant: messages that arrived and could not be understood.
//!
//! It is not part of the ledger. A message is kept under its key until it is replaced by a record of its end, or
//! expires. The content is opaque here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::jetstream::JetStreamQuarantine;

/// Time for which the record of a message's end is kept.
pub(crate) const END_RETENTION: Duration = Duration::from_secs(60 * 60);

/// Maximum number of messages. The end of a message can be recorded in a full quarantine, so that it can be emptied.
const MAX_MESSAGES: u64 = 100_000;
/// Maximum size of a quarantine in bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Maximum size of the content of a message in bytes. A NATS server accepts messages of 1 MiB by default.
const MAX_CONTENT_BYTES: usize = 1_000_000;

/// A message in a quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineItem {
    /// The key: lower-case hexadecimal digits.
    pub key: String,
    /// The version of the item: a number that grows with each change in the quarantine.
    pub version: u64,
    /// The time at which this version was stored.
    pub stored_at: DateTime<Utc>,
    /// The content.
    pub content: Bytes,
}

/// The number of messages in a quarantine, and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuarantineUsage {
    /// Messages, including those whose end is recorded.
    pub messages: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Reason why a quarantine did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuarantineError {
    /// No answer, or the connection is lost: the message may be stored or not. Storing it again has no other effect.
    #[error("the quarantine is unavailable: {0}")]
    Unavailable(String),
    /// The quarantine is full. Nothing was stored.
    #[error("the quarantine is full: {0}")]
    Full(String),
    /// The message is too large. Nothing was stored.
    #[error("the message is too large for the quarantine: {0} bytes")]
    TooLarge(usize),
    /// The item has changed since it was read. Nothing was stored.
    #[error("the message has changed since it was read")]
    Changed,
}

/// A tenant's quarantine.
#[derive(Debug)]
pub enum Quarantine {
    /// On a stream of its own.
    JetStream(Box<JetStreamQuarantine>),
    /// In memory: for tests.
    Memory(MemoryQuarantine),
}

impl Quarantine {
    /// Creates an empty quarantine in memory. `clock` supplies the times of storage.
    #[must_use]
    pub fn in_memory(clock: fn() -> DateTime<Utc>) -> Self {
        Self::Memory(MemoryQuarantine { clock, items: Mutex::default() })
    }

    /// Stores a message under a key and returns its version, once it is durable. It replaces what the key had, also in a full
    /// quarantine: a message that is delivered again takes no further room.
    ///
    /// # Errors
    /// See [`QuarantineError`].
    pub async fn put(&self, key: &str, content: Bytes) -> Result<u64, QuarantineError> {
        if content.len() > MAX_CONTENT_BYTES {
            return Err(QuarantineError::TooLarge(content.len()));
        }
        let usage = self.usage().await?;
        let is_full = usage.messages >= MAX_MESSAGES || usage.bytes >= MAX_BYTES;
        if is_full && self.get(key).await?.is_none() {
            return Err(QuarantineError::Full(format!("{} messages, {} bytes", usage.messages, usage.bytes)));
        }
        match self {
            Self::JetStream(quarantine) => quarantine.put(key, content, None, None).await,
            Self::Memory(quarantine) => quarantine.put(key, content, None),
        }
    }

    /// Replaces a message by the record of its end, which expires after an hour, if the message has still
    /// this version.
    ///
    /// # Errors
    /// See [`QuarantineError`].
    pub async fn end(&self, key: &str, version: u64, content: Bytes) -> Result<(), QuarantineError> {
        match self {
            Self::JetStream(quarantine) => {
                quarantine.put(key, content, Some(version), Some(END_RETENTION)).await
            }
            Self::Memory(quarantine) => quarantine.put(key, content, Some(version)),
        }
        .map(drop)
    }

    /// Returns the item of a key.
    ///
    /// # Errors
    /// The quarantine is unavailable.
    pub async fn get(&self, key: &str) -> Result<Option<QuarantineItem>, QuarantineError> {
        match self {
            Self::JetStream(quarantine) => quarantine.get(key).await,
            Self::Memory(quarantine) => {
                Ok(quarantine.find(|items| items.values().find(|item| item.key == key).cloned()))
            }
        }
    }

    /// Returns the first item after a version, in the order of versions.
    ///
    /// # Errors
    /// The quarantine is unavailable.
    pub async fn next(&self, after: u64) -> Result<Option<QuarantineItem>, QuarantineError> {
        match self {
            Self::JetStream(quarantine) => quarantine.next(after).await,
            Self::Memory(quarantine) => {
                Ok(quarantine.find(|items| items.range(after + 1..).next().map(|(_, item)| item.clone())))
            }
        }
    }

    /// Returns the use of the quarantine.
    ///
    /// # Errors
    /// The quarantine is unavailable.
    pub async fn usage(&self) -> Result<QuarantineUsage, QuarantineError> {
        match self {
            Self::JetStream(quarantine) => quarantine.usage().await,
            Self::Memory(quarantine) => Ok(quarantine.find(|items| QuarantineUsage {
                messages: items.len() as u64,
                bytes: items.values().map(|item| item.content.len() as u64).sum(),
            })),
        }
    }
}

/// A quarantine that does not survive its process.
#[derive(Debug)]
pub struct MemoryQuarantine {
    clock: fn() -> DateTime<Utc>,
    /// Items by version.
    items: Mutex<BTreeMap<u64, QuarantineItem>>,
}

impl MemoryQuarantine {
    fn find<T>(&self, find: impl FnOnce(&BTreeMap<u64, QuarantineItem>) -> T) -> T {
        find(&self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, key: &str, content: Bytes, expected: Option<u64>) -> Result<u64, QuarantineError> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let present = items.values().find(|item| item.key == key).map(|item| item.version);
        if expected.is_some_and(|expected| Some(expected) != present) {
            return Err(QuarantineError::Changed);
        }
        let version = items.keys().next_back().map_or(1, |last| last + 1);
        if let Some(present) = present {
            items.remove(&present);
        }
        let item = QuarantineItem { key: key.to_owned(), version, stored_at: (self.clock)(), content };
        items.insert(version, item);
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_quarantine_takes_no_new_message_but_one_that_it_has() {
        let quarantine = Quarantine::in_memory(|| DateTime::UNIX_EPOCH);
        let content = Bytes::from(vec![0; MAX_CONTENT_BYTES]);
        let room = MAX_BYTES.div_ceil(MAX_CONTENT_BYTES as u64);
        for key in 0..room {
            quarantine.put(&key.to_string(), content.clone()).await.expect("stored");
        }

        let new = quarantine.put("new", content.clone()).await;
        let again = quarantine.put("0", content).await;

        assert!(matches!(new, Err(QuarantineError::Full(_))), "{new:?}");
        assert_eq!(again, Ok(room + 1));
    }
}
