//! State of the deliveries to webhooks, and the log of their attempts.
//!
//! Both are stored beside the generations: they are about what left the ledger, and no event of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;

use crate::Projections;
use crate::generations::lease::Lease;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;

/// Attempt to deliver an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// Position of the entry.
    pub position: Position,
    /// Time at which the attempt began.
    pub attempted_at: DateTime<Utc>,
    /// Time until the answer or the failure, in whole milliseconds.
    pub duration: Duration,
    /// Status of the answer; `None`: no answer.
    pub status: Option<u16>,
    /// Reason of the failure; `None`: the entry was delivered.
    pub error: Option<String>,
}

/// State of the deliveries of a subscription after its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeliveryState {
    /// Number of failed attempts since the last success.
    pub failures: u32,
    /// Time of the first of them.
    pub failing_since: Option<DateTime<Utc>>,
    /// Time of the next attempt, after a failure.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// Failed attempts, the time of the first of them, and the time of the next attempt.
type StateRow = (i32, Option<DateTime<Utc>>, Option<DateTime<Utc>>);

type AttemptRow = (i64, DateTime<Utc>, i64, Option<i32>, Option<String>);

fn attempt((at, attempted_at, duration_ms, status, error): AttemptRow) -> Result<DeliveryAttempt, Error> {
    Ok(DeliveryAttempt {
        position: position(at),
        attempted_at,
        duration: Duration::from_millis(parsed("webhook_attempts", at, || u64::try_from(duration_ms))?),
        status: status.map(|status| parsed("webhook_attempts", at, || u16::try_from(status))).transpose()?,
        error,
    })
}

impl Projections {
    /// Returns the state of the deliveries of a follower under the settings at a position; `None` before the first
    /// attempt with them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn delivery_state(
        &self,
        follower: &str,
        settings: Position,
    ) -> Result<Option<DeliveryState>, Error> {
        let query = sqlx::query_as(sql!("webhooks/state")).bind(self.tenant.as_str()).bind(follower);
        let row: Option<StateRow> = query.bind(bigint(settings)).fetch_optional(&self.pool()?).await?;
        row.map(|(failures, failing_since, next_attempt_at)| {
            let failures = parsed("webhook_deliveries", follower, || u32::try_from(failures))?;
            Ok(DeliveryState { failures, failing_since, next_attempt_at })
        })
        .transpose()
    }

    /// Records an attempt of a follower, with the state of its deliveries after it. The log has the last hundred attempts
    /// of each follower.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn record_attempt(
        &self,
        follower: &str,
        settings: Position,
        attempt: &DeliveryAttempt,
        state: &DeliveryState,
    ) -> Result<(), Error> {
        let query = sqlx::query(sql!("webhooks/record_attempt")).bind(self.tenant.as_str()).bind(follower);
        let query = query.bind(bigint(settings)).bind(bigint(attempt.position)).bind(attempt.attempted_at);
        let query = query.bind(i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX));
        let query = query.bind(attempt.status.map(i32::from)).bind(attempt.error.as_deref());
        let query = query.bind(i32::try_from(state.failures).unwrap_or(i32::MAX)).bind(state.failing_since);
        query.bind(state.next_attempt_at).execute(&self.pool()?).await?;
        Ok(())
    }

    /// Returns the last attempts of a follower, latest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn delivery_attempts(&self, follower: &str, limit: u32) -> Result<Vec<DeliveryAttempt>, Error> {
        let query = sqlx::query_as(sql!("webhooks/attempts")).bind(self.tenant.as_str()).bind(follower);
        let rows: Vec<AttemptRow> = query.bind(i64::from(limit)).fetch_all(&self.pool()?).await?;
        rows.into_iter().map(attempt).collect()
    }

    /// Forgets the positions, the states and the attempts of the subscriptions that are removed: of all but the followers
    /// in `present`. Has no effect if the lease is not held any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget_removed_deliveries(&self, lease: &Lease, present: &[String]) -> Result<(), Error> {
        let statements = [
            sql!("webhooks/forget_removed_followers"),
            sql!("webhooks/forget_removed_deliveries"),
            sql!("webhooks/forget_removed_attempts"),
        ];
        let pool = self.pool()?;
        for statement in statements {
            let query = sqlx::query(statement).bind(self.tenant.as_str()).bind(present);
            lease.bind(query).execute(&pool).await?;
        }
        Ok(())
    }
}
