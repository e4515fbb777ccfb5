//! What is told of an event besides where, of what and which version: as flags, and as members of its data.

use ledger_domain::{EnvironmentName, Family, Kind, ServiceName, SlotName, TargetName};
use serde_json::{Map, Value, json};

use super::ci::Facts;
use super::release::ReleaseFlags;
use crate::identity;

/// What is told of an event besides where, of what and which version.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Details {
    /// The place inside the environment
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// The slot of the lane
    #[arg(long, value_name = "NAME")]
    slot: Option<SlotName>,
    #[command(flatten)]
    release: ReleaseFlags,
    /// The run that did it
    #[arg(long, value_name = "RUN")]
    deployment: Option<String>,
    /// The rollback that it is a part of
    #[arg(long, value_name = "ID")]
    rollback: Option<String>,
    /// It cannot be undone by deploying the former release
    #[arg(long)]
    irreversible: bool,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who or what did it: `person:ada`, `workload:ci`
    #[arg(long, value_name = "TYPE:NAME", value_parser = actor)]
    actor: Option<Value>,
    /// Where to read more: `pipeline=https://…`; may be given several times
    #[arg(long = "link", value_name = "REL=HREF", value_parser = link)]
    links: Vec<Value>,
    /// Who tells it: a URI-reference [default: release-ledger-cli]
    #[arg(long, value_name = "URI")]
    source: Option<String>,
}

/// What an event is about, as far as that is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
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

impl Details {
    /// The same, and what is not told by a flag as the CI tells it.
    pub(super) fn or(mut self, facts: Facts) -> Self {
        self.deployment = self.deployment.or(facts.deployment);
        self.release = self.release.or_commit(facts.commit);
        self.actor = self.actor.or_else(|| facts.actor.as_ref().map(super::actor::body));
        if self.links.is_empty() {
            self.links.extend(facts.pipeline.map(|href| json!({"rel": "pipeline", "href": href})));
        }
        self
    }

    pub(super) const fn has_reason(&self) -> bool {
        self.reason.is_some()
    }

    /// The members of the data of an event of this family.
    pub(super) fn members(&self, family: Family, about: About<'_>) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let release = self.release.members(about.version);
        let mut members = match family {
            // An artifact is what it is about, and not a part of a release.
            Family::Artifact => release,
            _ if release.is_empty() => Map::new(),
            _ => Map::from_iter([("release".to_owned(), Value::Object(release))]),
        };
        let name = |value: Option<&str>| value.map(Value::from);
        let others = [
            ("environment", name(about.environment.map(EnvironmentName::as_str))),
            ("service", name(about.service.map(ServiceName::as_str))),
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

    /// The CloudEvent of a kind, not judged yet. Without an id it gets one that no other has.
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
