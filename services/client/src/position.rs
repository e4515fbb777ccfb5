//! `release-ledger position`: the positions of the projections and of the ledger.

use ledger_api_types::PositionBody;
use serde_json::json;

use super::connection::Connection;
use super::output::print_json_or_text;
use super::query::{WaitArgs, read};

/// Show the positions of the projections and of the ledger
///
/// Prints the position up to which the projections are current, the position of the last entry, and the root
/// of the Merkle tree over the entries up to the first of the two.
#[derive(Debug, clap::Args)]
pub struct ShowPosition {
    #[command(flatten)]
    wait: WaitArgs,
    /// Print {"position":N}, the position up to which the projections are current
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl ShowPosition {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let body = read(&self.wait.fetch(&client, client.url(&["position"])).await?)?;
        let text = if self.json { json(&body) } else { render(&body) };
        Ok(print_json_or_text(self.json, &text)?)
    }
}

fn json(body: &PositionBody) -> String {
    json!({"position": body.position}).to_string()
}

fn render(body: &PositionBody) -> String {
    format!("position  {}\nhead      {}\nroot      {}", body.position, body.head, body.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shows_position_head_and_root_and_json_the_position_only() {
        let body = read(br#"{"position":7,"head":9,"root":"ab"}"#).expect("a body");
        assert_eq!(render(&body), "position  7\nhead      9\nroot      ab");
        assert_eq!(json(&body), r#"{"position":7}"#);
    }
}
