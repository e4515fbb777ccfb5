//! `release-ledger approve` and `reject`: decisions of people about deploys.

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::{Kind, LongText};
use serde_json::{Map, Value};

use super::author::ActorArgs;
use super::compose::{Attributes, Places, compose_event};
use super::known::never_ran;
use super::output::print_notice;
use super::release::DeployArgs;
use super::session::CommandArgs;
use super::when::parse_future;

/// The arguments of the members that these commands set.
const PLACES: &Places = &[
    ("/data/environment", "ENVIRONMENT"),
    ("/data/service", "SERVICE"),
    ("/data/release", "VERSION"),
    ("/data/release/version", "VERSION"),
    ("/data/release/artifact", "--artifact"),
    ("/data/release/config", "--config"),
    ("/data/release/infrastructure", "--infrastructure"),
    ("/data/release/commit", "--commit"),
    ("/data/expires_at", "--until"),
    ("/data/actor", "--by"),
];

/// Approve a deploy of a release
///
/// The approval covers the release as far as it states it. It counts if the policy of the environment asks for
/// approvals and another person wants to deploy. For rollbacks, see `release-ledger rollback approve`.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  release-ledger approve production web v2
  release-ledger approve production web v2 --until 1d --by noa"
)]
pub struct Approve {
    #[command(flatten)]
    decision: DecisionArgs,
    /// When the approval expires: a time, a date, or a duration from now such as 1d [default: it does not]
    #[arg(long, value_name = "TIME", value_parser = parse_future)]
    until: Option<DateTime<Utc>>,
}

/// Reject a deploy of a release, also one that the same person approved
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Example:
  release-ledger reject production web v2 --reason 'Wait for the migration.'"
)]
pub struct Reject {
    #[command(flatten)]
    decision: DecisionArgs,
}

/// The deploy, and flags that both commands take.
#[derive(Debug, clap::Args)]
struct DecisionArgs {
    #[command(flatten)]
    deploy: DeployArgs,
    /// The environment is new: no event names it so far; without this flag, an unknown environment is an error
    #[arg(long)]
    new: bool,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    by: ActorArgs,
    #[command(flatten)]
    sending: CommandArgs,
}

impl Approve {
    /// Runs the command.
    ///
    /// # Errors
    /// No event names the environment, or the approval is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        let until = self.until.map(|until| until.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        self.decision.record(Kind::ApprovalGranted, until).await
    }
}

impl Reject {
    /// Runs the command.
    ///
    /// # Errors
    /// No event names the environment, or the rejection is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        self.decision.record(Kind::ApprovalRejected, None).await
    }
}

impl DecisionArgs {
    async fn record(self, kind: Kind, expires_at: Option<String>) -> anyhow::Result<()> {
        let author = self.by.author()?;
        let mut data = self.data(expires_at);
        author.add_to(&mut data);
        let attributes = Attributes { source: Some(&author.source), ..Attributes::default() };
        let event = compose_event(kind, attributes, data, PLACES)?;
        if !self.new {
            self.sending.check_known(&self.deploy.environment).await?;
        }
        let client = self.sending.connection().clone().client()?;
        self.sending.send(&event).await?;
        // A version that never ran there is what an approval is for.
        let DeployArgs { environment, service, .. } = &self.deploy;
        if let Some(note) = never_ran(&client, environment, service, None).await {
            print_notice(&note);
        }
        Ok(())
    }

    fn data(&self, expires_at: Option<String>) -> Map<String, Value> {
        let DeployArgs { environment, service, version, target, release } = &self.deploy;
        let members = [
            ("environment", Some(Value::from(environment.as_str()))),
            ("service", Some(Value::from(service.as_str()))),
            ("target", target.as_ref().map(|target| Value::from(target.as_str()))),
            ("release", Some(Value::Object(release.members(Some(version.as_str()))))),
            ("expires_at", expires_at.map(Value::String)),
            ("reason", self.reason.as_ref().map(|reason| Value::from(reason.as_str()))),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
