//! `release-ledger freeze`, `unfreeze` and `retire`: decisions about a whole environment.

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Kind, LongText, ShortText};
use serde_json::{Map, Value};

use super::author::{ActorArgs, Author};
use super::compose::{Attributes, Places, compose_event};
use super::freeze_list::ListFreezes;
use super::session::CommandArgs;
use super::when::parse_future;

/// The name of a freeze if none is given.
const DEFAULT_NAME: &str = "manual";

/// The arguments of the members that these commands set.
const PLACES: &Places =
    &[("/data/environment", "ENVIRONMENT"), ("/data/freeze_id", "--name"), ("/data/actor", "--by")];

/// Freeze an environment: its gate denies deploys until the freeze is lifted or ends
///
/// A deploy that ignores the gate is recorded, with the note that it occurred during a freeze. A freeze is sent at
/// once or fails; it is never spooled.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  release-ledger freeze production --reason 'The sale starts.'
  release-ledger freeze production --reason 'Holidays.' --until 14d --name holidays
  release-ledger freeze production --reason 'Incident 42.' --until 2h
  release-ledger freeze list production"
)]
pub struct Freeze {
    #[command(subcommand)]
    command: Option<FreezeCommand>,
    // Options, since a subcommand has neither.
    /// The environment
    #[arg(value_name = "ENVIRONMENT", required = true)]
    environment: Option<EnvironmentName>,
    /// The reason
    #[arg(long, value_name = "TEXT", required = true, value_parser = LongText::parse)]
    reason: Option<LongText>,
    /// When the freeze ends automatically: a time, a date, or a duration from now such as 2h [default: it does not]
    #[arg(long, value_name = "TIME", value_parser = parse_future)]
    until: Option<DateTime<Utc>>,
    /// The freeze's name; several freezes may hold at once
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME, value_parser = ShortText::parse_identifier)]
    name: ShortText,
    /// The environment is new: no event names it so far; without this flag, an unknown environment is an error
    #[arg(long)]
    new: bool,
    #[command(flatten)]
    by: ActorArgs,
    #[command(flatten)]
    sending: CommandArgs,
}

/// Subcommands of `freeze`.
#[derive(Debug, clap::Subcommand)]
enum FreezeCommand {
    List(Box<ListFreezes>),
}

impl Freeze {
    /// Runs the command.
    ///
    /// # Errors
    /// No event names the environment, the freeze is already active, or it is not recorded; those of `freeze list`.
    pub async fn run(self) -> anyhow::Result<()> {
        if let Some(FreezeCommand::List(list)) = self.command {
            return list.run().await;
        }
        let environment = self.environment.context("ENVIRONMENT is missing")?;
        let mut data = named(&self.name);
        if let Some(until) = self.until {
            data.insert("until".to_owned(), until.to_rfc3339_opts(SecondsFormat::AutoSi, true).into());
        }
        let author = self.by.author()?;
        let event = decision(Kind::FreezeStarted, &environment, self.reason.as_ref(), &author, data)?;
        if !self.new {
            self.sending.check_known(&environment).await?;
        }
        self.sending.send(&event).await
    }
}

/// Lift a freeze of an environment
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger unfreeze production
  release-ledger unfreeze production --name holidays --reason 'All are back.'")]
pub struct Unfreeze {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    /// The freeze's name; the gate shows the names of the active ones
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME, value_parser = ShortText::parse_identifier)]
    name: ShortText,
    #[command(flatten)]
    by: ActorArgs,
    #[command(flatten)]
    sending: CommandArgs,
}

impl Unfreeze {
    /// Runs the command.
    ///
    /// # Errors
    /// No event names the environment, the freeze is not active, or its end is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        let (author, data) = (self.by.author()?, named(&self.name));
        let event = decision(Kind::FreezeLifted, &self.environment, self.reason.as_ref(), &author, data)?;
        self.sending.check_exists(&self.environment).await?;
        self.sending.send(&event).await
    }
}

/// Retire an environment: it runs nothing any more, and its history stays
///
/// Later reports about it change nothing until it is declared again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  release-ledger retire preview-17 --reason 'The pull request is merged.'")]
pub struct Retire {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    by: ActorArgs,
    #[command(flatten)]
    sending: CommandArgs,
}

impl Retire {
    /// Runs the command.
    ///
    /// # Errors
    /// No event names the environment, or the retirement is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        let (kind, author) = (Kind::EnvironmentRetired, self.by.author()?);
        let event = decision(kind, &self.environment, self.reason.as_ref(), &author, Map::new())?;
        self.sending.check_exists(&self.environment).await?;
        self.sending.send(&event).await
    }
}

fn named(freeze: &ShortText) -> Map<String, Value> {
    Map::from_iter([("freeze_id".to_owned(), freeze.as_str().into())])
}

/// Composes a decision about an environment, with further members of its data.
fn decision(
    kind: Kind,
    environment: &EnvironmentName,
    reason: Option<&LongText>,
    author: &Author,
    mut data: Map<String, Value>,
) -> anyhow::Result<Envelope> {
    data.insert("environment".to_owned(), environment.as_str().into());
    if let Some(reason) = reason {
        data.insert("reason".to_owned(), reason.as_str().into());
    }
    author.add_to(&mut data);
    let attributes = Attributes { source: Some(&author.source), ..Attributes::default() };
    compose_event(kind, attributes, data, PLACES)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    enum Command {
        Freeze(Box<Freeze>),
        Unfreeze(Box<Unfreeze>),
    }

    #[test]
    fn a_freeze_and_its_end_have_the_same_name() {
        let parse = |arguments: &[&str]| Command::try_parse_from([&["test"], arguments].concat());
        let freeze = parse(&["freeze", "dev", "--reason", "x"]).expect("valid");
        let unfreeze = parse(&["unfreeze", "dev"]).expect("valid");
        let (Command::Freeze(freeze), Command::Unfreeze(unfreeze)) = (freeze, unfreeze) else {
            panic!("a freeze and its end")
        };
        assert_eq!(freeze.name, unfreeze.name);
        let missing = parse(&["freeze", "dev"]).expect_err("no reason").to_string();
        assert!(missing.contains("--reason <TEXT>"), "{missing}");
    }
}
