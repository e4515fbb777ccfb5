//! Access to a tenant's projections in Postgres: connections, migrations, and the generation that answers queries.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{IdentityKey, Position, TenantName};
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::identities::HistoryIdentities;
use crate::projector::status::ProjectorStatus;
use crate::recorded::RecordedEnvelopes;

/// Begins a read-only transaction; all of its statements see the same rows.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Makes the text of a row independent of the server's time zone.
pub(crate) const SET_TIME_ZONE: &str = "SET TIME ZONE 'UTC'";
/// Lets a transaction stay idle without limit.
pub(crate) const SET_NO_IDLE_TIMEOUT: &str = "SET idle_in_transaction_session_timeout = 0";
/// Locks out other processes that create schemas.
const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_lock(hashtext('release-ledger'))";
/// The commands that change the state of a session.
pub(crate) const SESSION_COMMANDS: [&str; 4] =
    [SNAPSHOT, SET_TIME_ZONE, SET_NO_IDLE_TIMEOUT, LOCK_MIGRATIONS];

/// Maximum number of connections for [`Purpose::Recording`] per tenant.
const RECORDING_CONNECTIONS: u32 = 12;
/// Maximum number of connections for [`Purpose::Operations`] per tenant.
const OPERATIONS_CONNECTIONS: u32 = 2;

/// `application_name` of sessions that read the registry, and of those that migrate, in `pg_stat_activity`. Other sessions
/// append their purpose.
const APPLICATION: &str = "release-ledger";

/// Longest query; Postgres cancels it after that.
const STATEMENT_TIMEOUT: &str = "30s";

/// Idle time after which a pooled connection is pinged before use. Postgres cannot restart in less.
const PING_AFTER_IDLE: Duration = Duration::from_millis(50);

/// Longest tenant name in bytes: `ledger_<tenant>_v<version>_<number>` has to fit into the 63 bytes of a schema name.
const MAX_TENANT_NAME_BYTES: usize = 40;

/// Reason for [`Error::NotReady`] until the generation registry is first read.
const NOT_READ_YET: &str = "the generation registry has not been read yet";

/// A version of the projections' schema. Each version has generations of its own, so that programs of several versions
/// run side by side.
#[derive(Debug, Clone, Copy)]
pub struct SchemaVersion {
    /// The version number.
    pub version: i32,
    /// The migrations that create the tables.
    pub migrator: &'static Migrator,
}

static PROJECTION_MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/projections");
/// Programs of several versions share the registry, so migrations that a newer one has applied are ignored.
static REGISTRY_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../../migrations/registry");
    migrator.set_ignore_missing(true);
    migrator
});

impl SchemaVersion {
    /// The version that this program reads and writes.
    pub const CURRENT: Self = Self { version: 11, migrator: &PROJECTION_MIGRATIONS };
}

/// Connection settings of the projections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `postgres://user:password@host:5432/database`. Settings are per session, so PgBouncer needs session mode.
    pub url: SecretString,
    /// Maximum number of connections for [`Purpose::Queries`] per tenant.
    pub connections: u32,
    /// Longest wait of a query for a connection.
    pub acquire_timeout: Duration,
    /// The version of the projections' schema.
    pub schema_version: SchemaVersion,
}

/// A failure to use the projections.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database URL cannot be parsed.
    #[error("cannot parse the database URL")]
    Url(#[source] sqlx::Error),
    /// The tenant name does not fit into a schema name.
    #[error("tenant name {0} is too long: use at most {MAX_TENANT_NAME_BYTES} characters")]
    TenantTooLong(TenantName),
    /// No generation is active yet.
    #[error("the projections are not ready: {0}")]
    NotReady(String),
    /// The database is unavailable or rejects the request. The caller may retry.
    #[error("database request failed")]
    Database(#[from] sqlx::Error),
    /// The tables cannot be created.
    #[error("cannot migrate the tables of the projections")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row is not one that the projector writes.
    #[error("table {table}, row {row}: {detail}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The key of the row.
        row: String,
        /// The error in it.
        detail: String,
    },
}

impl Error {
    /// Returns true if waiting for another session's lock timed out (`lock_not_available`).
    pub(crate) fn is_lock_timeout(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().as_deref() == Some("55P03")
    }

    /// Returns true if a table or its schema does not exist.
    pub(crate) fn is_missing_table(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("42P01" | "3F000"))
    }
}

/// A database that stores projections. Connections are opened on demand.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    options: PgConnectOptions,
    connections: u32,
    acquire_timeout: Duration,
    pub(crate) schema_version: SchemaVersion,
}

impl Database {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(settings.url.expose_secret()).map_err(Error::Url)?;
        Ok(Self {
            options: options.application_name(APPLICATION),
            connections: settings.connections,
            acquire_timeout: settings.acquire_timeout,
            schema_version: settings.schema_version,
        })
    }

    /// Opens a connection without a tenant's schema in its `search_path`.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Creates the registry's tables if they are missing.
    pub(crate) async fn migrate_registry(&self) -> Result<(), Error> {
        self.migrate("release_ledger", &REGISTRY_MIGRATIONS).await
    }

    /// Creates a generation's tables if they are missing.
    pub(crate) async fn migrate_generation(&self, schema: &str) -> Result<(), Error> {
        self.migrate(schema, self.schema_version.migrator).await
    }

    async fn migrate(&self, schema: &str, migrator: &Migrator) -> Result<(), Error> {
        // The advisory lock lasts as long as the session: the timeouts end the session of a paused process.
        let options = self.options.clone().options([
            ("idle_session_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("lock_timeout", "30s"),
        ]);
        let mut connection = PgConnection::connect_with(&options).await?;
        // Only one process at a time may create the schema and the migrator's own table.
        sqlx::query(LOCK_MIGRATIONS).execute(&mut connection).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")))
            .execute(&mut connection)
            .await?;
        sqlx::query(AssertSqlSafe(format!("SET search_path TO \"{schema}\"")))
            .execute(&mut connection)
            .await?;
        migrator.run_direct(None, &mut connection, false).await?;
        Ok(connection.close().await?)
    }

    /// Returns connection options for a generation. Its schema is the `search_path`, so SQL uses plain table names.
    /// `purpose` is added to the `application_name`, so that operators see what a session does.
    pub(crate) fn generation_options(&self, schema: &str, purpose: &str) -> PgConnectOptions {
        let name = format!("{APPLICATION} {purpose}");
        self.options.clone().application_name(&name).options([
            ("search_path", format!("\"{schema}\"").as_str()),
            // JIT compilation takes longer than any query. Postgres would compile because it overestimates the
            // rows of tables that were never analysed.
            ("jit", "off"),
        ])
    }

    /// Returns the pools of a generation.
    fn pools(&self, schema: &str) -> Pools {
        Pools {
            queries: self.pool(schema, "queries", self.connections),
            recording: self.pool(schema, "recording", RECORDING_CONNECTIONS),
            operations: self.pool(schema, "operations", OPERATIONS_CONNECTIONS),
        }
    }

    fn pool(&self, schema: &str, purpose: &str, connections: u32) -> PgPool {
        let options = self.generation_options(schema, purpose);
        let options = options.options([("statement_timeout", STATEMENT_TIMEOUT)]);
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(self.acquire_timeout)
            // Connections that were in use just now are not pinged: that would cost a round trip per query.
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for > PING_AFTER_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options)
    }
}

/// What the connections of a handle are used for. Each purpose has a pool of its own, so that slow queries take no
/// connection from the write path or from probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// Queries of clients.
    #[default]
    Queries,
    /// Identity lookups and decisions, which events wait for, and the log of reads, which exports wait for.
    Recording,
    /// Probes and gauges.
    Operations,
}

/// Pools of a generation, one for each [`Purpose`]. They connect on demand.
#[derive(Clone)]
struct Pools {
    queries: PgPool,
    recording: PgPool,
    operations: PgPool,
}

impl Pools {
    fn of(&self, purpose: Purpose) -> PgPool {
        match purpose {
            Purpose::Queries => self.queries.clone(),
            Purpose::Recording => self.recording.clone(),
            Purpose::Operations => self.operations.clone(),
        }
    }

    async fn close(&self) {
        tokio::join!(self.queries.close(), self.recording.close(), self.operations.close());
    }
}

/// The generation that answers queries.
#[derive(Clone)]
enum ActiveGeneration {
    /// No generation, with the reason.
    None(String),
    /// The generation with this number.
    Generation(i32, Pools),
}

/// The projections of one tenant. A [`ProjectionSupervisor`](crate::ProjectionSupervisor) or a
/// [`GenerationWatcher`](crate::GenerationWatcher) activates the live generation; before that, none is active.
#[derive(Clone)]
pub struct Projections {
    database: Database,
    purpose: Purpose,
    pub(crate) tenant: TenantName,
    active: watch::Sender<ActiveGeneration>,
    /// Position of the active generation when it was last read, or written by this process.
    pub(crate) last_seen: watch::Sender<Option<Position>>,
    /// Position of this process's projector; the start if there is none.
    pub(crate) local_position: watch::Sender<Position>,
    /// Number of failed checks that this process's projectors have applied to the active generation.
    pub(crate) failed_checks: watch::Sender<u64>,
    /// Identities that the history has, while this process's projector follows the stream.
    pub(crate) identities: HistoryIdentities,
    /// Envelopes for this process's projector.
    pub(crate) recorded: RecordedEnvelopes,
    /// Position and time of the last wait that was given up.
    pub(crate) missed_wait: watch::Sender<Option<(Position, Instant)>>,
    /// Reason why the journal is not the one that these projections were built from, once detected.
    divergence: watch::Sender<Option<String>>,
    /// Epoch of the history: see [`Self::history_epoch`].
    history_epoch: watch::Sender<u64>,
    /// Creation time of the stream, once journal and projections are confirmed to belong to it.
    pub(crate) stream: watch::Sender<Option<DateTime<Utc>>>,
    /// State of this process's projector, if there is one.
    pub(crate) status: watch::Sender<Option<ProjectorStatus>>,
}

impl Projections {
    /// Creates the handle without connecting.
    ///
    /// # Errors
    /// The URL cannot be parsed, or the tenant name is too long.
    pub fn new(settings: &Settings, tenant: TenantName) -> Result<Self, Error> {
        if tenant.as_str().len() > MAX_TENANT_NAME_BYTES {
            return Err(Error::TenantTooLong(tenant));
        }
        Ok(Self {
            database: Database::new(settings)?,
            purpose: Purpose::default(),
            tenant,
            active: watch::Sender::new(ActiveGeneration::None(NOT_READ_YET.into())),
            last_seen: watch::Sender::new(None),
            local_position: watch::Sender::new(Position::START),
            failed_checks: watch::Sender::new(0),
            identities: HistoryIdentities::default(),
            recorded: RecordedEnvelopes::default(),
            missed_wait: watch::Sender::new(None),
            divergence: watch::Sender::new(None),
            history_epoch: watch::Sender::new(0),
            stream: watch::Sender::new(None),
            status: watch::Sender::new(None),
        })
    }

    /// Returns the same projections, read through the connections for a purpose.
    #[must_use]
    pub fn for_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    /// Returns the same tenant's projections in a copy of the database, such as a streaming replica. Both handles share
    /// the state of the projector and of the journal; each has its own active generation and last seen position.
    ///
    /// # Errors
    /// The URL cannot be parsed.
    pub fn for_replica(&self, settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            database: Database::new(settings)?,
            active: watch::Sender::new(ActiveGeneration::None(NOT_READ_YET.into())),
            last_seen: watch::Sender::new(None),
            ..self.clone()
        })
    }

    /// Returns the tenant.
    #[must_use]
    pub const fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// Returns the state of this process's projector, if it has one.
    #[must_use]
    pub fn projector(&self) -> Option<ProjectorStatus> {
        self.status.borrow().clone()
    }

    /// Returns true if this process's projector follows the stream.
    #[must_use]
    pub fn is_following(&self) -> bool {
        matches!(*self.status.borrow(), Some(ProjectorStatus::Following))
    }

    /// Returns those of some identities that the history up to a position may have; it has none of the others. `None` if
    /// this process does not know all identities up to there: ask the tables then.
    #[must_use]
    pub fn possibly_known(&self, keys: &[IdentityKey], up_to: Position) -> Option<Vec<IdentityKey>> {
        self.identities.possibly_known(keys, self.history_epoch(), up_to)
    }

    /// Returns the position up to which this process's projector has read the identities of the history, if it follows.
    #[must_use]
    pub fn identities_position(&self) -> Option<Position> {
        self.identities.position()
    }

    /// Keeps the envelopes of events that this process recorded, by ascending position, so that its projector need not
    /// parse their entries. Keeps none while this process does not project.
    pub fn keep_recorded(&self, recorded: impl IntoIterator<Item = (Position, Envelope)>) {
        if self.is_following() {
            self.recorded.extend(recorded);
        } else {
            self.recorded.clear();
        }
    }

    /// Returns the reason why the journal is not the one that these projections were built from, once detected.
    /// Identities in them must not be trusted then.
    #[must_use]
    pub fn divergence(&self) -> Option<String> {
        self.divergence.borrow().clone()
    }

    /// Waits until the journal has been compared with the projections, at most for a time.
    pub async fn wait_until_compared(&self, limit: Duration) {
        let mut stream = self.stream.subscribe();
        // After the limit, the caller continues without the comparison.
        let _ = tokio::time::timeout(limit, stream.wait_for(Option::is_some)).await;
    }

    /// Publishes the reason of a divergence, or that there is none.
    pub(crate) fn set_divergence(&self, reason: Option<String>) {
        let starts = reason.is_some() && self.divergence.borrow().is_none();
        self.divergence.send_replace(reason);
        if starts {
            self.history_epoch.send_modify(|history_epoch| *history_epoch += 1);
        }
    }

    /// Returns the epoch of the history, a number of this process: it grows when another generation becomes active, and
    /// when a divergence is detected. What a process knows of positions and identities holds for one epoch.
    #[must_use]
    pub fn history_epoch(&self) -> u64 {
        *self.history_epoch.borrow()
    }

    /// Waits until [`Self::history_epoch`] is no longer `from`. The history may still be the same one: compare a
    /// [`HistoryMark`](crate::HistoryMark).
    pub async fn wait_for_history_change(&self, from: u64) {
        let mut history_epoch = self.history_epoch.subscribe();
        // This handle has the sender, so that waiting cannot fail.
        let _ = history_epoch.wait_for(|history_epoch| *history_epoch != from).await;
    }

    /// Returns the creation time of the stream that the journal and these projections belong to, if it is known. Facts
    /// about one stream do not hold for another.
    #[must_use]
    pub fn stream(&self) -> Option<DateTime<Utc>> {
        *self.stream.borrow()
    }

    /// Returns the position at the last successful read, or write of this process, if any. The projections may be
    /// unavailable now.
    #[must_use]
    pub fn last_seen(&self) -> Option<Position> {
        *self.last_seen.borrow()
    }

    /// Closes all query connections.
    pub async fn close(&self) {
        let active = self.active.borrow().clone();
        if let ActiveGeneration::Generation(_, pools) = active {
            pools.close().await;
        }
    }

    /// Returns true if a generation is active.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(*self.active.borrow(), ActiveGeneration::Generation(..))
    }

    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the pool of the active generation for the purpose of this handle.
    pub(crate) fn pool(&self) -> Result<PgPool, Error> {
        Ok(self.active_generation()?.1)
    }

    /// Returns the number and the pool of the active generation.
    pub(crate) fn active_generation(&self) -> Result<(i32, PgPool), Error> {
        match &*self.active.borrow() {
            ActiveGeneration::None(reason) => Err(Error::NotReady(reason.clone())),
            ActiveGeneration::Generation(number, pools) => Ok((*number, pools.of(self.purpose))),
        }
    }

    pub(crate) fn active_number(&self) -> Option<i32> {
        match *self.active.borrow() {
            ActiveGeneration::None(_) => None,
            ActiveGeneration::Generation(number, _) => Some(number),
        }
    }

    /// Makes a generation the active one. Running queries finish on the previous one.
    pub(crate) fn activate(&self, number: i32) {
        if self.active_number() != Some(number) {
            let pools = self.database.pools(&self.schema(number));
            self.active.send_replace(ActiveGeneration::Generation(number, pools));
            self.history_epoch.send_modify(|history_epoch| *history_epoch += 1);
        }
    }

    /// Returns the name of a generation's schema.
    pub(crate) fn schema(&self, number: i32) -> String {
        schema_name(&self.tenant, self.database.schema_version.version, number)
    }

    /// Leaves no generation active.
    pub(crate) fn deactivate(&self, reason: &str) {
        self.active.send_replace(ActiveGeneration::None(reason.to_owned()));
    }
}

/// Returns the name of a generation's schema. It is safe in double quotes: tenant names contain only letters, digits,
/// `.`, `_` and `-`.
pub(crate) fn schema_name(tenant: impl Display, version: i32, number: i32) -> String {
    format!("ledger_{tenant}_v{version}_{number}")
}

/// Converts a position to a Postgres `bigint`.
pub(crate) const fn bigint(position: Position) -> i64 {
    // Positions are stream sequences that start at 1: they never approach 2^63.
    position.get().cast_signed()
}

/// Converts a Postgres `bigint` to a position.
pub(crate) const fn position(number: i64) -> Position {
    Position::new(number.cast_unsigned())
}

/// Parses a stored value; a failure is [`Error::Inconsistent`].
pub(crate) fn parsed<T, E: ToString>(
    table: &'static str,
    row: impl ToString,
    parse: impl FnOnce() -> Result<T, E>,
) -> Result<T, Error> {
    parse().map_err(|error| Error::Inconsistent { table, row: row.to_string(), detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tenant_name_fits_into_a_schema_name() {
        let tenant = TenantName::parse(&"t".repeat(MAX_TENANT_NAME_BYTES)).expect("a name");
        assert!(schema_name(&tenant, 999, 999_999).len() <= 63);
    }
}
