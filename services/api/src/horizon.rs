//! The rollback horizon: how far back an environment can be brought, and what must be kept for it.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::horizon::Need;
use ledger_ingest::{Horizon, HorizonPoint, horizon};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use crate::environments::EnvironmentPath;
use crate::parameters::{StrictQuery, at, maybe, wait};
use crate::plans::PlanIssueBody;
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// The window unless it is given, and at most.
const WINDOW: (TimeDelta, TimeDelta) = (TimeDelta::days(30), TimeDelta::days(3_660));

/// A horizon keeps a connection to the projections and its snapshot: no longer than this.
const PATIENCE: Duration = Duration::from_secs(50);

/// How far back.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HorizonQuery {
    /// How far back points are looked at: `30d` (unless given), `12h` or `3600s`, at most ten years.
    window: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

/// How far back an environment can be brought.
#[derive(Serialize, ToSchema)]
pub(crate) struct HorizonBody {
    /// The environment.
    environment: String,
    /// The position that the answer is true for.
    position: u64,
    /// The window in seconds.
    window_seconds: i64,
    /// The known-good points that stood at any time within the window, the last first; at most 500.
    points: Vec<HorizonPointBody>,
    /// Whether there are more known-good points than are listed. What is needed is told of all.
    cut: bool,
    /// The artifacts that must be kept: of every point within the window that is not bad, and of what runs now.
    needed: Vec<NeededBody>,
    /// What such points run without an artifact that could be kept by name.
    without_artifact: Vec<WithoutArtifactBody>,
}

/// A known-good point, and what stands in the way to it.
#[derive(Serialize, ToSchema)]
pub(crate) struct HorizonPointBody {
    /// Which change of the environment's composition it is, counted from 1.
    number: u64,
    /// The position of the event that made the change.
    position: u64,
    /// When that occurred.
    occurred_at: DateTime<Utc>,
    /// SHA-256 over what ran.
    digest: String,
    /// Whether a rollback to it could be asked for now. The point at which the environment is counts as well.
    possible: bool,
    /// Whether one could be asked for by force.
    by_force: bool,
    /// What stands in the way.
    issues: Vec<PlanIssueBody>,
}

/// An artifact that must be kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct NeededBody {
    /// The artifact, as it was first named.
    artifact: String,
    /// Every way in which it is named.
    names: Vec<String>,
    /// The services that run it.
    services: Vec<String>,
    /// How many points within the window need it; 0 if only what runs now does.
    points: u64,
}

/// A version of which no artifact is known.
#[derive(Serialize, ToSchema)]
pub(crate) struct WithoutArtifactBody {
    /// The service.
    service: String,
    /// The version.
    version: String,
}

impl From<&HorizonPoint> for HorizonPointBody {
    fn from(of: &HorizonPoint) -> Self {
        let issues = of.issues.iter();
        Self {
            number: of.point.number.unwrap_or_default(),
            position: of.point.since.position.get(),
            occurred_at: of.point.since.occurred_at,
            digest: of.point.composition.digest(),
            possible: of.is_possible(false),
            by_force: of.is_possible(true),
            issues: issues.map(|(issue, severity)| PlanIssueBody::of(issue, *severity)).collect(),
        }
    }
}

impl From<&Need> for NeededBody {
    fn from(need: &Need) -> Self {
        Self {
            artifact: need.artifact.as_str().to_owned(),
            names: need.names.iter().map(|name| name.as_str().to_owned()).collect(),
            services: need.services.iter().map(ToString::to_string).collect(),
            points: need.points,
        }
    }
}

/// `30d`, `12h` or `3600s`.
fn window(text: &str) -> Result<TimeDelta, &'static str> {
    let wrong = "must be a whole number of days, hours or seconds up to ten years: 30d, 12h or 3600s";
    let seconds = [('d', 86_400), ('h', 3_600), ('s', 1)];
    let unit = seconds.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, seconds) = unit.ok_or(wrong)?;
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<i64>().ok());
    let seconds = number.flatten().and_then(|number| number.checked_mul(seconds));
    let window = seconds.and_then(TimeDelta::try_seconds).filter(|window| *window <= WINDOW.1);
    window.ok_or(wrong)
}

/// Get the rollback horizon of an environment
///
/// Which known-good points can still be carried out, and what ended the others: an artifact that was revoked or
/// deleted, a deploy that cannot be undone. And the artifacts that no registry clean-up may delete while a
/// point within the window needs them.
#[utoipa::path(
    get,
    path = "/environments/{environment}/rollback-horizon",
    operation_id = "getRollbackHorizon",
    tag = "rollback",
    params(EnvironmentPath, HorizonQuery),
    responses(
        (status = 200, description = "The horizon", body = HorizonBody),
        (status = "4XX", description = "There is no such environment, or too long a history", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_horizon(
    ledger: TenantLedger,
    Path(path): Path<EnvironmentPath>,
    StrictQuery(query): StrictQuery<HorizonQuery>,
) -> Result<Response, Problem> {
    let environment = path.name()?;
    let window = maybe("window", query.window.as_deref(), window)?.unwrap_or(WINDOW.0);
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let _room = ledger.long_question()?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let found = timeout(PATIENCE, horizon(&mut snapshot, &environment, window, ledger.now())).await;
    let too_long = |_| {
        let seconds = PATIENCE.as_secs();
        let detail = format!("the window cannot be gone through within {seconds} s: ask for a shorter one");
        Problem::new(Kind::HistoryTooLong, detail)
    };
    let Horizon { position, points, cut, needed } = found.map_err(too_long)??;
    let without_artifact = needed.without_artifact().map(|(service, version)| WithoutArtifactBody {
        service: service.to_string(),
        version: version.to_string(),
    });
    let body = HorizonBody {
        environment: environment.to_string(),
        position: position.get(),
        window_seconds: window.num_seconds(),
        points: points.iter().map(HorizonPointBody::from).collect(),
        cut,
        needed: needed.artifacts().map(NeededBody::from).collect(),
        without_artifact: without_artifact.collect(),
    };
    Ok(at(position, Json(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_days_hours_or_seconds_up_to_ten_years() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("3600s", 3_600), ("0s", 0)] {
            assert_eq!(window(text).map(|window| window.num_seconds()), Ok(seconds), "{text}");
        }
        for wrong in ["", "d", "30", "-1d", "+1d", "1.5h", "30D", "4000d", "9223372036854775807d"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
