//! Where the projections of a tenant are kept: which generation of them answers, and how it is reached.

use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::{Position, TenantName};
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::generations::registry::schema;
use crate::projector::Status;

/// Several statements that see the same rows.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A question that takes longer than this is given up, by the database itself.
const STATEMENT_TIMEOUT: &str = "30s";

/// How long a connection is trusted to live after it was used: no Postgres is gone and back in less.
const TRUSTED: Duration = Duration::from_millis(50);

/// Longest names of tenants: `ledger_<tenant>_v<version>_<number>` fits into the 63 bytes of a schema's name.
const TENANT_LIMIT: usize = 40;

/// The form of the projections: which tables there are, and under which number. Another form is another number, and
/// is filled beside the others; programs of both run side by side.
#[derive(Debug, Clone, Copy)]
pub struct SchemaVersion {
    /// The number.
    pub version: i32,
    /// What makes the tables.
    pub migrator: &'static Migrator,
}

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/projections");
/// Programs of several versions share the registry: what a newer one has added to it is no reason to stop.
static REGISTRY: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../../migrations/registry");
    migrator.set_ignore_missing(true);
    migrator
});

impl SchemaVersion {
    /// The form that this program knows.
    pub const CURRENT: Self = Self { version: 5, migrator: &MIGRATIONS };
}

/// How the projections are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `postgres://user:password@host:5432/database`. Sessions are kept, and set up once: a pooler in between has to
    /// pool sessions, not transactions.
    pub url: SecretString,
    /// Connections that questions of one tenant use at most.
    pub connections: u32,
    /// How long a question waits for a connection.
    pub acquire_timeout: Duration,
    /// The form of the projections.
    pub schema_version: SchemaVersion,
}

/// Why the projections cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none.
    #[error("the database URL cannot be read")]
    Url(#[source] sqlx::Error),
    /// The tenant's name does not fit into a schema's name.
    #[error("the tenant name {0} is too long: at most {TENANT_LIMIT} characters")]
    TenantTooLong(TenantName),
    /// No generation of them answers yet.
    #[error("the projections cannot answer yet: {0}")]
    NotReady(String),
    /// The database does not answer, or refuses. It may be tried again.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The tables cannot be made.
    #[error("the projections cannot be migrated")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row is not one that the projector wrote.
    #[error("table {table}, row {row}: {detail}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// Which row.
        row: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// Whether the database gave up waiting for what somebody else holds (`lock_not_available`).
    pub(crate) fn is_lock_timeout(&self) -> bool {
        let Self::Database(sqlx::Error::Database(refused)) = self else { return false };
        refused.code().as_deref() == Some("55P03")
    }

    /// Whether a table, or the schema that it is in, is not there.
    pub(crate) fn is_without_table(&self) -> bool {
        let Self::Database(sqlx::Error::Database(refused)) = self else { return false };
        matches!(refused.code().as_deref(), Some("42P01" | "3F000"))
    }

    /// It with its causes.
    pub(crate) fn told(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}

/// A database that projections are kept in. Nothing connects before it is needed.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    options: PgConnectOptions,
    connections: u32,
    acquire_timeout: Duration,
    pub(crate) schema_version: SchemaVersion,
}

impl Database {
    pub(crate) fn of(settings: &Settings) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(settings.url.expose_secret()).map_err(Error::Url)?;
        Ok(Self {
            options: options.application_name("release-ledger"),
            connections: settings.connections,
            acquire_timeout: settings.acquire_timeout,
            schema_version: settings.schema_version,
        })
    }

    /// A connection that is no tenant's.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Makes the registry's tables, if there are none.
    pub(crate) async fn migrate_registry(&self) -> Result<(), Error> {
        self.migrate("release_ledger", &REGISTRY).await
    }

    /// Makes a generation's tables, if there are none.
    pub(crate) async fn migrate_generation(&self, schema: &str) -> Result<(), Error> {
        self.migrate(schema, self.schema_version.migrator).await
    }

    async fn migrate(&self, schema: &str, migrator: &Migrator) -> Result<(), Error> {
        // The lock is the session's: a process that is paused with it is cut off by the database.
        let options = self.options.clone().options([
            ("idle_session_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("lock_timeout", "30s"),
        ]);
        let mut connection = PgConnection::connect_with(&options).await?;
        // Two processes that start at once must not both make the schema and the migrator's own table.
        sqlx::query("SELECT pg_advisory_lock(hashtext('release-ledger'))").execute(&mut connection).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")))
            .execute(&mut connection)
            .await?;
        sqlx::query(AssertSqlSafe(format!("SET search_path TO \"{schema}\"")))
            .execute(&mut connection)
            .await?;
        migrator.run_direct(None, &mut connection, false).await?;
        Ok(connection.close().await?)
    }

    /// How a generation is reached: its tables need no other name than their own.
    pub(crate) fn generation(&self, schema: &str) -> PgConnectOptions {
        self.options.clone().options([
            ("search_path", format!("\"{schema}\"").as_str()),
            // Compiling a plan takes longer than any question; on tables that were never analysed, Postgres
            // expects so many rows that it would.
            ("jit", "off"),
        ])
    }

    /// Connections for questions to a generation; none is made yet.
    fn pool(&self, schema: &str) -> PgPool {
        let options = self.generation(schema).options([("statement_timeout", STATEMENT_TIMEOUT)]);
        PgPoolOptions::new()
            .max_connections(self.connections)
            .acquire_timeout(self.acquire_timeout)
            // A connection that was in use just now is not asked whether it lives: that would be a round
            // trip for every question.
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for > TRUSTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options)
    }
}

/// Which generation answers.
#[derive(Clone)]
enum Answering {
    /// None, and why.
    None(String),
    /// The one with this number.
    Generation(i32, PgPool),
}

/// The projections of one tenant. Which generation of them answers is found out, and kept true, by a
/// [`ProjectionSupervisor`](crate::Keeper) or a [`GenerationWatcher`](crate::Watcher): before that, there is none.
#[derive(Clone)]
pub struct Projections {
    database: Database,
    pub(crate) tenant: TenantName,
    answering: watch::Sender<Answering>,
    /// Where the generation that answers stood when it was last asked, if it ever answered.
    pub(crate) seen: watch::Sender<Option<Position>>,
    /// How far the projector of this process is, if there is one.
    pub(crate) local: watch::Sender<Position>,
    /// The position of the last wait that was given up, and when.
    pub(crate) given_up: watch::Sender<Option<(Position, Instant)>>,
    /// Why the journal is not the one that these projections were folded from, once that was seen.
    pub(crate) divergence: watch::Sender<Option<String>>,
    /// When the stream was made that journal and projections are of, once both were seen to be of the same.
    pub(crate) stream: watch::Sender<Option<DateTime<Utc>>>,
    /// How the projector of this process fares, if there is one.
    pub(crate) status: watch::Sender<Option<Status>>,
}

impl Projections {
    /// The projections of a tenant.
    ///
    /// # Errors
    /// The URL cannot be read, or the tenant's name is too long.
    pub fn of(settings: &Settings, tenant: TenantName) -> Result<Self, Error> {
        if tenant.as_str().len() > TENANT_LIMIT {
            return Err(Error::TenantTooLong(tenant));
        }
        Ok(Self {
            database: Database::of(settings)?,
            tenant,
            answering: watch::Sender::new(Answering::None("it was not looked yet".into())),
            seen: watch::Sender::new(None),
            local: watch::Sender::new(Position::START),
            given_up: watch::Sender::new(None),
            divergence: watch::Sender::new(None),
            stream: watch::Sender::new(None),
            status: watch::Sender::new(None),
        })
    }

    /// The same tenant's projections in another database that holds the same, such as a streaming replica. What is known of
    /// the projector and of the journal is known of both; how far each of them is, only of itself.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn at(&self, settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            database: Database::of(settings)?,
            answering: watch::Sender::new(Answering::None("it was not looked yet".into())),
            seen: watch::Sender::new(None),
            ..self.clone()
        })
    }

    /// Whose they are.
    #[must_use]
    pub const fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// How the projector of this process fares, if it has one.
    #[must_use]
    pub fn projector(&self) -> Option<Status> {
        self.status.borrow().clone()
    }

    /// Why the journal is not the one that these projections were folded from, once that was seen. What they
    /// know of identities is not to be trusted then.
    #[must_use]
    pub fn divergence(&self) -> Option<String> {
        self.divergence.borrow().clone()
    }

    /// When the stream was made that the journal and these projections are of, if that is known: of another stream, nothing
    /// is true that was known of this one.
    #[must_use]
    pub fn stream(&self) -> Option<DateTime<Utc>> {
        *self.stream.borrow()
    }

    /// Where they stood when they last answered, if they ever did: they may be away now.
    #[must_use]
    pub fn last_seen(&self) -> Option<Position> {
        *self.seen.borrow()
    }

    /// Ends all connections.
    pub async fn close(&self) {
        let answering = self.answering.borrow().clone();
        if let Answering::Generation(_, pool) = answering {
            pool.close().await;
        }
    }

    /// Whether any generation answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(*self.answering.borrow(), Answering::Generation(..))
    }

    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// Connections to the generation that answers.
    pub(crate) fn pool(&self) -> Result<PgPool, Error> {
        Ok(self.answering()?.1)
    }

    /// The generation that answers, and connections to it.
    pub(crate) fn answering(&self) -> Result<(i32, PgPool), Error> {
        match &*self.answering.borrow() {
            Answering::None(reason) => Err(Error::NotReady(reason.clone())),
            Answering::Generation(number, pool) => Ok((*number, pool.clone())),
        }
    }

    pub(crate) fn answers_from(&self) -> Option<i32> {
        match *self.answering.borrow() {
            Answering::None(_) => None,
            Answering::Generation(number, _) => Some(number),
        }
    }

    /// From now on this generation answers. Questions under way are answered from the one before.
    pub(crate) fn activate(&self, number: i32) {
        if self.answers_from() != Some(number) {
            let pool = self.database.pool(&self.schema(number));
            self.answering.send_replace(Answering::Generation(number, pool));
        }
    }

    /// The name of a generation's schema.
    pub(crate) fn schema(&self, number: i32) -> String {
        schema(&self.tenant, self.database.schema_version.version, number)
    }

    /// No generation answers.
    pub(crate) fn answer_not(&self, reason: &str) {
        self.answering.send_replace(Answering::None(reason.to_owned()));
    }
}

/// A position as Postgres keeps it.
pub(crate) const fn bigint(position: Position) -> i64 {
    // Positions are stream sequences, counted from 1: they never come near 2^63.
    position.get().cast_signed()
}

/// A position that Postgres kept.
pub(crate) const fn position(number: i64) -> Position {
    Position::new(number.cast_unsigned())
}

/// Reads a column through a parser.
pub(crate) fn parsed<T, E: ToString>(
    table: &'static str,
    row: impl ToString,
    parse: impl FnOnce() -> Result<T, E>,
) -> Result<T, Error> {
    parse().map_err(|error| Error::Inconsistent { table, row: row.to_string(), detail: error.to_string() })
}
