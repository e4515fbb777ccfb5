//! Rebuilds that an operator starts, while the live projections answer queries; and the list of generations.

use std::time::Duration;

use ledger_domain::{Position, error_chain};
use ledger_journal::SharedJournal;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::generations::rebuilder::{Comparison, Origin, Progress, RebuildFailure, RebuildMode, Rebuilder};
use crate::generations::registry::{GenerationState, LEASE, Worker, next_number};
use crate::postgres::{Database, Error, Projections, Settings, position, schema_name};
use crate::projector::pipeline::{STEP_TIMEOUT, close};
use crate::sql::sql;

/// Longest wait for readers of a generation that is dropped. Autovacuum is one of them, and yields after a second.
const DROP_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A failure of a rebuild.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The generation registry is unavailable.
    #[error(transparent)]
    Projections(#[from] Error),
    /// Another process rebuilds the tenant's projections. Only one may at a time.
    #[error("another process is already rebuilding the projections of {0}")]
    AlreadyRunning(String),
    /// The stream does not hold the history that the live projections were built from.
    #[error("{0}")]
    HistoryDiffers(String),
    /// The rebuild was interrupted. Another call resumes it.
    #[error("{0}")]
    Failed(String),
}

impl From<RebuildFailure> for RebuildError {
    fn from(failure: RebuildFailure) -> Self {
        match failure {
            RebuildFailure::HistoryDiffers(reason) => Self::HistoryDiffers(reason),
            failure => Self::Failed(failure.to_string()),
        }
    }
}

/// A rebuild of one tenant's projections as a new generation.
pub struct Rebuild {
    projections: Projections,
    worker: Worker,
    number: i32,
    rebuilder: Rebuilder,
    connection: PgConnection,
}

impl Rebuild {
    /// Begins a rebuild, or resumes one that was interrupted. `worker_id` is an id that no other process has.
    ///
    /// # Errors
    /// Another process rebuilds the tenant's projections, or the database does not answer.
    pub async fn begin(
        projections: Projections,
        journal: SharedJournal,
        worker_id: Uuid,
        origin: Origin,
        cancelled: CancellationToken,
    ) -> Result<Self, RebuildError> {
        let tenant = projections.tenant.to_string();
        let worker = Worker { id: worker_id, version: projections.database().schema_version.version };
        projections.database().migrate_registry().await?;
        let mut connection = projections.database().connect().await?;
        let already_running = || RebuildError::AlreadyRunning(tenant.clone());
        let tenants = std::slice::from_ref(&tenant);
        let known = worker.list_generations(&mut connection, tenants, Duration::ZERO).await?;
        let number = match known.iter().find(|it| it.state == GenerationState::Building) {
            Some(building) => building.number,
            None => {
                let number = next_number(&known);
                if !worker.create_generation(&mut connection, &projections.tenant, number).await? {
                    return Err(already_running());
                }
                number
            }
        };
        if !worker.acquire(&mut connection, &tenant, number, GenerationState::Building).await? {
            return Err(already_running());
        }
        let rebuilder = Rebuilder::new(&projections, number, journal, origin, worker, cancelled);
        Ok(Self { projections, worker, number, rebuilder, connection })
    }

    /// Returns a receiver of the rebuild's progress.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.rebuilder.progress()
    }

    /// Builds the generation, compares it with the live one, and makes it live instead. Fails if the stream does not
    /// hold the history of the live one, unless `force` is set; then it does not compare.
    ///
    /// # Errors
    /// See [`RebuildError`].
    pub async fn switch(self, force: bool) -> Result<Option<Comparison>, RebuildError> {
        let mode = if force { RebuildMode::ForceSwitch } else { RebuildMode::Switch };
        self.run(mode).await
    }

    /// Builds the generation, compares it with the live one, and drops it.
    ///
    /// # Errors
    /// No generation is live; and see [`RebuildError`].
    pub async fn compare(self) -> Result<Comparison, RebuildError> {
        let compared = self.run(RebuildMode::Compare).await?;
        compared.ok_or_else(|| RebuildError::Failed("there are no live projections to compare with".into()))
    }

    async fn run(mut self, mode: RebuildMode) -> Result<Option<Comparison>, RebuildError> {
        let (tenant, number) = (self.projections.tenant.to_string(), self.number);
        // Poll both concurrently: the switch locks the row that is renewed, and must not wait for the renewal.
        let done = tokio::select! {
            done = self.rebuilder.run(mode) => done,
            error = renew_lease(self.worker, &mut self.connection, (tenant.clone(), number)) => {
                return Err(error);
            }
        };
        // A generation that was only compared, or that was rejected, has no further use.
        let is_useless = match &done {
            Ok(compared) => mode == RebuildMode::Compare && compared.is_some(),
            Err(failure) => matches!(failure, RebuildFailure::HistoryDiffers(_)),
        };
        if is_useless {
            let generation = (tenant.as_str(), self.worker.version, number);
            let dropping = self.worker.drop_generation(&mut self.connection, generation, DROP_LOCK_TIMEOUT);
            if let Err(error) = dropping.await {
                let error = error_chain(&error);
                warn!(tenant, number, error, "could not drop the generation; the next rebuild resumes it");
            }
        }
        // If the release fails, the lease expires.
        let _ = self.worker.release(&mut self.connection, &tenant, number).await;
        close(self.connection).await;
        Ok(done?)
    }
}

/// Renews the lease on a generation until that fails; returns the reason.
async fn renew_lease(
    worker: Worker,
    connection: &mut PgConnection,
    generation: (String, i32),
) -> RebuildError {
    loop {
        tokio::time::sleep(LEASE / 5).await;
        let renewal = worker.renew(connection, std::slice::from_ref(&generation));
        match tokio::time::timeout(STEP_TIMEOUT, renewal).await {
            Ok(Ok(owned)) if owned.contains(&generation) => {}
            // This process was paused for so long that another one acquired the lease.
            Ok(Ok(_)) => return RebuildError::AlreadyRunning(generation.0),
            Ok(Err(error)) => return error.into(),
            Err(_) => {
                return RebuildError::Failed(format!("the database did not respond within {STEP_TIMEOUT:?}"));
            }
        }
    }
}

/// A generation of a tenant's projections, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationRow {
    /// The tenant.
    pub tenant: String,
    /// The schema version of the projections.
    pub version: i32,
    /// Its number.
    pub number: i32,
    /// `building`, `live` or `retired`.
    pub state: String,
    /// True if a process holds its lease.
    pub owned: bool,
    /// Its position, if its tables exist.
    pub position: Option<Position>,
    /// Its size in bytes, with indexes.
    pub bytes: u64,
}

/// Returns all generations in a database, of every tenant and schema version.
///
/// # Errors
/// The database does not answer.
pub async fn generations(settings: &Settings) -> Result<Vec<GenerationRow>, Error> {
    let database = Database::new(settings)?;
    database.migrate_registry().await?;
    let mut connection = database.connect().await?;
    type Row = (String, i32, i32, String, bool);
    let rows: Vec<Row> = sqlx::query_as(sql!("generations/list")).fetch_all(&mut connection).await?;
    let mut generations = Vec::new();
    for (tenant, version, number, state, owned) in rows {
        let schema = schema_name(&tenant, version, number);
        let bytes: Option<i64> =
            sqlx::query_scalar(sql!("generations/size")).bind(&schema).fetch_one(&mut connection).await?;
        // Its tables may not exist yet.
        let checkpoint = AssertSqlSafe(format!("SELECT position FROM \"{schema}\".projection"));
        let applied: Option<i64> = match bytes {
            Some(_) => sqlx::query_scalar(checkpoint).fetch_optional(&mut connection).await?,
            None => None,
        };
        let bytes = bytes.unwrap_or(0).cast_unsigned();
        let position = applied.map(position);
        generations.push(GenerationRow { tenant, version, number, state, owned, position, bytes });
    }
    close(connection).await;
    Ok(generations)
}
