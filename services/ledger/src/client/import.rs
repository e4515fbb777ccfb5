//! `release-ledger import`: histories that were kept elsewhere.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ledger_domain::Source;

use super::connection::Connection;
use super::delivery::{Delivered, Delivery};
use super::output::show;
use super::progress::Progress;
use crate::releases;

/// Import a history that was kept elsewhere
#[derive(Debug, clap::Subcommand)]
pub enum Import {
    /// Import a release history
    ///
    /// Each line is one release, in the order in which they happened:
    /// {"n":1,"at":"2026-08-01T12:00:00Z","environment":"production","service":"web","version":"v1",
    /// "commit":"3f2a","actor":"ci"}. A version of null means that nothing runs there any more.
    ///
    /// A row's identity is made from the row itself. So an import that broke off is resumed by running it
    /// again: rows that are there already are answered as duplicates, and nothing is recorded twice. Rows are
    /// recorded in order, and while the service cannot be reached they are sent again.
    Releases(ImportReleases),
}

impl Import {
    /// Runs the command.
    ///
    /// # Errors
    /// As the import's.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Releases(import) => import.run().await,
        }
    }
}

/// The command `import releases`.
#[derive(Debug, clap::Args)]
pub struct ImportReleases {
    /// The history, plain or gzip; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The events' CloudEvents source; of another source, the same rows are other events
    #[arg(long, value_name = "URI", default_value = releases::SOURCE, value_parser = Source::parse)]
    source: Source,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    connection: Connection,
}

/// How many events are sent, and told about.
#[derive(Debug, clap::Args)]
pub(super) struct Sending {
    /// How long to go on while the service takes nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl Sending {
    pub(super) const fn retry_for(&self) -> Duration {
        Duration::from_secs(self.retry_for)
    }

    pub(super) fn show(&self, delivered: &Delivered, units: &str) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(delivered)? } else { delivered.words(units) };
        Ok(show(text.as_bytes())?)
    }
}

impl ImportReleases {
    /// Runs the command.
    ///
    /// # Errors
    /// A row is malformed or will never be recorded, or the service takes none for too long.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client();
        let unreadable = || format!("{} cannot be read", self.file.display());
        let (reader, length) = open(&self.file).with_context(unreadable)?;
        let progress = Progress::of_bytes(length);
        let reader = BufReader::new(progress.reading(reader));
        let rows = releases::events(reader, self.source).with_context(unreadable)?;
        let events = rows.map(|row| {
            let row = row?;
            Ok((row.line, row.envelope.bytes().clone()))
        });
        let retry_for = self.sending.retry_for();
        let delivery = Delivery { client: &client, unit: "line", retry_for, progress };
        let delivered = delivery.bring(events).await?;
        self.sending.show(&delivered, "rows")
    }
}

/// The file and its length in bytes, if it has one.
fn open(path: &Path) -> io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}
