//! `release-ledger rollback approve` and `reject`: a person's answer to a request.

use ledger_domain::event::{Approval, ApprovalSubject, Fact};
use ledger_domain::{Line, Prose};

use super::super::actor::By;
use super::super::connection::Connection;
use super::super::output::show;
use super::super::report::tell;
use super::body::fetch;

/// The commands `rollback approve` and `rollback reject`.
#[derive(Debug, clap::Args)]
pub struct Answer {
    /// The rollback
    #[arg(value_name = "ID", value_parser = Line::parse)]
    rollback_id: Line,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = Prose::parse)]
    reason: Option<Prose>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    connection: Connection,
}

impl Answer {
    pub(super) async fn run(self, granted: bool) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let rollback = fetch(&client, &self.rollback_id, None).await?.named()?;
        let environment = rollback.environment;
        let subject = ApprovalSubject::Rollback { environment, rollback_id: rollback.rollback_id };
        let approval = Approval { subject };
        let fact = if granted { Fact::ApprovalGranted(approval) } else { Fact::ApprovalRejected(approval) };
        let actor = self.by.actor()?;
        let position = tell(&client, fact, &actor, self.reason).await?;
        let done = if granted { "approved" } else { "rejected" };
        let text = format!("rollback {} is {done} by {} (position {position})", self.rollback_id, actor.name);
        Ok(show(text.as_bytes())?)
    }
}
