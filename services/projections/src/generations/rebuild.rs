//! Filling projections anew as an operator asks for it, while the service answers from those that are there.

use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::SharedJournal;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::generations::rebuilder::{Comparison, Failure, Origin, Progress, RebuildMode, Rebuilder};
use crate::generations::registry::{LEASE, Member, State, next_number, schema};
use crate::postgres::{Database, Error, position};
use crate::projector::pipeline::{PATIENCE, close};
use crate::{Projections, Settings};

/// How long somebody is waited for who reads what is dropped; the database's own workers do, and yield after a second.
const DROP_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const STATEMENTS: &[&str] = &[LIST, SIZE];

const LIST: &str = "SELECT tenant, version, number, state,
        coalesce(owned_until >= clock_timestamp(), false) AS owned
    FROM release_ledger.generations ORDER BY tenant, version, number";

/// Of all tables of a schema with their indexes; null if it has none.
const SIZE: &str = "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'
        AND EXISTS (SELECT FROM pg_class p WHERE p.relnamespace = n.oid AND p.relname = 'projection')";

/// Why projections are not filled anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The registry cannot be asked.
    #[error(transparent)]
    Projections(#[from] Error),
    /// There is one filling at a time.
    #[error("the projections of {0} are being filled by another process already")]
    UnderWay(String),
    /// What those that answer were folded from is not what the stream holds.
    #[error("{0}")]
    OtherHistory(String),
    /// It did not come to its end; asked again, it goes on where it was.
    #[error("{0}")]
    Failed(String),
}

impl From<Failure> for RebuildError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OtherHistory(reason) => Self::OtherHistory(reason),
            failure => Self::Failed(failure.to_string()),
        }
    }
}

/// A filling of one tenant's projections.
pub struct Rebuild {
    projections: Projections,
    me: Member,
    number: i32,
    builder: Rebuilder,
    connection: PgConnection,
}

impl Rebuild {
    /// Begins a filling, or takes one up that did not come to its end. `member` is a name that no other process
    /// has.
    ///
    /// # Errors
    /// Another process fills the tenant's projections, or the database does not answer.
    pub async fn begin(
        projections: Projections,
        journal: SharedJournal,
        member: Uuid,
        origin: Origin,
        cancelled: CancellationToken,
    ) -> Result<Self, RebuildError> {
        let tenant = projections.tenant.to_string();
        let me = Member { id: member, version: projections.database().schema_version.version };
        projections.database().migrate_registry().await?;
        let mut connection = projections.database().connect().await?;
        let under_way = || RebuildError::UnderWay(tenant.clone());
        let known = me.look(&mut connection, std::slice::from_ref(&tenant), Duration::ZERO).await?;
        let number = match known.iter().find(|it| it.state == State::Building) {
            Some(building) => building.number,
            None => {
                let number = next_number(&known);
                if !me.begin(&mut connection, &projections.tenant, number).await? {
                    return Err(under_way());
                }
                number
            }
        };
        if !me.acquire(&mut connection, &tenant, number, State::Building).await? {
            return Err(under_way());
        }
        let builder = Rebuilder::new(&projections, number, journal, origin, me, cancelled);
        Ok(Self { projections, me, number, builder, connection })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.builder.progress()
    }

    /// Fills the projections, compares them with those that answer, and has them answer instead. Where the stream does
    /// not hold what those were folded from, it is refused, unless `force` is said.
    ///
    /// # Errors
    /// See [`RebuildError`].
    pub async fn switch(self, force: bool) -> Result<Option<Comparison>, RebuildError> {
        let then = if force { RebuildMode::ForceSwitch } else { RebuildMode::Switch };
        self.run(then).await
    }

    /// Fills the projections, compares them with those that answer, and drops them.
    ///
    /// # Errors
    /// No projections answer; and see [`RebuildError`].
    pub async fn compare(self) -> Result<Comparison, RebuildError> {
        let compared = self.run(RebuildMode::Compare).await?;
        compared.ok_or_else(|| {
            RebuildError::Failed("no projections answer that new ones could be compared with".into())
        })
    }

    async fn run(mut self, then: RebuildMode) -> Result<Option<Comparison>, RebuildError> {
        let (tenant, number) = (self.projections.tenant.to_string(), self.number);
        // Both are polled side by side: the switch holds the row that is renewed, and must not wait for that.
        let done = tokio::select! {
            done = self.builder.run(then) => done,
            lost = renewing(self.me, &mut self.connection, (tenant.clone(), number)) => return Err(lost),
        };
        // What was only compared, or refused, is of no use to anybody.
        let useless = match &done {
            Ok(compared) => then == RebuildMode::Compare && compared.is_some(),
            Err(failure) => matches!(failure, Failure::OtherHistory(_)),
        };
        if useless {
            let generation = (tenant.as_str(), self.me.version, number);
            if let Err(error) = self.me.drop(&mut self.connection, generation, DROP_LOCK_TIMEOUT).await {
                // The next filling takes it up.
                warn!(tenant, number, error = error.told(), "what was filled is not dropped");
            }
        }
        // Unsaid, it lapses.
        let _ = self.me.release(&mut self.connection, &tenant, number).await;
        close(self.connection).await;
        Ok(done?)
    }
}

/// Says again and again that this process fills a generation, until it does not.
async fn renewing(me: Member, connection: &mut PgConnection, filled: (String, i32)) -> RebuildError {
    loop {
        tokio::time::sleep(LEASE / 5).await;
        match tokio::time::timeout(PATIENCE, me.renew(connection, std::slice::from_ref(&filled))).await {
            Ok(Ok(owned)) if owned.contains(&filled) => {}
            // It was paused for so long that another process took it up.
            Ok(Ok(_)) => return RebuildError::UnderWay(filled.0),
            Ok(Err(error)) => return error.into(),
            Err(_) => {
                return RebuildError::Failed(format!("the database does not answer within {PATIENCE:?}"));
            }
        }
    }
}

/// A generation of a tenant's projections, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationRow {
    /// Whose projections.
    pub tenant: String,
    /// The version of their form.
    pub version: i32,
    /// Its number.
    pub number: i32,
    /// `building`, `live` or `retired`.
    pub state: String,
    /// Whether a process folds into it.
    pub owned: bool,
    /// Up to where it is folded, if its tables are there.
    pub position: Option<Position>,
    /// How many bytes it takes.
    pub bytes: u64,
}

/// Every generation in a database, of every tenant and form.
///
/// # Errors
/// The database does not answer.
pub async fn generations(settings: &Settings) -> Result<Vec<GenerationRow>, Error> {
    let database = Database::of(settings)?;
    database.migrate_registry().await?;
    let mut connection = database.connect().await?;
    type Row = (String, i32, i32, String, bool);
    let rows: Vec<Row> = sqlx::query_as(LIST).fetch_all(&mut connection).await?;
    let mut generations = Vec::new();
    for (tenant, version, number, state, owned) in rows {
        let schema = schema(&tenant, version, number);
        let bytes: Option<i64> = sqlx::query_scalar(SIZE).bind(&schema).fetch_one(&mut connection).await?;
        // Its tables may not be made yet.
        let checkpoint = AssertSqlSafe(format!("SELECT position FROM \"{schema}\".projection"));
        let checkpoint: Option<i64> = match bytes {
            Some(_) => sqlx::query_scalar(checkpoint).fetch_optional(&mut connection).await?,
            None => None,
        };
        let bytes = bytes.unwrap_or(0).cast_unsigned();
        let position = checkpoint.map(position);
        generations.push(GenerationRow { tenant, version, number, state, owned, position, bytes });
    }
    close(connection).await;
    Ok(generations)
}
