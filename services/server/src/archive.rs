//! `release-ledger archive`: copies the ledger to storage apart from its stream and its database.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ledger_archive::{Access, Archiver, SegmentLimits, Store, Verified};
use ledger_domain::TenantName;
use ledger_journal::jetstream::Connection;
use serde_json::json;

use crate::config::{Config, Flags};
use crate::serve::{init_logging, shutdown_on_signal};
use ledger_client::environment;

/// Copy the ledger into an archive
///
/// Writes the entries that the archive lacks as sealed segments, each with a manifest, and a checkpoint with the root
/// of the Merkle tree. Never rewrites archived files.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Archive {
    #[command(subcommand)]
    command: Option<Command>,
    /// Destination: a directory, or s3://bucket/prefix (uses AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on)
    #[arg(long, value_name = "PLACE", required = true)]
    to: Option<String>,
    /// Tenant that owns the ledger
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_tenant)]
    tenant: TenantName,
    /// Keep archiving new entries until SIGTERM
    #[arg(long)]
    follow: bool,
    /// Seal a segment after this many positions
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    segment_entries: u64,
    /// Seal a segment after this many bytes, before compression
    #[arg(long, value_name = "BYTES", default_value = "33554432")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    segment_bytes: u32,
    /// With --follow, seal a segment this many seconds after its first entry
    #[arg(long, value_name = "S", default_value = "60")]
    segment_age: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Verify(Verify),
}

/// Read a whole archive and report the first error
///
/// Reads neither the stream nor the database. Names a file that differs from its manifest, with the line and the
/// position if they are known.
#[derive(Debug, clap::Args)]
struct Verify {
    /// Location of the archive: a directory, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Tenant that owns the ledger
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_tenant)]
    tenant: TenantName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Archive {
    /// Archives once, or with `--follow` until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The stream or the archive is unavailable, or the archive is damaged or belongs to another stream.
    pub async fn run(self) -> anyhow::Result<()> {
        if let Some(Command::Verify(verify)) = self.command {
            return verify.run().await;
        }
        let config = Config::read(&self.flags)?;
        if self.follow {
            init_logging(&config.log)?;
        }
        let to = self.to.context("missing destination; pass --to")?;
        let store = Store::open(&to, Access::Write, environment::storage())?;
        let shutdown = shutdown_on_signal()?;
        let archived = async {
            let connection = Connection::open(config.journal.settings()).await?;
            // Do not create a missing stream: a lost stream must be restored.
            let journal = connection.existing_journal(self.tenant.clone()).await?;
            let journal = journal.with_context(|| format!("tenant {} has no stream", self.tenant))?;
            let limits = SegmentLimits {
                entries: self.segment_entries,
                bytes: usize::try_from(self.segment_bytes)?,
                age: Duration::from_secs(self.segment_age),
            };
            let mut archiver = Archiver::open(store, Arc::new(journal), self.tenant, limits).await?;
            match self.follow {
                true => archiver.follow(&shutdown).await?,
                false => archiver.archive().await?,
            }
            anyhow::Ok(archiver)
        };
        let archiver = if self.follow {
            archived.await?
        } else {
            tokio::select! {
                archiver = archived => archiver?,
                () = shutdown.cancelled() => anyhow::bail!("stopped by a signal before archiving completed"),
            }
        };
        let (end, segments) = (archiver.end(), archiver.segments());
        let text = if self.json {
            let (position, root) = (end.position.get(), end.root.to_string());
            json!({"position": position, "root": root, "segments": segments}).to_string()
        } else {
            format!("position  {}\nroot      {}\nsegments  {segments} more", end.position, end.root)
        };
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }
}

impl Verify {
    async fn run(self) -> anyhow::Result<()> {
        let store = Store::open(&self.from, Access::Read, environment::storage())?;
        let archive = ledger_archive::Archive::open(store, &self.tenant).await?;
        let found = archive.verify().await?;
        let text = if self.json { verified_json(&found) } else { verified_text(&found) };
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }
}

fn verified_json(found: &Verified) -> String {
    let value = json!({
        "position": found.position.get(),
        "root": found.root.to_string(),
        "segments": found.segments,
        "entries": found.entries,
        "gaps": found.gaps,
        "stream_created": found.stream_created,
        "unnamed_files": found.unreferenced_files,
    });
    value.to_string()
}

fn verified_text(found: &Verified) -> String {
    let mut text = format!(
        "position  {}\nroot      {}\nsegments  {}\nentries   {}\ngaps      {}\nstream    created at {}",
        found.position, found.root, found.segments, found.entries, found.gaps, found.stream_created
    );
    if found.unreferenced_files > 0 {
        text.push_str(&format!("\nunnamed   {} files that no manifest names", found.unreferenced_files));
    }
    text
}

/// Parses a tenant name from the command line.
pub(crate) fn parse_tenant(name: &str) -> Result<TenantName, String> {
    TenantName::parse_any(name).map_err(|error| error.to_string())
}
