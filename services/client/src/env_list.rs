//! `release-ledger env list`: the environments of the ledger.

use ledger_api_types::{EnvironmentBody, EnvironmentsBody};

use super::connection::Connection;
use super::freeze_list::frozen;
use super::query::QueryArgs;
use super::report::Report;
use super::table::{Cell, Table, Tone, column};

/// The command `env list`.
#[derive(Debug, clap::Args)]
pub struct ListEnvironments {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl ListEnvironments {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        self.query.fetch_and_print(&client, client.url(&["environments"]), render).await
    }
}

fn render(body: &EnvironmentsBody) -> Report {
    let columns =
        [column("environment", 0), column("changes", 0), column("first position", 1), column("state", 0)];
    let table = Table::new(columns).if_empty("no environments");
    Report::default().with_table(table.with_rows(body.environments.iter().map(row)))
}

fn row(environment: &EnvironmentBody) -> [Cell; 4] {
    let retired = environment.retired.then(|| "retired".to_owned());
    let state = retired.or_else(|| frozen(&environment.freezes));
    [
        environment.name.clone().into(),
        environment.changes.into(),
        environment.first_position.into(),
        state.map(|state| Cell::Status(Tone::Warning, state)).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn environments_are_listed_with_their_changes_and_state() {
        let body = read(
            br#"{"position":9,"environments":[{"name":"dev","first_position":1,"changes":12},
                {"name":"live","first_position":2,"changes":5,
                 "freezes":[{"freeze_id":"sale","position":7},{"freeze_id":"manual","position":8}]},
                {"name":"old","first_position":4,"changes":3,"retired":true}]}"#,
        )
        .expect("a body");
        let expected = "environment  changes  first position  state\n\
             dev          12       1\n\
             live         5        2               frozen: sale, manual\n\
             old          3        4               retired";
        assert_eq!(render(&body).to_string(), expected);
        render(&body).check_fits();
    }
}
