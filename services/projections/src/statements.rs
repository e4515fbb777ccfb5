//! Statements with a constant text that are built in code, so that a test can prepare them all.

use crate::bulk_insert::BulkRow as _;
use crate::postgres::SESSION_COMMANDS;
use crate::projector::tree::TileUpsert;
use crate::tables::artifacts::{BuildInsert, RevocationInsert};
use crate::tables::check_results::{CheckEndInsert, CheckStartInsert};
use crate::tables::clock_skews::ClockSkewUpsert;
use crate::tables::corrections::EarlyCorrectionInsert;
use crate::tables::deploys::{IrreversibleDeployInsert, OpenDeployInsert};
use crate::tables::environments::EnvironmentUpsert;
use crate::tables::events::{EventInsert, GapInsert};
use crate::tables::foreign_entries::ForeignEntryInsert;
use crate::tables::lanes::{IrregularLaneInsert, LaneChangeInsert, TrackUpsert};
use crate::tables::live::{LiveChangeInsert, ReorderingInsert};
use crate::tables::observations::ObservationUpsert;
use crate::tables::policies::PolicyInsert;
use crate::tables::retirements::RetirementInsert;
use crate::tables::rollbacks::{RollbackLaneInsert, RollbackReportInsert};

/// Returns the statements with a constant text that are built in code, not read from files: bulk inserts and session
/// commands. A test prepares them all.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    let mut statements = bulk_inserts();
    statements.extend(SESSION_COMMANDS);
    statements
}

/// Returns the statements of all bulk inserts.
fn bulk_inserts() -> Vec<&'static str> {
    vec![
        TileUpsert::statement(),
        BuildInsert::statement(),
        RevocationInsert::statement(),
        CheckEndInsert::statement(),
        CheckStartInsert::statement(),
        ClockSkewUpsert::statement(),
        EarlyCorrectionInsert::statement(),
        IrreversibleDeployInsert::statement(),
        OpenDeployInsert::statement(),
        EnvironmentUpsert::statement(),
        EventInsert::statement(),
        GapInsert::statement(),
        ForeignEntryInsert::statement(),
        IrregularLaneInsert::statement(),
        LaneChangeInsert::statement(),
        TrackUpsert::statement(),
        LiveChangeInsert::statement(),
        ReorderingInsert::statement(),
        ObservationUpsert::statement(),
        PolicyInsert::statement(),
        RetirementInsert::statement(),
        RollbackLaneInsert::statement(),
        RollbackReportInsert::statement(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tests::read_all;

    #[test]
    fn the_statements_of_all_row_types_are_listed() {
        let sources = read_all("src");
        // In two parts, so that this file does not contain it.
        let macro_call = concat!("insert_row! ", "{");
        let row_types = sources.iter().flat_map(|(_, text)| text.split(macro_call).skip(1));
        let table_of = |row_type: &'_ str| row_type.split('"').nth(1).expect("a table").to_owned();
        let mut tables: Vec<String> = row_types.map(table_of).collect();
        tables.sort_unstable();

        let table_of = |statement: &str| statement.split(' ').nth(2).expect("a table").to_owned();
        let mut listed: Vec<String> = bulk_inserts().into_iter().map(table_of).collect();
        listed.sort_unstable();

        assert_eq!(listed, tables);
    }
}
