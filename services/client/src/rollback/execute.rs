//! `release-ledger rollback execute`: the steps of a rollback, carried out by a command of the user's.

use ledger_domain::ShortText;

use super::show::render;
use crate::actor::By;
use crate::connection::Connection;
use crate::execution::{Execution, execute};
use crate::output::{show, show_text};

/// The command `rollback execute`.
#[derive(Debug, clap::Args)]
pub struct Execute {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse)]
    rollback_id: ShortText,
    #[command(flatten)]
    execution: Execution,
    #[command(flatten)]
    by: By,
    /// Print the rollback as JSON at its end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Execute {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client();
        let ended = execute(&client, &self.rollback_id, self.execution, self.by.executor()?).await?;
        if self.json {
            let url = client.url(&["rollbacks", self.rollback_id.as_str()]);
            return Ok(show(&client.get(url).await?)?);
        }
        Ok(show_text(&render(&ended))?)
    }
}
