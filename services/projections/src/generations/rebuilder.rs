//! Builds a new generation beside the live one, compares the two, and switches to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ledger_domain::{Position, TenantName, error_chain};
use ledger_journal::{Continuity, KnownHistory, ReadError, SharedJournal, Until};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::generations::digest::{RowDifference, TableDigest, digests, first_difference};
use crate::generations::registry::{Worker, drop_schema, reset_followers, switch};
use crate::generations::{copy, indexes};
use crate::postgres::{Error, Projections, SET_NO_IDLE_TIMEOUT, SNAPSHOT, position};
use crate::projector::apply::ProjectionState;
use crate::projector::checkpoint::{self, Checkpoint, check_continuity, stream_created_at};
use crate::projector::pipeline::{
    self, GenerationHandle, ProjectionError, STEP_TIMEOUT, Source, close, with_step_timeout,
};
use crate::projector::status::{ProjectorStatus, StopReason};

/// Largest lag of the new generation, in entries, at which the live one is locked for the switch.
const MAX_SWITCH_LAG: u64 = 2_000;
/// Number of entries above which indexes are created at the end.
const DEFERRED_INDEX_THRESHOLD: u64 = 20_000;
/// Timeout of a step over all rows of large tables.
const TABLE_SCAN_TIMEOUT: Duration = Duration::from_secs(4 * 3_600);
/// Interval of progress updates.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Interval at which the live generation is polled until it catches up with a new one that is ahead.
const CATCH_UP_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Number of these polls.
const CATCH_UP_POLLS: u32 = 100;

/// The source of entries for a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The stream.
    Stream,
    /// The copy in the live projections up to its end, then the stream.
    Events,
}

/// The progress of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The position of the new generation.
    pub position: Position,
    /// The position that it has to reach.
    pub head: Position,
}

/// The result of comparing a new generation with the live one at one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The position.
    pub position: Position,
    /// The tables that differ, with their digests in the live and in the new generation.
    pub different: BTreeMap<String, (TableDigest, TableDigest)>,
    /// The first row, in the order of the rows' text, that only one generation contains in the first of these tables.
    pub first: Option<RowDifference>,
}

/// The use of a new generation after it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RebuildMode {
    /// Make it live, unless its history differs from the live one's.
    Switch,
    /// Make it live without a comparison.
    ForceSwitch,
    /// Only compare it.
    Compare,
}

/// Reason why a rebuild failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebuildFailure {
    /// Possibly transient: the caller may retry.
    #[error("{0}")]
    Failed(String),
    /// An operator is needed, or the rebuild was cancelled.
    #[error(transparent)]
    Stopped(#[from] StopReason),
    /// The live generation was built from another history.
    #[error("{0}")]
    HistoryDiffers(String),
    /// The stream lacks entries that were applied; the server may only lag behind.
    #[error("the stream ends at {end}, but entries up to {expected} were applied")]
    StreamTooShort {
        /// Position at which the stream ends.
        end: Position,
        /// Position up to which entries were applied.
        expected: Position,
    },
    /// The new generation is ahead of the live one, which does not advance.
    #[error("the live projections are at {live} and do not advance; the new ones are at {new}")]
    AheadOfLive {
        /// Position of the live generation.
        live: Position,
        /// Position of the new generation.
        new: Position,
    },
}

impl From<ProjectionError> for RebuildFailure {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Stopped(stopped) => Self::Stopped(stopped),
            ProjectionError::Failed(reason) => Self::Failed(reason),
            ProjectionError::Duplicate => {
                Self::Failed("the history already contains an identity of the batch".into())
            }
            ProjectionError::Fenced(position) => {
                Self::Failed(format!("another process projects into the same generation, now at {position}"))
            }
        }
    }
}

impl From<Error> for RebuildFailure {
    fn from(error: Error) -> Self {
        ProjectionError::from(error).into()
    }
}

impl From<sqlx::Error> for RebuildFailure {
    fn from(error: sqlx::Error) -> Self {
        ProjectionError::from(error).into()
    }
}

impl From<ReadError> for RebuildFailure {
    fn from(error: ReadError) -> Self {
        ProjectionError::from(error).into()
    }
}

/// Builds one generation. If the process is killed at any point, another rebuilder resumes from there.
pub(crate) struct Rebuilder {
    projections: Projections,
    generation: GenerationHandle,
    journal: SharedJournal,
    origin: Origin,
    worker: Worker,
    progress: Arc<watch::Sender<Progress>>,
    cancelled: CancellationToken,
}

/// State in memory and connection of a rebuild in progress.
struct RebuildSession {
    state: ProjectionState,
    connection: PgConnection,
}

impl Rebuilder {
    pub(crate) fn new(
        projections: &Projections,
        number: i32,
        journal: SharedJournal,
        origin: Origin,
        worker: Worker,
        cancelled: CancellationToken,
    ) -> Self {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let generation = GenerationHandle::new(projections, number);
        Self { projections: projections.clone(), generation, journal, origin, worker, progress, cancelled }
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Builds the generation, compares it with the live one, if any, and switches. Returns `None` if there is no live
    /// one; with [`RebuildMode::Compare`] nothing is built then.
    pub(crate) async fn run(&self, mode: RebuildMode) -> Result<Option<Comparison>, RebuildFailure> {
        // On the heap: in an unoptimised program, the futures of a rebuild do not fit on the stack of a thread.
        match Box::pin(self.rebuild(mode)).await {
            // A process that was killed after its comparison built this generation beyond the live one. The two cannot
            // be compared at one position, so it is built again up to the live one's position.
            Err(RebuildFailure::AheadOfLive { .. }) => {
                with_timeout(STEP_TIMEOUT, self.discard()).await?;
                Box::pin(self.rebuild(mode)).await
            }
            done => done,
        }
    }

    async fn rebuild(&self, mode: RebuildMode) -> Result<Option<Comparison>, RebuildFailure> {
        let live = with_timeout(STEP_TIMEOUT, self.live_number()).await?;
        if mode == RebuildMode::Compare && live.is_none() {
            return Ok(None);
        }
        let mut session = with_timeout(STEP_TIMEOUT, self.prepare()).await?;
        let mut compared = None;
        if let Some(live) = live.filter(|_| mode != RebuildMode::ForceSwitch) {
            session = self.catch_up_with_live(session, live).await?;
            create_deferred_indexes(&mut session).await?;
            let result = self.compare(session, live, mode).await?;
            session = result.0;
            compared = Some(result.1);
        }
        if mode == RebuildMode::Compare {
            close(session.connection).await;
            return Ok(compared);
        }
        session = self.catch_up_with_head(session).await?;
        create_deferred_indexes(&mut session).await?;
        loop {
            session = self.catch_up_with_head(session).await?;
            match with_timeout(STEP_TIMEOUT, self.switch(session, mode)).await? {
                None => break,
                Some(behind) => session = behind,
            }
        }
        info!(tenant = %self.projections.tenant, generation = self.generation.number, "activated generation");
        Ok(compared)
    }

    /// Creates the tables, or resumes an interrupted build. Discards tables that were built from another stream: they
    /// have never answered queries.
    async fn prepare(&self) -> Result<RebuildSession, RebuildFailure> {
        let schema = self.projections.schema(self.generation.number);
        self.projections.database().migrate_generation(&schema).await?;
        let mut session = self.load().await?;
        match check_continuity(self.journal.as_ref(), &session.state.checkpoint).await? {
            Continuity::Intact => {}
            Continuity::Unconfirmed(divergence) => {
                return Err(RebuildFailure::Failed(divergence.to_string()));
            }
            Continuity::Diverged(_) => {
                close(session.connection).await;
                self.discard().await?;
                self.projections.database().migrate_generation(&schema).await?;
                session = self.load().await?;
            }
        }
        let is_large = self.journal.head().await?.position.get() > DEFERRED_INDEX_THRESHOLD;
        if session.state.checkpoint.position == Position::START && is_large {
            let mut transaction = session.connection.begin().await?;
            // If this process was paused before, another one may have built the generation and made it live.
            self.lock_states(&mut transaction).await?;
            if self.lock_position(&mut transaction, self.generation.number).await? == Position::START {
                indexes::defer(&mut transaction).await?;
            }
            transaction.commit().await?;
        }
        Ok(session)
    }

    /// Drops the generation's tables.
    async fn discard(&self) -> Result<(), RebuildFailure> {
        let mut connection = self.projections.database().connect().await?;
        let mut transaction = connection.begin().await?;
        self.lock_states(&mut transaction).await?;
        drop_schema(&mut transaction, &self.projections.schema(self.generation.number)).await?;
        transaction.commit().await?;
        close(connection).await;
        Ok(())
    }

    async fn load(&self) -> Result<RebuildSession, ProjectionError> {
        let mut connection = self.generation.connect().await?;
        let load = async { Ok(ProjectionState::load(&mut connection).await?) };
        let state = with_step_timeout(load).await?;
        Ok(RebuildSession { state, connection })
    }

    /// Returns the number of the live generation.
    async fn live_number(&self) -> Result<Option<i32>, RebuildFailure> {
        let mut connection = self.projections.database().connect().await?;
        let mut transaction = connection.begin().await?;
        let live = self.lock_states(&mut transaction).await?;
        transaction.commit().await?;
        close(connection).await;
        Ok(live)
    }

    /// Locks the states of the generations until the transaction ends, and returns the number of the live one. Fails if
    /// this process no longer builds its generation.
    async fn lock_states(&self, transaction: &mut PgConnection) -> Result<Option<i32>, RebuildFailure> {
        let locked = self.worker.lock(transaction, &self.projections.tenant).await?;
        let number = self.generation.number;
        match locked.building {
            Some((building, true)) if building == number => Ok(locked.live),
            Some((building, false)) if building == number => {
                Err(RebuildFailure::Failed(format!("another process now builds generation {number}")))
            }
            _ => Err(RebuildFailure::Failed(format!("generation {number} is no longer being built"))),
        }
    }

    /// Applies entries up to the position of the live generation.
    async fn catch_up_with_live(
        &self,
        mut session: RebuildSession,
        live: i32,
    ) -> Result<RebuildSession, RebuildFailure> {
        let live = GenerationHandle::new(&self.projections, live);
        let mut connection = live.connect().await?;
        let checkpoint = with_timeout(STEP_TIMEOUT, live_checkpoint(&mut connection)).await?;
        if self.origin == Origin::Events
            && let Continuity::Diverged(reason) = check_continuity(self.journal.as_ref(), &checkpoint).await?
        {
            return Err(RebuildFailure::HistoryDiffers(format!(
                "the copy belongs to another stream: {reason}"
            )));
        }
        let mut to = checkpoint.position;
        loop {
            let lag = to.get().saturating_sub(session.state.checkpoint.position.get());
            if lag == 0 {
                break;
            }
            let copy = (self.origin == Origin::Events).then_some(&live);
            session = match self.project_exactly_to(session, to, copy).await {
                Ok(session) => session,
                Err(failure) => return Err(self.refine(failure, &checkpoint).await),
            };
            if lag < MAX_SWITCH_LAG {
                break;
            }
            let read = async { Ok(checkpoint::read(&mut connection).await?.position) };
            to = with_timeout(STEP_TIMEOUT, read).await?;
        }
        close(connection).await;
        Ok(session)
    }

    /// Replaces [`RebuildFailure::StreamTooShort`] if the reason is that the stream is not the live generation's.
    async fn refine(&self, failure: RebuildFailure, live: &Checkpoint) -> RebuildFailure {
        let RebuildFailure::StreamTooShort { .. } = failure else { return failure };
        match check_continuity(self.journal.as_ref(), live).await {
            Ok(Continuity::Diverged(reason)) => {
                RebuildFailure::HistoryDiffers(format!("{failure}: {reason}"))
            }
            Ok(_) => failure,
            Err(error) => error.into(),
        }
    }

    async fn catch_up_with_head(
        &self,
        mut session: RebuildSession,
    ) -> Result<RebuildSession, RebuildFailure> {
        loop {
            let head = self.journal.head().await?.position;
            let lag = head.get().saturating_sub(session.state.checkpoint.position.get());
            if lag > 0 {
                session = self.project_exactly_to(session, head, None).await?;
            }
            if lag < MAX_SWITCH_LAG {
                return Ok(session);
            }
        }
    }

    /// Applies entries up to a position that is known to exist, from the copy in a generation or else from the stream.
    /// Fails if the source ends before.
    async fn project_exactly_to(
        &self,
        session: RebuildSession,
        to: Position,
        copy: Option<&GenerationHandle>,
    ) -> Result<RebuildSession, RebuildFailure> {
        let session = self.project(session, to, copy).await?;
        let end = session.state.checkpoint.position;
        if end == to {
            return Ok(session);
        }
        Err(match copy {
            Some(_) => RebuildFailure::Failed(format!(
                "the copy ends at {end}, but its projections are at {to}; rebuild from the stream"
            )),
            None => RebuildFailure::StreamTooShort { end, expected: to },
        })
    }

    async fn project(
        &self,
        mut session: RebuildSession,
        to: Position,
        copy: Option<&GenerationHandle>,
    ) -> Result<RebuildSession, RebuildFailure> {
        let stream_created = stream_created_at(self.journal.as_ref(), &session.state.checkpoint).await?;
        let mut check_duplicates = false;
        loop {
            let after = session.state.checkpoint.position;
            let records = match copy {
                Some(copy) => copy::read(copy.clone(), after, to),
                None => {
                    let history = session.state.checkpoint.history();
                    let history = history.unwrap_or_else(|| KnownHistory::new(stream_created));
                    self.journal.read_after(history, Until::Position(to))
                }
            };
            let source = Source { records, stream_created, identities: None };
            let RebuildSession { state, connection } = session;
            let projecting =
                pipeline::run(&self.generation, connection, state, source, check_duplicates, &self.cancelled);
            match self.report_progress(to, projecting).await {
                Ok((state, connection)) => return Ok(RebuildSession { state, connection }),
                Err(ProjectionError::Duplicate) => {
                    check_duplicates = true;
                    session = self.load().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Publishes the progress until a future completes.
    async fn report_progress<T>(&self, head: Position, projecting: impl Future<Output = T>) -> T {
        tokio::pin!(projecting);
        loop {
            tokio::select! {
                done = &mut projecting => return done,
                () = tokio::time::sleep(PROGRESS_INTERVAL) => {
                    let position = *self.generation.written.borrow();
                    self.progress.send_replace(Progress { position, head });
                    self.generation.set_status(ProjectorStatus::Building(position));
                }
            }
        }
    }

    /// Compares both generations at one position: a snapshot of the live one, and the new one, which stays at the
    /// snapshot's position until the comparison ends.
    async fn compare(
        &self,
        mut session: RebuildSession,
        live: i32,
        mode: RebuildMode,
    ) -> Result<(RebuildSession, Comparison), RebuildFailure> {
        let mut connection = GenerationHandle::new(&self.projections, live).connect().await?;
        // The snapshot stays idle until the new generation reaches its position.
        sqlx::query(SET_NO_IDLE_TIMEOUT).execute(&mut connection).await?;
        let mut polls = 0;
        let (mut snapshot, checkpoint) = loop {
            let (snapshot, checkpoint) = with_timeout(STEP_TIMEOUT, async {
                let mut snapshot = connection.begin_with(SNAPSHOT).await?;
                let checkpoint = live_checkpoint(&mut snapshot).await?;
                Ok((snapshot, checkpoint))
            })
            .await?;
            if checkpoint.position >= session.state.checkpoint.position {
                break (snapshot, checkpoint);
            }
            drop(snapshot);
            if polls == CATCH_UP_POLLS {
                close(session.connection).await;
                return Err(RebuildFailure::AheadOfLive {
                    live: checkpoint.position,
                    new: session.state.checkpoint.position,
                });
            }
            polls += 1;
            tokio::time::sleep(CATCH_UP_POLL_INTERVAL).await;
        };
        session = match self.project_exactly_to(session, checkpoint.position, None).await {
            Ok(session) => session,
            Err(failure) => return Err(self.refine(failure, &checkpoint).await),
        };
        let (live_root, new_root) = (checkpoint.root, session.state.checkpoint.root);
        if live_root != new_root && mode == RebuildMode::Switch {
            return Err(RebuildFailure::HistoryDiffers(format!(
                "at position {} the live projections have root {live_root}, but the new ones have {new_root}: \
                 the stream no longer holds the history of the live ones",
                checkpoint.position
            )));
        }
        let reading = async { Ok((digests(&mut snapshot).await?, digests(&mut session.connection).await?)) };
        let (live_digests, new_digests) = with_timeout(TABLE_SCAN_TIMEOUT, reading).await?;
        let tables: BTreeSet<&String> = live_digests.keys().chain(new_digests.keys()).collect();
        // A missing table counts as empty.
        let digest = |digests: &BTreeMap<_, _>, table| digests.get(table).cloned().unwrap_or_default();
        let both = tables
            .into_iter()
            .map(|table| (table, (digest(&live_digests, table), digest(&new_digests, table))));
        let different = both.filter(|(_, (live, new))| live != new);
        let different: BTreeMap<String, _> =
            different.map(|(table, digests)| (table.clone(), digests)).collect();
        let is_in_both =
            |table: &&String| live_digests.contains_key(*table) && new_digests.contains_key(*table);
        let first = match different.keys().find(is_in_both) {
            Some(table) => {
                let finding =
                    async { Ok(first_difference(&mut snapshot, &mut session.connection, table).await?) };
                with_timeout(TABLE_SCAN_TIMEOUT, finding).await?
            }
            None => None,
        };
        snapshot.rollback().await?;
        close(connection).await;
        Ok((session, Comparison { position: checkpoint.position, different, first }))
    }

    /// Makes the new generation live in one transaction: locks the live one at its position, and applies the missing
    /// entries to the new one. Returns the session as `Some` if the switch has to be tried again.
    async fn switch(
        &self,
        mut session: RebuildSession,
        mode: RebuildMode,
    ) -> Result<Option<RebuildSession>, RebuildFailure> {
        let tenant: &TenantName = &self.projections.tenant;
        let version = self.projections.database().schema_version.version;
        let mut connection = self.projections.database().connect().await?;
        let mut transaction = connection.begin().await?;
        let live = self.lock_states(&mut transaction).await?;
        // In a forced switch the live generation may be damaged or of another history: ignore its position.
        if let Some(live) = live.filter(|_| mode == RebuildMode::Switch) {
            let live_position = match self.lock_position(&mut transaction, live).await {
                Ok(position) => position,
                // Its projector is within a batch, and may be paused there.
                Err(error) if error.is_lock_timeout() => return Ok(Some(session)),
                Err(error) => return Err(error.into()),
            };
            let lag = live_position.get().saturating_sub(session.state.checkpoint.position.get());
            if lag > MAX_SWITCH_LAG {
                transaction.rollback().await?;
                return Ok(Some(session));
            }
            if lag > 0 {
                session = self.project_exactly_to(session, live_position, None).await?;
            }
        }
        let stored = self.lock_position(&mut transaction, self.generation.number).await?;
        if stored != session.state.checkpoint.position {
            return Err(ProjectionError::Fenced(stored).into());
        }
        if mode == RebuildMode::ForceSwitch {
            reset_followers(&mut transaction, tenant).await?;
        }
        switch(&mut transaction, tenant, version, live, self.generation.number).await?;
        transaction.commit().await?;
        close(connection).await;
        close(session.connection).await;
        self.projections.activate(self.generation.number);
        self.projections.set_divergence(None);
        self.projections.local_position.send_replace(session.state.checkpoint.position);
        Ok(None)
    }

    /// Returns the position of a generation, and keeps projectors from changing it until the transaction ends.
    async fn lock_position(&self, transaction: &mut PgConnection, number: i32) -> Result<Position, Error> {
        let schema = self.projections.schema(number);
        let query = AssertSqlSafe(format!("SELECT position FROM \"{schema}\".projection FOR UPDATE"));
        Ok(position(sqlx::query_scalar(query).fetch_one(transaction).await?))
    }
}

async fn create_deferred_indexes(session: &mut RebuildSession) -> Result<(), RebuildFailure> {
    let creating = async { Ok(indexes::create_deferred(&mut session.connection).await?) };
    with_timeout(TABLE_SCAN_TIMEOUT, creating).await
}

async fn with_timeout<T>(
    timeout: Duration,
    step: impl Future<Output = Result<T, RebuildFailure>>,
) -> Result<T, RebuildFailure> {
    pipeline::with_timeout(timeout, step).await
}

/// Reads the checkpoint of the live generation. Without one its history is unknown.
async fn live_checkpoint(connection: &mut PgConnection) -> Result<Checkpoint, RebuildFailure> {
    match checkpoint::read(connection).await {
        Err(error) if checkpoint::is_missing(&error) => {
            let cause = error_chain(&error);
            Err(RebuildFailure::HistoryDiffers(format!("the live projections have no checkpoint: {cause}")))
        }
        read => Ok(read?),
    }
}
