//! A rollback as the service tells of it.

use std::time::Duration;

use ledger_domain::event::Rollback;
use ledger_domain::rollback::Phase;
use ledger_domain::{EnvironmentName, ShortText};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::answer::ActorBody;
use crate::connection::{Client, Error};
use crate::patience::retry;
use crate::plan::StepBody;
use crate::query::{head, read, with};

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RollbackBody {
    pub(crate) rollback_id: String,
    pub(crate) environment: String,
    pub(crate) position: u64,
    #[serde(deserialize_with = "phase")]
    pub(crate) phase: Phase,
    #[serde(default)]
    pub(crate) automatic: bool,
    #[serde(default)]
    pub(crate) force: bool,
    pub(crate) initiated_by: ActorBody,
    pub(crate) reason: Option<String>,
    pub(crate) requested: RequestedBody,
    pub(crate) ended: Option<u64>,
    pub(crate) end_reason: Option<String>,
    pub(crate) to: u64,
    pub(crate) source: Option<String>,
    pub(crate) plan_digest: String,
    pub(crate) approvals: ApprovalsBody,
    pub(crate) progress: ProgressBody,
    #[serde(default)]
    pub(crate) steps: Vec<StepStateBody>,
    #[serde(default)]
    pub(crate) differences: Vec<String>,
    #[serde(default)]
    pub(crate) others: Vec<OtherBody>,
}

/// A phase by its name.
fn phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    let name = String::deserialize(deserializer)?;
    Phase::named(&name).ok_or_else(|| D::Error::custom(format!("{name} is no phase of a rollback")))
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RequestedBody {
    pub(crate) position: u64,
    pub(crate) recorded_at: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApprovalsBody {
    pub(crate) wanted: u32,
    pub(crate) granted: u32,
    #[serde(default)]
    pub(crate) rejected: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct ProgressBody {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) total: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StepStateBody {
    #[serde(flatten)]
    pub(crate) step: StepBody,
    pub(crate) state: String,
    pub(crate) position: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OtherBody {
    pub(crate) position: u64,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) service: Option<String>,
    pub(crate) target: Option<String>,
}

impl RollbackBody {
    /// Which rollback it is, in the ledger's words.
    pub(crate) fn named(&self) -> anyhow::Result<Rollback> {
        Ok(Rollback {
            environment: EnvironmentName::parse(&self.environment)?,
            rollback_id: ShortText::parse(&self.rollback_id)?,
        })
    }

    /// How it ended: `rollback r-1 of production has failed: why`.
    pub(crate) fn ending(&self) -> String {
        let why = self.end_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let has = if self.phase == Phase::Cancelled { "is" } else { "has" };
        format!("rollback {} of {} {has} {}{why}", self.rollback_id, self.environment, self.phase.name())
    }
}

/// Asks for a rollback, as it is at a position or later; as it is at the ledger's end unless given.
pub(crate) async fn fetch(
    client: &Client,
    rollback_id: &ShortText,
    wait_for: Option<u64>,
) -> anyhow::Result<RollbackBody> {
    let wait_for = match wait_for {
        Some(position) => position,
        None => head(client).await?,
    };
    fetch_patiently(client, rollback_id, wait_for, Duration::ZERO).await
}

/// The same, through failures of the service that pass.
pub(crate) async fn fetch_patiently(
    client: &Client,
    rollback_id: &ShortText,
    wait_for: u64,
    retry_for: Duration,
) -> anyhow::Result<RollbackBody> {
    let url = with(client.url(&["rollbacks", rollback_id.as_str()]), "wait_for", Some(wait_for));
    read(&retry(retry_for, move || client.get(url.clone())).await?)
}

/// The same, where there may be none.
pub(crate) async fn find(client: &Client, rollback_id: &ShortText) -> anyhow::Result<Option<RollbackBody>> {
    match fetch(client, rollback_id, None).await {
        Ok(rollback) => Ok(Some(rollback)),
        Err(error) => match error.downcast_ref::<Error>().and_then(|error| error.problem("unknown-rollback"))
        {
            Some(_) => Ok(None),
            None => Err(error),
        },
    }
}
