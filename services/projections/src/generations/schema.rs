//! Compares the schema of the live generation with the one that this program creates: tables, columns, constraints,
//! indexes, triggers, rules, policies and functions.

use std::collections::BTreeMap;
use std::fmt;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::postgres::{Error, Projections};
use crate::projector::pipeline::close;
use crate::sql::sql;

/// Schema of the objects that this program creates. It exists only within a transaction.
const EXPECTED_SCHEMA: &str = "ledger_expected";
/// Longest definition in a message, in characters.
const DEFINITION_LIMIT: usize = 160;

/// A difference between the schema of the live generation and the one that this program creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDifference {
    /// Kind and name of the object, such as `index events_identity`.
    pub object: String,
    /// Its definition in the live generation; `None` if it is missing there.
    pub found: Option<String>,
    /// Its definition as this program creates it; `None` if this program creates no such object.
    pub expected: Option<String>,
}

impl fmt::Display for SchemaDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |definition: &str| definition.chars().take(DEFINITION_LIMIT).collect::<String>();
        let object = &self.object;
        match (&self.found, &self.expected) {
            (None, _) => write!(f, "{object} is missing"),
            (Some(found), None) => write!(f, "{object} is unexpected: {}", short(found)),
            (Some(found), Some(expected)) => {
                write!(f, "{object} is {:?}, but must be {:?}", short(found), short(expected))
            }
        }
    }
}

impl Projections {
    /// Returns the differences between the schema of the live generation and the one that this program creates, by the
    /// kind and the name of the object. Creates the latter in a transaction that is rolled back.
    ///
    /// # Errors
    /// No generation is live, or the database does not answer.
    pub async fn schema_differences(&self) -> Result<Vec<SchemaDifference>, Error> {
        self.activate_live().await?;
        let (number, _) = self.active_generation()?;
        let mut connection = self.database().connect().await?;
        let mut transaction = connection.begin().await?;
        set_search_path(&mut transaction, &self.schema(number)).await?;
        let found = objects(&mut transaction).await?;
        let create = AssertSqlSafe(format!("CREATE SCHEMA {EXPECTED_SCHEMA}"));
        sqlx::query(create).execute(&mut *transaction).await?;
        set_search_path(&mut transaction, EXPECTED_SCHEMA).await?;
        for migration in self.database().schema_version.migrator.iter() {
            sqlx::raw_sql(migration.sql.clone()).execute(&mut *transaction).await?;
        }
        let expected = objects(&mut transaction).await?;
        transaction.rollback().await?;
        close(connection).await;
        Ok(differences(found, expected))
    }
}

async fn set_search_path(connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
    let set = AssertSqlSafe(format!("SET LOCAL search_path TO \"{schema}\""));
    sqlx::query(set).execute(connection).await?;
    Ok(())
}

/// Returns the definitions of the objects of the current schema, by kind and name.
async fn objects(connection: &mut PgConnection) -> Result<BTreeMap<String, String>, Error> {
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql!("schema/objects")).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(kind, name, definition)| (format!("{kind} {name}"), definition)).collect())
}

fn differences(
    mut found: BTreeMap<String, String>,
    expected: BTreeMap<String, String>,
) -> Vec<SchemaDifference> {
    let mut differences: Vec<_> = expected
        .into_iter()
        .map(|(object, expected)| {
            let found = found.remove(&object);
            SchemaDifference { object, found, expected: Some(expected) }
        })
        .filter(|difference| difference.found != difference.expected)
        .collect();
    let unexpected = found.into_iter();
    differences.extend(unexpected.map(|(object, definition)| SchemaDifference {
        object,
        found: Some(definition),
        expected: None,
    }));
    differences.sort_by(|one, other| one.object.cmp(&other.object));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(object, definition)| ((*object).to_owned(), (*definition).to_owned())).collect()
    }

    #[test]
    fn missing_changed_and_unexpected_objects_are_named() {
        let found = objects(&[("relation a", "view"), ("trigger a.t", "swallows"), ("relation b", "table")]);
        let expected =
            objects(&[("relation a", "table"), ("relation b", "table"), ("index a_b", "on a (b)")]);

        let named: Vec<String> = differences(found, expected).iter().map(ToString::to_string).collect();

        assert_eq!(
            named,
            [
                "index a_b is missing",
                r#"relation a is "view", but must be "table""#,
                "trigger a.t is unexpected: swallows",
            ]
        );
    }
}
