//! `release-ledger rollback plan`: how an environment would come to a point.

use crate::connection::Connection;
use crate::plan::{Wish, render};
use crate::query::QueryArgs;

/// The command `rollback plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Plan {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client();
        let plan = self.wish.planned(&client, self.query.wait_for()).await?;
        self.query.answer(plan, render)
    }
}
