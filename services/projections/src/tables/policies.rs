//! Policies and freezes of environments.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Payload, Policy};
use ledger_domain::plan_issue::ActiveFreeze;
use ledger_domain::{EnvironmentName, Position, ShortText};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::{expanded_sql, sql};

/// Policy in force in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyInForce {
    /// Position of its declaration, if one exists.
    pub declared: Option<Position>,
    /// Policy; empty if none is declared.
    pub policy: Policy,
}

impl Snapshot {
    /// Returns the policy of an environment, as known at a position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn policy(
        &mut self,
        environment: &EnvironmentName,
        known_at: Position,
    ) -> Result<PolicyInForce, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(PolicyInForce::default()) };
        let query = sqlx::query_as(sql!("policies/last")).bind(id).bind(bigint(known_at));
        let row: Option<(i64, Vec<u8>)> = query.fetch_optional(self.connection()).await?;
        let Some((at, bytes)) = row else { return Ok(PolicyInForce::default()) };
        let envelope = parsed("events", at, || Envelope::stored(bytes.into()))?;
        match &envelope.event().payload {
            Payload::EnvironmentDeclared(_, policy) => {
                Ok(PolicyInForce { declared: Some(position(at)), policy: policy.clone() })
            }
            other => parsed("policies", at, || {
                Err(format!("expected environment.declared, found {}", other.kind()))
            }),
        }
    }

    /// Returns the freezes in force in an environment at a time, ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn freezes(
        &mut self,
        environment: &EnvironmentName,
        now: DateTime<Utc>,
    ) -> Result<Vec<ActiveFreeze>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let query = sqlx::query_as(expanded_sql!("freezes/active")).bind(id).bind(now);
        let rows: Vec<(String, Option<DateTime<Utc>>, i64)> = query.fetch_all(self.connection()).await?;
        rows.into_iter()
            .map(|(freeze_id, until, started)| {
                let freeze_id = parsed("freezes", started, || ShortText::stored(&freeze_id))?;
                Ok(ActiveFreeze { freeze_id, until, position: position(started) })
            })
            .collect()
    }
}

impl Snapshot {
    /// Returns true if a freeze with this id is not lifted and ends after a time, or has no end. Its start may lie in
    /// the future.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn is_unlifted(
        &mut self,
        environment: &EnvironmentName,
        freeze_id: &ShortText,
        at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(false) };
        let query =
            sqlx::query_scalar(sql!("freezes/is_unlifted")).bind(id).bind(freeze_id.as_str()).bind(at);
        Ok(query.fetch_one(self.connection()).await?)
    }
}

insert_row! {
    /// Row of `policies`.
    pub(crate) struct PolicyInsert => "policies" {
        environment_id: i32,
        position: i64,
    }
}

impl PolicyInsert {
    /// Returns the row of a declaration, if the payload is one.
    pub(crate) fn from_payload(payload: &Payload, environment_id: Option<i32>, at: Position) -> Option<Self> {
        let environment_id =
            environment_id.filter(|_| matches!(payload, Payload::EnvironmentDeclared(..)))?;
        Some(Self { environment_id, position: bigint(at) })
    }
}

/// Writes the start or the end of a freeze, if the payload is one.
pub(crate) async fn write(
    connection: &mut PgConnection,
    payload: &Payload,
    environment_id: i32,
    at: Position,
    occurred_at: DateTime<Utc>,
) -> Result<(), Error> {
    let query = match payload {
        Payload::FreezeStarted(freeze) => sqlx::query(sql!("freezes/start"))
            .bind(environment_id)
            .bind(freeze.freeze_id.as_str())
            .bind(bigint(at))
            .bind(occurred_at)
            .bind(freeze.until),
        Payload::FreezeLifted(freeze) => {
            let query =
                sqlx::query(sql!("freezes/lift")).bind(environment_id).bind(freeze.freeze_id.as_str());
            query.bind(bigint(at)).bind(occurred_at)
        }
        _ => return Ok(()),
    };
    query.execute(connection).await?;
    Ok(())
}
