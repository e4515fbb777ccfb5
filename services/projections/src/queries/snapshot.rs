//! Snapshots: several queries that see the same rows.

use std::collections::HashMap;

use ledger_domain::known_good::CheckResult;
use ledger_domain::{
    CompositionId, CompositionIndex, EnvironmentName, IdentityKey, Position, ServiceName, ShortText,
    TargetName,
};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::Projections;
use crate::postgres::{Error, SNAPSHOT, bigint, position};
use crate::sql::sql;
use crate::tables::events::{KnownEntry, look_up};
use crate::tables::lanes::parse_lane_key;
use crate::tables::live::composition_at;

/// Composition, name of a check of it, and the result.
pub(crate) type CompositionResult = (CompositionId, ShortText, CheckResult);

/// Projections at one position, unaffected by concurrent writes. Dropping the snapshot ends its transaction.
pub struct Snapshot {
    transaction: Transaction<'static, Postgres>,
    position: Position,
    /// Cache of environment ids, which do not change; `None`: no event names the environment.
    environment_ids: HashMap<EnvironmentName, Option<i32>>,
    /// Cache of check results within reorderings, by environment id and position as known at.
    pub(crate) reordered_checks: HashMap<(i32, Position), Vec<CompositionResult>>,
}

impl Projections {
    /// Opens a snapshot of the projections.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut transaction = self.pool()?.begin_with(SNAPSHOT).await?;
        let at: i64 = sqlx::query_scalar(sql!("checkpoint/position")).fetch_one(&mut *transaction).await?;
        Ok(Snapshot {
            transaction,
            position: position(at),
            environment_ids: HashMap::new(),
            reordered_checks: HashMap::new(),
        })
    }
}

impl Snapshot {
    /// Returns the position of the projections in this snapshot.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns true if any event names the environment.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn knows(&mut self, environment: &EnvironmentName) -> Result<bool, Error> {
        Ok(self.environment_id(environment).await?.is_some())
    }

    /// Returns every lane that an environment ever had, sorted by service and target.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn all_lanes(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<(ServiceName, TargetName)>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let rows: Vec<(String, String)> =
            sqlx::query_as(sql!("lanes/of_environment")).bind(id).fetch_all(self.connection()).await?;
        rows.iter().map(|(service, target)| parse_lane_key(service, target)).collect()
    }

    /// Returns the identity of the composition that an environment ran at a position, by the recorded order of changes.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn composition_id(
        &mut self,
        environment: &EnvironmentName,
        at: Position,
    ) -> Result<CompositionId, Error> {
        let found = match self.environment_id(environment).await? {
            Some(id) => composition_at(self.connection(), id, at).await?,
            None => None,
        };
        Ok(found.unwrap_or_else(|| CompositionIndex::default().id()))
    }

    /// Returns the location of an identity in the history, if the history has it.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn find_entry(&mut self, key: IdentityKey) -> Result<Option<KnownEntry>, Error> {
        Ok(look_up(self.connection(), &[key]).await?.remove(&key))
    }

    /// Returns true if an entry after a position may change a decision about some environments: it names one of them,
    /// or none (as an artifact does), belongs to a rollback, corrects an event, or deploys one of these services: a
    /// version may mean the artifact that was deployed in another environment.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn concerns_since(
        &mut self,
        after: Position,
        environments: &[EnvironmentName],
        services: &[ServiceName],
    ) -> Result<bool, Error> {
        let names: Vec<&str> = environments.iter().map(EnvironmentName::as_str).collect();
        let services: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
        let query = sqlx::query_scalar(sql!("events/concerning"));
        let query = query.bind(bigint(after)).bind(names).bind(services);
        Ok(query.fetch_one(self.connection()).await?)
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Returns the id of an environment, if any event names it.
    pub(crate) async fn environment_id(&mut self, name: &EnvironmentName) -> Result<Option<i32>, Error> {
        if let Some(known) = self.environment_ids.get(name) {
            return Ok(*known);
        }
        let query = sqlx::query_scalar(sql!("environments/id")).bind(name.as_str());
        let id = query.fetch_optional(self.connection()).await?;
        self.environment_ids.insert(name.clone(), id);
        Ok(id)
    }
}
