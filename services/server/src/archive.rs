//! `release-ledger archive`: the ledger copied to where neither its stream nor its tables are.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ledger_archive::{Access, Archiver, Limits, Store, Verified};
use ledger_domain::TenantName;
use ledger_journal::jetstream::Connection;
use serde_json::json;

use crate::config::{Config, Flags};
use crate::serve::{start_log, until_signalled};
use ledger_client::environment;

/// Copy the ledger into an archive
///
/// Writes what the stream has and the archive has not, as sealed segments with a manifest each, and a
/// checkpoint with the root of the Merkle tree. What is archived is never written again.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Archive {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to: a folder, or s3://bucket/prefix (with AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and their like)
    #[arg(long, value_name = "PLACE", required = true)]
    to: Option<String>,
    /// Whose ledger
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = tenant)]
    tenant: TenantName,
    /// Go on with what comes, until SIGTERM
    #[arg(long)]
    follow: bool,
    /// Seal a segment at so many positions
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..))]
    segment_entries: u64,
    /// Seal a segment at so many bytes before compression
    #[arg(long, value_name = "BYTES", default_value = "33554432", value_parser = clap::value_parser!(u32).range(1..))]
    segment_bytes: u32,
    /// With --follow, seal a segment when its first entry has waited so many seconds
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

/// Read all of an archive, and name the first thing that is wrong
///
/// Neither the stream nor the tables are asked. A file that is not what its manifest says is named, with the
/// line and the position where that can be told.
#[derive(Debug, clap::Args)]
struct Verify {
    /// Where it is: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Whose ledger
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = tenant)]
    tenant: TenantName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Archive {
    /// Archives, and ends; or follows until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The stream or the archive does not answer, the archive is damaged, or it is of another stream.
    pub async fn run(self) -> anyhow::Result<()> {
        if let Some(Command::Verify(verify)) = self.command {
            return verify.run().await;
        }
        let config = Config::read(&self.flags)?;
        if self.follow {
            start_log(&config.log)?;
        }
        let to = self.to.context("--to says where to")?;
        let store = Store::open(&to, Access::Write, environment::storage())?;
        let ending = until_signalled()?;
        let archived = async {
            let connection = Connection::open(config.journal.settings()).await?;
            // A stream that is lost is not to be made anew by its archiver.
            let journal = connection.existing_journal(self.tenant.clone()).await?;
            let journal = journal.with_context(|| format!("there is no stream of {}", self.tenant))?;
            let limits = Limits {
                entries: self.segment_entries,
                bytes: usize::try_from(self.segment_bytes)?,
                age: Duration::from_secs(self.segment_age),
            };
            let mut archiver = Archiver::open(store, Arc::new(journal), self.tenant, limits).await?;
            match self.follow {
                true => archiver.follow(&ending).await?,
                false => archiver.archive().await?,
            }
            anyhow::Ok(archiver)
        };
        let archiver = if self.follow {
            archived.await?
        } else {
            tokio::select! {
                archiver = archived => archiver?,
                () = ending.cancelled() => anyhow::bail!("asked to end before everything was archived"),
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
        let text = if self.json { verified_json(&found) } else { verified_words(&found) };
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
        "unnamed_files": found.unnamed,
    });
    value.to_string()
}

fn verified_words(found: &Verified) -> String {
    let mut words = format!(
        "position  {}\nroot      {}\nsegments  {}\nentries   {}\ngaps      {}\nstream    created at {}",
        found.position, found.root, found.segments, found.entries, found.gaps, found.stream_created
    );
    if found.unnamed > 0 {
        words.push_str(&format!("\nbesides   {} files that no manifest names", found.unnamed));
    }
    words
}

/// A tenant's name, from the command line.
pub(crate) fn tenant(name: &str) -> Result<TenantName, String> {
    TenantName::parse(name).map_err(|error| error.to_string())
}
