//! Environments: their names and ids, and the number of composition changes of each.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::{EnvironmentName, Position};
use sqlx::PgConnection;

use crate::bulk_insert::insert_row;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::{Projections, Snapshot};

/// Environment that at least one event names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Name of the environment.
    pub name: EnvironmentName,
    /// Position of the first event that names it.
    pub first_position: Position,
    /// Number of changes of its composition.
    pub changes: u64,
    /// True if it is retired.
    pub retired: bool,
}

impl Projections {
    /// Returns the environments, sorted by name, and the position of the projections.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn environments(&self) -> Result<(Position, Vec<EnvironmentRow>), Error> {
        type Row = (i64, Option<String>, Option<i64>, Option<i64>, Option<bool>);
        let rows: Vec<Row> = sqlx::query_as(sql!("environments/list")).fetch_all(&self.pool()?).await?;
        let at = rows.first().map_or(Position::START, |row| position(row.0));
        let environments = rows.into_iter().filter_map(|(_, name, first, changes, retired)| {
            let (name, first, changes) = (name?, first?, changes?);
            let retired = retired.unwrap_or(false);
            Some(parsed("environments", &name, || EnvironmentName::parse(&name)).map(|name| EnvironmentRow {
                name,
                first_position: position(first),
                changes: changes.cast_unsigned(),
                retired,
            }))
        });
        Ok((at, environments.collect::<Result<_, _>>()?))
    }
}

impl Snapshot {
    /// Returns the environments that can have drift, sorted by name: they have observations, or a service that runs at
    /// several targets.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn environments_with_drift_gauges(&mut self) -> Result<Vec<EnvironmentName>, Error> {
        let query = sqlx::query_scalar(sql!("environments/with_drift_gauges"));
        let names: Vec<String> = query.fetch_all(self.connection()).await?;
        parse_names(&names)
    }

    /// Returns the environments that entries after a position name, sorted by name.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn environments_named_since(&mut self, after: Position) -> Result<Vec<EnvironmentName>, Error> {
        let query = sqlx::query_scalar(sql!("environments/named_since")).bind(bigint(after));
        let names: Vec<String> = query.fetch_all(self.connection()).await?;
        parse_names(&names)
    }
}

fn parse_names(names: &[String]) -> Result<Vec<EnvironmentName>, Error> {
    names.iter().map(|name| parsed("environments", name, || EnvironmentName::parse(name))).collect()
}

/// In-memory projection of environments.
#[derive(Default)]
pub(crate) struct EnvironmentProjection {
    by_name: HashMap<EnvironmentName, EnvironmentEntry>,
    dirty: BTreeSet<EnvironmentName>,
}

struct EnvironmentEntry {
    id: i32,
    first_position: Position,
    changes: i64,
    with_parts: bool,
    last_change_at: Option<DateTime<Utc>>,
}

impl EnvironmentProjection {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        type Row = (i32, String, i64, i64, bool, Option<DateTime<Utc>>);
        let rows: Vec<Row> = sqlx::query_as(sql!("environments/load")).fetch_all(connection).await?;
        let mut by_name = HashMap::with_capacity(rows.len());
        for (id, name, first, changes, with_parts, last_change_at) in rows {
            let name = parsed("environments", id, || EnvironmentName::parse(&name))?;
            let first_position = position(first);
            by_name
                .insert(name, EnvironmentEntry { id, first_position, changes, with_parts, last_change_at });
        }
        Ok(Self { by_name, dirty: BTreeSet::new() })
    }

    /// Returns the id of an environment. Adds the environment if this event is the first that names it.
    pub(crate) fn named(&mut self, name: &EnvironmentName, at: Position) -> i32 {
        if let Some(entry) = self.by_name.get(name) {
            return entry.id;
        }
        // Ids count environments, so they stay below 2^31.
        let id = i32::try_from(self.by_name.len() + 1).unwrap_or(i32::MAX);
        let entry =
            EnvironmentEntry { id, first_position: at, changes: 0, with_parts: false, last_change_at: None };
        self.by_name.insert(name.clone(), entry);
        self.dirty.insert(name.clone());
        id
    }

    /// Returns the name of the environment with this id.
    pub(crate) fn name(&self, id: i32) -> Option<&EnvironmentName> {
        self.by_name.iter().find(|(_, entry)| entry.id == id).map(|(name, _)| name)
    }

    /// Records that a deploy stated more of a release than its version.
    pub(crate) fn has_parts(&mut self, name: &EnvironmentName) {
        if let Some(entry) = self.by_name.get_mut(name).filter(|entry| !entry.with_parts) {
            entry.with_parts = true;
            self.dirty.insert(name.clone());
        }
    }

    /// Records the time of a change of the environment's lanes. Returns the latest time recorded so far, if it is
    /// later.
    pub(crate) fn change_occurred(
        &mut self,
        name: &EnvironmentName,
        at: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let entry = self.by_name.get_mut(name)?;
        if let Some(last) = entry.last_change_at.filter(|last| *last > at) {
            return Some(last);
        }
        if entry.last_change_at != Some(at) {
            entry.last_change_at = Some(at);
            if !self.dirty.contains(name) {
                self.dirty.insert(name.clone());
            }
        }
        None
    }

    /// Returns the id of an environment, if any event has named it.
    pub(crate) fn id(&self, name: &EnvironmentName) -> Option<i32> {
        self.by_name.get(name).map(|entry| entry.id)
    }

    /// Counts one change of the environment's composition and returns its number.
    pub(crate) fn changed(&mut self, name: &EnvironmentName) -> Option<i64> {
        let entry = self.by_name.get_mut(name)?;
        entry.changes += 1;
        let number = entry.changes;
        if !self.dirty.contains(name) {
            self.dirty.insert(name.clone());
        }
        Some(number)
    }

    /// Returns the rows of the environments that changed since the last call.
    pub(crate) fn take_rows(&mut self) -> Vec<EnvironmentUpsert> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        let rows = dirty.filter_map(|name| {
            let entry = self.by_name.get(&name)?;
            Some(EnvironmentUpsert {
                environment_id: entry.id,
                name: name.to_string(),
                first_position: bigint(entry.first_position),
                changes: entry.changes,
                with_parts: entry.with_parts,
                last_change_at: entry.last_change_at,
            })
        });
        rows.collect()
    }
}

insert_row! {
    /// Row of `environments`.
    pub(crate) struct EnvironmentUpsert => "environments",
        "ON CONFLICT (environment_id) DO UPDATE SET changes = excluded.changes, with_parts = excluded.with_parts,
            last_change_at = excluded.last_change_at"
    {
        environment_id: i32,
        name: String,
        first_position: i64,
        changes: i64,
        with_parts: bool,
        last_change_at: Option<DateTime<Utc>>,
    }
}
