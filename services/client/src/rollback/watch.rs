//! `release-ledger rollback watch`: follows the progress of rollbacks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::SecondsFormat;
use ledger_api_types::{ActorBody, EntryBody, RollbackBody};
use ledger_domain::rollback::RollbackPhase;
use ledger_domain::{EnvironmentName, ShortText, escape_line};
use serde::Deserialize;
use tokio::time::timeout;

use crate::connection::{Client, Connection};
use crate::fetch_rollback::{describe_end, fetch_rollback};
use crate::output::{is_stdout_closed, print_json_or_text, print_text};
use crate::plan::{change, lane};
use crate::query::with_param;
use crate::stream::{Message, MessageStream};

/// Interval for fetching a rollback's steps: the stream has only the changes of its phase.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The command `rollback watch`.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse_identifier)]
    rollback_id: Option<ShortText>,
    /// All rollbacks of this environment
    #[arg(long, value_name = "NAME", conflicts_with = "rollback_id")]
    environment: Option<EnvironmentName>,
    /// First show everything recorded after this position
    #[arg(long, value_name = "POSITION", conflicts_with = "rollback_id")]
    after: Option<u64>,
    /// Print the entries as JSON, one per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Deserialize)]
struct EventBody {
    data: DataBody,
}

#[derive(Debug, Deserialize)]
struct DataBody {
    environment: String,
    rollback_id: Option<String>,
    reason: Option<String>,
    actor: Option<ActorBody>,
}

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        if let Some(rollback_id) = self.rollback_id {
            return watch_one(&client, &rollback_id, self.json).await;
        }
        let url = with_param(client.url(&["rollbacks", "stream"]), "environment", self.environment);
        let mut stream = MessageStream::new(&client, url, self.after);
        loop {
            print_message(&stream.next().await?, self.json)?;
            if is_stdout_closed() {
                return Ok(());
            }
        }
    }
}

fn print_message(message: &Message, json: bool) -> anyhow::Result<()> {
    let text = if json { message.data.clone() } else { render(message)? };
    Ok(print_json_or_text(json, &text)?)
}

fn render(message: &Message) -> anyhow::Result<String> {
    let entry: EntryBody<EventBody> = serde_json::from_str(&message.data).context("cannot parse an entry")?;
    let data = entry.event.data;
    let id = data.rollback_id.map(|id| format!(" {id}")).unwrap_or_default();
    let by = data.actor.map(|actor| format!(" by {}", actor.name)).unwrap_or_default();
    let reason = data.reason.map(|reason| format!(": {}", escape_line(&reason))).unwrap_or_default();
    let position = message.id.unwrap_or_default();
    let time = entry.recorded_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let name = &message.name;
    Ok(format!("{position}  {time}  {}  {name}{id}{by}{reason}", data.environment))
}

async fn watch_one(client: &Client, rollback_id: &ShortText, json: bool) -> anyhow::Result<()> {
    let mut rollback = fetch_rollback(client, rollback_id, None).await?;
    let url = with_param(client.url(&["rollbacks", "stream"]), "environment", Some(&rollback.environment));
    // Start before the request, to show all events of the rollback.
    let mut stream = MessageStream::new(client, url, Some(rollback.requested.position.saturating_sub(1)));
    let mut states = BTreeMap::new();
    let mut last_position = 0;
    loop {
        if !json {
            print_changed_steps(&rollback, &mut states)?;
        }
        if !rollback.phase.is_active() {
            break;
        }
        let mut latest = None;
        // Cancelling `next` loses no message.
        if let Ok(message) = timeout(POLL_INTERVAL, stream.next()).await {
            let message = message?;
            last_position = message.id.unwrap_or(last_position);
            if belongs_to(&message, rollback_id) {
                print_message(&message, json)?;
                latest = message.id;
            }
        }
        rollback = fetch_rollback(client, rollback_id, latest).await?;
    }
    // The end is already known, but its message may still be missing.
    while rollback.ended.is_some_and(|end| last_position < end) {
        let message = stream.next().await?;
        last_position = message.id.unwrap_or(last_position);
        if belongs_to(&message, rollback_id) {
            print_message(&message, json)?;
        }
    }
    match rollback.phase {
        RollbackPhase::Succeeded if json => Ok(()),
        RollbackPhase::Succeeded => Ok(print_text(&describe_end(&rollback))?),
        _ => bail!("{}", describe_end(&rollback)),
    }
}

fn belongs_to(message: &Message, rollback_id: &ShortText) -> bool {
    let entry = serde_json::from_str::<EntryBody<EventBody>>(&message.data);
    entry.is_ok_and(|entry| entry.event.data.rollback_id.as_deref() == Some(rollback_id.as_str()))
}

/// Prints the steps with a changed state.
fn print_changed_steps(rollback: &RollbackBody, states: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let before = std::mem::take(states);
    for part in rollback.steps.iter().flatten() {
        let lane = lane(&part.step);
        let is_initial = part.state == "pending" && !before.contains_key(&lane);
        if !is_initial && before.get(&lane) != Some(&part.state) {
            let position = part.position.unwrap_or_default();
            let step = &part.step;
            let text = format!("{position}  wave {}  {lane}  {}: {}", step.wave, change(step), part.state);
            print_text(&text)?;
        }
        states.insert(lane, part.state.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_rollback_is_one_line() {
        let message = Message {
            id: Some(9),
            name: "rollback.failed".into(),
            data: r#"{"position":9,"recorded_at":"2026-08-01T10:00:00Z","leaf_hash":"a","event":{"type":"x","data":{
                "environment":"production","rollback_id":"r-1","reason":"web fails",
                "actor":{"type":"person","name":"ada"}}}}"#
                .into(),
        };
        assert_eq!(
            render(&message).expect("an entry"),
            "9  2026-08-01T10:00:00Z  production  rollback.failed r-1 by ada: web fails"
        );
        assert!(belongs_to(&message, &ShortText::parse("r-1").expect("a short text")));
        assert!(!belongs_to(&message, &ShortText::parse("r-2").expect("a short text")));
    }
}
