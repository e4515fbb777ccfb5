//! Freezes of environments: active and past ones.

use axum::Json;
use axum::response::Response;
use chrono::{DateTime, Utc};
use ledger_api_types::{ActorBody, FreezeBody, FreezeLiftBody, FreezesBody};
use ledger_domain::EnvironmentName;
use ledger_domain::access::Verb;
use ledger_projections::{FreezeRow, QueryError};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadSome};
use crate::parameters::{StrictQuery, parse_optional, parse_position, wait_for_position, with_position};
use crate::plans::parse_limit;
use crate::problem::Problem;
use crate::problem_responses::ProblemResponses;

/// Query parameters of the list of freezes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FreezesQuery {
    /// Only freezes of this environment.
    environment: Option<String>,
    /// True: only freezes that are in force now.
    active: Option<bool>,
    /// Only freezes that started before this position.
    before: Option<String>,
    /// Page size: 1 to 100, by default 20.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

/// List freezes
///
/// Lists the freezes of the environments that the client may read, the one that started last first, with who started and
/// who lifted them, and why.
#[utoipa::path(
    get,
    path = "/freezes",
    operation_id = "listFreezes",
    tag = "environments",
    params(FreezesQuery),
    responses(
        (status = 200, description = "Freezes", body = FreezesBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_freezes(
    ledger: Authorized<ReadSome>,
    StrictQuery(query): StrictQuery<FreezesQuery>,
) -> Result<Response, Problem> {
    let asked = parse_optional("environment", query.environment.as_deref(), EnvironmentName::parse)?;
    let before = parse_optional("before", query.before.as_deref(), parse_position)?;
    let limit = parse_limit(query.limit.as_deref(), 20, 100)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    if let Some(name) = &asked {
        ledger.tenancy().check(Verb::Read, name, None)?;
    }
    let (_, rows) = ledger.projections.environments().await?;
    let names: Vec<EnvironmentName> = rows
        .into_iter()
        .map(|row| row.name)
        .filter(|name| asked.as_ref().is_none_or(|asked| asked == name))
        .filter(|name| ledger.tenancy().check(Verb::Read, name, None).is_ok())
        .collect();
    if let Some(name) = asked.filter(|_| names.is_empty()) {
        return Err(QueryError::UnknownEnvironment(name).into());
    }
    let now = ledger.now();
    let active_at = query.active.unwrap_or(false).then_some(now);
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    // One more row than the page shows if there is another page.
    let mut rows = snapshot.freeze_list(&names, before, active_at, limit + 1).await?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    ledger.tenancy().stats().add_reads(rows.len());
    let next = rows.last().filter(|_| has_more).map(|row| row.started.position.get());
    let freezes = rows.iter().map(|row| freeze_body(row, now)).collect();
    Ok(with_position(position, Json(FreezesBody { position: position.get(), freezes, next })))
}

fn freeze_body(row: &FreezeRow, now: DateTime<Utc>) -> FreezeBody {
    FreezeBody {
        environment: row.environment.to_string(),
        freeze_id: row.freeze_id.to_string(),
        active: row.is_active(now),
        position: row.started.position.get(),
        since: row.started.occurred_at,
        until: row.until,
        actor: row.started.actor.as_ref().map(ActorBody::from),
        reason: row.started.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        lifted: row.lifted.as_ref().map(|lifted| FreezeLiftBody {
            position: lifted.position.get(),
            occurred_at: lifted.occurred_at,
            actor: lifted.actor.as_ref().map(ActorBody::from),
            reason: lifted.reason.as_ref().map(|reason| reason.as_str().to_owned()),
        }),
    }
}
