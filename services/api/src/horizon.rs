//! Rollback horizon: the points to which an environment can roll back, and the artifacts to retain for them.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use chrono::TimeDelta;
use ledger_api_types::{HorizonBody, HorizonPointBody, RetainedArtifactBody, WithoutArtifactBody};
use ledger_domain::horizon::Need;
use ledger_domain::parse_duration;
use ledger_ingest::{Horizon, HorizonPoint, horizon};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadEnvironment};
use crate::bodies::{MAX_LISTED, plan_issue_body};
use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, parse_optional, wait_for_position, with_position};
use crate::problem::{Kind, Problem};

/// Default and maximum of the window.
const DEFAULT_WINDOW: TimeDelta = TimeDelta::days(30);
const MAX_WINDOW: TimeDelta = TimeDelta::days(3_660);

/// Time limit of the query: it holds a database connection and a snapshot while it runs.
const QUERY_TIMEOUT: Duration = Duration::from_secs(50);

/// Query parameters of the rollback horizon.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HorizonQuery {
    /// Age of the oldest points: `30d` (the default), `2w`, `12h` or `3600s`, at most ten years.
    window: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

fn horizon_point_body(horizon: &HorizonPoint) -> HorizonPointBody {
    let issues = horizon.issues.iter().take(MAX_LISTED);
    HorizonPointBody {
        number: horizon.point.number.unwrap_or_default(),
        position: horizon.point.since.position.get(),
        occurred_at: horizon.point.since.occurred_at,
        digest: horizon.point.composition.digest(),
        possible: horizon.is_possible(false),
        by_force: horizon.is_possible(true),
        issues: issues.map(|(issue, severity)| plan_issue_body(issue, *severity)).collect(),
        issue_count: horizon.issues.len(),
    }
}

fn retained_artifact_body(need: &Need) -> RetainedArtifactBody {
    RetainedArtifactBody {
        artifact: need.artifact.as_str().to_owned(),
        names: need.names.iter().map(|name| name.as_str().to_owned()).collect(),
        services: need.services.iter().map(ToString::to_string).collect(),
        points: need.points,
    }
}

/// Parses `30d`, `2w`, `12h` or `3600s`.
fn parse_window(text: &str) -> Result<TimeDelta, &'static str> {
    let window = parse_duration(text).ok().filter(|window| *window <= MAX_WINDOW);
    window.ok_or("must be a number with a unit (s, m, h, d or w) up to ten years: 30d, 2w, 12h or 3600s")
}

/// Get the rollback horizon of an environment
///
/// Lists the known-good points and says for each if a rollback to it is still possible, or which issue prevents it: a
/// revoked or deleted artifact, or an irreversible deploy. Also lists the artifacts that registry clean-up must not
/// delete because a point within the window needs them.
#[utoipa::path(
    get,
    path = "/environments/{environment}/rollback-horizon",
    operation_id = "getRollbackHorizon",
    tag = "rollback",
    params(EnvironmentPath, HorizonQuery),
    responses(
        (status = 200, description = "Rollback horizon", body = HorizonBody),
        (status = "4XX", description = "Invalid request, unknown environment, or history too long",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_horizon(
    ledger: Authorized<ReadEnvironment>,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<HorizonQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let window = parse_optional("window", query.window.as_deref(), parse_window)?.unwrap_or(DEFAULT_WINDOW);
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let _permit = ledger.history_scan_permit()?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let found = timeout(QUERY_TIMEOUT, horizon(&mut snapshot, &environment, window, ledger.now())).await;
    let timed_out = |_| {
        let seconds = QUERY_TIMEOUT.as_secs();
        let detail = format!("scanning the window timed out after {seconds} s; request a shorter one");
        Problem::new(Kind::HistoryTooLong, detail)
    };
    let Horizon { position, points, cut, needed } = found.map_err(timed_out)??;
    let without_artifact = needed.without_artifact().map(|(service, version)| WithoutArtifactBody {
        service: service.to_string(),
        version: version.to_string(),
    });
    let body = HorizonBody {
        environment: environment.to_string(),
        position: position.get(),
        window_seconds: window.num_seconds(),
        points: points.iter().map(horizon_point_body).collect(),
        cut,
        needed: needed.artifacts().map(retained_artifact_body).collect(),
        without_artifact: without_artifact.collect(),
    };
    Ok(with_position(position, Json(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_duration_of_up_to_ten_years() {
        for (text, seconds) in
            [("30d", 2_592_000), ("2w", 1_209_600), ("12h", 43_200), ("3600s", 3_600), ("0s", 0)]
        {
            assert_eq!(parse_window(text).map(|window| window.num_seconds()), Ok(seconds), "{text}");
        }
        for wrong in ["", "d", "30", "-1d", "+1d", "1.5h", "30D", "4000d", "9223372036854775807d"] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
    }
}
