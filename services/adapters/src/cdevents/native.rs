//! The native event that a message is translated to.

use ledger_codec::cloudevents::Envelope;
use ledger_domain::ShortText;
use serde_json::{Map, Value, json};

use super::custom_data::NamedActor;
use super::json::rejected;
use super::links::{self, LinkKind};
use super::message::Message;
use super::write::{ATTRIBUTES, LEDGER_KEY};
use crate::text::{line, prose};
use crate::translation::{NativeEvent, NotUnderstood};
use crate::uri;

/// The kind, the subject and the data of a native event.
#[derive(Debug, Clone)]
pub(super) struct Native {
    /// The short name of the kind: `deploy.succeeded`.
    pub(super) kind: &'static str,
    /// The attribute `subject`.
    pub(super) subject: Option<String>,
    /// The data.
    pub(super) data: Data,
}

/// The data of a native event. What is absent is left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Data(pub(super) Map<String, Value>);

impl Data {
    /// Adds a member.
    pub(super) fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a member if there is a value.
    pub(super) fn optional(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    /// Adds the actor, if there is one.
    pub(super) fn actor(self, actor: Option<NamedActor>) -> Self {
        self.optional("actor", actor.map(|actor| json!({ "type": actor.kind, "name": actor.name })))
    }

    /// Adds free text as the reason, if there is any.
    pub(super) fn reason(self, text: Option<&str>) -> Self {
        self.optional("reason", text.and_then(prose))
    }

    /// Adds links: the given ones, and the resources of other systems that the message links to.
    pub(super) fn links(self, own: &[(&str, Option<&str>)], message: &Message) -> Self {
        let named = own.iter().filter_map(|(rel, href)| link(rel, (*href)?));
        let resources = message.links.iter().filter_map(|other| {
            let rel = match &other.kind {
                LinkKind::Path => "from",
                LinkKind::Relation(kind) => kind,
            };
            link(rel, other.resource.as_deref()?)
        });
        let links: Vec<Value> = named.chain(resources).collect();
        if links.is_empty() { self } else { self.put("links", links) }
    }
}

/// Returns a link, if its target is a URI.
fn link(rel: &str, href: &str) -> Option<Value> {
    let is_usable = uri::is_uri(href) && ShortText::parse(href).is_ok();
    let rel = line(rel)?;
    is_usable.then(|| json!({ "rel": rel, "href": href }))
}

impl Native {
    /// Returns the native event of a message, with the identity and the time of the message.
    pub(super) fn event(self, message: &Message) -> NativeEvent {
        let mut event = Map::new();
        let mut put = |name: &str, value: Value| event.insert(name.to_owned(), value);
        put("specversion", json!("1.0"));
        put("id", json!(message.id));
        put("source", json!(message.source));
        put("type", json!(format!("io.releaseledger.{}.v1", self.kind)));
        put("time", json!(message.timestamp));
        put("datacontenttype", json!("application/json"));
        if let Some(subject) = self.subject.as_deref().and_then(line) {
            put("subject", json!(subject));
        }
        let chain = message.chain_id.clone().or_else(|| own_attribute(message, "correlationid"));
        if let Some(chain) = chain {
            put("correlationid", json!(chain));
        }
        let cause = links::cause(&message.links).and_then(line);
        if let Some(cause) = cause.or_else(|| own_attribute(message, "causationid")) {
            put("causationid", json!(cause));
        }
        put("data", Value::Object(self.data.0));
        NativeEvent(event)
    }
}

/// Returns an attribute that the ledger wrote into a message. A correlation that is no UUID has no place in the context.
fn own_attribute(message: &Message, name: &str) -> Option<String> {
    let own = message.custom.members().get(LEDGER_KEY)?;
    line(own.get(ATTRIBUTES)?.get(name)?.as_str()?)
}

/// Checks that the ledger accepts an event. A safeguard: the translation checks what it reads, and names the place in
/// the message.
pub(super) fn check(event: NativeEvent) -> Result<NativeEvent, NotUnderstood> {
    parse(&event)?;
    Ok(event)
}

/// Parses an event as the ledger does.
pub(super) fn parse(event: &NativeEvent) -> Result<Envelope, NotUnderstood> {
    let bytes = Value::Object(event.0.clone()).to_string();
    Envelope::translated(bytes.as_bytes()).map_err(|error| {
        let NotUnderstood { pointer, detail } = rejected("", error.reason);
        let place = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
        NotUnderstood::new("", format!("means an event that the ledger rejects{place}: {detail}"))
    })
}
