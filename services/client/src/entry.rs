//! `release-ledger entry`: one entry of the ledger, with what the ledger knows about it.

use ledger_api_types::{EntryBody, PrincipalBody};
use serde_json::Value;

use super::connection::Connection;
use super::point_arg::{PositionSpec, parse_position, time_text};
use super::query::QueryArgs;
use super::report::Report;
use super::table::{Cell, Table, column};

/// Show one entry of the ledger
#[derive(Debug, clap::Args)]
pub struct Entry {
    /// The position of the entry, `latest`, or the point that the entry made: `production@-1`,
    /// `production@last-known-good`
    #[arg(value_name = "POSITION", value_parser = parse_entry)]
    position: PositionSpec,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

fn parse_entry(text: &str) -> Result<PositionSpec, String> {
    let position = parse_position(text)?;
    if position.lacks_environment() {
        return Err("a position is the number of an entry, such as 4711; `release-ledger history` shows them; a point \
             needs its environment: production@-1"
            .to_owned());
    }
    Ok(position)
}

impl Entry {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such entry.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let position = self.position.resolve(&client, None, self.query.wait_for()).await?;
        let url = client.url(&["events", &position.to_string()]);
        self.query.fetch_and_print(&client, url, render).await
    }
}

fn render(entry: &EntryBody<Value>) -> Report {
    let text = |member: &str| entry.event[member].as_str().map(str::to_owned);
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(", "));
    let position = |position: Option<u64>| position.map(|position| position.to_string());
    let sender = entry.principal.as_ref();
    let claims = |sender: &PrincipalBody| {
        let claims = sender.claims.iter().map(|(name, value)| format!("{name}={value}"));
        claims.collect::<Vec<_>>().join(", ")
    };
    let claimed = entry.event["data"]["actor"]["name"].as_str();
    let actor = entry.actor.as_ref().map(|actor| &*actor.name);
    let by = actor.map(str::to_owned).or_else(|| claimed.map(|name| format!("{name} (claimed)")));
    let is_other = |name: &&str| actor.is_some_and(|actor| actor != *name);
    let members = [
        ("position", Some(entry.position.to_string())),
        ("type", text("type")),
        ("occurred", text("time")),
        ("recorded", Some(time_text(entry.recorded_at))),
        ("by", by),
        ("claimed actor", claimed.filter(is_other).map(str::to_owned)),
        ("sent by", sender.map(|sender| format!("{} of {}", sender.name, sender.issuer))),
        ("subject", sender.map(|sender| sender.subject.clone())),
        ("claims", sender.map(claims).filter(|claims| !claims.is_empty())),
        ("source", text("source")),
        ("id", text("id")),
        ("target", entry.target.clone()),
        ("possible targets", list(&entry.targets)),
        ("made live", entry.went_live.clone()),
        ("ran before at", position(entry.returns_to)),
        ("repeats", position(entry.repeats)),
        ("corrected by", position(entry.corrected_by)),
        ("anomalies", list(&entry.anomalies)),
        ("first names", list(&entry.new)),
        ("leaf hash", Some(entry.leaf_hash.clone())),
    ];
    let rows = members.into_iter().filter_map(|(name, value)| {
        let cell = if name == "leaf hash" { Cell::Digest } else { Cell::Text };
        value.filter(|value| !value.is_empty()).map(|value| [name.into(), cell(value)])
    });
    let table = Table::new([column("member", 0), column("value", 0)]).with_rows(rows);
    Report::default().with_table(table).with_verbatim(format!("{:#}", entry.event["data"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn an_entry_is_shown_with_what_is_known_about_it_and_with_its_data() {
        let body = read(
            br#"{"position":9,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"ab","anomalies":["late"],
                "corrected_by":12,"event":{"type":"io.releaseledger.deploy.succeeded.v1",
                "time":"2026-08-01T12:00:00Z","id":"7","source":"ci","data":{"service":"web",
                "actor":{"type":"person","name":"ada"}}}}"#,
        )
        .expect("a body");
        render(&body).check_fits();
        let text = render(&body).to_string();
        for line in [
            "position      9",
            "occurred      2026-08-01T12:00:00Z",
            "recorded      2026-08-01T12:00:01Z",
            "by            ada (claimed)",
            "corrected by  12",
            "anomalies     late",
            "  \"service\": \"web\"",
        ] {
            assert!(text.lines().any(|shown| shown.trim_end_matches(',') == line), "{line}\n{text}");
        }
    }

    #[test]
    fn an_authenticated_sender_is_shown_beside_the_actor_that_it_claimed() {
        let body = read(
            br#"{"position":9,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"ab",
                "principal":{"kind":"workload","name":"web","issuer":"https://ci.example","subject":"repo:7",
                "claims":{"ref":"main","run_id":"12"}},"actor":{"type":"workload","name":"web"},
                "event":{"type":"io.releaseledger.deploy.succeeded.v1","data":{
                "actor":{"type":"person","name":"ada"}}}}"#,
        )
        .expect("a body");
        render(&body).check_fits();
        let text = render(&body).to_string();
        for line in [
            "by             web",
            "claimed actor  ada",
            "sent by        web of https://ci.example",
            "subject        repo:7",
            "claims         ref=main, run_id=12",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
