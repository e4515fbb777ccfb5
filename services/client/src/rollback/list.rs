//! `release-ledger rollback list`: the rollbacks of the ledger.

use ledger_api_types::{RollbackBody, RollbacksBody};
use ledger_domain::EnvironmentName;

use crate::connection::Connection;
use crate::known::unknown_environment;
use crate::output::print_notice;
use crate::query::{QueryArgs, read, with_param};
use crate::report::Report;
use crate::table::{Cell, Table, column, wide_column};

/// The command `rollback list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only rollbacks of this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// Only rollbacks in this phase
    #[arg(long, value_parser = ["requested", "started", "succeeded", "failed", "cancelled"])]
    phase: Option<String>,
    /// Only rollbacks requested before this position
    #[arg(long, value_name = "POSITION")]
    before: Option<u64>,
    /// At most this many: 1 to 100 [default: 20]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = with_param(client.url(&["rollbacks"]), "environment", self.environment.as_ref());
        let url = with_param(with_param(url, "phase", self.phase), "before", self.before);
        let body = self.query.fetch(&client, with_param(url, "limit", self.limit)).await?;
        let is_empty = read::<RollbacksBody>(&body)?.rollbacks.is_empty();
        self.query.print(body, render)?;
        if let Some(environment) = self.environment.filter(|_| is_empty)
            && let Some(note) = unknown_environment(&client, &environment).await
        {
            print_notice(&note);
        }
        Ok(())
    }
}

fn render(body: &RollbacksBody) -> Report {
    let columns = [
        column("rollback", 0),
        column("environment", 0),
        column("to", 1),
        column("phase", 0),
        column("steps", 2),
        column("requested position", 4),
        column("by", 3),
        column("reason", 5),
        wide_column("time"),
    ];
    let table = Table::new(columns).if_empty("no rollbacks").with_rows(body.rollbacks.iter().map(row));
    let more = body.next.map(|next| format!("there may be more: --before {next}"));
    Report::default().with_table(table).with_line_if(more)
}

fn row(rollback: &RollbackBody) -> [Cell; 9] {
    let progress = rollback.progress;
    [
        rollback.rollback_id.clone().into(),
        rollback.environment.clone().into(),
        target_point(rollback).into(),
        rollback.phase.name().into(),
        format!("{}/{}", progress.done, progress.total).into(),
        rollback.requested.position.into(),
        rollback.initiated_by.name.clone().into(),
        rollback.reason.clone().into(),
        rollback.requested.recorded_at.into(),
    ]
}

/// Renders the target point: `production@12`, or `12` for a point of the environment itself.
pub(super) fn target_point(rollback: &RollbackBody) -> String {
    match &rollback.source {
        Some(source) => format!("{source}@{}", rollback.to),
        None => rollback.to.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn rollbacks_with_long_values_fit_into_80_columns() {
        let json = r#"{"position":9,"rollbacks":[{"position":9,"rollback_id":"0198c1f2-3d4a-7b69-8c1f-2e3d4a5b6978",
            "environment":"production-eu-central-1","to":123456789,"phase":"started","automatic":true,"force":false,
            "requested":{"position":123456799,"recorded_at":"2026-08-01T10:00:00Z"},
            "initiated_by":{"type":"person","name":"ada.lovelace@example.test"},"plan_digest":"sha256:aa",
            "progress":{"done":1,"failed":0,"total":12},
            "approvals":{"wanted":0,"granted":0,"rejected":false},
            "reason":"the check end-to-end of search-api-gateway failed in production"}],"next":7}"#;
        render(&read(json.as_bytes()).expect("a body")).check_fits();
    }
}
