//! `release-ledger import`: histories that were kept elsewhere.

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ledger_domain::Source;
use ledger_domain::event::CLOCK_TOLERANCE;

use super::connection::Connection;
use super::delivery::{Delivered, Delivery};
use super::output::show_either;
use super::progress::Progress;
use crate::clock;
use crate::releases::{self, Checked, CommitColumn, Reading};

/// How many rows that are not valid are reported one by one, where all must be repaired before anything is recorded.
const REPORTED: u64 = 20;

/// Import a history that was kept elsewhere
#[derive(Debug, clap::Subcommand)]
pub enum Import {
    /// Import a release history
    ///
    /// Each line is one release, in the order in which they happened:
    /// {"at":"2026-08-01T12:00:00Z","environment":"production","service":"web","version":"v1","commit":"3f2a",
    /// "actor":"ci"}. A version of null means that nothing runs there any more. Optional columns are commit, actor,
    /// n (the row's number, which is not recorded), deployment, target, slot and artifact. The file is plain or gzip.
    ///
    /// All rows are checked before anything is recorded. A row that is not valid is reported with its line and its
    /// field; the command then fails and records nothing, unless --skip-invalid is given.
    ///
    /// A row's identity is made from its environment, service, target, version and time; of equal rows, the second
    /// is another event than the first. So an import that broke off is resumed by running it again, also with rows
    /// added or left out elsewhere: rows that are recorded are answered as duplicates, and nothing is recorded twice.
    /// A row that says something else than before in another column is a conflict. Rows are recorded in order, and
    /// while the service cannot be reached they are sent again.
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
    /// The history, plain or gzip; - for stdin, which is first written to a temporary file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The events' CloudEvents source; of another source, the same rows are other events
    #[arg(long, value_name = "URI", default_value = releases::SOURCE, value_parser = Source::parse)]
    source: Source,
    /// What the column commit says. Releases with different commits are different releases: where each deploy has a
    /// commit of its own, as in a GitOps repository, no deploy would ever bring an earlier release back
    #[arg(long, value_enum, default_value_t = CommitColumn::Build)]
    commit_column_is: CommitColumn,
    /// Record the valid rows, and list the others on stderr
    #[arg(long)]
    skip_invalid: bool,
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
        let text = if self.json { serde_json::to_string(delivered)? } else { delivered.render(units) };
        Ok(show_either(self.json, &text)?)
    }
}

impl ImportReleases {
    /// Runs the command.
    ///
    /// # Errors
    /// A row is not valid or will never be recorded, or the service takes none for too long.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.clone().client();
        let latest = clock::now() + CLOCK_TOLERANCE;
        let reading = Reading { source: self.source.clone(), commit_is: self.commit_column_is, latest };
        let mut file = open(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let checked = self.checked(&file, &reading)?;
        let invalid = checked.invalid;
        file.rewind()?;
        let progress = Progress::of_bytes(file.metadata().ok().map(|metadata| metadata.len()));
        let reader = BufReader::new(progress.reading(file));
        let rows = releases::events(reader, reading, checked, self.skip_invalid)?;
        let events = rows.map(|row| {
            let row = row?;
            Ok((row.line, row.envelope.bytes().clone()))
        });
        let retry_for = self.sending.retry_for();
        let delivery = Delivery { client: &client, unit: "line", retry_for, progress };
        let delivered = Delivered { skipped: Some(invalid), ..delivery.bring(events).await? };
        self.sending.show(&delivered, "rows")
    }

    /// Checks all rows, and reports those that are not valid: the first of them, or all if they are skipped.
    fn checked(&self, file: &File, reading: &Reading) -> anyhow::Result<Checked> {
        let progress = Progress::of_bytes(file.metadata().ok().map(|metadata| metadata.len()));
        let mut reported = 0;
        let checked = releases::check(BufReader::new(progress.reading(file)), reading, |error| {
            if self.skip_invalid || reported < REPORTED {
                reported += 1;
                progress.line(&format!("line {}: {}", error.line, error.fault));
            }
        });
        progress.finish();
        let checked = checked.context("nothing is recorded")?;
        let Checked { valid, invalid, .. } = checked;
        if invalid > reported {
            progress.line(&format!("and {} more", invalid - reported));
        }
        if invalid > 0 && (!self.skip_invalid || valid == 0) {
            bail!("nothing is recorded: {invalid} of {} rows are not valid", valid + invalid);
        }
        Ok(checked)
    }
}

/// Opens a history that can be read twice: what is no file is first written to a temporary one.
fn open(path: &Path) -> anyhow::Result<File> {
    let is_stdin = path == Path::new("-");
    if is_stdin {
        return spooled(&mut io::stdin().lock());
    }
    let mut file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { spooled(&mut file) }
}

fn spooled(reader: &mut impl io::Read) -> anyhow::Result<File> {
    let mut file = tempfile::tempfile().context("cannot make a temporary file")?;
    io::copy(reader, &mut file).context("cannot copy it to a temporary file")?;
    file.rewind()?;
    Ok(file)
}
