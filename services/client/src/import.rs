//! `release-ledger import`: imports release histories from elsewhere.

mod exported;
#[cfg(feature = "gitops")]
mod gitops;
mod names;
mod translated;
#[cfg(not(feature = "gitops"))]
mod without_gitops;

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ledger_domain::Source;
use ledger_domain::event::CLOCK_TOLERANCE;

use super::connection::Connection;
use super::delivery::{Delivery, DeliverySummary};
use super::output::print_json_or_text;
use super::progress::Progress;
use crate::clock;
use crate::releases::{self, CheckedHistory, CommitColumn, ParseOptions};

#[cfg(feature = "gitops")]
use gitops::ImportGitOps;
#[cfg(not(feature = "gitops"))]
use without_gitops::ImportGitOps;

/// Number of invalid rows that are reported if nothing is recorded.
const MAX_REPORTED_ROWS: u64 = 20;

/// Import a history that was kept elsewhere
#[derive(Debug, clap::Subcommand)]
pub enum Import {
    /// Import a release history
    ///
    /// Each line is one release, in the order in which they happened:
    /// {"at": "2026-08-01T12:00:00Z", "environment": "production", "service": "web", "version": "v1", "commit": "3f2a",
    /// "actor": "ci"}. A version of null means that the service no longer runs there. Optional columns are
    /// commit, actor, n (the row's number, which is not recorded), deployment, target, slot and artifact. The
    /// file is plain or gzip.
    ///
    /// All rows are checked before anything is recorded. An invalid row is reported with its line and its
    /// field; the command then fails and records nothing, unless --skip-invalid is given.
    ///
    /// A row's identity is derived from its environment, service, target, version and time; of equal rows,
    /// the second is a different event from the first. To resume an interrupted import, run it again, also
    /// with rows added or removed elsewhere: rows that are already recorded are reported as duplicates, and
    /// nothing is recorded twice. A row that differs from the recorded one in another column is a conflict.
    /// Rows are recorded in order, and sent again while the service is unreachable.
    Releases(Box<ImportReleases>),
    /// Import the history of a GitOps repository
    ///
    /// Walks the first-parent history of a local clone. Each commit that changes the release in a file is a deploy to the
    /// lane that the file's path names; a file or field that is gone is a removal. A file that cannot be parsed changes
    /// nothing. A merge counts once. To continue, run it again, or name the last commit with --since: what is recorded
    /// already is a duplicate.
    #[command(name = "gitops")]
    GitOps(Box<ImportGitOps>),
    /// Import the deployments of a GitHub repository
    ///
    /// The file has pages of `GET /repos/OWNER/REPO/deployments`, each deployment with its statuses in `statuses`, or
    /// followed by pages of its `/statuses`.
    #[command(name = "github")]
    GitHub(Box<exported::ImportGitHub>),
    /// Import the deployments of a GitLab project
    ///
    /// The file has pages of `GET /projects/ID/deployments`.
    #[command(name = "gitlab")]
    GitLab(Box<exported::ImportGitLab>),
    /// Import a table in CSV with a header row
    ///
    /// An event's identity is derived from the row's content: a table that is exported again with more rows records only
    /// the new ones, and equal rows are one event.
    Csv(Box<exported::ImportCsv>),
    /// Import the CDEvents of cdviz
    ///
    /// The file has rows of its table, as JSON or CSV: each with a CDEvent in `payload`.
    Cdviz(Box<exported::ImportCdviz>),
}

impl Import {
    /// Runs the command.
    ///
    /// # Errors
    /// The import's errors.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Releases(import) => import.run().await,
            Self::GitOps(import) => import.run().await,
            Self::GitHub(import) => import.run().await,
            Self::GitLab(import) => import.run().await,
            Self::Csv(import) => import.run().await,
            Self::Cdviz(import) => import.run().await,
        }
    }
}

/// The command `import releases`.
#[derive(Debug, clap::Args)]
pub struct ImportReleases {
    /// The history, plain or gzip; - for stdin, which is first copied to a temporary file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The CloudEvents source of the events; with another source, the same rows are other events
    #[arg(long, value_name = "URI", default_value = releases::SOURCE, value_parser = Source::parse)]
    source: Source,
    /// The meaning of the column commit. Releases with different commits are different releases: where each
    /// deploy has a commit of its own, as in a GitOps repository, no deploy would ever return to an earlier
    /// release
    #[arg(long, value_enum, default_value_t = CommitColumn::Build)]
    commit_column_is: CommitColumn,
    /// Record the valid rows, and list the others on stderr
    #[arg(long)]
    skip_invalid: bool,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Flags for sending many events.
#[derive(Debug, clap::Args)]
pub(super) struct DeliveryArgs {
    /// Time limit without progress while the service is unavailable
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl DeliveryArgs {
    pub(super) const fn retry_for(&self) -> Duration {
        Duration::from_secs(self.retry_for)
    }

    pub(super) fn print(&self, summary: &DeliverySummary, units: &str) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(summary)? } else { summary.render(units) };
        Ok(print_json_or_text(self.json, &text)?)
    }
}

impl ImportReleases {
    /// Runs the command.
    ///
    /// # Errors
    /// A row is invalid or is rejected permanently, or the service accepts none for too long.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.clone().client()?;
        let latest = clock::now() + CLOCK_TOLERANCE;
        let options =
            ParseOptions { source: self.source.clone(), commit_column: self.commit_column_is, latest };
        let mut file = open(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let checked = self.check(&file, &options)?;
        let invalid = checked.invalid;
        file.rewind()?;
        let progress = Progress::of_bytes(file.metadata().ok().map(|metadata| metadata.len()));
        let reader = BufReader::new(progress.reading(file));
        let rows = releases::events(reader, options, checked, self.skip_invalid)?;
        let events = rows.map(|row| {
            let row = row?;
            Ok((row.line, row.envelope.bytes().clone()))
        });
        let retry_for = self.delivery.retry_for();
        let delivery = Delivery { client: &client, unit: "line", retry_for, progress, skips_rejected: false };
        let summary = DeliverySummary { skipped: Some(invalid), ..delivery.deliver(events).await? };
        self.delivery.print(&summary, "rows")
    }

    /// Checks all rows and reports the invalid ones: the first [`MAX_REPORTED_ROWS`], or all if they are
    /// skipped.
    fn check(&self, file: &File, options: &ParseOptions) -> anyhow::Result<CheckedHistory> {
        let progress = Progress::of_bytes(file.metadata().ok().map(|metadata| metadata.len()));
        let mut reported = 0;
        let checked = releases::check(BufReader::new(progress.reading(file)), options, |error| {
            if self.skip_invalid || reported < MAX_REPORTED_ROWS {
                reported += 1;
                progress.line(&format!("line {}: {}", error.line, error.kind));
            }
        });
        progress.finish();
        let checked = checked.context("nothing is recorded")?;
        let CheckedHistory { valid, invalid, .. } = checked;
        if invalid > reported {
            progress.line(&format!("and {} more", invalid - reported));
        }
        if invalid > 0 && (!self.skip_invalid || valid == 0) {
            bail!("nothing is recorded: {invalid} of {} rows are invalid", valid + invalid);
        }
        Ok(checked)
    }
}

/// Opens a history so that it can be read twice: copies anything but a regular file to a temporary file.
fn open(path: &Path) -> anyhow::Result<File> {
    let is_stdin = path == Path::new("-");
    if is_stdin {
        return copy_to_temporary(&mut io::stdin().lock());
    }
    let mut file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { copy_to_temporary(&mut file) }
}

fn copy_to_temporary(reader: &mut impl io::Read) -> anyhow::Result<File> {
    let mut file = tempfile::tempfile().context("cannot create a temporary file")?;
    io::copy(reader, &mut file).context("cannot copy the history to a temporary file")?;
    file.rewind()?;
    Ok(file)
}
