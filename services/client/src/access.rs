//! `release-ledger access`: why a principal may do something, or may not, and who read what.

mod reads;

use ledger_api_types::{ExplainRequest, ExplanationBody, GranteeBody};
use ledger_domain::access::TokenId;
use ledger_domain::{EnvironmentName, ServiceName};

use self::reads::Reads;
use super::connection::Connection;
use super::credentials::Surroundings;
use super::grant::parse_claim;
use super::query::print_body;
use super::table;

/// Explain decisions about access, and list reads of the history
#[derive(Debug, clap::Subcommand)]
pub enum Access {
    /// Show if a principal may do something, and what each of its grants says
    Explain(Box<Explain>),
    /// List who read what of the histories, latest first
    Reads(Box<Reads>),
}

impl Access {
    /// Runs the command.
    ///
    /// # Errors
    /// The service rejects the question, or does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Explain(explain) => explain.run().await,
            Self::Reads(reads) => reads.run().await,
        }
    }
}

/// The command `access explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The verb, such as emit:deploy
    #[arg(value_name = "VERB")]
    verb: String,
    /// The id of a token
    #[arg(long, value_name = "ID", value_parser = TokenId::parse, required_unless_present = "issuer")]
    token: Option<TokenId>,
    /// The issuer of the principal's token, or `proxy`
    #[arg(long, value_name = "URL", conflicts_with = "token")]
    issuer: Option<String>,
    /// The subject of the issuer
    #[arg(long, value_name = "SUBJECT", requires = "issuer")]
    subject: Option<String>,
    /// A claim of the principal
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "issuer", value_parser = parse_claim)]
    claims: Vec<(String, String)>,
    /// The environment [default: all of them]
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// The service [default: all of them]
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Print the service's response as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Explain {
    async fn run(self) -> anyhow::Result<()> {
        let (client, tenant) = self.connection.client_and_tenant(&Surroundings::of_process())?;
        let request = ExplainRequest {
            principal: GranteeBody {
                token: self.token.map(|token| token.to_string()),
                issuer: self.issuer,
                subject: self.subject,
                claims: self.claims.into_iter().collect(),
            },
            verb: self.verb,
            tenant: Some(tenant.to_string()),
            environment: self.environment.map(|name| name.to_string()),
            service: self.service.map(|name| name.to_string()),
        };
        let body = client.post(client.service_url(&["access", "explain"]), &request, None).await?;
        print_body(self.json, &body, render)
    }
}

fn render(body: &ExplanationBody) -> String {
    let verdict = if body.allowed { "allowed" } else { "denied" };
    if body.grants.is_empty() {
        return format!("{verdict}: the principal has no grants");
    }
    let rows: Vec<_> = body
        .grants
        .iter()
        .map(|finding| {
            let allows = if finding.allows { "yes" } else { "no" };
            [finding.grant.clone(), allows.to_owned(), finding.reason.clone().unwrap_or_default()]
        })
        .collect();
    format!("{verdict}\n{}", table::render(["grant", "allows", "reason"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grant_is_shown_with_its_reason() {
        let body = |json: &str| serde_json::from_str::<ExplanationBody>(json).expect("a body");
        assert_eq!(
            render(&body(
                r#"{"allowed":true,"grants":[{"grant":"a","allows":true},
                    {"grant":"b","allows":false,"reason":"it is for staging"}]}"#
            )),
            "allowed\ngrant  allows  reason\na      yes\nb      no      it is for staging"
        );
        assert_eq!(render(&body(r#"{"allowed":false,"grants":[]}"#)), "denied: the principal has no grants");
    }
}
