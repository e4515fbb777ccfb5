//! `release-ledger rollback approve`, `reject`, `fail` and `cancel`: a word on a rollback, and who says it.

use ledger_domain::event::{Approval, ApprovalSubject, Payload, Rollback};
use ledger_domain::{LongText, ShortText};

use super::body::fetch;
use crate::actor::By;
use crate::connection::Connection;
use crate::output::show_text;
use crate::report::tell;

/// The commands that say something of a rollback.
#[derive(Debug, clap::Args)]
pub struct Word {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse)]
    rollback_id: ShortText,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    connection: Connection,
}

/// What is said.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Approved,
    Rejected,
    Failed,
    Cancelled,
}

impl What {
    fn payload(self, rollback: Rollback) -> Payload {
        let approval = |Rollback { environment, rollback_id }| Approval {
            subject: ApprovalSubject::Rollback { environment, rollback_id },
            expires_at: None,
        };
        match self {
            Self::Approved => Payload::ApprovalGranted(approval(rollback)),
            Self::Rejected => Payload::ApprovalRejected(approval(rollback)),
            Self::Failed => Payload::RollbackFailed(rollback),
            Self::Cancelled => Payload::RollbackCancelled(rollback),
        }
    }

    fn done(self, by: &ShortText) -> String {
        match self {
            Self::Approved => format!("is approved by {by}"),
            Self::Rejected => format!("is rejected by {by}"),
            Self::Failed => "has failed".into(),
            Self::Cancelled => "is cancelled".into(),
        }
    }
}

impl Word {
    pub(super) async fn run(self, what: What) -> anyhow::Result<()> {
        let client = self.connection.client();
        let rollback = fetch(&client, &self.rollback_id, None).await?.named()?;
        let actor = self.by.actor()?;
        let position = tell(&client, what.payload(rollback), &actor, self.reason).await?;
        let done = what.done(&actor.name);
        Ok(show_text(&format!("rollback {} {done} (position {position})", self.rollback_id))?)
    }
}
