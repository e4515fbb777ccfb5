//! `release-ledger drift`: lanes for which the observed release differs from the recorded one.

use chrono::SecondsFormat;
use ledger_api_types::{DriftBody, DriftLaneBody, EventRefBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::query::QueryArgs;
use super::release::version;
use super::table;

/// Show where the observed releases differ from the recorded ones
#[derive(Debug, clap::Args)]
pub struct Drift {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Drift {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "drift"]);
        self.query.fetch_and_print(&client, url, render).await
    }
}

fn render(body: &DriftBody) -> String {
    let mut lines = vec![format!(
        "{} position {}, {} lanes observed",
        body.environment, body.position, body.observed_lanes
    )];
    if body.drift.is_empty() {
        lines.push("no drift".into());
    } else {
        let rows: Vec<_> = body.drift.iter().map(row).collect();
        lines.push(table::render(
            ["service", "target", "ledger", "observed", "since", "last observed"],
            &rows,
        ));
    }
    if !body.unobserved.is_empty() {
        let lanes = body.unobserved.iter().map(|lane| format!("{}@{}", lane.service, lane.target));
        lines.push(format!("never observed: {}", lanes.collect::<Vec<_>>().join(", ")));
    }
    lines.join("\n")
}

fn row(lane: &DriftLaneBody) -> [String; 6] {
    let time = |since: &EventRefBody| since.occurred_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    [
        lane.service.clone(),
        lane.target.clone(),
        version(lane.ledger.as_ref()),
        version(lane.seen.as_ref()),
        time(&lane.since),
        time(&lane.last_seen),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn a_drifting_lane_is_shown_with_both_releases_and_times() {
        let body = read(
            br#"{"environment":"production","position":9,"observed_lanes":2,"drift":[
                {"service":"web","target":"eu","ledger":{"version":"v2"},
                 "since":{"position":5,"occurred_at":"2026-08-01T10:00:00Z","event_id":"a"},
                 "last_seen":{"position":8,"occurred_at":"2026-08-01T11:00:00Z","event_id":"b"}}],
                "unobserved":[{"service":"api","target":"eu"}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body),
            "production position 9, 2 lanes observed\n\
             service  target  ledger  observed  since                 last observed\n\
             web      eu      v2      -         2026-08-01T10:00:00Z  2026-08-01T11:00:00Z\n\
             never observed: api@eu"
        );
    }
}
