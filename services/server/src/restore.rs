//! `release-ledger restore`: recreates a lost stream from a full copy of the ledger.

use std::io::Write as _;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use ledger_archive::{Access, Archive, Checkpoint, Restored, Source, Store, restore};
use ledger_domain::{Position, TenantName};
use ledger_journal::Record;
use ledger_journal::jetstream::Connection;
use ledger_projections::{Projections, SchemaVersion};
use serde_json::json;

use crate::archive::parse_tenant;
use crate::config::{Config, Flags};
use ledger_client::environment;

/// Number of records per read of the copy in the projections.
const PAGE_SIZE: u32 = 1_000;

/// Recreate a lost stream from an archive or from the projections
///
/// Verifies the whole copy first, and writes nothing if any of it is damaged. The stream must be missing or empty.
/// Afterwards it has the same positions, bytes, times and Merkle root. If interrupted, run it again: it resumes. Stop
/// all services before.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// Restore from an archive: a directory, or s3://bucket/prefix
    #[arg(
        long,
        value_name = "PLACE",
        required_unless_present = "from_projections",
        conflicts_with = "from_projections"
    )]
    from: Option<String>,
    /// Restore from the database of the projections, which also holds every entry
    #[arg(long)]
    from_projections: bool,
    /// Tenant that owns the ledger
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_tenant)]
    tenant: TenantName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Restore {
    /// Restores the stream.
    ///
    /// # Errors
    /// The copy is damaged, the stream is neither missing nor empty, or one of them is unavailable.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?.with_schema_version(schema_version);
        let source: Box<dyn Source> = match &self.from {
            Some(place) => {
                let store = Store::open(place, Access::Read, environment::storage())?;
                Box::new(Archive::open(store, &self.tenant).await?)
            }
            None => {
                let projections = Projections::new(&config.projections.settings(), self.tenant.clone())?;
                projections.activate_live().await?;
                Box::new(ProjectionsCopy::open(projections).await?)
            }
        };
        let connection = Connection::open(config.journal.settings()).await?;
        let restored = restore(&*source, &connection, &self.tenant).await?;
        let text = if self.json { restored_json(&restored) } else { restored_text(&restored) };
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }
}

fn restored_json(restored: &Restored) -> String {
    let value = json!({
        "position": restored.position.get(),
        "root": restored.root.to_string(),
        "gaps": restored.gaps,
        "resumed_after": restored.resumed_after.get(),
    });
    value.to_string()
}

fn restored_text(restored: &Restored) -> String {
    let Restored { position, root, gaps, resumed_after } = restored;
    let mut text = format!("position  {position}\nroot      {root}\ngaps      {gaps}");
    if *resumed_after > Position::START {
        text.push_str(&format!("\nresumed   after {resumed_after}"));
    }
    text
}

/// Full copy of the ledger in the database of the projections.
struct ProjectionsCopy {
    projections: Projections,
    end: Checkpoint,
}

impl ProjectionsCopy {
    async fn open(projections: Projections) -> anyhow::Result<Self> {
        let checkpoint = projections.checkpoint().await?;
        anyhow::ensure!(checkpoint.position > Position::START, "the projections hold no entries to restore");
        let end = Checkpoint { position: checkpoint.position, root: checkpoint.root };
        Ok(Self { projections, end })
    }
}

impl Source for ProjectionsCopy {
    fn end(&self) -> Checkpoint {
        self.end
    }

    fn read(&self, after: Position) -> BoxStream<'_, Result<Record, ledger_archive::Error>> {
        let end = self.end.position;
        stream::try_unfold(after, move |after| async move {
            if after >= end {
                return Ok(None);
            }
            let page = self.projections.copy(after, PAGE_SIZE).await;
            let page = page.map_err(|error| ledger_archive::Error::Copy(error.into()))?;
            let next = page.last().map(Record::position);
            // Exclude entries that are projected meanwhile.
            let page = page.into_iter().filter(move |record| record.position() <= end).map(Ok);
            Ok::<_, ledger_archive::Error>(next.map(|next| (stream::iter(page), next)))
        })
        .try_flatten()
        .boxed()
    }
}
