//! Filling views anew beside those that answer, and the switch to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ledger_domain::{Position, TenantName};
use ledger_journal::{ReadError, Scope, SharedJournal, Until};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Views;
use crate::database::{Error, SNAPSHOT, position};
use crate::digest::{TableDigest, digests, first_difference};
use crate::fold::Fold;
use crate::indexes;
use crate::pipeline::{self, Ended, Source, Target, close, patiently};
use crate::projection::{self, Recognised, recognise};
use crate::projector::{Status, Stopped};
use crate::registry::{lock, switch};

/// How far behind new views may be when those that answer are held for the switch.
const CLOSE: u64 = 2_000;
/// From this many entries on, indexes are made at the end.
const MANY: u64 = 20_000;
/// How often the progress of a filling is told.
const TELL: Duration = Duration::from_millis(500);
/// How often it is looked whether views that answer have caught up with those that are built, and how often.
const CATCH_UP: (Duration, u32) = (Duration::from_millis(50), 100);

/// Where entries are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The stream.
    Stream,
    /// The copy in the views that answer, as far as it goes, and then the stream.
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

/// How new views stand beside those that answer, at one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The position.
    pub position: Position,
    /// The tables that differ: what they hold in those that answer, and anew.
    pub different: BTreeMap<String, (TableDigest, TableDigest)>,
    /// In the first of these tables, the first row that only one has, by its text.
    pub first: Option<LoneRow>,
}

/// A row that only one of two tables has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoneRow {
    /// Whether it is in the views that answer, or in the new ones.
    pub answers: bool,
    /// The table.
    pub table: String,
    /// The row, as Postgres writes it.
    pub text: String,
}

/// What is done with new views when they are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// They answer, unless they were folded from another history.
    Switch,
    /// They answer, whatever is different.
    SwitchAnyhow,
    /// They are only compared.
    Compare,
}

/// Why new views do not come to answer.
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
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Stopped(stopped) => Self::Stopped(stopped),
            Ended::Failed(reason) | Ended::Doubtful(reason) => Self::Ended(reason),
            Ended::Repeated => Self::Ended("an identity is in the history already".into()),
            Ended::Fenced(position) => {
                Self::Ended(format!("another process folds into the same views, at {position}"))
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Ended::from(error).into()
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Ended::from(error).into()
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Ended::from(error).into()
    }
}

/// Fills one generation. Killed at any point, another one goes on where it was.
pub(crate) struct Builder {
    views: Views,
    target: Target,
    journal: SharedJournal,
    origin: Origin,
    progress: Arc<watch::Sender<Progress>>,
    cancelled: CancellationToken,
}

/// What is held while a generation is filled.
struct Filling {
    fold: Fold,
    connection: PgConnection,
}

impl Builder {
    pub(crate) fn new(
        views: &Views,
        number: i32,
        journal: SharedJournal,
        origin: Origin,
        cancelled: CancellationToken,
    ) -> Self {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let target = Target::new(views, number);
        Self { views: views.clone(), target, journal, origin, progress, cancelled }
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Fills the generation, compares it with the one that answers, if one does, and switches.
    pub(crate) async fn run(&self, then: Then) -> Result<Option<Comparison>, Failure> {
        let mut filling = self.begin().await?;
        let mut compared = None;
        if let Some(live) = self.live().await?.filter(|_| then != Then::SwitchAnyhow) {
            filling = self.up_to_the_live_ones(filling, live).await?;
            indexes::finish(&mut filling.connection).await?;
            let result = self.compare(filling, live, then).await?;
            filling = result.0;
            compared = Some(result.1);
        }
        if then == Then::Compare {
            close(filling.connection).await;
            return Ok(compared);
        }
        filling = self.up_to_the_head(filling).await?;
        indexes::finish(&mut filling.connection).await?;
        loop {
            filling = self.up_to_the_head(filling).await?;
            match self.switch(filling, then).await? {
                None => break,
                Some(again) => filling = again,
            }
        }
        info!(tenant = %self.views.tenant, generation = self.target.number, "new views answer");
        Ok(compared)
    }

    /// Makes the tables, or takes up what was begun. What was filled from another stream is thrown away: nothing was
    /// ever answered from it.
    async fn begin(&self) -> Result<Filling, Failure> {
        let schema = self.views.schema(self.target.number);
        self.views.database().migrate_generation(&schema).await?;
        let mut filling = self.load().await?;
        match recognise(self.journal.as_ref(), &filling.fold.standing).await? {
            Recognised::Same => {}
            Recognised::Doubtful(reason) => return Err(Failure::Ended(reason)),
            Recognised::Other(_) => {
                let drop = AssertSqlSafe(format!("DROP SCHEMA \"{schema}\" CASCADE"));
                sqlx::query(drop).execute(&mut filling.connection).await?;
                self.views.database().migrate_generation(&schema).await?;
                filling = self.load().await?;
            }
        }
        let worth_it = self.journal.head().await?.position.get() > MANY;
        if filling.fold.standing.position == Position::START && worth_it {
            indexes::set_aside(&mut filling.connection).await?;
        }
        Ok(filling)
    }

    async fn load(&self) -> Result<Filling, Ended> {
        let mut connection = self.target.connect().await?;
        let fold = patiently(async { Ok(Fold::load(&mut connection).await?) }).await?;
        Ok(Filling { fold, connection })
    }

    /// The generation that answers now.
    async fn live(&self) -> Result<Option<i32>, Failure> {
        let mut connection = self.views.database().connect().await?;
        let mut transaction = connection.begin().await?;
        let live = self.held(&mut transaction).await?;
        transaction.commit().await?;
        close(connection).await;
        Ok(live)
    }

    /// The generation that answers: neither that nor that this one is built changes until the transaction ends.
    async fn held(&self, transaction: &mut PgConnection) -> Result<Option<i32>, Failure> {
        let (building, live) =
            lock(transaction, &self.views.tenant, self.views.database().form.version).await?;
        if building != Some(self.target.number) {
            return Err(Failure::Ended(format!("generation {} is built no longer", self.target.number)));
        }
        Ok(live)
    }

    /// Folds what the generation that answers has.
    async fn up_to_the_live_ones(&self, mut filling: Filling, live: i32) -> Result<Filling, Failure> {
        let live = Target::new(&self.views, live);
        let mut connection = live.connect().await?;
        loop {
            let standing = projection::read(&mut connection).await?.position;
            let behind = standing.get().saturating_sub(filling.fold.standing.position.get());
            if behind == 0 {
                break;
            }
            filling = match self.origin {
                Origin::Stream => self.fold_up_to(filling, standing).await?,
                Origin::Events => self.fold(filling, standing, Some(&live)).await?,
            };
            if behind < CLOSE {
                break;
            }
        }
        close(connection).await;
        Ok(filling)
    }

    async fn up_to_the_head(&self, mut filling: Filling) -> Result<Filling, Failure> {
        loop {
            let head = self.journal.head().await?.position;
            let behind = head.get().saturating_sub(filling.fold.standing.position.get());
            if behind > 0 {
                filling = self.fold_up_to(filling, head).await?;
            }
            if behind < CLOSE {
                return Ok(filling);
            }
        }
    }

    async fn fold_up_to(&self, filling: Filling, to: Position) -> Result<Filling, Failure> {
        let from = filling.fold.standing.position;
        let filling = self.fold(filling, to, None).await?;
        if filling.fold.standing.position < to {
            let at = filling.fold.standing.position;
            return Err(Failure::Ended(format!(
                "the stream ends at {at}, and was to be read from {from} to {to}"
            )));
        }
        Ok(filling)
    }

    /// Folds up to a position: from the copy in these views, or else from the stream.
    async fn fold(
        &self,
        mut filling: Filling,
        to: Position,
        copy: Option<&Target>,
    ) -> Result<Filling, Failure> {
        let stream_created = self.journal.head().await?.created;
        let mut careful = false;
        loop {
            let after = filling.fold.standing.position;
            let records = match copy {
                Some(copy) => crate::copy::read(copy.clone(), after, to),
                None => self.journal.read(Scope::All, after, Until::Position(to)),
            };
            let source = Source { records, stream_created };
            let Filling { fold, connection } = filling;
            let folding = pipeline::run(&self.target, connection, fold, source, careful, &self.cancelled);
            match self.telling(to, folding).await {
                Ok((fold, connection)) => return Ok(Filling { fold, connection }),
                Err(Ended::Repeated) => {
                    careful = true;
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

    /// Compares what both hold at one position, at which the new views are kept meanwhile.
    async fn compare(
        &self,
        mut filling: Filling,
        live: i32,
        then: Then,
    ) -> Result<(Filling, Comparison), Failure> {
        let live = Target::new(&self.views, live);
        let mut connection = live.connect().await?;
        let mut looked = 0;
        let (mut old, standing) = loop {
            let mut snapshot = connection.begin_with(SNAPSHOT).await?;
            let standing = projection::read(&mut snapshot).await?;
            if standing.position >= filling.fold.standing.position {
                break (snapshot, standing);
            }
            // Killed after it was compared, it may be ahead.
            drop(snapshot);
            if looked == CATCH_UP.1 {
                return Err(Failure::OtherHistory(format!(
                    "the views that answer are at {} and do not move, the new ones are at {}: they cannot be compared",
                    standing.position, filling.fold.standing.position
                )));
            }
            looked += 1;
            tokio::time::sleep(CATCH_UP.0).await;
        };
        filling = match self.fold_up_to(filling, standing.position).await {
            Ok(filling) => filling,
            Err(Failure::Ended(reason)) => return Err(Failure::OtherHistory(reason)),
            Err(failure) => return Err(failure),
        };
        let (before, after) = (standing.root, filling.fold.standing.root);
        if before != after && then == Then::Switch {
            return Err(Failure::OtherHistory(format!(
                "at {} the root of the views that answer is {before}, that of the new ones {after}: the stream no longer holds what they were folded from",
                standing.position
            )));
        }
        let before = digests(&mut old).await?;
        let after = digests(&mut filling.connection).await?;
        // Both have the tables of one form.
        let both = before.into_iter().zip(after.into_values());
        let different = both.filter(|((_, before), after)| before != after);
        let different: BTreeMap<_, _> =
            different.map(|((table, before), after)| (table, (before, after))).collect();
        let first = match different.keys().next() {
            Some(table) => first_difference(&mut old, &mut filling.connection, table).await?,
            None => None,
        };
        old.rollback().await?;
        close(connection).await;
        Ok((filling, Comparison { position: standing.position, different, first }))
    }

    /// Lets the new views answer, in one transaction: those that answered are held where they are, and the new
    /// ones come as far. `Some` where they are too far behind for that.
    async fn switch(&self, mut filling: Filling, then: Then) -> Result<Option<Filling>, Failure> {
        let tenant: &TenantName = &self.views.tenant;
        let version = self.views.database().form.version;
        let mut connection = self.views.database().connect().await?;
        let mut transaction = connection.begin().await?;
        let live = self.held(&mut transaction).await?;
        if let Some(live) = live {
            let held = AssertSqlSafe(format!(
                "SELECT position FROM \"{}\".projection FOR UPDATE",
                self.views.schema(live)
            ));
            let held: i64 = sqlx::query_scalar(held).fetch_one(&mut *transaction).await?;
            let behind = position(held).get().saturating_sub(filling.fold.standing.position.get());
            // Of another history, the old ones can be ahead for ever.
            let behind = if then == Then::SwitchAnyhow { 0 } else { behind };
            if behind > CLOSE {
                transaction.rollback().await?;
                return Ok(Some(filling));
            }
            if behind > 0 {
                filling = self.fold_up_to(filling, position(held)).await?;
            }
        }
        switch(&mut transaction, tenant, version, live, self.target.number).await?;
        transaction.commit().await?;
        close(connection).await;
        close(filling.connection).await;
        self.views.answer_from(self.target.number);
        self.views.divergence.send_replace(None);
        self.views.local.send_replace(filling.fold.standing.position);
        Ok(None)
    }
}
