//! `release-ledger state`: the state of an environment at a point.

use ledger_api_types::{LaneBody, StateBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::freeze_list::active_lines;
use super::point_arg::{self, PointSpec};
use super::query::{QueryArgs, with_param};
use super::report::Report;
use super::table::{Cell, Table, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Show what an environment runs, or ran at any point
#[derive(Debug, clap::Args)]
pub struct State {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The point: `latest`, a position, a time, a date, `yesterday`, `2h` for two hours ago, -N for N changes ago,
    /// `change:N`, `last-known-good`, or the name of a point
    #[arg(long, value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse)]
    at: Option<PointSpec>,
    /// As known at this position, or from what the ledger had recorded by this time; only with a time or `latest`
    #[arg(long, value_name = "POSITION|TIME", allow_hyphen_values = true, value_parser = point_arg::parse_known_at)]
    known_at: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl State {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment or point.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "state"]);
        let at = match &self.at {
            Some(at) => {
                at.check(&self.environment)?;
                Some(at.in_time(&client, &self.environment, self.query.wait_for()).await?)
            }
            None => None,
        };
        let url = with_param(with_param(url, "at", at), "known_at", self.known_at.as_deref());
        let body = self.query.fetch(&client, url).await?;
        // The state of the past says nothing about freezes, and programs ask for them.
        let freezes = match (&self.at, &self.known_at) {
            (None, None) if self.query.is_text() => active_lines(&client, &self.environment).await,
            _ => Vec::new(),
        };
        let report = |body: &StateBody| freezes.into_iter().fold(render(body), Report::with_line);
        self.query.print(body, report)
    }
}

fn render(body: &StateBody) -> Report {
    let at = match body.at.as_str() {
        "latest" => String::new(),
        at if at == body.position.to_string() => String::new(),
        at => format!(" at {at},"),
    };
    let header = format!("{}{at} position {}, digest {}", body.environment, body.position, body.digest);
    let live = body.lanes.iter().map(|lane| (lane, false));
    let mut lanes: Vec<_> = live.chain(body.idle.iter().map(|lane| (lane, true))).collect();
    // A stable sort: the live slot of a lane stays before its idle ones.
    lanes.sort_by(|(one, _), (other, _)| (&one.service, &one.target).cmp(&(&other.service, &other.target)));
    let columns = [
        column("service", 0),
        column("target", 0).unless_all(DEFAULT_TARGET),
        column("slot", 1),
        column("version", 0),
        column("since", 2),
        column("position", 3),
        wide_column("artifact"),
        wide_column("commit"),
    ];
    let table = Table::new(columns).if_empty("nothing runs there");
    let rows = lanes.into_iter().map(|(lane, idle)| row(lane, idle));
    Report::default().with_line(header).with_table(table.with_rows(rows))
}

fn row(lane: &LaneBody, idle: bool) -> [Cell; 8] {
    let slot = lane.slot.clone();
    let slot = if idle { Some(format!("{} (idle)", slot.unwrap_or_default())) } else { slot };
    [
        lane.service.clone().into(),
        lane.target.clone().into(),
        slot.into(),
        lane.release.version.clone().into(),
        lane.since.occurred_at.into(),
        lane.since.position.into(),
        lane.release.artifact.clone().map(Cell::Digest).into(),
        lane.release.commit.clone().map(Cell::Digest).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    fn rendered(json: &str) -> String {
        render(&read(json.as_bytes()).expect("a body")).to_string()
    }

    #[test]
    fn default_targets_and_empty_slots_are_not_shown() {
        let text = rendered(
            r#"{"environment":"dev","position":12,"at":"latest","digest":"sha256:ab","lanes":[
                {"service":"api","target":"default","release":{"version":"v1"},
                 "since":{"position":3,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}},
                {"service":"frontend","target":"default","release":{"version":"v22","commit":"c"},
                 "since":{"position":11,"occurred_at":"2026-08-02T12:00:00.250Z","event_id":"b"}}]}"#,
        );
        assert_eq!(
            text,
            "dev position 12, digest sha256:ab\n\
             service   version  since                     position\n\
             api       v1       2026-08-01T12:00:00Z      3\n\
             frontend  v22      2026-08-02T12:00:00.250Z  11"
        );
    }

    #[test]
    fn targets_and_slots_are_shown_with_idle_slots_after_the_live_one() {
        let lane = |target: &str, slot: &str, version: &str| {
            format!(
                r#"{{"service":"api","target":"{target}"{slot},"release":{{"version":"{version}"}},
                    "since":{{"position":3,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}}}}"#
            )
        };
        let text = rendered(&format!(
            r#"{{"environment":"production","position":12,"at":"2026-08-03T00:00:00Z","digest":"sha256:ab",
                "lanes":[{},{}],"idle":[{}]}}"#,
            lane("eu", r#","slot":"green""#, "v2"),
            lane("us", "", "v1"),
            lane("eu", r#","slot":"blue""#, "v1"),
        ));
        assert_eq!(
            text,
            "production at 2026-08-03T00:00:00Z, position 12, digest sha256:ab\n\
             service  target  slot         version  since                 position\n\
             api      eu      green        v2       2026-08-01T12:00:00Z  3\n\
             api      eu      blue (idle)  v1       2026-08-01T12:00:00Z  3\n\
             api      us                   v1       2026-08-01T12:00:00Z  3"
        );
    }

    #[test]
    fn a_state_with_long_values_fits_into_80_columns() {
        let digest = "ab".repeat(32);
        let json = format!(
            r#"{{"environment":"production-eu-central-1","position":123456789,"at":"2026-08-03T00:00:00Z",
                "digest":"sha256:{digest}","lanes":[{{"service":"search-api-gateway","target":"on-premise-frankfurt",
                "slot":"green","release":{{"version":"2026.08.03-{}"}},
                "since":{{"position":123456789,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}}}}]}}"#,
            "a".repeat(20)
        );
        render(&read(json.as_bytes()).expect("a body")).check_fits();
    }

    #[test]
    fn an_empty_environment_is_reported() {
        let text = rendered(r#"{"environment":"dev","position":0,"at":"0","digest":"sha256:e3","lanes":[]}"#);
        assert_eq!(text, "dev position 0, digest sha256:e3\nnothing runs there");
    }
}
