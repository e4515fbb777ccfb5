//! The search for known-good points in a long history.
//!
//! A point is known good only if it has evidence: each lane has a pass of each required check, no check failed, and the
//! composition has soaked; or a person marked it. The reasons why one point is not known good show how far back that
//! evidence is missing: the search continues at the next point that may have it, and examines none between.

use std::collections::HashMap;
use std::time::Duration;

use ledger_domain::event::MarkedStatus;
use ledger_domain::known_good::{Reason, Status};
use ledger_domain::{EnvironmentName, Position, ServiceName, ShortText, TargetName};
use tokio::time::Instant;

use crate::Snapshot;
use crate::postgres::Error;
use crate::queries::points::{AsKnownAt, PAGE_SIZE, Point, PointCursor};
use crate::sql::sql;
use crate::tables::lanes::QueryError;

/// Maximum time of a search for known-good points.
pub const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of points to examine before the search skips any: most searches end sooner.
const EXAMINED_FIRST: u32 = 16;
/// Maximum number of versions with a pass of one check that are looked up.
const MAX_VERSIONS: i64 = 256;
/// Maximum number of reasons of one point that are followed back.
const MAX_REASONS: usize = 4;
/// Number of changes in which a statement looks for a composition that has soaked.
const SOAK_WINDOW: i64 = 10_000;

/// A search for known-good points, latest first.
pub struct KnownGoodSearch {
    environment: EnvironmentName,
    cursor: PointCursor,
    deadline: Instant,
    /// Number of points that were examined since points were last skipped.
    examined: u32,
    /// Number of points to examine before points are skipped again. Grows while skipping does not pay.
    examine: u32,
    /// Versions of each service for which a check passed.
    passed: HashMap<(ShortText, ServiceName), PassedVersions>,
}

/// Versions of a service for which a check may have passed.
#[derive(Clone)]
enum PassedVersions {
    /// Only these.
    These(Vec<String>),
    /// Any: too many passed, or a pass names no version.
    Any,
}

impl Snapshot {
    /// Returns the last known-good point of an environment up to a position.
    ///
    /// # Errors
    /// The position is not projected yet, or the database query fails.
    pub async fn last_known_good(
        &mut self,
        environment: &EnvironmentName,
        up_to: Position,
        as_known: AsKnownAt,
    ) -> Result<Option<Point>, QueryError> {
        let Some(points) = self.points(environment, up_to, as_known).await? else { return Ok(None) };
        let mut search = KnownGoodSearch::new(environment.clone(), points);
        while let Some(point) = search.next(self, PAGE_SIZE, None).await? {
            if point.judgement.status == Status::KnownGood {
                return Ok(Some(point));
            }
        }
        Ok(None)
    }
}

impl KnownGoodSearch {
    /// Starts a search from a cursor.
    #[must_use]
    pub fn new(environment: EnvironmentName, cursor: PointCursor) -> Self {
        Self {
            environment,
            cursor,
            deadline: Instant::now() + SEARCH_TIMEOUT,
            examined: 0,
            examine: EXAMINED_FIRST,
            passed: HashMap::new(),
        }
    }

    /// Returns the next point back that is examined; `None` if there is none. Skipped points are not known good. `stop`
    /// is the number of a change: the point before it is never skipped.
    ///
    /// # Errors
    /// The search takes longer than [`SEARCH_TIMEOUT`], or the database query fails.
    pub async fn next(
        &mut self,
        snapshot: &mut Snapshot,
        expected: i64,
        stop: Option<u64>,
    ) -> Result<Option<Point>, QueryError> {
        let Some(point) = self.cursor.next(snapshot, expected).await? else { return Ok(None) };
        let number = point.number.unwrap_or_default();
        if Instant::now() >= self.deadline {
            let environment = self.environment.clone();
            return Err(QueryError::SearchTimedOut { environment, number });
        }
        if point.judgement.status == Status::KnownGood {
            return Ok(Some(point));
        }
        self.examined += 1;
        if self.examined >= self.examine {
            let number = number.cast_signed();
            let stop = stop.map_or(0, |stop| stop.cast_signed() - 1);
            let mut target = self.last_candidate(snapshot, &point, number).await?;
            // The point before the change `stop` is read, and the one before that one.
            if number >= stop {
                target = target.max(stop - 1);
            }
            let is_far = self.cursor.skip_to(snapshot, target).await?;
            self.examine = if is_far { EXAMINED_FIRST } else { self.examine.saturating_mul(2) };
            self.examined = 0;
        }
        Ok(Some(point))
    }

    /// Returns the number of the last point before one that is not known good, at which none of its reasons need apply;
    /// 0 if there is none.
    async fn last_candidate(
        &mut self,
        snapshot: &mut Snapshot,
        point: &Point,
        number: i64,
    ) -> Result<i64, Error> {
        let mut target = number - 1;
        for reason in point.judgement.reasons.iter().take(MAX_REASONS) {
            if target == 0 {
                break;
            }
            target = target.min(self.before_reason(snapshot, reason, number).await?);
        }
        let marked = self.cursor.marks().with_status(MarkedStatus::KnownGood);
        if marked.is_empty() {
            return Ok(target);
        }
        let query = sqlx::query_scalar(sql!("live_changes/last_of_compositions"))
            .bind(self.cursor.environment_id())
            .bind(number)
            .bind(marked.iter().map(|id| id.as_bytes().to_vec()).collect::<Vec<_>>());
        let last: Option<i64> = query.fetch_one(snapshot.connection()).await?;
        Ok(target.max(last.unwrap_or(0)))
    }

    /// Returns the number of the last point before another at which a reason of the other need not apply.
    async fn before_reason(
        &mut self,
        snapshot: &mut Snapshot,
        reason: &Reason,
        number: i64,
    ) -> Result<i64, Error> {
        match reason {
            Reason::Missing { service, target, check } => {
                self.before_missing(snapshot, (service, target), check, number).await
            }
            Reason::Failed { lane: Some((service, target)), check, required, .. } => {
                let query = sqlx::query_scalar(sql!("live_changes/run_start"))
                    .bind(self.cursor.environment_id())
                    .bind(service.as_str())
                    .bind(target.as_str())
                    .bind(number);
                let start: Option<i64> = query.fetch_one(snapshot.connection()).await?;
                let start = start.unwrap_or(number);
                if *required {
                    self.before_missing(snapshot, (service, target), check, start).await
                } else {
                    Ok(start - 1)
                }
            }
            Reason::NotSoaked { wanted, .. } => {
                let down_to = (number - 1 - SOAK_WINDOW).max(0);
                let query = sqlx::query_scalar(sql!("live_changes/last_soaked"))
                    .bind(self.cursor.environment_id())
                    .bind(down_to)
                    .bind(number - 1)
                    .bind(*wanted as f64);
                let last: Option<i64> = query.fetch_one(snapshot.connection()).await?;
                Ok(last.unwrap_or(down_to))
            }
            Reason::Unchecked => {
                let query = sqlx::query_scalar(sql!("check_results/any_passed"));
                let query = query.bind(self.cursor.environment_id());
                let any_passed: bool = query.fetch_one(snapshot.connection()).await?;
                Ok(if any_passed { number - 1 } else { 0 })
            }
            Reason::Empty
            | Reason::Marked { .. }
            | Reason::Failed { lane: None, .. }
            | Reason::Passed { .. } => Ok(number - 1),
        }
    }

    /// Returns the number of the last point before another at which a lane runs nothing, or a version for which a check
    /// may have passed.
    async fn before_missing(
        &mut self,
        snapshot: &mut Snapshot,
        (service, target): (&ServiceName, &TargetName),
        check: &ShortText,
        number: i64,
    ) -> Result<i64, Error> {
        let PassedVersions::These(versions) = self.passed_versions(snapshot, service, check).await? else {
            return Ok(number - 1);
        };
        let query = sqlx::query_scalar(sql!("live_changes/last_run_of_versions"))
            .bind(self.cursor.environment_id())
            .bind(service.as_str())
            .bind(target.as_str())
            .bind(number)
            .bind(versions);
        let last: Option<i64> = query.fetch_one(snapshot.connection()).await?;
        Ok(last.unwrap_or(0))
    }

    async fn passed_versions(
        &mut self,
        snapshot: &mut Snapshot,
        service: &ServiceName,
        check: &ShortText,
    ) -> Result<PassedVersions, Error> {
        let key = (check.clone(), service.clone());
        if let Some(known) = self.passed.get(&key) {
            return Ok(known.clone());
        }
        let query = sqlx::query_as(sql!("check_results/passed_versions"))
            .bind(check.as_str())
            .bind(self.cursor.environment_id())
            .bind(service.as_str())
            .bind(MAX_VERSIONS + 1);
        let rows: Vec<(Option<String>, Option<String>)> = query.fetch_all(snapshot.connection()).await?;
        let is_complete = i64::try_from(rows.len()).is_ok_and(|rows| rows <= MAX_VERSIONS);
        let versions: Option<Vec<String>> = rows.into_iter().map(|(_, version)| version).collect();
        let passed = match versions {
            Some(versions) if is_complete => PassedVersions::These(versions),
            _ => PassedVersions::Any,
        };
        self.passed.insert(key, passed.clone());
        Ok(passed)
    }
}
