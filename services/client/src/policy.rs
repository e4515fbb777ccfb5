//! `release-ledger policy`: the policy of an environment.

use ledger_api_types::PolicyBody;
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::query::{QueryArgs, with_param};

/// Show the policy of an environment
#[derive(Debug, clap::Args)]
pub struct Policy {
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

impl Policy {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "policy"]);
        self.query.fetch_and_print(&client, with_param(url, "known_at", self.known_at), render).await
    }
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
    use crate::query::read;

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
