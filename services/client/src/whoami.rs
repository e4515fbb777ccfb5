//! `release-ledger whoami`: who the service takes the client for.

use ledger_api_types::WhoAmIBody;

use super::connection::Connection;
use super::grant;
use super::query::print_body;

/// Show who you are for the service, and your grants
#[derive(Debug, clap::Args)]
pub struct WhoAmI {
    /// Print the service's response as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl WhoAmI {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not accept the credentials, or does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let body = client.get(client.service_url(&["whoami"])).await?;
        print_body(self.json, &body, render)
    }
}

fn render(body: &WhoAmIBody) -> String {
    let Some(principal) = &body.principal else {
        return "the service does not authenticate its clients".to_owned();
    };
    let mut text =
        format!("{} {}: {} of {}", principal.kind, principal.name, principal.subject, principal.issuer);
    for (name, value) in &principal.claims {
        text.push_str(&format!("\n{name}: {value}"));
    }
    format!("{text}\n{}", grant::render(&body.grants))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_principal_is_shown_with_its_claims_and_grants() {
        let shown = |json: &str| render(&serde_json::from_str(json).expect("a body"));
        assert_eq!(
            shown(
                r#"{"principal":{"kind":"workload","name":"web","issuer":"https://ci","subject":"7",
                    "claims":{"ref":"main"}},"grants":[]}"#
            ),
            "workload web: 7 of https://ci\nref: main\nno grants"
        );
        assert_eq!(shown("{}"), "the service does not authenticate its clients");
    }
}
