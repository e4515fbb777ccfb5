//! `release-ledger hook`: what a delivery of a webhook would record, without a service.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use ledger_adapters::hooks::{Request, Webhook, describe, translate};
use ledger_adapters::translation::Translation;
use ledger_client::clock;

use crate::config::{Config, Flags};

/// Try the settings of webhooks
#[derive(Debug, clap::Subcommand)]
pub enum HookCommand {
    /// Show what a delivery would record, without recording it
    ///
    /// Reads the settings of a webhook from the service's settings, and a payload of its tool from a file. Needs no
    /// service, and no secret: the signature is not verified.
    Test(Box<Test>),
}

impl HookCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The settings or a file cannot be read, or the payload cannot be understood.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Test(test) => test.run(),
        }
    }
}

/// The command `hook test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger hook test github-main payload.json --headers headers.txt --config ledger.toml

The file of headers has one header a line, such as X-GitHub-Event: deployment_status.")]
pub struct Test {
    /// The webhook's name in the settings
    #[arg(value_name = "NAME")]
    name: String,
    /// The payload, as the tool sends it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The delivery's headers, one a line
    #[arg(long, value_name = "FILE")]
    headers: Option<PathBuf>,
    /// The service's settings
    #[arg(long, value_name = "FILE", env = "RELEASE_LEDGER_CONFIG")]
    config: Option<PathBuf>,
}

impl Test {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::read(&Flags::of_file(self.config))?;
        let table = config.hooks.get(&self.name).with_context(|| {
            let names: Vec<&str> = config.hooks.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none; set --config".to_owned() } else { names.join(", ") };
            format!("the settings have no webhook {}; they have: {names}", self.name)
        })?;
        let webhook = Webhook::offline(table.settings().clone())
            .with_context(|| format!("invalid settings: hooks.{}", self.name))?;
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let body = read(&self.file)?;
        let headers = self.headers.as_ref().map(&read).transpose()?.unwrap_or_default();
        let headers = String::from_utf8_lossy(&headers).into_owned();
        let headers = headers.lines().filter_map(|line| line.split_once(':'));
        let request = Request::new(headers.map(|(name, value)| (name.trim(), value.trim())), &body);
        let translation = translate(&webhook, &request, clock::now());
        for line in &describe(&translation) {
            writeln!(std::io::stdout().lock(), "{}", ledger_client::printable(line))?;
        }
        ensure!(translation.is_ok(), "the payload cannot be understood");
        let is_partial = matches!(translation, Ok(Translation::Partial(_)));
        ensure!(!is_partial, "a part of the payload cannot be understood");
        Ok(())
    }
}
