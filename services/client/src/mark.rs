//! `release-ledger mark` and `unmark`: a person's word on a release point.

use clap::ValueEnum;
use ledger_domain::event::{Mark, MarkedStatus, Payload, ReleasePointId};
use ledger_domain::{EnvironmentName, LongText, PointSelector, Position, ShortText};
use serde_json::json;

use super::actor::By;
use super::connection::{Client, Connection};
use super::output::show_either;
use super::points::OnePointBody;
use super::query::{head, read, with};
use super::report::tell;

/// Call a release point known good, or bad
///
/// A person's word outranks the environment's policy, until it is taken back.
#[derive(Debug, clap::Args)]
pub struct MarkPoint {
    #[command(flatten)]
    place: Place,
    /// What it is called
    #[arg(long = "as", value_enum, value_name = "STATUS")]
    status: Word,
    /// A name to find it by, as point:NAME
    #[arg(long, value_name = "NAME", value_parser = ShortText::parse)]
    name: Option<ShortText>,
    #[command(flatten)]
    saying: Saying,
}

/// Take back what a release point is called
#[derive(Debug, clap::Args)]
pub struct UnmarkPoint {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    saying: Saying,
}

/// Which point.
#[derive(Debug, clap::Args)]
struct Place {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The point: `latest`, `last-known-good`, `point:NAME`, a position, an RFC 3339 time, or -N for N
    /// changes ago
    #[arg(value_name = "POINT", allow_hyphen_values = true, value_parser = PointSelector::parse)]
    point: PointSelector,
}

/// Who says it, why, and to whom.
#[derive(Debug, clap::Args)]
struct Saying {
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    #[command(flatten)]
    by: By,
    /// Print {"environment":…,"point":POSITION,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What a point may be called.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Word {
    /// It may be rolled back to.
    #[value(alias = "known_good")]
    KnownGood,
    /// It must not be rolled back to.
    Bad,
}

impl MarkPoint {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such point, or the service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let status = match self.status {
            Word::KnownGood => MarkedStatus::KnownGood,
            Word::Bad => MarkedStatus::Bad,
        };
        let name = self.name;
        let payload = |point| Payload::ReleasePointMarked(Mark { point, status, name });
        self.saying.say(&self.place, payload, "is marked").await
    }
}

impl UnmarkPoint {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such point, it is not marked, or the service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        self.saying.say(&self.place, Payload::ReleasePointRevoked, "is not marked any more").await
    }
}

impl Saying {
    async fn say(
        self,
        place: &Place,
        payload: impl FnOnce(ReleasePointId) -> Payload,
        done: &str,
    ) -> anyhow::Result<()> {
        let client = self.connection.client();
        let point = place.find(&client).await?;
        let position = tell(&client, payload(point.clone()), &self.by.actor()?, Some(self.reason)).await?;
        let ReleasePointId { environment, position: at } = point;
        let text = if self.json {
            json!({"environment": environment.as_str(), "point": at.get(), "position": position}).to_string()
        } else {
            format!("the point of {environment} at position {at} {done} (position {position})")
        };
        Ok(show_either(self.json, &text)?)
    }
}

impl Place {
    async fn find(&self, client: &Client) -> anyhow::Result<ReleasePointId> {
        let point = self.point.to_string();
        let url = client.url(&["environments", self.environment.as_str(), "points", &point]);
        let url = with(url, "wait_for", Some(head(client).await?));
        let body: OnePointBody = read(&client.get(url).await?)?;
        Ok(ReleasePointId {
            environment: EnvironmentName::parse(&body.environment)?,
            position: Position::new(body.point.position),
        })
    }
}
