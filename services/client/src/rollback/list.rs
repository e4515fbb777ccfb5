//! `release-ledger rollback list`: the rollbacks of the ledger.

use ledger_api_types::{RollbackBody, RollbacksBody};
use ledger_domain::EnvironmentName;

use crate::connection::Connection;
use crate::query::{QueryArgs, with_param};
use crate::table;

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
        let url = with_param(client.url(&["rollbacks"]), "environment", self.environment);
        let url = with_param(with_param(url, "phase", self.phase), "before", self.before);
        self.query.fetch_and_print(&client, with_param(url, "limit", self.limit), render).await
    }
}

fn render(body: &RollbacksBody) -> String {
    if body.rollbacks.is_empty() {
        return "no rollbacks".into();
    }
    let header = ["rollback", "environment", "to", "phase", "steps", "requested", "by", "reason"];
    let rows: Vec<_> = body.rollbacks.iter().map(row).collect();
    let table = table::render(header, &rows);
    match body.next {
        Some(next) => format!("{table}\nthere may be more: --before {next}"),
        None => table,
    }
}

fn row(rollback: &RollbackBody) -> [String; 8] {
    let progress = rollback.progress;
    [
        rollback.rollback_id.clone(),
        rollback.environment.clone(),
        target_point(rollback),
        rollback.phase.name().into(),
        format!("{}/{}", progress.done, progress.total),
        rollback.requested.position.to_string(),
        rollback.initiated_by.name.clone(),
        rollback.reason.clone().unwrap_or_default(),
    ]
}

/// Renders the target point: `production@12`, or `12` for a point of the environment itself.
pub(super) fn target_point(rollback: &RollbackBody) -> String {
    match &rollback.source {
        Some(source) => format!("{source}@{}", rollback.to),
        None => rollback.to.to_string(),
    }
}
