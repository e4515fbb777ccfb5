//! Follows the ledger of the tenant `_admin`, and keeps the directory of a process up to date.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use ledger_codec::cloudevents::StoredEntry;
use ledger_domain::Position;
use ledger_journal::{ReadError, Record, SharedJournal, SubjectFilter, Until};
use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::authenticator::{Authenticator, Known};

/// Pause after the journal could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Task that keeps the directory up to date. It reads the journal itself, not the projections: a revocation takes effect
/// when the stream has it.
pub struct AccessFollower {
    authenticator: Arc<Authenticator>,
    journal: SharedJournal,
}

impl AccessFollower {
    /// Creates the follower of a process. It holds nothing of the application, which ends before it.
    #[must_use]
    pub const fn new(authenticator: Arc<Authenticator>, journal: SharedJournal) -> Self {
        Self { authenticator, journal }
    }

    /// Follows until `stop` is cancelled. After a failure, it reads everything again: a journal that was replaced then
    /// replaces the directory. Meanwhile requests use what was read before.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let followed = tokio::select! {
                () = stop.cancelled() => return,
                followed = follow(&self.authenticator, &self.journal) => followed,
            };
            if let Err(error) = followed {
                warn!(%error, "cannot follow tokens and grants; using those that were read before");
            }
            gauge!("ledger_access_following").set(0.0);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_DELAY) => {}
            }
        }
    }
}

/// Reads all events, and then each new one.
async fn follow(authenticator: &Authenticator, journal: &SharedJournal) -> Result<(), ReadError> {
    let head = journal.head().await?;
    authenticator.check_stream(head)?;
    let (created, head) = (head.created, head.position);
    let mut known = HashSet::new();
    let mut directory = Arc::new(authenticator.settings().clone());
    let mut position = Position::START;
    let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    let set = |directory: &Arc<_>, position| {
        let directory = Arc::clone(directory);
        authenticator.set(Known { directory, position, created: Some(created), is_complete: true });
    };
    if position >= head {
        set(&directory, position);
        gauge!("ledger_access_following").set(1.0);
    }
    while let Some(record) = records.next().await {
        let record = record?;
        position = record.position();
        match record {
            Record::Gap(_) => {
                error!(%position, "an event about access is lost; it may have been a revocation");
            }
            Record::Entry(entry) => match StoredEntry::parse(entry.bytes) {
                // As in every projection, only the first entry of an identity has an effect.
                StoredEntry::Event(envelope) if !known.insert(envelope.identity().key()) => {}
                StoredEntry::Event(envelope) => {
                    if let Err(reason) = Arc::make_mut(&mut directory).apply(&envelope.event().payload) {
                        info!(%position, reason, "an event about access has no effect");
                    }
                }
                StoredEntry::Newer(reason) => {
                    error!(%position, %reason, "an event about access is of a newer program; it has no effect here");
                }
                StoredEntry::Foreign { .. } => {}
            },
        }
        if position >= head {
            set(&directory, position);
            gauge!("ledger_access_following").set(1.0);
        }
    }
    Ok(())
}
