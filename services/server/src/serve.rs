//! `release-ledger serve`: against servers of your own.

use std::io::Write as _;

use anyhow::Context as _;
use ledger_projections::SchemaVersion;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::config::{Config, DEFAULTS, Flags, Log, LogFormat};

/// Serve the ledger against a NATS and a Postgres of your own
#[derive(Debug, clap::Args)]
pub struct Serve {
    #[command(flatten)]
    flags: Flags,
    /// Write all settings with their defaults and meaning, and end
    #[arg(long)]
    print_defaults: bool,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The settings are wrong, or a part cannot be had.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        if self.print_defaults {
            return Ok(std::io::stdout().lock().write_all(DEFAULTS.as_bytes())?);
        }
        let config = Config::read(&self.flags)?;
        start_log(&config.log)?;
        let ending = until_signalled()?;
        let app = tokio::select! {
            app = App::build(&config, schema_version) => app?,
            () = ending.cancelled() => return Ok(()),
        };
        app.serve(ending).await;
        Ok(())
    }
}

/// Begins to write the log to stderr.
///
/// # Errors
/// The filter cannot be read.
pub(crate) fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter).context("log.filter")?;
    let log_to = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => log_to.init(),
        LogFormat::Json => log_to.json().init(),
    }
    Ok(())
}

/// A token that SIGTERM or SIGINT cancels.
///
/// # Errors
/// Signals cannot be listened to.
pub(crate) fn until_signalled() -> anyhow::Result<CancellationToken> {
    let ending = CancellationToken::new();
    let token = ending.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "asked to end");
        token.cancel();
    });
    Ok(ending)
}
