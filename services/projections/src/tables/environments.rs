//! Which environments there are, and how often the composition of each has changed.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::{EnvironmentName, Position};
use sqlx::PgConnection;

use crate::Projections;
use crate::postgres::{Error, bigint, parsed, position};

pub(crate) const STATEMENTS: &[&str] = &[LIST, LOAD, WRITE];

const LIST: &str = "SELECT p.position, e.name, e.first_position, e.changes, (
        SELECT r.retires FROM retirements r WHERE r.environment_id = e.environment_id
        ORDER BY r.occurred_at DESC, r.position DESC LIMIT 1
    ) AS retired
    FROM projection p LEFT JOIN environments e ON true ORDER BY e.name";

const LOAD: &str =
    "SELECT environment_id, name, first_position, changes, with_parts, last_change_at FROM environments";

const WRITE: &str = "INSERT INTO environments (environment_id, name, first_position, changes,
        with_parts, last_change_at)
    SELECT unnest($1::integer[]), unnest($2::text[]), unnest($3::bigint[]), unnest($4::bigint[]),
        unnest($5::boolean[]), unnest($6::timestamptz[])
    ON CONFLICT (environment_id) DO UPDATE SET changes = excluded.changes, with_parts = excluded.with_parts,
        last_change_at = excluded.last_change_at";

/// An environment that some event named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Its name.
    pub name: EnvironmentName,
    /// The position of the first event that named it.
    pub first_position: Position,
    /// How often its composition has changed.
    pub changes: u64,
    /// Whether it is retired.
    pub retired: bool,
}

impl Projections {
    /// The environments, by name, and the position that this is true for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn environments(&self) -> Result<(Position, Vec<EnvironmentRow>), Error> {
        type Row = (i64, Option<String>, Option<i64>, Option<i64>, Option<bool>);
        let rows: Vec<Row> = sqlx::query_as(LIST).fetch_all(&self.pool()?).await?;
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

/// The environments in the projector's memory.
#[derive(Default)]
pub(crate) struct EnvironmentsFold {
    by_name: HashMap<EnvironmentName, Known>,
    dirty: BTreeSet<EnvironmentName>,
}

struct Known {
    id: i32,
    first_position: Position,
    changes: i64,
    with_parts: bool,
    last_change_at: Option<DateTime<Utc>>,
}

impl EnvironmentsFold {
    pub(crate) async fn load(connection: &mut PgConnection) -> Result<Self, Error> {
        type Row = (i32, String, i64, i64, bool, Option<DateTime<Utc>>);
        let rows: Vec<Row> = sqlx::query_as(LOAD).fetch_all(connection).await?;
        let mut by_name = HashMap::with_capacity(rows.len());
        for (id, name, first, changes, with_parts, last_change_at) in rows {
            let name = parsed("environments", id, || EnvironmentName::parse(&name))?;
            let first_position = position(first);
            by_name.insert(name, Known { id, first_position, changes, with_parts, last_change_at });
        }
        Ok(Self { by_name, dirty: BTreeSet::new() })
    }

    /// The environment's id; one that was never named before is known from this position on.
    pub(crate) fn named(&mut self, name: &EnvironmentName, at: Position) -> i32 {
        if let Some(known) = self.by_name.get(name) {
            return known.id;
        }
        // Ids count environments; there are never 2^31 of them.
        let id = i32::try_from(self.by_name.len() + 1).unwrap_or(i32::MAX);
        let known = Known { id, first_position: at, changes: 0, with_parts: false, last_change_at: None };
        self.by_name.insert(name.clone(), known);
        self.dirty.insert(name.clone());
        id
    }

    /// The name of the environment with an id.
    pub(crate) fn name(&self, id: i32) -> Option<&EnvironmentName> {
        self.by_name.iter().find(|(_, known)| known.id == id).map(|(name, _)| name)
    }

    /// Notes that a deploy stated more of a release than its version.
    pub(crate) fn has_parts(&mut self, name: &EnvironmentName) {
        if let Some(known) = self.by_name.get_mut(name).filter(|known| !known.with_parts) {
            known.with_parts = true;
            self.dirty.insert(name.clone());
        }
    }

    /// Notes when a change of the environment's lanes occurred; returns when the last one before occurred, if that is later.
    pub(crate) fn change_occurred(
        &mut self,
        name: &EnvironmentName,
        at: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let known = self.by_name.get_mut(name)?;
        if let Some(last) = known.last_change_at.filter(|last| *last > at) {
            return Some(last);
        }
        if known.last_change_at != Some(at) {
            known.last_change_at = Some(at);
            if !self.dirty.contains(name) {
                self.dirty.insert(name.clone());
            }
        }
        None
    }

    /// The environment's id, if it was ever named.
    pub(crate) fn id(&self, name: &EnvironmentName) -> Option<i32> {
        self.by_name.get(name).map(|known| known.id)
    }

    /// Counts one change of the environment's composition; says which it is.
    pub(crate) fn changed(&mut self, name: &EnvironmentName) -> Option<i64> {
        let known = self.by_name.get_mut(name)?;
        known.changes += 1;
        let number = known.changes;
        if !self.dirty.contains(name) {
            self.dirty.insert(name.clone());
        }
        Some(number)
    }

    /// The rows of the environments that changed since the last time.
    pub(crate) fn take_rows(&mut self) -> EnvironmentRows {
        let mut rows = EnvironmentRows::default();
        for name in std::mem::take(&mut self.dirty) {
            if let Some(known) = self.by_name.get(&name) {
                rows.id.push(known.id);
                rows.name.push(name.to_string());
                rows.first_position.push(bigint(known.first_position));
                rows.changes.push(known.changes);
                rows.with_parts.push(known.with_parts);
                rows.last_change_at.push(known.last_change_at);
            }
        }
        rows
    }
}

/// Environments on their way into the table, column by column.
#[derive(Default)]
pub(crate) struct EnvironmentRows {
    id: Vec<i32>,
    name: Vec<String>,
    first_position: Vec<i64>,
    changes: Vec<i64>,
    with_parts: Vec<bool>,
    last_change_at: Vec<Option<DateTime<Utc>>>,
}

impl EnvironmentRows {
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if self.id.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(WRITE).bind(self.id).bind(self.name).bind(self.first_position);
        let query = query.bind(self.changes).bind(self.with_parts).bind(self.last_change_at);
        query.execute(connection).await?;
        Ok(())
    }
}
