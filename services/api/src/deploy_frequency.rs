//! Deploy frequency: how often services were deployed, by day, week or month.

use std::time::Duration;

use axum::Json;
use axum::response::Response;
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use ledger_api_types::{DeployCountBody, DeployFrequencyBody};
use ledger_domain::access::Verb;
use ledger_domain::{EnvironmentName, ServiceName};
use ledger_projections::{CalendarUnit, DeployCount, DeployFrequencyQuery};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadSome};
use crate::parameters::{StrictQuery, parse_list, parse_optional, wait_for_position, with_position};
use crate::point_parameters::parse_moment;
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;
use crate::tenant::TenantLedger;

/// Length of the window if `since` is absent.
const DEFAULT_WINDOW: TimeDelta = TimeDelta::weeks(12);
/// Largest number of counts in an answer: about 1.5 MB.
const MAX_COUNTS: usize = 10_000;
/// Time limit of the count. It is shorter than the one of the database's statements, so that the client learns what to do.
const QUERY_TIMEOUT: Duration = Duration::from_secs(25);

/// Query parameters of the deploy frequency.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FrequencyQuery {
    /// Only these environments, separated by commas. One that does not exist is an error.
    environment: Option<String>,
    /// Only these services, separated by commas.
    service: Option<String>,
    /// Only deploys that occurred at this time or later, in the forms of times of the parameter `at` of the state. By
    /// default, the beginning of the period in which the time 12 weeks before `until`, or before now, lies.
    since: Option<String>,
    /// Only deploys that occurred before this time, in the same notation.
    until: Option<String>,
    /// Unit of the periods, in UTC: `day`, `week` (the default), which begins on Monday, or `month`.
    by: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

impl FrequencyQuery {
    /// Parses the parameters; relative times are relative to `now`.
    fn parse(&self, now: DateTime<Utc>) -> Result<DeployFrequencyQuery, Problem> {
        let environments = parse_list("environment", self.environment.as_deref(), EnvironmentName::parse)?;
        let services = parse_list("service", self.service.as_deref(), ServiceName::parse)?;
        let by = parse_optional("by", self.by.as_deref(), parse_unit)?.unwrap_or(CalendarUnit::Week);
        let until = parse_moment("until", self.until.as_deref(), now)?;
        let since = parse_moment("since", self.since.as_deref(), now)?;
        let since = since.unwrap_or_else(|| default_since(by, until.unwrap_or(now)));
        if until.is_some_and(|until| until <= since) {
            return Err(Problem::parameter("until", "must be later than since"));
        }
        Ok(DeployFrequencyQuery { environments, services, since, until, by })
    }
}

fn parse_unit(text: &str) -> Result<CalendarUnit, &'static str> {
    let unit = CalendarUnit::ALL.into_iter().find(|unit| unit.name() == text);
    unit.ok_or("must be day, week or month")
}

/// Returns the beginning of a window that ends at a time: that of a period, so that the first count is complete.
fn default_since(by: CalendarUnit, end: DateTime<Utc>) -> DateTime<Utc> {
    let since = end.checked_sub_signed(DEFAULT_WINDOW).unwrap_or(end);
    by.first_day(since.date_naive()).and_time(NaiveTime::MIN).and_utc()
}

/// Get the deploy frequency
///
/// Returns how often each service was deployed to each environment in each day, week or month, by the time at which the
/// deploys occurred: late reports count in the period in which they occurred, a deploy that was corrected counts as its
/// correction says, and repeated reports do not count. Deploys that carry the id of a rollback are its steps. Environments
/// and services that the client may not read are left out. Retired environments are included. Counts of zero are left out.
/// The answer has at most 10000 counts: with more of them, or if counting takes longer than 25 s, request a shorter window.
#[utoipa::path(
    get,
    path = "/deploy-frequency",
    operation_id = "getDeployFrequency",
    tag = "environments",
    params(FrequencyQuery),
    responses(
        (status = 200, description = "Deploy frequency", body = DeployFrequencyBody),
        ProblemResponses,
    )
)]
pub(crate) async fn get_deploy_frequency(
    ledger: Authorized<ReadSome>,
    StrictQuery(query): StrictQuery<FrequencyQuery>,
) -> Result<Response, Problem> {
    let question = query.parse(ledger.now())?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    check_named(&ledger, &question)?;
    let _permit = ledger.history_scan_permit()?;
    let mut snapshot = ledger.projections.snapshot().await?;
    let position = snapshot.position();
    for name in &question.environments {
        if !snapshot.knows(name).await? {
            return Err(Problem::unknown_environment(name));
        }
    }
    // Counts that the client may not read must not show, not even by the places that they would have taken.
    let may_read = |environment: &EnvironmentName, service: &ServiceName| {
        ledger.tenancy().check(Verb::Read, environment, Some(service)).is_ok()
    };
    let counted = timeout(QUERY_TIMEOUT, snapshot.deploy_frequency(&question, MAX_COUNTS, may_read)).await;
    let counts = counted.map_err(|_| timed_out())??;
    if counts.len() > MAX_COUNTS {
        return Err(too_many_counts());
    }
    ledger.tenancy().stats().add_reads(counts.len());
    let body = DeployFrequencyBody {
        position: position.get(),
        by: question.by.name().to_owned(),
        since: question.since,
        until: question.until,
        counts: counts.into_iter().map(count_body).collect(),
        restricted: ledger.tenancy().check_all(Verb::Read).is_err(),
    };
    Ok(with_position(position, Json(body)))
}

/// Checks that the client may read the environments that it names, or those of their services that it names.
fn check_named(ledger: &TenantLedger, question: &DeployFrequencyQuery) -> Result<(), Problem> {
    for environment in &question.environments {
        if question.services.is_empty() {
            ledger.tenancy().check(Verb::Read, environment, None)?;
        }
        for service in &question.services {
            ledger.tenancy().check(Verb::Read, environment, Some(service))?;
        }
    }
    Ok(())
}

fn count_body(count: DeployCount) -> DeployCountBody {
    DeployCountBody {
        period: count.period,
        environment: count.environment.to_string(),
        service: count.service.to_string(),
        deploys: count.deploys,
        failed: count.failed,
        rollback_steps: count.rollback_steps,
    }
}

fn timed_out() -> Problem {
    let seconds = QUERY_TIMEOUT.as_secs();
    let detail = format!(
        "counting the deploys timed out after {seconds} s; request a shorter window with since and until"
    );
    Problem::new(Kind::HistoryTooLong, detail)
}

fn too_many_counts() -> Problem {
    let detail = format!(
        "the answer has more than {MAX_COUNTS} counts; request a shorter window with since and until, fewer environments \
         or services, or counts by month"
    );
    Problem::new(Kind::HistoryTooLong, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn question(set: impl FnOnce(&mut FrequencyQuery)) -> Result<DeployFrequencyQuery, Problem> {
        let mut query = FrequencyQuery {
            environment: None,
            service: None,
            since: None,
            until: None,
            by: None,
            wait_for: None,
            wait_ms: None,
        };
        set(&mut query);
        query.parse(time("2026-12-02T15:30:00Z"))
    }

    #[test]
    fn without_since_the_window_begins_with_the_period_12_weeks_before_its_end() {
        for (by, until, since) in [
            (None, None, "2026-09-07T00:00:00Z"),
            (Some("week"), Some("2026-12-07T00:00:00Z"), "2026-09-14T00:00:00Z"),
            (Some("day"), None, "2026-09-09T00:00:00Z"),
            (Some("month"), None, "2026-09-01T00:00:00Z"),
            (Some("week"), Some("2027-03-27T00:00:00Z"), "2026-12-28T00:00:00Z"),
        ] {
            let question = question(|query| {
                query.by = by.map(str::to_owned);
                query.until = until.map(str::to_owned);
            });
            let question = question.expect("a question");
            assert_eq!(question.since, time(since), "{by:?} {until:?}");
            assert_eq!(question.until, until.map(time), "{by:?}");
        }
    }

    #[test]
    fn an_empty_or_reversed_window_is_rejected() {
        let since = "2026-08-01T00:00:00Z";
        for (until, is_valid) in
            [("2026-08-01T00:00:00Z", false), ("2026-07-31T00:00:00Z", false), ("2026-08-01T00:00:01Z", true)]
        {
            let question = question(|query| {
                query.since = Some(since.to_owned());
                query.until = Some(until.to_owned());
            });
            assert_eq!(question.is_ok(), is_valid, "{until}");
        }
    }
}
