//! `release-ledger policy`: the policy of an environment.

mod editor;
mod file;

use anyhow::{anyhow, bail};
use ledger_api_types::PolicyBody;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Kind, LongText};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::editor::Draft;
use self::file::{PolicyFile, differences, parse};
use super::author::{ActorArgs, Author};
use super::compose::{Attributes, compose_event};
use super::connection::{Client, Connection};
use super::output::print_text;
use super::query::{QueryArgs, head, read, with_param};
use super::session::CommandArgs;

/// Show, check and declare the policy of an environment
#[derive(Debug, clap::Subcommand)]
pub enum Policy {
    /// Show the policy of an environment
    #[command(after_help = "Example:
  release-ledger policy show production")]
    Show(Show),
    /// Declare a policy: it replaces the former one as a whole
    ///
    /// It is sent at once or fails; it is never spooled. An environment that is unknown or retired is declared by it.
    #[command(after_help = "Examples:
  release-ledger policy set production policy.json --reason 'Two approvals.'")]
    Set(Box<Set>),
    /// Edit the policy in force, and declare it if it changed
    ///
    /// Opens the editor that VISUAL or EDITOR names. If the policy is invalid, or was declared again in the meantime,
    /// nothing is declared, and the edited file is kept.
    #[command(after_help = "Example:
  EDITOR=vi release-ledger policy edit production")]
    Edit(Box<Edit>),
    /// Compare a policy in a file with the one in force
    #[command(after_help = "Example:
  release-ledger policy diff production policy.json

Exit status:
  0  they are the same
  1  they differ
  2  they cannot be compared, or the arguments are invalid")]
    Diff(Diff),
    /// Check a policy in a file, without a service
    #[command(after_help = "Example:
  release-ledger policy check policy.json")]
    Check(Check),
}

/// The policy in a file differs from the one in force.
#[derive(Debug, thiserror::Error)]
#[error("the policy in {file} differs from the one of {environment}")]
pub struct PolicyDiffers {
    file: String,
    environment: EnvironmentName,
}

/// The command `policy show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// As declared at this position
    #[arg(long, value_name = "POSITION")]
    known_at: Option<u64>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// The command `policy set`.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    #[command(flatten)]
    file: PolicyFile,
    #[command(flatten)]
    declaration: DeclarationArgs,
}

/// The command `policy edit`.
#[derive(Debug, clap::Args)]
pub struct Edit {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    #[command(flatten)]
    declaration: DeclarationArgs,
}

/// Flags of a declaration.
#[derive(Debug, clap::Args)]
struct DeclarationArgs {
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    by: ActorArgs,
    #[command(flatten)]
    sending: CommandArgs,
}

/// The command `policy diff`.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    #[command(flatten)]
    file: PolicyFile,
    #[command(flatten)]
    connection: Connection,
}

/// The command `policy check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    file: PolicyFile,
}

impl Policy {
    /// Returns true for `policy diff`, whose exit status tells a difference from a failure.
    #[must_use]
    pub const fn is_diff(&self) -> bool {
        matches!(self, Self::Diff(_))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The subcommand's errors; [`PolicyDiffers`] if `policy diff` finds a difference.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(show) => show.run().await,
            Self::Set(set) => set.run().await,
            Self::Edit(edit) => edit.run().await,
            Self::Diff(diff) => diff.run().await,
            Self::Check(check) => {
                check.file.read()?;
                Ok(print_text(&format!("the policy in {} is valid", check.file.name()))?)
            }
        }
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "policy"]);
        self.query.fetch_and_print(&client, with_param(url, "known_at", self.known_at), render).await
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let policy = self.file.read()?;
        let event = self.declaration.event(&self.environment, policy)?;
        self.declaration.sending.send(&event).await
    }
}

impl Edit {
    async fn run(self) -> anyhow::Result<()> {
        // Before the user spends time on an edit.
        let author = self.declaration.by.author()?;
        let client = self.declaration.sending.connection().clone().client()?;
        let before = in_force(&client, &self.environment).await?;
        let draft = Draft::new(&format!("{:#}\n", Value::Object(before.policy.clone())))?;
        let text = draft.edit().await?;
        match self.declare(&client, &author, &before, &text).await {
            Ok(()) => Ok(()),
            Err(error) => Err(match draft.keep() {
                Some(path) => error.context(format!("not declared; your edit is in {}", path.display())),
                None => error,
            }),
        }
    }

    /// Declares the edited policy, unless it is the one before.
    async fn declare(
        self,
        client: &Client,
        author: &Author,
        before: &InForce,
        text: &str,
    ) -> anyhow::Result<()> {
        let policy = parse(text).map_err(|fault| anyhow!("invalid policy: {fault}"))?;
        let environment = &self.environment;
        if policy == before.policy {
            return Ok(print_text(&format!("the policy of {environment} is unchanged"))?);
        }
        let now = in_force(client, environment).await?;
        if now.declared != before.declared {
            bail!(
                "the policy of {environment} was declared again in the meantime, at position {}",
                now.declared.unwrap_or_default()
            );
        }
        let event = declaration(environment, policy, self.declaration.reason.as_ref(), author)?;
        self.declaration.sending.send(&event).await
    }
}

impl Diff {
    async fn run(self) -> anyhow::Result<()> {
        let policy = self.file.read()?;
        let client = self.connection.client()?;
        let differences = differences(&in_force(&client, &self.environment).await?.policy, &policy);
        if differences.is_empty() {
            return Ok(print_text(&format!("the policy of {} is the same", self.environment))?);
        }
        print_text(&differences.join("\n"))?;
        Err(PolicyDiffers { file: self.file.name(), environment: self.environment }.into())
    }
}

impl DeclarationArgs {
    fn event(&self, environment: &EnvironmentName, policy: Map<String, Value>) -> anyhow::Result<Envelope> {
        declaration(environment, policy, self.reason.as_ref(), &self.by.author()?)
    }
}

/// Composes the declaration of a policy.
fn declaration(
    environment: &EnvironmentName,
    policy: Map<String, Value>,
    reason: Option<&LongText>,
    author: &Author,
) -> anyhow::Result<Envelope> {
    let mut data = Map::new();
    data.insert("environment".to_owned(), environment.as_str().into());
    data.insert("policy".to_owned(), Value::Object(policy));
    if let Some(reason) = reason {
        data.insert("reason".to_owned(), reason.as_str().into());
    }
    author.add_to(&mut data);
    let attributes = Attributes { source: Some(&author.source), ..Attributes::default() };
    let places = &[("/data/environment", "ENVIRONMENT"), ("/data/policy", "FILE"), ("/data/actor", "--by")];
    compose_event(Kind::EnvironmentDeclared, attributes, data, places)
}

/// The policy in force, as declared.
#[derive(Debug, Deserialize)]
struct InForce {
    declared: Option<u64>,
    policy: Map<String, Value>,
}

async fn in_force(client: &Client, environment: &EnvironmentName) -> anyhow::Result<InForce> {
    let url = client.url(&["environments", environment.as_str(), "policy"]);
    let url = with_param(url, "wait_for", Some(head(client).await?));
    read(&client.get(url).await?)
}

fn render(body: &PolicyBody) -> String {
    match body.declared {
        // Print the plain policy: it is what environment.declared accepts.
        Some(position) => format!("{} since position {position}\n{:#}", body.environment, body.policy),
        None => format!("{} has no policy", body.environment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_shown_as_declared() {
        let rendered = |json: &str| render(&read(json.as_bytes()).expect("a body"));
        assert_eq!(
            rendered(r#"{"environment":"dev","position":9,"declared":3,"policy":{"approvals":1}}"#),
            "dev since position 3\n{\n  \"approvals\": 1\n}"
        );
        assert_eq!(rendered(r#"{"environment":"dev","position":9,"policy":{}}"#), "dev has no policy");
    }
}
