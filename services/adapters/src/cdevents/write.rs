//! Events of the ledger as CDEvents of specification 0.5.1.
//!
//! An event that means the same in CDEvents has a type of the specification. Every other has a custom type,
//! `dev.cdeventsx.releaseledger-…`, with the event's data as its content: an emptied slot is not a removed service, and
//! a correction is not another deploy.

use chrono::SecondsFormat;
use ledger_codec::cloudevents::{Envelope, TIME_OF_ARRIVAL};
use ledger_domain::event::{Actor, Built, Deploy, Incident, Removal, Switch, Validation, ValidationSubject};
use ledger_domain::{
    Artifact, ConfigDigest, Event, Identity, Kind, LaneRef, LongText, Payload, Position, Release,
    ServiceName, ShortText, SlotName, TargetName,
};
use serde_json::{Map, Value, json};

use super::catalog;
use super::schema::Spec;
use crate::uri;

/// The specification of what is written.
pub(super) const SPEC: Spec = Spec::V0_5;
/// The key of `customData` with the ledger's own data.
pub(super) const LEDGER_KEY: &str = "releaseLedger";
/// The member of the ledger's own data with the attributes of the event that are not in the context.
pub(super) const ATTRIBUTES: &str = "attributes";
/// The attributes of an event that follow from the context of its CDEvent.
pub(super) const IN_CONTEXT: [&str; 5] = ["specversion", "id", "source", "type", "datacontenttype"];
/// The start of the names of the ledger's custom types.
pub(super) const CUSTOM_NAME: &str = "releaseledger-";

/// A form of the specification: the type's name, the subject's id and content, and data for other readers.
struct Form {
    name: &'static str,
    subject_id: String,
    content: Value,
    custom: Map<String, Value>,
}

/// Returns an event as a CDEvent of specification 0.5.1. `customData.releaseLedger` has the event's type, its position,
/// its data and its other attributes, as its sender wrote them, so that [`super::read`] gives the same event again.
#[must_use]
pub fn write(envelope: &Envelope, position: Position) -> Value {
    let (identity, event) = (envelope.identity(), envelope.event());
    let timestamp = envelope.occurred_at().to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let (attributes, data) = native(envelope, &timestamp);
    let mut own = Map::new();
    own.insert("type".to_owned(), json!(event.payload.kind().event_type()));
    own.insert("position".to_owned(), json!(position.get()));
    own.insert(ATTRIBUTES.to_owned(), Value::Object(attributes));
    let standard = form(identity, event)
        .and_then(|form| catalog::full_name(form.name, SPEC).map(|full_name| (full_name, form)));
    let (full_name, subject_id, content, mut custom) = match standard {
        Some((full_name, form)) => {
            own.insert("data".to_owned(), data);
            (full_name, form.subject_id, form.content, form.custom)
        }
        None => (custom_type(event.payload.kind()), subject_id(identity, &event.payload), data, Map::new()),
    };
    custom.insert(LEDGER_KEY.to_owned(), Value::Object(own));
    let links = envelope.causation().map(|id| json!([{ "linkType": "PATH", "from": { "contextId": id } }]));
    let context = Keys::default()
        .text("specversion", Some(&SPEC.to_string()))
        .text("id", Some(identity.id.as_str()))
        .text("source", Some(&uri::encode(identity.source.as_str())))
        .text("type", Some(&full_name))
        .text("timestamp", Some(&timestamp))
        .text("chainId", envelope.correlation().filter(|id| is_chain_id(id)))
        .object("links", links);
    json!({
        "context": context.0,
        "subject": { "id": subject_id, "content": content },
        "customData": custom,
        "customDataContentType": "application/json",
    })
}

/// Returns the attributes of an event that are not in the context of its CDEvent, and its data: both as its sender wrote
/// them. A time is among them if the sender wrote it in another form than the timestamp.
fn native(envelope: &Envelope, timestamp: &str) -> (Map<String, Value>, Value) {
    let mut attributes: Map<String, Value> = serde_json::from_slice(envelope.bytes()).unwrap_or_default();
    let data = attributes.remove("data").unwrap_or_else(|| json!({}));
    let has_own_time = !attributes.contains_key(TIME_OF_ARRIVAL);
    attributes.retain(|name, value| match name.as_str() {
        TIME_OF_ARRIVAL => true,
        "time" => has_own_time && value.as_str() != Some(timestamp),
        name => !name.starts_with("ledger") && !IN_CONTEXT.contains(&name),
    });
    (attributes, data)
}

/// Returns true for an id that the specification allows for a chain: a UUID of version 4.
fn is_chain_id(id: &str) -> bool {
    let is_right = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        19 => b"89abAB".contains(&byte),
        _ => byte.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(is_right)
}

/// Returns the custom type of a kind: `dev.cdeventsx.releaseledger-deploy.failed.0.1.0`. Its words have letters only.
pub(super) fn custom_type(kind: Kind) -> String {
    format!("dev.cdeventsx.{CUSTOM_NAME}{}.0.1.0", kind.name().replace('_', ""))
}

/// Returns the subject of an event without a form of the specification: its lane, its environment, or its identity.
fn subject_id(identity: &Identity, payload: &Payload) -> String {
    let lane = payload.lane().map(LaneRef::to_string);
    let place = lane.or_else(|| payload.environment().map(ToString::to_string));
    place.unwrap_or_else(|| identity.id.as_str().to_owned())
}

fn form(identity: &Identity, event: &Event) -> Option<Form> {
    if event.corrects.is_some() {
        return None;
    }
    let form = match &event.payload {
        Payload::ArtifactBuilt(built) => built_artifact(built)?,
        Payload::DeploySucceeded(deploy) => deployed(deploy),
        Payload::DeployRemoved(removal) if removal.slot.is_none() => removed(removal),
        Payload::TrafficSwitched(switch) => switched(switch),
        Payload::ValidationStarted(it) => test_suite_run("testsuiterun.started", None, it, identity)?,
        Payload::ValidationPassed(it) => {
            test_suite_run("testsuiterun.finished", Some("success"), it, identity)?
        }
        Payload::ValidationFailed(it) => {
            test_suite_run("testsuiterun.finished", Some("failure"), it, identity)?
        }
        Payload::EnvironmentRetired(environment) => Form {
            name: "environment.deleted",
            subject_id: environment.to_string(),
            content: json!({ "name": environment.as_str() }),
            custom: Map::new(),
        },
        Payload::IncidentOpened(opening) => {
            let title = opening.title.as_ref().map(ShortText::as_str);
            let severity = opening.severity.as_ref().map(ShortText::as_str);
            incident("incident.detected", &opening.incident, title, severity)
        }
        Payload::IncidentResolved(it) => incident("incident.resolved", it, None, None),
        _ => return None,
    };
    let custom = Keys(form.custom)
        .object("actor", event.actor.as_ref().map(actor))
        .text("reason", event.reason.as_ref().map(LongText::as_str));
    Some(Form { custom: custom.0, ..form })
}

fn actor(actor: &Actor) -> Value {
    json!({ "type": actor.kind.as_str(), "name": actor.name.as_str() })
}

/// The keys of `customData`.
#[derive(Default)]
struct Keys(Map<String, Value>);

impl Keys {
    fn object(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn text(self, name: &str, value: Option<&str>) -> Self {
        self.object(name, value.map(Value::from))
    }

    fn target(self, lane: &LaneRef) -> Self {
        self.text("target", lane.target.as_ref().map(TargetName::as_str))
    }

    fn release(self, release: &Release) -> Self {
        self.text("version", Some(release.version.as_str()))
            .text("commit", release.commit.as_ref().map(ShortText::as_str))
            .text("configDigest", release.config.as_ref().map(ConfigDigest::as_str))
    }

    fn run(self, slot: Option<&SlotName>, deployment: Option<&ShortText>) -> Self {
        self.text("slot", slot.map(SlotName::as_str)).text("deploymentId", deployment.map(ShortText::as_str))
    }
}

/// Returns the form of a build; `None` without a commit, since the type requires a change.
fn built_artifact(built: &Built) -> Option<Form> {
    let commit = built.commit.as_ref()?;
    let custom = Keys::default()
        .text("commit", Some(commit.as_str()))
        .text("version", built.version.as_ref().map(ShortText::as_str));
    Some(Form {
        name: "artifact.packaged",
        subject_id: built.artifact.as_str().to_owned(),
        content: json!({ "change": { "id": commit.as_str() } }),
        custom: custom.0,
    })
}

fn deployed(deploy: &Deploy) -> Form {
    let artifact = deploy.release.artifact.as_ref().map(Artifact::as_str);
    Form {
        name: if deploy.rollback_id.is_some() { "service.rolledback" } else { "service.deployed" },
        subject_id: deploy.lane.service.to_string(),
        content: json!({
            "environment": { "id": deploy.lane.environment.as_str() },
            "artifactId": artifact.unwrap_or(deploy.release.version.as_str()),
        }),
        custom: Keys::default()
            .target(&deploy.lane)
            .release(&deploy.release)
            .run(deploy.slot.as_ref(), deploy.deployment.as_ref())
            .0,
    }
}

fn removed(removal: &Removal) -> Form {
    Form {
        name: "service.removed",
        subject_id: removal.lane.service.to_string(),
        content: json!({ "environment": { "id": removal.lane.environment.as_str() } }),
        custom: Keys::default().target(&removal.lane).run(None, removal.deployment.as_ref()).0,
    }
}

fn switched(switch: &Switch) -> Form {
    let custom = Keys::default().target(&switch.lane).run(Some(&switch.slot), switch.deployment.as_ref());
    Form {
        name: "service.published",
        subject_id: switch.lane.service.to_string(),
        content: json!({ "environment": { "id": switch.lane.environment.as_str() } }),
        custom: custom.0,
    }
}

fn incident(name: &'static str, incident: &Incident, title: Option<&str>, severity: Option<&str>) -> Form {
    let service = incident.service.as_ref().map(ServiceName::as_str);
    let content = Keys::default()
        .object("environment", Some(json!({ "id": incident.environment.as_str() })))
        .object("service", service.map(|service| json!({ "id": service })))
        .text("description", title);
    let custom = Keys::default()
        .text("target", incident.target.as_ref().map(TargetName::as_str))
        .text("severity", severity);
    Form {
        name,
        subject_id: incident.incident_id.as_str().to_owned(),
        content: Value::Object(content.0),
        custom: custom.0,
    }
}

/// Returns the form of a check; `None` for a check of an artifact, since the type requires an environment.
fn test_suite_run(
    name: &'static str,
    outcome: Option<&str>,
    validation: &Validation,
    identity: &Identity,
) -> Option<Form> {
    let (environment, custom) = match &validation.subject {
        ValidationSubject::Artifact(_) => return None,
        ValidationSubject::Environment(environment) => (environment, Keys::default()),
        ValidationSubject::Lane { lane, release, deployment } => {
            let keys = Keys::default().target(lane).text("service", Some(lane.service.as_str()));
            let keys = keys.run(None, deployment.as_ref());
            (&lane.environment, release.iter().fold(keys, |keys, release| keys.release(release)))
        }
    };
    let check = validation.check.as_str();
    let content = Keys::default()
        .object("environment", Some(json!({ "id": environment.as_str() })))
        .object("testSuite", Some(json!({ "id": check, "name": check })))
        .text("outcome", outcome);
    Some(Form {
        name,
        subject_id: validation.run.as_ref().map_or(identity.id.as_str(), ShortText::as_str).to_owned(),
        content: Value::Object(content.0),
        custom: custom.0,
    })
}
