//! Retirements of environments, and the declarations that end them.

use chrono::{DateTime, Utc};
use ledger_domain::event::Payload;
use ledger_domain::retirement::Retirements;
use ledger_domain::{EnvironmentName, EventRef, Position};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, position};
use crate::sql::sql;

/// Loads the retirements of an environment, as known at a position.
pub(crate) async fn retirements(
    connection: &mut PgConnection,
    environment_id: i32,
    known_at: Position,
) -> Result<Retirements, Error> {
    type Row = (DateTime<Utc>, i64, bool);
    let query =
        sqlx::query_as(sql!("retirements/of_environment")).bind(environment_id).bind(bigint(known_at));
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    let mut retirements = Retirements::default();
    for (occurred_at, at, retires) in rows {
        retirements.add(occurred_at, position(at), retires);
    }
    Ok(retirements)
}

/// Loads all retirements and declarations: environment id, time, position, and true for a retirement.
pub(crate) async fn load(
    connection: &mut PgConnection,
) -> Result<Vec<(i32, DateTime<Utc>, Position, bool)>, Error> {
    let rows: Vec<(i32, DateTime<Utc>, i64, bool)> =
        sqlx::query_as(sql!("retirements/load")).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(id, at, row, retires)| (id, at, position(row), retires)).collect())
}

impl Snapshot {
    /// Returns the retirements of an environment, as known at a position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn retirements(
        &mut self,
        environment: &EnvironmentName,
        known_at: Position,
    ) -> Result<Retirements, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Retirements::default()) };
        retirements(self.connection(), id, known_at).await
    }
}

insert_row! {
    /// Row of `retirements`.
    pub(crate) struct RetirementInsert => "retirements" {
        environment_id: i32,
        position: i64,
        occurred_at: DateTime<Utc>,
        event_id: String,
        retires: bool,
    }
}

impl RetirementInsert {
    /// Returns the row of a retirement or of a declaration, if the payload is one.
    pub(crate) fn from_payload(
        payload: &Payload,
        environment_id: Option<i32>,
        since: &EventRef,
    ) -> Option<Self> {
        let retires = match payload {
            Payload::EnvironmentRetired(_) => true,
            Payload::EnvironmentDeclared(..) => false,
            _ => return None,
        };
        Some(Self {
            environment_id: environment_id?,
            position: bigint(since.position),
            occurred_at: since.occurred_at,
            event_id: since.event_id.as_str().to_owned(),
            retires,
        })
    }
}
