//! `release-ledger subscription`: webhooks to which the service delivers entries.

use anyhow::bail;
use ledger_api_types::{
    AttemptBody, AttemptsBody, DeliveryStatusBody, SubscriptionBody, SubscriptionFilterBody,
    SubscriptionsBody,
};
use ledger_domain::event::{Payload, Subscription as Settings, SubscriptionFilter, WebhookUrl};
use ledger_domain::{
    EnvironmentName, Kind, LongText, SecretName, ServiceName, SubscriptionName, UnknownKind,
};
use serde_json::json;

use super::author::ActorArgs;
use super::connection::{Client, Connection};
use super::output::print_json_or_text;
use super::query::{QueryArgs, head, read, with_param};
use super::record::record_new;
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, Tone, column, wide_column};

/// Create, list, show and remove subscriptions
///
/// The service delivers each entry that a subscription selects to a webhook, signed as Standard Webhooks
/// (<https://www.standardwebhooks.com>), in order, each at least once.
#[derive(Debug, clap::Subcommand)]
pub enum Subscription {
    /// Create a subscription; entries are delivered from here on
    Create(Box<Create>),
    /// List the subscriptions
    List(List),
    /// Show a subscription with the state of its deliveries
    Show(Show),
    /// Remove a subscription
    Remove(Box<Remove>),
    /// List the last hundred attempts to deliver entries, latest first
    Deliveries(Deliveries),
}

impl Subscription {
    /// Runs the command.
    ///
    /// # Errors
    /// The service rejects the request or does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Deliveries(deliveries) => deliveries.run().await,
        }
    }
}

/// The command `subscription create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger subscription create chat https://hooks.example/ledger --secret chat
  release-ledger subscription create dashboard https://dashboard.example/in --secret dashboard \
      --environment production --type deploy,rollback.requested")]
pub struct Create {
    /// The name of the subscription
    #[arg(value_name = "NAME", value_parser = SubscriptionName::parse)]
    name: SubscriptionName,
    /// The address of the receiver; everyone who reads the ledger sees it, so that it must not contain a secret
    #[arg(value_name = "URL", value_parser = WebhookUrl::parse)]
    receiver: WebhookUrl,
    /// The name of the signing secret in the settings of the service
    #[arg(long, value_name = "NAME", value_parser = SecretName::parse)]
    secret: SecretName,
    /// Only entries of this environment
    #[arg(long, value_name = "ENVIRONMENT")]
    environment: Option<EnvironmentName>,
    /// Only entries of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// Only entries of these types, such as deploy.succeeded, or families, such as deploy; may be given several times
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = SelectedKinds::parse)]
    types: Vec<SelectedKinds>,
    /// Replace the settings of an existing subscription, and enable it if it is disabled; delivery continues with the entry
    /// that waited, or else from here on
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// The kinds that one value of `--type` selects.
#[derive(Debug, Clone)]
struct SelectedKinds(Vec<Kind>);

impl SelectedKinds {
    fn parse(text: &str) -> Result<Self, UnknownKind> {
        Kind::selected_by(text).map(Self)
    }
}

/// Returns each selected kind once, in the order in which they were given.
fn distinct(selected: Vec<SelectedKinds>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for kind in selected.into_iter().flat_map(|SelectedKinds(kinds)| kinds) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The command `subscription remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The name of the subscription
    #[arg(value_name = "NAME", value_parser = SubscriptionName::parse)]
    name: SubscriptionName,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Flags of the commands that change a subscription.
#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    #[command(flatten)]
    by: ActorArgs,
    /// Print {"subscription":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl ChangeArgs {
    async fn record(
        self,
        client: &Client,
        name: &SubscriptionName,
        payload: Payload,
        result: &str,
    ) -> anyhow::Result<()> {
        let position = record_new(client, payload, &self.by.author()?, self.reason).await?;
        let text = if self.json {
            json!({"subscription": name.as_str(), "position": position}).to_string()
        } else {
            format!("subscription {name} is {result} (position {position})")
        };
        Ok(print_json_or_text(self.json, &text)?)
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.change.connection.clone().client()?;
        let exists = exists(&client, &self.name).await?;
        if exists && !self.replace {
            bail!(
                "subscription {} exists; to replace its address, secret and filter, add --replace",
                self.name
            );
        }
        let types = distinct(self.types);
        let filter = SubscriptionFilter { environment: self.environment, service: self.service, types };
        let settings = Settings { name: self.name.clone(), url: self.receiver, secret: self.secret, filter };
        let payload = Payload::SubscriptionCreated(Box::new(settings));
        self.change.record(&client, &self.name, payload, if exists { "replaced" } else { "created" }).await
    }
}

impl Remove {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.change.connection.clone().client()?;
        let payload = Payload::SubscriptionRemoved(self.name.clone());
        self.change.record(&client, &self.name, payload, "removed").await
    }
}

/// Returns true if the subscription exists, with everything that is recorded by now.
async fn exists(client: &Client, name: &SubscriptionName) -> anyhow::Result<bool> {
    let url = client.url(&["subscriptions", name.as_str()]);
    match client.get(with_param(url, "wait_for", Some(head(client).await?))).await {
        Ok(_) => Ok(true),
        Err(error) if error.problem("unknown-subscription").is_some() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The command `subscription list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["subscriptions"]);
        self.query.fetch_and_print(&client, url, render_list).await
    }
}

fn render_list(body: &SubscriptionsBody) -> Report {
    let columns = [
        column("name", 0),
        column("url", 0),
        column("secret", 2),
        column("selects", 1).narrow(),
        column("status", 0),
    ];
    let table = Table::new(columns).if_empty("no subscriptions");
    Report::default().with_table(table.with_rows(body.subscriptions.iter().map(row)))
}

fn row(subscription: &SubscriptionBody) -> [Cell; 5] {
    let (tone, status) = match &subscription.disabled {
        Some(_) => (Tone::Bad, "disabled"),
        None => (Tone::Good, "enabled"),
    };
    [
        subscription.subscription.clone().into(),
        subscription.url.clone().into(),
        subscription.secret.clone().into(),
        selection(&subscription.filter).into(),
        Cell::Status(tone, status.to_owned()),
    ]
}

fn selection(filter: &SubscriptionFilterBody) -> String {
    let place: Vec<&str> =
        [&filter.environment, &filter.service].into_iter().filter_map(|name| name.as_deref()).collect();
    let types = filter.types.join(", ");
    match (place.is_empty(), types.is_empty()) {
        (true, true) => "everything".to_owned(),
        (true, false) => types,
        (false, true) => place.join("/"),
        (false, false) => format!("{}: {types}", place.join("/")),
    }
}

/// The command `subscription show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The name of the subscription
    #[arg(value_name = "NAME", value_parser = SubscriptionName::parse)]
    name: SubscriptionName,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["subscriptions", self.name.as_str()]);
        self.query.fetch_and_print(&client, url, render_subscription).await
    }
}

fn render_subscription(body: &SubscriptionBody) -> String {
    let mut lines = vec![
        format!("{} to {}", body.subscription, body.url),
        format!("selects {}, signed with secret {}", selection(&body.filter), body.secret),
    ];
    if let Some(disabled) = &body.disabled {
        let reason = disabled.reason.as_deref().unwrap_or("no reason");
        lines.push(format!("disabled at position {}: {reason}", disabled.position));
    }
    lines.extend(body.delivery.iter().flat_map(render_status));
    lines.join("\n")
}

fn render_status(status: &DeliveryStatusBody) -> Vec<String> {
    let mut lines = vec![format!("delivered up to position {}", status.delivered_position)];
    lines.push(match &status.pending {
        Some(next) => format!("next is position {}, recorded {}", next.position, seconds(&next.recorded_at)),
        None => "nothing to deliver".to_owned(),
    });
    if status.failures > 0 {
        let since = status.failing_since.as_ref().map(|since| format!(" since {}", seconds(since)));
        let next = status.next_attempt_at.as_ref().map(|next| format!("; next attempt {}", seconds(next)));
        let (since, next) = (since.unwrap_or_default(), next.unwrap_or_default());
        lines.push(format!("{} failed attempts{since}{next}", status.failures));
    }
    let last = status.last_attempt.as_ref();
    lines.extend(last.map(|last| format!("last attempt {}: {}", seconds(&last.attempted_at), outcome(last))));
    lines
}

fn seconds(time: &chrono::DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn outcome(attempt: &AttemptBody) -> String {
    match (&attempt.error, attempt.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("delivered, {status}"),
        (None, None) => "delivered".to_owned(),
    }
}

/// The command `subscription deliveries`.
#[derive(Debug, clap::Args)]
pub struct Deliveries {
    /// The name of the subscription
    #[arg(value_name = "NAME", value_parser = SubscriptionName::parse)]
    name: SubscriptionName,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Deliveries {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let body = client.get(client.url(&["subscriptions", self.name.as_str(), "deliveries"])).await?;
        self.output.print(&body, || Ok(render_attempts(&read(&body)?)))
    }
}

fn render_attempts(body: &AttemptsBody) -> Report {
    let columns = [
        column("time", 0),
        column("position", 0),
        column("milliseconds", 1),
        column("outcome", 0),
        wide_column("status"),
    ];
    let table = Table::new(columns).if_empty("no attempts").named_by("position");
    Report::default().with_table(table.with_rows(body.deliveries.iter().map(attempt_row)))
}

fn attempt_row(attempt: &AttemptBody) -> [Cell; 5] {
    [
        attempt.attempted_at.into(),
        attempt.position.into(),
        attempt.duration_ms.into(),
        outcome(attempt).into(),
        attempt.status.map(u64::from).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_attempts_are_tables_that_fit_a_terminal() {
        let body = r#"{"position":9,"subscriptions":[
            {"subscription":"chat","url":"https://hooks.example/ledger","secret":"chat","created_position":3,
             "settings_position":5,"filter":{"environment":"production","types":["deploy.succeeded"]},
             "disabled":{"position":9}},
            {"subscription":"dashboard","url":"https://dashboard.example/in","secret":"board","created_position":4,
             "settings_position":4,"filter":{}}]}"#;
        let list = render_list(&read(body.as_bytes()).expect("a body"));
        list.check_fits();
        assert_eq!(
            list.to_string(),
            "name       url                           secret  selects                       status\n\
             chat       https://hooks.example/ledger  chat    production: deploy.succeeded  disabled\n\
             dashboard  https://dashboard.example/in  board   everything                    enabled"
        );
        let body = r#"{"deliveries":[
            {"position":8,"attempted_at":"2026-08-01T12:00:03Z","duration_ms":31,"status":410,"error":"410 Gone: no"},
            {"position":7,"attempted_at":"2026-08-01T12:00:01Z","duration_ms":5,"status":204}]}"#;
        let attempts = render_attempts(&read(body.as_bytes()).expect("a body"));
        attempts.check_fits();
        assert_eq!(
            attempts.to_string(),
            "time                  position  milliseconds  outcome\n\
             2026-08-01T12:00:03Z  8         31            410 Gone: no\n\
             2026-08-01T12:00:01Z  7         5             delivered, 204"
        );
    }

    #[test]
    fn a_subscription_is_shown_with_its_filter_and_its_deliveries() {
        let body = r#"{"subscription":"chat","url":"https://hooks.example/","secret":"chat","created_position":3,"settings_position":5,
            "filter":{"environment":"production","types":["deploy.succeeded"]},
            "disabled":{"position":9,"reason":"the receiver answered 410"},
            "delivery":{"delivered_position":7,"failures":2,"failing_since":"2026-08-01T12:00:00Z",
                "pending":{"position":8,"recorded_at":"2026-08-01T11:59:00Z"},
                "last_attempt":{"position":8,"attempted_at":"2026-08-01T12:00:03Z","status":410,"error":"gone"}}}"#;
        assert_eq!(
            render_subscription(&read(body.as_bytes()).expect("a body")),
            "chat to https://hooks.example/\n\
             selects production: deploy.succeeded, signed with secret chat\n\
             disabled at position 9: the receiver answered 410\n\
             delivered up to position 7\n\
             next is position 8, recorded 2026-08-01T11:59:00Z\n\
             2 failed attempts since 2026-08-01T12:00:00Z\n\
             last attempt 2026-08-01T12:00:03Z: gone"
        );
    }

    #[test]
    fn a_family_stands_for_its_types_each_of_which_is_sent_once() {
        let parsed = |texts: &[&str]| {
            distinct(texts.iter().map(|text| SelectedKinds::parse(text).expect("a name")).collect())
        };
        assert_eq!(parsed(&["traffic", "traffic.switched"]), [Kind::TrafficSwitched]);
        assert!(parsed(&["deploy", "deploy.failed"]).contains(&Kind::DeployStarted));
        assert!(SelectedKinds::parse("deplo").is_err());
    }

    #[test]
    fn a_filter_without_conditions_selects_everything() {
        let filter = |json: &str| selection(&read(json.as_bytes()).expect("a filter"));
        assert_eq!(filter("{}"), "everything");
        assert_eq!(filter(r#"{"environment":"production","service":"web"}"#), "production/web");
        assert_eq!(
            filter(r#"{"types":["deploy.failed","deploy.removed"]}"#),
            "deploy.failed, deploy.removed"
        );
    }
}
