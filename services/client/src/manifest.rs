//! `release-ledger manifest`: the state of an environment in formats of infrastructure as code.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::output::print_file;
use super::point_arg::{self, PointSpec};
use super::query::{WaitArgs, with_param};

/// Write the state of an environment, now or at any point, in a format of infrastructure as code
///
/// The same point always gives the same bytes.
#[derive(Debug, clap::Args)]
pub struct Manifest {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The point: `latest`, `last-known-good`, the name of a point, a position, a time, a date, `yesterday`, `2h`
    /// for two hours ago, -N for N changes ago, or `change:N` [default: latest]
    #[arg(long, value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse)]
    at: Option<PointSpec>,
    /// The format
    #[arg(long, default_value = "json", value_parser = ["json", "yaml", "env", "kustomize", "helm-values"])]
    format: String,
    /// The file to write to [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Manifest {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, there is no such point, or the file cannot be written.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "manifest"]);
        let format = if self.json { "json" } else { &self.format };
        let at = self.at.as_ref().map(|at| at.of(&self.environment)).transpose()?;
        let url = with_param(with_param(url, "at", at), "format", Some(format));
        let manifest = self.wait.fetch(&client, url).await?;
        match self.output {
            Some(file) => {
                fs::write(&file, &manifest).with_context(|| format!("cannot write {}", file.display()))
            }
            None => Ok(print_file(&manifest)?),
        }
    }
}
