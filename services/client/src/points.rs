//! `release-ledger points` and `point`: the release points of an environment and their status.

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_api_types::{ChangedBody, MarkBody, PointBody, PointDetailBody, PointsBody, ReasonBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::counts::with_counts;
use super::point_arg::{self, PointSpec, PositionSpec, time_text};
use super::query::{QueryArgs, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Show the release points of an environment, the latest first
///
/// A point is the state of the environment after a change. It is a candidate, known good or bad, by the
/// environment's policy or by the mark of a person.
#[derive(Debug, clap::Args)]
pub struct Points {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// Only points of this status
    #[arg(long, value_parser = ["candidate", "known_good", "known-good", "bad"])]
    status: Option<String>,
    /// Only points that began before this position, or before this point: -N, `change:N`, or a name
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = point_arg::parse_position)]
    before: Option<PositionSpec>,
    /// As known at this position, or from what the ledger had recorded by this time
    #[arg(long, value_name = "POSITION|TIME", allow_hyphen_values = true, value_parser = point_arg::parse_known_at)]
    known_at: Option<String>,
    /// At most this many: 1 to 100 [default: 20]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Show a release point of an environment, with the evidence for its status
#[derive(Debug, clap::Args)]
pub struct ShowPoint {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The point: `latest`, `last-known-good`, the name of a point, a position, a time, a date, `yesterday`, `2h`
    /// for two hours ago, -N for N changes ago, or `change:N`
    #[arg(value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse)]
    point: PointSpec,
    /// As known at this position, or from what the ledger had recorded by this time
    #[arg(long, value_name = "POSITION|TIME", allow_hyphen_values = true, value_parser = point_arg::parse_known_at)]
    known_at: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Points {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "points"]);
        let (environment, wait_for) = (Some(&self.environment), self.query.wait_for());
        let before =
            PositionSpec::resolve_optional(self.before.as_ref(), &client, environment, wait_for).await?;
        let status = self.status.map(|status| status.replace('-', "_"));
        let url = with_param(with_param(url, "status", status), "before", before);
        let url = with_param(with_param(url, "known_at", self.known_at), "limit", self.limit);
        self.query.fetch_and_print(&client, url, render_list).await
    }
}

impl ShowPoint {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such point.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let point = self.point.of(&self.environment)?.to_string();
        let url = client.url(&["environments", self.environment.as_str(), "points", &point]);
        self.query.fetch_and_print(&client, with_param(url, "known_at", self.known_at), render).await
    }
}

fn render_list(body: &PointsBody) -> Report {
    let columns = [
        column("number", 0),
        column("position", 3),
        column("time", 1),
        column("changed", 0),
        column("status", 0),
        column("name", 2),
        column("reason", 4),
        wide_column("digest"),
    ];
    let table = Table::new(columns).named_by("position").if_empty("no points");
    let more = body.next.map(|next| format!("there may be more: --before {next}"));
    Report::default().with_table(table.with_rows(body.points.iter().map(row))).with_line_if(more)
}

fn row(point: &PointBody) -> [Cell; 8] {
    let name = point.mark.as_ref().and_then(|mark| mark.name.clone());
    [
        number(point).into(),
        point.position.into(),
        point.occurred_at.into(),
        lanes(&point.changed).into(),
        status_cell(&point.status),
        name.into(),
        point.reasons.first().map(reason).into(),
        Cell::Digest(point.digest.clone()),
    ]
}

/// Returns the text of a reason. One without a check rests on several results, of which the counts are one's.
fn reason(reason: &ReasonBody) -> String {
    match &reason.check {
        Some(_) => with_counts(&reason.detail, reason.counts),
        None => reason.detail.clone(),
    }
}

/// Returns the cell of a point's status.
pub(super) fn status_cell(status: &str) -> Cell {
    match status {
        "known_good" => Cell::Status(Tone::Good, status.to_owned()),
        "bad" => Cell::Status(Tone::Bad, status.to_owned()),
        _ => status.into(),
    }
}

/// Returns the number of the change; a point that was selected by a time has none.
fn number(point: &PointBody) -> String {
    point.number.map_or_else(|| "in time".to_owned(), |number| number.to_string())
}

fn lanes(changed: &[ChangedBody]) -> String {
    changed.iter().map(lane).collect::<Vec<_>>().join(", ")
}

fn lane(changed: &ChangedBody) -> String {
    match changed.target.as_str() {
        DEFAULT_TARGET => changed.service.clone(),
        target => format!("{}@{target}", changed.service),
    }
}

fn render(body: &PointDetailBody) -> Report {
    let PointDetailBody { environment, at, policy, point, .. } = body;
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let until = point.until.map_or_else(|| "now".to_owned(), time);
    let count = point.lanes;
    let mut lines = vec![
        format!("{environment} point {} at position {}: {}", number(point), point.position, point.status),
        format!("{count} lanes, digest {}", point.digest),
        format!("from {}, by {}, to {until}", time(point.occurred_at), lanes(&point.changed)),
    ];
    lines.extend(at.map(|time| format!("at the time {}", time_text(time))));
    lines.extend(policy.map(|position| format!("policy of position {position}")));
    lines.extend(point.mark.as_ref().map(mark));
    lines.extend(point.reasons.iter().map(|reason| {
        let position = reason.position.map(|position| format!("position {position}"));
        let counts = reason.counts.map(|counts| counts.to_string());
        let evidence: Vec<String> = position.into_iter().chain(counts).collect();
        match evidence.is_empty() {
            true => format!("- {}", reason.detail),
            false => format!("- {} ({})", reason.detail, evidence.join(": ")),
        }
    }));
    let unlisted = point.reason_count.saturating_sub(point.reasons.len());
    lines.extend((unlisted > 0).then(|| format!("- and {unlisted} more reasons")));
    Report::default().with_line(lines.join("\n"))
}

fn mark(mark: &MarkBody) -> String {
    let name = mark.name.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
    let by = mark.actor.as_ref().map(|actor| format!(" by {}", actor.name)).unwrap_or_default();
    let reason = mark.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("marked {}{name}{by} (position {}){reason}", mark.status, mark.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    const POINT: &str = r#"{"number":7,"position":41,"occurred_at":"2026-08-01T10:00:00Z","event_id":"e",
        "changed":[{"service":"web","target":"eu"}],"digest":"sha256:aa","lanes":3,"status":"known_good",
        "reasons":[{"reason":"marked","detail":"a person marked it known_good","position":44}],
        "mark":{"position":44,"status":"known_good","name":"before-the-move",
                "actor":{"type":"person","name":"ada"},"reason":"we tried it"}}"#;

    #[test]
    fn points_are_listed_with_their_status_and_the_next_page() {
        let body = read(
            format!(r#"{{"environment":"production","position":50,"points":[{POINT}],"next":41}}"#)
                .as_bytes(),
        )
        .expect("a body");
        assert_eq!(
            render_list(&body).to_string(),
            "number  position  time                  changed  status      name             reason\n\
             7       41        2026-08-01T10:00:00Z  web@eu   known_good  before-the-move  a person marked it known_good\n\
             there may be more: --before 41"
        );
        let none =
            read(br#"{"environment":"production","position":50,"points":[],"next":9}"#).expect("a body");
        assert_eq!(render_list(&none).to_string(), "no points\nthere may be more: --before 9");
    }

    #[test]
    fn a_failed_check_is_shown_with_its_counts() {
        let failed = POINT.replace(
            r#""reason":"marked","detail":"a person marked it known_good","position":44"#,
            r#""reason":"failed","detail":"the check smoke failed","check":"smoke","position":44,
               "counts":{"passed":11,"failed":2,"skipped":0}"#,
        );
        let json = format!(r#"{{"environment":"production","position":50,"points":[{failed}]}}"#);
        let list = render_list(&read(json.as_bytes()).expect("a body")).to_string();
        let shown = "the check smoke failed (11 cases passed, 2 failed, 0 skipped)";
        assert!(list.contains(shown), "{list}");
        let json = format!(r#"{{"environment":"production","position":50,"point":{failed}}}"#);
        let point = render(&read(json.as_bytes()).expect("a body")).to_string();
        let shown = "- the check smoke failed (position 44: 11 cases passed, 2 failed, 0 skipped)";
        assert!(point.contains(shown), "{point}");
    }

    #[test]
    fn counts_of_one_result_are_not_shown_as_those_of_all() {
        let passed = POINT.replace(
            r#""reason":"marked","detail":"a person marked it known_good","position":44"#,
            r#""reason":"passed","detail":"all required checks have passed","position":44,
               "counts":{"passed":1,"failed":0,"skipped":0}"#,
        );
        let json = format!(r#"{{"environment":"production","position":50,"points":[{passed}]}}"#);
        let list = render_list(&read(json.as_bytes()).expect("a body")).to_string();
        assert!(list.contains("passed") && !list.contains("1 cases"), "{list}");
    }

    #[test]
    fn points_with_long_values_fit_into_80_columns() {
        let mut body: PointsBody = read(
            format!(r#"{{"environment":"production","position":50,"points":[{POINT}],"next":41}}"#)
                .as_bytes(),
        )
        .expect("a body");
        let point = &mut body.points[0];
        point.position = 123_456_789;
        point.changed[0].target = "on-premise-frankfurt".to_owned();
        point.reasons[0].detail = "the check end-to-end of search-api-gateway failed on 1 August".to_owned();
        render_list(&body).check_fits();
    }

    #[test]
    fn a_point_is_shown_with_its_evidence() {
        let json = format!(r#"{{"environment":"production","position":50,"policy":3,"point":{POINT}}}"#);
        render(&read(json.as_bytes()).expect("a body")).check_fits();
        assert_eq!(
            render(&read(json.as_bytes()).expect("a body")).to_string(),
            "production point 7 at position 41: known_good\n\
             3 lanes, digest sha256:aa\n\
             from 2026-08-01T10:00:00Z, by web@eu, to now\n\
             policy of position 3\n\
             marked known_good as before-the-move by ada (position 44): we tried it\n\
             - a person marked it known_good (position 44)"
        );
    }
}
