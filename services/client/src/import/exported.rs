//! `release-ledger import github|gitlab|csv|cdviz`: exported histories of other tools.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::FixedOffset;
use ledger_adapters::cdevents;
use ledger_adapters::hooks::{HookKind, Webhook, WebhookSettings};
use ledger_adapters::import::csv::{Mapping, Member, TimeFormat};
use ledger_adapters::import::{Imported, cdviz, csv, decode, github, gitlab};
use ledger_adapters::names::Names;
use ledger_domain::Source;
use ledger_domain::event::CLOCK_TOLERANCE;

use super::names::{NameFlags, pair};
use super::translated::{Translated, TranslatedArgs};
use crate::clock;

/// Maximum size of an unpacked file, in bytes.
const FILE_LIMIT: usize = 1 << 30;

/// The file of a history, and what applies to every history.
#[derive(Debug, clap::Args)]
pub(super) struct ExportedArgs {
    /// The file, plain or gzip; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    names: NameFlags,
    #[command(flatten)]
    translated: TranslatedArgs,
}

impl ExportedArgs {
    fn text(&self) -> anyhow::Result<String> {
        let bytes = if self.file == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read stdin")?;
            bytes
        } else {
            std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?
        };
        decode(&bytes, FILE_LIMIT).with_context(|| format!("cannot read {}", self.file.display()))
    }

    async fn record(&self, imported: Imported) -> anyhow::Result<()> {
        let problem = |note: &ledger_adapters::import::RowNote| format!("row {}: {}", note.row, note.detail);
        let history = Translated {
            unit: "row",
            notes: Vec::new(),
            problems: imported.problems.iter().map(problem).collect(),
            ignored: imported.ignored.len(),
            events: imported.events.into_iter().map(|imported| (imported.row, imported.event)).collect(),
        };
        self.translated.record(history, false).await
    }
}

/// Returns a webhook of a tool with these names, and the defaults of everything else.
fn webhook(kind: HookKind, names: Names) -> anyhow::Result<Webhook> {
    Ok(Webhook::offline(WebhookSettings { names, ..WebhookSettings::of_kind(kind) })?)
}

/// The command `import github`.
#[derive(Debug, clap::Args)]
pub struct ImportGitHub {
    #[command(flatten)]
    exported: ExportedArgs,
}

impl ImportGitHub {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let webhook = webhook(HookKind::GitHub, self.exported.names.clone().names())?;
        let imported = github::read_as_webhook(&self.exported.text()?, &webhook, clock::now());
        self.exported.record(imported).await
    }
}

/// The command `import gitlab`.
#[derive(Debug, clap::Args)]
pub struct ImportGitLab {
    /// The project's address, for deployments that no job made: https://gitlab.example/group/web
    #[arg(long, value_name = "URL")]
    project_url: Option<String>,
    #[command(flatten)]
    exported: ExportedArgs,
}

impl ImportGitLab {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let webhook = webhook(HookKind::GitLab, self.exported.names.clone().names())?;
        let project_url = self.project_url.as_deref();
        let imported = gitlab::read_as_webhook(&self.exported.text()?, project_url, &webhook, clock::now());
        self.exported.record(imported).await
    }
}

/// The command `import cdviz`.
#[derive(Debug, clap::Args)]
pub struct ImportCdviz {
    #[command(flatten)]
    exported: ExportedArgs,
}

impl ImportCdviz {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let settings = cdevents::Settings { names: self.exported.names.clone().names() };
        let imported = cdviz::read(&self.exported.text()?, |event| cdevents::read(event, &settings));
        self.exported.record(imported).await
    }
}

/// The command `import csv`.
#[derive(Debug, clap::Args)]
pub struct ImportCsv {
    /// The column of a member: time, outcome, environment, service, target, slot, version, artifact, config,
    /// infrastructure, commit, deployment, id, actor or reason; may be given several times
    #[arg(long = "map", value_name = "MEMBER=COLUMN", value_parser = mapped, required = true)]
    columns: Vec<(Member, String)>,
    /// The value of a member that has no column, or whose field is empty; may be given several times
    #[arg(long = "set", value_name = "MEMBER=VALUE", value_parser = mapped)]
    constants: Vec<(Member, String)>,
    /// The meaning of a word of the table: started, succeeded, failed, removed or ignored; may be given several times
    #[arg(long = "outcome", value_name = "WORD=OUTCOME", value_parser = pair)]
    outcomes: Vec<(String, String)>,
    /// The form of times: rfc3339, unix, unix-ms, or a pattern of strftime such as '%d.%m.%Y %H:%M'
    #[arg(long, value_name = "FORM", default_value = "rfc3339")]
    time_format: String,
    /// The offset from UTC of times whose pattern has none: +02:00
    #[arg(long, value_name = "OFFSET")]
    utc_offset: Option<FixedOffset>,
    /// The separator of fields: one character, or tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// The type of the actors in the table
    #[arg(long, value_name = "TYPE", default_value = "workload", value_parser = ["person", "workload"])]
    actor_type: String,
    /// The CloudEvents source of the events; with another source, the same rows are other events
    #[arg(long, value_name = "URI", default_value = "urn:release-ledger:import:csv", value_parser = Source::parse)]
    source: Source,
    #[command(flatten)]
    exported: ExportedArgs,
}

fn mapped(text: &str) -> Result<(Member, String), String> {
    let (member, value) = text.split_once('=').ok_or("must have the form MEMBER=VALUE")?;
    Ok((member.parse::<Member>().map_err(|error| error.to_string())?, value.to_owned()))
}

fn delimiter(text: &str) -> Result<u8, &'static str> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("must be one character, or tab"),
    }
}

impl ImportCsv {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let time_format = match self.time_format.as_str() {
            "rfc3339" => TimeFormat::Rfc3339,
            "unix" => TimeFormat::UnixSeconds,
            "unix-ms" => TimeFormat::UnixMilliseconds,
            pattern => TimeFormat::Pattern { pattern: pattern.to_owned(), offset: self.utc_offset },
        };
        let lower = |(word, outcome): (String, String)| (word.to_lowercase(), outcome);
        let mapping = Mapping {
            columns: self.columns.into_iter().collect(),
            constants: self.constants.into_iter().collect(),
            time_format,
            outcomes: self.outcomes.into_iter().map(lower).collect(),
            actor_type: self.actor_type,
            delimiter: self.delimiter,
            names: self.exported.names.clone().names(),
            ..Mapping::new(self.source)
        };
        let imported = csv::read(&self.exported.text()?, &mapping, clock::now() + CLOCK_TOLERANCE)?;
        self.exported.record(imported).await
    }
}
