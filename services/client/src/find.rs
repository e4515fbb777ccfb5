//! `release-ledger find`: the lanes on which a release runs, or ran.

use ledger_api_types::{FindBody, FoundRunBody};

use super::connection::Connection;
use super::output::print_notice;
use super::query::{QueryArgs, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Least number of digits by which a commit or a digest is found.
const MIN_DIGITS: usize = 7;

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
        let release = &self.release;
        let body = self.query.fetch(&client, url).await?;
        let found: FindBody = read(&body)?;
        self.query.print(body, |body: &FindBody| render(body, release, is_first))?;
        if is_first
            && found.runs.is_empty()
            && found.next.is_none()
            && let Some(hint) = hint(release)
        {
            print_notice(hint);
        }
        Ok(())
    }
}

/// Returns what the user may have meant by a release that never ran.
fn hint(release: &str) -> Option<&'static str> {
    let digits = release.strip_prefix("sha256:").unwrap_or(release);
    let is_short = digits.len() < MIN_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_short {
        return Some("a commit or a digest needs at least 7 digits");
    }
    let has_upper_case = release.bytes().any(|byte| byte.is_ascii_uppercase());
    if has_upper_case {
        return Some("versions are found as they are written: upper case differs from lower case");
    }
    let is_word = !release.contains([':', '@', '/']) && !release.bytes().any(|byte| byte.is_ascii_digit());
    is_word.then_some("if that is a service, `release-ledger services` shows its versions")
}

fn render(body: &FindBody, release: &str, is_first: bool) -> Report {
    let is_all = is_first && body.next.is_none();
    let lanes = if is_all { "the lanes that you may read" } else { "the lanes of this page" };
    let nothing = format!("{release} never ran on {lanes}");
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

    #[test]
    fn a_release_that_never_ran_gets_a_hint_by_its_form() {
        for (release, expected) in [
            ("1e69", Some("at least 7 digits")),
            ("sha256:1e69f8", Some("at least 7 digits")),
            ("V111", Some("upper case")),
            ("search-api", Some("services")),
            ("v111", None),
        ] {
            let shown = hint(release);
            assert_eq!(shown.is_some(), expected.is_some(), "{release}: {shown:?}");
            assert!(shown.unwrap_or_default().contains(expected.unwrap_or_default()), "{release}: {shown:?}");
        }
    }

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
        let report = render(&read(json.as_bytes()).expect("a body"), "v1", true);
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
        let shown = |json: &str, is_first| {
            render(&read(json.as_bytes()).expect("a body"), "v9", is_first).to_string()
        };
        assert_eq!(shown(r#"{"position":9,"runs":[]}"#, true), "v9 never ran on the lanes that you may read");
        assert_eq!(shown(r#"{"position":9,"runs":[]}"#, false), "v9 never ran on the lanes of this page");
        assert_eq!(
            shown(r#"{"position":9,"runs":[],"next":100}"#, true),
            "v9 never ran on the lanes of this page\nthere may be more: --skip 100"
        );
    }
}
