//! `release-ledger serve`: runs the service against existing NATS and Postgres servers.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use ledger_client::environment;
use ledger_projections::SchemaVersion;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::config::{Config, DEFAULTS, Flags, Log, LogFormat};

/// Serve the ledger with an existing NATS and Postgres
#[derive(Debug, clap::Args)]
pub struct Serve {
    #[command(flatten)]
    flags: Flags,
    /// Print all settings with their defaults and descriptions, and exit
    #[arg(long)]
    print_defaults: bool,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The settings are invalid, or the service cannot start.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        if self.print_defaults {
            return Ok(std::io::stdout().lock().write_all(DEFAULTS.as_bytes())?);
        }
        let config = Config::read_for_serving(&self.flags)?.with_schema_version(schema_version);
        init_logging(&config.log)?;
        let shutdown = shutdown_on_signal()?;
        let app = tokio::select! {
            app = App::build(&config) => app?,
            () = shutdown.cancelled() => return Ok(()),
        };
        app.serve(shutdown).await;
        Ok(())
    }
}

/// Directives that leave out what means nothing to an operator: the notices of Postgres, such as those of schemas that
/// exist, and the texts of slow statements, such as those that create tables; Postgres has `log_min_duration_statement`
/// for these. Warnings of Postgres stay.
const QUIET: &str = "sqlx::postgres::notice=warn,sqlx::query=error";

/// Returns the filter of the log: with [`QUIET`], unless the settings have a directive of their own for sqlx.
fn log_filter(directives: &str) -> anyhow::Result<EnvFilter> {
    let names_sqlx = directives.split(',').any(|directive| directive.trim().starts_with("sqlx"));
    let all = if names_sqlx { directives.to_owned() } else { format!("{directives},{QUIET}") };
    EnvFilter::try_new(all).context("invalid log.filter")
}

/// Starts logging to stderr, with colours if it is a terminal that wants them.
///
/// # Errors
/// The filter is invalid.
pub(crate) fn init_logging(log: &Log) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(log_filter(&log.filter)?)
        .with_ansi(std::io::stderr().is_terminal() && !environment::no_colour())
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// Returns a token that SIGTERM or SIGINT cancels.
///
/// # Errors
/// The signal handlers cannot be installed.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "received signal; shutting down");
        token.cancel();
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_no_notices_of_the_database_unless_the_filter_asks_for_them() {
        let filter = |directives: &str| log_filter(directives).expect("a filter").to_string();
        for directive in QUIET.split(',') {
            assert!(filter("info").contains(directive));
            assert!(!filter("info,sqlx=debug").contains(directive));
        }
        assert!(log_filter("ledger=loud").is_err());
    }
}
