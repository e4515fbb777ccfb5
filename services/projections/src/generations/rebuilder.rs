//! Filling projections anew beside those that answer, and the switch to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ledger_domain::{Position, TenantName};
use ledger_journal::{ReadError, SharedJournal, SubjectFilter, Until};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Projections;
use crate::generations::digest::{TableDigest, digests, first_difference};
use crate::generations::indexes;
use crate::generations::registry::{Member, begin_again, drop_schema, switch};
use crate::postgres::{Error, SNAPSHOT, position};
use crate::projector::apply::Fold;
use crate::projector::checkpoint::{self, Checkpoint, Continuity, created, recognise};
use crate::projector::pipeline::{
    self, GenerationHandle, PATIENCE, ProjectionError, Source, close, patiently,
};
use crate::projector::{Status, Stopped};

/// How far behind new projections may be when those that answer are held for the switch.
const CLOSE: u64 = 2_000;
/// From this many entries on, indexes are made at the end.
const MANY: u64 = 20_000;
/// A step over all rows of large tables that takes longer has lost the database, as far as anybody can tell.
const LONG: Duration = Duration::from_secs(4 * 3_600);
/// How often the progress of a filling is told.
const TELL: Duration = Duration::from_millis(500);
/// How often it is looked whether projections that answer have caught up with those that are built, and how many times.
const CATCH_UP: (Duration, u32) = (Duration::from_millis(50), 100);

/// Where entries are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The stream.
    Stream,
    /// The copy in the projections that answer, as far as it goes, and then the stream.
    Events,
}

/// How far a filling is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// What is filled up to.
    pub position: Position,
    /// Where the stream ends.
    pub head: Position,
}

/// How new projections stand beside those that answer, at one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The position.
    pub position: Position,
    /// The tables that differ: what they hold in those that answer, and anew.
    pub different: BTreeMap<String, (TableDigest, TableDigest)>,
    /// In the first of these tables, the first row that only one has, by its text.
    pub first: Option<RowDifference>,
}

/// A row that only one of two tables has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// Whether it is in the projections that answer, or in the new ones.
    pub answers: bool,
    /// The table.
    pub table: String,
    /// The row, as Postgres writes it.
    pub text: String,
}

/// What is done with new projections when they are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RebuildMode {
    /// They answer, unless they were folded from another history.
    Switch,
    /// They answer, whatever is different.
    ForceSwitch,
    /// They are only compared.
    Compare,
}

/// Why new projections do not come to answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Folding ended.
    #[error("{0}")]
    Ended(String),
    /// A person is needed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// What those that answer were folded from is another history.
    #[error("{0}")]
    OtherHistory(String),
    /// The stream seems to lack what was folded; the server may only be behind.
    #[error("the stream ends at {at}, and was folded up to {to}")]
    Short {
        /// Where it ends.
        at: Position,
        /// Up to where it was folded.
        to: Position,
    },
    /// The new projections are ahead of those that answer, which do not move.
    #[error("the projections that answer are at {answering} and do not move, the new ones are at {new}")]
    Ahead {
        /// Where those that answer are.
        answering: Position,
        /// Where the new ones are.
        new: Position,
    },
}

impl From<ProjectionError> for Failure {
    fn from(ended: ProjectionError) -> Self {
        match ended {
            ProjectionError::Stopped(stopped) => Self::Stopped(stopped),
            ProjectionError::Failed(reason) | ProjectionError::Doubtful(reason) => Self::Ended(reason),
            ProjectionError::Repeated => Self::Ended("an identity is in the history already".into()),
            ProjectionError::Fenced(position) => {
                Self::Ended(format!("another process folds into the same projections, at {position}"))
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        ProjectionError::from(error).into()
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        ProjectionError::from(error).into()
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        ProjectionError::from(error).into()
    }
}

/// Fills one generation. Killed at any point, another one goes on where it was.
pub(crate) struct Rebuilder {
    projections: Projections,
    target: GenerationHandle,
    journal: SharedJournal,
    origin: Origin,
    me: Member,
    progress: Arc<watch::Sender<Progress>>,
    cancelled: CancellationToken,
}

/// What is held while a generation is filled.
struct RebuildSession {
    fold: Fold,
    connection: PgConnection,
}

impl Rebuilder {
    pub(crate) fn new(
        projections: &Projections,
        number: i32,
        journal: SharedJournal,
        origin: Origin,
        me: Member,
        cancelled: CancellationToken,
    ) -> Self {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let target = GenerationHandle::new(projections, number);
        Self { projections: projections.clone(), target, journal, origin, me, progress, cancelled }
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Fills the generation, compares it with the one that answers, if one does, and switches. `None` where there is
    /// nothing to compare with; then nothing is filled only to be compared.
    pub(crate) async fn run(&self, then: RebuildMode) -> Result<Option<Comparison>, Failure> {
        match self.fill(then).await {
            // Filled by somebody who was killed after they were compared. They cannot be compared any more where
            // the others are: so they are filled again, up to there.
            Err(Failure::Ahead { .. }) => {
                within(PATIENCE, self.throw_away()).await?;
                self.fill(then).await
            }
            done => done,
        }
    }

    async fn fill(&self, then: RebuildMode) -> Result<Option<Comparison>, Failure> {
        let live = within(PATIENCE, self.live()).await?;
        if then == RebuildMode::Compare && live.is_none() {
            return Ok(None);
        }
        let mut filling = within(PATIENCE, self.begin()).await?;
        let mut compared = None;
        if let Some(live) = live.filter(|_| then != RebuildMode::ForceSwitch) {
            filling = self.up_to_the_live_ones(filling, live).await?;
            finish(&mut filling).await?;
            let result = self.compare(filling, live, then).await?;
            filling = result.0;
            compared = Some(result.1);
        }
        if then == RebuildMode::Compare {
            close(filling.connection).await;
            return Ok(compared);
        }
        filling = self.up_to_the_head(filling).await?;
        finish(&mut filling).await?;
        loop {
            filling = self.up_to_the_head(filling).await?;
            match within(PATIENCE, self.switch(filling, then)).await? {
                None => break,
                Some(again) => filling = again,
            }
        }
        info!(tenant = %self.projections.tenant, generation = self.target.number, "new projections answer");
        Ok(compared)
    }

    /// Makes the tables, or takes up what was begun. What was filled from another stream is thrown away: nothing was
    /// ever answered from it.
    async fn begin(&self) -> Result<RebuildSession, Failure> {
        let schema = self.projections.schema(self.target.number);
        self.projections.database().migrate_generation(&schema).await?;
        let mut filling = self.load().await?;
        match recognise(self.journal.as_ref(), &filling.fold.checkpoint).await? {
            Continuity::Intact => {}
            Continuity::Unconfirmed(reason) => return Err(Failure::Ended(reason)),
            Continuity::Diverged(_) => {
                close(filling.connection).await;
                self.throw_away().await?;
                self.projections.database().migrate_generation(&schema).await?;
                filling = self.load().await?;
            }
        }
        let worth_it = self.journal.head().await?.position.get() > MANY;
        if filling.fold.checkpoint.position == Position::START && worth_it {
            let mut transaction = filling.connection.begin().await?;
            // Paused before this, it may have been filled by somebody else, and answer by now.
            self.held(&mut transaction).await?;
            if self.hold(&mut transaction, self.target.number).await? == Position::START {
                indexes::set_aside(&mut transaction).await?;
            }
            transaction.commit().await?;
        }
        Ok(filling)
    }

    /// Drops what was filled.
    async fn throw_away(&self) -> Result<(), Failure> {
        let mut connection = self.projections.database().connect().await?;
        let mut transaction = connection.begin().await?;
        self.held(&mut transaction).await?;
        drop_schema(&mut transaction, &self.projections.schema(self.target.number)).await?;
        transaction.commit().await?;
        close(connection).await;
        Ok(())
    }

    async fn load(&self) -> Result<RebuildSession, ProjectionError> {
        let mut connection = self.target.connect().await?;
        let fold = patiently(async { Ok(Fold::load(&mut connection).await?) }).await?;
        Ok(RebuildSession { fold, connection })
    }

    /// The generation that answers now.
    async fn live(&self) -> Result<Option<i32>, Failure> {
        let mut connection = self.projections.database().connect().await?;
        let mut transaction = connection.begin().await?;
        let live = self.held(&mut transaction).await?;
        transaction.commit().await?;
        close(connection).await;
        Ok(live)
    }

    /// The generation that answers: neither that nor that this process builds this one changes until the transaction
    /// ends.
    async fn held(&self, transaction: &mut PgConnection) -> Result<Option<i32>, Failure> {
        let locked = self.me.lock(transaction, &self.projections.tenant).await?;
        let number = self.target.number;
        match locked.building {
            Some((building, true)) if building == number => Ok(locked.live),
            Some((building, false)) if building == number => {
                Err(Failure::Ended(format!("another process fills generation {number} now")))
            }
            _ => Err(Failure::Ended(format!("generation {number} is built no longer"))),
        }
    }

    /// Folds what the generation that answers has.
    async fn up_to_the_live_ones(
        &self,
        mut filling: RebuildSession,
        live: i32,
    ) -> Result<RebuildSession, Failure> {
        let live = GenerationHandle::new(&self.projections, live);
        let mut connection = live.connect().await?;
        let checkpoint = within(PATIENCE, checkpoint(&mut connection)).await?;
        if self.origin == Origin::Events
            && let Continuity::Diverged(reason) = recognise(self.journal.as_ref(), &checkpoint).await?
        {
            return Err(Failure::OtherHistory(format!(
                "the copy is of another stream than this one: {reason}"
            )));
        }
        let mut to = checkpoint.position;
        loop {
            let behind = to.get().saturating_sub(filling.fold.checkpoint.position.get());
            if behind == 0 {
                break;
            }
            let copy = (self.origin == Origin::Events).then_some(&live);
            filling = match self.fold_up_to(filling, to, copy).await {
                Ok(filling) => filling,
                Err(short) => return Err(self.why(short, &checkpoint).await),
            };
            if behind < CLOSE {
                break;
            }
            to = within(PATIENCE, async { Ok(checkpoint::read(&mut connection).await?.position) }).await?;
        }
        close(connection).await;
        Ok(filling)
    }

    /// Whether a stream is short because it is another one than that of the projections that answer.
    async fn why(&self, failure: Failure, answering: &Checkpoint) -> Failure {
        let Failure::Short { .. } = failure else { return failure };
        match recognise(self.journal.as_ref(), answering).await {
            Ok(Continuity::Diverged(reason)) => Failure::OtherHistory(format!("{failure}: {reason}")),
            Ok(_) => failure,
            Err(error) => error.into(),
        }
    }

    async fn up_to_the_head(&self, mut filling: RebuildSession) -> Result<RebuildSession, Failure> {
        loop {
            let head = self.journal.head().await?.position;
            let behind = head.get().saturating_sub(filling.fold.checkpoint.position.get());
            if behind > 0 {
                filling = self.fold_up_to(filling, head, None).await?;
            }
            if behind < CLOSE {
                return Ok(filling);
            }
        }
    }

    /// Folds up to a position that is known to have been folded, from the copy in these projections, or else from the stream.
    async fn fold_up_to(
        &self,
        filling: RebuildSession,
        to: Position,
        copy: Option<&GenerationHandle>,
    ) -> Result<RebuildSession, Failure> {
        let filling = self.fold(filling, to, copy).await?;
        let at = filling.fold.checkpoint.position;
        if at == to {
            return Ok(filling);
        }
        Err(match copy {
            Some(_) => Failure::Ended(format!(
                "the copy ends at {at}, and the projections that it is beside are at {to}: fill them from the stream"
            )),
            None => Failure::Short { at, to },
        })
    }

    async fn fold(
        &self,
        mut filling: RebuildSession,
        to: Position,
        copy: Option<&GenerationHandle>,
    ) -> Result<RebuildSession, Failure> {
        let stream_created = created(self.journal.as_ref(), &filling.fold.checkpoint).await?;
        let mut check_duplicates = false;
        loop {
            let after = filling.fold.checkpoint.position;
            let records = match copy {
                Some(copy) => crate::generations::copy::read(copy.clone(), after, to),
                None => self.journal.read(SubjectFilter::All, after, Until::Position(to)),
            };
            let source = Source { records, stream_created };
            let RebuildSession { fold, connection } = filling;
            let folding =
                pipeline::run(&self.target, connection, fold, source, check_duplicates, &self.cancelled);
            match self.telling(to, folding).await {
                Ok((fold, connection)) => return Ok(RebuildSession { fold, connection }),
                Err(ProjectionError::Repeated) => {
                    check_duplicates = true;
                    filling = self.load().await?;
                }
                Err(ended) => return Err(ended.into()),
            }
        }
    }

    /// Tells the progress while something is awaited.
    async fn telling<T>(&self, head: Position, folding: impl Future<Output = T>) -> T {
        tokio::pin!(folding);
        loop {
            tokio::select! {
                done = &mut folding => return done,
                () = tokio::time::sleep(TELL) => {
                    let position = *self.target.written.borrow();
                    self.progress.send_replace(Progress { position, head });
                    self.target.tell(Status::Building(position));
                }
            }
        }
    }

    /// Compares what both hold at one position, at which the new projections are kept meanwhile.
    async fn compare(
        &self,
        mut filling: RebuildSession,
        live: i32,
        then: RebuildMode,
    ) -> Result<(RebuildSession, Comparison), Failure> {
        let mut connection = GenerationHandle::new(&self.projections, live).connect().await?;
        // The snapshot is read again when the new projections have come as far.
        sqlx::query("SET idle_in_transaction_session_timeout = 0").execute(&mut connection).await?;
        let mut looked = 0;
        let (mut old, checkpoint) = loop {
            let (snapshot, checkpoint) = within(PATIENCE, async {
                let mut snapshot = connection.begin_with(SNAPSHOT).await?;
                let checkpoint = checkpoint(&mut snapshot).await?;
                Ok((snapshot, checkpoint))
            })
            .await?;
            if checkpoint.position >= filling.fold.checkpoint.position {
                break (snapshot, checkpoint);
            }
            drop(snapshot);
            if looked == CATCH_UP.1 {
                close(filling.connection).await;
                return Err(Failure::Ahead {
                    answering: checkpoint.position,
                    new: filling.fold.checkpoint.position,
                });
            }
            looked += 1;
            tokio::time::sleep(CATCH_UP.0).await;
        };
        filling = match self.fold_up_to(filling, checkpoint.position, None).await {
            Ok(filling) => filling,
            Err(short) => return Err(self.why(short, &checkpoint).await),
        };
        let (before, after) = (checkpoint.root, filling.fold.checkpoint.root);
        if before != after && then == RebuildMode::Switch {
            return Err(Failure::OtherHistory(format!(
                "at {} the root of the projections that answer is {before}, that of the new ones {after}: the stream no longer holds what they were folded from",
                checkpoint.position
            )));
        }
        let reading = async { Ok((digests(&mut old).await?, digests(&mut filling.connection).await?)) };
        let (before, after) = within(LONG, reading).await?;
        let tables: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        // One that is not there holds nothing.
        let held = |digests: &BTreeMap<_, _>, table| digests.get(table).cloned().unwrap_or_default();
        let both = tables.into_iter().map(|table| (table, (held(&before, table), held(&after, table))));
        let different = both.filter(|(_, (before, after))| before != after);
        let different: BTreeMap<String, _> =
            different.map(|(table, digests)| (table.clone(), digests)).collect();
        let in_both = |table: &&String| before.contains_key(*table) && after.contains_key(*table);
        let first = match different.keys().find(in_both) {
            Some(table) => {
                let finding = async { Ok(first_difference(&mut old, &mut filling.connection, table).await?) };
                within(LONG, finding).await?
            }
            None => None,
        };
        old.rollback().await?;
        close(connection).await;
        Ok((filling, Comparison { position: checkpoint.position, different, first }))
    }

    /// Lets the new projections answer, in one transaction: those that answered are held where they are, and the new
    /// ones come as far. `Some` where that cannot be done at once.
    async fn switch(
        &self,
        mut filling: RebuildSession,
        then: RebuildMode,
    ) -> Result<Option<RebuildSession>, Failure> {
        let tenant: &TenantName = &self.projections.tenant;
        let version = self.projections.database().schema_version.version;
        let mut connection = self.projections.database().connect().await?;
        let mut transaction = connection.begin().await?;
        let live = self.held(&mut transaction).await?;
        // Of another history, or damaged, the old ones say nothing of how far the new ones are to come.
        if let Some(live) = live.filter(|_| then == RebuildMode::Switch) {
            let held = match self.hold(&mut transaction, live).await {
                Ok(held) => held,
                // Its projector is in the middle of a batch, and may be paused there.
                Err(error) if error.is_lock_timeout() => return Ok(Some(filling)),
                Err(error) => return Err(error.into()),
            };
            let behind = held.get().saturating_sub(filling.fold.checkpoint.position.get());
            if behind > CLOSE {
                transaction.rollback().await?;
                return Ok(Some(filling));
            }
            if behind > 0 {
                filling = self.fold_up_to(filling, held, None).await?;
            }
        }
        let (at, ours) =
            (self.hold(&mut transaction, self.target.number).await?, filling.fold.checkpoint.position);
        if at != ours {
            return Err(ProjectionError::Fenced(at).into());
        }
        if then == RebuildMode::ForceSwitch {
            begin_again(&mut transaction, tenant).await?;
        }
        switch(&mut transaction, tenant, version, live, self.target.number).await?;
        transaction.commit().await?;
        close(connection).await;
        close(filling.connection).await;
        self.projections.activate(self.target.number);
        self.projections.divergence.send_replace(None);
        self.projections.local.send_replace(filling.fold.checkpoint.position);
        Ok(None)
    }

    /// Where a generation stands; nobody folds into it until the transaction ends.
    async fn hold(&self, transaction: &mut PgConnection, number: i32) -> Result<Position, Error> {
        let schema = self.projections.schema(number);
        let held = AssertSqlSafe(format!("SELECT position FROM \"{schema}\".projection FOR UPDATE"));
        Ok(position(sqlx::query_scalar(held).fetch_one(transaction).await?))
    }
}

/// Makes the indexes that were set aside.
async fn finish(filling: &mut RebuildSession) -> Result<(), Failure> {
    within(LONG, async { Ok(indexes::finish(&mut filling.connection).await?) }).await
}

async fn within<T>(patience: Duration, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    pipeline::within(patience, step).await
}

/// Where the projections that answer stand, if they are whole enough to say so.
async fn checkpoint(connection: &mut PgConnection) -> Result<Checkpoint, Failure> {
    match checkpoint::read(connection).await {
        Err(error)
            if error.is_without_table() || matches!(error, Error::Database(sqlx::Error::RowNotFound)) =>
        {
            Err(Failure::OtherHistory(format!(
                "the projections that answer do not say what they were folded from: {}",
                error.told()
            )))
        }
        read => Ok(read?),
    }
}
