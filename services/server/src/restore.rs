//! `release-ledger restore`: a full copy of the ledger becomes a stream again.

use std::io::Write as _;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use ledger_archive::{Access, Archive, Checkpoint, Restored, Source, Store, restore};
use ledger_domain::{Position, TenantName};
use ledger_journal::Record;
use ledger_journal::jetstream::Connection;
use ledger_projections::{Projections, SchemaVersion};
use serde_json::json;

use crate::archive::tenant;
use crate::config::{Config, Flags};
use ledger_client::environment;

/// Records of the projections' copy that are read at a time.
const PAGE: u32 = 1_000;

/// Make a lost stream again, from an archive or from the projections
///
/// Reads and judges all of the copy first, and writes nothing if any of it is damaged. The stream must not be
/// there, or be empty. Then it has the same positions, bytes and times, and the same root. Cut short, it goes on
/// where it was when it is run again. Services are to be stopped meanwhile.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// From an archive: a folder, or s3://bucket/prefix
    #[arg(
        long,
        value_name = "PLACE",
        required_unless_present = "from_projections",
        conflicts_with = "from_projections"
    )]
    from: Option<String>,
    /// From the tables of the projections, which have every entry as well
    #[arg(long)]
    from_projections: bool,
    /// Whose ledger
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = tenant)]
    tenant: TenantName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Restore {
    /// Restores, and ends.
    ///
    /// # Errors
    /// The copy is damaged, the stream is not fresh, or one of them does not answer.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let config = Config::read(&self.flags)?;
        let source: Box<dyn Source> = match &self.from {
            Some(place) => {
                let store = Store::open(place, Access::Read, environment::storage())?;
                Box::new(Archive::open(store, &self.tenant).await?)
            }
            None => {
                let projections =
                    Projections::of(&config.projections.settings(schema_version), self.tenant.clone())?;
                projections.find().await?;
                Box::new(ProjectionsCopy::open(projections).await?)
            }
        };
        let connection = Connection::open(config.journal.settings()).await?;
        let restored = restore(&*source, &connection, &self.tenant).await?;
        let text = if self.json { restored_json(&restored) } else { restored_words(&restored) };
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

fn restored_words(restored: &Restored) -> String {
    let Restored { position, root, gaps, resumed_after } = restored;
    let mut words = format!("position  {position}\nroot      {root}\ngaps      {gaps}");
    if *resumed_after > Position::START {
        words.push_str(&format!("\nresumed   after {resumed_after}"));
    }
    words
}

/// The second full copy of the ledger, in the tables of the projections.
struct ProjectionsCopy {
    projections: Projections,
    end: Checkpoint,
}

impl ProjectionsCopy {
    async fn open(projections: Projections) -> anyhow::Result<Self> {
        let checkpoint = projections.checkpoint().await?;
        anyhow::ensure!(checkpoint.position > Position::START, "there is nothing in the projections");
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
            let page = self.projections.copy(after, PAGE).await;
            let page = page
                .map_err(|error| ledger_archive::Error::Copy(format!("{:#}", anyhow::Error::from(error))))?;
            let next = page.last().map(Record::position);
            // What is folded meanwhile is not of the copy.
            let page = page.into_iter().filter(move |record| record.position() <= end).map(Ok);
            Ok::<_, ledger_archive::Error>(next.map(|next| (stream::iter(page), next)))
        })
        .try_flatten()
        .boxed()
    }
}
