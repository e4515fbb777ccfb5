//! `release-ledger rollback execute`: runs the steps of a rollback with a command of the user.

use ledger_domain::ShortText;

use super::show::render;
use crate::author::ActorArgs;
use crate::connection::Connection;
use crate::execution::{ExecutionArgs, execute};
use crate::output::{print_json, print_text};

/// The command `rollback execute`.
#[derive(Debug, clap::Args)]
pub struct Execute {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse_identifier)]
    rollback_id: ShortText,
    #[command(flatten)]
    execution: ExecutionArgs,
    #[command(flatten)]
    by: ActorArgs,
    /// Print the rollback as JSON at its end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Execute {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let ended = execute(&client, &self.rollback_id, self.execution, self.by.executor()?).await?;
        if self.json {
            let url = client.url(&["rollbacks", self.rollback_id.as_str()]);
            return Ok(print_json(&client.get(url).await?)?);
        }
        Ok(print_text(&render(&ended))?)
    }
}
