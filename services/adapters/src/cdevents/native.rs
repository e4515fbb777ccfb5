//! The native event that a message is translated to.

use ledger_codec::cloudevents::Envelope;
use ledger_domain::{LongText, ShortText, is_format};
use serde_json::{Map, Value, json};

use super::custom_data::NamedActor;
use super::json::rejected;
use super::links::{self, LinkKind};
use super::message::Message;
use super::uri;
use crate::translation::{NativeEvent, NotUnderstood};

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

/// Returns informative text as one line: control and format characters become spaces, and what is too long is cut.
/// Returns `None` if nothing is left.
pub(super) fn line(text: &str) -> Option<String> {
    let spaced: String = text.chars().map(|c| if c.is_control() || is_format(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    Some(cut(&words.join(" "), ShortText::LIMIT).to_owned()).filter(|line| !line.is_empty())
}

/// Returns free text as a reason: other control characters than line breaks and tabs become spaces, and what is too
/// long is cut. Returns `None` if nothing is left.
pub(super) fn prose(text: &str) -> Option<String> {
    let is_kept = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    let text: String = text.replace("\r\n", "\n").chars().map(|c| if is_kept(c) { c } else { ' ' }).collect();
    Some(cut(text.trim(), LongText::LIMIT).to_owned()).filter(|text| !text.is_empty())
}

/// Returns the start of a text with at most `limit` bytes, without white space at its end.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().trim_end()
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
        if let Some(chain) = &message.chain_id {
            put("correlationid", json!(chain));
        }
        if let Some(cause) = links::cause(&message.links).and_then(line) {
            put("causationid", json!(cause));
        }
        put("data", Value::Object(self.data.0));
        NativeEvent(event)
    }
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
    Envelope::parse(bytes.as_bytes()).map_err(|error| {
        let NotUnderstood { pointer, detail } = rejected("", error.reason);
        let place = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
        NotUnderstood::new("", format!("means an event that the ledger rejects{place}: {detail}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn informative_text_becomes_one_line_of_bounded_length() {
        assert_eq!(line(" a\nb\u{200b}c\u{7} ").as_deref(), Some("a b c"));
        assert_eq!(line("\u{200b}\n"), None);
        let long = line(&"é ".repeat(600)).expect("text");
        assert!(ShortText::parse(&long).is_ok(), "{} bytes", long.len());
    }

    #[test]
    fn free_text_keeps_its_lines_and_is_cut_to_the_limit() {
        assert_eq!(prose("a\r\n\tb\u{7}\n").as_deref(), Some("a\n\tb"));
        assert_eq!(prose(" \n"), None);
        let long = prose(&"ä".repeat(5000)).expect("text");
        assert!(LongText::parse(&long).is_ok(), "{} bytes", long.len());
    }
}
