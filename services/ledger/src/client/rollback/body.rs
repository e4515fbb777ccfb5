//! A rollback as the service tells of it.

use std::time::Duration;

use ledger_domain::event::Rollback;
use ledger_domain::rollback::Phase;
use ledger_domain::{EnvironmentName, Line};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::super::answer::ActorBody;
use super::super::connection::{Client, Error};
use super::super::patience::patiently;
use super::super::plan::StepBody;
use super::super::query::{head, read, with};

#[derive(Debug, Clone, Deserialize)]
pub(in super::super) struct RollbackBody {
    pub(in super::super) rollback_id: String,
    pub(in super::super) environment: String,
    pub(in super::super) position: u64,
    #[serde(deserialize_with = "phase")]
    pub(in super::super) phase: Phase,
    #[serde(default)]
    pub(in super::super) automatic: bool,
    #[serde(default)]
    pub(in super::super) force: bool,
    pub(in super::super) initiated_by: ActorBody,
    pub(in super::super) reason: Option<String>,
    pub(in super::super) requested: RequestedBody,
    pub(in super::super) ended: Option<u64>,
    pub(in super::super) end_reason: Option<String>,
    pub(in super::super) to: u64,
    pub(in super::super) source: Option<String>,
    pub(in super::super) plan_digest: String,
    pub(in super::super) approvals: ApprovalsBody,
    pub(in super::super) progress: ProgressBody,
    #[serde(default)]
    pub(in super::super) steps: Vec<StepStateBody>,
    #[serde(default)]
    pub(in super::super) differences: Vec<String>,
    #[serde(default)]
    pub(in super::super) others: Vec<OtherBody>,
}

/// A phase by its name.
fn phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    let name = String::deserialize(deserializer)?;
    Phase::named(&name).ok_or_else(|| D::Error::custom(format!("{name} is no phase of a rollback")))
}

#[derive(Debug, Clone, Deserialize)]
pub(in super::super) struct RequestedBody {
    pub(in super::super) position: u64,
    pub(in super::super) recorded_at: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(in super::super) struct ApprovalsBody {
    pub(in super::super) wanted: u32,
    pub(in super::super) granted: u32,
    #[serde(default)]
    pub(in super::super) rejected: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(in super::super) struct ProgressBody {
    pub(in super::super) done: u64,
    pub(in super::super) failed: u64,
    pub(in super::super) total: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(in super::super) struct StepStateBody {
    #[serde(flatten)]
    pub(in super::super) step: StepBody,
    pub(in super::super) state: String,
    pub(in super::super) position: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(in super::super) struct OtherBody {
    pub(in super::super) position: u64,
    #[serde(rename = "type")]
    pub(in super::super) kind: String,
    pub(in super::super) service: Option<String>,
    pub(in super::super) target: Option<String>,
}

impl RollbackBody {
    /// Which rollback it is, in the ledger's words.
    pub(in super::super) fn named(&self) -> anyhow::Result<Rollback> {
        Ok(Rollback {
            environment: EnvironmentName::parse(&self.environment)?,
            rollback_id: Line::parse(&self.rollback_id)?,
        })
    }

    /// How it ended: `rollback r-1 of production has failed: why`.
    pub(in super::super) fn ending(&self) -> String {
        let why = self.end_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let has = if self.phase == Phase::Cancelled { "is" } else { "has" };
        format!("rollback {} of {} {has} {}{why}", self.rollback_id, self.environment, self.phase.name())
    }
}

/// Asks for a rollback, as it is at a position or later; as it is at the ledger's end unless given.
pub(in super::super) async fn fetch(
    client: &Client,
    rollback_id: &Line,
    wait_for: Option<u64>,
) -> anyhow::Result<RollbackBody> {
    let wait_for = match wait_for {
        Some(position) => position,
        None => head(client).await?,
    };
    fetch_patiently(client, rollback_id, wait_for, Duration::ZERO).await
}

/// The same, through failures of the service that pass.
pub(in super::super) async fn fetch_patiently(
    client: &Client,
    rollback_id: &Line,
    wait_for: u64,
    retry_for: Duration,
) -> anyhow::Result<RollbackBody> {
    let url = with(client.url(&["rollbacks", rollback_id.as_str()]), "wait_for", Some(wait_for));
    read(&patiently(retry_for, move || client.get(url.clone())).await?)
}

/// The same, where there may be none.
pub(in super::super) async fn find(
    client: &Client,
    rollback_id: &Line,
) -> anyhow::Result<Option<RollbackBody>> {
    match fetch(client, rollback_id, None).await {
        Ok(rollback) => Ok(Some(rollback)),
        Err(error) => match error.downcast_ref::<Error>().and_then(|error| error.problem("no-such-rollback"))
        {
            Some(_) => Ok(None),
            None => Err(error),
        },
    }
}
