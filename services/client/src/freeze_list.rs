//! `release-ledger freeze list`: active and past freezes; and the words that other tables show for active ones.

use std::time::Duration;

use chrono::SecondsFormat;
use ledger_api_types::{ActiveFreezeBody, FreezeBody, FreezesBody};
use ledger_domain::EnvironmentName;
use tokio::time::timeout;

use super::connection::{Client, Connection};
use super::query::{QueryArgs, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};

/// Time limit of the question for the active freezes that go with another answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// List active and past freezes, the one that started last first
#[derive(Debug, clap::Args)]
pub(super) struct ListFreezes {
    /// Only freezes of this environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: Option<EnvironmentName>,
    /// Only freezes that are in force now
    #[arg(long)]
    active: bool,
    /// Only freezes that started before this position
    #[arg(long, value_name = "POSITION")]
    before: Option<u64>,
    /// At most this many: 1 to 100 [default: 20]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl ListFreezes {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = with_param(client.url(&["freezes"]), "environment", self.environment);
        let url = with_param(url, "active", self.active.then_some(true));
        let url = with_param(with_param(url, "before", self.before), "limit", self.limit);
        self.query.fetch_and_print(&client, url, render).await
    }
}

fn render(body: &FreezesBody) -> Report {
    let columns = [
        column("environment", 0),
        column("freeze", 0),
        column("state", 0),
        column("since", 1),
        column("until", 2),
        column("by", 3),
        column("reason", 4),
        wide_column("position"),
        wide_column("lifted by"),
        wide_column("reason of the lift"),
        wide_column("lifted position"),
    ];
    let table = Table::new(columns).named_by("freeze").if_empty("no freezes");
    let more = body.next.map(|next| format!("there may be more: --before {next}"));
    Report::default().with_table(table.with_rows(body.freezes.iter().map(row))).with_line_if(more)
}

fn row(freeze: &FreezeBody) -> [Cell; 11] {
    let lifted = freeze.lifted.as_ref();
    let state = match freeze.active {
        true => Cell::Status(Tone::Warning, "active".to_owned()),
        false if lifted.is_some() => "lifted".into(),
        false => "not in force".into(),
    };
    [
        freeze.environment.clone().into(),
        freeze.freeze_id.clone().into(),
        state,
        freeze.since.into(),
        lifted.map(|lifted| lifted.occurred_at).or(freeze.until).into(),
        freeze.actor.as_ref().map(|actor| actor.name.clone()).into(),
        freeze.reason.clone().into(),
        freeze.position.into(),
        lifted.and_then(|lifted| lifted.actor.as_ref()).map(|actor| actor.name.clone()).into(),
        lifted.and_then(|lifted| lifted.reason.clone()).into(),
        lifted.map(|lifted| lifted.position).into(),
    ]
}

/// Returns the words for the freezes of an environment that are in force: `frozen`, with their names.
pub(super) fn frozen(freezes: &[ActiveFreezeBody]) -> Option<String> {
    let names: Vec<&str> = freezes.iter().map(|freeze| freeze.freeze_id.as_str()).collect();
    (!names.is_empty()).then(|| frozen_by(&names))
}

fn frozen_by(names: &[&str]) -> String {
    format!("frozen: {}", names.join(", "))
}

/// Returns a line for each freeze of an environment that is in force, with its end, actor and reason, which lists of
/// environments do not state; none if the service does not answer.
pub(super) async fn active_lines(client: &Client, environment: &EnvironmentName) -> Vec<String> {
    let url = with_param(client.url(&["freezes"]), "environment", Some(environment));
    let url = with_param(url, "active", Some(true));
    let body = timeout(TIMEOUT, client.get(url)).await.ok().and_then(Result::ok);
    let body = body.and_then(|body| read::<FreezesBody>(&body).ok());
    body.map(|body| body.freezes.iter().map(line).collect()).unwrap_or_default()
}

fn line(freeze: &FreezeBody) -> String {
    let reason = freeze.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let by = freeze.actor.as_ref().map(|actor| format!(" by {}", actor.name)).unwrap_or_default();
    let until =
        freeze.until.map(|until| format!(" until {}", until.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    let text =
        format!("{}{}{by}{reason}", frozen_by(&[freeze.freeze_id.as_str()]), until.unwrap_or_default());
    // One line per freeze, also if the reason has several.
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> FreezesBody {
        read(
            br#"{"position":9,"next":3,"freezes":[
                {"environment":"production","freeze_id":"year-end","active":true,"position":8,
                 "since":"2026-08-07T10:00:00Z","until":"2026-12-31T00:00:00Z",
                 "actor":{"type":"person","name":"ada"},"reason":"The year\nends."},
                {"environment":"production","freeze_id":"sale","active":false,"position":6,
                 "since":"2026-08-06T10:00:00Z","lifted":{"position":7,"occurred_at":"2026-08-06T12:00:00Z",
                 "actor":{"type":"person","name":"grace"}}},
                {"environment":"staging","freeze_id":"short","active":false,"position":3,
                 "since":"2026-08-01T10:00:00Z","until":"2026-08-01T11:00:00Z"}]}"#,
        )
        .expect("a body")
    }

    #[test]
    fn freezes_are_listed_with_their_state_actor_and_end() {
        assert_eq!(
            render(&body()).to_string(),
            "environment  freeze    state         since                 until                 by   reason\n\
             production   year-end  active        2026-08-07T10:00:00Z  2026-12-31T00:00:00Z  ada  The year\\nends.\n\
             production   sale      lifted        2026-08-06T10:00:00Z  2026-08-06T12:00:00Z\n\
             staging      short     not in force  2026-08-01T10:00:00Z  2026-08-01T11:00:00Z\n\
             there may be more: --before 3"
        );
        render(&body()).check_fits();
    }

    #[test]
    fn an_active_freeze_is_one_line_with_its_reason() {
        let freezes = body().freezes;
        assert_eq!(line(&freezes[0]), "frozen: year-end until 2026-12-31T00:00:00Z by ada: The year ends.");
        let open = FreezeBody { until: None, actor: None, reason: None, ..freezes[0].clone() };
        assert_eq!(line(&open), "frozen: year-end");
    }

    #[test]
    fn the_words_for_active_freezes_have_their_names() {
        let freeze = |name: &str| ActiveFreezeBody { freeze_id: name.to_owned(), position: 1, until: None };
        assert_eq!(frozen(&[]), None);
        assert_eq!(frozen(&[freeze("sale"), freeze("manual")]).as_deref(), Some("frozen: sale, manual"));
    }
}
