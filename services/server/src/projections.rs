//! `release-ledger projections` and `verify`: maintenance of read models directly on NATS and Postgres.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use ledger_domain::{Position, TenantName};
use ledger_journal::SharedJournal;
use ledger_journal::jetstream::Connection;
use ledger_projections::{Comparison, Origin, Progress, Projections, Rebuild, SchemaVersion, VerifiedRange};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Flags};
use crate::serve::{init_logging, shutdown_on_signal};
use ledger_client::identity;
use ledger_client::table;

/// Interval of progress lines on stderr.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Number of differences between schemas that a message names.
const MAX_NAMED_DIFFERENCES: usize = 10;

/// List and rebuild read models
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the generations of projections of every tenant
    List(Box<List>),
    /// Rebuild projections beside the live ones, then switch to the rebuilt ones
    Rebuild(Box<RebuildArgs>),
}

impl Command {
    /// Executes the command.
    ///
    /// # Errors
    /// Names what prevents the command.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(schema_version).await,
            Self::Rebuild(rebuild) => rebuild.run(schema_version).await,
        }
    }
}

/// List the generations of projections of every tenant
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print {"generations":[{"tenant":…, "version":N, "number":N, "state":…, "position":N, "has_projector":…, "bytes":N}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

impl List {
    async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?.with_schema_version(schema_version);
        let generations = ledger_projections::generations(&config.projections.settings()).await?;
        if self.json {
            let generations: Value = generations
                .iter()
                .map(|generation| {
                    json!({
                        "tenant": generation.tenant,
                        "version": generation.version,
                        "number": generation.number,
                        "state": generation.state,
                        "position": generation.position.map(|position| position.get()),
                        "has_projector": generation.owned,
                        "bytes": generation.bytes,
                    })
                })
                .collect();
            return Ok(writeln!(io::stdout().lock(), "{}", json!({"generations": generations}))?);
        }
        let rows: Vec<[String; 7]> = generations
            .into_iter()
            .map(|generation| {
                [
                    generation.tenant,
                    format!("v{}", generation.version),
                    generation.number.to_string(),
                    generation.state,
                    generation.position.map_or_else(|| "-".to_owned(), |position| position.to_string()),
                    (if generation.owned { "running" } else { "none" }).to_owned(),
                    format!("{:.1}", generation.bytes as f64 / f64::from(1 << 20)),
                ]
            })
            .collect();
        let header = ["tenant", "version", "number", "state", "position", "projector", "MiB"];
        Ok(writeln!(io::stdout().lock(), "{}", table::render(header, &rows))?)
    }
}

/// Source of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EntrySource {
    /// The stream
    Stream,
    /// The copy in the live projections, then the stream for entries that the copy lacks
    Events,
}

/// Rebuild projections beside the live ones, then switch to the rebuilt ones
///
/// The live projections answer queries meanwhile. The rebuilt ones catch up, are compared with the live ones at one
/// position, and become live in one transaction. If interrupted, run it again: it resumes.
#[derive(Debug, clap::Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    flags: Flags,
    /// Source of entries
    #[arg(long, value_name = "WHERE", default_value = "stream")]
    from: EntrySource,
    /// Only compare: drop the rebuilt projections, and fail if they differ
    #[arg(long, conflicts_with = "even_if_history_differs")]
    verify: bool,
    /// Switch even if the stream differs from the history of the live projections, or this cannot be checked
    #[arg(long, conflicts_with = "from")]
    even_if_history_differs: bool,
    /// Print {"tenant":…, "position":N, "different":[TABLE,…]}, one line per tenant; position is null if there were no
    /// live projections to compare with
    #[arg(long)]
    json: bool,
}

impl RebuildArgs {
    async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?.with_schema_version(schema_version);
        init_logging(&config.log)?;
        let shutdown = shutdown_on_signal()?;
        let origin = match self.from {
            EntrySource::Stream => Origin::Stream,
            EntrySource::Events => Origin::Events,
        };
        let mut different = Vec::new();
        for ledger in TenantLedger::all(&config).await? {
            let rebuild = ledger.rebuild(origin, &shutdown).await?;
            let reporter = report_progress(ledger.tenant.clone(), rebuild.progress());
            let comparison = if self.verify {
                rebuild.compare().await.map(Some)
            } else {
                rebuild.switch(self.even_if_history_differs).await
            };
            reporter.abort();
            let comparison =
                comparison.with_context(|| format!("cannot rebuild the projections of {}", ledger.tenant))?;
            let tenant = &ledger.tenant;
            let message = match &comparison {
                None => {
                    format!("{tenant}: the projections are rebuilt; there were no live ones to compare with")
                }
                Some(comparison) => format!("{tenant}: {}", describe(comparison)),
            };
            let line = match self.json {
                true => comparison_json(tenant, comparison.as_ref()).to_string(),
                false => message.clone(),
            };
            writeln!(io::stdout().lock(), "{line}")?;
            if self.verify && comparison.is_some_and(|comparison| !comparison.different.is_empty()) {
                different.push(message);
            }
        }
        if different.is_empty() { Ok(()) } else { bail!("{}", different.join("; ")) }
    }
}

/// Compare the stream, its copy in Postgres, the Merkle tree and the projections
///
/// Reports the first difference, also between the tables, columns, indexes, triggers and rules in Postgres and those
/// that this program creates, and projections that stay behind the stream. Repairs projections on request, but never
/// the log.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    flags: Flags,
    /// Do not compare the projections, which requires a rebuild
    #[arg(long, conflicts_with = "repair")]
    log_only: bool,
    /// If only projections differ, replace them with the rebuilt ones
    #[arg(long)]
    repair: bool,
    /// Print for each tenant {"tenant":…, "position":N, "root":…, "gaps":N}, and then, unless --log-only,
    /// {"tenant":…, "position":N, "different":[TABLE,…], "replaces":…}, one line each
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Verifies the ledger of every tenant.
    ///
    /// # Errors
    /// A part differs or is unavailable.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?.with_schema_version(schema_version);
        init_logging(&config.log)?;
        let shutdown = shutdown_on_signal()?;
        for ledger in TenantLedger::all(&config).await? {
            let schema = self.verify_schema(&ledger).await?;
            let (sender, progress) = watch::channel(Progress::default());
            let reporter = report_progress(ledger.tenant.clone(), progress);
            let verified = ledger
                .projections
                .verify(ledger.journal.as_ref(), |position, head| {
                    sender.send_replace(Progress { position, head });
                })
                .await;
            reporter.abort();
            let tenant = &ledger.tenant;
            let verified = match verified? {
                Ok(verified) => verified,
                Err(difference) => bail!("{tenant}: {difference}"),
            };
            let VerifiedRange { position, root, gaps } = verified;
            let line = match self.json {
                true => json!({
                    "tenant": tenant.as_str(), "position": position.get(), "root": root.to_string(), "gaps": gaps,
                })
                .to_string(),
                false => {
                    format!(
                        "{tenant}: stream, copy and tree agree up to {position}: root {root}, {gaps} gaps"
                    )
                }
            };
            writeln!(io::stdout().lock(), "{line}")?;
            if !self.log_only {
                self.verify_projections(&ledger, schema, &shutdown).await?;
            }
            if let Some(stall) = ledger.projections.stall(ledger.journal.as_ref()).await? {
                bail!("{tenant}: {stall}");
            }
        }
        Ok(())
    }

    /// Compares the schema of the live projections with what this program creates. Returns a description of the
    /// differences, which are an error unless they are to be repaired.
    async fn verify_schema(&self, ledger: &TenantLedger) -> anyhow::Result<Option<String>> {
        let tenant = &ledger.tenant;
        let differences = ledger.projections.schema_differences().await;
        let differences = differences
            .with_context(|| format!("cannot compare the schema of the projections of {tenant}"))?;
        if differences.is_empty() {
            return Ok(None);
        }
        let named: Vec<String> =
            differences.iter().take(MAX_NAMED_DIFFERENCES).map(ToString::to_string).collect();
        let (named, count) = (named.join("; "), differences.len());
        let described = format!("the schema of the live projections has {count} differences: {named}");
        if self.repair {
            Ok(Some(described))
        } else {
            bail!("{tenant}: {described}; use --repair to replace them")
        }
    }

    async fn verify_projections(
        &self,
        ledger: &TenantLedger,
        schema: Option<String>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let tenant = &ledger.tenant;
        let rebuild = ledger.rebuild(Origin::Stream, shutdown).await?;
        let reporter = report_progress(tenant.clone(), rebuild.progress());
        let comparison =
            if self.repair { rebuild.switch(false).await } else { rebuild.compare().await.map(Some) };
        reporter.abort();
        let comparison = comparison.with_context(|| format!("cannot rebuild the projections of {tenant}"))?;
        let Some(comparison) = comparison else {
            bail!("{tenant}: there are no live projections to compare with")
        };
        let is_same = comparison.different.is_empty() && schema.is_none();
        let message = match schema {
            Some(schema) => format!("{schema}; {}", describe(&comparison)),
            None => describe(&comparison),
        };
        if is_same || self.repair {
            let repaired = if is_same { "" } else { "; they are replaced" };
            let line = if self.json {
                let mut json = comparison_json(tenant, Some(&comparison));
                json["replaces"] = (!is_same).into();
                json.to_string()
            } else {
                format!("{tenant}: {message}{repaired}")
            };
            return Ok(writeln!(io::stdout().lock(), "{line}")?);
        }
        bail!("{tenant}: {message}; use --repair to replace them")
    }
}

/// Returns the result of a comparison: its position, and the tables that differ.
fn comparison_json(tenant: &TenantName, comparison: Option<&Comparison>) -> Value {
    let position = comparison.map(|comparison| comparison.position.get());
    let different: Vec<&String> =
        comparison.into_iter().flat_map(|comparison| comparison.different.keys()).collect();
    json!({"tenant": tenant.as_str(), "position": position, "different": different})
}

fn describe(comparison: &Comparison) -> String {
    let at = comparison.position;
    let tables: Vec<String> = comparison
        .different
        .iter()
        .map(|(table, (old, new))| format!("{table} ({} live rows, {} rebuilt rows)", old.rows, new.rows))
        .collect();
    if tables.is_empty() {
        return format!("the rebuilt and the live projections are the same at {at}");
    }
    let first = comparison.first.as_ref().map_or_else(String::new, |row| {
        let generation = if row.answers { "live" } else { "rebuilt" };
        let text: String = row.text.chars().take(300).collect();
        format!("; only in the {generation} {}: {text}", row.table)
    });
    format!("the rebuilt and the live projections differ at {at}: {}{first}", tables.join(", "))
}

/// Stream and projections of a tenant, opened without the service.
struct TenantLedger {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
}

impl TenantLedger {
    /// Opens the ledgers of the configured tenants. A missing stream is an error.
    async fn all(config: &Config) -> anyhow::Result<Vec<Self>> {
        let connection = Connection::open(config.journal.settings()).await?;
        let mut ledgers = Vec::new();
        for tenant in &config.ledgers() {
            let journal = connection.existing_journal(tenant.clone()).await?;
            // A service without authentication has no ledger of tokens and grants.
            if journal.is_none() && tenant.is_admin() {
                continue;
            }
            let journal = journal.with_context(|| format!("tenant {tenant} has no stream"))?;
            let journal: SharedJournal = Arc::new(journal);
            let projections = Projections::new(&config.projections.settings(), tenant.clone())?;
            projections
                .activate_live()
                .await
                .with_context(|| format!("cannot open the projections of {tenant}"))?;
            ledgers.push(Self { tenant: tenant.clone(), journal, projections });
        }
        Ok(ledgers)
    }

    async fn rebuild(&self, origin: Origin, shutdown: &CancellationToken) -> anyhow::Result<Rebuild> {
        let (projections, journal) = (self.projections.clone(), Arc::clone(&self.journal));
        Ok(Rebuild::begin(projections, journal, identity::process(), origin, shutdown.child_token()).await?)
    }
}

/// Reports progress on stderr: entries per second, entries left, and the estimated time left.
fn report_progress(
    tenant: TenantName,
    mut progress: watch::Receiver<Progress>,
) -> tokio_util::task::AbortOnDropHandle<()> {
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let mut last: Option<(Instant, Position)> = None;
        while progress.changed().await.is_ok() {
            let Progress { position, head } = *progress.borrow_and_update();
            let now = Instant::now();
            if let Some((at, from)) = last {
                let rate = position.get().saturating_sub(from.get()) as f64 / (now - at).as_secs_f64();
                let left = head.get().saturating_sub(position.get());
                let eta = if rate > 0.0 { format!("{:.0} s", left as f64 / rate) } else { "?".to_owned() };
                // A closed stderr must not stop the operation.
                let _ = writeln!(
                    io::stderr().lock(),
                    "{tenant}: at {position} of {head}: {rate:.0} entries/s, {left} left, {eta}"
                );
            }
            last = Some((now, position));
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
    }))
}
