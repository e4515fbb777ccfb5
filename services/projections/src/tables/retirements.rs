//! Retirements of environments, and the declarations that end them.

use chrono::{DateTime, Utc};
use ledger_domain::event::Payload;
use ledger_domain::retirement::Retirements;
use ledger_domain::{EnvironmentName, EventRef, Position};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::postgres::{Error, bigint, position};
use crate::sql::sql;

const WRITE: &str = "INSERT INTO retirements (environment_id, position, occurred_at, event_id, retires)
    SELECT unnest($1::integer[]), unnest($2::bigint[]), unnest($3::timestamptz[]), unnest($4::text[]),
        unnest($5::boolean[])";

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

/// Rows to insert into `retirements`, column by column.
#[derive(Default)]
pub(crate) struct RetirementRows {
    environment_id: Vec<i32>,
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    event_id: Vec<String>,
    retires: Vec<bool>,
}

impl RetirementRows {
    pub(crate) fn push(&mut self, payload: &Payload, environment_id: Option<i32>, since: &EventRef) {
        let retires = match payload {
            Payload::EnvironmentRetired(_) => true,
            Payload::EnvironmentDeclared(..) => false,
            _ => return,
        };
        if let Some(id) = environment_id {
            self.environment_id.push(id);
            self.position.push(bigint(since.position));
            self.occurred_at.push(since.occurred_at);
            self.event_id.push(since.event_id.as_str().to_owned());
            self.retires.push(retires);
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if !self.environment_id.is_empty() {
            let query = sqlx::query(WRITE).bind(self.environment_id).bind(self.position);
            query.bind(self.occurred_at).bind(self.event_id).bind(self.retires).execute(connection).await?;
        }
        Ok(())
    }
}
