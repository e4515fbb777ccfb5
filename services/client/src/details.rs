//! Optional flags of an event, and the members of its data that they set.

use ledger_domain::event::Actor;
use ledger_domain::{EnvironmentName, Family, Kind, ServiceName, ShortText, SlotName, TargetName};
use serde_json::{Map, Value, json};

use super::actor;
use super::ci::CiContext;
use super::compose::Attributes;
use super::invalid::InvalidArgument;
use super::release::ReleaseFlags;

/// Flags of every event: why, who and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct OriginFlags {
    /// The reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The actor: a person's name, or TYPE:NAME such as workload:ci
    #[arg(long, alias = "by", value_name = "NAME|TYPE:NAME", value_parser = actor::parse)]
    actor: Option<Actor>,
    /// A link to more information: `pipeline=https://…`; may be given several times
    #[arg(long = "link", value_name = "REL=HREF", value_parser = link)]
    links: Vec<Value>,
    /// The event's source: a URI-reference [default: the CI's project, or release-ledger-cli]
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// The id that events with a common cause share, such as those of one pipeline [default: the run of the CI]
    #[arg(long, value_name = "ID", value_parser = ShortText::parse)]
    correlation: Option<ShortText>,
}

/// Optional flags of an event, besides environment, service and version.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct DetailFlags {
    /// The target within the environment
    #[arg(long, value_name = "NAME")]
    pub(super) target: Option<TargetName>,
    /// The slot of the lane
    #[arg(long, value_name = "NAME")]
    pub(super) slot: Option<SlotName>,
    #[command(flatten)]
    pub(super) release: ReleaseFlags,
    /// The release was not built from the commit of the CI's run
    #[arg(long, conflicts_with = "commit")]
    pub(super) no_commit: bool,
    /// The deployment: the id of the CI's run
    #[arg(long, value_name = "RUN")]
    pub(super) deployment: Option<String>,
    /// The rollback that the event belongs to
    #[arg(long, value_name = "ID")]
    pub(super) rollback: Option<String>,
    /// The deploy cannot be undone by deploying the previous release
    #[arg(long)]
    pub(super) irreversible: bool,
    #[command(flatten)]
    pub(super) origin: OriginFlags,
}

/// The subject of an event: environment, service and version, each if given.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventSubject<'a> {
    pub(super) environment: Option<&'a EnvironmentName>,
    pub(super) service: Option<&'a ServiceName>,
    pub(super) version: Option<&'a str>,
}

fn link(text: &str) -> Result<Value, &'static str> {
    let (rel, href) =
        text.split_once('=').ok_or("must be REL=HREF, such as pipeline=https://ci.example/1")?;
    Ok(json!({"rel": rel, "href": href}))
}

impl OriginFlags {
    /// Fills in metadata of the CI where no flag is given.
    pub(super) fn or(mut self, ci: &CiContext) -> Self {
        self.actor = self.actor.or_else(|| ci.actor.clone());
        if self.links.is_empty() {
            let pipeline = ci.pipeline.iter();
            self.links.extend(pipeline.map(|href| json!({"rel": "pipeline", "href": href})));
        }
        self.source = self.source.or_else(|| ci.source.clone());
        self.correlation = self.correlation.or_else(|| ShortText::parse(ci.correlation.as_deref()?).ok());
        self
    }

    /// Returns the attributes of the event, with its id and its time.
    pub(super) fn attributes<'a>(&'a self, id: Option<&'a str>, time: Option<&'a str>) -> Attributes<'a> {
        let correlation = self.correlation.as_ref().map(ShortText::as_str);
        Attributes { id, time, source: self.source.as_deref(), correlation }
    }

    /// Uses the user who runs the command if neither a flag nor the CI names the actor.
    ///
    /// # Errors
    /// There is no user, or the name is not that of an actor.
    pub(super) fn or_user(mut self, user: Option<String>) -> anyhow::Result<Self> {
        if self.actor.is_none() {
            let missing =
                || InvalidArgument::new("no actor given and no user in the environment; set --actor");
            let user = user.ok_or_else(missing)?;
            self.actor = Some(actor::parse(&format!("person:{user}"))?);
        }
        Ok(self)
    }

    /// Returns the members that are given.
    pub(super) fn members(&self) -> Map<String, Value> {
        let others = [
            ("reason", self.reason.clone().map(Value::String)),
            ("actor", self.actor.as_ref().map(actor::body)),
            ("links", (!self.links.is_empty()).then(|| Value::Array(self.links.clone()))),
        ];
        others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Returns true for events that the run of a CI causes, and that have its name. A check names the deployment that it
/// checks instead.
const fn has_deployment(kind: Kind) -> bool {
    matches!(kind.family(), Family::Deploy | Family::Traffic)
}

/// Returns true for events with a release, or an artifact, that is built from the commit of the CI's run.
const fn has_commit(kind: Kind) -> bool {
    matches!(kind, Kind::DeployStarted | Kind::DeploySucceeded | Kind::DeployFailed | Kind::ArtifactBuilt)
}

impl DetailFlags {
    /// Fills in metadata of the CI where no flag is given, as far as events of this kind have it. The release of a
    /// rollback's step is that of the plan, and not built from the commit of the run.
    pub(super) fn or(mut self, ci: &CiContext, kind: Kind) -> Self {
        if has_deployment(kind) {
            self.deployment = self.deployment.or_else(|| ci.deployment.clone());
        }
        if has_commit(kind) && self.rollback.is_none() && !self.no_commit {
            self.release = self.release.or_commit(ci.commit.clone());
        }
        self.origin = self.origin.or(ci);
        self
    }

    pub(super) const fn has_reason(&self) -> bool {
        self.origin.reason.is_some()
    }

    /// Returns the members of the data of an event of this family.
    pub(super) fn members(&self, family: Family, subject: EventSubject<'_>) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let release = self.release.members(subject.version);
        let mut members = match family {
            // The artifact is the subject of the event, and not a part of a release.
            Family::Artifact => release,
            _ if release.is_empty() => Map::new(),
            _ => Map::from_iter([("release".to_owned(), Value::Object(release))]),
        };
        let name = |value: Option<&str>| value.map(Value::from);
        let others = [
            ("environment", name(subject.environment.map(EnvironmentName::as_str))),
            ("service", name(subject.service.map(ServiceName::as_str))),
            ("target", name(self.target.as_ref().map(TargetName::as_str))),
            ("slot", name(self.slot.as_ref().map(SlotName::as_str))),
            ("deployment", text(&self.deployment)),
            ("rollback_id", text(&self.rollback)),
            ("reversible", self.irreversible.then_some(Value::Bool(false))),
        ];
        members.extend(self.origin.members());
        members.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        members
    }
}
