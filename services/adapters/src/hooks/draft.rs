//! Native events under construction.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::{Envelope, TIME_OF_ARRIVAL};
use serde_json::{Map, Value, json};

use super::time;
use crate::text;
use crate::translation::{NativeEvent, NotUnderstood};

/// A native event under construction. Members without a value are left out.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    attributes: Map<String, Value>,
    data: Map<String, Value>,
    links: Vec<Value>,
}

impl Draft {
    /// Starts an event of a kind, such as `deploy.succeeded`.
    pub(super) fn new(kind: &str, source: &str, id: &str, at: DateTime<Utc>) -> Self {
        let mut attributes = Map::new();
        attributes.insert("specversion".to_owned(), json!("1.0"));
        attributes.insert("id".to_owned(), json!(text::id(id)));
        attributes.insert("source".to_owned(), json!(text::source(source)));
        attributes.insert("type".to_owned(), json!(format!("io.releaseledger.{kind}.v1")));
        attributes.insert("time".to_owned(), json!(time::format(at)));
        Self { attributes, data: Map::new(), links: Vec::new() }
    }

    /// Starts an event whose message states no time: the time is that of its arrival, in which redeliveries may differ.
    pub(super) fn arrived(kind: &str, source: &str, id: &str, at: DateTime<Utc>) -> Self {
        let mut draft = Self::new(kind, source, id, at);
        draft.attributes.insert(TIME_OF_ARRIVAL.to_owned(), Value::Bool(true));
        draft
    }

    /// Sets a member of the data.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a member of the data if there is a value.
    pub(super) fn with_optional(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sets a line that decorates the event, cleaned and shortened.
    pub(super) fn with_line(self, name: &str, value: Option<&str>) -> Self {
        self.with_optional(name, value.and_then(text::line))
    }

    /// Sets the reason, cleaned and shortened.
    pub(super) fn with_reason(self, value: Option<&str>) -> Self {
        self.with_optional("reason", value.and_then(text::prose))
    }

    /// Sets the actor if there is a name.
    pub(super) fn with_actor(self, actor: Option<(&str, &str)>) -> Self {
        let actor = actor.and_then(|(kind, name)| Some(json!({"type": kind, "name": text::line(name)?})));
        self.with_optional("actor", actor)
    }

    /// Adds a link if its address is a clean URL.
    pub(super) fn with_link(mut self, rel: &str, href: Option<&str>) -> Self {
        if let Some(href) = href.and_then(text::href) {
            self.links.push(json!({"rel": rel, "href": href}));
        }
        self
    }

    /// Sets the id by which events with a common cause are found.
    pub(super) fn with_correlation(mut self, id: Option<&str>) -> Self {
        if let Some(id) = id.and_then(text::line) {
            self.attributes.insert("correlationid".to_owned(), Value::String(id));
        }
        self
    }

    /// Returns the event.
    pub(super) fn build(mut self) -> NativeEvent {
        if !self.links.is_empty() {
            self.data.insert("links".to_owned(), Value::Array(self.links));
        }
        self.attributes.insert("data".to_owned(), Value::Object(self.data));
        NativeEvent(self.attributes)
    }
}

/// Checks that the ledger accepts an event: a message can state a value that it does not.
pub(super) fn check_event(event: &NativeEvent) -> Result<(), NotUnderstood> {
    let bytes = Value::Object(event.0.clone()).to_string();
    match Envelope::translated(bytes.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => Err(NotUnderstood::new("", format!("the event that it means is invalid: {error}"))),
    }
}
