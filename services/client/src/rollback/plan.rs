//! `release-ledger rollback plan`: the plan that would bring an environment to a point.

use ledger_api_types::PlanBody;

use crate::connection::Connection;
use crate::found::FoundArgs;
use crate::plan::{PlanRequest, report};
use crate::query::QueryArgs;

/// The command `rollback plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    request: PlanRequest,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Plan {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let plan = self.request.plan(&client, self.query.wait_for()).await?;
        self.query.print_found(plan, self.found, report, |plan: &PlanBody| !plan.steps.is_empty())
    }
}
