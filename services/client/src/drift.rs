//! `release-ledger drift`: lanes for which the observed release differs from the recorded one.

use ledger_api_types::{DriftBody, DriftLaneBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::found::FoundArgs;
use super::query::QueryArgs;
use super::release::version;
use super::report::Report;
use super::table::{Cell, Table, column};

/// Show where the observed releases differ from the recorded ones
#[derive(Debug, clap::Args)]
pub struct Drift {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    #[command(flatten)]
    found: FoundArgs,
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
        let body = self.query.fetch(&client, url).await?;
        self.query.print_found(body, self.found, render, |body: &DriftBody| !body.drift.is_empty())
    }
}

fn render(body: &DriftBody) -> Report {
    let header =
        format!("{} position {}, {} lanes observed", body.environment, body.position, body.observed_lanes);
    let columns = [
        column("service", 0),
        column("target", 0),
        column("ledger", 0),
        column("observed", 0),
        column("since", 1),
        column("last observed", 2),
    ];
    let table = Table::new(columns).if_empty("no drift").with_rows(body.drift.iter().map(row));
    let unobserved = body.unobserved.iter().map(|lane| format!("{}@{}", lane.service, lane.target));
    let unobserved = unobserved.collect::<Vec<_>>().join(", ");
    let unobserved = (!unobserved.is_empty()).then(|| format!("never observed: {unobserved}"));
    Report::default().with_line(header).with_table(table).with_line_if(unobserved)
}

fn row(lane: &DriftLaneBody) -> [Cell; 6] {
    [
        lane.service.clone().into(),
        lane.target.clone().into(),
        version(lane.ledger.as_ref()).into(),
        version(lane.seen.as_ref()).into(),
        lane.since.occurred_at.into(),
        lane.last_seen.occurred_at.into(),
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
            render(&body).to_string(),
            "production position 9, 2 lanes observed\n\
             service  target  ledger  observed  since                 last observed\n\
             web      eu      v2      -         2026-08-01T10:00:00Z  2026-08-01T11:00:00Z\n\
             never observed: api@eu"
        );
    }

    #[test]
    fn drift_with_long_values_fits_into_80_columns() {
        let body = read(
            br#"{"environment":"production-eu-central-1","position":123456789,"observed_lanes":2,"drift":[
                {"service":"search-api-gateway","target":"on-premise-frankfurt","ledger":{"version":"2026.08.03-1"},
                 "seen":{"version":"2026.08.02-17"},
                 "since":{"position":5,"occurred_at":"2026-08-01T10:00:00Z","event_id":"a"},
                 "last_seen":{"position":8,"occurred_at":"2026-08-01T11:00:00Z","event_id":"b"}}],
                "unobserved":[{"service":"api","target":"eu-central-1"},{"service":"web","target":"eu-central-1"},
                    {"service":"search","target":"on-premise-frankfurt"}]}"#,
        )
        .expect("a body");
        render(&body).check_fits();
    }
}
