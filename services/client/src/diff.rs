//! `release-ledger diff`: the differences between two states, of one environment or of two.

use ledger_api_types::{DiffBody, DifferenceBody, LaneBody, ReleaseBody, SideBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::found::FoundArgs;
use super::point_arg::{self, PointSpec};
use super::query::{QueryArgs, with_param};
use super::report::Report;
use super::table::{Cell, Table, column};
use super::targets::DEFAULT_TARGET;

/// Show how two states differ
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The first point: `latest`, a position, a time, a date, `yesterday`, `2h` for two hours ago, -N for N
    /// changes ago, `change:N`, `last-known-good`, the name of a point, or any of them of another environment:
    /// `staging@latest` [default: -1]
    #[arg(long, value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse)]
    from: Option<PointSpec>,
    /// The second point, in the same notation [default: latest]
    #[arg(long, value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse)]
    to: Option<PointSpec>,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Diff {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment or point.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "diff"]);
        let mut sides = [None, None];
        for (side, written) in sides.iter_mut().zip([&self.from, &self.to]) {
            if let Some(written) = written {
                *side = Some(written.in_time(&client, &self.environment, self.query.wait_for()).await?);
            }
        }
        let [from, to] = sides;
        let url = with_param(with_param(url, "from", from), "to", to);
        let body = self.query.fetch(&client, url).await?;
        self.query.print_found(body, self.found, render, |body: &DiffBody| !body.differences.is_empty())
    }
}

fn render(body: &DiffBody) -> Report {
    let header = format!("{} -> {}", side(&body.from), side(&body.to));
    let columns = [
        column("service", 0),
        column("target", 0).unless_all(DEFAULT_TARGET),
        column("change", 0),
        column("from", 0),
        column("to", 0),
        column("also", 1),
    ];
    let table = Table::new(columns).if_empty("no difference").with_rows(body.differences.iter().map(row));
    Report::default().with_line(header).with_table(table)
}

fn side(side: &SideBody) -> String {
    let position = side.position.to_string();
    if side.at == position {
        format!("{} at position {position}", side.environment)
    } else {
        format!("{} at {} (position {position})", side.environment, side.at)
    }
}

fn row(lane: &DifferenceBody) -> [Cell; 6] {
    let version = |lane: Option<&LaneBody>| Cell::from(lane.map(|lane| lane.release.version.clone()));
    let also = match (&lane.from, &lane.to) {
        (Some(from), Some(to)) => other_differences(&from.release, &to.release),
        _ => String::new(),
    };
    [
        lane.service.clone().into(),
        lane.target.clone().into(),
        lane.change.clone().into(),
        version(lane.from.as_ref()),
        version(lane.to.as_ref()),
        also.into(),
    ]
}

/// Lists the parts of the release that differ besides the version.
fn other_differences(from: &ReleaseBody, to: &ReleaseBody) -> String {
    let parts = [
        ("artifact", from.artifact != to.artifact),
        ("config", from.config != to.config),
        ("infrastructure", from.infrastructure != to.infrastructure),
        ("commit", from.commit != to.commit),
    ];
    let differing: Vec<_> = parts.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    differing.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    fn rendered(json: &str) -> String {
        render(&read(json.as_bytes()).expect("a body")).to_string()
    }

    const SINCE: &str = r#""since":{"position":3,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}"#;

    #[test]
    fn each_difference_is_shown_with_the_parts_that_differ() {
        let lane = |release: &str| {
            format!(r#"{{"service":"api","target":"default","release":{{{release}}},{SINCE}}}"#)
        };
        let text = rendered(&format!(
            r#"{{"from":{{"environment":"production","position":11,"at":"11","digest":"x"}},
                "to":{{"environment":"staging","position":12,"at":"latest","digest":"y"}},
                "differences":[
                  {{"service":"api","target":"default","change":"changed","from":{},"to":{}}},
                  {{"service":"new","target":"default","change":"added","to":{}}},
                  {{"service":"old","target":"default","change":"removed","from":{}}}]}}"#,
            lane(r#""version":"v1","config":"a","commit":"c""#),
            lane(r#""version":"v1","config":"b","commit":"d""#),
            lane(r#""version":"v1""#),
            lane(r#""version":"v9""#),
        ));
        assert_eq!(
            text,
            "production at position 11 -> staging at latest (position 12)\n\
             service  change   from  to  also\n\
             api      changed  v1    v1  config, commit\n\
             new      added          v1\n\
             old      removed  v9"
        );
    }

    #[test]
    fn differences_with_long_values_fit_into_80_columns() {
        let lane = |version: &str, letter: &str| {
            format!(
                r#"{{"service":"search-api-gateway","target":"on-premise-frankfurt","release":{{
                    "version":"{version}","config":"{letter}","commit":"{letter}"}},{SINCE}}}"#
            )
        };
        let (from, to) = (lane("2026.08.01-17", "a"), lane("2026.08.02-4", "b"));
        let json = format!(
            r#"{{"from":{{"environment":"production","position":11,"at":"11","digest":"x"}},
                "to":{{"environment":"staging","position":12,"at":"latest","digest":"y"}},"differences":[
                  {{"service":"search-api-gateway","target":"on-premise-frankfurt","change":"changed",
                    "from":{from},"to":{to}}}]}}"#
        );
        render(&read(json.as_bytes()).expect("a body")).check_fits();
    }

    #[test]
    fn equal_states_have_no_difference() {
        let text = rendered(
            r#"{"from":{"environment":"dev","position":1,"at":"1","digest":"x"},
                "to":{"environment":"dev","position":2,"at":"2","digest":"x"},"differences":[]}"#,
        );
        assert_eq!(text, "dev at position 1 -> dev at position 2\nno difference");
    }
}
