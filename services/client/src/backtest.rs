//! `release-ledger backtest`: evaluates a candidate policy against the recorded history.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ledger_api_types::{BacktestBody, BacktestRequest, EvaluatedDeployBody, FindingBody};
use ledger_domain::EnvironmentName;
use serde_json::value::RawValue;

use super::bounded::read_text;
use super::connection::Connection;
use super::counts::with_counts;
use super::point_arg::{PositionSpec, parse_position};
use super::query::QueryArgs;
use super::table;
use super::targets::DEFAULT_TARGET;

/// Show the deploys that a policy would have stopped, and the failing ones that it would have allowed
#[derive(Debug, clap::Args)]
pub struct Backtest {
    /// A file with the policy as JSON, as in `environment.declared`; `-` reads it from stdin
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The environment to evaluate
    #[arg(long, value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// Evaluate only deploys after this position, or after this point: -N, `change:N`, or a name; earlier entries still
    /// count as evidence
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = parse_position)]
    after: Option<PositionSpec>,
    /// Use the history only up to this position, or up to this point
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = parse_position)]
    until: Option<PositionSpec>,
    /// List at most this many stopped deploys, and as many missed ones [default: 100]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Backtest {
    /// Runs the command.
    ///
    /// # Errors
    /// The policy cannot be read, the service does not answer, or it rejects the policy.
    pub async fn run(self) -> anyhow::Result<()> {
        let name = self.policy.display();
        let text = read_policy(&self.policy).with_context(|| format!("cannot read {name}"))?;
        let policy = RawValue::from_string(text).with_context(|| format!("{name} is not JSON"))?;
        let client = self.connection.client()?;
        let (environment, wait_for) = (Some(&self.environment), self.query.wait_for());
        let after =
            PositionSpec::resolve_optional(self.after.as_ref(), &client, environment, wait_for).await?;
        let until =
            PositionSpec::resolve_optional(self.until.as_ref(), &client, environment, wait_for).await?;
        let request = BacktestRequest {
            environment: self.environment.to_string(),
            policy,
            after: after.unwrap_or_default(),
            until,
            limit: self.limit,
            unknown_rollbacks: false,
        };
        let url = self.query.with_wait_for(client.url(&["backtests"]));
        self.query.print(client.post(url, &request, None).await?, render)
    }
}

fn read_policy(path: &Path) -> io::Result<String> {
    if path == Path::new("-") { read_text(io::stdin().lock()) } else { read_text(File::open(path)?) }
}

fn render(body: &BacktestBody) -> String {
    let BacktestBody { environment, position, deploys, allowed, stopped, .. } = body;
    let BacktestBody { caught, false_alarms, missed, .. } = body;
    let mut text = format!(
        "{environment} up to position {position}: {deploys} deploys, {allowed} allowed, {stopped} stopped\n\
         caught (stopped, and failed later): {caught}\n\
         false alarms (stopped, and did not fail): {false_alarms}\n\
         missed (allowed, and failed later): {missed}"
    );
    for (title, all, listed) in
        [("stopped", *stopped, &body.stopped_deploys), ("missed", *missed, &body.missed_deploys)]
    {
        if listed.is_empty() {
            continue;
        }
        let range =
            if (listed.len() as u64) < all { format!(", the first {}", listed.len()) } else { String::new() };
        let rows: Vec<_> = listed.iter().map(row).collect();
        let header = ["position", "service", "target", "version", "by", "failed later"];
        text.push_str(&format!("\n\n{title}{range}\n{}", table::render(header, &rows)));
    }
    text
}

fn row(deploy: &EvaluatedDeployBody) -> [String; 6] {
    let finding =
        |finding: &FindingBody| format!("{}: {}", finding.rule, with_counts(&finding.detail, finding.counts));
    let by: Vec<_> = deploy.findings.iter().map(finding).collect();
    let failed = deploy.failed.as_ref().map(|failed| {
        let what = match (&failed.check, &failed.rollback_id) {
            (Some(check), _) => format!("check {check}"),
            (None, Some(rollback_id)) => format!("rollback {rollback_id}"),
            (None, None) => "failed".to_owned(),
        };
        let counts = failed.counts.map(|counts| format!(": {counts}")).unwrap_or_default();
        format!("{what} ({}{counts})", failed.position)
    });
    [
        deploy.position.to_string(),
        deploy.service.clone(),
        if deploy.target == DEFAULT_TARGET { String::new() } else { deploy.target.clone() },
        deploy.version.clone(),
        by.join("; "),
        failed.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn the_totals_precede_the_stopped_and_missed_deploys() {
        let body = r#"{"environment":"production","position":12,"deploys":3,"allowed":2,"stopped":1,
            "caught":1,"false_alarms":0,"missed":1,
            "stopped_deploys":[{"position":4,"occurred_at":"2026-08-01T12:00:00Z","service":"web",
                "target":"default","version":"v2","findings":[{"rule":"promotion","passes":false,
                "detail":"the release never ran in staging"}],"failed":{"check":"smoke","position":5}}],
            "missed_deploys":[{"position":8,"occurred_at":"2026-08-01T13:00:00Z","service":"api",
                "target":"eu","version":"v9","findings":[],"failed":{"rollback_id":"r-1","position":9}}]}"#;
        assert_eq!(
            render(&read(body.as_bytes()).expect("a body")),
            "production up to position 12: 3 deploys, 2 allowed, 1 stopped\n\
             caught (stopped, and failed later): 1\n\
             false alarms (stopped, and did not fail): 0\n\
             missed (allowed, and failed later): 1\n\
             \n\
             stopped\n\
             position  service  version  by                                           failed later\n\
             4         web      v2       promotion: the release never ran in staging  check smoke (5)\n\
             \n\
             missed\n\
             position  service  target  version  failed later\n\
             8         api      eu      v9       rollback r-1 (9)"
        );
    }

    #[test]
    fn the_checks_that_decided_are_shown_with_their_counts() {
        let body = r#"{"environment":"production","position":12,"deploys":1,"allowed":0,"stopped":1,
            "caught":1,"false_alarms":0,"missed":0,
            "stopped_deploys":[{"position":4,"service":"web","target":"default","version":"v2",
                "findings":[{"rule":"promotion","passes":false,"detail":"e2e failed","position":3,
                "counts":{"passed":0,"failed":1,"skipped":4}}],
                "failed":{"check":"smoke","position":5,"counts":{"passed":11,"failed":2,"skipped":0}}}],
            "missed_deploys":[]}"#;
        let text = render(&read(body.as_bytes()).expect("a body"));
        for shown in [
            "promotion: e2e failed (0 cases passed, 1 failed, 4 skipped)",
            "check smoke (5: 11 cases passed, 2 failed, 0 skipped)",
        ] {
            assert!(text.contains(shown), "{text}");
        }
    }
}
