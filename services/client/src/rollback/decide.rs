//! `release-ledger rollback approve`, `reject`, `fail` and `cancel`: each records one event about a rollback.

use ledger_domain::event::{Approval, ApprovalSubject, Payload, Rollback};
use ledger_domain::{LongText, ShortText};

use crate::administration::print_change;
use crate::author::ActorArgs;
use crate::connection::Connection;
use crate::fetch_rollback::{fetch_rollback, parse_rollback};
use crate::record::record_new;

/// The commands that record a decision about a rollback.
#[derive(Debug, clap::Args)]
pub struct Decide {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse_identifier)]
    rollback_id: ShortText,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    by: ActorArgs,
    /// Print {"rollback_id":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The decision to record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Decision {
    Approve,
    Reject,
    Fail,
    Cancel,
}

impl Decision {
    fn payload(self, rollback: Rollback) -> Payload {
        let approval = |Rollback { environment, rollback_id }| Approval {
            subject: ApprovalSubject::Rollback { environment, rollback_id },
            expires_at: None,
        };
        match self {
            Self::Approve => Payload::ApprovalGranted(approval(rollback)),
            Self::Reject => Payload::ApprovalRejected(approval(rollback)),
            Self::Fail => Payload::RollbackFailed(rollback),
            Self::Cancel => Payload::RollbackCancelled(rollback),
        }
    }

    fn result(self, by: &ShortText) -> String {
        match self {
            Self::Approve => format!("is approved by {by}"),
            Self::Reject => format!("is rejected by {by}"),
            Self::Fail => "has failed".into(),
            Self::Cancel => "is cancelled".into(),
        }
    }
}

impl Decide {
    pub(super) async fn run(self, decision: Decision) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let rollback = parse_rollback(&fetch_rollback(&client, &self.rollback_id, None).await?)?;
        let author = self.by.author()?;
        let position = record_new(&client, decision.payload(rollback), &author, self.reason).await?;
        let id = self.rollback_id.as_str();
        let text = format!("rollback {id} {}", decision.result(&author.actor.name));
        print_change(self.json, ("rollback_id", id), position, &text)
    }
}
