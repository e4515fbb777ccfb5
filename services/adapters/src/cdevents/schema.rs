//! Rules for the members of an object, and their check against a value.

use std::fmt;

use serde_json::{Map, Value};

use super::json::{member, type_phrase};
use crate::translation::NotUnderstood;
use crate::uri;

/// A version of the CDEvents specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spec {
    /// Specification 0.3.0.
    V0_3,
    /// Specification 0.4.1.
    V0_4,
    /// Specification 0.5.1.
    V0_5,
    /// The draft of specification 0.6.
    V0_6,
}

impl Spec {
    /// All supported versions, in their order.
    #[cfg(test)]
    pub(super) const ALL: [Self; 4] = [Self::V0_3, Self::V0_4, Self::V0_5, Self::V0_6];
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_3 => "0.3.0",
            Self::V0_4 => "0.4.1",
            Self::V0_5 => "0.5.1",
            Self::V0_6 => "0.6.0-draft",
        })
    }
}

/// The rule for a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// A string, which may be empty.
    AnyText,
    /// A string of at least one character.
    Text,
    /// A URI.
    Uri,
    /// A URI reference of at least one character.
    Reference,
    /// A URI reference, which may be empty.
    AnyReference,
    /// A domain id of specification 0.6.
    DomainId,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An array of strings.
    TextList,
    /// An object with these members and no other.
    Object(&'static [Member]),
    /// An object with these members and any other.
    OpenObject(&'static [Member]),
    /// Any value, which its own rules check.
    Anything,
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// The name.
    pub(super) name: &'static str,
    /// True if the object must have it.
    pub(super) is_required: bool,
    /// The rule for its value.
    pub(super) rule: Rule,
    /// The first specification with the member.
    since: Spec,
    /// The last specification with the member.
    until: Spec,
}

/// Creates a required member.
pub(super) const fn required(name: &'static str, rule: Rule) -> Member {
    Member { name, is_required: true, rule, since: Spec::V0_3, until: Spec::V0_6 }
}

/// Creates an optional member.
pub(super) const fn optional(name: &'static str, rule: Rule) -> Member {
    Member { name, is_required: false, rule, since: Spec::V0_3, until: Spec::V0_6 }
}

impl Member {
    /// Restricts the member to specifications from this one on.
    pub(super) const fn since(self, since: Spec) -> Self {
        Self { since, ..self }
    }

    /// Restricts the member to specifications up to this one.
    pub(super) const fn until(self, until: Spec) -> Self {
        Self { until, ..self }
    }

    /// Returns true if the member exists in this specification.
    pub(super) fn is_in(&self, spec: Spec) -> bool {
        self.since <= spec && spec <= self.until
    }
}

/// Checks an object that may have no other members than these.
pub(super) fn check_closed(
    object: &Map<String, Value>,
    members: &[Member],
    spec: Spec,
    at: &str,
) -> Result<(), NotUnderstood> {
    check_open(object, members, spec, at)?;
    let is_known = |name: &str| members.iter().any(|member| member.is_in(spec) && member.name == name);
    match object.keys().find(|name| !is_known(name)) {
        Some(name) => Err(NotUnderstood::new(
            member(at, name),
            format!("is not a member of specification {spec}; put data of your own into customData"),
        )),
        None => Ok(()),
    }
}

/// Checks the members that an object has of these.
pub(super) fn check_open(
    object: &Map<String, Value>,
    members: &[Member],
    spec: Spec,
    at: &str,
) -> Result<(), NotUnderstood> {
    members.iter().filter(|rule| rule.is_in(spec)).try_for_each(|rule| match object.get(rule.name) {
        Some(value) => check(value, rule.rule, spec, &member(at, rule.name)),
        None if rule.is_required => Err(NotUnderstood::new(member(at, rule.name), "is required")),
        None => Ok(()),
    })
}

/// Returns the object at a place.
pub(super) fn object<'v>(value: &'v Value, at: &str) -> Result<&'v Map<String, Value>, NotUnderstood> {
    value.as_object().ok_or_else(|| wrong_type(value, "an object", at))
}

/// Returns the string at a place.
pub(super) fn text<'v>(value: &'v Value, at: &str) -> Result<&'v str, NotUnderstood> {
    value.as_str().ok_or_else(|| wrong_type(value, "a string", at))
}

fn wrong_type(value: &Value, wanted: &str, at: &str) -> NotUnderstood {
    NotUnderstood::new(at, format!("must be {wanted}, not {}", type_phrase(value)))
}

fn check(value: &Value, rule: Rule, spec: Spec, at: &str) -> Result<(), NotUnderstood> {
    match rule {
        Rule::Anything => Ok(()),
        Rule::Object(members) => check_closed(object(value, at)?, members, spec, at),
        Rule::OpenObject(members) => check_open(object(value, at)?, members, spec, at),
        Rule::TextList => {
            let items = value.as_array().ok_or_else(|| wrong_type(value, "an array", at))?;
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| text(item, &format!("{at}/{index}")).map(drop))
        }
        _ => match fault(text(value, at)?, rule) {
            Some(detail) => Err(NotUnderstood::new(at, detail)),
            None => Ok(()),
        },
    }
}

fn fault(text: &str, rule: Rule) -> Option<String> {
    match rule {
        Rule::Text | Rule::Reference if text.is_empty() => Some("must not be empty".to_owned()),
        Rule::Reference | Rule::AnyReference if !uri::is_reference(text) => Some(
            "must be a URI reference; percent-encode other characters, such as a space as %20".to_owned(),
        ),
        Rule::Uri if !uri::is_uri(text) => Some("must be a URI, with its scheme".to_owned()),
        Rule::DomainId if !uri::is_domain_id(text) => {
            Some("must be a domain id: cdevents:v0:PROVIDER:PROVIDER-ID:NAMESPACE:GROUPS:TYPE:ID".to_owned())
        }
        Rule::OneOf(words) if !words.contains(&text) => Some(format!("must be one of {}", words.join(", "))),
        _ => None,
    }
}
