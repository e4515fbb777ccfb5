//! The projector: follows the journal and applies its entries to one generation of a tenant's projections.

pub(crate) mod apply;
pub(crate) mod checkpoint;
pub(crate) mod pipeline;
pub(crate) mod status;
pub(crate) mod tree;

use std::convert::Infallible;
use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::{Continuity, KnownHistory, SharedJournal, UnconfirmedTimer, Until};
use metrics::counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use self::pipeline::{GenerationHandle, ProjectionError, Source, close, with_step_timeout};
use self::status::{ProjectorStatus, StopReason};
use crate::identities::{IdentityFeed, IdentityLoader, TableLoad};
use crate::projector::apply::ProjectionState;
use crate::projector::checkpoint::{check_continuity, stream_created_at};
use crate::tables::events::identity_page;

/// Time without progress after which a projector leaves the generation to another process.
const UNHEALTHY_TIMEOUT: Duration = Duration::from_secs(20);
/// Initial and maximum delay between attempts.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Initial and maximum delay between attempts to load the identities of the history.
const LOAD_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Number of identities that are loaded at a time.
const IDENTITY_PAGE: u32 = 10_000;

/// The projector of one generation of a tenant's projections.
pub(crate) struct Projector {
    generation: GenerationHandle,
    journal: SharedJournal,
}

impl Projector {
    pub(crate) const fn new(generation: GenerationHandle, journal: SharedJournal) -> Self {
        Self { generation, journal }
    }

    /// Follows the journal until the token is cancelled or an operator is needed. Returns `None` after transient
    /// failures without progress for [`UNHEALTHY_TIMEOUT`], so that another process can take over.
    pub(crate) async fn run(self, cancelled: CancellationToken) -> Option<StopReason> {
        let tenant = self.generation.projections.tenant.to_string();
        let mut backoff = RETRY_BACKOFF.0;
        let mut check_duplicates = false;
        let mut unconfirmed = UnconfirmedTimer::default();
        loop {
            let started = Instant::now();
            let error = match self.follow(&cancelled, check_duplicates, &mut unconfirmed).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let healthy_at = *self.generation.healthy_at.borrow();
            if healthy_at > started {
                backoff = RETRY_BACKOFF.0;
            }
            check_duplicates = matches!(error, ProjectionError::Duplicate);
            match error {
                ProjectionError::Stopped(stopped) => {
                    self.report_stop(&stopped);
                    return Some(stopped);
                }
                ProjectionError::Fenced(position) => {
                    counter!("ledger_projector_fenced_total", "tenant" => tenant.clone()).increment(1);
                    info!(tenant, %position, "another projector advanced the position first");
                }
                ProjectionError::Duplicate => continue,
                ProjectionError::Failed(reason) => {
                    warn!(tenant, reason, "projector failed; retrying");
                    self.generation.set_status(ProjectorStatus::Waiting(reason));
                }
            }
            if healthy_at.elapsed() > UNHEALTHY_TIMEOUT {
                return None;
            }
            let delay =
                unconfirmed.remaining(Instant::now()).map_or(backoff, |remaining| backoff.min(remaining));
            tokio::select! {
                () = cancelled.cancelled() => return Some(StopReason::Cancelled),
                () = tokio::time::sleep(delay) => backoff = (backoff * 2).min(RETRY_BACKOFF.1),
            }
        }
    }

    fn report_stop(&self, stopped: &StopReason) {
        if *stopped == StopReason::Cancelled {
            return;
        }
        let projections = &self.generation.projections;
        error!(tenant = %projections.tenant, reason = %stopped, "projector stopped");
        if let StopReason::Diverged(reason) = stopped
            && projections.active_number() == Some(self.generation.number)
        {
            projections.set_divergence(Some(reason.clone()));
        }
        self.generation.set_status(ProjectorStatus::Stopped(stopped.clone()));
    }

    async fn follow(
        &self,
        cancelled: &CancellationToken,
        check_duplicates: bool,
        unconfirmed: &mut UnconfirmedTimer,
    ) -> Result<Infallible, ProjectionError> {
        // Every failure but an unconfirmed check starts the timer over.
        let mut timer = std::mem::take(unconfirmed);
        let mut connection = self.generation.connect().await?;
        let load = async { Ok(ProjectionState::load(&mut connection).await?) };
        let state = with_step_timeout(load).await?;
        let continuity = check_continuity(self.journal.as_ref(), &state.checkpoint).await?;
        match timer.settle(continuity, Instant::now()) {
            Continuity::Intact => {}
            Continuity::Unconfirmed(divergence) => {
                *unconfirmed = timer;
                return Err(ProjectionError::Failed(divergence.to_string()));
            }
            Continuity::Diverged(divergence) => {
                return Err(ProjectionError::Stopped(StopReason::Diverged(divergence.to_string())));
            }
        }
        self.generation.set_position(state.checkpoint.position);
        self.generation.set_status(ProjectorStatus::Following);
        let stream_created = stream_created_at(self.journal.as_ref(), &state.checkpoint).await?;
        let history = state.checkpoint.history().unwrap_or_else(|| KnownHistory::new(stream_created));
        let records = self.journal.read_after(history, Until::Forever);
        let (identities, _load) = self.feed_identities(state.checkpoint.position);
        let source = Source { stream_created, records, identities };
        pipeline::run(&self.generation, connection, state, source, check_duplicates, cancelled).await?;
        Err(ProjectionError::Failed("the journal reader ended unexpectedly".into()))
    }

    /// Starts to feed the identities of the history with the records after a position, and with those that the tables
    /// have. Only the history that answers queries has its identities in memory.
    fn feed_identities(&self, after: Position) -> (Option<IdentityFeed>, Option<AbortOnDropHandle<()>>) {
        let projections = &self.generation.projections;
        // Read the number first: if another generation becomes active after that, the identities are not used.
        let history_epoch = projections.history_epoch();
        if projections.active_number() != Some(self.generation.number) {
            return (None, None);
        }
        let (feed, table_load) = projections.identities.start(history_epoch, after);
        let load = match table_load {
            TableLoad::Known => None,
            TableLoad::Needed => {
                let load = load_identities(self.generation.clone(), feed.loader());
                Some(AbortOnDropHandle::new(tokio::spawn(load)))
            }
            TableLoad::TooMany => {
                let tenant = projections.tenant.to_string();
                info!(tenant, "the history is too large to have its identities in memory");
                None
            }
        };
        (Some(feed), load)
    }
}

/// Loads the identities that the tables of a generation have. Until that succeeds, the write path asks the tables.
async fn load_identities(generation: GenerationHandle, loader: IdentityLoader) {
    let tenant = generation.projections.tenant.to_string();
    let mut delay = LOAD_BACKOFF.0;
    loop {
        match try_load_identities(&generation, &loader).await {
            Ok(count) => {
                debug!(tenant, count, "the identities of the history are in memory");
                return;
            }
            Err(error) => warn!(tenant, ?error, "cannot load the identities of the history; retrying"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LOAD_BACKOFF.1);
    }
}

async fn try_load_identities(
    generation: &GenerationHandle,
    loader: &IdentityLoader,
) -> Result<usize, ProjectionError> {
    let mut connection = generation.connect().await?;
    let (mut after, mut count) = (None, 0);
    loop {
        let read = async { Ok(identity_page(&mut connection, after, IDENTITY_PAGE).await?) };
        let keys = with_step_timeout(read).await?;
        let Some(last) = keys.last().copied() else { break };
        count += keys.len();
        if !loader.load(&keys) {
            break;
        }
        after = Some(last);
    }
    loader.complete();
    close(connection).await;
    Ok(count)
}
