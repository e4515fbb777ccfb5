//! `release-ledger switch` and `remove`: reports about a lane without a new release.

use ledger_domain::{EnvironmentName, Kind, ServiceName, SlotName, TargetName};

use super::ci::CiFlags;
use super::compose::{Places, compose_event};
use super::details::{DetailFlags, EventSubject, OriginFlags};
use super::session::ReportArgs;

/// The arguments of the members that these commands set.
const PLACES: &Places = &[("/data/environment", "ENVIRONMENT"), ("/data/service", "SERVICE")];

/// Report that traffic was switched to another slot
///
/// The slot becomes live, and no other slot of the lane. In a CI, its variables provide --deployment, --actor,
/// --link pipeline=… and --source; with --id, only --source. A report that does not reach the ledger is spooled, as by
/// `emit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  release-ledger switch production web green")]
pub struct Switch {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// The slot that is live now
    #[arg(value_name = "SLOT")]
    slot: SlotName,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Report that a service, or one of its slots, was removed
///
/// In a CI, its variables provide --deployment, --actor, --link pipeline=… and --source; with --id, only --source. A
/// report that does not reach the ledger is spooled, as by `emit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger remove production web
  release-ledger remove production web --slot blue")]
pub struct Remove {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// The slot [default: the whole lane]
    #[arg(long, value_name = "NAME")]
    slot: Option<SlotName>,
    #[command(flatten)]
    change: ChangeFlags,
}

/// Flags that both commands take.
#[derive(Debug, clap::Args)]
struct ChangeFlags {
    /// The target within the environment
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// The deployment: the id of the CI's run
    #[arg(long, value_name = "RUN")]
    deployment: Option<String>,
    /// The rollback that the event belongs to
    #[arg(long, value_name = "ID")]
    rollback: Option<String>,
    #[command(flatten)]
    origin: OriginFlags,
    /// The time at which it happened, in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// The event's id, unique within its source; sent again with the same id, an event is recorded once
    /// [default: a new id]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    ci: CiFlags,
    #[command(flatten)]
    sending: ReportArgs,
}

impl Switch {
    /// Runs the command.
    ///
    /// # Errors
    /// The event is invalid, rejected, or neither recorded nor spooled.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { environment, service, slot, change } = self;
        change.report(Kind::TrafficSwitched, &environment, &service, Some(slot)).await
    }
}

impl Remove {
    /// Runs the command.
    ///
    /// # Errors
    /// The event is invalid, rejected, or neither recorded nor spooled.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { environment, service, slot, change } = self;
        change.report(Kind::DeployRemoved, &environment, &service, slot).await
    }
}

impl ChangeFlags {
    async fn report(
        self,
        kind: Kind,
        environment: &EnvironmentName,
        service: &ServiceName,
        slot: Option<SlotName>,
    ) -> anyhow::Result<()> {
        let ci = if self.id.is_some() { self.ci.constant_context()? } else { self.ci.context()? };
        let details = DetailFlags {
            target: self.target,
            slot,
            deployment: self.deployment,
            rollback: self.rollback,
            origin: self.origin,
            ..DetailFlags::default()
        };
        let details = details.or(&ci, kind);
        let subject = EventSubject { environment: Some(environment), service: Some(service), version: None };
        let data = details.members(kind.family(), subject);
        let attributes = details.origin.attributes(self.id.as_deref(), self.time.as_deref());
        let event = compose_event(kind, attributes, data, PLACES)?;
        self.sending.send(&event).await
    }
}
