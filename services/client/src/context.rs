//! `release-ledger context`: services by name.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use ledger_domain::TenantName;
use serde_json::json;

use super::contexts::{self, ContextUrl, Contexts, Settings, TokenSource, check_name};
use super::credentials;
use super::invalid::invalid;
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, column};
use crate::environment;

/// Maximum number of bytes that are read from stdin.
const MAX_STDIN_BYTES: u64 = 64 << 10;

/// Name services, and choose the one that commands use
///
/// Contexts are in $XDG_CONFIG_HOME/release-ledger/config.toml, or ~/.config/release-ledger/config.toml.
#[derive(Debug, clap::Subcommand)]
pub enum Context {
    /// List the contexts; * marks the current one
    List(List),
    /// Show a context
    Show(Show),
    /// Make a context the current one
    Use(Use),
    /// Add a context; the first one becomes the current one
    Add(Box<Add>),
    /// Remove a context, and the token that is stored for it
    Remove(Remove),
}

impl Context {
    /// Runs the command.
    ///
    /// # Errors
    /// The contexts cannot be read or written.
    pub async fn run(self) -> anyhow::Result<()> {
        let CommandOutput { output, json, report } =
            self.run_in(&environment::config_dir()?, io::stdin().lock())?;
        output.print(json.as_bytes(), || Ok(report))
    }

    /// Runs the command with the settings in a folder. Returns what to print.
    fn run_in(self, folder: &Path, stdin: impl io::Read) -> anyhow::Result<CommandOutput> {
        Ok(match self {
            Self::List(list) => {
                let contexts = Contexts::read(folder)?;
                let json = serde_json::to_string(&contexts)?;
                CommandOutput { output: list.output, json, report: render(&contexts) }
            }
            Self::Show(show) => {
                let contexts = Contexts::read(folder)?;
                let shown = show.select(contexts)?;
                let (json, text) = (serde_json::to_string(&shown)?, toml::to_string(&shown)?);
                CommandOutput { output: OutputArgs::json_or_text(show.json), json, report: text.into() }
            }
            Self::Use(selected) => {
                let mut settings = Settings::open(folder)?;
                settings.contexts.get(&selected.name)?;
                settings.contexts.current = Some(selected.name.clone());
                settings.save()?;
                let text = format!("{} is the current context", selected.name);
                changed(selected.json, &selected.name, &settings.contexts, text)
            }
            Self::Add(add) => add.run(folder, stdin)?,
            Self::Remove(remove) => remove.run(folder)?,
        })
    }
}

/// Output of a command.
struct CommandOutput {
    output: OutputArgs,
    json: String,
    report: Report,
}

/// Returns the output of a change: a sentence, or as JSON the context and the current one.
fn changed(is_json: bool, name: &str, contexts: &Contexts, text: String) -> CommandOutput {
    let json = json!({"context": name, "current": contexts.current}).to_string();
    CommandOutput { output: OutputArgs::json_or_text(is_json), json, report: text.into() }
}

/// The command `context list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    output: OutputArgs,
}

/// The command `context show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The context [default: the current one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print {"current":…,"contexts":{NAME:{…}}}
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Returns the contexts, limited to one.
    fn select(&self, contexts: Contexts) -> anyhow::Result<Contexts> {
        let name = self.name.clone().or_else(|| contexts.current.clone());
        let name =
            name.context("there is no current context; set one with `release-ledger context use NAME`")?;
        let context = contexts.get(&name)?.clone();
        let current = contexts.current.filter(|current| *current == name);
        Ok(Contexts { current, contexts: [(name, context)].into() })
    }
}

/// The command `context use`.
#[derive(Debug, clap::Args)]
pub struct Use {
    /// The context
    #[arg(value_name = "NAME")]
    name: String,
    /// Print {"context":NAME,"current":NAME}
    #[arg(long)]
    json: bool,
}

/// The command `context add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger context add production --url https://ledger.example --token-stdin < token
  release-ledger context add production --url https://ledger.example --token-command pass show ledger")]
pub struct Add {
    /// The name: letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME", value_parser = check_name)]
    name: String,
    /// The URL of the service, without credentials
    #[arg(long, value_name = "URL")]
    url: String,
    /// The tenant [default: default]
    #[arg(long, value_name = "NAME", value_parser = TenantName::parse_any)]
    tenant: Option<TenantName>,
    #[command(flatten)]
    token: TokenArgs,
    /// A file with further certificate authorities, in PEM form
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The audience for which the CI issues its identity
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// Print {"context":NAME,"current":NAME}
    #[arg(long)]
    json: bool,
}

/// Source of the token of a new context.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
struct TokenArgs {
    /// The file with the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A program that prints the token, and its arguments: everything that follows. It runs without a shell
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    token_command: Option<Vec<String>>,
    /// Read the token from stdin, and store it
    #[arg(long)]
    token_stdin: bool,
}

impl Add {
    fn run(self, folder: &Path, stdin: impl io::Read) -> anyhow::Result<CommandOutput> {
        let url =
            ContextUrl::parse(&self.url).map_err(|reason| invalid(format!("invalid --url: {reason}")))?;
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        let mut context = contexts::Context {
            tenant: self.tenant.as_ref().map(ToString::to_string),
            token_file: absolute(self.token.token_file).context("invalid --token-file")?,
            token_command: self.token.token_command,
            ca_file: absolute(self.ca_file).context("invalid --ca-file")?,
            audience: self.audience,
            ..contexts::Context::new(url)
        };
        let token = if self.token.token_stdin { Some(read_token(stdin)?) } else { None };
        let mut settings = Settings::open(folder)?;
        ensure!(
            !settings.contexts.contexts.contains_key(&self.name),
            "context {0} exists; remove it first with `release-ledger context remove {0}`",
            self.name
        );
        if let Some(token) = token {
            context.token_file = Some(settings.store_token(&self.name, token.expose().as_bytes())?);
        }
        settings.contexts.contexts.insert(self.name.clone(), context);
        let is_first = settings.contexts.current.is_none();
        if is_first {
            settings.contexts.current = Some(self.name.clone());
        }
        settings.save()?;
        let current = if is_first { "; it is the current context" } else { "" };
        let text = format!("added context {}{current}", self.name);
        Ok(changed(self.json, &self.name, &settings.contexts, text))
    }
}

fn read_token(stdin: impl io::Read) -> anyhow::Result<credentials::Token> {
    let mut text = String::new();
    let read = stdin.take(MAX_STDIN_BYTES + 1).read_to_string(&mut text);
    read.context("cannot read the token from stdin")?;
    if text.len() as u64 > MAX_STDIN_BYTES {
        bail!("cannot read the token from stdin: it has more than {MAX_STDIN_BYTES} bytes");
    }
    Ok(credentials::Token::parse(&text, "stdin")?)
}

/// The command `context remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The context
    #[arg(value_name = "NAME")]
    name: String,
    /// Print {"context":NAME,"current":NAME}
    #[arg(long)]
    json: bool,
}

impl Remove {
    fn run(&self, folder: &Path) -> anyhow::Result<CommandOutput> {
        let mut settings = Settings::open(folder)?;
        settings.contexts.get(&self.name)?;
        settings.contexts.contexts.remove(&self.name);
        let is_current = settings.contexts.current.as_ref() == Some(&self.name);
        if is_current {
            settings.contexts.current = None;
        }
        settings.save()?;
        settings.remove_token(&self.name)?;
        let current = if is_current { "; there is no current context" } else { "" };
        let text = format!("removed context {}{current}", self.name);
        Ok(changed(self.json, &self.name, &settings.contexts, text))
    }
}

fn render(contexts: &Contexts) -> Report {
    let columns = [
        column("current", 0),
        column("context", 0),
        column("url", 0),
        column("tenant", 1),
        column("token", 2),
    ];
    let row = |(name, context): (&String, &contexts::Context)| -> [Cell; 5] {
        let is_current = contexts.current.as_ref() == Some(name);
        let token = context.token().map(|token| match token {
            TokenSource::File(path) => path.display().to_string(),
            TokenSource::Command(command) => {
                format!("`{}`", command.first().map(String::as_str).unwrap_or_default())
            }
        });
        [
            is_current.then_some("*").into(),
            name.clone().into(),
            context.url.url().to_string().into(),
            context.tenant.clone().into(),
            token.into(),
        ]
    };
    let table = Table::new(columns).if_empty("no contexts").named_by("context");
    Report::default().with_table(table.with_rows(contexts.contexts.iter().map(row)))
}

#[cfg(test)]
mod tests;
