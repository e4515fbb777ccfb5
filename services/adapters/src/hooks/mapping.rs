//! The mapping of the kind `generic`: rules that make events of any JSON, without running any code.
//!
//! The rules are tried in order, and the first whose conditions all hold decides: it makes an event, or ignores the
//! delivery. A delivery that no rule matches is ignored.
//!
//! ```toml
//! source = "https://deployer.example"
//!
//! [[rules]]
//! when = [{ pointer = "/type", equals = "deploy" }, { pointer = "/state", in = ["ok", "done"] }]
//! [rules.event]
//! type = "deploy.succeeded"
//! id = { concat = [{ pointer = "/run" }, "/", { pointer = "/state" }] }
//! time = { pointer = "/finished", as = "unix" }
//! [rules.event.data]
//! environment = { pointer = "/stage", map = { live = "production" } }
//! service = { pointer = "/app" }
//! release = { version = { pointer = "/version" } }
//!
//! [[rules]]
//! when = [{ pointer = "/type", exists = true }]
//! ignore = "no deploy"
//! ```
//!
//! A value of an event is a constant, an array or a table of values, or one of
//!
//! - `{ pointer = "/a/b" }`: the value at that RFC 6901 pointer. If it is absent or null, the value is `default`, or
//!   left out. `map` replaces it by the entry with its text. `as` converts it: `text` for integers and booleans, `unix`
//!   and `unix_ms` for times in seconds or milliseconds since 1970.
//! - `{ concat = [ … ] }`: the texts of these values, one after the other; left out if one of them is.

mod template;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use self::template::{Conversion, Reference, Template};

/// Kinds of events that a mapping may make: reports of what happened, and no commands.
const KINDS: &[&str] = &[
    "activity.reported",
    "artifact.built",
    "deploy.failed",
    "deploy.removed",
    "deploy.started",
    "deploy.succeeded",
    "incident.opened",
    "incident.resolved",
    "traffic.switched",
    "validation.failed",
    "validation.passed",
    "validation.started",
];

/// Maximum number of rules.
const MAX_RULES: usize = 256;

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Source of the events, a URI reference.
    pub source: String,
    /// The rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The conditions, all of which must hold.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// The reason for which a delivery is ignored.
    pub ignore: Option<String>,
    /// The event of a delivery.
    pub event: Option<EventTemplate>,
}

/// A condition: exactly one of `equals`, `in` and `exists`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Place of the value, an RFC 6901 pointer.
    pub pointer: String,
    /// The value that it must have.
    pub equals: Option<Value>,
    /// The values of which it must have one.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<Value>>,
    /// True if it must be present and not null; false if it must not.
    pub exists: Option<bool>,
}

/// The event of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTemplate {
    /// The kind: `deploy.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id: the same for a redelivery, and different for every other event of the source.
    pub id: Template,
    /// The time.
    pub time: Template,
    /// Id that events with a common cause share.
    pub correlation: Option<Template>,
    /// The data by the schema of the kind. Environment, service and target are replaced by the maps of the settings.
    pub data: BTreeMap<String, Template>,
}

impl Mapping {
    /// Checks what the types do not express. Returns the first fault.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.source.trim().is_empty() {
            return Err("source must not be empty".to_owned());
        }
        if self.rules.is_empty() || self.rules.len() > MAX_RULES {
            return Err(format!("there must be 1 to {MAX_RULES} rules, not {}", self.rules.len()));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|fault| format!("rules[{index}]: {fault}"))?;
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        for condition in &self.when {
            template::check_pointer(&condition.pointer)?;
            let parts = [condition.equals.is_some(), condition.one_of.is_some(), condition.exists.is_some()];
            if parts.iter().filter(|part| **part).count() != 1 {
                return Err("a condition has exactly one of equals, in and exists".to_owned());
            }
        }
        match (&self.ignore, &self.event) {
            (Some(_), None) => Ok(()),
            (None, Some(event)) if KINDS.contains(&event.kind.as_str()) => Ok(()),
            (None, Some(event)) => Err(format!("type {:?} is none of {}", event.kind, KINDS.join(", "))),
            _ => Err("a rule has either ignore or event".to_owned()),
        }
    }

    /// Returns true if all conditions hold for a delivery.
    pub(super) fn holds(&self, body: &Value) -> bool {
        self.when.iter().all(|condition| condition.holds(body))
    }
}

impl Condition {
    fn holds(&self, body: &Value) -> bool {
        let value = body.pointer(&self.pointer).filter(|value| !value.is_null());
        match (&self.equals, &self.one_of, self.exists) {
            (Some(expected), _, _) => value == Some(expected),
            (_, Some(values), _) => value.is_some_and(|value| values.contains(value)),
            (_, _, Some(exists)) => value.is_some() == exists,
            _ => false,
        }
    }
}
