//! Clock skews: emitters with clocks ahead of the stream.

use axum::Json;
use axum::response::Response;
use ledger_api_types::{ClockSkewBody, ClockSkewsBody};

use crate::access::{Authorized, ReadEnvironment};
use crate::parameters::{StrictQuery, WaitQuery, wait_for_position, with_position};
use crate::problem::Problem;
use crate::problem_responses::ProblemResponses;

/// Maximum number of emitters in a response.
const MAX_EMITTERS: u32 = 100;

/// List clock skews
///
/// Lists emitters with events that occurred, by the emitter's clock, more than a second after the stream recorded them.
/// Such an event sorts later than it happened, so it can hide later reports.
#[utoipa::path(
    get,
    path = "/clock-skews",
    operation_id = "listClockSkews",
    tag = "events",
    params(WaitQuery),
    responses(
        (status = 200, description = "Clock skews", body = ClockSkewsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_clock_skews(
    ledger: Authorized<ReadEnvironment>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    let skews = snapshot.clock_skews(MAX_EMITTERS).await?.into_iter();
    let clock_skews = skews
        .map(|skew| ClockSkewBody {
            source: skew.source,
            max_ahead_ms: skew.max_ahead.num_milliseconds(),
            last_ahead_ms: skew.last_ahead.num_milliseconds(),
            last_position: skew.last_position.get(),
            events: skew.events,
        })
        .collect();
    Ok(with_position(position, Json(ClockSkewsBody { position: position.get(), clock_skews })))
}
