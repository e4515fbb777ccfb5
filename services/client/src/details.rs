//! Optional flags of an event, and the members of its data that they set.

use ledger_domain::{EnvironmentName, Family, Kind, ServiceName, SlotName, TargetName};
use serde_json::{Map, Value, json};

use super::ci::CiContext;
use super::release::ReleaseFlags;
use crate::identity;

/// Optional flags of an event, besides environment, service and version.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct DetailFlags {
    /// The target within the environment
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// The slot of the lane
    #[arg(long, value_name = "NAME")]
    slot: Option<SlotName>,
    #[command(flatten)]
    release: ReleaseFlags,
    /// The deployment: the id of the CI's run
    #[arg(long, value_name = "RUN")]
    deployment: Option<String>,
    /// The rollback that the event belongs to
    #[arg(long, value_name = "ID")]
    rollback: Option<String>,
    /// The deploy cannot be undone by deploying the previous release
    #[arg(long)]
    irreversible: bool,
    /// The reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The actor: `person:ada`, `workload:ci`
    #[arg(long, value_name = "TYPE:NAME", value_parser = actor)]
    actor: Option<Value>,
    /// A link to more information: `pipeline=https://…`; may be given several times
    #[arg(long = "link", value_name = "REL=HREF", value_parser = link)]
    links: Vec<Value>,
    /// The event's source: a URI-reference [default: release-ledger-cli]
    #[arg(long, value_name = "URI")]
    source: Option<String>,
}

/// The subject of an event: environment, service and version, each if given.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventSubject<'a> {
    pub(super) environment: Option<&'a EnvironmentName>,
    pub(super) service: Option<&'a ServiceName>,
    pub(super) version: Option<&'a str>,
}

fn actor(text: &str) -> Result<Value, &'static str> {
    let (kind, name) = text.split_once(':').ok_or("must be TYPE:NAME, such as person:ada")?;
    Ok(json!({"type": kind, "name": name}))
}

fn link(text: &str) -> Result<Value, &'static str> {
    let (rel, href) =
        text.split_once('=').ok_or("must be REL=HREF, such as pipeline=https://ci.example/1")?;
    Ok(json!({"rel": rel, "href": href}))
}

impl DetailFlags {
    /// Fills in metadata of the CI where no flag is given.
    pub(super) fn or(mut self, ci: CiContext) -> Self {
        self.deployment = self.deployment.or(ci.deployment);
        self.release = self.release.or_commit(ci.commit);
        self.actor = self.actor.or_else(|| ci.actor.as_ref().map(super::actor::body));
        if self.links.is_empty() {
            self.links.extend(ci.pipeline.map(|href| json!({"rel": "pipeline", "href": href})));
        }
        self
    }

    pub(super) const fn has_reason(&self) -> bool {
        self.reason.is_some()
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
            ("reason", text(&self.reason)),
            ("actor", self.actor.clone()),
            ("links", (!self.links.is_empty()).then(|| Value::Array(self.links.clone()))),
        ];
        members.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        members
    }

    /// Returns the CloudEvent of a kind, not validated yet; with a new id if none is given.
    pub(super) fn event(
        &self,
        kind: Kind,
        id: Option<&str>,
        time: &str,
        data: Map<String, Value>,
    ) -> serde_json::Result<Vec<u8>> {
        let event = json!({
            "specversion": "1.0",
            "id": id.map_or_else(identity::new_id, str::to_owned),
            "source": self.source.as_deref().unwrap_or(identity::SOURCE),
            "type": kind.event_type(),
            "time": time,
            "datacontenttype": "application/json",
            "data": data,
        });
        serde_json::to_vec(&event)
    }
}
