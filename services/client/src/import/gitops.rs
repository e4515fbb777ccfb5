//! `release-ledger import gitops`: the history of a GitOps repository.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use ledger_domain::Source;
use ledger_domain::event::CLOCK_TOLERANCE;
use ledger_gitops::{
    CommitPart, CommitReport, Consequence, Extraction, FieldPath, Format, History, Options, PathPattern,
    Repository, Rule, ValueForm,
};
use tokio::time::sleep;

use super::names::NameFlags;
use super::translated::{Translated, TranslatedArgs};
use crate::clock;
use crate::output::print_notice;

/// The command `import gitops`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger import gitops . --path 'charts/{service}/{environment}.yaml' --field image.tag
  release-ledger import gitops . --path 'overlays/{environment}/kustomization.yaml' --preset kustomize --dry-run
  release-ledger import gitops . --path 'apps/{environment}/*.yaml' --preset argocd --follow")]
pub struct ImportGitOps {
    /// The repository: a clone that is not shallow
    #[arg(value_name = "REPO")]
    repository: PathBuf,
    /// The files, with {environment}, {service} and {target} for the parts that name them; * and ** stand for others
    #[arg(long, value_name = "PATTERN")]
    path: PathPattern,
    #[command(flatten)]
    extraction: ExtractionArgs,
    /// The format of the files [default: by their extension]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// The commit after which changes are recorded: the last one that an earlier import printed
    #[arg(long, value_name = "REV")]
    since: Option<String>,
    /// The newest commit: a branch, a tag or a commit
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    head: String,
    /// Wait for new commits in the repository, and record them
    #[arg(long, conflicts_with = "dry_run")]
    follow: bool,
    /// The interval at which --follow looks for commits
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    interval: u64,
    /// The part of an event that the commit becomes. As infrastructure, each commit deploys another release: no deploy
    /// returns to an earlier one
    #[arg(long, value_enum, default_value_t = CommitIs::Deployment)]
    commit_is: CommitIs,
    /// The CloudEvents source of the events [default: the address of the remote origin]
    #[arg(long, value_name = "URI", value_parser = Source::parse)]
    source: Option<Source>,
    #[command(flatten)]
    names: NameFlags,
    #[command(flatten)]
    translated: TranslatedArgs,
}

/// The place of the release in a file.
#[derive(Debug, clap::Args)]
struct ExtractionArgs {
    /// The field that states the version: image.tag, spec.containers[name=web].image
    #[arg(long, value_name = "FIELD", required_unless_present = "preset", conflicts_with = "preset")]
    field: Option<FieldPath>,
    /// The field states an image with its tag or digest, and not a version alone
    #[arg(long, requires = "field")]
    field_is_image: bool,
    /// The tool whose files state the release
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// The name of the image, if a Kustomization has several
    #[arg(long, value_name = "NAME", requires = "preset")]
    image: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Preset {
    /// image.tag and image.digest in the values of a Helm chart
    Helm,
    /// The images of a Kustomization
    Kustomize,
    /// The targetRevision of Argo CD Applications
    Argocd,
    /// The chart and image of Flux `HelmReleases`
    Flux,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    Yaml,
    Json,
    Toml,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CommitIs {
    /// The infrastructure of the release
    Infrastructure,
    /// The name of the deployment
    Deployment,
}

impl ExtractionArgs {
    fn extraction(self) -> Option<Extraction> {
        let form = if self.field_is_image { ValueForm::Image } else { ValueForm::Version };
        match (self.field, self.preset) {
            (Some(field), _) => Some(Extraction::Field { field, form }),
            (None, Some(Preset::Helm)) => Some(Extraction::Helm),
            (None, Some(Preset::Kustomize)) => Some(Extraction::Kustomize { image: self.image }),
            (None, Some(Preset::Argocd)) => Some(Extraction::ArgoCd),
            (None, Some(Preset::Flux)) => Some(Extraction::Flux),
            (None, None) => None,
        }
    }
}

impl ImportGitOps {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let repository = Repository::open(&self.repository)?;
        let source = match self.source {
            Some(source) => source,
            None => {
                let of_origin = repository.source().context(
                    "invalid --source: the repository has no remote origin with an address; name a source",
                )?;
                Source::parse(&of_origin).context("invalid --source: name one")?
            }
        };
        let commit_part = match self.commit_is {
            CommitIs::Infrastructure => CommitPart::Infrastructure,
            CommitIs::Deployment => CommitPart::Deployment,
        };
        let format = self.format.map(|format| match format {
            FileFormat::Yaml => Format::Yaml,
            FileFormat::Json => Format::Json,
            FileFormat::Toml => Format::Toml,
        });
        let extraction = self.extraction.extraction().context("give --field or --preset")?;
        let rule = Rule { pattern: self.path, extraction, format, names: self.names.names() };
        let latest = clock::now() + CLOCK_TOLERANCE;
        let options =
            Options { source: source.clone(), head: self.head, after: self.since, latest, commit_part };
        let mut history = History::new(repository, vec![rule], options)?;
        loop {
            let reports: Result<Vec<CommitReport>, _> = history.by_ref().collect();
            let translated = translated(reports?, &source, commit_part);
            let has_changes = !translated.events.is_empty();
            // While it follows, a file that cannot be read must not end it: its lane keeps what it ran.
            self.translated.record(translated, self.follow).await?;
            if let (true, Some(commit)) = (has_changes && !self.translated.dry_run, history.last_commit()) {
                print_notice(&format!("imported up to commit {commit}: --since continues after it"));
            }
            if !self.follow {
                return Ok(());
            }
            while history.refresh()? == 0 {
                sleep(Duration::from_secs(self.interval)).await;
            }
        }
    }
}

fn translated(reports: Vec<CommitReport>, source: &Source, commit_part: CommitPart) -> Translated {
    let mut translated = Translated { unit: "commit", ..Translated::default() };
    for (number, report) in (1..).zip(reports) {
        let events = report.changes.iter().map(|change| (number, change.event(source, commit_part)));
        translated.events.extend(events);
        for problem in &report.problems {
            match problem.consequence {
                Consequence::Recorded => translated.notes.push(problem.to_string()),
                Consequence::LaneKept | Consequence::Skipped => translated.problems.push(problem.to_string()),
            }
        }
    }
    translated
}
