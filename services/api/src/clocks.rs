//! Emitters whose clocks are ahead.

use axum::Json;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::parameters::{StrictQuery, WaitQuery, at, wait};
use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// Emitters that one answer has at most.
const AT_MOST: u32 = 100;

/// Emitters whose clocks are ahead.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClockSkewsBody {
    /// The position that the answer is true for.
    position: u64,
    /// The hundred emitters that were ahead the most, the farthest first.
    clock_skews: Vec<ClockSkewBody>,
}

/// How far the clock of an emitter was ahead: at least as much as an event occurred after it was recorded.
#[derive(Serialize, ToSchema)]
struct ClockSkewBody {
    /// The CloudEvents source of its events.
    source: String,
    /// Milliseconds that it was ahead at most.
    max_ahead_ms: i64,
    /// Milliseconds that it was ahead by the last event that was.
    last_ahead_ms: i64,
    /// The position of that event.
    last_position: u64,
    /// Events that were ahead by more than a second.
    events: u64,
}

/// List clock skews
///
/// Emitters whose events occurred, by their own clocks, more than a second after they were recorded. Such an event counts as later
/// than it was: it can hide what is reported after it.
#[utoipa::path(
    get,
    path = "/clock-skews",
    operation_id = "listClockSkews",
    tag = "events",
    params(WaitQuery),
    responses(
        (status = 200, description = "The emitters", body = ClockSkewsBody),
        (status = "4XX", description = "The question is not well-formed", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_clock_skews(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    let skews = snapshot.clock_skews(AT_MOST).await?.into_iter();
    let clock_skews = skews
        .map(|skew| ClockSkewBody {
            source: skew.source,
            max_ahead_ms: skew.max_ahead.num_milliseconds(),
            last_ahead_ms: skew.last_ahead.num_milliseconds(),
            last_position: skew.last_position.get(),
            events: skew.events,
        })
        .collect();
    Ok(at(position, Json(ClockSkewsBody { position: position.get(), clock_skews })))
}
