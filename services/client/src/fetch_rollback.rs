//! Fetches a rollback; its identity and the description of its end.

use std::time::Duration;

use ledger_api_types::RollbackBody;
use ledger_domain::event::Rollback;
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{EnvironmentName, ShortText, escape_line};

use crate::connection::{Client, Error};
use crate::query::{head, read, with_param};
use crate::retry::retry;

/// Returns the identity of the rollback.
pub(crate) fn parse_rollback(body: &RollbackBody) -> anyhow::Result<Rollback> {
    Ok(Rollback {
        environment: EnvironmentName::parse(&body.environment)?,
        rollback_id: ShortText::parse(&body.rollback_id)?,
    })
}

/// Describes the end of the rollback: `rollback r-1 of production has failed: reason`.
pub(crate) fn describe_end(rollback: &RollbackBody) -> String {
    let RollbackBody { rollback_id, environment, phase, end_reason, .. } = rollback;
    let reason = end_reason.as_ref().map(|reason| format!(": {}", escape_line(reason))).unwrap_or_default();
    let has = if *phase == RollbackPhase::Cancelled { "is" } else { "has" };
    format!("rollback {rollback_id} of {environment} {has} {}{reason}", phase.name())
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
