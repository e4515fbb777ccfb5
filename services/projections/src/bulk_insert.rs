//! Bulk inserts: each table has a row type, and one statement writes the rows of a batch.
//!
//! Each column is one array, so the text of the statement does not depend on the number of rows. Decision 0005 says why
//! the arrays are unnested in the SELECT list.

/// Defines the row type of a table. The fields are the columns; `insert` writes rows with one statement. The second
/// literal, if any, is the ON CONFLICT clause.
macro_rules! insert_row {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $row:ident => $table:literal $(, $on_conflict:literal)? {
            $($column:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $row {
            $($column: $type),+
        }

        impl $row {
            /// Returns the statement that inserts rows.
            pub(crate) fn statement() -> &'static str {
                static STATEMENT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
                    let columns = [$(stringify!($column)),+];
                    $crate::bulk_insert::insert_statement($table, &columns, concat!($($on_conflict)?))
                });
                STATEMENT.as_str()
            }

            /// Inserts rows with one statement. Does nothing if there are none.
            pub(crate) async fn insert(
                connection: &mut sqlx::PgConnection,
                rows: Vec<Self>,
            ) -> Result<(), $crate::postgres::Error> {
                if rows.is_empty() {
                    return Ok(());
                }
                $(let mut $column: Vec<$type> = Vec::with_capacity(rows.len());)+
                for row in rows {
                    $($column.push(row.$column);)+
                }
                let query = sqlx::query(Self::statement())$(.bind($column))+;
                query.execute(connection).await?;
                Ok(())
            }
        }
    };
}

pub(crate) use insert_row;

/// Returns the statement that inserts rows from one array per column.
pub(crate) fn insert_statement(table: &str, columns: &[&str], on_conflict: &str) -> String {
    let arrays: Vec<String> = (1..=columns.len()).map(|number| format!("unnest(${number})")).collect();
    let insert = format!("INSERT INTO {table} ({}) SELECT {}", columns.join(", "), arrays.join(", "));
    if on_conflict.is_empty() { insert } else { format!("{insert} {on_conflict}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_takes_one_array_per_column() {
        let statement = insert_statement("gaps", &["position"], "");

        assert_eq!(statement, "INSERT INTO gaps (position) SELECT unnest($1)");
    }

    #[test]
    fn a_statement_ends_with_its_conflict_clause() {
        let statement = insert_statement("tiles", &["level", "index"], "ON CONFLICT DO NOTHING");

        let expected =
            "INSERT INTO tiles (level, index) SELECT unnest($1), unnest($2) ON CONFLICT DO NOTHING";
        assert_eq!(statement, expected);
    }
}
