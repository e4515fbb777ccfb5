//! `release-ledger policy`: the policy of an environment.

mod editor;
mod file;

use anyhow::{anyhow, bail};
use ledger_api_types::{EntryBody, EventsBody, PolicyBody};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Identity, Kind, LongText};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::editor::Draft;
use self::file::{PolicyFile, differences, parse};
use super::author::{ActorArgs, Author};
use super::compose::{Attributes, compose_event};
use super::connection::{Client, Connection};
use super::found::FoundArgs;
use super::output::{print_json_or_text, print_notice, print_text};
use super::point_arg;
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
    /// It is sent at once or fails; it is never spooled. An environment that is unknown or retired is declared by it. If
    /// another policy is declared at the same moment, a line on stderr names the declaration that it replaces.
    #[command(after_help = "Examples:
  release-ledger policy set production policy.json --reason 'Two approvals.'")]
    Set(Box<Set>),
    /// Edit the policy in force, and declare it if it changed
    ///
    /// Opens the editor that VISUAL or EDITOR names. If the policy is invalid, or was declared again in the meantime,
    /// nothing is declared, and the edited file is kept. If it is declared again at the same moment, a line on stderr
    /// names the declaration that the edit replaces.
    #[command(after_help = "Example:
  EDITOR=vi release-ledger policy edit production")]
    Edit(Box<Edit>),
    /// Compare a policy in a file with the one in force
    #[command(after_help = "Example:
  release-ledger policy diff production policy.json
  release-ledger policy diff production policy.json --exit-code

Exit status:
  0  they are the same, or they differ and neither --exit-code nor --quiet is given
  1  they cannot be compared
  2  the arguments are invalid
  3  they differ, with --exit-code or --quiet")]
    Diff(Diff),
    /// Check a policy in a file, without a service
    #[command(after_help = "Example:
  release-ledger policy check policy.json")]
    Check(Check),
}

/// The command `policy show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// As declared at this position, or from what the ledger had recorded by this time
    #[arg(long, value_name = "POSITION|TIME", allow_hyphen_values = true, value_parser = point_arg::parse_known_at)]
    known_at: Option<String>,
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
    found: FoundArgs,
    /// Print {"environment":…,"differences":["MEMBER: OLD -> NEW",…]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The command `policy check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    file: PolicyFile,
    /// Print {"file":…,"policy":{…}}
    #[arg(long)]
    json: bool,
}

impl Policy {
    /// Runs the command.
    ///
    /// # Errors
    /// The subcommand's errors; [`Found`](super::Found) if `policy diff` finds a difference and its flags ask for the exit
    /// code.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(show) => show.run().await,
            Self::Set(set) => set.run().await,
            Self::Edit(edit) => edit.run().await,
            Self::Diff(diff) => diff.run().await,
            Self::Check(check) => check.run(),
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
        let client = self.declaration.sending.connection().clone().client()?;
        // A ledger that does not answer now may do so within the time limit for sending.
        let known = head(&client).await.ok();
        self.declaration.sending.send(&event).await?;
        if let Some(known) = known {
            report_replaced(&client, &self.environment, known, &event).await;
        }
        Ok(())
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
        self.declaration.sending.send(&event).await?;
        report_replaced(client, environment, now.position, &event).await;
        Ok(())
    }
}

impl Diff {
    async fn run(self) -> anyhow::Result<()> {
        let policy = self.file.read()?;
        let client = self.connection.client()?;
        let differences = differences(&in_force(&client, &self.environment).await?.policy, &policy);
        if self.found.prints() {
            let environment = &self.environment;
            let text = match (self.json, differences.is_empty()) {
                (true, _) => {
                    json!({"environment": environment.as_str(), "differences": differences}).to_string()
                }
                (false, true) => format!("the policy of {environment} is the same"),
                (false, false) => differences.join("\n"),
            };
            print_json_or_text(self.json, &text)?;
        }
        self.found.result(!differences.is_empty())
    }
}

impl Check {
    fn run(self) -> anyhow::Result<()> {
        let (policy, name) = (self.file.read()?, self.file.name());
        let text = match self.json {
            true => json!({"file": name, "policy": policy}).to_string(),
            false => format!("the policy in {name} is valid"),
        };
        Ok(print_json_or_text(self.json, &text)?)
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
    position: u64,
    declared: Option<u64>,
    policy: Map<String, Value>,
}

async fn in_force(client: &Client, environment: &EnvironmentName) -> anyhow::Result<InForce> {
    let url = client.url(&["environments", environment.as_str(), "policy"]);
    let url = with_param(url, "wait_for", Some(head(client).await?));
    read(&client.get(url).await?)
}

/// A declaration among the events.
#[derive(Debug, Deserialize)]
struct DeclaredBody {
    id: String,
    source: String,
}

/// Prints which declarations the event replaced that its author had not seen: those after the position `known`. The
/// ledger accepts every declaration, so that the last one is in force.
async fn report_replaced(client: &Client, environment: &EnvironmentName, known: u64, event: &Envelope) {
    match replaced(client, environment, known, event).await {
        Ok(positions) => positions.into_iter().for_each(|position| {
            print_notice(&format!(
                "it replaces the policy that was declared at the same moment, at position {position}; see it by \
                 `release-ledger policy show {environment} --known-at {position}`"
            ));
        }),
        Err(error) => {
            print_notice(&format!("cannot find out whether it replaces another new policy: {error:#}"));
        }
    }
}

async fn replaced(
    client: &Client,
    environment: &EnvironmentName,
    known: u64,
    event: &Envelope,
) -> anyhow::Result<Vec<u64>> {
    let url = with_param(client.url(&["events"]), "environment", Some(environment));
    let url = with_param(url, "type", Some(Kind::EnvironmentDeclared.name()));
    let url = with_param(with_param(url, "after", Some(known)), "limit", Some(1000));
    let url = with_param(url, "wait_for", Some(head(client).await?));
    Ok(replaced_by(&read(&client.get(url).await?)?, event.identity()))
}

/// Returns the positions of the declarations before that of an identity.
fn replaced_by(body: &EventsBody<DeclaredBody>, own: &Identity) -> Vec<u64> {
    let is_own = |entry: &EntryBody<DeclaredBody>| {
        entry.event.id == own.id.as_str() && entry.event.source == own.source.as_str()
    };
    let before = body.events.iter().position(is_own).unwrap_or_default();
    body.events.iter().take(before).map(|entry| entry.position).collect()
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
    fn declarations_before_the_own_one_are_replaced_by_it() {
        let entry = |position: u64, id: &str| {
            let event = format!(r#"{{"id":"{id}","source":"release-ledger-cli"}}"#);
            let recorded_at = "2026-08-01T12:00:01Z";
            format!(
                r#"{{"position":{position},"recorded_at":"{recorded_at}","leaf_hash":"ab","event":{event}}}"#
            )
        };
        let actor = crate::actor::parse("ada").expect("an actor");
        let author = Author { actor, source: "release-ledger-cli".to_owned(), links: Vec::new() };
        let environment = EnvironmentName::parse("dev").expect("a name");
        let event = declaration(&environment, Map::new(), None, &author).expect("an event");
        let own = event.identity();
        let events = [entry(4, "other"), entry(5, own.id.as_str()), entry(6, "later")].join(",");
        let body = read(format!(r#"{{"position":6,"events":[{events}]}}"#).as_bytes()).expect("a body");
        assert_eq!(replaced_by(&body, own), [4]);
    }

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
