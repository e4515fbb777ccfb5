//! `release-ledger rollback cancel` and `fail`: a rollback ends without having come to its point.

use ledger_domain::event::Fact;
use ledger_domain::{Line, Prose};

use super::super::actor::By;
use super::super::connection::Connection;
use super::super::output::show;
use super::super::report::tell;
use super::body::fetch;

/// The commands `rollback fail` and `rollback cancel`.
#[derive(Debug, clap::Args)]
pub struct End {
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

/// How it ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Failed,
    Cancelled,
}

impl End {
    pub(super) async fn run(self, how: How) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let rollback = fetch(&client, &self.rollback_id, None).await?.named()?;
        let (fact, done) = match how {
            How::Failed => (Fact::RollbackFailed(rollback), "has failed"),
            How::Cancelled => (Fact::RollbackCancelled(rollback), "is cancelled"),
        };
        let position = tell(&client, fact, &self.by.actor()?, self.reason).await?;
        Ok(show(format!("rollback {} {done} (position {position})", self.rollback_id).as_bytes())?)
    }
}
