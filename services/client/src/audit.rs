//! `release-ledger audit`: deploys that the environment's rules would have stopped, and contradictory reports.

mod evidence;

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_api_types::{
    BacktestBody, BacktestRequest, EntryBody, EvaluatedDeployBody, EventsBody, PolicyBody,
};
use ledger_domain::{EnvironmentName, parse_duration};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use self::evidence::{Entries, Evidence, PAGE, check_count, occurred_at};

use super::connection::{Client, Connection};
use super::found::FoundArgs;
use super::history::{EventBody, by};
use super::point_arg::parse_moment;
use super::query::{QueryArgs, head, read, with_param};
use super::releases;
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Most that the clock of an emitter is taken to be ahead of the ledger's.
const MAX_CLOCK_AHEAD: TimeDelta = TimeDelta::days(1);

/// Names of findings: the rules of the gate, and anomalies.
const FINDINGS: [&str; 12] = [
    "retired",
    "freeze",
    "rollback",
    "revoked",
    "held",
    "promotion",
    "approvals",
    "during_freeze",
    "late",
    "backdated",
    "across_freeze",
    "unknown_rollback",
];

/// Show deploys without approval, outside the gate, during a freeze, and backdated ones
///
/// Evaluates every deploy by the policy that is in force now, with the evidence of its time: `approvals` is a
/// deploy that lacked an approval; `promotion`, `held`, `revoked` and `freeze` are the other rules of the gate. A rule
/// whose evidence the ledger lacks is marked `unknown`.
/// `during_freeze` also lists removals and switches of traffic. `late` is a report that was recorded after a
/// change that occurred later; `backdated` is one that was recorded long after it occurred; `across_freeze` is one
/// whose time is before a freeze that started before it was recorded. `unknown_rollback` names a rollback without
/// being a step of one that had started. The ledger does not record who asked the gate. Needs the permission to read
/// everything.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// Only what occurred or was recorded at this time or later: a time, a date, `yesterday`, or a time ago such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<DateTime<Utc>>,
    /// Only what occurred before this time, in the same notation
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
    /// A report that is recorded this long after it occurred is backdated
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    late_by: TimeDelta,
    /// A source of imported reports, which may be recorded at any time; may be given several times
    #[arg(long = "import-source", value_name = "URI", default_value = releases::SOURCE)]
    import_sources: Vec<String>,
    /// Only findings of this name, such as `approvals`; may be given several times
    #[arg(long = "finding", value_name = "NAME", value_parser = FINDINGS)]
    findings: Vec<String>,
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
    /// Position up to which the history was read.
    position: u64,
    /// Position of the policy in force; absent if none was declared.
    policy: Option<u64>,
    /// True if the policy in force asks for approvals.
    asks_for_approvals: bool,
    /// Number of changes that were judged.
    changes: usize,
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
    /// True if the ledger lacks the data that the rule needs.
    unknown: bool,
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
        // All questions must see the same history, with all that was recorded before the command.
        let known = head(&client).await?.max(self.query.wait_for().unwrap_or_default());
        let entries = self.changes(&client, known).await?;
        let evidence = Evidence::fetch(&client, &self.environment, &entries, known).await?;
        let mut findings = Vec::new();
        for entry in entries.values() {
            let is_import = self.import_sources.contains(&entry.event.source);
            let late_by = (!is_import).then_some(self.late_by);
            let found = evidence.findings(entry, late_by).into_iter();
            findings.extend(found.map(|(finding, detail)| entry_finding(entry, finding, detail)));
        }
        let url = client.url(&["environments", self.environment.as_str(), "policy"]);
        let policy: PolicyBody = read(&client.get(with_param(url, "wait_for", Some(known))).await?)?;
        for deploy in self.stopped(&client, &policy, &entries, known).await? {
            let actor = entries.get(&deploy.position).map(by).unwrap_or_default();
            findings.extend(stopped_findings(&deploy, &actor));
        }
        let is_asked =
            |finding: &FindingRow| self.findings.is_empty() || self.findings.contains(&finding.finding);
        findings.retain(is_asked);
        findings.sort_by_key(|finding: &FindingRow| finding.position);
        let body = AuditBody {
            environment: self.environment.to_string(),
            position: known,
            policy: policy.declared,
            asks_for_approvals: policy.policy["approvals"].as_u64().is_some_and(|wanted| wanted > 0),
            changes: entries.len(),
            findings,
        };
        let bytes = Bytes::from(serde_json::to_vec(&body)?);
        self.query.print_found(bytes, self.found, render, |body: &AuditBody| !body.findings.is_empty())
    }

    /// Returns true if an entry belongs to the time: a backdated one does by the time at which it was recorded.
    fn is_within(&self, entry: &EntryBody<EventBody>) -> bool {
        let time = occurred_at(entry);
        let is_since = |since: DateTime<Utc>| since <= time || since <= entry.recorded_at;
        self.since.is_none_or(is_since) && self.until.is_none_or(|until| time < until)
    }

    /// Fetches the changes of lanes within the time, by position.
    async fn changes(&self, client: &Client, known: u64) -> anyhow::Result<Entries> {
        let first_recorded = self.since.and_then(|since| since.checked_sub_signed(MAX_CLOCK_AHEAD));
        let mut entries = Entries::new();
        let mut before = known.saturating_add(1);
        loop {
            let url = with_param(client.url(&["events"]), "environment", Some(&self.environment));
            let url = with_param(url, "type", Some("deploy.succeeded,deploy.removed,traffic.switched"));
            let url = with_param(with_param(url, "order", Some("desc")), "before", Some(before));
            let url = with_param(with_param(url, "limit", Some(PAGE)), "wait_for", Some(known));
            let page: EventsBody<EventBody> = read(&client.get(url).await?)?;
            let is_past =
                |entry: &EntryBody<EventBody>| first_recorded.is_some_and(|first| entry.recorded_at < first);
            let is_done = page.events.last().is_some_and(is_past);
            let within =
                page.events.into_iter().filter(|entry| entry.repeats.is_none() && self.is_within(entry));
            entries.extend(within.map(|entry| (entry.position, entry)));
            check_count(entries.len())?;
            match page.next.filter(|next| !is_done && *next < before) {
                Some(next) => before = next,
                None => return Ok(entries),
            }
        }
    }

    /// Fetches those of the changes that the policy in force now would have stopped.
    async fn stopped(
        &self,
        client: &Client,
        policy: &PolicyBody,
        entries: &Entries,
        known: u64,
    ) -> anyhow::Result<Vec<EvaluatedDeployBody>> {
        let mut stopped = Vec::new();
        let (Some((first, _)), Some((end, _))) = (entries.first_key_value(), entries.last_key_value()) else {
            return Ok(stopped);
        };
        let policy = to_raw_value(&policy.policy).context("cannot write the policy as JSON")?;
        let mut after = first.saturating_sub(1);
        loop {
            let request = BacktestRequest {
                environment: self.environment.to_string(),
                policy: policy.clone(),
                after,
                until: Some(known),
                limit: Some(PAGE),
                unknown_rollbacks: true,
            };
            let page: BacktestBody = read(&client.post(client.url(&["backtests"]), &request, None).await?)?;
            let last = page.stopped_deploys.last().map(|deploy| deploy.position);
            let is_full = page.stopped_deploys.len() >= PAGE;
            let within = page.stopped_deploys.into_iter();
            stopped.extend(within.filter(|deploy| entries.contains_key(&deploy.position)));
            check_count(stopped.len())?;
            match last.filter(|last| is_full && *last > after && last < end) {
                Some(last) => after = last,
                None => return Ok(stopped),
            }
        }
    }
}

fn entry_finding(entry: &EntryBody<EventBody>, finding: &str, detail: String) -> FindingRow {
    let data = &entry.event.data;
    let version = data.release.as_ref().map(|release| release.version.clone());
    FindingRow {
        position: entry.position,
        occurred_at: Some(occurred_at(entry)),
        service: data.service.clone().unwrap_or_default(),
        target: entry.target.clone().unwrap_or_else(|| DEFAULT_TARGET.to_owned()),
        version: version.or_else(|| entry.went_live.clone()).unwrap_or_default(),
        finding: finding.to_owned(),
        unknown: false,
        detail,
        by: by(entry),
    }
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
        unknown: finding.unknown,
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
    let AuditBody { environment, position, changes, .. } = body;
    let policy = match body.policy {
        Some(policy) => format!("the policy at position {policy}"),
        None => "the default policy, since none is declared".to_owned(),
    };
    let no_approvals =
        (!body.asks_for_approvals).then(|| "the policy in force asks for no approvals".to_owned());
    Report::default()
        .with_table(table)
        .with_line(format!(
            "{environment}: {changes} changes judged by {policy}, with the history up to position {position}"
        ))
        .with_line_if(no_approvals)
        .with_line_if(counts(&body.findings))
}

/// Returns the line with the number of findings of each name, if there are any.
fn counts(findings: &[FindingRow]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        *counts.entry(&finding.finding).or_default() += 1;
    }
    let counts: Vec<String> = counts.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
    (!counts.is_empty()).then(|| format!("findings: {}", counts.join(", ")))
}

fn row(finding: &FindingRow) -> [Cell; 8] {
    [
        finding.position.into(),
        finding.occurred_at.into(),
        finding.service.clone().into(),
        finding.target.clone().into(),
        finding.version.clone().into(),
        match finding.unknown {
            false => Cell::Status(Tone::Bad, finding.finding.clone()),
            true => Cell::Status(Tone::Warning, format!("{} unknown", finding.finding)),
        },
        finding.by.clone().into(),
        finding.detail.clone().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_stops_a_deploy_is_a_finding() {
        let deploy: EvaluatedDeployBody = read(
            br#"{"position":7,"occurred_at":"2026-08-01T12:00:00Z","service":"api","target":"default","version":"v1",
                "findings":[{"rule":"approvals","passes":false,"detail":"0 of 1 approvals"},
                            {"rule":"promotion","passes":false,"unknown":true,"detail":"no evidence"},
                            {"rule":"freeze","passes":true,"detail":"no freeze"}]}"#,
        )
        .expect("a deploy");
        let findings = stopped_findings(&deploy, "ada").collect();
        let environment = "production".into();
        let body = AuditBody {
            environment,
            position: 9,
            policy: Some(2),
            asks_for_approvals: false,
            changes: 4,
            findings,
        };
        render(&body).check_fits();
        assert_eq!(
            render(&body).to_string(),
            "position  time                  service  version  finding            by\n\
             7         2026-08-01T12:00:00Z  api      v1       approvals          ada\n\
             7         2026-08-01T12:00:00Z  api      v1       promotion unknown  ada\n\
             production: 4 changes judged by the policy at position 2, with the history up to position 9\n\
             the policy in force asks for no approvals\n\
             findings: approvals 1, promotion 1"
        );
    }
}
