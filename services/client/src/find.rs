//! `release-ledger find`: the lanes on which a release runs, or ran.

use ledger_api_types::{FindBody, FoundRunBody};

use super::connection::Connection;
use super::query::{QueryArgs, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Show where a release runs or ran: by its version, commit, artifact or digest
///
/// Shows when it first went live on each lane, and until when it ran, by what ran when; `live` if it still does. The
/// first 7 digits or more of a commit or a digest suffice, as tables show them (`sha256:1e69f8162c23`). A deploy that
/// states only a version counts for the artifact that the version meant. Late reports count; deploys that were
/// corrected do not.
#[derive(Debug, clap::Args)]
pub struct Find {
    /// A version, a commit, an artifact or a digest
    #[arg(value_name = "RELEASE")]
    release: String,
    /// Skip this many lanes
    #[arg(long, value_name = "NUMBER")]
    skip: Option<u32>,
    /// At most this many lanes: 1 to 1000 [default: 100]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Find {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or rejects the text.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = with_param(client.url(&["find"]), "release", Some(&self.release));
        let url = with_param(with_param(url, "skip", self.skip), "limit", self.limit);
        let is_first = self.skip.unwrap_or_default() == 0;
        self.query.fetch_and_print(&client, url, |body: &FindBody| render(body, is_first)).await
    }
}

fn render(body: &FindBody, is_first: bool) -> Report {
    let is_all = is_first && body.next.is_none();
    let nothing = if is_all { "it never ran anywhere" } else { "it never ran on the lanes of this page" };
    let columns = [
        column("environment", 0),
        column("service", 0),
        column("target", 1).unless_all(DEFAULT_TARGET),
        column("version", 0),
        column("first live", 0),
        column("until", 0),
        column("last deploy", 2),
        wide_column("first position"),
        wide_column("last position"),
        wide_column("commit"),
        wide_column("artifact"),
    ];
    let table = Table::new(columns).if_empty(nothing).with_rows(body.runs.iter().map(row));
    let more = body.next.map(|next| format!("there may be more: --skip {next}"));
    Report::default().with_table(table).with_line_if(more)
}

fn row(run: &FoundRunBody) -> [Cell; 11] {
    let until = match run.until {
        Some(until) => until.occurred_at.into(),
        None => Cell::Status(Tone::Good, "live".to_owned()),
    };
    [
        run.environment.clone().into(),
        run.service.clone().into(),
        run.target.clone().into(),
        run.release.version.clone().into(),
        run.first.occurred_at.into(),
        until,
        run.last.occurred_at.into(),
        run.first.position.into(),
        run.last.position.into(),
        run.release.commit.clone().map(Cell::Digest).into(),
        run.release.artifact.clone().map(Cell::Digest).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn a_lane_is_shown_with_the_first_time_and_the_end() {
        let run = |environment: &str, until: &str| {
            format!(
                r#"{{"environment":"{environment}","service":"api","target":"default","release":{{"version":"v1"}},
                    "first":{{"position":3,"occurred_at":"2026-08-01T12:00:00Z"}},
                    "last":{{"position":5,"occurred_at":"2026-08-01T13:00:00Z"}}{until}}}"#
            )
        };
        let until = r#","until":{"position":8,"occurred_at":"2026-08-02T12:00:00Z"}"#;
        let json =
            format!(r#"{{"position":9,"runs":[{},{}],"next":2}}"#, run("dev", until), run("production", ""));
        let report = render(&read(json.as_bytes()).expect("a body"), true);
        report.check_fits();
        assert_eq!(
            report.to_string(),
            "environment  service  version  first live            until                 last deploy\n\
             dev          api      v1       2026-08-01T12:00:00Z  2026-08-02T12:00:00Z  2026-08-01T13:00:00Z\n\
             production   api      v1       2026-08-01T12:00:00Z  live                  2026-08-01T13:00:00Z\n\
             there may be more: --skip 2"
        );
    }
    #[test]
    fn an_empty_page_says_that_it_ran_nowhere_only_if_there_is_no_other_page() {
        let shown =
            |json: &str, is_first| render(&read(json.as_bytes()).expect("a body"), is_first).to_string();
        assert_eq!(shown(r#"{"position":9,"runs":[]}"#, true), "it never ran anywhere");
        assert_eq!(shown(r#"{"position":9,"runs":[]}"#, false), "it never ran on the lanes of this page");
        assert_eq!(
            shown(r#"{"position":9,"runs":[],"next":100}"#, true),
            "it never ran on the lanes of this page\nthere may be more: --skip 100"
        );
    }
}
