//! Bulk inserts: each table has a row type, and the rows of a batch are written by one statement for all tables.
//!
//! Each column is one array, so the text of an insert does not depend on the number of rows. Decision 0005 says why the
//! arrays are unnested in the SELECT list, and why one statement writes all tables.

use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, PgConnection, Postgres, Type};

use crate::postgres::Error;

/// Row type of a table, made by `insert_row`.
pub(crate) trait BulkRow: Sized {
    /// Name of the table.
    const TABLE: &'static str;
    /// Columns, in the order of the fields.
    const COLUMNS: &'static [&'static str];
    /// ON CONFLICT clause; empty if there is none.
    const ON_CONFLICT: &'static str;

    /// Returns the statement that inserts rows.
    fn statement() -> &'static str;

    /// Adds one array per column to the arguments.
    fn bind(rows: Vec<Self>, arguments: &mut PgArguments) -> Result<(), BoxDynError>;
}

/// Defines the row type of a table. The fields are the columns. The second literal, if any, is the ON CONFLICT clause.
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

        impl $crate::bulk_insert::BulkRow for $row {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];
            const ON_CONFLICT: &'static str = concat!($($on_conflict)?);

            fn statement() -> &'static str {
                static STATEMENT: std::sync::LazyLock<String> =
                    std::sync::LazyLock::new($crate::bulk_insert::insert_statement::<$row>);
                STATEMENT.as_str()
            }

            fn bind(
                rows: Vec<Self>,
                arguments: &mut sqlx::postgres::PgArguments,
            ) -> Result<(), sqlx::error::BoxDynError> {
                $(let mut $column: Vec<$type> = Vec::with_capacity(rows.len());)+
                for row in rows {
                    $($column.push(row.$column);)+
                }
                $(sqlx::Arguments::add(arguments, $column)?;)+
                Ok(())
            }
        }
    };
}

pub(crate) use insert_row;

/// Returns the statement that inserts rows of a type.
pub(crate) fn insert_statement<R: BulkRow>() -> String {
    bulk_insert(R::TABLE, R::COLUMNS, 0, "", R::ON_CONFLICT)
}

/// Inserts rows of one table. Does nothing if there are none.
pub(crate) async fn insert<R: BulkRow>(connection: &mut PgConnection, rows: Vec<R>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut arguments = PgArguments::default();
    R::bind(rows, &mut arguments).map_err(sqlx::Error::Encode)?;
    sqlx::query_with(R::statement(), arguments).execute(connection).await?;
    Ok(())
}

/// Returns an insert from one array per column. The number of the first array is that after `bound`. `from`, if any, is
/// the FROM clause: the rows are inserted once for each of its rows.
fn bulk_insert(table: &str, columns: &[&str], bound: usize, from: &str, on_conflict: &str) -> String {
    let arrays: Vec<String> =
        (1..=columns.len()).map(|number| format!("unnest(${})", bound + number)).collect();
    let insert = format!("INSERT INTO {table} ({}) SELECT {}", columns.join(", "), arrays.join(", "));
    let clauses = [from, on_conflict].into_iter().filter(|clause| !clause.is_empty());
    clauses.fold(insert, |text, clause| format!("{text} {clause}"))
}

/// The statement that writes a batch: a fence, and the writes of all tables that have rows.
///
/// The fence is an UPDATE with RETURNING. If it matches no row, nothing is written. Postgres executes the writes in any
/// order and in one snapshot, so no two of them may write the same row.
pub(crate) struct BatchStatement {
    text: String,
    arguments: PgArguments,
}

impl BatchStatement {
    /// Begins a statement with its fence.
    pub(crate) fn new(fence: &str, arguments: PgArguments) -> Self {
        Self { text: format!("WITH fence AS ({fence})"), arguments }
    }

    /// Adds rows of a table. Does nothing if there are none.
    pub(crate) fn insert<R: BulkRow>(&mut self, rows: Vec<R>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let bound = Arguments::len(&self.arguments);
        self.add(R::TABLE, &bulk_insert(R::TABLE, R::COLUMNS, bound, "FROM fence", R::ON_CONFLICT));
        Ok(R::bind(rows, &mut self.arguments).map_err(sqlx::Error::Encode)?)
    }

    /// Adds a statement that ends with its WHERE clause, and takes the arguments `$1` and `$2`.
    pub(crate) fn execute_with<'t, A, B>(
        &mut self,
        name: &str,
        text: &str,
        (one, two): (A, B),
    ) -> Result<(), Error>
    where
        A: Encode<'t, Postgres> + Type<Postgres>,
        B: Encode<'t, Postgres> + Type<Postgres>,
    {
        let bound = Arguments::len(&self.arguments);
        let numbered = with_parameters_after(text, bound);
        self.add(name, &format!("{} AND EXISTS (SELECT FROM fence)", numbered.trim_end()));
        Arguments::add(&mut self.arguments, one).map_err(sqlx::Error::Encode)?;
        Arguments::add(&mut self.arguments, two).map_err(sqlx::Error::Encode)?;
        Ok(())
    }

    fn add(&mut self, name: &str, write: &str) {
        for part in [", write_", name, " AS (", write, ")"] {
            self.text.push_str(part);
        }
    }

    /// Executes the statement. Returns false without writing if the fence matches no row.
    pub(crate) async fn execute(self, connection: &mut PgConnection) -> Result<bool, Error> {
        let text = AssertSqlSafe(format!("{} SELECT FROM fence", self.text));
        let fence = sqlx::query_with(text, self.arguments).execute(connection).await?;
        Ok(fence.rows_affected() == 1)
    }
}

/// Returns a statement with all of its parameters numbered after `bound` others.
fn with_parameters_after(text: &str, bound: usize) -> String {
    let mut parts = text.split('$');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        match number.parse::<usize>() {
            Ok(number) => numbered.push_str(&format!("${}", number + bound)),
            Err(_) => numbered.push('$'),
        }
        numbered.push_str(rest);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use ledger_domain::Position;

    use super::*;
    use crate::tables::events::GapInsert;

    #[test]
    fn a_statement_takes_one_array_per_column() {
        assert_eq!(GapInsert::statement(), "INSERT INTO gaps (position) SELECT unnest($1)");
    }

    #[test]
    fn a_statement_ends_with_its_conflict_clause() {
        let statement = bulk_insert("tiles", &["level", "index"], 0, "", "ON CONFLICT DO NOTHING");

        let expected =
            "INSERT INTO tiles (level, index) SELECT unnest($1), unnest($2) ON CONFLICT DO NOTHING";
        assert_eq!(statement, expected);
    }

    #[test]
    fn one_statement_writes_all_tables_that_have_rows_behind_the_fence() {
        let mut fence = PgArguments::default();
        Arguments::add(&mut fence, 7_i64).expect("an argument");
        let mut statement = BatchStatement::new("UPDATE p SET a = 1 WHERE b = $1 RETURNING b", fence);

        let gaps = vec![GapInsert::new(Position::new(8)), GapInsert::new(Position::new(9))];
        statement.insert(gaps).expect("rows");
        statement.insert::<GapInsert>(Vec::new()).expect("no rows");
        let delete = "DELETE FROM others WHERE a = $1 AND b = $2 AND c <> $1\n";
        statement.execute_with("others", delete, (1_i64, 2_i64)).expect("arguments");

        let expected = "WITH fence AS (UPDATE p SET a = 1 WHERE b = $1 RETURNING b), \
            write_gaps AS (INSERT INTO gaps (position) SELECT unnest($2) FROM fence), \
            write_others AS (DELETE FROM others WHERE a = $3 AND b = $4 AND c <> $3 \
            AND EXISTS (SELECT FROM fence))";
        assert_eq!(statement.text, expected);
        assert_eq!(Arguments::len(&statement.arguments), 4);
    }
}
