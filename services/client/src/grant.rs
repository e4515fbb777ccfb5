//! `release-ledger grant`: what tokens, people and workloads may do.

use std::collections::BTreeMap;

use ledger_api_types::{GrantBody, GranteeBody, GrantsBody};
use ledger_domain::access::{Grant as Permission, Grantee, Pattern, TokenId, VerbSet};
use ledger_domain::event::Payload;
use ledger_domain::{LongText, ShortText};

use super::administration::{ChangeArgs, print_change};
use super::connection::Connection;
use super::credentials::Surroundings;
use super::invalid::{InvalidArgument, invalid};
use super::query::read;
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, column};

/// Add, remove and list grants
///
/// Nothing is allowed without a grant: it says who may do what, and where.
#[derive(Debug, clap::Subcommand)]
pub enum Grant {
    /// Add a grant
    Add(Box<Add>),
    /// Remove a grant; its name is never used again
    Remove(Box<Remove>),
    /// List the grants
    List(Box<List>),
}

impl Grant {
    /// Runs the command.
    ///
    /// # Errors
    /// The service rejects the change, or does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

/// The command `grant add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger grant add search-ci --to-token 8c1f2e3d4a5b6978 --verb emit --verb gate --environment staging
  release-ledger grant add approvers --to-subject https://login.example 4711 --verb read,approve,rollback
  release-ledger grant add deployers --to-claims https://token.actions.githubusercontent.com \
      repository_id=1182 'ref=refs/heads/*' --verb emit:deploy --service 'search-*'")]
pub struct Add {
    /// The name of the grant
    #[arg(value_name = "NAME", value_parser = ShortText::parse_identifier)]
    name: ShortText,
    #[command(flatten)]
    to: GranteeArgs,
    /// A verb, such as read or emit:deploy; emit for every emit:, * for all
    #[arg(long = "verb", value_name = "VERB", required = true, value_delimiter = ',', value_parser = VerbSet::parse)]
    verbs: Vec<VerbSet>,
    /// The tenant; * stands for any number of characters [default: that of the context, or default]
    #[arg(long, value_name = "PATTERN", env = "RELEASE_LEDGER_TENANT", value_parser = Pattern::parse)]
    tenant: Option<Pattern>,
    /// An environment; * stands for any number of characters
    #[arg(long = "environment", value_name = "PATTERN", default_value = "*", value_parser = Pattern::parse)]
    environments: Vec<Pattern>,
    /// A service; * stands for any number of characters
    #[arg(long = "service", value_name = "PATTERN", default_value = "*", value_parser = Pattern::parse)]
    services: Vec<Pattern>,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    /// Print {"grant":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Who has the grant.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct GranteeArgs {
    /// The owner of a token
    #[arg(long, value_name = "ID", value_parser = TokenId::parse)]
    to_token: Option<TokenId>,
    /// A subject of an issuer of OpenID Connect tokens, or of `proxy`
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"], value_parser = ShortText::parse)]
    to_subject: Option<Vec<ShortText>>,
    /// Everyone whose token from an issuer has these claims: ISSUER NAME=PATTERN...
    #[arg(long, num_args = 2.., value_name = "ISSUER NAME=PATTERN")]
    to_claims: Option<Vec<String>>,
}

impl GranteeArgs {
    fn grantee(self) -> anyhow::Result<Grantee> {
        if let Some(token) = self.to_token {
            return Ok(Grantee::Token(token));
        }
        if let Some([issuer, subject]) = self.to_subject.as_deref() {
            return Ok(Grantee::Subject { issuer: issuer.clone(), subject: subject.clone() });
        }
        let given = self.to_claims.unwrap_or_default();
        let missing = || InvalidArgument::new("invalid --to-claims: no issuer");
        let (issuer, claims) = given.split_first().ok_or_else(missing)?;
        let issuer = ShortText::parse(issuer)
            .map_err(|error| invalid(format!("invalid --to-claims: the issuer: {error}")))?;
        let claims = claims.iter().map(|claim| {
            let (name, value) = parse_claim(claim).map_err(|error| anyhow::anyhow!("{error}"))?;
            Ok((name.into(), Pattern::parse(&value)?))
        });
        let claims: anyhow::Result<BTreeMap<Box<str>, Pattern>> = claims.collect();
        let claims = claims.map_err(|error| invalid(format!("invalid --to-claims: {error:#}")))?;
        Ok(Grantee::Claims { issuer, claims })
    }
}

/// Parses `NAME=VALUE`.
pub(super) fn parse_claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("a claim must be NAME=VALUE, and {text:?} is not")),
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let grantee = self.to.grantee()?;
        let (client, tenant) = self.change.client(&Surroundings::of_process())?;
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => Pattern::parse(tenant.as_str())?,
        };
        let text = format!("{} is granted to {grantee} for tenant {tenant}", self.name);
        let payload = Payload::GrantAdded(Box::new(Permission {
            id: self.name.clone(),
            grantee,
            tenant,
            environments: self.environments,
            services: self.services,
            verbs: self.verbs,
        }));
        let id = format!("grant-{}", self.name);
        let position = self.change.record(&client, &id, payload, self.reason).await?;
        print_change(self.json, ("grant", self.name.as_str()), position, &text)
    }
}

/// The command `grant remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The name of the grant
    #[arg(value_name = "NAME", value_parser = ShortText::parse_identifier)]
    name: ShortText,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    /// Print {"grant":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Remove {
    async fn run(self) -> anyhow::Result<()> {
        let (client, _) = self.change.client(&Surroundings::of_process())?;
        let id = format!("grant-{}-removed", self.name);
        let payload = Payload::GrantRemoved(self.name.clone());
        let position = self.change.record(&client, &id, payload, self.reason).await?;
        print_change(
            self.json,
            ("grant", self.name.as_str()),
            position,
            &format!("grant {} is removed", self.name),
        )
    }
}

/// The command `grant list`.
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
        let body = client.get(client.service_url(&["access", "grants"])).await?;
        self.output.print(&body, || Ok(render(&read::<GrantsBody>(&body)?.grants)))
    }
}

/// Renders grants as a table.
pub(super) fn render(grants: &[GrantBody]) -> Report {
    let columns = [
        column("grant", 0),
        column("to", 0).narrow(),
        column("tenant", 2),
        column("environments", 1).narrow(),
        column("services", 1).narrow(),
        column("verbs", 0).narrow(),
    ];
    Report::default().with_table(Table::new(columns).if_empty("no grants").with_rows(grants.iter().map(row)))
}

fn row(grant: &GrantBody) -> [Cell; 6] {
    [
        grant.grant.clone().into(),
        describe(&grant.grantee).into(),
        grant.tenant.clone().into(),
        grant.environments.join(" ").into(),
        grant.services.join(" ").into(),
        grant.verbs.join(" ").into(),
    ]
}

fn describe(grantee: &GranteeBody) -> String {
    let GranteeBody { token, issuer, subject, claims } = grantee;
    if let Some(token) = token {
        return format!("token {token}");
    }
    let claims = claims.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
    let (who, issuer) = (subject.as_ref().unwrap_or(&claims), issuer.as_deref().unwrap_or_default());
    format!("{who} of {issuer}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn grantee(token: Option<&str>, subject: Option<[&str; 2]>, claims: Option<&[&str]>) -> GranteeArgs {
        GranteeArgs {
            to_token: token.map(|token| TokenId::parse(token).expect("an id")),
            to_subject: subject.map(|texts| texts.map(|text| ShortText::parse(text).expect("a text")).into()),
            to_claims: claims.map(|claims| claims.iter().map(|text| (*text).to_owned()).collect()),
        }
    }

    #[test]
    fn a_grantee_is_a_token_a_subject_or_claims() {
        let shown = |args: GranteeArgs| args.grantee().map(|grantee| grantee.to_string());
        let token = grantee(Some("8c1f2e3d4a5b6978"), None, None);
        assert_eq!(shown(token).expect("a grantee"), "token 8c1f2e3d4a5b6978");
        let subject = grantee(None, Some(["https://login.example", "4711"]), None);
        assert_eq!(shown(subject).expect("a grantee"), "4711 of https://login.example");
        let claims = grantee(None, None, Some(&["https://ci.example", "ref=refs/heads/*", "id=a=b"]));
        assert_eq!(shown(claims).expect("a grantee"), "id=a=b, ref=refs/heads/* of https://ci.example");
        for wrong in [&["https://ci.example", "ref"], &["https://ci.example", "=x"], &["", "a=b"]] {
            let error = shown(grantee(None, None, Some(wrong))).expect_err("invalid");
            assert!(format!("{error:#}").starts_with("invalid --to-claims: "), "{error:#}");
        }
    }

    #[test]
    fn grants_are_a_table() {
        let grants: Vec<GrantBody> = serde_json::from_value(json!([
            {"grant": "a", "grantee": {"token": "8c1f2e3d4a5b6978"}, "tenant": "default",
             "environments": ["*"], "services": ["web", "api"], "verbs": ["emit"]},
            {"grant": "b", "grantee": {"issuer": "https://i", "claims": {"k": "v*"}}, "tenant": "*",
             "environments": ["prod"], "services": ["*"], "verbs": ["*"]},
        ]))
        .expect("grants");
        render(&grants).check_fits();
        assert_eq!(
            render(&grants).to_string(),
            "grant  to                      tenant   environments  services  verbs\n\
             a      token 8c1f2e3d4a5b6978  default  *             web api   emit\n\
             b      k=v* of https://i       *        prod          *         *"
        );
        assert_eq!(render(&[]).to_string(), "no grants");
    }
}
