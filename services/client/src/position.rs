//! `release-ledger position`: how far the ledger goes.

use serde_json::json;

use super::answer::PositionBody;
use super::connection::Connection;
use super::output::show_either;
use super::query::{Waiting, read};

/// Show how far the ledger goes
///
/// The position that questions are answered at, the position of the last entry, and the root of the
/// Merkle tree over the entries up to the first.
#[derive(Debug, clap::Args)]
pub struct ShowPosition {
    #[command(flatten)]
    waiting: Waiting,
    /// Print {"position":N}, with the position that questions are answered at
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
        let client = self.connection.client();
        let body = read(&self.waiting.ask(&client, client.url(&["position"])).await?)?;
        let text = if self.json { json(&body) } else { render(&body) };
        Ok(show_either(self.json, &text)?)
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
    fn the_position_is_shown_with_head_and_root_and_as_json_alone() {
        let body = read(br#"{"position":7,"head":9,"root":"ab"}"#).expect("a body");
        assert_eq!(render(&body), "position  7\nhead      9\nroot      ab");
        assert_eq!(json(&body), r#"{"position":7}"#);
    }
}
