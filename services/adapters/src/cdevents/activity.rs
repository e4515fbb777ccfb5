//! Events without an effect on lanes, checks or rollbacks. Their details inform: what cannot be used is left out.

use ledger_domain::{Artifact, TargetName};

use super::custom_data::NamedActor;
use super::message::Message;
use super::native::{Data, Native};
use super::settings::Settings;
use crate::text::line;

/// The members of the content that hold an address, with the relation of a link to it.
const ADDRESSES: &[(&str, &[&str])] = &[
    ("page", &["uri"]),
    ("page", &["url"]),
    ("view", &["viewUrl"]),
    ("sbom", &["sbom", "uri"]),
    ("ticket", &["ticketURI"]),
    ("approval", &["approvalDetailsUrl"]),
    ("resource", &["resourceTargetUrl"]),
    ("test", &["testSuite", "uri"]),
    ("test", &["testSuite", "url"]),
    ("test", &["testCase", "uri"]),
    ("trigger", &["trigger", "uri"]),
];

/// Translates an event that has no other effect.
pub(super) fn reported(message: &Message, settings: &Settings) -> Native {
    let text = |path: &[&str]| if message.is_standard { message.text(path) } else { None };
    let first = |names: &[&str]| names.iter().find_map(|name| text(&[*name]));
    let custom = |key: &str| message.custom.text(key).ok().flatten();
    let outcome = first(&["outcome", "status", "decision", "resolution"]);
    let reason = custom("reason");
    let described = first(&["reason", "errors", "description", "summary"]);
    let addresses: Vec<_> = ADDRESSES.iter().map(|(rel, path)| (*rel, text(path))).collect();
    let data = place(message, settings)
        .put("activity", message.name.as_str())
        .optional("subject", line(&message.subject_id))
        .optional("artifact", artifact(message))
        .optional("commit", custom("commit").as_deref().and_then(line))
        .optional("outcome", outcome.and_then(line))
        .actor(message.custom.actor().or_else(|| user(message)))
        .reason(reason.as_deref().or(described))
        .links(&addresses, message);
    Native { kind: "activity.reported", subject: Some(message.subject_id.clone()), data }
}

/// Returns the environment, the service and the target that the event concerns, as far as they have names of the
/// ledger. A default never applies.
fn place(message: &Message, settings: &Settings) -> Data {
    if !message.is_standard {
        return Data::default();
    }
    let names = &settings.names;
    let custom = |key: &str| message.custom.text(key).ok().flatten();
    let subject = |family: &str| message.name.starts_with(family).then(|| message.subject_id.clone());
    let of = |name: &str| message.text(&[name, "id"]).map(str::to_owned);
    let is_stated = |id: &String| !id.trim().is_empty();
    let environment = subject("environment.").or_else(|| of("environment")).or_else(|| custom("environment"));
    let environment = environment.filter(is_stated).and_then(|id| names.environment(Some(&id)).ok());
    let Some(environment) = environment else { return Data::default() };
    let data = Data::default().put("environment", environment.as_str());
    let service = custom("service").or_else(|| subject("service.")).or_else(|| of("service"));
    let service = service.filter(is_stated).and_then(|id| names.service(Some(&id)).ok());
    let Some(service) = service else { return data };
    let target = custom("target").and_then(|id| names.target(Some(&id)).ok().flatten());
    data.put("service", service.as_str()).optional("target", target.as_ref().map(TargetName::as_str))
}

/// Returns the artifact that the event names, if the ledger accepts it as one.
fn artifact(message: &Message) -> Option<String> {
    let id = match message.name.split_once('.')?.0 {
        "artifact" => Some(message.subject_id.as_str()),
        _ if message.is_standard => message.text(&["artifactId"]),
        _ => None,
    };
    Artifact::parse(id?).ok().map(|artifact| artifact.as_str().to_owned())
}

/// Returns the user that the content names.
fn user(message: &Message) -> Option<NamedActor> {
    if !message.is_standard {
        return None;
    }
    let names = ["user", "updatedBy", "creator", "responder", "requestor"];
    let name = names.iter().find_map(|name| message.text(&[*name]))?;
    Some(NamedActor { kind: "user".to_owned(), name: line(name)? })
}
