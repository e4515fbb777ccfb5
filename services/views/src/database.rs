//! Where the views of a tenant are kept.

use std::str::FromStr;
use std::time::Duration;

use ledger_domain::{Position, TenantName};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::watch;

/// The version of the views' form. Another form is another number, and so another schema.
const VERSION: u32 = 2;

/// Several statements that see the same rows.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A question that takes longer than this is given up, by the database itself.
const STATEMENT_TIMEOUT: &str = "30s";

/// How long a connection is trusted to live after it was used: no Postgres is gone and back in less.
const TRUSTED: Duration = Duration::from_millis(50);

/// How the views are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `postgres://user:password@host:5432/database`
    pub url: SecretString,
    /// Connections that questions of one tenant use at most.
    pub connections: u32,
    /// How long a question waits for a connection.
    pub acquire_timeout: Duration,
}

/// Why the views cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none.
    #[error("the database URL cannot be read")]
    Url(#[source] sqlx::Error),
    /// The tenant's name does not fit into a schema's name.
    #[error("the tenant name {0} is too long: at most 50 characters")]
    TenantTooLong(TenantName),
    /// The database does not answer, or refuses. It may be tried again.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The tables cannot be made.
    #[error("the views cannot be migrated")]
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

/// The views of one tenant.
#[derive(Clone)]
pub struct Views {
    pub(crate) pool: PgPool,
    pub(crate) tenant: TenantName,
    /// How far the projector of this process is, if there is one.
    pub(crate) local: watch::Sender<Position>,
    /// Why the journal is not the one that these views were folded from, once that was seen.
    pub(crate) divergence: watch::Sender<Option<String>>,
}

impl Views {
    /// Opens the views of a tenant; makes their schema and tables if there are none.
    ///
    /// # Errors
    /// The database does not answer, or refuses.
    pub async fn open(settings: &Settings, tenant: TenantName) -> Result<Self, Error> {
        if tenant.as_str().len() > 50 {
            return Err(Error::TenantTooLong(tenant));
        }
        // A tenant's name has only letters, digits, '.', '_' and '-': it is safe between quotes.
        let schema = format!("\"ledger_{tenant}_v{VERSION}\"");
        let options = PgConnectOptions::from_str(settings.url.expose_secret()).map_err(Error::Url)?;
        let mut connection = PgConnection::connect_with(&options).await?;
        // Two processes that start at once must not both make it: the lock is the migrator's own.
        sqlx::query("SELECT pg_advisory_lock(hashtext('release-ledger'))").execute(&mut connection).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
            .execute(&mut connection)
            .await?;
        sqlx::query(AssertSqlSafe(format!("SET search_path TO {schema}"))).execute(&mut connection).await?;
        sqlx::migrate!("../../migrations").run(&mut connection).await?;
        connection.close().await?;
        let options = options
            // Compiling a plan takes longer than any question; on tables that were never analysed, Postgres
            // expects so many rows that it would.
            .options([
                ("search_path", schema.as_str()),
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("jit", "off"),
            ])
            .application_name("release-ledger");
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(settings.acquire_timeout)
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
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            tenant,
            local: watch::Sender::new(Position::START),
            divergence: watch::Sender::new(None),
        })
    }

    /// Why the journal is not the one that these views were folded from, once that was seen. What they
    /// know of identities is not to be trusted then.
    #[must_use]
    pub fn divergence(&self) -> Option<String> {
        self.divergence.borrow().clone()
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
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
