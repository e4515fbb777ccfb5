//! `release-ledger quarantine`: messages of other tools that could not be understood.

use std::mem;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger_api_types::{DeliveryBody, DiscardRequest, QuarantineBody, QuarantinedBody};
use serde_json::json;

use super::connection::{Client, Connection};
use super::event_result;
use super::output::{print_file, print_json_or_text};
use super::query::{print_body, read, with_param};
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, column, wide_column};

/// List, show, retry and discard messages that could not be understood
///
/// A webhook or a CDEvent that cannot be understood is kept for 90 days. After the settings or the program have changed,
/// retry it: its events are then recorded in the name of its sender. A message that is retried twice has no second
/// effect.
#[derive(Debug, clap::Subcommand)]
pub enum Quarantine {
    /// List the messages that wait
    List(List),
    /// Show a message, and why it could not be understood
    Show(Show),
    /// Translate messages again and record their events
    Retry(Retry),
    /// End the quarantine of a message without recording its events
    Discard(Discard),
}

impl Quarantine {
    /// Runs the command.
    ///
    /// # Errors
    /// The service rejects the request or does not answer, or a message still cannot be understood.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Retry(retry) => retry.run().await,
            Self::Discard(discard) => discard.run().await,
        }
    }
}

/// The command `quarantine list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Also messages that were retried or discarded within the last hour
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let mut pager = self.output.pager();
        // The service's responses, page by page.
        let is_response = self.output.is_json() || self.output.is_yaml();
        let mut is_first = true;
        let messages = all_messages(&client, self.all, |body| {
            if self.output.is_yaml() && !mem::replace(&mut is_first, false) {
                pager.write(b"---")?;
            }
            if is_response {
                self.output.print_to(&mut pager, body, || Ok(Report::default()))
            } else {
                Ok(())
            }
        });
        let messages = messages.await?;
        if is_response {
            return Ok(());
        }
        self.output.print_to(&mut pager, b"", || Ok(render(&messages)))
    }
}

fn render(messages: &[QuarantinedBody]) -> Report {
    let columns = [
        column("id", 0),
        column("stored", 1),
        column("source", 0),
        column("state", 2).unless_all("waiting"),
        column("reason", 0).narrow(),
        wide_column("sender"),
        wide_column("bytes"),
        wide_column("positions"),
    ];
    Report::default()
        .with_table(Table::new(columns).if_empty("no messages").with_rows(messages.iter().map(row)))
}

fn row(message: &QuarantinedBody) -> [Cell; 8] {
    let positions: Vec<String> = message.positions.iter().map(ToString::to_string).collect();
    [
        message.id.clone().into(),
        message.stored_at.into(),
        message.source.clone().into(),
        message.state.clone().into(),
        reason(message).into(),
        message.principal.as_ref().map(|sender| sender.name.clone()).into(),
        message.size.into(),
        positions.join(" ").into(),
    ]
}

fn reason(message: &QuarantinedBody) -> String {
    match message.pointer.as_str() {
        "" => message.detail.clone(),
        pointer => format!("{pointer}: {}", message.detail),
    }
}

/// The command `quarantine show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The message
    #[arg(value_name = "ID")]
    id: String,
    /// Write the message itself, byte for byte as it arrived
    #[arg(long, conflicts_with = "json")]
    message: bool,
    /// Print the service's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let body = client.get(client.url(&["quarantine", &self.id])).await?;
        if !self.message {
            return print_body(self.json, &body, describe);
        }
        let shown: QuarantinedBody = read(&body)?;
        let message = shown.message.context("the message is not kept any more")?;
        Ok(print_file(&STANDARD.decode(message).context("the service's answer has no valid message")?)?)
    }
}

fn describe(message: &QuarantinedBody) -> String {
    let mut lines = vec![
        format!("{} from {}, {}", message.id, message.source, message.state),
        format!("stored {}, {} bytes", message.stored_at.format("%Y-%m-%d %H:%M:%S"), message.size),
        reason(message),
    ];
    lines.extend(message.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if !message.positions.is_empty() {
        let positions: Vec<String> = message.positions.iter().map(ToString::to_string).collect();
        lines.push(format!("positions {}", positions.join(", ")));
    }
    let text = message.message.as_deref().and_then(|text| STANDARD.decode(text).ok());
    lines.extend(text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    lines.join("\n")
}

/// The command `quarantine retry`.
#[derive(Debug, clap::Args)]
pub struct Retry {
    /// The messages
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every message that waits, in the order in which they were stored
    #[arg(long)]
    all: bool,
    /// Print {"id":…,"left_quarantine":…,"detail":…}, one line per message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Retry {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let ids = if self.all {
            let waiting = all_messages(&client, false, |_| Ok(())).await?;
            waiting.into_iter().map(|message| message.id).collect()
        } else {
            self.ids
        };
        let mut failed = 0;
        for id in &ids {
            let answer = client.post(client.url(&["quarantine", id, "retry"]), &json!({}), None).await;
            let outcome = answer.map_err(anyhow::Error::from).and_then(|body| outcome(&body));
            let left_quarantine = outcome.is_ok();
            failed += usize::from(!left_quarantine);
            let detail = outcome.unwrap_or_else(|error| format!("{error:#}"));
            let text = match self.json {
                true => json!({"id": id, "left_quarantine": left_quarantine, "detail": detail}).to_string(),
                false => format!("{id}: {detail}"),
            };
            print_json_or_text(self.json, &text)?;
        }
        ensure!(failed == 0, "{failed} of {} messages are still in quarantine", ids.len());
        Ok(())
    }
}

/// Returns the messages that wait, with `all` also those that ended within the last hour. Passes each page to `see` as it
/// arrives.
async fn all_messages(
    client: &Client,
    all: bool,
    mut see: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<QuarantinedBody>> {
    let mut messages = Vec::new();
    let mut after = None;
    loop {
        let url = with_param(client.url(&["quarantine"]), "after", after);
        let body = client.get(with_param(url, "all", all.then_some(true))).await?;
        see(&body)?;
        let page: QuarantineBody = read(&body)?;
        messages.extend(page.messages);
        after = page.next;
        if after.is_none() {
            return Ok(messages);
        }
    }
}

fn outcome(body: &[u8]) -> anyhow::Result<String> {
    let delivery: DeliveryBody = read(body)?;
    if let Some(event) = delivery.events.iter().find(|event| !event.status.is_recorded()) {
        bail!("{}", event_result::describe(event));
    }
    let events: Vec<String> = delivery.events.iter().map(event_result::describe).collect();
    let events = events.join(", ");
    let detail = delivery.detail.unwrap_or_default();
    match delivery.quarantine_id {
        Some(rest) => {
            let events = if events.is_empty() { "a part is ignored" } else { &events };
            bail!("{events}; the rest is still not understood, and waits as {rest}: {detail}")
        }
        None if events.is_empty() => Ok(format!("ignored: {detail}")),
        None => Ok(events),
    }
}

/// The command `quarantine discard`.
#[derive(Debug, clap::Args)]
pub struct Discard {
    /// The message
    #[arg(value_name = "ID")]
    id: String,
    /// The reason, which the history shows
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print the service's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Discard {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["quarantine", &self.id, "discard"]);
        let body = client.post(url, &DiscardRequest { reason: self.reason }, None).await?;
        print_body(self.json, &body, |message: &QuarantinedBody| {
            let positions: Vec<String> = message.positions.iter().map(ToString::to_string).collect();
            format!("{} is discarded: position {}", message.id, positions.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_listed_with_the_reason_and_the_place_of_the_fault() {
        let body: QuarantineBody = serde_json::from_value(json!({"messages": [
            {"id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "stored_at": "2026-08-01T12:00:00Z", "source": "hook:deployer",
             "state": "waiting", "pointer": "/stage", "detail": "map it in names.environments of the settings",
             "size": 120},
        ]}))
        .expect("a body");

        let report = render(&body.messages);

        report.check_fits();
        assert_eq!(
            report.to_string(),
            "id                                stored                source         reason\n\
             0f1e2d3c4b5a69788796a5b4c3d2e1f0  2026-08-01T12:00:00Z  hook:deployer  \
             /stage: map it in names.environments of the settings"
        );
        assert_eq!(render(&[]).to_string(), "no messages");
    }
}
