//! The links of an event to others: `context.links`.

use serde_json::{Map, Value};

use super::json::{member, type_phrase};
use super::schema::{self, Member, Rule, Spec, optional, required};
use crate::translation::NotUnderstood;

/// A link to another event, or to a resource of a system that does not emit CDEvents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The type of the link.
    pub(super) kind: LinkKind,
    /// The id of the other event.
    pub(super) event: Option<String>,
    /// The domain id of the other resource.
    pub(super) resource: Option<String>,
}

/// The type of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkKind {
    /// The other event precedes this one in its chain: `PATH` or `END`.
    Path,
    /// The other event, or the resource, is related in this way: `RELATION`.
    Relation(String),
}

const TYPE: Member = required("linkType", Rule::OneOf(&["END", "PATH", "RELATION"]));
const TAGS: Member = optional("tags", Rule::OpenObject(&[]));
const END: &[Member] = &[TYPE, optional("from", FROM), TAGS];
const PATH: &[Member] = &[TYPE, required("from", FROM), TAGS];
const RELATION: &[Member] =
    &[TYPE, required("linkKind", Rule::Text), required("target", Rule::OpenObject(TARGET)), TAGS];
const FROM: Rule = Rule::OpenObject(&[
    required("contextId", Rule::Text).until(Spec::V0_5),
    optional("contextId", Rule::Text).since(Spec::V0_6),
    optional("domainId", Rule::AnyReference).since(Spec::V0_6),
]);
const TARGET: &[Member] =
    &[optional("contextId", Rule::Text), optional("domainId", Rule::DomainId).since(Spec::V0_6)];

/// Checks and reads the links of an event.
pub(super) fn read(value: &Value, spec: Spec, at: &str) -> Result<Vec<Link>, NotUnderstood> {
    let Value::Array(items) = value else {
        return Err(NotUnderstood::new(at, format!("must be an array, not {}", type_phrase(value))));
    };
    let items = items.iter().enumerate();
    items.map(|(index, item)| link(item, spec, &format!("{at}/{index}"))).collect()
}

fn link(value: &Value, spec: Spec, at: &str) -> Result<Link, NotUnderstood> {
    let object = schema::object(value, at)?;
    schema::check_open(object, &[TYPE], spec, at)?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let (members, end, kind) = match text("linkType") {
        Some("END") => (END, "from", LinkKind::Path),
        Some("PATH") => (PATH, "from", LinkKind::Path),
        _ => (RELATION, "target", LinkKind::Relation(text("linkKind").unwrap_or_default().to_owned())),
    };
    schema::check_closed(object, members, spec, at)?;
    let other = object.get(end).and_then(Value::as_object);
    if let Some(other) = other {
        check_end(other, spec, &member(at, end))?;
    }
    let of = |name: &str| other.and_then(|other| other.get(name)).and_then(Value::as_str).map(str::to_owned);
    Ok(Link { kind, event: of("contextId"), resource: of("domainId").filter(|_| spec >= Spec::V0_6) })
}

/// Checks that an end of a link of specification 0.6 names something.
fn check_end(end: &Map<String, Value>, spec: Spec, at: &str) -> Result<(), NotUnderstood> {
    if spec >= Spec::V0_6 && !end.contains_key("contextId") && !end.contains_key("domainId") {
        return Err(NotUnderstood::new(at, "requires contextId or domainId"));
    }
    Ok(())
}

/// Returns the event that led to this one, if the links name exactly one: the one before it in its chain, else its only
/// related event.
pub(super) fn cause(links: &[Link]) -> Option<&str> {
    let events = |is_path: bool| {
        let links = links.iter().filter(move |link| (link.kind == LinkKind::Path) == is_path);
        let mut events: Vec<&str> = links.filter_map(|link| link.event.as_deref()).collect();
        events.sort_unstable();
        events.dedup();
        events
    };
    let before = events(true);
    let candidates = if before.is_empty() { events(false) } else { before };
    match candidates[..] {
        [event] => Some(event),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: &Value, spec: Spec) -> Result<Vec<Link>, NotUnderstood> {
        read(value, spec, "/context/links")
    }

    #[test]
    fn the_cause_is_the_only_event_of_the_path_or_else_of_the_relations() {
        let path = |id: &str| json!({"linkType": "PATH", "from": {"contextId": id}});
        let relation =
            |id: &str| json!({"linkType": "RELATION", "linkKind": "trigger", "target": {"contextId": id}});
        for (links, expected) in [
            (json!([]), None),
            (json!([path("a")]), Some("a")),
            (json!([path("a"), relation("b")]), Some("a")),
            (json!([path("a"), path("a")]), Some("a")),
            (json!([path("a"), path("b")]), None),
            (json!([relation("b")]), Some("b")),
            (json!([relation("b"), relation("c")]), None),
            (json!([{"linkType": "END"}]), None),
            (json!([{"linkType": "END", "from": {"contextId": "e"}}]), Some("e")),
        ] {
            assert_eq!(cause(&of(&links, Spec::V0_5).expect("valid links")), expected, "{links}");
        }
    }

    #[test]
    fn a_link_that_the_specification_does_not_allow_is_rejected_with_its_place() {
        for (link, pointer) in [
            (json!(1), "/context/links/0"),
            (json!({}), "/context/links/0/linkType"),
            (json!({"linkType": "START"}), "/context/links/0/linkType"),
            (json!({"linkType": "PATH"}), "/context/links/0/from"),
            (json!({"linkType": "PATH", "from": {}}), "/context/links/0/from/contextId"),
            (json!({"linkType": "PATH", "from": {"contextId": ""}}), "/context/links/0/from/contextId"),
            (json!({"linkType": "END", "to": {}}), "/context/links/0/to"),
            (json!({"linkType": "RELATION", "target": {}}), "/context/links/0/linkKind"),
        ] {
            assert_eq!(of(&json!([link]), Spec::V0_5).expect_err("invalid").pointer, pointer, "{link}");
        }
        assert_eq!(of(&json!({}), Spec::V0_5).expect_err("no array").pointer, "/context/links");
    }

    #[test]
    fn only_specification_0_6_knows_resources_of_other_systems() {
        let id = "cdevents:v0:github::shop:search-api:pr:42";
        let link = json!([{"linkType": "RELATION", "linkKind": "trigger", "target": {"domainId": id}}]);
        let links = of(&link, Spec::V0_6).expect("valid");
        assert_eq!(links[0].resource.as_deref(), Some(id));
        assert_eq!(of(&link, Spec::V0_5).expect("an open object")[0].resource, None);
        let empty = json!([{"linkType": "RELATION", "linkKind": "trigger", "target": {}}]);
        assert!(of(&empty, Spec::V0_5).is_ok());
        assert_eq!(of(&empty, Spec::V0_6).expect_err("empty").pointer, "/context/links/0/target");
        let other = json!([{"linkType": "RELATION", "linkKind": "t", "target": {"domainId": "github:42"}}]);
        assert!(of(&other, Spec::V0_6).is_err());
    }
}
