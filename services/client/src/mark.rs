//! `release-ledger mark` and `unmark`: marks of persons on release points.

use clap::ValueEnum;
use ledger_api_types::PointDetailBody;
use ledger_domain::event::{Mark, MarkedStatus, Payload, ReleasePointId};
use ledger_domain::{EnvironmentName, LongText, Position, ShortText};
use serde_json::json;

use super::author::ActorArgs;
use super::connection::{Client, Connection};
use super::output::print_json_or_text;
use super::point_arg::{self, PointSpec};
use super::query::{head, read, with_param};
use super::record::record_new;

/// Mark a release point as known good, or as bad
///
/// A mark outranks the environment's policy until it is removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  release-ledger mark production -1 --as bad --reason 'It loses orders.'")]
pub struct MarkPoint {
    #[command(flatten)]
    point: PointArgs,
    /// The status
    #[arg(long = "as", value_enum, value_name = "STATUS")]
    status: MarkStatus,
    /// A name for the point, to select it by; not a text that would be taken for another point or a time
    #[arg(long, value_name = "NAME", value_parser = ShortText::parse_point_name)]
    name: Option<ShortText>,
    #[command(flatten)]
    args: MarkArgs,
}

/// Remove the mark of a release point
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  release-ledger unmark production 4711 --reason 'It was the load balancer.'")]
pub struct UnmarkPoint {
    #[command(flatten)]
    point: PointArgs,
    #[command(flatten)]
    args: MarkArgs,
}

/// The release point to mark.
#[derive(Debug, clap::Args)]
struct PointArgs {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The point: `latest`, `last-known-good`, a point's name, a position, a time, a time ago such as 2h, or -N for N
    /// changes ago
    #[arg(value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse)]
    point: PointSpec,
}

/// Flags that both commands take.
#[derive(Debug, clap::Args)]
struct MarkArgs {
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    #[command(flatten)]
    by: ActorArgs,
    /// Print {"environment":…,"point":POSITION,"position":N}
    #[arg(long)]
    json: bool,
    /// Print nothing if the mark is recorded
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The status that a mark sets.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum MarkStatus {
    /// The point is a valid target of rollbacks.
    #[value(alias = "known_good")]
    KnownGood,
    /// The point must not be a target of rollbacks.
    Bad,
}

impl MarkPoint {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such point, or the service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let status = match self.status {
            MarkStatus::KnownGood => MarkedStatus::KnownGood,
            MarkStatus::Bad => MarkedStatus::Bad,
        };
        let name = self.name;
        let payload = |point| Payload::ReleasePointMarked(Mark { point, status, name });
        self.args.record(&self.point, payload, "is marked").await
    }
}

impl UnmarkPoint {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such point, it is not marked, or the service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        self.args.record(&self.point, Payload::ReleasePointRevoked, "is no longer marked").await
    }
}

impl MarkArgs {
    async fn record(
        self,
        selector: &PointArgs,
        payload: impl FnOnce(ReleasePointId) -> Payload,
        result: &str,
    ) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let point = selector.resolve(&client).await?;
        let author = self.by.author()?;
        let position = record_new(&client, payload(point.clone()), &author, Some(self.reason)).await?;
        if self.quiet {
            return Ok(());
        }
        let ReleasePointId { environment, position: at } = point;
        let text = if self.json {
            json!({"environment": environment.as_str(), "point": at.get(), "position": position}).to_string()
        } else {
            format!("the point of {environment} at position {at} {result} (position {position})")
        };
        Ok(print_json_or_text(self.json, &text)?)
    }
}

impl PointArgs {
    async fn resolve(&self, client: &Client) -> anyhow::Result<ReleasePointId> {
        let point = self.point.of(&self.environment)?.to_string();
        let url = client.url(&["environments", self.environment.as_str(), "points", &point]);
        let url = with_param(url, "wait_for", Some(head(client).await?));
        let body: PointDetailBody = read(&client.get(url).await?)?;
        Ok(ReleasePointId {
            environment: EnvironmentName::parse(&body.environment)?,
            position: Position::new(body.point.position),
        })
    }
}
