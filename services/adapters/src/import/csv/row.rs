//! The event of one row.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_codec::cloudevents::Envelope;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::mapping::{Mapping, Member, Outcome};
use crate::translation::{NativeEvent, NotUnderstood, Translation};

/// The parts of a row.
type Fields<'r> = BTreeMap<Member, &'r str>;

/// Translates a row. The pointer of a fault is the name of the member.
pub(super) fn translate(
    fields: &Fields<'_>,
    mapping: &Mapping,
    latest: DateTime<Utc>,
) -> Result<Translation, NotUnderstood> {
    let word = required(fields, Member::Outcome)?;
    let outcome = mapping.outcome(word).map_err(|detail| fault(Member::Outcome, detail))?;
    let Some(outcome) = outcome else {
        return Ok(Translation::Ignored(format!("rows with the outcome {word:?} are ignored")));
    };
    let time = mapping.time_format.parse(required(fields, Member::Time)?);
    let time = time.map_err(|detail| fault(Member::Time, detail))?;
    if time > latest {
        return Err(fault(Member::Time, format!("{time} is in the future")));
    }
    let mut data = lane(fields, mapping)?;
    if let Some(deployment) = fields.get(&Member::Deployment) {
        data.insert("deployment".to_owned(), (*deployment).into());
    }
    if outcome != Outcome::Removed {
        data.insert("release".to_owned(), release(fields)?);
    }
    let id = id(fields, &data, outcome, time);
    if let Some(actor) = fields.get(&Member::Actor) {
        data.insert("actor".to_owned(), json!({ "type": mapping.actor_type, "name": actor }));
    }
    if let Some(reason) = fields.get(&Member::Reason) {
        data.insert("reason".to_owned(), (*reason).into());
    }
    let event = json!({
        "specversion": "1.0",
        "id": id,
        "source": mapping.source.as_str(),
        "type": format!("io.releaseledger.deploy.{}.v1", outcome.verb()),
        "time": time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "datacontenttype": "application/json",
        "data": data,
    });
    accepted(event)
}

/// Returns the event if the ledger accepts it.
fn accepted(event: Value) -> Result<Translation, NotUnderstood> {
    let Value::Object(members) = event else { return Err(NotUnderstood::new("", "the row is no event")) };
    let text = Value::Object(members.clone()).to_string();
    match Envelope::parse(text.as_bytes()) {
        Ok(_) => Ok(Translation::Events(vec![NativeEvent(members)])),
        Err(invalid) => Err(NotUnderstood::new("", invalid.reason.to_string())),
    }
}

fn lane(fields: &Fields<'_>, mapping: &Mapping) -> Result<Map<String, Value>, NotUnderstood> {
    let names = &mapping.names;
    let field = |member| fields.get(&member).copied();
    let mut lane = Map::new();
    let environment = names.environment(field(Member::Environment));
    let environment = environment.map_err(|error| fault(Member::Environment, error.to_string()))?;
    lane.insert("environment".to_owned(), environment.as_str().into());
    let service = names.service(field(Member::Service));
    let service = service.map_err(|error| fault(Member::Service, error.to_string()))?;
    lane.insert("service".to_owned(), service.as_str().into());
    let target = names.target(field(Member::Target));
    if let Some(target) = target.map_err(|error| fault(Member::Target, error.to_string()))? {
        lane.insert("target".to_owned(), target.as_str().into());
    }
    if let Some(slot) = field(Member::Slot) {
        lane.insert("slot".to_owned(), slot.into());
    }
    Ok(lane)
}

fn release(fields: &Fields<'_>) -> Result<Value, NotUnderstood> {
    let mut release = Map::new();
    release.insert("version".to_owned(), required(fields, Member::Version)?.into());
    for member in [Member::Artifact, Member::Config, Member::Infrastructure, Member::Commit] {
        if let Some(field) = fields.get(&member) {
            release.insert(member.name().to_owned(), (*field).into());
        }
    }
    Ok(Value::Object(release))
}

/// Returns the id that the row states, or one of its lane, version, outcome and time. Other parts of a row can be
/// completed later without making another event of it.
fn id(fields: &Fields<'_>, data: &Map<String, Value>, outcome: Outcome, time: DateTime<Utc>) -> String {
    if let Some(id) = fields.get(&Member::Id) {
        // A table may have the start and the end of a deployment under one id.
        return format!("{id}:{}", outcome.verb());
    }
    let part = |name: &str| data.get(name).cloned().unwrap_or_default();
    let version = data.get("release").and_then(|release| release.get("version"));
    let content = json!([
        part("environment"),
        part("service"),
        part("target"),
        part("slot"),
        version,
        outcome.verb(),
        time.to_rfc3339_opts(SecondsFormat::Micros, true),
    ]);
    hex::encode(&Sha256::digest(content.to_string())[..16])
}

fn required<'r>(fields: &Fields<'r>, member: Member) -> Result<&'r str, NotUnderstood> {
    fields.get(&member).copied().ok_or_else(|| fault(member, "is empty, or no column states it"))
}

fn fault(member: Member, detail: impl Into<String>) -> NotUnderstood {
    NotUnderstood::new(member.name(), detail)
}
