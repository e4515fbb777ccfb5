//! `release-ledger projections` and `verify`: what operators do with read models, straight at NATS and Postgres.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use ledger_domain::{Position, TenantName};
use ledger_journal::SharedJournal;
use ledger_journal::jetstream::Connection;
use ledger_projections::{Comparison, Origin, Progress, Projections, Rebuild, SchemaVersion};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Flags};
use crate::serve::{start_log, until_signalled};
use ledger_client::identity;
use ledger_client::table;

/// How often a line says how far it is.
const TELL: Duration = Duration::from_secs(2);

/// Fill read models anew, and see which there are
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show which projections there are, of every tenant
    List(Box<List>),
    /// Fill a tenant's projections anew, beside those that answer, and let them answer instead
    Rebuild(Box<RebuildViews>),
}

impl Command {
    /// Does what is asked.
    ///
    /// # Errors
    /// Says what stands in the way.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(schema_version).await,
            Self::Rebuild(rebuild) => rebuild.run(schema_version).await,
        }
    }
}

/// Show which projections there are, of every tenant
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    flags: Flags,
}

impl List {
    async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?;
        let generations =
            ledger_projections::generations(&config.projections.settings(schema_version)).await?;
        let rows: Vec<[String; 7]> = generations
            .into_iter()
            .map(|it| {
                [
                    it.tenant,
                    format!("v{}", it.version),
                    it.number.to_string(),
                    it.state,
                    it.position.map_or_else(|| "-".to_owned(), |position| position.to_string()),
                    (if it.owned { "a process" } else { "nobody" }).to_owned(),
                    format!("{:.1}", it.bytes as f64 / f64::from(1 << 20)),
                ]
            })
            .collect();
        let header = ["tenant", "form", "number", "state", "position", "folded by", "MiB"];
        Ok(writeln!(io::stdout().lock(), "{}", table::render(header, &rows))?)
    }
}

/// Where entries are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// The stream
    Stream,
    /// The copy in the projections that answer, as far as it goes, and then the stream
    Events,
}

/// Fill a tenant's projections anew, beside those that answer, and let them answer instead
///
/// Questions are answered from the old projections meanwhile. The new ones catch up with them and are compared with them at
/// one position; then one transaction switches. Killed, it goes on where it was when it is run again.
#[derive(Debug, clap::Args)]
pub struct RebuildViews {
    #[command(flatten)]
    flags: Flags,
    /// Where entries are taken from
    #[arg(long, value_name = "WHERE", default_value = "stream")]
    from: From,
    /// Compare only: the new projections are dropped, and it fails where they differ
    #[arg(long, conflicts_with = "even_if_history_differs")]
    verify: bool,
    /// Switch even if the stream no longer holds what the old projections were folded from, or they cannot tell
    #[arg(long, conflicts_with = "from")]
    even_if_history_differs: bool,
}

impl RebuildViews {
    async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?;
        start_log(&config.log)?;
        let ending = until_signalled()?;
        let origin = match self.from {
            From::Stream => Origin::Stream,
            From::Events => Origin::Events,
        };
        let mut different = Vec::new();
        for ledger in Opened::all(&config, schema_version).await? {
            let rebuild = ledger.rebuild(origin, &ending).await?;
            let telling = tell(ledger.tenant.clone(), rebuild.progress());
            let compared = if self.verify {
                rebuild.compare().await.map(Some)
            } else {
                rebuild.switch(self.even_if_history_differs).await
            };
            telling.abort();
            let compared = compared.with_context(|| format!("the projections of {}", ledger.tenant))?;
            let tenant = &ledger.tenant;
            let said = match &compared {
                None => format!("{tenant}: the projections are filled anew, and were compared with none"),
                Some(compared) => format!("{tenant}: {}", told(compared)),
            };
            writeln!(io::stdout().lock(), "{said}")?;
            if self.verify && compared.is_some_and(|compared| !compared.different.is_empty()) {
                different.push(said);
            }
        }
        if different.is_empty() { Ok(()) } else { bail!("{}", different.join("; ")) }
    }
}

/// Compare the stream, the copy of it in Postgres, the Merkle tree and the projections
///
/// The first difference is named. Projections are repaired on request; the log never is.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    flags: Flags,
    /// Do not compare the projections, which are filled anew for that
    #[arg(long, conflicts_with = "repair")]
    log_only: bool,
    /// Where only projections differ, fill them anew
    #[arg(long)]
    repair: bool,
}

impl Verify {
    /// Compares.
    ///
    /// # Errors
    /// Something differs, or a part does not answer.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?;
        start_log(&config.log)?;
        let ending = until_signalled()?;
        for ledger in Opened::all(&config, schema_version).await? {
            let (sender, progress) = watch::channel(Progress::default());
            let telling = tell(ledger.tenant.clone(), progress);
            let verified = ledger
                .projections
                .verify(ledger.journal.as_ref(), |position, head| {
                    sender.send_replace(Progress { position, head });
                })
                .await;
            telling.abort();
            let tenant = &ledger.tenant;
            let verified = match verified? {
                Ok(verified) => verified,
                Err(difference) => bail!("{tenant}: {difference}"),
            };
            writeln!(
                io::stdout().lock(),
                "{tenant}: stream, copy and tree agree up to {}: root {}, {} gaps",
                verified.position,
                verified.root,
                verified.gaps
            )?;
            if !self.log_only {
                self.verify_projections(&ledger, &ending).await?;
            }
        }
        Ok(())
    }

    async fn verify_projections(&self, ledger: &Opened, ending: &CancellationToken) -> anyhow::Result<()> {
        let tenant = &ledger.tenant;
        let rebuild = ledger.rebuild(Origin::Stream, ending).await?;
        let telling = tell(tenant.clone(), rebuild.progress());
        let compared =
            if self.repair { rebuild.switch(false).await } else { rebuild.compare().await.map(Some) };
        telling.abort();
        let compared = compared.with_context(|| format!("the projections of {tenant}"))?;
        let Some(compared) = compared else { bail!("{tenant}: no projections answered") };
        let said = told(&compared);
        if compared.different.is_empty() || self.repair {
            let repaired = if compared.different.is_empty() { "" } else { "; they are repaired" };
            return Ok(writeln!(io::stdout().lock(), "{tenant}: {said}{repaired}")?);
        }
        bail!("{tenant}: {said}; --repair fills them anew")
    }
}

fn told(compared: &Comparison) -> String {
    let at = compared.position;
    let tables: Vec<String> = compared
        .different
        .iter()
        .map(|(table, (old, new))| format!("{table} ({} rows, and {} anew)", old.rows, new.rows))
        .collect();
    if tables.is_empty() {
        return format!("the projections, filled anew, are the same at {at}");
    }
    let first = compared.first.as_ref().map_or_else(String::new, |row| {
        let which = if row.answers { "only those that answer have" } else { "only the new ones have" };
        let text: String = row.text.chars().take(300).collect();
        format!("; in {} {which} {text}", row.table)
    });
    format!("the projections, filled anew, differ at {at}: {}{first}", tables.join(", "))
}

/// A tenant's ledger, without the service.
struct Opened {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
}

impl Opened {
    /// The ledgers of the settings' tenants; streams that are not there are not made.
    async fn all(config: &Config, schema_version: SchemaVersion) -> anyhow::Result<Vec<Self>> {
        let connection = Connection::open(config.journal.settings()).await?;
        let mut opened = Vec::new();
        for tenant in &config.tenants {
            let journal = connection.existing_journal(tenant.clone()).await?;
            let journal = journal.with_context(|| format!("{tenant} has no stream"))?;
            let journal: SharedJournal = Arc::new(journal);
            let projections = Projections::of(&config.projections.settings(schema_version), tenant.clone())?;
            projections.find().await.with_context(|| format!("the projections of {tenant}"))?;
            opened.push(Self { tenant: tenant.clone(), journal, projections });
        }
        Ok(opened)
    }

    async fn rebuild(&self, origin: Origin, ending: &CancellationToken) -> anyhow::Result<Rebuild> {
        let (projections, journal) = (self.projections.clone(), Arc::clone(&self.journal));
        Ok(Rebuild::begin(projections, journal, identity::process(), origin, ending.child_token()).await?)
    }
}

/// Says now and then on stderr how far it is: entries a second, how many are left, and how long that takes.
fn tell(
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
                let time = if rate > 0.0 { format!("{:.0} s", left as f64 / rate) } else { "?".to_owned() };
                // Nothing is left to be done where stderr is closed.
                let _ = writeln!(
                    io::stderr().lock(),
                    "{tenant}: at {position} of {head}: {rate:.0} entries/s, {left} left, {time}"
                );
            }
            last = Some((now, position));
            tokio::time::sleep(TELL).await;
        }
    }))
}
