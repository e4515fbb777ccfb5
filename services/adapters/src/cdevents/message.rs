//! A CDEvent, checked against the specification that it names.

use chrono::{DateTime, Utc};
use ledger_domain::{EventId, ShortText, Source, parse_time};
use serde_json::{Map, Value};

use super::catalog::{self, EventType};
use super::custom_data::CustomData;
use super::json::member;
use super::links::{self, Link};
use super::schema::{self, Member, Rule, Spec, optional, required};
use crate::translation::NotUnderstood;
use crate::uri;

/// The prefix of the types that a tool defines for itself.
const CUSTOM_PREFIX: &str = "dev.cdeventsx.";

/// A CDEvent that follows its specification.
#[derive(Debug)]
pub(super) struct Message {
    /// The specification.
    pub(super) spec: Spec,
    /// The whole type, as sent.
    pub(super) full_type: String,
    /// The type without prefix and version: `service.deployed`, `mytool-resource.created` if it is custom.
    pub(super) name: String,
    /// True for a type of the specification, false for a custom one.
    pub(super) is_standard: bool,
    /// The identity, as sent.
    pub(super) source: String,
    /// The id, unique within the source.
    pub(super) id: String,
    /// The time at which the event occurred, as sent.
    pub(super) timestamp: String,
    /// The same time, in whole microseconds.
    pub(super) occurred_at: DateTime<Utc>,
    /// The chain that the event belongs to.
    pub(super) chain_id: Option<String>,
    /// The links to other events.
    pub(super) links: Vec<Link>,
    /// The id of the subject.
    pub(super) subject_id: String,
    /// The whole subject.
    pub(super) subject: Value,
    /// The content of the subject.
    pub(super) content: Map<String, Value>,
    /// The data beside the specification.
    pub(super) custom: CustomData,
}

const TOP: &[Member] = &[
    required("context", Rule::OpenObject(&[])),
    required("subject", Rule::OpenObject(&[])),
    optional("customDataContentType", Rule::AnyText),
];
const VERSION: Member = required("version", Rule::Text).until(Spec::V0_4);
const SPEC_VERSION: Member = required("specversion", Rule::Text).since(Spec::V0_5);
const ID: Member = required("id", Rule::Text);
const TYPE: Member = required("type", Rule::Text);
const TIMESTAMP: Member = required("timestamp", Rule::Text);
const SCHEMA_URI: Member = optional("schemaUri", Rule::Uri).since(Spec::V0_4);
const CHAIN_ID: Member = optional("chainId", Rule::Text).since(Spec::V0_4);
const LINKS: Member = optional("links", Rule::Anything).since(Spec::V0_4);

impl Message {
    /// Checks an object as a CDEvent.
    pub(super) fn parse(root: &Map<String, Value>) -> Result<Self, NotUnderstood> {
        let found = |name: &str| root.get(name).unwrap_or(&Value::Null);
        if let Some(unknown) = root.keys().find(|name| !is_top_level(name)) {
            return Err(NotUnderstood::new(member("", unknown), "is not a member of a CDEvent"));
        }
        schema::check_open(root, TOP, Spec::V0_3, "")?;
        let context = schema::object(found("context"), "/context")?;
        let spec = spec(context)?;
        let full_type = required_text(context, "type")?;
        let standard = match full_type.strip_prefix(CUSTOM_PREFIX) {
            Some(_) => None,
            None => Some(catalog::find(full_type, spec, "/context/type")?),
        };
        let name = match standard {
            Some(standard) => standard.name(),
            None => custom_name(full_type, spec)?.to_owned(),
        };
        let links = read_context(context, spec, standard)?;
        let subject = schema::object(found("subject"), "/subject")?;
        check_subject(subject, spec, standard, &name)?;
        let occurred_at = timestamp(required_text(context, "timestamp")?)?;
        let chain_id = context.get("chainId").and_then(Value::as_str);
        if let Some(Err(error)) = chain_id.map(ShortText::parse) {
            return Err(NotUnderstood::new("/context/chainId", error.to_string()));
        }
        Ok(Self {
            spec,
            full_type: full_type.to_owned(),
            name,
            is_standard: standard.is_some(),
            source: source(required_text(context, "source")?)?,
            id: id(required_text(context, "id")?)?,
            timestamp: required_text(context, "timestamp")?.to_owned(),
            occurred_at,
            chain_id: chain_id.map(str::to_owned),
            links,
            subject_id: subject.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            subject: found("subject").clone(),
            content: subject.get("content").and_then(Value::as_object).cloned().unwrap_or_default(),
            custom: CustomData::new(root.get("customData"))?,
        })
    }

    /// Returns a string of the content by its path; `None` if it is absent or empty.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        let (last, parents) = path.split_last()?;
        let mut object = &self.content;
        for name in parents {
            object = object.get(*name)?.as_object()?;
        }
        object.get(*last)?.as_str().filter(|text| !text.is_empty())
    }
}

fn is_top_level(name: &str) -> bool {
    matches!(name, "context" | "subject" | "customData" | "customDataContentType")
}

fn required_text<'c>(context: &'c Map<String, Value>, name: &str) -> Result<&'c str, NotUnderstood> {
    let at = member("/context", name);
    match context.get(name) {
        Some(value) => schema::text(value, &at),
        None => Err(NotUnderstood::new(at, "is required")),
    }
}

/// Returns the specification that a context names. Specification 0.5 renamed `version` to `specversion`.
fn spec(context: &Map<String, Value>) -> Result<Spec, NotUnderstood> {
    let name = if context.contains_key("specversion") { "specversion" } else { "version" };
    if name == "version" && !context.contains_key(name) {
        let detail = "is required: the version of the CDEvents specification (version up to 0.4)";
        return Err(NotUnderstood::new("/context/specversion", detail));
    }
    let at = member("/context", name);
    let version = required_text(context, name)?;
    // Drafts of 0.5 use the form of 0.4: the rename came later.
    let minor = version.strip_prefix("0.").and_then(|rest| rest.split('.').next()).unwrap_or_default();
    match (name, minor) {
        ("version", "3") => Ok(Spec::V0_3),
        ("version", "4") => Ok(Spec::V0_4),
        ("version", "5") if version == "0.5.0-draft" => Ok(Spec::V0_4),
        ("specversion", "5") => Ok(Spec::V0_5),
        ("specversion", "6") => Ok(Spec::V0_6),
        _ => Err(NotUnderstood::new(
            at,
            "is not a supported version of CDEvents: version 0.3 or 0.4, specversion 0.5 or 0.6",
        )),
    }
}

/// Checks the context and returns its links.
fn read_context(
    context: &Map<String, Value>,
    spec: Spec,
    standard: Option<&EventType>,
) -> Result<Vec<Link>, NotUnderstood> {
    let has_free_sources = standard.is_some_and(EventType::has_free_sources);
    let source_rule = if has_free_sources { Rule::Text } else { Rule::Reference };
    let source = required("source", source_rule);
    let members = [VERSION, SPEC_VERSION, ID, source, TYPE, TIMESTAMP, SCHEMA_URI, CHAIN_ID, LINKS];
    schema::check_closed(context, &members, spec, "/context")?;
    context.get("links").map_or(Ok(Vec::new()), |links| links::read(links, spec, "/context/links"))
}

/// Checks the subject: its type up to specification 0.4, and the members of its content.
fn check_subject(
    subject: &Map<String, Value>,
    spec: Spec,
    standard: Option<&EventType>,
    name: &str,
) -> Result<(), NotUnderstood> {
    let has_free_sources = standard.is_some_and(EventType::has_free_sources);
    let source_rule = if has_free_sources { Rule::AnyText } else { Rule::Reference };
    // A slip of 0.5.1: this type still allows it.
    let may_have_type = spec >= Spec::V0_5 && name == "ticket.closed";
    let kind = if may_have_type {
        optional("type", Rule::Text)
    } else {
        required("type", Rule::Text).until(Spec::V0_4)
    };
    let content = match standard {
        Some(standard) => Rule::Object(standard.content),
        None => Rule::OpenObject(&[]),
    };
    let members =
        [required("id", Rule::Text), optional("source", source_rule), kind, required("content", content)];
    schema::check_closed(subject, &members, spec, "/subject")?;
    let wanted = standard.map_or_else(|| name.split('.').next().unwrap_or_default(), |it| it.subject);
    match subject.get("type").and_then(Value::as_str) {
        Some(found) if found != wanted => Err(NotUnderstood::new(
            "/subject/type",
            format!("must be {wanted}, the subject of this event type"),
        )),
        _ => Ok(()),
    }
}

/// Returns the name in a custom type: `dev.cdeventsx.TOOL-SUBJECT.PREDICATE.VERSION` with one digit for each part of
/// the version.
fn custom_name(full_type: &str, spec: Spec) -> Result<&str, NotUnderstood> {
    let invalid = || {
        let form = format!("{CUSTOM_PREFIX}TOOL-SUBJECT.PREDICATE.0.1.0");
        NotUnderstood::new("/context/type", format!("is not a custom event type of the form {form}"))
    };
    if spec < Spec::V0_4 {
        let detail = format!("specification {spec} has no custom event types");
        return Err(NotUnderstood::new("/context/type", detail));
    }
    let rest = full_type.strip_prefix(CUSTOM_PREFIX).unwrap_or_default();
    let parts: Vec<&str> = rest.split('.').collect();
    let [subject, predicate, version @ ..] = &parts[..] else { return Err(invalid()) };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_tool = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_digit = |text: &&str| text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_subject = subject.split_once('-').is_some_and(|(tool, noun)| is_tool(tool) && is_word(noun));
    if !is_subject || !is_word(predicate) || version.len() != 3 || !version.iter().all(is_digit) {
        return Err(invalid());
    }
    rest.get(..subject.len() + 1 + predicate.len()).ok_or_else(invalid)
}

fn timestamp(text: &str) -> Result<DateTime<Utc>, NotUnderstood> {
    let invalid = |detail: String| NotUnderstood::new("/context/timestamp", detail);
    match parse_time(text) {
        Ok(time) if time < DateTime::UNIX_EPOCH => Err(invalid("must not be before 1970".to_owned())),
        Ok(time) => Ok(time),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// Returns the source as a URI reference: the specification lets a test's source be any text.
fn source(text: &str) -> Result<String, NotUnderstood> {
    let source = uri::encode(text);
    let parsed = Source::parse(text).and_then(|_| Source::parse(&source));
    parsed.map(|_| source).map_err(|error| NotUnderstood::new("/context/source", error.to_string()))
}

fn id(text: &str) -> Result<String, NotUnderstood> {
    let parsed =
        EventId::parse(text).map_err(|error| NotUnderstood::new("/context/id", error.to_string()))?;
    Ok(parsed.as_str().to_owned())
}
