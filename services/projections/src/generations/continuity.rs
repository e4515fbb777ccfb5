//! Monitors that the journal is still the one that the active projections were built from.
//!
//! A projector checks that whenever it starts. Processes that ingest events without a projector need the check as well:
//! identities in the projections are meaningless for another history.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{Continuity, Divergence, KnownHistory, ReadError, SharedJournal, UnconfirmedTimer};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

use crate::postgres::{Error, Projections};
use crate::projector::checkpoint::check_continuity;

/// Interval between checks of a stream's creation time and length.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between full checks, which also read the projections and compare an entry.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of the check of one tenant: the next checks of all other tenants wait for it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the journals of some tenants periodically.
pub(crate) struct ContinuityMonitor {
    tenants: Vec<MonitoredTenant>,
    /// Notified when another generation becomes active.
    generation_changed: Arc<Notify>,
}

struct MonitoredTenant {
    projections: Projections,
    journal: SharedJournal,
    /// The active generation.
    number: Option<i32>,
    /// The last conclusive full check of that generation.
    last_check: Option<FullCheck>,
    unconfirmed: UnconfirmedTimer,
}

/// The result of a conclusive full check.
struct FullCheck {
    /// Time of the check.
    at: Instant,
    /// Creation time and minimum length of the stream; `None` if the journal diverged.
    stream: Option<(DateTime<Utc>, Position)>,
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Projections(#[from] Error),
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl ContinuityMonitor {
    pub(crate) fn new(ledgers: Vec<(Projections, SharedJournal)>, generation_changed: Arc<Notify>) -> Self {
        let monitored = |(projections, journal)| MonitoredTenant {
            projections,
            journal,
            number: None,
            last_check: None,
            unconfirmed: UnconfirmedTimer::default(),
        };
        Self { tenants: ledgers.into_iter().map(monitored).collect(), generation_changed }
    }

    /// Checks all tenants once.
    pub(crate) async fn check(&mut self) {
        let all = self.tenants.iter_mut().map(|monitored| async move {
            let tenant = monitored.projections.tenant.to_string();
            let error = match tokio::time::timeout(CHECK_TIMEOUT, monitored.check()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no response within {CHECK_TIMEOUT:?}"),
            };
            // Only consecutive checks may confirm a divergence.
            monitored.unconfirmed.reset();
            // Debug level: other users of the database and the journal report the outage.
            debug!(tenant, error, "cannot compare the journal with the projections");
        });
        futures::future::join_all(all).await;
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.check().await;
            tokio::select! {
                () = self.generation_changed.notified() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    }
}

impl MonitoredTenant {
    async fn check(&mut self) -> Result<(), CheckError> {
        let active = self.projections.active_number();
        if self.number != active {
            (self.number, self.last_check) = (active, None);
            self.unconfirmed.reset();
        }
        let Some(number) = active else { return Ok(()) };
        let head = self.journal.head().await?;
        if let Some(last_check) = &self.last_check {
            let recent = last_check.at.elapsed() < FULL_CHECK_INTERVAL;
            match last_check.stream {
                // A recreated stream is detected without the database, unless the projections are empty.
                Some((created, length))
                    if length > Position::START
                        && let Err(divergence) = KnownHistory::new(created).compare_creation(&head) =>
                {
                    self.record(Err(divergence));
                    return Ok(());
                }
                Some((_, length)) if recent && head.position >= length => {
                    self.unconfirmed.reset();
                    return Ok(());
                }
                None if recent => return Ok(()),
                Some(_) | None => {}
            }
        }
        let checkpoint = self.projections.checkpoint().await?;
        let continuity = check_continuity(self.journal.as_ref(), &checkpoint).await?;
        if self.projections.active_number() != Some(number) {
            // Another generation became active: the next check starts over.
            return Ok(());
        }
        match self.unconfirmed.settle(continuity, Instant::now()) {
            // Empty projections belong to the current stream.
            Continuity::Intact => {
                let created = checkpoint.stream_created.unwrap_or(head.created);
                self.record(Ok((created, checkpoint.position)));
            }
            Continuity::Diverged(divergence) if divergence.may_recover() => {
                self.projections.divergence.send_replace(Some(divergence.to_string()));
                // The journal may recover: the next check is a full one.
                self.last_check = None;
            }
            Continuity::Diverged(divergence) => self.record(Err(divergence)),
            Continuity::Unconfirmed(_) => {}
        }
        Ok(())
    }

    /// Publishes the stream that the projections belong to, or the reason of a divergence.
    fn record(&mut self, stream: Result<(DateTime<Utc>, Position), Divergence>) {
        self.unconfirmed.reset();
        let (stream, reason) = match stream {
            Ok(stream) => (Some(stream), None),
            Err(divergence) => (None, Some(divergence.to_string())),
        };
        // Publish the stream before clearing `divergence`: a reader must never see ingest open while the stream is
        // unknown.
        self.projections.stream.send_replace(stream.map(|(created, _)| created));
        self.projections.divergence.send_replace(reason);
        self.last_check = Some(FullCheck { at: Instant::now(), stream });
    }
}
