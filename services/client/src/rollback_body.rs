//! A rollback as the service returns it, and requests for it.

use std::time::Duration;

use ledger_domain::event::Rollback;
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{EnvironmentName, ShortText};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::bodies::ActorBody;
use crate::connection::{Client, Error};
use crate::plan::StepBody;
use crate::query::{head, read, with_param};
use crate::retry::retry;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RollbackBody {
    pub(crate) rollback_id: String,
    pub(crate) environment: String,
    pub(crate) position: u64,
    #[serde(deserialize_with = "phase")]
    pub(crate) phase: RollbackPhase,
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

/// Parses a phase by its name.
fn phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RollbackPhase, D::Error> {
    let name = String::deserialize(deserializer)?;
    RollbackPhase::named(&name).ok_or_else(|| D::Error::custom(format!("unknown rollback phase {name}")))
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
    /// Returns the identity of the rollback.
    pub(crate) fn rollback(&self) -> anyhow::Result<Rollback> {
        Ok(Rollback {
            environment: EnvironmentName::parse(&self.environment)?,
            rollback_id: ShortText::parse(&self.rollback_id)?,
        })
    }

    /// Describes the end of the rollback: `rollback r-1 of production has failed: reason`.
    pub(crate) fn ending(&self) -> String {
        let reason = self.end_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let has = if self.phase == RollbackPhase::Cancelled { "is" } else { "has" };
        format!("rollback {} of {} {has} {}{reason}", self.rollback_id, self.environment, self.phase.name())
    }
}

/// Fetches a rollback, as of a position or later; as of the ledger's last entry unless given.
pub(crate) async fn fetch_rollback(
    client: &Client,
    rollback_id: &ShortText,
    wait_for: Option<u64>,
) -> anyhow::Result<RollbackBody> {
    let wait_for = match wait_for {
        Some(position) => position,
        None => head(client).await?,
    };
    fetch_rollback_with_retry(client, rollback_id, wait_for, Duration::ZERO).await
}

/// Fetches a rollback as of a position or later; retries temporary failures of the service.
pub(crate) async fn fetch_rollback_with_retry(
    client: &Client,
    rollback_id: &ShortText,
    wait_for: u64,
    retry_for: Duration,
) -> anyhow::Result<RollbackBody> {
    let url = with_param(client.url(&["rollbacks", rollback_id.as_str()]), "wait_for", Some(wait_for));
    read(&retry(retry_for, move || client.get(url.clone())).await?)
}

/// Fetches a rollback that may not exist.
pub(crate) async fn find_rollback(
    client: &Client,
    rollback_id: &ShortText,
) -> anyhow::Result<Option<RollbackBody>> {
    match fetch_rollback(client, rollback_id, None).await {
        Ok(rollback) => Ok(Some(rollback)),
        Err(error) => match error.downcast_ref::<Error>().and_then(|error| error.problem("unknown-rollback"))
        {
            Some(_) => Ok(None),
            None => Err(error),
        },
    }
}
