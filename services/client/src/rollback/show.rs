//! `release-ledger rollback show`: the progress of a rollback.

use chrono::SecondsFormat;
use ledger_api_types::{RollbackBody, StepStateBody};
use ledger_domain::{ShortText, escape_line};

use super::list::target_point;
use crate::connection::Connection;
use crate::query::QueryArgs;
use crate::release::version;
use crate::report::Report;
use crate::table::{Cell, Table, column};

/// The command `rollback show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse_identifier)]
    rollback_id: ShortText,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["rollbacks", self.rollback_id.as_str()]);
        self.query.fetch_and_print(&client, url, report).await
    }
}

/// Renders a rollback as text: see [`report`].
pub(super) fn render(rollback: &RollbackBody) -> String {
    report(rollback).to_string()
}

/// Reports a rollback with its steps.
fn report(rollback: &RollbackBody) -> Report {
    let mut lines = vec![header(rollback)];
    let reason = escape_line(rollback.reason.as_deref().unwrap_or("no reason given"));
    let mode = match (rollback.automatic, rollback.force) {
        (true, _) => ", automatically",
        (false, true) => ", by force",
        (false, false) => "",
    };
    let RollbackBody { requested, initiated_by, .. } = rollback;
    lines.push(format!(
        "requested at {} by {}{mode} (position {}): {reason}",
        requested.recorded_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        initiated_by.name,
        requested.position
    ));
    let approvals = &rollback.approvals;
    if approvals.wanted > 0 || approvals.rejected {
        let rejected = if approvals.rejected { ", and it was rejected" } else { "" };
        lines.push(format!("approvals {} of {}{rejected}", approvals.granted, approvals.wanted));
    }
    lines.extend(rollback.end_reason.as_ref().map(|reason| format!("ended: {}", escape_line(reason))));
    let before = lines.join("\n");
    let mut lines: Vec<String> = Vec::new();
    lines.extend(rollback.differences.iter().flatten().map(|difference| format!("differs: {difference}")));
    lines.extend(rollback.others.iter().flatten().map(|other| {
        let lane = [&other.service, &other.target].map(|name| name.as_deref().unwrap_or_default());
        format!("meanwhile: {} of {} at {} (position {})", other.kind, lane[0], lane[1], other.position)
    }));
    let after = (!lines.is_empty()).then(|| lines.join("\n"));
    Report::default().with_line(before).with_table(steps(rollback)).with_line_if(after)
}

fn steps(rollback: &RollbackBody) -> Table {
    let columns = [
        column("wave", 0),
        column("service", 0),
        column("target", 2),
        column("action", 0),
        column("slot", 3),
        column("from", 0),
        column("to", 0),
        column("state", 0),
        column("position", 1),
    ];
    Table::new(columns).named_by("service").with_rows(rollback.steps.iter().flatten().map(row))
}

fn header(rollback: &RollbackBody) -> String {
    let progress = rollback.progress;
    let failed = match progress.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!(
        "rollback {} of {} to {}: {}, {} of {} steps done{failed}, plan {}",
        rollback.rollback_id,
        rollback.environment,
        target_point(rollback),
        rollback.phase.name(),
        progress.done,
        progress.total,
        rollback.plan_digest
    )
}

fn row(part: &StepStateBody) -> [Cell; 9] {
    let step = &part.step;
    [
        u64::from(step.wave).into(),
        step.service.clone().into(),
        step.target.clone().into(),
        step.action.clone().into(),
        step.slot.clone().into(),
        version(step.from.as_ref()).into(),
        version(step.to.as_ref()).into(),
        part.state.clone().into(),
        part.position.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn a_rollback_is_shown_with_its_steps_differences_and_other_changes() {
        let body = read(
            br#"{"rollback_id":"r-1","environment":"production","position":20,"phase":"started",
                "automatic":false,"force":true,"initiated_by":{"type":"person","name":"ada"},
                "reason":"checkout fails","requested":{"position":9,"recorded_at":"2026-08-01T10:00:00Z"},
                "started":11,"to":3,"services":[],"targets":[],"plan_digest":"sha256:aa",
                "approvals":{"wanted":1,"granted":1,"rejected":false,"answers":[]},
                "progress":{"done":1,"failed":0,"total":2},
                "steps":[{"wave":1,"service":"api","target":"eu","action":"redeploy",
                          "from":{"version":"v2"},"to":{"version":"v1"},"state":"done","position":13},
                         {"wave":2,"service":"web","target":"eu","action":"add",
                          "to":{"version":"v1"},"state":"pending"}],
                "differences":["web at eu runs nothing instead of v1"],
                "others":[{"position":12,"occurred_at":"2026-08-01T10:01:00Z","type":"deploy.succeeded",
                           "service":"blog","target":"eu"}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body),
            "rollback r-1 of production to 3: started, 1 of 2 steps done, plan sha256:aa\n\
             requested at 2026-08-01T10:00:00Z by ada, by force (position 9): checkout fails\n\
             approvals 1 of 1\n\
             wave  service  target  action    from  to  state    position\n\
             1     api      eu      redeploy  v2    v1  done     13\n\
             2     web      eu      add       -     v1  pending\n\
             differs: web at eu runs nothing instead of v1\n\
             meanwhile: deploy.succeeded of blog at eu (position 12)"
        );
    }
}
