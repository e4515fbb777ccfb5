//! Several questions that see the same rows.

use std::collections::HashMap;

use ledger_domain::known_good::CheckResult;
use ledger_domain::{
    CompositionId, CompositionIndex, EnvironmentName, IdentityKey, Position, ServiceName, ShortText,
    TargetName,
};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::Projections;
use crate::postgres::{Error, SNAPSHOT, position};
use crate::tables::events::{Known, look_up};
use crate::tables::lanes::lane_key;
use crate::tables::live::composition_at;

pub(crate) const STATEMENTS: &[&str] = &[POSITION, ENVIRONMENT, LANES];

const POSITION: &str = "SELECT position FROM projection";
const ENVIRONMENT: &str = "SELECT environment_id FROM environments WHERE name = $1";
/// Every lane that an environment ever had.
const LANES: &str = "SELECT DISTINCT service, target FROM tracks WHERE environment_id = $1 ORDER BY 1, 2";

/// A composition, a check of it, and its result.
pub(crate) type CompositionResult = (CompositionId, ShortText, CheckResult);

/// The projections as they are at one position, whatever is written meanwhile. Dropped, it ends.
pub struct Snapshot {
    transaction: Transaction<'static, Postgres>,
    position: Position,
    /// The ids of environments that were asked for, which do not change.
    environment_ids: HashMap<EnvironmentName, Option<i32>>,
    /// Checks of environments within reorderings, as known at positions.
    pub(crate) reordered_checks: HashMap<(i32, Position), Vec<CompositionResult>>,
}

impl Projections {
    /// The projections as they are now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut transaction = self.pool()?.begin_with(SNAPSHOT).await?;
        let at: i64 = sqlx::query_scalar(POSITION).fetch_one(&mut *transaction).await?;
        Ok(Snapshot {
            transaction,
            position: position(at),
            environment_ids: HashMap::new(),
            reordered_checks: HashMap::new(),
        })
    }
}

impl Snapshot {
    /// The position that every answer of it is true for.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Whether any event ever named an environment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn knows(&mut self, environment: &EnvironmentName) -> Result<bool, Error> {
        Ok(self.environment_id(environment).await?.is_some())
    }

    /// Returns every lane that an environment ever had, by service and target.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn lanes_ever(
        &mut self,
        environment: &EnvironmentName,
    ) -> Result<Vec<(ServiceName, TargetName)>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let rows: Vec<(String, String)> = sqlx::query_as(LANES).bind(id).fetch_all(self.connection()).await?;
        rows.iter().map(|(service, target)| lane_key(service, target)).collect()
    }

    /// Returns the identity of the composition that was recorded at a position of an environment.
    ///
    /// # Errors
    /// The database does not answer.
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

    /// Where the history has an identity, if it does.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn known(&mut self, key: IdentityKey) -> Result<Option<Known>, Error> {
        Ok(look_up(self.connection(), &[key]).await?.get(&key).copied())
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// The environment's id, if any event ever named it.
    pub(crate) async fn environment_id(&mut self, name: &EnvironmentName) -> Result<Option<i32>, Error> {
        if let Some(known) = self.environment_ids.get(name) {
            return Ok(*known);
        }
        let query = sqlx::query_scalar(ENVIRONMENT).bind(name.as_str());
        let id = query.fetch_optional(self.connection()).await?;
        self.environment_ids.insert(name.clone(), id);
        Ok(id)
    }
}
