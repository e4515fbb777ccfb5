//! `release-ledger horizon`: the points to which an environment can be rolled back.

use chrono::SecondsFormat;
use ledger_api_types::{HorizonBody, HorizonPointBody, RetainedArtifactBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::query::{QueryArgs, with_param};
use super::table;

/// Show the points to which an environment can be rolled back, and the artifacts to keep for them
#[derive(Debug, clap::Args)]
pub struct Horizon {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// Age of the oldest point: 30d, 12h, 3600s [default: 30d]
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

fn render(body: &HorizonBody) -> String {
    let mut lines = vec![format!("{} position {}", body.environment, body.position)];
    if body.points.is_empty() {
        lines.push("no points".into());
    } else {
        let rows: Vec<_> = body.points.iter().map(row).collect();
        let header = ["number", "position", "time", "possible", "issues"];
        lines.push(table::render(header, &rows));
    }
    if !body.needed.is_empty() {
        let rows: Vec<_> = body.needed.iter().map(needed).collect();
        lines.push(table::render(["needed artifact", "services", "points"], &rows));
    }
    if !body.without_artifact.is_empty() {
        let lanes = body.without_artifact.iter().map(|lane| format!("{} {}", lane.service, lane.version));
        lines.push(format!("no known artifact: {}", lanes.collect::<Vec<_>>().join(", ")));
    }
    lines.join("\n")
}

fn row(point: &HorizonPointBody) -> [String; 5] {
    let possible = match (point.possible, point.by_force) {
        (true, _) => "yes",
        (false, true) => "by force",
        (false, false) => "no",
    };
    let issues: Vec<_> = point.issues.iter().map(|issue| issue.detail.as_str()).collect();
    [
        point.number.to_string(),
        point.position.to_string(),
        point.occurred_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        possible.into(),
        issues.join("; "),
    ]
}

fn needed(needed: &RetainedArtifactBody) -> [String; 3] {
    [needed.artifact.clone(), needed.services.join(", "), needed.points.to_string()]
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
                 "possible":true,"by_force":true,"issues":[]},
                {"number":1,"position":5,"occurred_at":"2026-08-01T10:00:00Z","digest":"sha256:bb",
                 "possible":false,"by_force":true,"issues":[
                    {"kind":"barrier","severity":"overridable","detail":"a barrier","position":7}]}],
                "needed":[{"artifact":"pkg:oci/web@1","services":["web"],"points":2}],
                "without_artifact":[{"service":"api","version":"v1"}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body),
            "production position 9\n\
             number  position  time                  possible  issues\n\
             2       8         2026-08-01T11:00:00Z  yes\n\
             1       5         2026-08-01T10:00:00Z  by force  a barrier\n\
             needed artifact  services  points\n\
             pkg:oci/web@1    web       2\n\
             no known artifact: api v1"
        );
    }
}
