//! `release-ledger rollback watch`: rollbacks as they go on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ledger_domain::rollback::Phase;
use ledger_domain::{EnvironmentName, ShortText};
use serde::Deserialize;
use tokio::time::timeout;

use super::body::{RollbackBody, fetch};
use crate::answer::ActorBody;
use crate::connection::{Client, Connection};
use crate::output::{show_either, show_text};
use crate::query::with;
use crate::stream::{Message, Stream};

/// How often a rollback's steps are looked at: the stream tells of its life only.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The command `rollback watch`.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The rollback
    #[arg(value_name = "ID", value_parser = ShortText::parse)]
    rollback_id: Option<ShortText>,
    /// All rollbacks of this environment
    #[arg(long, value_name = "NAME", conflicts_with = "rollback_id")]
    environment: Option<EnvironmentName>,
    /// What was recorded after this position, first
    #[arg(long, value_name = "POSITION", conflicts_with = "rollback_id")]
    after: Option<u64>,
    /// Print the entries as they are, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Deserialize)]
struct EntryBody {
    recorded_at: String,
    event: EventBody,
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
        let client = self.connection.client();
        if let Some(rollback_id) = self.rollback_id {
            return watch_one(&client, &rollback_id, self.json).await;
        }
        let url = with(client.url(&["rollbacks", "stream"]), "environment", self.environment);
        let mut stream = Stream::new(&client, url, self.after);
        loop {
            told(&stream.next().await?, self.json)?;
        }
    }
}

/// Shows a message.
fn told(message: &Message, json: bool) -> anyhow::Result<()> {
    let text = if json { message.data.clone() } else { render(message)? };
    Ok(show_either(json, &text)?)
}

fn render(message: &Message) -> anyhow::Result<String> {
    let entry: EntryBody = serde_json::from_str(&message.data).context("an entry is not understood")?;
    let data = entry.event.data;
    let id = data.rollback_id.map(|id| format!(" {id}")).unwrap_or_default();
    let by = data.actor.map(|actor| format!(" by {}", actor.name)).unwrap_or_default();
    let why = data.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let position = message.id.unwrap_or_default();
    let name = &message.name;
    Ok(format!("{position}  {}  {}  {name}{id}{by}{why}", entry.recorded_at, data.environment))
}

async fn watch_one(client: &Client, rollback_id: &ShortText, json: bool) -> anyhow::Result<()> {
    let mut rollback = fetch(client, rollback_id, None).await?;
    let url = with(client.url(&["rollbacks", "stream"]), "environment", Some(&rollback.environment));
    // From before its request, so that all of its life is shown.
    let mut stream = Stream::new(client, url, Some(rollback.requested.position.saturating_sub(1)));
    let mut seen = BTreeMap::new();
    let mut told_to = 0;
    loop {
        if !json {
            steps(&rollback, &mut seen)?;
        }
        if !rollback.phase.is_active() {
            break;
        }
        let mut latest = None;
        // What is dropped half-way is not lost: the stream keeps what it has read.
        if let Ok(message) = timeout(LOOK_AGAIN, stream.next()).await {
            let message = message?;
            told_to = message.id.unwrap_or(told_to);
            if is_of(&message, rollback_id) {
                told(&message, json)?;
                latest = message.id;
            }
        }
        rollback = fetch(client, rollback_id, latest).await?;
    }
    // The stream may still have to tell of the end that is known already.
    while rollback.ended.is_some_and(|end| told_to < end) {
        let message = stream.next().await?;
        told_to = message.id.unwrap_or(told_to);
        if is_of(&message, rollback_id) {
            told(&message, json)?;
        }
    }
    match rollback.phase {
        Phase::Succeeded if json => Ok(()),
        Phase::Succeeded => Ok(show_text(&rollback.ending())?),
        _ => bail!("{}", rollback.ending()),
    }
}

fn is_of(message: &Message, rollback_id: &ShortText) -> bool {
    let entry = serde_json::from_str::<EntryBody>(&message.data);
    entry.is_ok_and(|entry| entry.event.data.rollback_id.as_deref() == Some(rollback_id.as_str()))
}

/// Shows the steps whose state is another than before.
fn steps(rollback: &RollbackBody, seen: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let before = std::mem::take(seen);
    for part in &rollback.steps {
        let lane = part.step.lane();
        let pending = part.state == "pending" && !before.contains_key(&lane);
        if !pending && before.get(&lane) != Some(&part.state) {
            let position = part.position.unwrap_or_default();
            let step = &part.step;
            let text = format!("{position}  wave {}  {lane}  {}: {}", step.wave, step.change(), part.state);
            show_text(&text)?;
        }
        seen.insert(lane, part.state.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_a_life_is_a_line() {
        let message = Message {
            id: Some(9),
            name: "rollback.failed".into(),
            data: r#"{"position":9,"recorded_at":"2026-08-01T10:00:00Z","event":{"type":"x","data":{
                "environment":"production","rollback_id":"r-1","reason":"web fails",
                "actor":{"type":"person","name":"ada"}}}}"#
                .into(),
        };
        assert_eq!(
            render(&message).expect("an entry"),
            "9  2026-08-01T10:00:00Z  production  rollback.failed r-1 by ada: web fails"
        );
        assert!(is_of(&message, &ShortText::parse("r-1").expect("a line")));
        assert!(!is_of(&message, &ShortText::parse("r-2").expect("a line")));
    }
}
