//! `release-ledger horizon`: the points to which an environment can be rolled back.

use ledger_api_types::{HorizonBody, HorizonPointBody, RetainedArtifactBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::plan::ALREADY_THERE;
use super::query::{QueryArgs, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column};

/// Show the points to which an environment can be rolled back, and the artifacts to keep for them
#[derive(Debug, clap::Args)]
pub struct Horizon {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// Age of the oldest point: 30d, 2w, 12h, 3600s [default: 30d]
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Horizon {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "rollback-horizon"]);
        self.query.fetch_and_print(&client, with_param(url, "window", self.window), render).await
    }
}

fn render(body: &HorizonBody) -> Report {
    let columns = [
        column("number", 2),
        column("position", 0),
        column("time", 1),
        column("possible", 0),
        column("issues", 0),
    ];
    let points = Table::new(columns).named_by("position").if_empty("no points");
    let columns = [column("needed artifact", 0), column("services", 1), column("points", 2)];
    let artifacts = Table::new(columns).with_rows(body.needed.iter().map(needed));
    let lanes = body.without_artifact.iter().map(|lane| format!("{} {}", lane.service, lane.version));
    let lanes = lanes.collect::<Vec<_>>().join(", ");
    Report::default()
        .with_line(format!("{} position {}", body.environment, body.position))
        .with_table(points.with_rows(body.points.iter().map(row)))
        .with_table(artifacts)
        .with_line_if((!lanes.is_empty()).then(|| format!("no known artifact: {lanes}")))
        .with_line_if((body.window_seconds > 0).then(|| window(body.window_seconds)))
}

/// Returns the line that says how old the points may be.
fn window(seconds: i64) -> String {
    let age = match seconds {
        seconds if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds => format!("{seconds}s"),
    };
    format!("points of the last {age}; --window shows more")
}

fn row(point: &HorizonPointBody) -> [Cell; 5] {
    let is_current = point.issues.iter().any(|issue| issue.kind == ALREADY_THERE);
    let (tone, possible) = match (point.possible, point.by_force) {
        (true, _) if is_current => (Tone::Good, "current"),
        (true, _) => (Tone::Good, "yes"),
        (false, true) => (Tone::Warning, "by force"),
        (false, false) => (Tone::Bad, "no"),
    };
    let others = point.issues.iter().filter(|issue| issue.kind != ALREADY_THERE);
    let issues: Vec<_> = others.map(|issue| issue.detail.as_str()).collect();
    [
        point.number.into(),
        point.position.into(),
        point.occurred_at.into(),
        Cell::Status(tone, possible.to_owned()),
        issues.join("; ").into(),
    ]
}

fn needed(needed: &RetainedArtifactBody) -> [Cell; 3] {
    [Cell::Digest(needed.artifact.clone()), needed.services.join(", ").into(), needed.points.into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn every_point_is_shown_with_its_issues_and_the_artifacts_to_keep() {
        let body = read(
            br#"{"environment":"production","position":9,"window_seconds":3600,"points":[
                {"number":2,"position":8,"occurred_at":"2026-08-01T11:00:00Z","digest":"sha256:aa",
                 "possible":true,"by_force":true,"issues":[
                    {"kind":"already_there","severity":"fatal","detail":"the environment matches it"}]},
                {"number":1,"position":5,"occurred_at":"2026-08-01T10:00:00Z","digest":"sha256:bb",
                 "possible":false,"by_force":true,"issues":[
                    {"kind":"barrier","severity":"overridable","detail":"a barrier","position":7}]}],
                "needed":[{"artifact":"pkg:oci/web@1","services":["web"],"points":2}],
                "without_artifact":[{"service":"api","version":"v1"}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body).to_string(),
            "production position 9\n\
             number  position  time                  possible  issues\n\
             2       8         2026-08-01T11:00:00Z  current\n\
             1       5         2026-08-01T10:00:00Z  by force  a barrier\n\
             needed artifact  services  points\n\
             pkg:oci/web@1    web       2\n\
             no known artifact: api v1\n\
             points of the last 1h; --window shows more"
        );
    }

    #[test]
    fn a_horizon_with_long_values_fits_into_80_columns() {
        let digest = "ab".repeat(32);
        let body = read(
            format!(
                r#"{{"environment":"production","position":9,"window_seconds":3600,"points":[
                    {{"number":123456,"position":123456789,"occurred_at":"2026-08-01T10:00:00Z",
                     "digest":"sha256:bb","possible":false,"by_force":true,"issues":[{{"kind":"barrier",
                     "severity":"overridable","position":7,
                     "detail":"the deploy of search-api-gateway to production cannot be undone by a redeploy"}}]}}],
                    "needed":[{{"artifact":"pkg:oci/search-api-gateway@sha256:{digest}","points":2,
                    "services":["search-api-gateway","search-indexer","search-frontend"]}}],
                    "without_artifact":[]}}"#
            )
            .as_bytes(),
        )
        .expect("a body");
        render(&body).check_fits();
    }
}
