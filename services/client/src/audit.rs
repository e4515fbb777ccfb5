//! `release-ledger audit`: deploys that the environment's rules would have stopped, and contradictory reports.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_api_types::{
    BacktestBody, BacktestRequest, EntryBody, EvaluatedDeployBody, EventsBody, PolicyBody,
};
use ledger_domain::EnvironmentName;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::connection::{Client, Connection};
use super::found::FoundArgs;
use super::history::{EventBody, by};
use super::point_arg::{parse_moment, time_text};
use super::query::{QueryArgs, head, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Deploys of a page of the service.
const PAGE: usize = 1000;

/// Most findings that a report has. More are an error, which asks for a shorter time.
const MAX_FINDINGS: usize = 10_000;

/// Show deploys without approval, outside the gate, during a freeze, and backdated ones
///
/// Evaluates every deploy by the policy that is in force now, with the evidence of its time: `approvals` is a
/// deploy that lacked an approval; `promotion`, `held`, `revoked` and `freeze` are the other rules of the gate.
/// `during_freeze` also lists removals and switches of traffic, and `late` is a report that was recorded after a
/// change that occurred later: a backdated one. The ledger does not record who asked the gate. Needs the permission
/// to read everything.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// Only what occurred at this time or later: a time, a date, `yesterday`, or a time ago such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<DateTime<Utc>>,
    /// Only what occurred before this time, in the same notation
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Findings of an audit.
#[derive(Debug, Serialize, Deserialize)]
struct AuditBody {
    environment: String,
    findings: Vec<FindingRow>,
}

/// Rule or anomaly, with the entry that it concerns.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FindingRow {
    position: u64,
    occurred_at: Option<DateTime<Utc>>,
    service: String,
    target: String,
    version: String,
    finding: String,
    detail: String,
    by: String,
}

impl Audit {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there are too many findings.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.clone().client()?;
        // Both questions must see the same history.
        let known = match self.query.wait_for() {
            Some(position) => position,
            None => head(&client).await?,
        };
        let entries = self.changes(&client, known).await?;
        let mut findings: Vec<FindingRow> = entries.values().flat_map(anomalies).collect();
        for deploy in self.stopped(&client, known).await? {
            if !self.is_within(deploy.occurred_at) {
                continue;
            }
            let actor = entries.get(&deploy.position).map(by).unwrap_or_default();
            findings.extend(stopped_findings(&deploy, &actor));
        }
        findings.sort_by_key(|finding| finding.position);
        let body = AuditBody { environment: self.environment.to_string(), findings };
        let bytes = Bytes::from(serde_json::to_vec(&body)?);
        self.query.print_found(bytes, self.found, render, |body: &AuditBody| !body.findings.is_empty())
    }

    fn is_within(&self, occurred_at: Option<DateTime<Utc>>) -> bool {
        let Some(time) = occurred_at else { return true };
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }

    /// Fetches the changes of lanes within the time, by position.
    async fn changes(
        &self,
        client: &Client,
        known: u64,
    ) -> anyhow::Result<BTreeMap<u64, EntryBody<EventBody>>> {
        let mut entries = BTreeMap::new();
        let mut after = 0;
        loop {
            let url = with_param(client.url(&["events"]), "environment", Some(&self.environment));
            let url = with_param(url, "type", Some("deploy.succeeded,deploy.removed,traffic.switched"));
            let url = with_param(url, "since", self.since.map(time_text));
            let url = with_param(url, "until", self.until.map(time_text));
            let url = with_param(with_param(url, "after", Some(after)), "limit", Some(PAGE));
            let url = with_param(url, "wait_for", Some(known));
            let page: EventsBody<EventBody> = read(&client.get(url).await?)?;
            entries.extend(page.events.into_iter().map(|entry| (entry.position, entry)));
            check_count(entries.len())?;
            match page.next.filter(|next| *next > after) {
                Some(next) => after = next,
                None => return Ok(entries),
            }
        }
    }

    /// Fetches the deploys that the policy in force now would have stopped.
    async fn stopped(&self, client: &Client, known: u64) -> anyhow::Result<Vec<EvaluatedDeployBody>> {
        let url = client.url(&["environments", self.environment.as_str(), "policy"]);
        let policy: PolicyBody = read(&client.get(with_param(url, "wait_for", Some(known))).await?)?;
        let policy = to_raw_value(&policy.policy).context("cannot write the policy as JSON")?;
        let mut stopped = Vec::new();
        let mut after = 0;
        loop {
            let request = BacktestRequest {
                environment: self.environment.to_string(),
                policy: policy.clone(),
                after,
                until: Some(known),
                limit: Some(PAGE),
            };
            let page: BacktestBody = read(&client.post(client.url(&["backtests"]), &request, None).await?)?;
            let last = page.stopped_deploys.last().map(|deploy| deploy.position);
            let is_full = page.stopped_deploys.len() >= PAGE;
            stopped.extend(page.stopped_deploys);
            check_count(stopped.len())?;
            match last.filter(|last| is_full && *last > after) {
                Some(last) => after = last,
                None => return Ok(stopped),
            }
        }
    }
}

fn check_count(count: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        count <= MAX_FINDINGS,
        "more than {MAX_FINDINGS} changes to audit: ask for a shorter time"
    );
    Ok(())
}

/// Returns the findings that the ledger noted about an entry.
fn anomalies(entry: &EntryBody<EventBody>) -> Vec<FindingRow> {
    let data = &entry.event.data;
    let details =
        [("during_freeze", "it occurred during a freeze"), ("late", "it was recorded after a later change")];
    let noted = details.iter().filter(|(name, _)| entry.anomalies.iter().any(|noted| noted == name));
    let occurred_at = DateTime::parse_from_rfc3339(&entry.event.time).ok().map(|time| time.to_utc());
    let version = data.release.as_ref().map(|release| release.version.clone());
    let rows = noted.map(|(name, detail)| FindingRow {
        position: entry.position,
        occurred_at,
        service: data.service.clone().unwrap_or_default(),
        target: entry.target.clone().unwrap_or_else(|| DEFAULT_TARGET.to_owned()),
        version: version.clone().or_else(|| entry.went_live.clone()).unwrap_or_default(),
        finding: (*name).to_owned(),
        detail: (*detail).to_owned(),
        by: by(entry),
    });
    rows.collect()
}

/// Returns the findings of the rules that would have stopped a deploy.
fn stopped_findings<'d>(
    deploy: &'d EvaluatedDeployBody,
    actor: &'d str,
) -> impl Iterator<Item = FindingRow> + 'd {
    deploy.findings.iter().filter(|finding| !finding.passes).map(move |finding| FindingRow {
        position: deploy.position,
        occurred_at: deploy.occurred_at,
        service: deploy.service.clone(),
        target: deploy.target.clone(),
        version: deploy.version.clone(),
        finding: finding.rule.clone(),
        detail: finding.detail.clone(),
        by: actor.to_owned(),
    })
}

fn render(body: &AuditBody) -> Report {
    let columns = [
        column("position", 2),
        column("time", 0),
        column("service", 0),
        column("target", 3).unless_all(DEFAULT_TARGET),
        column("version", 0),
        column("finding", 0),
        column("by", 1),
        wide_column("detail"),
    ];
    let table = Table::new(columns).if_empty("no findings").with_rows(body.findings.iter().map(row));
    Report::default().with_table(table)
}

fn row(finding: &FindingRow) -> [Cell; 8] {
    [
        finding.position.into(),
        finding.occurred_at.into(),
        finding.service.clone().into(),
        finding.target.clone().into(),
        finding.version.clone().into(),
        Cell::Status(Tone::Bad, finding.finding.clone()),
        finding.by.clone().into(),
        finding.detail.clone().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(anomalies: &str) -> EntryBody<EventBody> {
        read(
            format!(
                r#"{{"position":7,"recorded_at":"2026-08-01T12:00:01Z","anomalies":[{anomalies}],"event":{{
                    "type":"io.releaseledger.deploy.succeeded.v1","time":"2026-08-01T12:00:00Z","data":{{
                    "service":"api","release":{{"version":"v1"}},"actor":{{"type":"person","name":"ada"}}}}}}}}"#
            )
            .as_bytes(),
        )
        .expect("an entry")
    }

    #[test]
    fn an_entry_during_a_freeze_or_late_is_a_finding_and_another_anomaly_is_none() {
        let rows = anomalies(&entry(r#""during_freeze","late","ambiguous_target""#));
        assert_eq!(
            rows.iter().map(|row| row.finding.as_str()).collect::<Vec<_>>(),
            ["during_freeze", "late"]
        );
        assert!(anomalies(&entry("")).is_empty());
    }

    #[test]
    fn every_rule_that_stops_a_deploy_is_a_finding() {
        let deploy: EvaluatedDeployBody = read(
            br#"{"position":7,"occurred_at":"2026-08-01T12:00:00Z","service":"api","target":"default","version":"v1",
                "findings":[{"rule":"approvals","passes":false,"detail":"0 of 1 approvals"},
                            {"rule":"freeze","passes":true,"detail":"no freeze"}]}"#,
        )
        .expect("a deploy");
        let findings = stopped_findings(&deploy, "ada").collect();
        let body = AuditBody { environment: "production".into(), findings };
        render(&body).check_fits();
        assert_eq!(
            render(&body).to_string(),
            "position  time                  service  version  finding    by\n\
             7         2026-08-01T12:00:00Z  api      v1       approvals  ada"
        );
    }
}
