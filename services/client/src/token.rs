//! `release-ledger token`: API tokens.
//!
//! Invariant: the secret of a token is created here, and only its hash is sent.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::ValueEnum;
use ledger_access::ApiToken;
use ledger_api_types::{TokenBody, TokensBody};
use ledger_domain::access::TokenId;
use ledger_domain::event::{Payload, TokenCreation, TokenRotation};
use ledger_domain::{LongText, PrincipalKind, ShortText, parse_duration};
use serde_json::{Map, Value};

use super::administration::{ChangeArgs, Unknown, print_change};
use super::connection::{Connection, Error};
use super::credentials::Surroundings;
use super::invalid::invalid;
use super::output::{print_json, print_notice, print_text};
use super::query::read;
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, Tone, column};
use super::when::parse_future;
use crate::clock;

/// Create, rotate, revoke and list API tokens
///
/// The secret of a token is shown once, when it is created; the service stores its hash only. Commands find a token in
/// --token-file, RELEASE_LEDGER_TOKEN or a context.
#[derive(Debug, clap::Subcommand)]
pub enum Token {
    /// Print a new token, and the lines that make its owner an administrator
    ///
    /// Works without a service: add the lines to the settings file of one that is about to start.
    Generate(Generate),
    /// Create a token
    Create(Box<Create>),
    /// Replace the secret of a token
    Rotate(Box<Rotate>),
    /// Revoke a token: it is not accepted any more
    Revoke(Box<Revoke>),
    /// List the tokens
    List(Box<List>),
}

impl Token {
    /// Runs the command.
    ///
    /// # Errors
    /// The service rejects the change or does not answer, or the token cannot be written.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Create(create) => create.create(&Surroundings::of_process()).await?.print(),
            Self::Rotate(rotate) => rotate.rotate(&Surroundings::of_process()).await?.print(),
            Self::Revoke(revoke) => revoke.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

/// The type of the owner of a token.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OwnerKind {
    /// A person, whose approvals count
    Person,
    /// A pipeline or another program
    Workload,
}

impl From<OwnerKind> for PrincipalKind {
    fn from(kind: OwnerKind) -> Self {
        match kind {
            OwnerKind::Person => Self::Person,
            OwnerKind::Workload => Self::Workload,
        }
    }
}

/// Destination of a new secret.
#[derive(Debug, clap::Args)]
struct SecretOutput {
    /// Write the token to this new file, which only you can read, instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print {"token":ID,"secret":…} and what the command adds; with --output, {"token":ID,"file":FILE}
    #[arg(long)]
    json: bool,
}

impl SecretOutput {
    /// Writes the token to the file, if one is given. The secret must be safe before the service accepts it.
    fn prepare(&self, token: &ApiToken) -> anyhow::Result<()> {
        let Some(path) = &self.output else { return Ok(()) };
        write_secret(path, token)
            .with_context(|| format!("cannot create the --output file {}", path.display()))
    }

    /// Removes the file of a token that was not created.
    fn discard(&self) {
        if let Some(path) = &self.output
            && let Err(error) = fs::remove_file(path)
        {
            print_notice(&format!("cannot remove {}: {error}", path.display()));
        }
    }

    /// Prints the token, unless it is in a file, with further members as JSON.
    fn print_json(&self, token: &ApiToken, mut members: Map<String, Value>) -> anyhow::Result<()> {
        members.insert("token".to_owned(), token.id().to_string().into());
        match &self.output {
            Some(path) => members.insert("file".to_owned(), path.display().to_string().into()),
            None => members.insert("secret".to_owned(), token.expose().into()),
        };
        let printed = print_json(Value::Object(members).to_string().as_bytes());
        printed.context("cannot print the token; rotate it to get another")
    }

    /// Prints the token, unless it is in a file.
    fn print(&self, token: &ApiToken) -> anyhow::Result<()> {
        match &self.output {
            Some(path) => print_notice(&format!("the token is in {}", path.display())),
            None => print_text(token.expose()).context("cannot print the token; rotate it to get another")?,
        }
        Ok(())
    }
}

/// A secret that the service has accepted.
#[derive(Debug)]
struct NewSecret {
    token: ApiToken,
    output: SecretOutput,
    /// Position of the change.
    position: u64,
    /// What happened.
    notice: String,
}

impl NewSecret {
    fn print(self) -> anyhow::Result<()> {
        print_notice(&self.notice);
        if self.output.json {
            let members = Map::from_iter([("position".to_owned(), self.position.into())]);
            return self.output.print_json(&self.token, members);
        }
        self.output.print(&self.token)
    }
}

/// Creates a file with a token.
fn write_secret(path: &Path, token: &ApiToken) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", token.expose())?;
    file.sync_all()
}

/// The command `token generate`.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// The name of the owner, who is the actor of everything that is sent with the token
    #[arg(long, value_name = "NAME", value_parser = ShortText::parse)]
    name: ShortText,
    /// The type of the owner
    #[arg(long, value_enum, value_name = "TYPE", default_value = "person")]
    kind: OwnerKind,
    #[command(flatten)]
    output: SecretOutput,
}

impl Generate {
    fn run(self) -> anyhow::Result<()> {
        let token = ApiToken::generate().context("cannot create a random token")?;
        self.output.prepare(&token)?;
        let lines = settings(&token, &self.name, self.kind.into());
        if self.output.json {
            let members = Map::from_iter([("settings".to_owned(), lines.into())]);
            return self.output.print_json(&token, members);
        }
        self.output.print(&token)?;
        Ok(print_text(&lines)?)
    }
}

/// Returns the lines of the settings file for an administrator with a token.
fn settings(token: &ApiToken, name: &ShortText, kind: PrincipalKind) -> String {
    let name = toml::Value::from(name.as_str());
    format!(
        "[[access.administrators]]\nname = {name}\nkind = \"{kind}\"\ntoken = \"{}\"\nhash = \"{}\"",
        token.id(),
        token.hash()
    )
}

/// The command `token create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// The name of the owner, who is the actor of everything that is sent with the token
    #[arg(long, value_name = "NAME", value_parser = ShortText::parse)]
    name: ShortText,
    /// The type of the owner
    #[arg(long, value_enum, value_name = "TYPE")]
    kind: OwnerKind,
    /// The token ends after this time, such as 90d [default: it ends when it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "expires_at")]
    expires_in: Option<TimeDelta>,
    /// The token ends at this time: a time such as 2026-12-27T06:00Z, a date (00:00 UTC), or `2h` for two hours from now
    #[arg(long, value_name = "TIME", value_parser = parse_future)]
    expires_at: Option<DateTime<Utc>>,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    output: SecretOutput,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Create {
    async fn create(self, surroundings: &Surroundings) -> anyhow::Result<NewSecret> {
        let now = clock::now();
        let expires_at = self.expires_in.map(|duration| now + duration).or(self.expires_at);
        if expires_at.is_some_and(|end| end <= now) {
            return Err(invalid("invalid --expires-in or --expires-at: the token would end at once"));
        }
        let token = ApiToken::generate().context("cannot create a random token")?;
        let payload = Payload::TokenCreated(TokenCreation {
            token: token.id().clone(),
            kind: self.kind.into(),
            name: self.name.clone(),
            hash: token.hash(),
            expires_at,
        });
        let id = format!("token-{}", token.id());
        let (client, _) = self.change.client(surroundings)?;
        self.output.prepare(&token)?;
        let recorded = self.change.record(&client, &id, payload, self.reason).await;
        let position = recorded.map_err(|error| not_recorded(error, &self.output, &token))?;
        let end = expires_at.map(|end| format!(", ends {}", end.to_rfc3339_opts(SecondsFormat::Secs, true)));
        let (owner, end) = (self.name, end.unwrap_or_default());
        let notice = format!("created token {} of {owner}{end} (position {position})", token.id());
        Ok(NewSecret { token, output: self.output, position, notice })
    }
}

/// The command `token rotate`.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The id of the token
    #[arg(value_name = "ID", value_parser = TokenId::parse)]
    token: TokenId,
    /// The former secret is accepted for this time
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    overlap: TimeDelta,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    output: SecretOutput,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Rotate {
    async fn rotate(self, surroundings: &Surroundings) -> anyhow::Result<NewSecret> {
        let token = ApiToken::generate_for(self.token.clone()).context("cannot create a random token")?;
        let previous_until = clock::now() + self.overlap;
        let hash = token.hash();
        let payload =
            Payload::TokenRotated(TokenRotation { token: self.token.clone(), hash, previous_until });
        let id = format!("token-{}-{}", self.token, hex::encode(&hash.bytes()[..8]));
        let (client, _) = self.change.client(surroundings)?;
        self.output.prepare(&token)?;
        let recorded = self.change.record(&client, &id, payload, self.reason).await;
        let position = recorded.map_err(|error| not_recorded(error, &self.output, &token))?;
        let until = previous_until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let notice = format!(
            "rotated token {}; the former secret is accepted until {until} (position {position})",
            self.token
        );
        Ok(NewSecret { token, output: self.output, position, notice })
    }
}

/// Returns the error for a secret that the service did not accept. Removes it from the file, unless the answer was lost.
fn not_recorded(error: anyhow::Error, output: &SecretOutput, token: &ApiToken) -> anyhow::Error {
    let id = token.id();
    if error.is::<Unknown>() {
        let text = format!("look for token {id} with `release-ledger token list`, and revoke or rotate it");
        return error.context(text);
    }
    output.discard();
    match error.downcast_ref::<Error>() {
        Some(Error::Unreachable { .. }) => error.context(format!("nothing changed for token {id}")),
        _ => error,
    }
}

/// The command `token revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The id of the token
    #[arg(value_name = "ID", value_parser = TokenId::parse)]
    token: TokenId,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    /// Print {"token":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let (client, _) = self.change.client(&Surroundings::of_process())?;
        let payload = Payload::TokenRevoked(self.token.clone());
        let id = format!("token-{}-revoked", self.token);
        let position = self.change.record(&client, &id, payload, Some(self.reason)).await?;
        let text = format!("token {} is revoked", self.token);
        print_change(self.json, ("token", self.token.as_str()), position, &text)
    }
}

/// The command `token list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let body = client.get(client.service_url(&["access", "tokens"])).await?;
        self.output.print(&body, || Ok(render(&read(&body)?)))
    }
}

fn render(body: &TokensBody) -> Report {
    let columns = [
        column("token", 0),
        column("kind", 2),
        column("name", 0),
        column("status", 0),
        column("ends", 1),
        column("last used", 1),
    ];
    Report::default()
        .with_table(Table::new(columns).if_empty("no tokens").with_rows(body.tokens.iter().map(row)))
}

fn row(token: &TokenBody) -> [Cell; 6] {
    let status = token.revoked.then(|| Cell::Status(Tone::Warning, "revoked".to_owned()));
    [
        token.token.clone().into(),
        token.kind.clone().into(),
        token.name.clone().into(),
        status.into(),
        token.expires_at.into(),
        token.last_used_at.into(),
    ]
}

#[cfg(test)]
mod tests;
